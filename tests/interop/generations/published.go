//go:build !a

package main

// What is the same since rollkit became ev-node.

import (
	"bytes"
	"context"
	"encoding/hex"

	"github.com/evstack/ev-node/pkg/store"
	ds "github.com/ipfs/go-datastore"
	ktds "github.com/ipfs/go-datastore/keytransform"
	"github.com/libp2p/go-libp2p/core/crypto"
)

func keyOf(word string) (crypto.PrivKey, error) {
	from := seed(word)
	private, _, err := crypto.GenerateEd25519Key(bytes.NewReader(from[:]))
	return private, err
}

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
