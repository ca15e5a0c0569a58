package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// Keys in the shapes of ev-node's main store, and of what stands beside it.
const (
	tipKey       = "/0/t"
	daHeightKey  = "/0/m/d"
	submittedKey = "/0/m/last-submitted-header-height"
	prunedKey    = "/0/m/lst-prnd-b"
	queueStart   = uint64(0x8000000000000000)
)

func headerKey(height uint64) string    { return fmt.Sprintf("/0/h/%d", height) }
func dataKey(height uint64) string      { return fmt.Sprintf("/0/d/%d", height) }
func signatureKey(height uint64) string { return fmt.Sprintf("/0/c/%d", height) }
func stateKey(height uint64) string     { return fmt.Sprintf("/0/s/%d", height) }
func queueKey(seq uint64) string        { return fmt.Sprintf("/batches/%016x", seq) }
func daKey(height uint64, part string) string {
	return fmt.Sprintf("/0/m/rhb/%d/%s", height, part)
}

// indexKey is what ev-node writes since v1.0.0-beta.9: the hash of the stored blob.
func indexKey(header []byte) string {
	sum := sha256.Sum256(header)
	return "/0/i/" + strings.ToUpper(hex.EncodeToString(sum[:]))
}

// execMetaKey is a key of raw bytes that go-datastore cleans as a path, which
// eats a height's trailing 0x2f.
func execMetaKey(height uint64) string {
	return path.Clean("/evm/execmeta/" + string(be64(height)))
}

func le64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// randomBytes depend on seed and name only, so a data set is the same on each run.
func randomBytes(seed uint64, name string, size int) []byte {
	key := sha256.Sum256(append(be64(seed), name...))
	out := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(out) // never fails, by its contract
	return out
}

// putBlock commits one block as the node does: one WriteBatch, one version.
// The values are random bytes; only keys, sizes and links of keys are real.
func putBlock(db *badger.DB, seed, height uint64, size int) error {
	header := randomBytes(seed, headerKey(height), 320)
	wb := db.NewWriteBatch()
	defer wb.Cancel()
	for _, e := range []struct {
		key   string
		value []byte
	}{
		{headerKey(height), header},
		{dataKey(height), randomBytes(seed, dataKey(height), size)},
		{signatureKey(height), randomBytes(seed, signatureKey(height), 64)},
		{indexKey(header), le64(height)},
		{tipKey, le64(height)},
		{stateKey(height), randomBytes(seed, stateKey(height), 180)},
	} {
		if err := wb.Set([]byte(e.key), e.value); err != nil {
			return err
		}
	}
	return wb.Flush()
}

// prune deletes the blocks up to height `to`, as the node's pruner does: the
// states stay.
func prune(db *badger.DB, from, to uint64) (deleted int, err error) {
	wb := db.NewWriteBatch()
	defer wb.Cancel()
	err = db.View(func(txn *badger.Txn) error {
		for n := from; n <= to; n++ {
			header, err := get(txn, headerKey(n))
			if err != nil {
				return err
			}
			if header == nil {
				continue
			}
			keys := []string{headerKey(n), dataKey(n), signatureKey(n), indexKey(header)}
			for _, part := range []string{"h", "d"} {
				if value, err := get(txn, daKey(n, part)); err != nil {
					return err
				} else if value != nil {
					keys = append(keys, daKey(n, part))
				}
			}
			for _, key := range keys {
				if err := wb.Delete([]byte(key)); err != nil {
					return err
				}
			}
			deleted += len(keys)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := wb.Set([]byte(prunedKey), le64(to)); err != nil {
		return 0, err
	}
	return deleted, wb.Flush()
}

// rollback deletes the blocks above `to` and lowers the tip, as the node's
// offline command does.
func rollback(db *badger.DB, to uint64) (deleted int, err error) {
	tip, err := readTip(db)
	if err != nil {
		return 0, err
	}
	wb := db.NewWriteBatch()
	defer wb.Cancel()
	err = db.View(func(txn *badger.Txn) error {
		for n := to + 1; n <= tip; n++ {
			header, err := get(txn, headerKey(n))
			if err != nil {
				return err
			}
			for _, key := range []string{headerKey(n), dataKey(n), signatureKey(n), stateKey(n), indexKey(header)} {
				if err := wb.Delete([]byte(key)); err != nil {
					return err
				}
				deleted++
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := wb.Set([]byte(tipKey), le64(to)); err != nil {
		return 0, err
	}
	return deleted, wb.Flush()
}
