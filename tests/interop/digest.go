package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/dgraph-io/badger/v4"
)

const (
	metaDelete  = 0x01
	metaDiscard = 0x04
	metaMerge   = 0x08
)

// digestReport is the logical digest of a database, and what was counted on the way.
type digestReport struct {
	Digest      string `json:"digest"`
	History     bool   `json:"history"`
	At          uint64 `json:"at"`           // 0: everything
	Now         uint64 `json:"now"`          // unix seconds that expiry was judged by
	ReadVersion uint64 `json:"read_version"` // the read transaction's timestamp
	MaxVersion  uint64 `json:"max_version"`  // Badger's MaxVersion()
	SeenVersion uint64 `json:"seen_version"` // highest version of any entry, deletes included
	Entries     uint64 `json:"entries"`      // in the digest
	Versions    uint64 `json:"versions"`     // physical entries up to `at`
	Keys        uint64 `json:"keys"`         // distinct keys up to `at`, dead ones included
	Deleted     uint64 `json:"deleted"`      // keys whose newest entry is a delete
	Expired     uint64 `json:"expired"`      // keys whose newest entry has expired
	KeyBytes    uint64 `json:"key_bytes"`
	ValueBytes  uint64 `json:"value_bytes"`
	Tip         uint64 `json:"tip"`
}

// digest hashes a database as design.md 7 says. It reads one transaction, so it
// is exact while others write.
func digest(db *badger.DB, at, now uint64, history bool) (*digestReport, error) {
	if now == 0 {
		now = uint64(time.Now().Unix())
	}
	limit := at
	if at == 0 {
		limit = math.MaxUint64
	}
	r := &digestReport{History: history, At: at, Now: now, MaxVersion: db.MaxVersion()}
	hash := sha256.New()
	err := forEachVersion(db, func(readVersion uint64, item *badger.Item, meta byte, newKey func() bool) error {
		r.ReadVersion = readVersion
		if item == nil {
			return nil
		}
		if item.Version() > limit {
			return nil
		}
		newest := newKey()
		r.Versions++
		r.SeenVersion = max(r.SeenVersion, item.Version())
		mask := byte(metaMerge)
		if history {
			mask = metaDelete | metaDiscard | metaMerge
		}
		deleted := meta&metaDelete != 0
		expired := !deleted && item.ExpiresAt() != 0 && item.ExpiresAt() <= now
		if newest {
			r.Keys++
			if deleted {
				r.Deleted++
			} else if expired {
				r.Expired++
			}
		}
		if !history && (!newest || deleted || expired) {
			return nil
		}
		return item.Value(func(value []byte) error {
			r.Entries++
			r.KeyBytes += uint64(len(item.Key()))
			r.ValueBytes += uint64(len(value))
			head := make([]byte, 0, 64)
			head = binary.BigEndian.AppendUint32(head, uint32(len(item.Key())))
			head = append(head, item.Key()...)
			head = binary.BigEndian.AppendUint64(head, item.Version())
			head = append(head, meta&mask, item.UserMeta())
			head = binary.BigEndian.AppendUint64(head, item.ExpiresAt())
			head = binary.BigEndian.AppendUint32(head, uint32(len(value)))
			hash.Write(head)
			hash.Write(value)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	r.Digest = hex.EncodeToString(hash.Sum(nil))
	r.Tip, err = readTip(db)
	return r, err
}

// forEachVersion walks every physical entry but Badger's own, keys ascending
// and versions descending. It calls visit once with a nil item first. newKey
// tells whether this is the first entry of its key for which newKey is asked.
func forEachVersion(db *badger.DB, visit func(readVersion uint64, item *badger.Item, meta byte, newKey func() bool) error) error {
	return db.View(func(txn *badger.Txn) error {
		if err := visit(txn.ReadTs(), nil, 0, nil); err != nil {
			return err
		}
		opts := badger.DefaultIteratorOptions
		opts.AllVersions = true
		it := txn.NewIterator(opts)
		defer it.Close()
		var askedKey, lastKey []byte
		var lastVersion uint64
		asked, first := false, true
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			// The same key and version can lie in two tables after an overlapping load.
			if !first && item.Version() == lastVersion && bytes.Equal(item.Key(), lastKey) {
				continue
			}
			first, lastVersion, lastKey = false, item.Version(), append(lastKey[:0], item.Key()...)
			newKey := func() bool {
				if asked && bytes.Equal(askedKey, item.Key()) {
					return false
				}
				asked, askedKey = true, append(askedKey[:0], item.Key()...)
				return true
			}
			if err := visit(txn.ReadTs(), item, itemMeta(item), newKey); err != nil {
				return fmt.Errorf("key %x version %d: %w", item.Key(), item.Version(), err)
			}
		}
		return nil
	})
}

// itemMeta reads the meta byte, which Badger keeps to itself.
func itemMeta(item *badger.Item) byte {
	return byte(reflect.ValueOf(item).Elem().FieldByName("meta").Uint())
}

func runDigest(fs *flag.FlagSet, args []string) error {
	var f storeFlags
	f.register(fs, 0)
	at := fs.Uint64("at", 0, "newest entries up to this version; 0: all")
	now := fs.Uint64("now", 0, "unix seconds to judge expiry by; 0: the clock")
	history := fs.Bool("history", false, "every physical entry, deletes included")
	if err := fs.Parse(args); err != nil {
		return err
	}
	return f.with(func(db *badger.DB) error {
		r, err := digest(db, *at, *now, *history)
		if err != nil {
			return err
		}
		return printJSON(r)
	})
}
