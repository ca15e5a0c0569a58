// evnode is a sequencer made of the released ev-node: its node, store, sequencer, signer and P2P packages, as they are.
// Ours are only the execution layer, which has nothing to lose, and what is printed.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/evstack/ev-node/node"
	"github.com/evstack/ev-node/pkg/config"
	"github.com/evstack/ev-node/pkg/genesis"
	"github.com/evstack/ev-node/pkg/p2p"
	"github.com/evstack/ev-node/pkg/p2p/key"
	"github.com/evstack/ev-node/pkg/sequencers/single"
	"github.com/evstack/ev-node/pkg/signer/file"
	"github.com/evstack/ev-node/pkg/store"
	"github.com/evstack/ev-node/test/testda"
	"github.com/rs/zerolog"
)

const (
	chainID = "evnode-1"
	// The keys of a test are no secret.
	passphrase = "interop"
)

type flags struct {
	home      string
	name      string
	logLevel  string
	blockTime time.Duration
	daTime    time.Duration
	txs       int
}

func main() {
	var f flags
	flag.StringVar(&f.home, "home", "", "the node's home; an empty one gets a new chain")
	flag.StringVar(&f.name, "name", "testapp", "name of the database, below data")
	flag.StringVar(&f.logLevel, "log", "warn", "level of ev-node's log, on standard error")
	flag.DurationVar(&f.blockTime, "block-time", 20*time.Millisecond, "time between blocks")
	flag.DurationVar(&f.daTime, "da-time", 200*time.Millisecond, "time between blocks of the DA layer")
	flag.IntVar(&f.txs, "txs", 3, "transactions in each look at the mempool")
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

// The files of `config` are made if they are not there, by ev-node's own code.
func identity(home string) (*file.FileSystemSigner, genesis.Genesis, *key.NodeKey, error) {
	none := genesis.Genesis{}
	folder := filepath.Join(home, "config")
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return nil, none, nil, err
	}
	open := file.LoadFileSystemSigner
	if _, err := os.Stat(filepath.Join(folder, "signer.json")); errors.Is(err, os.ErrNotExist) {
		open = file.CreateFileSystemSigner
	}
	// The signer wipes the passphrase that it is given.
	signer, err := open(folder, []byte(passphrase))
	if err != nil {
		return nil, none, nil, fmt.Errorf("the signer: %w", err)
	}
	address, err := signer.GetAddress()
	if err != nil {
		return nil, none, nil, err
	}
	err = genesis.CreateGenesis(home, chainID, 1, address)
	if err != nil && !errors.Is(err, genesis.ErrGenesisExists) {
		return nil, none, nil, err
	}
	chain, err := genesis.LoadGenesis(genesis.GenesisPath(home))
	if err != nil {
		return nil, none, nil, err
	}
	nodeKey, err := key.LoadOrGenNodeKey(folder)
	return signer, chain, nodeKey, err
}

// A port of loopback that was free a moment ago: ev-node does not say which one it got.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func configuration(f flags, rpc string) config.Config {
	conf := config.DefaultConfig()
	conf.RootDir = f.home
	conf.DBPath = "data"
	conf.Node.Aggregator = true
	conf.Node.BlockTime = config.DurationWrapper{Duration: f.blockTime}
	conf.Node.ScrapeInterval = config.DurationWrapper{Duration: f.blockTime}
	conf.DA.Address = "http://127.0.0.1:1" // never called: the DA layer lives in this process
	conf.DA.Namespace = chainID
	conf.DA.BlockTime = config.DurationWrapper{Duration: f.daTime}
	conf.P2P.ListenAddress = "/ip4/127.0.0.1/tcp/0"
	conf.RPC.Address = rpc
	return conf
}

// What a line says of the block at a height; 0 is the tip.
func report(ctx context.Context, blocks store.Store, exec *executor, height uint64) (map[string]any, error) {
	tip, err := blocks.Height(ctx)
	if err != nil {
		return nil, err
	}
	if height == 0 {
		height = tip
	}
	header, err := blocks.GetHeader(ctx, height)
	if err != nil {
		return nil, err
	}
	state, err := blocks.GetStateAtHeight(ctx, height)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"ok": true, "pid": os.Getpid(), "tip": tip, "height": height, "txs": exec.executed(),
		"hash": hex.EncodeToString(header.Hash()), "app_hash": hex.EncodeToString(state.AppHash),
	}, nil
}

func run(f flags) error {
	level, err := zerolog.ParseLevel(f.logLevel)
	if err != nil {
		return err
	}
	zerolog.SetGlobalLevel(level)
	logger := zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, NoColor: true}).With().Timestamp().Logger()
	signer, chain, nodeKey, err := identity(f.home)
	if err != nil {
		return err
	}
	rpc, err := freeAddress()
	if err != nil {
		return err
	}
	conf := configuration(f, rpc)
	if err := conf.Validate(); err != nil {
		return err
	}
	database, err := store.NewDefaultKVStore(f.home, conf.DBPath, f.name)
	if err != nil {
		return fmt.Errorf("the database: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	began, err := store.New(store.NewEvNodeKVStore(database)).Height(ctx)
	if err != nil {
		return errors.Join(err, database.Close())
	}
	exec := newExecutor(chainID, f.txs)
	// The DA layer of this process is new each time; it must not be behind what it said before.
	da := testda.New(testda.WithStartHeight(uint64(time.Now().UnixMilli())))
	defer da.StartHeightTicker(f.daTime)()
	sequencer, err := single.NewSequencer(logger, database, da, conf, []byte(chain.ChainID), 1000, chain, exec)
	if err != nil {
		return errors.Join(err, database.Close())
	}
	peers, err := p2p.NewClient(conf.P2P, nodeKey.PrivKey, database, chain.ChainID, logger, nil)
	if err != nil {
		return errors.Join(err, database.Close())
	}
	metrics := node.DefaultMetricsProvider(conf.Instrumentation)
	made, err := node.NewNode(conf, exec, sequencer, da, signer, peers, chain, database, metrics, logger, node.NodeOptions{})
	if err != nil {
		return errors.Join(err, database.Close())
	}
	full, ok := made.(*node.FullNode)
	if !ok {
		return errors.Join(fmt.Errorf("expected a full node, found %T", made), database.Close())
	}
	running, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- made.Run(running) }() // closes the database
	go func() {
		answer(running, full.Store, exec, rpc, began)
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

// Says when the first new block is there, then answers the lines of standard input; returns at its end.
func answer(ctx context.Context, blocks store.Store, exec *executor, rpc string, began uint64) {
	out := json.NewEncoder(os.Stdout)
	for {
		height, err := blocks.Height(ctx)
		if err == nil && height > began {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	say := func(height uint64, more map[string]any) {
		said, err := report(ctx, blocks, exec, height)
		if err != nil {
			said = map[string]any{"ok": false, "error": err.Error()}
		}
		for name, value := range more {
			said[name] = value
		}
		_ = out.Encode(said)
	}
	say(0, map[string]any{"ready": true, "began": began, "replayed": exec.replayed(began), "rpc": rpc})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var command struct {
			Height uint64 `json:"height"`
		}
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			_ = out.Encode(map[string]any{"ok": false, "error": err.Error()})
			continue
		}
		say(command.Height, nil)
	}
}
