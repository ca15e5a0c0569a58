package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// goldenFrom makes a case of a database that another program wrote, which is copied first. The program's own paper, an object, is
// kept under "written_by".
func goldenFrom(out, work, name, shows, database, written string) error {
	g := &golden{dir: filepath.Join(out, name), work: filepath.Join(work, name)}
	raw, err := os.ReadFile(written)
	if err != nil {
		return err
	}
	if !json.Valid(raw) {
		return fmt.Errorf("%s: this is not JSON", written)
	}
	g.paper = paper{
		Case: name, Shows: shows, Program: "tests/interop golden", Modules: modules(), Options: "ev-node's, all versions kept",
		Segments: []segmentPaper{}, Chains: []chainPaper{}, WrittenBy: raw,
	}
	return g.make(func(g *golden) error {
		if err := g.close(); err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(g.store.dir), os.CopyFS(g.store.dir, os.DirFS(database))); err != nil {
			return err
		}
		if err := g.open(); err != nil {
			return err
		}
		return g.single()
	})
}
