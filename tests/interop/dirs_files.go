package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"google.golang.org/protobuf/proto"
)

// Cases that are about files: levels, value logs, several logs, damage, what is refused.

// finish closes and copies, so that a case can change the files.
func (d *goldenDir) finish() error { return errors.Join(d.close(), d.copy()) }

// await polls for what Badger does in the background.
func await(what string, done func() bool) error {
	for range 600 {
		if done() {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("waited 30 s for %s", what)
}

// tinyOptions flush and compact after a few kilobytes.
func tinyOptions() badger.Options {
	return smallOptions().WithMemTableSize(64 << 10).WithBaseTableSize(16 << 10).WithBaseLevelSize(16 << 10).
		WithLevelSizeMultiplier(2).WithValueThreshold(1 << 10).WithNumLevelZeroTables(1).WithNumLevelZeroTablesStall(10)
}

// No deletes: Badger brings some back when it compacts these levels further.
func dirLevels(d *goldenDir) error {
	d.opts = tinyOptions().WithNumCompactors(2).WithNumVersionsToKeep(1)
	if err := d.open(); err != nil {
		return err
	}
	for seed := range uint64(80) {
		if err := d.keys(seed, 700+5*int(seed), 90); err != nil {
			return err
		}
		if seed >= 2 && len(levels(d.db)) >= 4 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("expected tables on four levels, found %v", levels(d.db))
}

// dirCollected overwrites values, compacts, and lets the GC move what is left.
func dirCollected(live bool) func(d *goldenDir) error {
	return func(d *goldenDir) error {
		d.opts = tinyOptions().WithNumCompactors(2).WithNumVersionsToKeep(1).WithValueLogMaxEntries(16)
		put := func(seed uint64, step int) func() error {
			return func() error {
				for i := 0; i < 64; i += step {
					if err := d.set(fmt.Sprintf("/v/%03d", i), strings.Repeat(fmt.Sprint(seed, " is value ", i, ", "), 100)); err != nil {
						return err
					}
				}
				return nil
			}
		}
		err := all(d.open, put(1, 1), put(2, 3), d.reopen, put(3, 2), d.reopen, func() error { return d.db.Flatten(2) })
		if err != nil {
			return err
		}
		err = await("compaction", func() bool { return levels(d.db)["0"] == 0 })
		if err != nil {
			return err
		}
		collected := 0
		for ; collected < 20 && err == nil; collected++ {
			err = d.db.RunValueLogGC(0.1)
		}
		if !errors.Is(err, badger.ErrNoRewrite) || collected < 2 {
			return fmt.Errorf("value-log GC: expected a rewrite and then none, found %w after %d", err, collected)
		}
		if live {
			return d.image()
		}
		return nil
	}
}

// linger fills three memtables while iterators keep their files.
func (d *goldenDir) linger(visit func() error) error {
	d.opts = tinyOptions()
	if err := d.open(); err != nil {
		return err
	}
	for seed := range uint64(4) {
		txn := d.db.NewTransaction(false)
		defer txn.Discard()
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		if err := d.keys(seed, 120, 400); err != nil {
			return err
		}
		if err := d.set(fmt.Sprint("/round/", seed), "done"); err != nil {
			return err
		}
	}
	err := await("three tables", func() bool { return len(d.db.Tables()) >= 3 })
	if err != nil {
		return err
	}
	if found, err := filepath.Glob(filepath.Join(d.work, "*.mem")); err != nil || len(found) < 3 {
		return fmt.Errorf("expected three .mem files, found %v: %w", found, err)
	}
	return visit()
}

func dirLingering(d *goldenDir) error { return d.linger(d.image) }

// dirLogs is a crash before the first table was listed.
func dirLogs(d *goldenDir) error {
	return d.linger(func() error {
		return all(d.image, func() error { return d.drop("*.sst") }, func() error { return d.writeManifest(nil) })
	})
}

func (d *goldenDir) drop(pattern string) error {
	paths, err := filepath.Glob(filepath.Join(d.target(), pattern))
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	if len(paths) == 0 {
		err = errors.Join(err, fmt.Errorf("found no %s", pattern))
	}
	return err
}

// loadInto takes these entries over as Badger's Load does.
func (d *goldenDir) loadInto(list *pb.KVList) error {
	body, err := proto.Marshal(list)
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(d.work), d.paper.Case+".stream")
	frame := append(binary.LittleEndian.AppendUint64(nil, uint64(len(body))), body...)
	if err := os.WriteFile(path, frame, 0o644); err != nil {
		return err
	}
	defer os.Remove(path)
	return loadAll(d.db, []string{path})
}

func dirLoaded(d *goldenDir) error {
	list := &pb.KVList{}
	for i := range 40 {
		for version := uint64(9); version >= 7; version-- {
			list.Kv = append(list.Kv, &pb.KV{
				Key: fmt.Appendf(nil, "/loaded/%02d", i), Value: fmt.Appendf(nil, "value %d at %d", i, version),
				Version: version + uint64(i), Meta: []byte{0}, UserMeta: []byte{byte(i)},
			})
		}
	}
	list.Kv = append(list.Kv, &pb.KV{Key: []byte("/loaded/05"), Version: 100, Meta: []byte{1}})
	return all(
		d.open,
		func() error { return d.set("/own", "before") },
		func() error { return d.loadInto(list) },
		func() error { return d.set("/own", "after") },
		d.image,
	)
}

func dirInverted(d *goldenDir) error {
	return all(
		d.open, func() error { return d.keys(1, 60, 120) }, d.reopen, func() error { return d.keys(2, 40, 120) },
		func() error { return d.remove("/k/0050") }, d.finish,
		func() error {
			tables, err := d.tables(5, 6) // the first and older one above
			if err == nil {
				err = d.writeManifest(tables)
			}
			return err
		},
	)
}

// twice writes the same keys at the same versions into two tables, with values in two value logs.
func (d *goldenDir) twice() error {
	list := &pb.KVList{}
	for i := range 30 {
		key := fmt.Sprintf("/twice/%02d", i)
		list.Kv = append(list.Kv, &pb.KV{
			Key: []byte(key), Value: randomBytes(1, key, 600+40*i), Version: uint64(i + 1), Meta: []byte{0}, UserMeta: []byte{0},
		})
	}
	load := func() error { return d.loadInto(list) }
	return all(d.open, load, d.reopen, load, d.finish)
}

func dirDuplicates(d *goldenDir) error { return d.twice() }

func dirAlternates(d *goldenDir) error {
	d.opts = d.opts.WithValueThreshold(1 << 10)
	return all(d.twice, d.judgeNow, func() error { return d.drop("000002.vlog") }, func() error {
		d.paper.Note = "Badger's view is of the directory with its value log 2: it does not look at the older copy"
		return nil
	})
}

// judgeNow lets Badger be asked about the directory as it is now, before it is damaged.
func (d *goldenDir) judgeNow() error {
	d.judge = filepath.Join(filepath.Dir(d.work), d.paper.Case+".judge")
	return errors.Join(os.MkdirAll(d.judge, 0o755), copyFiles(d.target(), d.judge))
}

// superseded writes values of a value log each, the second run over part of the first.
func (d *goldenDir) superseded(second int) error {
	d.opts = d.opts.WithValueThreshold(1 << 10)
	return all(
		d.open, func() error { return d.keys(1, 30, 1200) },
		d.reopen, func() error { return d.keys(2, second, 1300) },
		d.finish,
	)
}

func dirDangling(d *goldenDir) error {
	return all(func() error { return d.superseded(30) }, func() error { return d.drop("000001.vlog") })
}

func dirMissingValue(d *goldenDir) error {
	return all(func() error { return d.superseded(20) }, func() error { return d.drop("000001.vlog") })
}

func dirMissingTable(d *goldenDir) error {
	return all(d.levelZero, d.finish, func() error { return d.drop("000002.sst") })
}

func dirBanned(d *goldenDir) error {
	d.opts = d.opts.WithNamespaceOffset(3)
	for namespace := range uint64(4) {
		put := func() error {
			for i := range 5 {
				key := "ns/" + string(be64(namespace)) + fmt.Sprint("/", i)
				if err := d.set(key, fmt.Sprint("value ", i)); err != nil {
					return err
				}
			}
			return nil
		}
		if err := all(d.openOnce, put); err != nil {
			return err
		}
	}
	return all(func() error { return d.db.BanNamespace(2) }, d.reopen, func() error { return d.db.BanNamespace(3) }, d.image)
}

func (d *goldenDir) openOnce() error {
	if d.db != nil {
		return nil
	}
	return d.open()
}

func dirInternal(d *goldenDir) error {
	list := &pb.KVList{}
	for i, key := range []string{"!badger!", "!badger!head", "!badger!txn", "!badger!zzz", "!badges", "!badge"} {
		list.Kv = append(list.Kv, &pb.KV{Key: []byte(key), Value: []byte("value"), Version: uint64(20 + i), Meta: []byte{0}, UserMeta: []byte{0}})
	}
	list.Kv = append(list.Kv, &pb.KV{Key: []byte("!badger!last"), Value: []byte("value"), Version: 99, Meta: []byte{0}, UserMeta: []byte{0}})
	return all(d.open, func() error { return d.keys(1, 20, 50) }, func() error { return d.loadInto(list) })
}

func encrypted(o badger.Options) badger.Options {
	return o.WithEncryptionKey([]byte("sixteen byte key")).WithIndexCacheSize(10 << 20)
}

func (d *goldenDir) secret() error {
	d.opts, d.read = encrypted(d.opts), encrypted
	return all(d.open, func() error { return d.keys(1, 30, 100) })
}

func dirEncrypted(d *goldenDir) error {
	return all(d.secret, d.reopen, func() error { return d.keys(2, 10, 100) })
}
func dirEncryptedLive(d *goldenDir) error { return all(d.secret, d.image) }

func dirRewritten(d *goldenDir) error {
	return all(d.levelZero, d.finish, func() error {
		tables, err := d.tables()
		if err == nil {
			err = d.writeManifest(tables)
		}
		return err
	})
}

func dirTornManifest(d *goldenDir) error {
	return all(d.levelZero, d.finish, func() error {
		return d.edit("MANIFEST", func(body []byte) []byte { return body[:len(body)-1] })
	})
}

func dirBadManifest(d *goldenDir) error {
	return all(d.levelZero, d.finish, func() error {
		return d.edit("MANIFEST", func(body []byte) []byte {
			records := readManifest(body)
			records[2][8] ^= 1 // points into body
			return body
		})
	})
}

func dirLeftovers(d *goldenDir) error {
	return all(d.levelZero, d.finish, func() error {
		table, err := os.ReadFile(filepath.Join(d.target(), "000005.sst"))
		if err != nil {
			return err
		}
		tables, err := d.tables()
		if err != nil {
			return err
		}
		write := func(name string, body []byte) error {
			return os.WriteFile(filepath.Join(d.target(), name), body, 0o644)
		}
		// The newest table is not listed, as after a crash between writing and listing it.
		return errors.Join(
			d.writeManifest(tables[:4]),
			write("000009.sst", table[:len(table)/2]),
			write("MANIFEST-REWRITE", []byte("Bdgr\x00\x00\x00\x08half a rec")),
			write("REWRITE-KEYREGISTRY", []byte("half")),
			write("LOCK", []byte("12345\n")),
		)
	})
}

func dirVersion(version byte) func(d *goldenDir) error {
	return func(d *goldenDir) error {
		return all(d.vector, d.finish, func() error {
			return d.edit("MANIFEST", func(body []byte) []byte {
				body[7] = version
				return body
			})
		})
	}
}

func dirMagic(d *goldenDir) error {
	d.opts = d.opts.WithExternalMagic(7)
	d.read = func(o badger.Options) badger.Options { return o.WithExternalMagic(7) }
	return d.vector()
}

// logRecord is where an entry of a log lies.
type logRecord struct {
	at, end int
	meta    byte
}

// logRecords walks the log of a memtable, whose end is the first empty key.
func logRecords(body []byte) (records []logRecord) {
	for at := 20; at+5 < len(body); {
		head := at + 2
		var lengths [3]uint64 // of key and value, and expiry
		for i := range lengths {
			n, size := binary.Uvarint(body[head:])
			lengths[i], head = n, head+size
		}
		if lengths[0] == 0 {
			break
		}
		end := head + int(lengths[0]+lengths[1]) + 4
		records = append(records, logRecord{at, end, body[at]})
		at = end
	}
	return records
}

const metaFinTxn = 0x80

// dirTorn damages the log of a memtable whose last transaction has three keys.
func dirTorn(damage func(body []byte, records []logRecord) []byte) func(d *goldenDir) error {
	return func(d *goldenDir) error {
		return all(
			d.open, func() error { return d.keys(1, 20, 40) }, d.reopen,
			func() error { return d.keys(2, 14, 40) },
			func() error { return d.set("/before the last", "1") },
			func() error {
				return d.db.Update(func(txn *badger.Txn) error {
					return errors.Join(
						txn.Set([]byte("/k/0000"), []byte("of the last")), txn.Set([]byte("/last"), []byte("1")),
						txn.Delete([]byte("/k/0001")),
					)
				})
			},
			d.image,
			func() error {
				paths, err := filepath.Glob(filepath.Join(d.target(), "*.mem"))
				if err != nil || len(paths) != 1 {
					return fmt.Errorf("expected one .mem file, found %v: %w", paths, err)
				}
				name := filepath.Base(paths[0])
				var clean []byte
				err = d.edit(name, func(body []byte) []byte {
					records := logRecords(body)
					last := records[len(records)-5].end // behind the transaction before
					clean = append(append([]byte{}, body[:last]...), make([]byte, slack)...)
					return damage(body, records)
				})
				if err != nil {
					return err
				}
				if d.paper.Case == "badger-torn-varint" {
					return errors.Join(d.judgeNow(), os.WriteFile(filepath.Join(d.judge, name), clean, 0o644))
				}
				return nil
			},
		)
	}
}

func tornCut(body []byte, records []logRecord) []byte {
	return body[:records[len(records)-3].end-3]
}

func tornMarker(body []byte, records []logRecord) []byte {
	marker := records[len(records)-1]
	if marker.meta != metaFinTxn {
		panic("the last record of the log is no end marker")
	}
	return append(body[:marker.at], make([]byte, slack)...)
}

func tornFlip(body []byte, records []logRecord) []byte {
	body[records[len(records)-2].end-6] ^= 0x10
	return body
}

func tornMiddle(body []byte, records []logRecord) []byte {
	body[records[len(records)/2].end-6] ^= 0x10
	return body
}

func tornVarint(body []byte, records []logRecord) []byte {
	at := records[len(records)-4].at
	body = append(body[:at], 0x40, 0x00)
	for range 16 {
		body = append(body, 0xff)
	}
	return append(body, make([]byte, slack)...)
}

func dirZeroLength(d *goldenDir) error {
	return all(
		d.open, func() error { return d.keys(1, 20, 40) }, d.reopen, func() error { return d.keys(2, 10, 40) }, d.image,
		func() error {
			return errors.Join(
				os.WriteFile(filepath.Join(d.target(), "00007.mem"), nil, 0o644),
				os.WriteFile(filepath.Join(d.target(), "000007.vlog"), nil, 0o644),
			)
		},
	)
}
