// generations has one published ev-node, or rollkit as it was called before, make a chain of blocks: its node, store and types
// packages, as they are. Which one, a build tag and a go.mod of its own say; see build.sh.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

const (
	chainID  = "generation"
	database = "testapp"
	patience = 2 * time.Minute
)

// The seed of every key is the word that it is for.
func seed(word string) [32]byte { return sha256.Sum256([]byte("evbackup " + word)) }

type job struct {
	home   string
	follow string // home of a follower that takes over the chain from the DA layer alone; none
	blocks uint64
	time   time.Duration
}

// What the published code says of a block that it made.
type block struct {
	Height     uint64 `json:"height"`
	Time       uint64 `json:"time"` // nanoseconds
	HeaderHash string `json:"header_hash"`
	Commitment string `json:"data_commitment"`
	DataHash   string `json:"data_hash"`
	AppHash    string `json:"app_hash"` // of the header: before the block
	Txs        int    `json:"txs"`
}

// An execution layer whose state is a hash over all that was executed; each node has its own. Every third look at the mempool finds
// transactions.
type ledger struct {
	mutex sync.Mutex
	roots map[uint64][]byte // after each block
	made  uint64
}

func newLedger() *ledger { return &ledger{roots: map[uint64][]byte{}} }

func (l *ledger) genesis() []byte {
	root := seed(chainID)
	return root[:]
}

// What the mempool has.
func (l *ledger) pending() [][]byte {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.made++
	if l.made%3 != 0 {
		return nil
	}
	return [][]byte{fmt.Appendf(nil, "a%d=1", l.made), fmt.Appendf(nil, "b%d=2", l.made)}
}

// The state after a block follows from its own state before it, as in a real one, not from what the node says that this is: a follower
// of v1.0.0-beta.8 says something else at the first block.
func (l *ledger) execute(txs [][]byte, height uint64) []byte {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	before, found := l.roots[height-1]
	if !found {
		before = l.genesis()
	}
	sum := sha256.New()
	sum.Write(before)
	sum.Write(binary.BigEndian.AppendUint64(nil, height))
	for _, tx := range txs {
		sum.Write(tx)
	}
	l.roots[height] = sum.Sum(nil)
	return l.roots[height]
}

// Waits until a height is reached.
func reaches(ctx context.Context, ended <-chan error, height func() (uint64, error), target uint64) error {
	deadline := time.After(patience)
	for {
		if found, err := height(); err == nil && found >= target {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the node ended by itself: %w", err)
		case <-deadline:
			return fmt.Errorf("height %d was not reached", target)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// The versions of the modules whose code wrote the database.
func modules() map[string]string {
	found := map[string]string{}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return found
	}
	for _, module := range info.Deps {
		for _, name := range []string{"ev-node", "rollkit", "badger", "go-header"} {
			if strings.Contains(module.Path, name) {
				found[module.Path] = module.Version
				if module.Replace != nil {
					found[module.Path] = module.Replace.Path + " " + module.Replace.Version
				}
			}
		}
	}
	found["go"] = info.GoVersion
	return found
}

func main() {
	var j job
	flag.StringVar(&j.home, "home", "", "home of the sequencer; must not be there")
	flag.StringVar(&j.follow, "follow", "", "home of a follower that has nothing but the DA layer")
	flag.Uint64Var(&j.blocks, "blocks", 12, "blocks to make")
	flag.DurationVar(&j.time, "block-time", 50*time.Millisecond, "time between blocks")
	flag.Parse()
	if j.home == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(j); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// A node that was put together: how it runs, and how far its store is.
type wired struct {
	run    func(context.Context) error
	height func() (uint64, error)
}

// One published ev-node, with a DA layer of its own in this process. Each wire_*.go has one.
type generation interface {
	// A node in a home: the sequencer, or a follower.
	wire(ctx context.Context, j job, home string, sequences bool) (wired, error)
	// The blocks of a home whose node has ended.
	read(ctx context.Context, home string) ([]block, error)
	proposer() string // hex
	stop()
}

func run(j job) error {
	for _, home := range []string{j.home, j.follow} {
		if home == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Join(home, "config"), 0o750); err != nil {
			return err
		}
	}
	made, err := newGeneration(j)
	if err != nil {
		return err
	}
	defer made.stop()
	if err := produce(context.Background(), j, made); err != nil {
		return err
	}
	paper := map[string]any{"modules": modules(), "chain_id": chainID, "proposer": made.proposer()}
	if paper["blocks"], err = made.read(context.Background(), j.home); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(paper)
}

// Runs the sequencer, and the follower beside it if there is one, until each has its blocks.
func produce(ctx context.Context, j job, made generation) error {
	ctx, end := context.WithCancel(ctx)
	var ends []chan error
	defer func() {
		end()
		for _, ended := range ends {
			<-ended
		}
	}()
	for at, home := range []string{j.home, j.follow} {
		if home == "" {
			continue
		}
		node, err := made.wire(ctx, j, home, at == 0)
		if err != nil {
			return err
		}
		ended := make(chan error, 2)
		go func() {
			err := node.run(ctx)
			ended <- err
			ended <- err
		}()
		ends = append(ends, ended)
		if err := reaches(ctx, ended, node.height, j.blocks); err != nil {
			return err
		}
	}
	return nil
}
