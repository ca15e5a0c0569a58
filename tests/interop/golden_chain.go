package main

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

const goldenSeed = 1

// blocks appends n small blocks.
func (g *golden) blocks(n uint64) error {
	tip, err := readTip(g.ds.DB)
	if err != nil {
		return err
	}
	for i := range n {
		if err := putBlock(g.ds.DB, goldenSeed, tip+1+i, 40); err != nil {
			return err
		}
	}
	return nil
}

func (g *golden) queue(from, to uint64) error {
	for i := from; i < to; i++ {
		if err := g.set(queueKey(queueStart+i), fmt.Sprintf("batch %d", i)); err != nil {
			return err
		}
	}
	return nil
}

func goldenChain(g *golden) error {
	var full, inc1, inc2 *segmentPaper
	return all(
		func() error { return g.blocks(20) },
		func() error { return g.queue(0, 5) },
		func() error { return g.set(daHeightKey, string(le64(15))) },
		func() (err error) { full, err = g.segment("full", 0, nil); return err },
		func() error { return g.blocks(5) },
		func() error { return g.remove(queueKey(queueStart)) },
		func() error { return g.remove(queueKey(queueStart + 1)) },
		func() error { return g.set(daHeightKey, string(le64(20))) },
		func() (err error) { inc1, err = g.segment("inc1", full.Returned, nil); return err },
		func() error { return g.blocks(5) },
		func() error { _, err := prune(g.ds.DB, 1, 10); return err },
		func() error { return g.queue(5, 7) },
		func() (err error) { inc2, err = g.segment("inc2", inc1.Returned, nil); return err },
		func() error { return g.expect(true, "", full) },
		func() error { return g.expect(true, "", full, inc1) },
		func() error { return g.expect(true, "", full, inc1, inc2) },
	)
}

func goldenDiscardChain(g *golden) error {
	var full, inc *segmentPaper
	return all(
		func() error { return g.set("/a", "1") },
		func() error { return g.set("/k", "older") },
		func() (err error) { full, err = g.segment("full", 0, nil); return err },
		func() error { return g.entry(badger.NewEntry([]byte("/k"), []byte("newer")).WithDiscard()) },
		func() (err error) { inc, err = g.segment("inc1", full.Returned, nil); return err },
		func() error {
			return g.expect(true, "the synthetic tombstone shares key and version with the base's entry, and is not equal to it", full, inc)
		},
	)
}

func goldenPurged(g *golden) error {
	var full, inc *segmentPaper
	return all(
		func() error { return g.blocks(12) },
		func() error { return g.queue(0, 3) },
		func() (err error) { full, err = g.segment("full", 0, nil); return err },
		func() error { _, err := prune(g.ds.DB, 1, 6); return err },
		func() error { return g.remove(queueKey(queueStart)) },
		func() error { return g.blocks(2) },
		func() error {
			g.store.keepVersions = 1 // as ev-node has it; with all versions kept nothing is purged
			return g.purge()
		},
		func() (err error) { inc, err = g.segment("inc1", full.Returned, nil); return err },
		func() error {
			if inc.Stream.Deletes != 0 {
				return errors.New("the deletes are still there")
			}
			return g.expect(false, "blocks 1 to 6 and the first queue entry are back", full, inc)
		},
	)
}

func goldenReused(g *golden) error {
	var full, deleted, missed, overlap *segmentPaper
	return all(
		func() error { return g.set("/keep", "1") },
		func() error { return g.set("/x/2", "old") },
		func() error { return g.set("/x/3", "old") },
		func() error { return g.set("/x/4", "old") },
		func() (err error) { full, err = g.segment("full", 0, nil); return err },
		func() error {
			return g.step(func(txn *badger.Txn) error {
				return errors.Join(txn.Delete([]byte("/x/2")), txn.Delete([]byte("/x/3")), txn.Delete([]byte("/x/4")))
			})
		},
		func() (err error) { deleted, err = g.segment("inc1", full.Returned, nil); return err },
		func() error { g.store.keepVersions = 1; return g.purge() },
		func() error {
			if v := g.ds.DB.MaxVersion(); v != 1 {
				return fmt.Errorf("expected the counter to fall to 1, found %d", v)
			}
			return nil
		},
		func() error { return g.set("/x/2", "new") },
		func() error { return g.set("/y", "new") },
		func() (err error) { missed, err = g.segment("inc2-missed", deleted.Returned, nil); return err },
		func() (err error) { overlap, err = g.segment("inc2-overlap", 1, nil); return err },
		func() error {
			return g.expect(false, "the new commits have versions 2 and 3, so nothing was emitted", full, deleted, missed)
		},
		func() error {
			_, err := g.chain("/x/2 at version 2 has two values, and a later delete hides both: a full backup is needed", full, deleted, overlap)
			return err
		},
	)
}

// goldenTorn repeats live backups until one is torn so that its increment loses entries.
func goldenTorn(g *golden) error {
	for range 500 {
		if err := g.fresh(); err != nil {
			return err
		}
		torn, err := tearOnce(g)
		if err != nil || torn {
			return err
		}
	}
	return errors.New("no backup was torn")
}

func tearOnce(g *golden) (torn bool, err error) {
	if err := all(func() error { return g.blocks(60) }, g.reopen); err != nil {
		return false, err
	}
	full, err := g.segment("full", 0, func(path string) (uint64, error) {
		stop, done := make(chan struct{}), make(chan error)
		go func() { done <- writeUntil(g, stop) }()
		version, err := backupTo(g.ds.DB, path, 0)
		close(stop)
		return version, errors.Join(err, <-done)
	})
	if err != nil || full.Announced != 60 {
		return false, err
	}
	if err := g.blocks(2); err != nil {
		return false, err
	}
	lossy, err := g.segment("inc1-lossy", full.Returned, nil)
	if err != nil {
		return false, err
	}
	overlap, err := g.segment("inc1-overlap", full.NextSince, nil)
	if err != nil {
		return false, err
	}
	lost, err := g.chain("since = returned: entries of the torn head are in neither segment", full, lossy)
	if err != nil || lost.EqualsSource {
		return false, err
	}
	whole, err := g.chain("since = next_since: complete; some entries are in both", full, overlap)
	if err == nil && !whole.EqualsSource {
		err = errors.New("the overlapping increment lost entries as well")
	}
	return true, err
}

// writeUntil commits blocks and queue entries without a pause.
func writeUntil(g *golden, stop chan struct{}) error {
	for i := uint64(0); i < 60; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := all(func() error { return g.blocks(1) }, func() error { return g.queue(i, i+1) }); err != nil {
			return err
		}
	}
	return nil
}
