package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"google.golang.org/protobuf/proto"
)

const metaPointer = 0x02

type dirCase struct {
	name    string
	shows   string
	options string
	refused string // the code of evbackup's refusal, if it must refuse
	run     func(d *goldenDir) error
}

const small = "1 MiB memtables and value logs, all versions kept"

var dirCases = []dirCase{
	{"badger-empty", "an empty database, closed", small, "", func(d *goldenDir) error { return d.open() }},
	{"badger-empty-live", "an empty database, open: a .mem and a .vlog with a header only, LOCK", small, "", func(d *goldenDir) error { return all(d.open, d.image) }},
	{"badger-manifest-only", "an empty MANIFEST and nothing else", small, "", dirManifestOnly},
	{"badger-vector", "the workload of the format's test vectors in one table, not compressed", small + ", no compression", "", dirVector},
	{"badger-vector-wal", "the same in the log of a memtable", small, "", dirVectorWal},
	{"badger-kinds", "versions, deletes, expiry, user meta, discard, merge, empty values, binary keys, in tables", small, "", dirKinds},
	{"badger-kinds-wal", "the same in the log of a memtable", small, "", dirKindsWal},
	{"badger-kinds-both", "the first half in a table, the second in the log of a memtable", small, "", dirKindsBoth},
	{"badger-none", "tables that are not compressed", small + ", no compression", "", dirCodec(options.None)},
	{"badger-snappy", "tables compressed with snappy", small, "", dirCodec(options.Snappy)},
	{"badger-zstd", "tables compressed with zstd", small + ", zstd", "", dirCodec(options.ZSTD)},
	{"badger-mixed", "one table of each codec", small, "", dirMixed},
	{"badger-no-bloom", "tables without a bloom filter", small + ", BloomFalsePositive 0", "", dirNoBloom},
	{"badger-long-key", "keys of 255, 256 and 65000 bytes, in a table and in a log", small, "", dirLongKey},
	{"badger-thousand", "a thousand versions of one key, over three tables", small, "", dirThousand},
	{"badger-values", "values around a threshold of 1024, four value logs, one of them unfinished", small + ", value threshold 1024, 8 entries in a value log", "", dirValues},
	{"badger-mebibyte", "values of 1 MiB - 1, 1 MiB and 1 MiB + 1 at Badger's own threshold", "Badger's sizes", "", dirMebibyte},
	{"badger-level-zero", "five tables, all in level 0, with overlapping keys", small, "", (*goldenDir).levelZero},
	{"badger-levels", "tables on several levels, made by compaction", "64 KiB memtables, 16 KiB tables, 16 KiB levels, one version kept", "", dirLevels},
	{"badger-collected", "value logs after value-log GC: rewritten values have their old versions", "one version kept, value threshold 1024, 16 entries in a value log", "", dirCollected(false)},
	{"badger-collected-live", "the same right after the GC: the rewritten entries stand in the log of a memtable, outside transactions", "one version kept, value threshold 1024, 16 entries in a value log", "", dirCollected(true)},
	{"badger-lingering", "several .mem files whose tables exist already, because an iterator holds them", "64 KiB memtables, all versions kept", "", dirLingering},
	{"badger-logs", "several .mem files and no table", "64 KiB memtables, all versions kept", "", dirLogs},
	{"badger-loaded", "entries of Badger's Load, outside transactions, in the log of a memtable", small, "", dirLoaded},
	{"badger-inverted", "newer versions of the same keys on a deeper level than older ones", small, "", dirInverted},
	{"badger-duplicates", "the same keys and versions in two tables", small, "", dirDuplicates},
	{"badger-alternates", "the same keys and versions in two tables; the value log of the newer one is gone", small + ", value threshold 1024", "", dirAlternates},
	{"badger-dangling", "superseded versions whose value log is gone", small + ", value threshold 1024", "", dirDangling},
	{"badger-missing-value", "visible keys whose value log is gone", small + ", value threshold 1024", "damaged", dirMissingValue},
	{"badger-missing-table", "a table that MANIFEST lists is gone", small, "damaged", dirMissingTable},
	{"badger-banned", "a banned namespace; ev-node's options do not know it", small + ", NamespaceOffset 3", "", dirBanned},
	{"badger-internal", "keys that begin with !badger!, one of them with the highest version", small, "", dirInternal},
	{"badger-encrypted", "encrypted at rest; the entries are what Badger reads with the key", small + ", EncryptionKey", "unsupported", dirEncrypted},
	{"badger-encrypted-live", "the same, with nothing but a log of a memtable", small + ", EncryptionKey", "unsupported", dirEncryptedLive},
	{"badger-rewritten", "a MANIFEST that is one record, as after a rewrite", small, "", dirRewritten},
	{"badger-torn-manifest", "the last record of MANIFEST is cut: its table is not there", small, "", dirTornManifest},
	{"badger-bad-manifest", "a record in the middle of MANIFEST has a wrong checksum", small, "damaged", dirBadManifest},
	{"badger-leftovers", "files that count for nothing: an unlisted table, MANIFEST-REWRITE, REWRITE-KEYREGISTRY", small, "", dirLeftovers},
	{"badger-old-version", "a MANIFEST of version 7, as older majors wrote it", small, "unsupported", dirVersion(7)},
	{"badger-new-version", "a MANIFEST of version 9", small, "unsupported", dirVersion(9)},
	{"badger-magic", "a MANIFEST with an external magic number", small + ", ExternalMagic 7", "unsupported", dirMagic},
	{"badger-torn-cut", "the log of a memtable ends within an entry of its last transaction", small, "", dirTorn(tornCut)},
	{"badger-torn-marker", "the last transaction in the log has no end marker", small, "", dirTorn(tornMarker)},
	{"badger-torn-flip", "one bit of the last transaction in the log is wrong, and its end marker stands: Badger drops it, evbackup must not", small, "damaged", dirTorn(tornFlip)},
	{"badger-torn-middle", "one bit in the middle of the log is wrong: Badger drops what follows, evbackup must not", small, "damaged", dirTorn(tornMiddle)},
	{"badger-torn-varint", "the log ends in a length that never ends; Badger does not open that, its view is of the log without it", small, "", dirTorn(tornVarint)},
	{"badger-zero-length", "a .mem and a .vlog of no bytes; Badger opens it when it has failed twice", small, "", dirZeroLength},
}

func crc(body []byte) uint32 { return crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) }

func (d *goldenDir) set(key, value string) error {
	return d.db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(key), []byte(value)) })
}

// keys puts n keys of this size, several to a transaction.
func (d *goldenDir) keys(seed uint64, n, size int) error {
	for from := 0; from < n; from += 7 {
		err := d.db.Update(func(txn *badger.Txn) error {
			for i := from; i < min(from+7, n); i++ {
				key := fmt.Sprintf("/k/%04d", i)
				if err := txn.Set([]byte(key), randomBytes(seed, key, size)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func dirManifestOnly(d *goldenDir) error { return d.writeManifest(nil) }

func (d *goldenDir) vector() error {
	return all(
		d.open,
		func() error {
			return d.db.Update(func(txn *badger.Txn) error {
				return errors.Join(
					txn.Set([]byte("/0/t"), le64(1)),
					txn.SetEntry(badger.NewEntry([]byte("/0/h/1"), []byte("hdr")).WithMeta(9)),
				)
			})
		},
		func() error { return d.db.Update(func(txn *badger.Txn) error { return txn.Delete([]byte("/0/h/1")) }) },
	)
}

func dirVector(d *goldenDir) error {
	d.opts = d.opts.WithCompression(options.None)
	return d.vector()
}

func dirVectorWal(d *goldenDir) error { return all(d.vector, d.image) }

// kindsEarly and kindsLate together have every kind of entry.
func (d *goldenDir) kindsEarly() error {
	for round := 1; round <= 4; round++ {
		for key := round; key <= 6; key++ {
			if err := d.set(fmt.Sprintf("/v/%d", key), fmt.Sprintf("value %d of key %d", round, key)); err != nil {
				return err
			}
		}
	}
	return all(
		func() error { return d.set("/goes", "1") },
		func() error { return d.set("/goes and returns", "1") },
		func() error { return d.set("/discarded", "1") },
		func() error { return d.set("/discarded", "2") },
		func() error { return d.set("/emptied", "full") },
		func() error { return d.expiring("/expires later", farFuture, 3) },
		func() error { return d.expiring("/expired", longAgo, 4) },
		func() error { return d.set("/then expired", "older") },
		func() error { return d.keys(1, 60, 200) },
	)
}

func (d *goldenDir) expiring(key string, at uint64, userMeta byte) error {
	e := badger.NewEntry([]byte(key), []byte("expires")).WithMeta(userMeta)
	e.ExpiresAt = at
	return d.db.Update(func(txn *badger.Txn) error { return txn.SetEntry(e) })
}

func (d *goldenDir) remove(keys ...string) error {
	return d.db.Update(func(txn *badger.Txn) error {
		for _, key := range keys {
			if err := txn.Delete([]byte(key)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *goldenDir) kindsLate() error {
	err := all(
		func() error { return d.remove("/goes", "/goes and returns", "/never there") },
		func() error { return d.set("/goes and returns", "2") },
		func() error {
			return d.db.Update(func(txn *badger.Txn) error {
				return txn.SetEntry(badger.NewEntry([]byte("/discarded"), []byte("3")).WithDiscard())
			})
		},
		func() error { return d.set("/emptied", "") },
		func() error { return d.expiring("/then expired", longAgo, 5) },
		func() error { return d.expiring("/expired", longAgo+1, 6) },
	)
	if err != nil {
		return err
	}
	for _, meta := range []byte{0, 1, 127, 128, 255} {
		e := badger.NewEntry(fmt.Appendf(nil, "/u/%d", meta), []byte("value")).WithMeta(meta)
		if err := d.db.Update(func(txn *badger.Txn) error { return txn.SetEntry(e) }); err != nil {
			return err
		}
	}
	for _, key := range []string{"\x00", "\x00\x00", "\x00\xff", "\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff", "a", "a\x00", "!badger", execMetaKey(47)} {
		if err := errors.Join(d.set(key, "1"), d.set(key, "2")); err != nil {
			return err
		}
	}
	join := func(old, operand []byte) []byte { return append(bytes.Clone(old), operand...) }
	for _, key := range []string{"/m/open", "/m/stopped"} {
		op := d.db.GetMergeOperator([]byte(key), join, 24*time.Hour)
		for _, operand := range []string{"a", "b", "c"} {
			if err := op.Add([]byte(operand)); err != nil {
				return err
			}
		}
		if key == "/m/stopped" {
			op.Stop()
		}
	}
	return d.keys(2, 20, 200)
}

func dirKinds(d *goldenDir) error    { return all(d.open, d.kindsEarly, d.reopen, d.kindsLate) }
func dirKindsWal(d *goldenDir) error { return all(d.open, d.kindsEarly, d.kindsLate, d.image) }
func dirKindsBoth(d *goldenDir) error {
	return all(d.open, d.kindsEarly, d.reopen, d.kindsLate, d.image)
}

func dirCodec(codec options.CompressionType) func(d *goldenDir) error {
	return func(d *goldenDir) error {
		d.opts = d.opts.WithCompression(codec)
		return all(d.open, func() error { return d.mixedKeys(1) })
	}
}

// mixedKeys have values that compress and values that do not, over several blocks.
func (d *goldenDir) mixedKeys(seed uint64) error {
	if err := d.keys(seed, 40, 300); err != nil {
		return err
	}
	for i := range 20 {
		if err := d.set(fmt.Sprintf("/text/%d/%d", seed, i), strings.Repeat(fmt.Sprint("block ", i, " "), 40)); err != nil {
			return err
		}
	}
	return d.set("/large", strings.Repeat("a value larger than a block, ", 600))
}

func dirMixed(d *goldenDir) error {
	for seed, codec := range []options.CompressionType{options.None, options.Snappy, options.ZSTD} {
		d.opts = d.opts.WithCompression(codec)
		if err := all(d.open, func() error { return d.mixedKeys(uint64(seed)) }, d.close); err != nil {
			return err
		}
	}
	return nil
}

func dirNoBloom(d *goldenDir) error {
	d.opts = d.opts.WithBloomFalsePositive(0)
	return all(d.open, func() error { return d.mixedKeys(1) })
}

func dirLongKey(d *goldenDir) error {
	long := func(value string) func() error {
		return func() error {
			for _, size := range []int{255, 256, 65000} {
				if err := d.set("/"+strings.Repeat("k", size-1), value); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return all(d.open, long("in a table"), d.reopen, long("in a log"), d.image)
}

func dirThousand(d *goldenDir) error {
	write := func(from, to int) func() error {
		return func() error {
			for i := from; i < to; i++ {
				if err := d.set("/one", fmt.Sprint("version ", i)); err != nil {
					return err
				}
			}
			return errors.Join(d.set("/after", fmt.Sprint(to)), d.set("/before the one", fmt.Sprint(to)))
		}
	}
	return all(d.open, write(1, 500), d.reopen, write(500, 800), d.reopen, write(800, 1001), d.reopen)
}

func dirValues(d *goldenDir) error {
	d.opts = d.opts.WithValueThreshold(1 << 10).WithValueLogMaxEntries(8)
	put := func() error {
		for i := range 3 {
			for _, size := range []int{0, 1, 1023, 1024, 1025, 1500, 3000} {
				key := fmt.Sprintf("/l/%04d/%d", size, i)
				e := badger.NewEntry([]byte(key), randomBytes(uint64(i), key, size)).WithMeta(byte(i))
				if err := d.db.Update(func(txn *badger.Txn) error { return txn.SetEntry(e) }); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return all(
		d.open, put, d.reopen, put,
		func() error { return d.expiring("/expired", longAgo, 0) },
		func() error { return d.set("/l/3000/0", strings.Repeat("long again ", 200)) },
		func() error { return d.remove("/l/3000/1") },
		d.image,
	)
}

func dirMebibyte(d *goldenDir) error {
	d.opts = smallOptions().WithMemTableSize(64 << 20).WithValueLogFileSize(1<<30 - 1).WithValueThreshold(1 << 20)
	for _, size := range []int{1<<20 - 1, 1 << 20, 1<<20 + 1} {
		err := all(d.open, func() error {
			return d.set(fmt.Sprintf("/big/%d", size), string(bytes.Repeat([]byte{7}, size)))
		})
		if err != nil {
			return err
		}
		if err := d.close(); err != nil {
			return err
		}
	}
	return nil
}

func (d *goldenDir) levelZero() error {
	for seed := range 5 {
		if err := all(d.open, func() error { return d.keys(uint64(seed), 50-8*seed, 100) }, d.close); err != nil {
			return err
		}
	}
	return nil
}

// readManifest is MANIFEST as its header and records.
func readManifest(body []byte) (records [][]byte) {
	for at := 8; at+8 <= len(body); {
		size := 8 + int(binary.BigEndian.Uint32(body[at:]))
		if at+size > len(body) {
			break // the last record may be cut
		}
		records = append(records, body[at:at+size])
		at += size
	}
	return records
}

// tables are those that MANIFEST lists, in order of their creation, moved to these levels.
func (d *goldenDir) tables(level ...uint32) (changes []*pb.ManifestChange, err error) {
	body, err := os.ReadFile(filepath.Join(d.target(), "MANIFEST"))
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(body, []byte("Bdgr\x00\x00\x00\x08")) {
		return nil, errors.New("not a MANIFEST of version 8")
	}
	live := map[uint64]*pb.ManifestChange{}
	var order []uint64
	for _, record := range readManifest(body) {
		if crc(record[8:]) != binary.BigEndian.Uint32(record[4:]) {
			return nil, errors.New("a record of MANIFEST has a wrong checksum")
		}
		var set pb.ManifestChangeSet
		if err := proto.Unmarshal(record[8:], &set); err != nil {
			return nil, err
		}
		for _, change := range set.Changes {
			if change.Op == pb.ManifestChange_CREATE {
				live[change.Id] = change
				order = append(order, change.Id)
			} else {
				delete(live, change.Id)
			}
		}
	}
	for _, id := range order {
		if change := live[id]; change != nil {
			if len(level) > len(changes) {
				change.Level = level[len(changes)]
			}
			changes = append(changes, change)
		}
	}
	return changes, nil
}
