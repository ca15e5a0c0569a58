package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/dgraph-io/badger/v4"
)

// checkKey is what check writes to see that the node could go on.
const checkKey = "/evbackup check"

// check holds a directory that something else wrote against what a node does with it.
type check struct {
	store    storeFlags
	Badger   string        `json:"badger"`
	OK       bool          `json:"ok"`
	Problems []string      `json:"problems"`
	Max      uint64        `json:"max_version"`
	Levels   any           `json:"levels"`
	Live     *digestReport `json:"digest"`
	History  *digestReport `json:"history"`
	Got      int           `json:"got"`    // live keys that Get found, with the same entry
	Absent   int           `json:"absent"` // keys beside them that Get rightly did not find
	Backup   int           `json:"backup"` // entries of DB.Backup
	Written  uint64        `json:"written_version"`
	Reopened uint64        `json:"max_version_reopened"`
}

func runCheck(fs *flag.FlagSet, args []string) error {
	c := check{Problems: []string{}, Badger: modules()["github.com/dgraph-io/badger/v4"]}
	c.store.register(fs, 1)
	now := fs.Uint64("now", 0, "for the digests: unix seconds to judge expiry by; 0: the clock")
	version := fs.Uint64("version", 0, "what MaxVersion must be; 0: anything")
	segment := fs.String("segment", "", "a segment whose entries DB.Backup must give again")
	if err := fs.Parse(args); err != nil {
		return err
	}
	before := map[string][]dirEntry{}
	err := c.store.with(func(db *badger.DB) error {
		return all(
			func() error { return c.opened(db, *version, *now) },
			func() (err error) { before["live"], err = c.read(db); return err },
			func() error { return c.backup(db, *segment) },
			func() error { return c.write(db) },
			func() error { return c.flatten(db, before["live"]) },
		)
	})
	if err != nil {
		return err
	}
	// Twice: the first close has flushed what was written, and the second opens that.
	for range 2 {
		err := c.store.with(func(db *badger.DB) error {
			c.Reopened = db.MaxVersion()
			if err := db.VerifyChecksum(); err != nil {
				c.problem("checksums after reopening: %v", err)
			}
			after, err := c.read(db)
			if err == nil {
				c.compare("after reopening", before["live"], after)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	c.OK = len(c.Problems) == 0
	if err := printJSON(c); err != nil {
		return err
	}
	if !c.OK {
		return fmt.Errorf("%d problems, first: %s", len(c.Problems), c.Problems[0])
	}
	return nil
}

func (c *check) problem(format string, args ...any) {
	if len(c.Problems) < 20 {
		c.Problems = append(c.Problems, fmt.Sprintf(format, args...))
	}
}

func (c *check) opened(db *badger.DB, version, now uint64) error {
	c.Max, c.Levels = db.MaxVersion(), levels(db)
	if version != 0 && c.Max != version {
		c.problem("MaxVersion: expected %d, found %d", version, c.Max)
	}
	if err := db.VerifyChecksum(); err != nil {
		c.problem("checksums: %v", err)
	}
	var err error
	if c.Live, err = digest(db, 0, now, false); err != nil {
		return err
	}
	if c.History, err = digest(db, 0, now, true); err != nil {
		return err
	}
	if c.History.SeenVersion > c.Max {
		c.problem("version %d is above MaxVersion %d", c.History.SeenVersion, c.Max)
	}
	return nil
}

// read iterates the live entries, and gets each of them: that asks the bloom filters, which iterating does not.
func (c *check) read(db *badger.DB) ([]dirEntry, error) {
	var live []dirEntry
	c.Got, c.Absent = 0, 0
	err := db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			seen, err := describeItem(it.Item())
			if err != nil {
				return err
			}
			if string(it.Item().Key()) != checkKey {
				live = append(live, seen)
			}
			item, err := txn.Get(it.Item().Key())
			if err != nil {
				c.problem("get %s, which iterating found: %v", seen.Key, err)
				continue
			}
			found, err := describeItem(item)
			if err != nil {
				return err
			}
			if found != seen {
				c.problem("get %s: expected %+v, found %+v", seen.Key, seen, found)
				continue
			}
			c.Got++
			beside := append(it.Item().KeyCopy(nil), 0, 1, 2)
			if _, err := txn.Get(beside); !errors.Is(err, badger.ErrKeyNotFound) {
				c.problem("get %x, which is not there: %v", beside, err)
				continue
			}
			c.Absent++
		}
		return nil
	})
	return live, err
}

func describeItem(item *badger.Item) (dirEntry, error) {
	value, err := item.ValueCopy(nil)
	sum := sha256.Sum256(value)
	return dirEntry{
		Key: hex.EncodeToString(item.Key()), Version: item.Version(), Meta: itemMeta(item) & metaMerge, UserMeta: item.UserMeta(),
		ExpiresAt: item.ExpiresAt(), ValueLen: len(value), ValueSHA256: hex.EncodeToString(sum[:]), Live: true,
	}, err
}

// backup compares DB.Backup with what iterating all versions says that it must be, entry by entry.
func (c *check) backup(db *badger.DB, segment string) error {
	folder, err := os.MkdirTemp("", "check")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "segment")
	if _, err := backupTo(db, path, 0); err != nil {
		return err
	}
	lines, err := sortedDump(path)
	if err != nil {
		return err
	}
	c.Backup = len(lines)
	expected, err := c.expectedBackup(db)
	if err != nil {
		return err
	}
	c.sameLines("Backup, compared with iterating", expected, lines)
	if segment == "" {
		return nil
	}
	if expected, err = sortedDump(segment); err == nil {
		c.sameLines("Backup, compared with the segment", expected, lines)
	}
	return err
}

// expectedBackup is what DB.Backup emits for what is there (the format's A.4).
func (c *check) expectedBackup(db *badger.DB) ([]kvLine, error) {
	var lines []kvLine
	var key []byte
	done := false
	err := forEachVersion(db, func(_ uint64, item *badger.Item, meta byte, _ func() bool) error {
		if item == nil {
			return nil
		}
		if !bytes.Equal(key, item.Key()) || key == nil {
			key, done = item.KeyCopy(nil), false
		}
		if done {
			return nil
		}
		dead := item.IsDeletedOrExpired()
		var value []byte
		if !dead {
			var err error
			if value, err = item.ValueCopy(nil); err != nil {
				return err
			}
			// Badger itself logs this, and goes on with an empty value.
			if meta&metaPointer != 0 && len(value) == 0 {
				c.problem("key %x version %d: its value is not in the value log", key, item.Version())
			}
		}
		sum := sha256.Sum256(value)
		lines = append(lines, kvLine{
			Key: hex.EncodeToString(key), Version: item.Version(), Meta: int(meta), UserMeta: int(item.UserMeta()),
			ExpiresAt: item.ExpiresAt(), ValueLen: len(value), ValueSHA256: hex.EncodeToString(sum[:]),
		})
		if meta&metaDiscard != 0 {
			empty := sha256.Sum256(nil)
			lines = append(lines, kvLine{
				Key: hex.EncodeToString(key), Version: item.Version() - 1, Meta: metaDelete, UserMeta: -1,
				ValueSHA256: hex.EncodeToString(empty[:]),
			})
		}
		done = dead || meta&metaDiscard != 0
		return nil
	})
	return lines, err
}

func (c *check) sameLines(what string, expected, found []kvLine) {
	normal := func(lines []kvLine) []kvLine {
		out := append([]kvLine(nil), lines...)
		for i := range out {
			out[i].Meta &= metaDelete | metaDiscard | metaMerge
		}
		sort.SliceStable(out, func(i, j int) bool {
			if out[i].Key != out[j].Key {
				return out[i].Key < out[j].Key
			}
			return out[i].Version > out[j].Version
		})
		return out
	}
	expected, found = normal(expected), normal(found)
	if len(expected) != len(found) {
		c.problem("%s: expected %d entries, found %d", what, len(expected), len(found))
	}
	for i := range min(len(expected), len(found)) {
		if expected[i] != found[i] {
			c.problem("%s: expected %+v, found %+v", what, expected[i], found[i])
			return
		}
	}
}

// write goes on as the node would: the next version must be the next number.
func (c *check) write(db *badger.DB) error {
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(checkKey), []byte("written")) }); err != nil {
		return err
	}
	return db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(checkKey))
		if err != nil {
			return err
		}
		if c.Written = item.Version(); c.Written != c.Max+1 {
			c.problem("the next write: expected version %d, found %d", c.Max+1, c.Written)
		}
		return nil
	})
}

func (c *check) flatten(db *badger.DB, before []dirEntry) error {
	if err := db.Flatten(2); err != nil {
		return err
	}
	after, err := c.read(db)
	if err == nil {
		c.compare("after Flatten", before, after)
	}
	return err
}

func (c *check) compare(when string, expected, found []dirEntry) {
	if len(expected) != len(found) {
		c.problem("%s: expected %d live entries, found %d", when, len(expected), len(found))
		return
	}
	for i := range expected {
		if expected[i] != found[i] {
			c.problem("%s: expected %+v, found %+v", when, expected[i], found[i])
			return
		}
	}
}
