package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// filling describes a data set; the same flags make the same entries each time.
type filling struct {
	seed         uint64
	blocks       int
	size         int
	queue        int
	prune        uint64
	generic      int
	genericSize  int
	versions     int
	deletes      bool
	ttl          bool
	userMeta     bool
	discard      bool
	merge        bool
	empty        bool
	binary       bool
	big          bool
	perBatch     int
	put, deleted int
}

const (
	// Expiry of --ttl: half of the keys in 2001, half in 2096.
	longAgo   = 1_000_000_000
	farFuture = 4_000_000_000
)

func runFill(fs *flag.FlagSet, args []string) error {
	var f storeFlags
	var fill filling
	f.register(fs, 1)
	fs.Uint64Var(&fill.seed, "seed", 1, "for all values")
	fs.IntVar(&fill.blocks, "blocks", 0, "append this many blocks after the tip")
	fs.IntVar(&fill.size, "value-size", 1024, "bytes of a block's data")
	fs.IntVar(&fill.queue, "queue", 0, "put this many queue entries")
	fs.Uint64Var(&fill.prune, "prune", 0, "delete the blocks up to this height, at the end")
	fs.IntVar(&fill.generic, "generic", 0, "put this many keys that are not ev-node's")
	fs.IntVar(&fill.genericSize, "generic-size", 100, "bytes of their values")
	fs.IntVar(&fill.versions, "versions", 1, "write each of them so many times; use with --keep-versions 0")
	fs.BoolVar(&fill.deletes, "deletes", false, "delete every fifth of them")
	fs.BoolVar(&fill.ttl, "ttl", false, "let every seventh expire: some in 2001, some in 2096")
	fs.BoolVar(&fill.userMeta, "usermeta", false, "give every third a user meta byte")
	fs.BoolVar(&fill.discard, "discard", false, "write the last version of every eleventh with discard-earlier")
	fs.BoolVar(&fill.merge, "merge", false, "add three merge operands to each of ten keys")
	fs.BoolVar(&fill.empty, "empty", false, "give every thirteenth an empty value")
	fs.BoolVar(&fill.binary, "binary", false, "use keys of raw bytes, 00 and ff among them")
	fs.BoolVar(&fill.big, "big", false, "put four values around and above 1 MiB")
	fs.IntVar(&fill.perBatch, "per-batch", 1000, "generic keys in a transaction")
	if err := fs.Parse(args); err != nil {
		return err
	}
	start := time.Now()
	return f.with(func(db *badger.DB) error {
		if err := fill.run(db); err != nil {
			return err
		}
		tip, err := readTip(db)
		if err != nil {
			return err
		}
		return printJSON(map[string]any{
			"tip": tip, "put": fill.put, "deleted": fill.deleted, "max_version": db.MaxVersion(),
			"elapsed_s": time.Since(start).Seconds(),
		})
	})
}

func (f *filling) run(db *badger.DB) error {
	tip, err := readTip(db)
	if err != nil {
		return err
	}
	for i := range uint64(f.blocks) {
		if err := putBlock(db, f.seed, tip+1+i, f.size); err != nil {
			return err
		}
		f.put += 6
	}
	if f.blocks > 0 {
		if err := f.beside(db, tip+uint64(f.blocks)); err != nil {
			return err
		}
	}
	for version := range f.versions {
		if err := f.genericKeys(db, version); err != nil {
			return err
		}
	}
	if f.deletes {
		err := f.batched(db, 5, func(wb *badger.WriteBatch, i int) error {
			f.deleted++
			return wb.Delete(f.genericKey(i))
		})
		if err != nil {
			return err
		}
	}
	if err := errors.Join(f.mergeKeys(db), f.bigValues(db)); err != nil {
		return err
	}
	if f.prune > 0 {
		n, err := prune(db, 1, f.prune)
		f.deleted += n
		return err
	}
	return nil
}

// beside writes what stands beside blocks: marks, queue, execution metadata.
func (f *filling) beside(db *badger.DB, tip uint64) error {
	wb := db.NewWriteBatch()
	defer wb.Cancel()
	entries := map[string][]byte{daHeightKey: le64(tip), submittedKey: le64(tip)}
	for i := range uint64(f.queue) {
		key := queueKey(queueStart + i)
		entries[key] = randomBytes(f.seed, key, 200)
	}
	for height := tip - min(tip-1, 50); height <= tip; height++ {
		entries[execMetaKey(height)] = randomBytes(f.seed, execMetaKey(height), 40)
		entries[daKey(height, "h")] = le64(height + 1000)
		entries[daKey(height, "d")] = le64(height + 1000)
	}
	for key, value := range entries {
		if err := wb.Set([]byte(key), value); err != nil {
			return err
		}
		f.put++
	}
	return wb.Flush()
}

func (f *filling) genericKey(i int) []byte {
	if f.binary {
		// Among the first bytes are 00, 01 and ff, which escapes must survive.
		return append([]byte{byte(i * 85), byte(i % 3), 0xff}, be64(uint64(i))...)
	}
	return fmt.Appendf(nil, "/g/%010d", i)
}

func (f *filling) genericKeys(db *badger.DB, version int) error {
	return f.batched(db, 1, func(wb *badger.WriteBatch, i int) error {
		size := f.genericSize
		if f.empty && i%13 == 0 {
			size = 0
		}
		key := f.genericKey(i)
		e := badger.NewEntry(key, randomBytes(f.seed+uint64(version), string(key), size))
		if f.userMeta && i%3 == 0 {
			e = e.WithMeta(byte(i%255) + 1)
		}
		if f.ttl && i%7 == 0 {
			e.ExpiresAt = farFuture
			if i%2 == 0 {
				e.ExpiresAt = longAgo
			}
		}
		if f.discard && i%11 == 0 && version == f.versions-1 {
			e = e.WithDiscard()
		}
		f.put++
		return wb.SetEntry(e)
	})
}

// batched calls each for every n-th generic key, perBatch calls to a transaction.
func (f *filling) batched(db *badger.DB, n int, each func(wb *badger.WriteBatch, i int) error) error {
	for from := 0; from < f.generic; from += f.perBatch * n {
		wb := db.NewWriteBatch()
		for i := from; i < min(from+f.perBatch*n, f.generic); i += n {
			if err := each(wb, i); err != nil {
				wb.Cancel()
				return err
			}
		}
		if err := wb.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// mergeKeys leaves unmerged operands, whose meta has the merge bit. The operators
// are never stopped: stopping one merges.
func (f *filling) mergeKeys(db *badger.DB) error {
	if !f.merge {
		return nil
	}
	join := func(old, operand []byte) []byte { return append(append([]byte(nil), old...), operand...) }
	for i := range 10 {
		op := db.GetMergeOperator(fmt.Appendf(nil, "/merge/%d", i), join, 24*time.Hour)
		for _, operand := range []string{"a", "b", "c"} {
			if err := op.Add([]byte(operand)); err != nil {
				return err
			}
			f.put++
		}
	}
	return nil
}

// bigValues stand on both sides of the border to the value log.
func (f *filling) bigValues(db *badger.DB) error {
	if !f.big {
		return nil
	}
	for _, size := range []int{1<<20 - 1, 1 << 20, 1<<20 + 1, 5 << 20} {
		key := fmt.Sprintf("/big/%d", size)
		f.put++
		if err := db.Update(func(txn *badger.Txn) error {
			return txn.Set([]byte(key), randomBytes(f.seed, key, size))
		}); err != nil {
			return err
		}
	}
	return nil
}
