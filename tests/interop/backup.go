package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"time"

	"github.com/dgraph-io/badger/v4"
)

func runBackup(fs *flag.FlagSet, args []string) error {
	var f storeFlags
	f.register(fs, 0)
	out := fs.String("out", "", "the file to write (required)")
	since := fs.Uint64("since", 0, "version to start after")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *out == "" {
		return errors.New("--out is required")
	}
	return f.with(func(db *badger.DB) error {
		start := time.Now()
		version, err := backupTo(db, *out, *since)
		if err != nil {
			return err
		}
		elapsed := time.Since(start).Seconds()
		file, err := os.Open(*out)
		if err != nil {
			return err
		}
		defer file.Close()
		hash := sha256.New()
		size, err := io.Copy(hash, file)
		if err != nil {
			return err
		}
		return printJSON(map[string]any{
			"out": *out, "since": *since, "version": version, "bytes": size,
			"sha256": hex.EncodeToString(hash.Sum(nil)), "max_version": db.MaxVersion(), "elapsed_s": elapsed,
		})
	})
}

// backupTo is Badger's own DB.Backup into a file.
func backupTo(db *badger.DB, path string, since uint64) (uint64, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return 0, err
	}
	out := bufio.NewWriterSize(file, 1<<20)
	version, err := db.Backup(out, since)
	return version, errors.Join(err, out.Flush(), file.Close())
}
