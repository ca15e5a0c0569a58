package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dgraph-io/badger/v4"
)

type goldenCase struct {
	name    string
	shows   string
	options string
	tune    func(badger.Options) badger.Options
	run     func(g *golden) error
}

var goldenCases = []goldenCase{
	{"empty", "an empty database gives a stream of no bytes", "all versions kept", nil, (*golden).single},
	{"vector", "the workload of the format's test vectors: two sets, then a delete", "all versions kept", nil, goldenVector},
	{"versions", "one to six versions of each key, newest first", "all versions kept", nil, goldenVersions},
	{"deletes", "deletes, and keys that came back; nothing below a delete is emitted", "all versions kept", nil, goldenDeletes},
	{"expiry", "expired entries carry no value but keep expires_at and user meta; others expire in 2096", "all versions kept", nil, goldenExpiry},
	{"user-meta", "user meta bytes 0, 1, 127, 128 and 255", "all versions kept", nil, goldenUserMeta},
	{"discard", "discard-earlier makes a synthetic tombstone one version below, without user meta", "all versions kept", nil, goldenDiscard},
	{"merge", "merge operands (0x08), and a stopped operator's result, which discards earlier ones", "all versions kept", nil, goldenMerge},
	{"empty-values", "empty values: the field is absent, the entry is alive", "all versions kept", nil, goldenEmptyValues},
	{"binary-keys", "keys of raw bytes: 00, ff, prefixes of each other, a path-cleaned height", "all versions kept", nil, goldenBinaryKeys},
	{"long-key", "keys of 255 and of 65000 bytes, Badger's limit", "all versions kept", nil, goldenLongKey},
	{"value-log", "values around ValueThreshold 1024: the kept ones show meta 0x02, the value is inline", "all versions kept, value threshold 1024", func(o badger.Options) badger.Options { return o.WithValueThreshold(1 << 10) }, goldenValueLog},
	{"ranges", "at least 8 stream ids and 3 frames, not sorted as a whole", "all versions kept, 512 byte blocks, Stream.MaxSize 2048", func(o badger.Options) badger.Options { return o.WithBlockSize(512) }, goldenRanges},
	{"chain", "blocks: a full backup and two increments, with pruning and queue deletes; nothing wrote meanwhile", "all versions kept", nil, goldenChain},
	{"discard-chain", "an increment whose synthetic tombstone has the version that the increment starts after", "all versions kept", nil, goldenDiscardChain},
	{"purged", "a chain whose deletes were compacted away: loading it resurrects blocks", "all versions kept", nil, goldenPurged},
	{"torn", "a full backup torn under writes: the increment after its last version loses entries, the one after next_since does not", "all versions kept", nil, goldenTorn},
	{"reused", "versions used twice: purged deletes let the counter fall, later commits take numbers of the base", "all versions kept", nil, goldenReused},
}

// step is one transaction.
func (g *golden) step(change func(txn *badger.Txn) error) error { return g.ds.DB.Update(change) }

func (g *golden) set(key, value string) error {
	return g.step(func(txn *badger.Txn) error { return txn.Set([]byte(key), []byte(value)) })
}

func (g *golden) remove(key string) error {
	return g.step(func(txn *badger.Txn) error { return txn.Delete([]byte(key)) })
}

func (g *golden) entry(e *badger.Entry) error {
	return g.step(func(txn *badger.Txn) error { return txn.SetEntry(e) })
}

// all runs steps until one fails.
func all(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func goldenVector(g *golden) error {
	err := g.step(func(txn *badger.Txn) error {
		if err := txn.Set([]byte("/0/t"), le64(1)); err != nil {
			return err
		}
		return txn.SetEntry(badger.NewEntry([]byte("/0/h/1"), []byte("hdr")).WithMeta(9))
	})
	if err != nil {
		return err
	}
	if err := g.remove("/0/h/1"); err != nil {
		return err
	}
	// Two ranges end up in one frame or two, in either order: repeat until the
	// bytes are those that the specification prints.
	for range 2000 {
		g.paper.Segments = g.paper.Segments[:0]
		full, err := g.segment("full", 0, nil)
		if err != nil {
			return err
		}
		if full.Stream.Frames == 1 && full.Stream.Sorted {
			return g.expect(true, "", full)
		}
	}
	return errors.New("the two ranges never came in one frame, in order")
}

func goldenVersions(g *golden) error {
	for round := 1; round <= 6; round++ {
		for key := round; key <= 6; key++ {
			if err := g.set(fmt.Sprintf("/v/%d", key), fmt.Sprintf("value %d of key %d", round, key)); err != nil {
				return err
			}
		}
	}
	return g.single()
}

func goldenDeletes(g *golden) error {
	return all(
		func() error { return g.set("/stays", "1") },
		func() error { return g.set("/goes", "1") },
		func() error { return g.set("/returns", "before") },
		func() error { return g.set("/deleted twice", "1") },
		func() error { return g.remove("/goes") },
		func() error { return g.remove("/returns") },
		func() error { return g.remove("/deleted twice") },
		func() error { return g.remove("/deleted twice") },
		func() error { return g.remove("/never there") },
		func() error { return g.set("/returns", "after") },
		func() error { return g.set("/returns", "and again") },
		g.single,
	)
}

func goldenExpiry(g *golden) error {
	for i, expires := range []uint64{0, longAgo, farFuture, longAgo, farFuture, 1 << 62} {
		key := fmt.Appendf(nil, "/e/%d", i)
		if i >= 3 { // with a version below
			if err := g.set(string(key), "older"); err != nil {
				return err
			}
		}
		e := badger.NewEntry(key, fmt.Appendf(nil, "expires at %d", expires)).WithMeta(byte(i))
		e.ExpiresAt = expires
		if err := g.entry(e); err != nil {
			return err
		}
	}
	return g.single()
}

func goldenUserMeta(g *golden) error {
	for _, meta := range []byte{0, 1, 127, 128, 255} {
		if err := g.entry(badger.NewEntry(fmt.Appendf(nil, "/u/%d", meta), []byte("value")).WithMeta(meta)); err != nil {
			return err
		}
	}
	return g.single()
}

func goldenDiscard(g *golden) error {
	return all(
		func() error { return g.set("/two below", "1") },
		func() error { return g.set("/two below", "2") },
		func() error { return g.entry(badger.NewEntry([]byte("/two below"), []byte("3")).WithDiscard()) },
		func() error { return g.entry(badger.NewEntry([]byte("/none below"), []byte("1")).WithDiscard()) },
		func() error {
			return g.entry(badger.NewEntry([]byte("/one above"), []byte("1")).WithDiscard().WithMeta(7))
		},
		func() error { return g.set("/one above", "2") },
		g.single,
	)
}

func goldenMerge(g *golden) error {
	join := func(old, operand []byte) []byte { return append(bytes.Clone(old), operand...) }
	for _, key := range []string{"/m/open", "/m/stopped"} {
		op := g.ds.DB.GetMergeOperator([]byte(key), join, 24*time.Hour)
		for _, operand := range []string{"a", "b", "c"} {
			if err := op.Add([]byte(operand)); err != nil {
				return err
			}
		}
		if key == "/m/stopped" {
			op.Stop() // merges; the other operator lives as long as the process
		}
	}
	return g.single()
}

func goldenEmptyValues(g *golden) error {
	return all(
		func() error { return g.set("/empty", "") },
		func() error { return g.entry(badger.NewEntry([]byte("/empty, user meta"), nil).WithMeta(5)) },
		func() error { return g.set("/emptied", "full") },
		func() error { return g.set("/emptied", "") },
		func() error { return g.set("/filled", "") },
		func() error { return g.set("/filled", "full") },
		g.single,
	)
}

func goldenBinaryKeys(g *golden) error {
	keys := []string{
		"\x00", "\x00\x00", "\x00\xff", "\x00\x01", "\x01", "\xff", "\xff\xff", "\xff\x00", "a", "a\x00", "a\x00b",
		"a\xff", "ab", "/", "\xff\xff\xff\xff\xff\xff\xff\xff\xff", "!badger", "!badgers",
		execMetaKey(1), execMetaKey(47), execMetaKey(303), execMetaKey(12079),
	}
	for _, key := range keys {
		if err := g.set(key, "1"); err != nil {
			return err
		}
		if err := g.set(key, "2"); err != nil {
			return err
		}
	}
	return g.single()
}

func goldenLongKey(g *golden) error {
	for _, size := range []int{255, 256, 65000} {
		if err := g.set("/"+string(bytes.Repeat([]byte("k"), size-1)), "value"); err != nil {
			return err
		}
	}
	return g.single()
}

func goldenValueLog(g *golden) error {
	for _, size := range []int{0, 1, 1023, 1024, 1025, 3000} {
		key := fmt.Sprintf("/l/%04d", size)
		if err := g.set(key, string(randomBytes(1, key, size))); err != nil {
			return err
		}
	}
	return g.single()
}

func goldenRanges(g *golden) error {
	for i := range 240 {
		key := fmt.Sprintf("/r/%04d", i)
		if err := g.set(key, string(randomBytes(1, key, 90))); err != nil {
			return err
		}
	}
	if err := g.reopen(); err != nil { // blocks of a table are where ranges end
		return err
	}
	for range 200 {
		g.paper.Segments = g.paper.Segments[:0]
		full, err := g.segment("full", 0, func(path string) (uint64, error) {
			file, err := os.Create(path)
			if err != nil {
				return 0, err
			}
			defer file.Close()
			stream := g.ds.DB.NewStream()
			stream.MaxSize = 2048 // frames are cut by size, softly
			return stream.Backup(file, 0)
		})
		if err != nil {
			return err
		}
		if full.Stream.StreamIDs >= 8 && full.Stream.Frames >= 3 && !full.Stream.Sorted {
			return g.expect(true, "", full)
		}
	}
	return errors.New("no stream with 8 stream ids in 3 frames, out of order")
}
