package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// live is a process that writes all the time, in sessions between restarts.
type live struct {
	store    storeFlags
	work     liveWork
	tally    *liveTally
	rate     float64
	deletes  bool
	gc       time.Duration
	hold     time.Duration
	restart  time.Duration
	options  badger.Options
	restarts atomic.Int64
	rewrites atomic.Int64
	commits  atomic.Int64

	turn   sync.Mutex // one change of session at a time
	now    *liveSession
	paused bool // nothing commits, and nothing restarts
}

// liveSession is one time that the database is open.
type liveSession struct {
	*live
	db      *badger.DB
	stop    context.CancelFunc
	ended   context.Context
	running sync.WaitGroup
	gate    sync.RWMutex // held for writing while paused
}

func (l *live) register(fs *flag.FlagSet) (tally, compression *string, table, level *int64, entries *uint) {
	l.store.register(fs, 1)
	tally = fs.String("tally", "", "the side record of begun and acknowledged commits (required)")
	fs.Uint64Var(&l.work.seed, "seed", 1, "for all keys and values")
	fs.IntVar(&l.work.writers, "writers", 4, "goroutines that commit")
	fs.IntVar(&l.work.keys, "keys", 500, "keys that each of them overwrites")
	fs.IntVar(&l.work.large, "large", 12, "one value in so many is above 1100 bytes; 0: none")
	fs.Float64Var(&l.rate, "rate", 2000, "commits a second, of all together; below 0: no pause")
	fs.BoolVar(&l.deletes, "deletes", false, "delete some keys; the model does not know of that")
	fs.DurationVar(&l.gc, "gc", 0, "run value-log GC so often; 0: never")
	fs.DurationVar(&l.hold, "hold", 0, "hold iterators open for about so long; 0: none")
	fs.DurationVar(&l.restart, "restart", 0, "close and open after about so long; 0: never")
	compression = fs.String("compression", "snappy", "none, snappy or zstd")
	table = fs.Int64("table", 64<<10, "BaseTableSize")
	level = fs.Int64("level", 256<<10, "BaseLevelSize")
	entries = fs.Uint("vlog-entries", 400, "entries of a value log")
	return tally, compression, table, level, entries
}

func runLive(fs *flag.FlagSet, args []string) error {
	var l live
	tally, compression, table, level, entries := l.register(fs)
	if err := fs.Parse(args); err != nil {
		return err
	}
	codec, known := map[string]options.CompressionType{"none": options.None, "snappy": options.Snappy, "zstd": options.ZSTD}[*compression]
	if *tally == "" || l.store.dir == "" || !known {
		return errors.New("--dir, --tally and a known --compression are required")
	}
	if l.store.memTable == 0 {
		l.store.memTable = 256 << 10
	}
	if l.store.threshold == 0 {
		l.store.threshold = 1 << 10
	}
	l.options = l.store.options().WithDir(l.store.dir).WithValueDir(l.store.dir).WithLogger(nil).
		WithBaseTableSize(*table).WithBaseLevelSize(*level).WithNumLevelZeroTables(2).WithNumLevelZeroTablesStall(6).
		WithValueLogFileSize(1 << 20).WithValueLogMaxEntries(uint32(*entries)).WithCompression(codec)
	if err := os.MkdirAll(l.store.dir, 0o755); err != nil {
		return err
	}
	var err error
	if l.tally, err = openTally(*tally, l.work.writers); err != nil {
		return err
	}
	if err := l.begin(); err != nil {
		return err
	}
	if err := printJSON(map[string]any{"pid": os.Getpid(), "max_version": l.now.db.MaxVersion()}); err != nil {
		return err
	}
	if l.restart > 0 {
		go l.again()
	}
	l.control(bufio.NewReader(os.Stdin))
	l.turn.Lock()
	if l.paused {
		l.now.stop()
		l.now.gate.Unlock()
	}
	return l.end()
}

// again restarts at random.
func (l *live) again() {
	for {
		time.Sleep(around(l.restart))
		l.turn.Lock()
		if !l.paused {
			l.reopen()
		}
		l.turn.Unlock()
	}
}

func (l *live) reopen() {
	if err := errors.Join(l.end(), l.begin()); err != nil {
		fatal(err)
	}
	l.restarts.Add(1)
}

func around(d time.Duration) time.Duration {
	return time.Duration(float64(d) * min(4, rand.ExpFloat64()))
}

func fatal(err error) {
	fmt.Fprintf(os.Stderr, "error: %v\n", err)
	os.Exit(3)
}

func (l *live) begin() error {
	db, err := opened(func() (*badger.DB, error) { return badger.Open(l.options) })
	if err != nil {
		return err
	}
	s := &liveSession{live: l, db: db}
	s.ended, s.stop = context.WithCancel(context.Background())
	for writer := range l.work.writers {
		n, err := s.reached(writer)
		if err != nil {
			return errors.Join(err, s.db.Close())
		}
		s.loop(func() error { return s.write(writer, n) })
	}
	if l.gc > 0 {
		s.loop(s.collect)
	}
	if l.hold > 0 {
		s.loop(s.iterate)
	}
	l.now = s
	return nil
}

func (l *live) end() error {
	l.now.stop()
	l.now.running.Wait()
	return l.now.db.Close()
}

func (s *liveSession) loop(run func() error) {
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		if err := run(); err != nil {
			fatal(err)
		}
	}()
}

func (s *liveSession) sleep(d time.Duration) (more bool) {
	select {
	case <-s.ended.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// reached is the last commit of a writer that the directory has. Badger must not have lost an acknowledged one.
func (s *liveSession) reached(writer int) (n uint64, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		value, err := get(txn, liveSeqKey(writer))
		if err == nil && value != nil {
			n = binary.LittleEndian.Uint64(value[8*writer:])
		}
		return err
	})
	acked, begun := s.tally.acked(writer), s.tally.begun(writer)
	if err == nil && (n < acked.Load() || n > begun.Load()) {
		err = fmt.Errorf("Badger itself: writer %d: %d commits acknowledged, %d begun, found %d", writer, acked.Load(), begun.Load(), n)
	}
	acked.Store(n)
	begun.Store(n)
	return n, err
}

func (s *liveSession) write(writer int, n uint64) error {
	rng := rand.New(rand.NewPCG(s.work.seed, uint64(writer)))
	start, first := time.Now(), n
	for s.ended.Err() == nil {
		if s.rate >= 0 {
			due := start.Add(time.Duration(float64(n-first) * float64(s.work.writers) / s.rate * float64(time.Second)))
			if wait := time.Until(due); wait > time.Millisecond && !s.sleep(wait) {
				return nil
			} else if wait < -time.Second {
				start, first = time.Now(), n // do not catch up after a pause
			}
		}
		s.gate.RLock()
		err := s.ended.Err()
		if err == nil {
			if err = s.commit(writer, n+1, rng); err == nil {
				n++
			}
		}
		s.gate.RUnlock()
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return nil
}

func (s *liveSession) commit(writer int, n uint64, rng *rand.Rand) error {
	clock := s.tally.clock()
	binary.LittleEndian.PutUint64(clock[8*writer:], n)
	s.tally.begun(writer).Store(n)
	err := s.db.Update(func(txn *badger.Txn) error {
		for _, w := range s.work.writes(writer, n) {
			var err error
			if s.deletes && rng.IntN(4) == 0 {
				err = txn.Delete([]byte(w.key))
			} else {
				err = txn.Set([]byte(w.key), w.value())
			}
			if err != nil {
				return err
			}
		}
		return txn.Set([]byte(liveSeqKey(writer)), clock)
	})
	if err == nil {
		s.tally.acked(writer).Store(n)
		s.commits.Add(1)
	}
	return err
}

func (s *liveSession) collect() error {
	for s.sleep(s.gc) {
		err := s.db.RunValueLogGC(0.05)
		switch {
		case err == nil:
			s.rewrites.Add(1)
		case strings.Contains(err.Error(), "already marked for deletion"): // an iterator holds it
		case strings.Contains(err.Error(), "Unable to find fid"): // it has gone meanwhile
		case !errors.Is(err, badger.ErrNoRewrite) && !errors.Is(err, badger.ErrRejected):
			return err
		}
	}
	return nil
}

// iterate holds an iterator, and with it memtables, tables and value logs that are obsolete meanwhile.
func (s *liveSession) iterate() error {
	for s.sleep(around(s.hold / 4)) {
		err := s.db.View(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.DefaultIteratorOptions)
			defer it.Close()
			until := time.Now().Add(around(s.hold))
			for it.Rewind(); it.Valid() && time.Now().Before(until) && s.sleep(time.Millisecond); it.Next() {
			}
			if wait := time.Until(until); wait > 0 {
				s.sleep(wait)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// control answers each line of standard input with one line until it ends.
func (l *live) control(in *bufio.Reader) {
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 1 {
			var o struct {
				Cmd string `json:"cmd"`
				Now uint64 `json:"now"`
			}
			answer := map[string]any{"ok": true}
			failed := json.Unmarshal(line, &o)
			if failed == nil {
				answer["cmd"] = o.Cmd
				l.turn.Lock()
				failed = l.obey(o.Cmd, o.Now, answer)
				l.turn.Unlock()
			}
			if failed != nil {
				answer["ok"], answer["error"] = false, failed.Error()
			}
			if printJSON(answer) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *live) obey(cmd string, now uint64, answer map[string]any) error {
	switch {
	case cmd == "stats":
	case cmd == "pause" && !l.paused:
		l.now.gate.Lock()
		l.paused = true
	case cmd == "resume" && l.paused:
		l.now.gate.Unlock()
		l.paused = false
	case cmd == "restart" && !l.paused:
		l.reopen()
	case cmd == "flatten":
		return l.now.db.Flatten(2)
	case cmd == "digest":
		r, err := digest(l.now.db, 0, now, false)
		if err != nil {
			return err
		}
		more, err := toMap(r)
		maps.Copy(answer, more)
		return err
	default:
		return fmt.Errorf("no command %q now", cmd)
	}
	maps.Copy(answer, map[string]any{
		"max_version": l.now.db.MaxVersion(), "levels": levels(l.now.db), "commits": l.commits.Load(),
		"restarts": l.restarts.Load(), "rewrites": l.rewrites.Load(),
	})
	return nil
}
