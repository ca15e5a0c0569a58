//go:build e || f

package main

import (
	"github.com/evstack/ev-node/pkg/config"
	"github.com/evstack/ev-node/pkg/p2p"
	ds "github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/rs/zerolog"
)

func peersOf(conf config.Config, private crypto.PrivKey, kv ds.Batching, logger zerolog.Logger) (*p2p.Client, error) {
	return p2p.NewClient(conf.P2P, private, kv, chainID, logger, nil)
}
