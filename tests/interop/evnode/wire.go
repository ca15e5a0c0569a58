package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/evstack/ev-node/block"
	"github.com/evstack/ev-node/core/sequencer"
	"github.com/evstack/ev-node/node"
	"github.com/evstack/ev-node/pkg/config"
	"github.com/evstack/ev-node/pkg/da/jsonrpc"
	"github.com/evstack/ev-node/pkg/genesis"
	"github.com/evstack/ev-node/pkg/p2p"
	"github.com/evstack/ev-node/pkg/p2p/key"
	"github.com/evstack/ev-node/pkg/sequencers/based"
	"github.com/evstack/ev-node/pkg/sequencers/single"
	"github.com/evstack/ev-node/pkg/signer"
	"github.com/evstack/ev-node/pkg/signer/file"
	"github.com/evstack/ev-node/pkg/store"
	"github.com/evstack/ev-node/test/testda"
	"github.com/evstack/ev-node/types"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/rs/zerolog"
)

const (
	chainID = "evnode-1"
	// The keys of a test are no secret.
	passphrase = "interop"
)

// A node with all that it is made of.
type wired struct {
	node    node.Node
	store   store.Store
	exec    *executor
	da      block.FullDAClient // nil: none
	rpc     string
	p2p     string
	backups string // where the Backup RPC is; none
	began   uint64 // the height that it found
	pending uint64 // the height of the block that was last in production; 0: none
	closers []func()
}

func (w *wired) release() {
	for at := len(w.closers) - 1; at >= 0; at-- {
		w.closers[at]()
	}
}

// Who the node is. The files of `config` are made if they are not there, by ev-node's own code.
type identity struct {
	signer signer.Signer // nil where nothing is signed
	chain  genesis.Genesis
	key    *key.NodeKey
}

func identify(home string, unsigned bool) (identity, error) {
	var me identity
	folder := filepath.Join(home, "config")
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return me, err
	}
	if !unsigned {
		if err := me.sign(home, folder); err != nil {
			return me, fmt.Errorf("the signer: %w", err)
		}
	}
	var err error
	if me.chain, err = genesis.LoadGenesis(genesis.GenesisPath(home)); err != nil {
		return me, err
	}
	me.key, err = key.LoadOrGenNodeKey(folder)
	return me, err
}

func (me *identity) sign(home, folder string) error {
	open := file.LoadFileSystemSigner
	if _, err := os.Stat(filepath.Join(folder, "signer.json")); errors.Is(err, os.ErrNotExist) {
		open = file.CreateFileSystemSigner
	}
	// The signer wipes the passphrase that it is given.
	opened, err := open(folder, []byte(passphrase))
	if err != nil {
		return err
	}
	address, err := opened.GetAddress()
	if err != nil {
		return err
	}
	me.signer = opened
	if err = genesis.CreateGenesis(home, chainID, 1, address); errors.Is(err, genesis.ErrGenesisExists) {
		return nil
	}
	return err
}

// A port of loopback that was free a moment ago: ev-node does not say which one
// it got. It is below those that the system gives out by itself, to whoever
// connects meanwhile.
func freePort() (port int, err error) {
	for range 100 {
		port = 20000 + rand.IntN(10000)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, err
}

func configure(f flags) (config.Config, error) {
	conf := config.DefaultConfig()
	ports := [2]int{}
	for at := range ports {
		port, err := freePort()
		if err != nil {
			return conf, err
		}
		ports[at] = port
	}
	conf.RootDir = f.home
	conf.DBPath = "data"
	conf.ClearCache = f.clear
	conf.Node.Aggregator = !f.follower
	conf.Node.BasedSequencer = f.based
	conf.Node.BlockTime = config.DurationWrapper{Duration: f.blockTime}
	conf.Node.ScrapeInterval = config.DurationWrapper{Duration: f.blockTime}
	conf.Node.CatchupTimeout = config.DurationWrapper{Duration: f.catchup}
	conf.DA.Address = f.da
	if f.da == "" && !f.follower {
		conf.DA.Address = "http://127.0.0.1:1" // never called: the DA layer lives in this process
	}
	conf.DA.Namespace = chainID
	conf.DA.ForcedInclusionNamespace = f.forced
	conf.DA.BlockTime = config.DurationWrapper{Duration: f.daTime}
	conf.DA.RequestTimeout = config.DurationWrapper{Duration: 5 * time.Second}
	conf.P2P.Peers = f.peer
	conf.P2P.ListenAddress = fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", ports[0])
	conf.RPC.Address = fmt.Sprintf("127.0.0.1:%d", ports[1])
	conf.Pruning = config.PruningConfig{
		Mode: f.prune, KeepRecent: f.keep, Interval: config.DurationWrapper{Duration: f.pruneTime},
	}
	return conf, conf.Validate()
}

// The DA layer: ev-node's client of a URL, ev-node's own one in this process, or none.
func (w *wired) layer(ctx context.Context, f flags, conf config.Config, logger zerolog.Logger) (block.FullDAClient, error) {
	if f.da != "" {
		client, err := jsonrpc.NewWSClient(ctx, logger, conf.GetDAAddress(), conf.DA.AuthToken, "")
		if err != nil {
			return nil, fmt.Errorf("the DA layer: %w", err)
		}
		w.closers = append(w.closers, client.Close)
		return block.NewDAClient(client, conf, logger), nil
	}
	if f.follower {
		return nil, nil
	}
	// It is new each time; it must not be behind what it said before.
	within := testda.New(testda.WithStartHeight(uint64(time.Now().UnixMilli())))
	w.closers = append(w.closers, within.StartHeightTicker(f.daTime))
	return within, nil
}

// The execution layer, with a database of its own where it was asked for.
func (w *wired) execution(ctx context.Context, f flags) error {
	var database ds.Batching
	if f.executor != "" {
		opened, err := store.NewDefaultKVStore(f.home, "data", f.executor)
		if err != nil {
			return fmt.Errorf("the database of the execution layer: %w", err)
		}
		w.closers = append(w.closers, func() { _ = opened.Close() })
		database = opened
	}
	var err error
	w.exec, err = newExecutor(ctx, chainID, f.txs, database)
	return err
}

// What orders transactions: ev-node's single sequencer, its based one, or nothing in a follower.
func (w *wired) sequencer(
	ctx context.Context, f flags, conf config.Config, me identity, database ds.Batching, logger zerolog.Logger,
) (sequencer.Sequencer, error) {
	switch {
	case f.follower:
		return nil, nil
	case f.based:
		return based.NewBasedSequencer(ctx, w.da, conf, database, me.chain, logger, w.exec)
	default:
		return single.NewSequencer(logger, database, w.da, conf, []byte(me.chain.ChainID), 1000, me.chain, w.exec)
	}
}

// The height of the block that was last in production, which ev-node makes as it was if it is the next one
// (block/internal/executing keeps the name to itself).
func pendingHeight(ctx context.Context, kept store.Store) (uint64, error) {
	value, err := kept.GetMetadata(ctx, "pending_header")
	if errors.Is(err, ds.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	header := new(types.SignedHeader)
	if err := header.UnmarshalBinary(value); err != nil {
		return 0, fmt.Errorf("the pending header: %w", err)
	}
	return header.Height(), nil
}

// Puts a node together as ev-node's own apps do.
func wire(ctx context.Context, f flags, logger zerolog.Logger) (made *wired, err error) {
	me, err := identify(f.home, f.follower || f.based)
	if err != nil {
		return nil, err
	}
	conf, err := configure(f)
	if err != nil {
		return nil, err
	}
	w := &wired{rpc: conf.RPC.Address}
	database, err := store.NewDefaultKVStore(f.home, conf.DBPath, f.name)
	if err != nil {
		return nil, fmt.Errorf("the database: %w", err)
	}
	defer func() {
		if err != nil {
			w.release()
			err = errors.Join(err, database.Close())
		}
	}()
	kept := store.New(store.NewEvNodeKVStore(database))
	if w.began, err = kept.Height(ctx); err != nil {
		return nil, err
	}
	if w.pending, err = pendingHeight(ctx, kept); err != nil {
		return nil, err
	}
	if err = w.execution(ctx, f); err != nil {
		return nil, err
	}
	if w.da, err = w.layer(ctx, f, conf, logger); err != nil {
		return nil, err
	}
	queue, err := w.sequencer(ctx, f, conf, me, database, logger)
	if err != nil {
		return nil, err
	}
	id, err := peer.IDFromPrivateKey(me.key.PrivKey)
	if err != nil {
		return nil, err
	}
	w.p2p = conf.P2P.ListenAddress + "/p2p/" + id.String()
	peers, err := p2p.NewClient(conf.P2P, me.key.PrivKey, database, me.chain.ChainID, logger, nil)
	if err != nil {
		return nil, err
	}
	metrics := node.DefaultMetricsProvider(conf.Instrumentation)
	w.node, err = node.NewNode(
		conf, w.exec, queue, w.da, me.signer, peers, me.chain, database, metrics, logger, node.NodeOptions{},
	)
	if err != nil {
		return nil, err
	}
	full, ok := w.node.(*node.FullNode)
	if !ok {
		return nil, fmt.Errorf("expected a full node, found %T", w.node)
	}
	w.store = full.Store
	if f.backups {
		w.backups, err = w.serveBackups(database)
	}
	return w, err
}
