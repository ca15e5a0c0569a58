//go:build c1 || e || f

package main

// ev-node v1.0.0-rc.1, v1.1.4 and v1.2.2. What execution returns and what a node has of its peers differ: execute_*.go, peers_*.go.

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/evstack/ev-node/core/execution"
	"github.com/evstack/ev-node/core/sequencer"
	"github.com/evstack/ev-node/node"
	"github.com/evstack/ev-node/pkg/config"
	"github.com/evstack/ev-node/pkg/genesis"
	"github.com/evstack/ev-node/pkg/sequencers/single"
	"github.com/evstack/ev-node/pkg/signer"
	"github.com/evstack/ev-node/pkg/signer/noop"
	"github.com/evstack/ev-node/pkg/store"
	"github.com/evstack/ev-node/test/testda"
	"github.com/rs/zerolog"
)

type layer struct{ *ledger }

func (e layer) InitChain(context.Context, time.Time, uint64, string) ([]byte, error) {
	return e.genesis(), nil
}

func (e layer) GetTxs(context.Context) ([][]byte, error) { return e.pending(), nil }

func (e layer) SetFinal(context.Context, uint64) error { return nil }

func (e layer) GetExecutionInfo(context.Context) (execution.ExecutionInfo, error) {
	return execution.ExecutionInfo{}, nil
}

func (e layer) FilterTxs(_ context.Context, txs [][]byte, _, _ uint64, _ bool) ([]execution.FilterStatus, error) {
	return make([]execution.FilterStatus, len(txs)), nil // FilterOK
}

type published struct {
	chain genesis.Genesis
	sign  signer.Signer
	da    *testda.DummyDA
	end   func()
}

var _ generation = (*published)(nil)

func newGeneration(j job) (*published, error) {
	private, err := keyOf("sequencer")
	if err != nil {
		return nil, err
	}
	sign, err := noop.NewNoopSigner(private)
	if err != nil {
		return nil, err
	}
	address, err := sign.GetAddress()
	if err != nil {
		return nil, err
	}
	da := testda.New(testda.WithStartHeight(1))
	chain := genesis.NewGenesis(chainID, 1, time.Now(), address)
	return &published{chain: chain, sign: sign, da: da, end: da.StartHeightTicker(4 * j.time)}, nil
}

func (p *published) stop() { p.end() }

func (p *published) wire(ctx context.Context, j job, home string, sequences bool) (wired, error) {
	conf := config.DefaultConfig()
	conf.RootDir, conf.DBPath = home, "data"
	conf.Node.Aggregator = sequences
	conf.Node.BlockTime = config.DurationWrapper{Duration: j.time}
	conf.Node.ScrapeInterval = config.DurationWrapper{Duration: j.time}
	conf.DA.Address = "http://127.0.0.1:1" // never called: the DA layer lives in this process
	conf.DA.BlockTime = config.DurationWrapper{Duration: 4 * j.time}
	conf.DA.Namespace = chainID
	conf.P2P.ListenAddress = "/ip4/127.0.0.1/tcp/0"
	conf.RPC.Address = "127.0.0.1:0"
	private, err := keyOf(home)
	if err != nil {
		return wired{}, err
	}
	kv, err := store.NewDefaultKVStore(home, conf.DBPath, database)
	if err != nil {
		return wired{}, err
	}
	logger := zerolog.New(os.Stderr).Level(zerolog.ErrorLevel)
	peers, err := peersOf(conf, private, kv, logger)
	if err != nil {
		return wired{}, err
	}
	l := newLedger()
	var sign signer.Signer
	var queue sequencer.Sequencer
	if sequences {
		sign = p.sign
		if queue, err = single.NewSequencer(logger, kv, p.da, conf, []byte(chainID), 1000, p.chain, layer{l}); err != nil {
			return wired{}, err
		}
	}
	metrics := node.DefaultMetricsProvider(conf.Instrumentation)
	made, err := node.NewNode(
		conf, layer{l}, queue, p.da, sign, peers, p.chain, kv, metrics, logger, node.NodeOptions{},
	)
	if err != nil {
		return wired{}, err
	}
	full, ok := made.(*node.FullNode)
	if !ok {
		return wired{}, errors.New("this is no full node")
	}
	return wired{made.Run, func() (uint64, error) { return full.Store.Height(ctx) }}, nil
}
