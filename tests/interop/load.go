package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// listFlag is a repeated flag.
type listFlag []string

func (l *listFlag) String() string { return strings.Join(*l, ",") }

func (l *listFlag) Set(s string) error {
	*l = append(*l, s)
	return nil
}

func runLoad(fs *flag.FlagSet, args []string) error {
	var f storeFlags
	f.register(fs, 0)
	var in listFlag
	fs.Var(&in, "in", "a segment, oldest first (repeatable, required)")
	now := fs.Uint64("now", 0, "for the digest: unix seconds to judge expiry by; 0: the clock")
	bare := fs.Bool("bare", false, "load and close only, for timing")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if len(in) == 0 {
		return errors.New("--in is required")
	}
	memory := watchMemory()
	start := time.Now()
	ds, err := f.open()
	if err != nil {
		return err
	}
	out := map[string]any{"in": in}
	err = loadAll(ds.DB, in)
	out["load_s"] = time.Since(start).Seconds()
	if err == nil {
		out["max_version"] = ds.DB.MaxVersion()
	}
	// After a failed Load Badger answers no transaction, but it does close.
	err = errors.Join(err, ds.Close())
	out["load_and_close_s"] = time.Since(start).Seconds()
	out["peak_rss_anon_bytes"] = memory()
	if err != nil || *bare {
		return errors.Join(err, printJSON(out))
	}
	return f.with(func(db *badger.DB) error {
		if err := db.VerifyChecksum(); err != nil {
			return fmt.Errorf("verify checksum: %w", err)
		}
		out["checksums_ok"] = true
		out["max_version_reopened"] = db.MaxVersion()
		for name, history := range map[string]bool{"digest": false, "history": true} {
			r, err := digest(db, 0, *now, history)
			if err != nil {
				return err
			}
			out[name] = r
		}
		return printJSON(out)
	})
}

// loadAll is Badger's own Load with the proposal's 16 pending writes.
func loadAll(db *badger.DB, paths []string) error {
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = db.Load(file, 16)
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// watchMemory samples anonymous resident memory until the returned function is
// called, which answers the peak in bytes (0 where /proc is missing).
func watchMemory() func() int64 {
	stop := make(chan struct{})
	var done sync.WaitGroup
	var peak int64
	done.Add(1)
	go func() {
		defer done.Done()
		for {
			peak = max(peak, rssAnon())
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() int64 {
		close(stop)
		done.Wait()
		return peak
	}
}

func rssAnon() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}
