package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"

	"github.com/dgraph-io/badger/v4"
	badger4 "github.com/ipfs/go-ds-badger4"
)

// storeFlags are the Badger options a test may want to differ from ev-node's.
type storeFlags struct {
	dir          string
	keepVersions int
	threshold    int64
	memTable     int64
	tiny         bool
}

func (f *storeFlags) register(fs *flag.FlagSet, keepVersions int) {
	fs.StringVar(&f.dir, "dir", "", "the Badger directory (required)")
	fs.IntVar(&f.keepVersions, "keep-versions", keepVersions, "NumVersionsToKeep; 0 keeps all")
	fs.Int64Var(&f.threshold, "value-threshold", 0, "values of at least this size go to the value log; 0: Badger's 1 MiB")
	fs.Int64Var(&f.memTable, "memtable", 0, "MemTableSize in bytes; 0: Badger's 64 MiB")
	fs.BoolVar(&f.tiny, "tiny", false, "tiny tables and levels, so that a small database has several of each")
}

// options are ev-node's: go-ds-badger4's defaults with the tuning of today's
// releases. None of it changes what is on disk.
func (f *storeFlags) options() badger4.Options {
	opts := badger4.DefaultOptions
	opts.Options = opts.Options.
		WithDetectConflicts(false).
		WithNumLevelZeroTables(10).
		WithNumLevelZeroTablesStall(20).
		WithNumCompactors(min(max(runtime.NumCPU(), 4), 8)).
		WithIndexCacheSize(256 << 20)
	keep := f.keepVersions
	if keep <= 0 {
		keep = math.MaxInt
	}
	opts.Options = opts.WithNumVersionsToKeep(keep)
	if f.tiny {
		opts.Options = opts.WithMemTableSize(1 << 20).WithBaseTableSize(256 << 10).WithBaseLevelSize(1 << 20).
			WithNumLevelZeroTables(1).WithNumLevelZeroTablesStall(3).WithValueThreshold(64 << 10)
	}
	if f.memTable > 0 {
		opts.Options = opts.WithMemTableSize(f.memTable)
	}
	if f.threshold > 0 {
		opts.Options = opts.WithValueThreshold(f.threshold)
	}
	return opts
}

func (f *storeFlags) open() (*badger4.Datastore, error) {
	opts := f.options()
	return f.openWith(&opts)
}

func (f *storeFlags) openWith(opts *badger4.Options) (*badger4.Datastore, error) {
	if f.dir == "" {
		return nil, errors.New("--dir is required")
	}
	// Badger creates the last folder only.
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return nil, err
	}
	return opened(func() (*badger4.Datastore, error) { return badger4.NewDatastore(f.dir, opts) })
}

// opened opens a database that may have been killed: a file that has no bytes
// yet makes Badger fail once, each of them.
func opened[T any](open func() (T, error)) (db T, err error) {
	for range 5 {
		if db, err = open(); err == nil || !strings.Contains(err.Error(), "Create a new file") {
			break
		}
	}
	return db, err
}

// with opens the database, hands it to use, and closes it.
func (f *storeFlags) with(use func(db *badger.DB) error) error {
	ds, err := f.open()
	if err != nil {
		return err
	}
	err = use(ds.DB)
	if closeErr := ds.Close(); err == nil {
		err = closeErr
	}
	return err
}

// purge compacts until one level holds everything. That drops tombstones and
// what lies below them, so a later increment carries no trace of a delete.
// Badger offers it only on close, hence the directory must not be open.
func (f *storeFlags) purge() error {
	opts := f.options().WithDir(f.dir).WithValueDir(f.dir).WithCompactL0OnClose(true).WithLogger(nil)
	// Twice: the first close flushes the memtable, the second finds all of it in level 0.
	for range 2 {
		// Managed, so that we say below which version nobody reads any more: on a
		// busy machine Badger's own account of that is late, and tombstones stay.
		db, err := opened(func() (*badger.DB, error) { return badger.OpenManaged(opts) })
		if err != nil {
			return err
		}
		db.SetDiscardTs(math.MaxUint64)
		if err := errors.Join(db.Flatten(2), db.Close()); err != nil {
			return err
		}
	}
	return nil
}

func runCompact(fs *flag.FlagSet, args []string) error {
	var f storeFlags
	f.register(fs, 1)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if err := f.purge(); err != nil {
		return err
	}
	return f.with(func(db *badger.DB) error {
		return printJSON(map[string]any{"max_version": db.MaxVersion(), "levels": levels(db)})
	})
}

// levels counts the tables of each level.
func levels(db *badger.DB) map[string]int {
	counts := map[string]int{}
	for _, l := range db.Levels() {
		if l.NumTables > 0 {
			counts[fmt.Sprint(l.Level)] = l.NumTables
		}
	}
	return counts
}

// readTip reads /0/t, or 0 on a fresh chain.
func readTip(db *badger.DB) (uint64, error) {
	var tip uint64
	err := db.View(func(txn *badger.Txn) error {
		value, err := get(txn, tipKey)
		if err != nil || value == nil {
			return err
		}
		if len(value) != 8 {
			return fmt.Errorf("%s: expected 8 bytes, found %d", tipKey, len(value))
		}
		tip = binary.LittleEndian.Uint64(value)
		return nil
	})
	return tip, err
}

// get returns nil for a key that is not there.
func get(txn *badger.Txn, key string) ([]byte, error) {
	item, err := txn.Get([]byte(key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}
