//go:build c1

package main

import (
	"github.com/evstack/ev-node/pkg/config"
	"github.com/evstack/ev-node/pkg/p2p/key"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/rs/zerolog"
)

func peersOf(_ config.Config, private crypto.PrivKey, _ ds.Batching, _ zerolog.Logger) (*key.NodeKey, error) {
	return &key.NodeKey{PrivKey: private, PubKey: private.GetPublic()}, nil
}
