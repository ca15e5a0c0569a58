//go:build e || f

package main

// ev-node v1.1.4 and v1.2.2. What execution returns differs: execute_*.go.

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"time"

	"github.com/evstack/ev-node/core/execution"
	"github.com/evstack/ev-node/core/sequencer"
	"github.com/evstack/ev-node/node"
	"github.com/evstack/ev-node/pkg/config"
	"github.com/evstack/ev-node/pkg/genesis"
	"github.com/evstack/ev-node/pkg/p2p"
	"github.com/evstack/ev-node/pkg/sequencers/single"
	"github.com/evstack/ev-node/pkg/signer"
	"github.com/evstack/ev-node/pkg/signer/noop"
	"github.com/evstack/ev-node/pkg/store"
	"github.com/evstack/ev-node/test/testda"
	ds "github.com/ipfs/go-datastore"
	ktds "github.com/ipfs/go-datastore/keytransform"
	"github.com/libp2p/go-libp2p/core/crypto"
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

func keyOf(word string) (crypto.PrivKey, error) {
	from := seed(word)
	private, _, err := crypto.GenerateEd25519Key(bytes.NewReader(from[:]))
	return private, err
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
	peers, err := p2p.NewClient(conf.P2P, private, kv, chainID, logger, nil)
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
