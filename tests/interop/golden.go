package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"

	"github.com/dgraph-io/badger/v4"
	badger4 "github.com/ipfs/go-ds-badger4"
)

// goldenNow judges expiry in the papers, so that they stay true.
const goldenNow = 1_700_000_000

// golden writes one case: a folder with segments, their entries, and a paper.
type golden struct {
	dir   string // where the case goes
	work  string // the database and what else is thrown away
	store storeFlags
	ds    *badger4.Datastore
	tune  func(badger.Options) badger.Options
	loads int
	paper paper
}

// paper says what the files of a case are.
type paper struct {
	Case     string            `json:"case"`
	Shows    string            `json:"shows"`
	Program  string            `json:"program"`
	Modules  map[string]string `json:"modules"`
	Options  string            `json:"options"`
	Segments []segmentPaper    `json:"segments"`
	Chains   []chainPaper      `json:"chains"`
	// What the program says that wrote the database, if it was not this one.
	WrittenBy json.RawMessage `json:"written_by,omitempty"`
}

type segmentPaper struct {
	File      string         `json:"file"`
	Entries   string         `json:"entries_file"`
	Since     uint64         `json:"since"`
	Returned  uint64         `json:"returned"`         // what DB.Backup returned
	Announced uint64         `json:"announced_height"` // /0/t before the backup
	NextSince uint64         `json:"next_since"`       // version of /0/h/<announced>, or 0
	Source    digestPaper    `json:"source"`           // the database after the backup
	Stream    *streamSummary `json:"stream"`
}

type digestPaper struct {
	Digest     string `json:"digest"`
	History    string `json:"history_digest"`
	Entries    uint64 `json:"entries"`
	Versions   uint64 `json:"versions"`
	MaxVersion uint64 `json:"max_version"`
	Now        uint64 `json:"now"`
}

// chainPaper is what Badger's Load makes of segments, oldest first.
type chainPaper struct {
	Files        []string    `json:"files"`
	Loaded       digestPaper `json:"loaded"`
	EqualsSource bool        `json:"equals_source"` // the source after the last of them
	Note         string      `json:"note,omitempty"`
}

func runGolden(fs *flag.FlagSet, args []string) error {
	out := fs.String("out", "", "the folder for the cases (required)")
	only := fs.String("case", "", "make this case only")
	dirs := fs.Bool("dirs", false, "make the directories only")
	from := fs.String("from", "", "make --case of this database, which another program wrote")
	written := fs.String("written-by", "", "that program's paper")
	shows := fs.String("shows", "", "what that case shows")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *out == "" {
		return errors.New("--out is required")
	}
	work, err := os.MkdirTemp("", "golden")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if *from != "" {
		return errors.Join(goldenFrom(*out, work, *only, *shows, *from, *written), sums(*out))
	}
	for _, c := range goldenCases {
		if *dirs || *only != "" && *only != c.name {
			continue
		}
		g := &golden{dir: filepath.Join(*out, c.name), work: filepath.Join(work, c.name)}
		g.paper = paper{
			Case: c.name, Shows: c.shows, Program: "tests/interop golden", Modules: modules(),
			Options: "ev-node's, " + c.options, Segments: []segmentPaper{}, Chains: []chainPaper{},
		}
		g.tune = c.tune
		if err := g.make(c.run); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if err := makeDirs(*out, *only); err != nil {
		return err
	}
	return sums(*out)
}

func modules() map[string]string {
	found := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		found["go"] = info.GoVersion
		for _, m := range info.Deps {
			switch m.Path {
			case "github.com/dgraph-io/badger/v4", "github.com/ipfs/go-ds-badger4":
				found[m.Path] = m.Version
			}
		}
	}
	return found
}

func (g *golden) make(run func(g *golden) error) error {
	if err := os.RemoveAll(g.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return err
	}
	if err := g.fresh(); err != nil {
		return err
	}
	if err := errors.Join(run(g), g.close()); err != nil {
		return err
	}
	body, err := json.MarshalIndent(g.paper, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(g.dir, "paper.json"), append(body, '\n'), 0o644); err != nil {
		return err
	}
	return printJSON(map[string]any{"case": g.paper.Case, "segments": len(g.paper.Segments), "chains": len(g.paper.Chains)})
}

// fresh begins with an empty database, also in the middle of a case.
func (g *golden) fresh() error {
	if err := g.close(); err != nil {
		return err
	}
	g.store = storeFlags{dir: filepath.Join(g.work, "source")}
	g.paper.Segments, g.paper.Chains = g.paper.Segments[:0], g.paper.Chains[:0]
	if err := os.RemoveAll(g.work); err != nil {
		return err
	}
	return g.open()
}

func (g *golden) open() error {
	opts := g.store.options()
	if g.tune != nil {
		opts.Options = g.tune(opts.Options)
	}
	var err error
	g.ds, err = g.store.openWith(&opts)
	return err
}

func (g *golden) close() error {
	if g.ds == nil {
		return nil
	}
	err := g.ds.Close()
	g.ds = nil
	return err
}

// reopen flushes all to a table, which gives DB.Backup places to cut ranges at.
func (g *golden) reopen() error {
	return errors.Join(g.close(), g.open())
}

// purge compacts deletes away.
func (g *golden) purge() error {
	return errors.Join(g.close(), g.store.purge(), g.open())
}

// segment takes a backup with DB.Backup, or with backup if that is not nil.
func (g *golden) segment(name string, since uint64, backup func(path string) (uint64, error)) (*segmentPaper, error) {
	p := segmentPaper{File: name + ".badger", Entries: name + ".jsonl", Since: since}
	var err error
	if p.Announced, err = readTip(g.ds.DB); err != nil {
		return nil, err
	}
	path := filepath.Join(g.dir, p.File)
	if backup == nil {
		p.Returned, err = backupTo(g.ds.DB, path, since)
	} else {
		p.Returned, err = backup(path)
	}
	if err != nil {
		return nil, err
	}
	if p.NextSince, err = g.versionOf(headerKey(p.Announced)); err != nil {
		return nil, err
	}
	if p.Source, err = digests(g.ds.DB); err != nil {
		return nil, err
	}
	if p.Stream, err = dumpTo(path, filepath.Join(g.dir, p.Entries)); err != nil {
		return nil, err
	}
	g.paper.Segments = append(g.paper.Segments, p)
	return &p, nil
}

// chain loads segments with Badger's Load and notes what came out.
func (g *golden) chain(note string, segments ...*segmentPaper) (*chainPaper, error) {
	g.loads++
	p := chainPaper{Note: note}
	var paths []string
	for _, s := range segments {
		p.Files = append(p.Files, s.File)
		paths = append(paths, filepath.Join(g.dir, s.File))
	}
	store := storeFlags{dir: filepath.Join(g.work, fmt.Sprint("load", g.loads))}
	err := store.with(func(db *badger.DB) error { return loadAll(db, paths) })
	if err != nil {
		return nil, err
	}
	err = store.with(func(db *badger.DB) (err error) {
		p.Loaded, err = digests(db)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.EqualsSource = p.Loaded.Digest == segments[len(segments)-1].Source.Digest
	g.paper.Chains = append(g.paper.Chains, p)
	return &p, nil
}

// single is the end of most cases: one full backup and its load.
func (g *golden) single() error {
	full, err := g.segment("full", 0, nil)
	if err != nil {
		return err
	}
	return g.expect(true, "", full)
}

// expect checks that a case shows what it is meant to show.
func (g *golden) expect(equal bool, note string, segments ...*segmentPaper) error {
	p, err := g.chain(note, segments...)
	if err == nil && p.EqualsSource != equal {
		err = fmt.Errorf("%v: the loaded digest equals the source's: expected %t", p.Files, equal)
	}
	return err
}

func (g *golden) versionOf(key string) (version uint64, err error) {
	err = g.ds.DB.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(key))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err == nil {
			version = item.Version()
		}
		return err
	})
	return version, err
}

func digests(db *badger.DB) (digestPaper, error) {
	live, err := digest(db, 0, goldenNow, false)
	if err != nil {
		return digestPaper{}, err
	}
	history, err := digest(db, 0, goldenNow, true)
	if err != nil {
		return digestPaper{}, err
	}
	return digestPaper{
		Digest: live.Digest, History: history.Digest, Entries: live.Entries, Versions: live.Versions,
		MaxVersion: live.MaxVersion, Now: goldenNow,
	}, nil
}

func dumpTo(segment, out string) (*streamSummary, error) {
	in, err := os.Open(segment)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	file, err := os.Create(out)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriter(file)
	s, err := readStream(in, func(kv kvLine) error { return writeLine(w, kv) })
	return s, errors.Join(err, w.Flush(), file.Close())
}

// sums writes SHA256SUMS over all segments, as `sha256sum -c` reads it.
func sums(out string) error {
	paths, err := filepath.Glob(filepath.Join(out, "*", "*.badger"))
	if err != nil {
		return err
	}
	sort.Strings(paths)
	file, err := os.Create(filepath.Join(out, "SHA256SUMS"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		in, err := os.Open(path)
		if err != nil {
			return errors.Join(err, file.Close())
		}
		s, err := readStream(in, func(kvLine) error { return nil })
		if err = errors.Join(err, in.Close()); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
		}
		name, err := filepath.Rel(out, path)
		if err != nil {
			return errors.Join(err, file.Close())
		}
		if _, err := fmt.Fprintf(file, "%s  %s\n", s.SHA256, filepath.ToSlash(name)); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	return errors.Join(sumFiles(out, file), file.Close())
}

// sumFiles adds the files of the directories.
func sumFiles(out string, file *os.File) error {
	paths, err := filepath.Glob(filepath.Join(out, "badger-*", "db", "*"))
	if err != nil {
		return err
	}
	sort.Strings(paths)
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(out, path)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(file, "%x  %s\n", sha256.Sum256(body), filepath.ToSlash(name)); err != nil {
			return err
		}
	}
	return nil
}
