package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of an ev-node of today, in its canonical encoding: ascending
// fields, zero values left out.

type nodeHeader struct {
	height, time       uint64
	last, data, app    []byte
	proposer           []byte
	chain              string
	signature, address []byte // of the signed header
	public             []byte
}

type nodeData struct {
	chain        string
	height, time uint64
	last         []byte
	txs          [][]byte
}

type nodeState struct {
	chain           string
	initial, height uint64
	time            uint64 // ns
	da              uint64
	app, last, next []byte
}

func putBytes(out []byte, field protowire.Number, value []byte) []byte {
	if len(value) == 0 {
		return out
	}
	return putAlways(out, field, value)
}

func putAlways(out []byte, field protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), value)
}

func putNumber(out []byte, field protowire.Number, value uint64) []byte {
	if value == 0 {
		return out
	}
	return protowire.AppendVarint(protowire.AppendTag(out, field, protowire.VarintType), value)
}

// payload is what is hashed and signed.
func (h *nodeHeader) payload() []byte {
	out := putAlways(nil, 1, nil) // version 0/0
	out = putNumber(out, 2, h.height)
	out = putNumber(out, 3, h.time)
	out = putBytes(out, 4, h.last)
	out = putBytes(out, 6, h.data)
	out = putBytes(out, 8, h.app)
	out = putBytes(out, 10, h.proposer)
	return putBytes(out, 12, []byte(h.chain))
}

func (h *nodeHeader) hash() []byte {
	sum := sha256.Sum256(h.payload())
	return sum[:]
}

// sign fills in signature and signer.
func (h *nodeHeader) sign(key ed25519.PrivateKey) {
	h.public = key.Public().(ed25519.PublicKey)
	h.address = address(h.public)
	h.signature = ed25519.Sign(key, h.payload())
}

func address(public []byte) []byte {
	sum := sha256.Sum256(public)
	return sum[:]
}

// libp2pKey is libp2p's marshalled Ed25519 key without its 32 bytes.
var libp2pKey = []byte{8, 1, 18, 32}

func (h *nodeHeader) blob() []byte {
	signer := putBytes(nil, 1, h.address)
	signer = putBytes(signer, 2, append(bytes.Clone(libp2pKey), h.public...))
	out := putAlways(nil, 1, h.payload())
	out = putBytes(out, 2, h.signature)
	return putAlways(out, 3, signer)
}

func (d *nodeData) transactions(out []byte) []byte {
	for _, tx := range d.txs {
		out = putAlways(out, 2, tx)
	}
	return out
}

func (d *nodeData) blob() []byte {
	meta := putBytes(nil, 1, []byte(d.chain))
	meta = putNumber(meta, 2, d.height)
	meta = putNumber(meta, 3, d.time)
	meta = putBytes(meta, 4, d.last)
	return d.transactions(putAlways(nil, 1, meta))
}

func leafHash(body []byte) []byte {
	sum := sha256.Sum256(append([]byte{0}, body...))
	return sum[:]
}

func (d *nodeData) commitment() []byte { return leafHash(d.transactions(nil)) }
func (d *nodeData) hash() []byte       { return leafHash(d.blob()) }

func (s *nodeState) blob() []byte {
	at := putNumber(putNumber(nil, 1, s.time/1e9), 2, s.time%1e9)
	out := putAlways(nil, 1, nil)
	out = putBytes(out, 2, []byte(s.chain))
	out = putNumber(out, 3, s.initial)
	out = putNumber(out, 4, s.height)
	out = putAlways(out, 5, at)
	out = putNumber(out, 6, s.da)
	out = putBytes(out, 8, s.app)
	out = putBytes(out, 9, s.last)
	return putBytes(out, 10, s.next)
}

func decodeHeader(blob []byte) (*nodeHeader, error) {
	var h nodeHeader
	err := fields(blob, func(num protowire.Number, _ protowire.Type, raw []byte, _ uint64) error {
		switch num {
		case 1:
			return fields(raw, func(num protowire.Number, _ protowire.Type, raw []byte, n uint64) error {
				switch num {
				case 2:
					h.height = n
				case 3:
					h.time = n
				case 4:
					h.last = raw
				case 6:
					h.data = raw
				case 8:
					h.app = raw
				case 10:
					h.proposer = raw
				case 12:
					h.chain = string(raw)
				}
				return nil
			})
		case 2:
			h.signature = raw
		case 3:
			return fields(raw, func(num protowire.Number, _ protowire.Type, raw []byte, _ uint64) error {
				switch num {
				case 1:
					h.address = raw
				case 2:
					h.public = bytes.TrimPrefix(raw, libp2pKey)
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && !bytes.Equal(h.blob(), blob) {
		err = errors.New("a header that is not in canonical encoding")
	}
	return &h, err
}

func decodeData(blob []byte) (*nodeData, error) {
	var d nodeData
	err := fields(blob, func(num protowire.Number, _ protowire.Type, raw []byte, _ uint64) error {
		if num == 2 {
			d.txs = append(d.txs, raw)
			return nil
		}
		return fields(raw, func(num protowire.Number, _ protowire.Type, raw []byte, n uint64) error {
			switch num {
			case 1:
				d.chain = string(raw)
			case 2:
				d.height = n
			case 3:
				d.time = n
			case 4:
				d.last = raw
			}
			return nil
		})
	})
	if err == nil && !bytes.Equal(d.blob(), blob) {
		err = errors.New("data that is not in canonical encoding")
	}
	return &d, err
}

func decodeState(blob []byte) (*nodeState, error) {
	var s nodeState
	err := fields(blob, func(num protowire.Number, _ protowire.Type, raw []byte, n uint64) error {
		switch num {
		case 2:
			s.chain = string(raw)
		case 3:
			s.initial = n
		case 4:
			s.height = n
		case 5:
			return fields(raw, func(num protowire.Number, _ protowire.Type, _ []byte, n uint64) error {
				if num == 1 {
					n *= 1e9
				}
				s.time += n
				return nil
			})
		case 6:
			s.da = n
		case 8:
			s.app = raw
		case 9:
			s.last = raw
		case 10:
			s.next = raw
		}
		return nil
	})
	if err == nil && !bytes.Equal(s.blob(), blob) {
		err = errors.New("a state that is not in canonical encoding")
	}
	return &s, err
}

// nodeBlock is one block with the state that it leads to.
type nodeBlock struct {
	header *nodeHeader
	data   *nodeData
	state  *nodeState
}

// nextBlock builds and signs the block after a state. `last` is the data of the block before, nil at the beginning.
func nextBlock(key ed25519.PrivateKey, s *nodeState, last *nodeData, time uint64, txs [][]byte, app []byte) *nodeBlock {
	height := max(s.height+1, s.initial)
	data := &nodeData{chain: s.chain, height: height, time: time, txs: txs}
	if last != nil {
		data.last = last.hash()
	}
	header := &nodeHeader{
		height: height, time: time, last: s.last, data: data.commitment(), app: s.app,
		proposer: address(key.Public().(ed25519.PublicKey)), chain: s.chain,
	}
	header.sign(key)
	state := &nodeState{
		chain: s.chain, initial: s.initial, height: height, time: time, da: s.da, app: app, last: header.hash(), next: header.proposer,
	}
	return &nodeBlock{header, data, state}
}

// check holds a block against the one before it and the states around it.
func (b *nodeBlock) check(before *nodeState, last *nodeData, proposer []byte) error {
	h, d, s := b.header, b.data, b.state
	var lastData []byte
	if last != nil {
		lastData = last.hash()
	}
	for _, rule := range []struct {
		what string
		ok   bool
	}{
		{"heights", h.height == before.height+1 && d.height == h.height && s.height == h.height},
		{"chain ids", h.chain == before.chain && d.chain == h.chain && s.chain == h.chain},
		{"times", h.time >= before.time && d.time == h.time && s.time == h.time},
		{"last header hash", bytes.Equal(h.last, before.last)},
		{"last data hash", bytes.Equal(d.last, lastData)},
		{"data commitment", bytes.Equal(h.data, d.commitment())},
		{"app hash", bytes.Equal(h.app, before.app)},
		{"state's header hash", bytes.Equal(s.last, h.hash())},
		{"proposer", bytes.Equal(h.proposer, proposer) && bytes.Equal(h.address, proposer) && bytes.Equal(address(h.public), proposer)},
		{"signature", len(h.public) == 32 && ed25519.Verify(h.public, h.payload(), h.signature)},
	} {
		if !rule.ok {
			return fmt.Errorf("block %d: wrong %s", h.height, rule.what)
		}
	}
	return nil
}

// vectors prints the blocks of the specification's test vectors, as this code makes them.
func vectors() error {
	seed := sha256.Sum256([]byte("evbackup test vector seed"))
	key := ed25519.NewKeyFromSeed(seed[:])
	s := &nodeState{chain: "vec-1", initial: 1, time: 1700000000123456789, da: 100, app: []byte("genesis-root")}
	var last *nodeData
	for n := uint64(1); n <= 3; n++ {
		var txs [][]byte
		if n == 2 {
			txs = [][]byte{[]byte("k1=v1"), []byte("k2=v2")}
		}
		s.da = 100 + n
		b := nextBlock(key, s, last, s.time, txs, fmt.Appendf(nil, "root-%d", n))
		sum := sha256.Sum256(b.header.blob())
		err := printJSON(map[string]any{
			"height": n, "payload": hex.EncodeToString(b.header.payload()), "header_hash": hex.EncodeToString(b.header.hash()),
			"signature": hex.EncodeToString(b.header.signature), "index": strings.ToUpper(hex.EncodeToString(sum[:])),
			"data": hex.EncodeToString(b.data.blob()), "data_hash": hex.EncodeToString(b.data.hash()),
			"commitment": hex.EncodeToString(b.data.commitment()), "state": hex.EncodeToString(b.state.blob()),
		})
		if err != nil {
			return err
		}
		next := *b.state
		next.time += 1e9
		s, last = &next, b.data
	}
	return nil
}
