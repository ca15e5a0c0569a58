//go:build b || c

package main

// ev-node v1.0.0-beta.8 and v1.0.0-beta.9, whose packages fit together in the same way.

import (
	"context"
	"errors"
	"os"
	"time"

	coreda "github.com/evstack/ev-node/core/da"
	"github.com/evstack/ev-node/core/sequencer"
	"github.com/evstack/ev-node/node"
	"github.com/evstack/ev-node/pkg/config"
	"github.com/evstack/ev-node/pkg/genesis"
	"github.com/evstack/ev-node/pkg/p2p"
	"github.com/evstack/ev-node/pkg/signer"
	"github.com/evstack/ev-node/pkg/signer/noop"
	"github.com/evstack/ev-node/pkg/store"
	"github.com/rs/zerolog"
)

type execution struct{ *ledger }

func (e execution) InitChain(context.Context, time.Time, uint64, string) ([]byte, uint64, error) {
	return e.genesis(), 1 << 20, nil
}

func (e execution) GetTxs(context.Context) ([][]byte, error) { return nil, nil }

func (e execution) ExecuteTxs(_ context.Context, txs [][]byte, height uint64, _ time.Time, _ []byte) ([]byte, uint64, error) {
	return e.execute(txs, height), 1 << 20, nil
}

func (e execution) SetFinal(context.Context, uint64) error { return nil }

// A sequencer without a queue: the batch is what the mempool has.
type queue struct{ *ledger }

func (q queue) SubmitBatchTxs(context.Context, sequencer.SubmitBatchTxsRequest) (*sequencer.SubmitBatchTxsResponse, error) {
	return &sequencer.SubmitBatchTxsResponse{}, nil
}

func (q queue) GetNextBatch(context.Context, sequencer.GetNextBatchRequest) (*sequencer.GetNextBatchResponse, error) {
	txs := q.pending()
	return &sequencer.GetNextBatchResponse{
		Batch: &sequencer.Batch{Transactions: txs}, Timestamp: time.Now().UTC(), BatchData: txs,
	}, nil
}

func (q queue) VerifyBatch(context.Context, sequencer.VerifyBatchRequest) (*sequencer.VerifyBatchResponse, error) {
	return &sequencer.VerifyBatchResponse{Status: true}, nil
}

type published struct {
	chain genesis.Genesis
	sign  signer.Signer
	da    *coreda.DummyDA
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
	da := coreda.NewDummyDA(1<<20, 0, 0, 4*j.time)
	da.StartHeightTicker()
	return &published{chain: genesis.NewGenesis(chainID, 1, time.Now(), address), sign: sign, da: da}, nil
}

func (p *published) stop() { p.da.StopHeightTicker() }

func (p *published) wire(ctx context.Context, j job, home string, sequences bool) (wired, error) {
	conf := config.DefaultConfig()
	conf.RootDir, conf.DBPath = home, "data"
	conf.Node.Aggregator = sequences
	conf.Node.BlockTime = config.DurationWrapper{Duration: j.time}
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
	peers, err := p2p.NewClient(conf.P2P, private, kv, chainID, logger, p2p.NopMetrics())
	if err != nil {
		return wired{}, err
	}
	l := newLedger()
	var sign signer.Signer
	if sequences {
		sign = p.sign
	}
	metrics := node.DefaultMetricsProvider(conf.Instrumentation)
	made, err := node.NewNode(
		conf, execution{l}, queue{l}, p.da, sign, peers, p.chain, kv, metrics, logger, node.NodeOptions{},
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
