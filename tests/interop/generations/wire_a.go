//go:build a

package main

// rollkit v1.0.0-beta.2, as ev-node was called then.

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"time"

	ds "github.com/ipfs/go-datastore"
	ktds "github.com/ipfs/go-datastore/keytransform"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/crypto"
	coreda "github.com/rollkit/rollkit/core/da"
	"github.com/rollkit/rollkit/core/sequencer"
	"github.com/rollkit/rollkit/node"
	"github.com/rollkit/rollkit/pkg/config"
	"github.com/rollkit/rollkit/pkg/genesis"
	"github.com/rollkit/rollkit/pkg/p2p"
	"github.com/rollkit/rollkit/pkg/p2p/key"
	"github.com/rollkit/rollkit/pkg/signer"
	"github.com/rollkit/rollkit/pkg/signer/noop"
	"github.com/rollkit/rollkit/pkg/store"
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

func keyOf(word string) (crypto.PrivKey, error) {
	from := seed(word)
	private, _, err := crypto.GenerateEd25519Key(bytes.NewReader(from[:]))
	return private, err
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

func (p *published) proposer() string { return hex.EncodeToString(p.chain.ProposerAddress) }

func (p *published) read(ctx context.Context, home string) ([]block, error) {
	kv, err := store.NewDefaultKVStore(home, "data", database)
	if err != nil {
		return nil, err
	}
	defer kv.Close()
	blocks := store.New(ktds.Wrap(kv, ktds.PrefixTransform{Prefix: ds.NewKey("0")}))
	tip, err := blocks.Height(ctx)
	if err != nil {
		return nil, err
	}
	made := make([]block, 0, tip)
	for height := uint64(1); height <= tip; height++ {
		header, data, err := blocks.GetBlockData(ctx, height)
		if err != nil {
			return nil, err
		}
		made = append(made, block{
			Height: height, Time: header.BaseHeader.Time, Txs: len(data.Txs),
			HeaderHash: hex.EncodeToString(header.Hash()), AppHash: hex.EncodeToString(header.AppHash),
			Commitment: hex.EncodeToString(data.DACommitment()), DataHash: hex.EncodeToString(data.Hash()),
		})
	}
	return made, nil
}

func (p *published) wire(ctx context.Context, j job, home string, sequences bool) (wired, error) {
	logging.SetAllLoggers(logging.LevelError)
	conf := config.DefaultConfig
	conf.RootDir, conf.DBPath, conf.ChainID = home, "data", chainID
	conf.Node.Aggregator = sequences
	conf.Node.BlockTime = config.DurationWrapper{Duration: j.time}
	conf.DA.BlockTime = config.DurationWrapper{Duration: 4 * j.time}
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
	logger := logging.Logger("main")
	nodeKey := &key.NodeKey{PrivKey: private, PubKey: private.GetPublic()}
	peers, err := p2p.NewClient(conf, nodeKey, kv, logger, p2p.NopMetrics())
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
		ctx, conf, execution{l}, queue{l}, p.da, sign, peers, p.chain, kv, metrics, logger, node.NodeOptions{},
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
