// evnode is a node made of the released ev-node: its node, store, sequencer, signer, P2P and DA packages, as they are.
// Ours are only the execution layer and what is printed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

type flags struct {
	home      string
	name      string
	logLevel  string
	blockTime time.Duration
	daTime    time.Duration
	txs       int
	follower  bool
	executor  string
	da        string
	peer      string
	forced    string
	based     bool
	prune     string
	keep      uint64
	pruneTime time.Duration
	catchup   time.Duration
	clear     bool
	backups   bool
}

func main() {
	var f flags
	flag.StringVar(&f.home, "home", "", "the node's home; an empty one gets a new chain")
	flag.StringVar(&f.name, "name", "testapp", "name of the database, below data")
	flag.StringVar(&f.logLevel, "log", "warn", "level of ev-node's log, on standard error")
	flag.DurationVar(&f.blockTime, "block-time", 20*time.Millisecond, "time between blocks")
	flag.DurationVar(&f.daTime, "da-time", 200*time.Millisecond, "time between blocks of the DA layer")
	flag.IntVar(&f.txs, "txs", 3, "transactions in each look at the mempool")
	flag.BoolVar(&f.follower, "follower", false, "a full node that makes no blocks; its home needs the chain's genesis.json")
	flag.StringVar(&f.executor, "executor", "", "name of the execution layer's own database, below data; none: it keeps nothing")
	flag.StringVar(&f.da, "da", "", "URL of the DA layer; none: an aggregator has one within the process, a follower does without")
	flag.StringVar(&f.peer, "peer", "", "P2P address of the node to follow")
	flag.StringVar(&f.forced, "forced", "", "namespace of forced inclusion")
	flag.BoolVar(&f.based, "based", false, "a based sequencer: what --forced has on DA is all there is, and nothing is signed")
	flag.StringVar(&f.prune, "prune", "disabled", "pruning: disabled, all, metadata")
	flag.Uint64Var(&f.keep, "keep", 100, "blocks that pruning keeps")
	flag.DurationVar(&f.pruneTime, "prune-time", time.Second, "time between runs of the pruning")
	flag.DurationVar(&f.catchup, "catchup", 0, "an aggregator first takes over what DA and peers have, for so long")
	flag.BoolVar(&f.clear, "clear-cache", false, "ev-node's flag of that name")
	flag.BoolVar(&f.backups, "backups", false, "also serve the Backup RPC of pull request 2758, on a port of its own")
	flag.Parse()
	if f.home == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(f); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(f flags) error {
	level, err := zerolog.ParseLevel(f.logLevel)
	if err != nil {
		return err
	}
	zerolog.SetGlobalLevel(level)
	logger := zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true}).With().Timestamp().Logger()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	made, err := wire(ctx, f, logger)
	if err != nil {
		return err
	}
	defer made.release()
	running, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- made.node.Run(running) }() // closes the database
	go func() {
		made.answer(running)
		end()
	}()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if running.Err() == nil {
		return errors.New("the node ended by itself")
	}
	return nil
}
