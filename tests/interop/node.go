package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	datastore "github.com/ipfs/go-datastore"
	badger4 "github.com/ipfs/go-ds-badger4"
)

// node is a single sequencer that is modelled on ev-node's: the same home, keys,
// messages, signatures and order of writes through the same datastore, and what
// ev-node demands of its database when it starts. It is not ev-node.
type node struct {
	genesis  nodeGenesis
	key      ed25519.PrivateKey
	store    *badger4.Datastore
	state    *nodeState
	last     *nodeData
	app      map[string]string
	replayed uint64
	queue    uint64 // next number
	dropped  int    // queue entries that stood in the last block already
	turn     sync.Mutex
}

type nodeGenesis struct {
	ChainID  string    `json:"chain_id"`
	Start    time.Time `json:"start_time"`
	Initial  uint64    `json:"initial_height"`
	Proposer []byte    `json:"proposer_address"`
	DAStart  uint64    `json:"da_start_height"`
}

func runNode(fs *flag.FlagSet, args []string) error {
	home := fs.String("home", "", "the node's home (required)")
	name := fs.String("name", "testapp", "the database's name below data")
	pace := fs.Duration("block-time", 20*time.Millisecond, "between blocks")
	txs := fs.Int("txs", 3, "transactions in a block, at most")
	show := fs.Bool("vectors", false, "print the specification's test vectors, as this code makes them")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *show {
		return vectors()
	}
	if *home == "" {
		return errors.New("--home is required")
	}
	var n node
	if err := n.configure(filepath.Join(*home, "config")); err != nil {
		return err
	}
	store := storeFlags{dir: filepath.Join(*home, "data", *name), keepVersions: 1}
	var err error
	if n.store, err = store.open(); err != nil {
		return err
	}
	if err := n.start(); err != nil {
		return errors.Join(err, n.store.Close())
	}
	if err := printJSON(n.report()); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Add(1)
	go func() {
		defer running.Done()
		for ctx.Err() == nil {
			if err := n.produce(*txs); err != nil {
				fatal(err)
			}
			time.Sleep(*pace)
		}
	}()
	in := bufio.NewReader(os.Stdin)
	for {
		// Each line is answered by what it has reached.
		if _, err := in.ReadString('\n'); err != nil {
			break
		}
		n.turn.Lock()
		err := printJSON(n.report())
		n.turn.Unlock()
		if err != nil {
			break
		}
	}
	stop()
	running.Wait()
	return n.store.Close()
}

func (n *node) report() map[string]any {
	return map[string]any{
		"ok": true, "height": n.state.height, "hash": hex.EncodeToString(n.state.last), "app_hash": hex.EncodeToString(n.state.app),
		"replayed": n.replayed, "dropped": n.dropped, "max_version": n.store.DB.MaxVersion(), "pid": os.Getpid(),
	}
}

// configure reads genesis and key, and makes them in a new home.
func (n *node) configure(folder string) error {
	genesis, signer := filepath.Join(folder, "genesis.json"), filepath.Join(folder, "signer.json")
	body, err := os.ReadFile(genesis)
	if errors.Is(err, os.ErrNotExist) {
		var key ed25519.PrivateKey
		if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return err
		}
		made := nodeGenesis{"interop-1", time.Now().UTC(), 1, address(key.Public().(ed25519.PublicKey)), 1}
		if body, err = json.Marshal(made); err != nil {
			return err
		}
		err = errors.Join(
			os.MkdirAll(folder, 0o755), os.WriteFile(genesis, body, 0o644),
			os.WriteFile(signer, []byte(hex.EncodeToString(key.Seed())), 0o600),
		)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, &n.genesis); err != nil {
		return err
	}
	text, err := os.ReadFile(signer)
	if err != nil {
		return err
	}
	seed, err := hex.DecodeString(string(text))
	if err != nil || len(seed) != ed25519.SeedSize {
		return fmt.Errorf("%s: expected a seed in hex: %w", signer, err)
	}
	n.key = ed25519.NewKeyFromSeed(seed)
	return nil
}

func (n *node) get(key string) ([]byte, error) {
	value, err := n.store.Get(context.Background(), datastore.NewKey(key))
	if errors.Is(err, datastore.ErrNotFound) {
		return nil, nil
	}
	return value, err
}

// batch writes as ev-node does: one WriteBatch. An empty value deletes.
func (n *node) batch(entries map[string][]byte) error {
	ctx := context.Background()
	batch, err := n.store.Batch(ctx)
	if err != nil {
		return err
	}
	for key, value := range entries {
		if value == nil {
			err = batch.Delete(ctx, datastore.NewKey(key))
		} else {
			err = batch.Put(ctx, datastore.NewKey(key), value)
		}
		if err != nil {
			return err
		}
	}
	return batch.Commit(ctx)
}

func (n *node) number(key string) (uint64, error) {
	value, err := n.get(key)
	if err != nil || value == nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("%s: expected 8 bytes, found %d", key, len(value))
	}
	return binary.LittleEndian.Uint64(value), nil
}

// start demands of the database what ev-node demands, and runs all blocks again for the app, which lives in memory.
func (n *node) start() error {
	if proposer := address(n.key.Public().(ed25519.PublicKey)); !bytes.Equal(proposer, n.genesis.Proposer) {
		return errors.New("the signer is not the proposer of genesis")
	}
	tip, err := n.number(tipKey)
	if err != nil {
		return err
	}
	n.app = map[string]string{}
	n.state = &nodeState{
		chain: n.genesis.ChainID, initial: n.genesis.Initial, height: n.genesis.Initial - 1,
		time: uint64(n.genesis.Start.UnixNano()), da: n.genesis.DAStart, app: n.appHash(),
	}
	if tip > 0 {
		stored, err := n.get(stateKey(tip))
		if err != nil {
			return err
		}
		if stored == nil {
			return fmt.Errorf("there is no state of block %d, the tip", tip)
		}
	} else if blob, err := n.get(headerKey(n.genesis.Initial)); err != nil {
		return err
	} else if blob != nil {
		return errors.New("there is a block at the initial height, but no tip")
	}
	for _, family := range []func(uint64) string{headerKey, dataKey, signatureKey, stateKey} {
		if blob, err := n.get(family(tip + 1)); err != nil {
			return err
		} else if blob != nil {
			return fmt.Errorf("%s stands above the tip", family(tip+1))
		}
	}
	for _, key := range []string{submittedKey, "/0/m/last-submitted-data-height", daHeightKey} {
		if mark, err := n.number(key); err != nil {
			return err
		} else if mark > tip {
			return fmt.Errorf("%s: %d is above the tip %d", key, mark, tip)
		}
	}
	for n.state.height < tip {
		if err := n.replay(n.state.height + 1); err != nil {
			return err
		}
		n.replayed++
	}
	if err := n.pending(tip); err != nil {
		return err
	}
	if tip == 0 {
		return n.batch(map[string][]byte{stateKey(n.genesis.Initial - 1): n.state.blob()})
	}
	if err := n.reloadQueue(); err != nil {
		return err
	}
	return n.batch(map[string][]byte{stateKey(tip): n.state.blob()}) // as ev-node: start rewrites it
}

// replay checks a stored block with its key's neighbours, and executes it.
func (n *node) replay(height uint64) error {
	parts := map[string][]byte{}
	for _, key := range []string{headerKey(height), dataKey(height), signatureKey(height), stateKey(height)} {
		blob, err := n.get(key)
		if err != nil {
			return err
		}
		if blob == nil {
			return fmt.Errorf("%s is missing", key)
		}
		parts[key] = blob
	}
	header, headerErr := decodeHeader(parts[headerKey(height)])
	data, dataErr := decodeData(parts[dataKey(height)])
	state, stateErr := decodeState(parts[stateKey(height)])
	if err := errors.Join(headerErr, dataErr, stateErr); err != nil {
		return fmt.Errorf("block %d: %w", height, err)
	}
	block := &nodeBlock{header, data, state}
	if err := block.check(n.state, n.last, n.genesis.Proposer); err != nil {
		return err
	}
	if !bytes.Equal(header.signature, parts[signatureKey(height)]) {
		return fmt.Errorf("block %d: two signatures", height)
	}
	sum := sha256.Sum256(parts[headerKey(height)])
	at, err := n.number("/0/i/" + strings.ToUpper(hex.EncodeToString(sum[:])))
	if err != nil {
		return err
	}
	if at != height {
		return fmt.Errorf("block %d: the index says %d", height, at)
	}
	n.execute(data.txs)
	if !bytes.Equal(n.appHash(), state.app) {
		return fmt.Errorf("block %d: executing it again gives another app hash", height)
	}
	n.state, n.last = state, data
	return nil
}

// pending looks at what was in production: one of the two alone stops an ev-node.
func (n *node) pending(tip uint64) error {
	header, err := n.get("/0/m/pending_header")
	if err != nil {
		return err
	}
	data, err := n.get("/0/m/pending_data")
	if err != nil {
		return err
	}
	if (header == nil) != (data == nil) {
		return errors.New("one of pending_header and pending_data is missing")
	}
	if header == nil {
		return nil
	}
	h, err := decodeHeader(header)
	if err == nil && h.height > tip+1 {
		err = fmt.Errorf("pending_header has height %d, the tip is %d", h.height, tip)
	}
	return err
}

func (n *node) execute(txs [][]byte) {
	for _, tx := range txs {
		key, value, _ := strings.Cut(string(tx), "=")
		n.app[key] = value
	}
}

func (n *node) appHash() []byte {
	keys := make([]string, 0, len(n.app))
	for key := range n.app {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	hash := sha256.New()
	for _, key := range keys {
		_, _ = io.WriteString(hash, key+"="+n.app[key]+"\n") // a hash takes everything
	}
	return hash.Sum(nil)
}

func putQueue(txs [][]byte) []byte {
	out := []byte{}
	for _, tx := range txs {
		out = putAlways(out, 1, tx)
	}
	return out
}

// reloadQueue drops what the last block has already, and forgets the rest: a test has no one who waits for it.
func (n *node) reloadQueue() error {
	keys, err := n.list("/batches/")
	if err != nil {
		return err
	}
	drop := map[string][]byte{}
	for _, key := range keys {
		value, err := n.get(key)
		if err != nil {
			return err
		}
		if bytes.Equal(value, putQueue(n.last.txs)) {
			n.dropped++
		}
		drop[key] = nil
	}
	return n.batch(drop)
}

func (n *node) list(prefix string) (keys []string, err error) {
	txn := n.store.DB.NewTransaction(false)
	defer txn.Discard()
	options := badger.DefaultIteratorOptions
	options.Prefix = []byte(prefix)
	it := txn.NewIterator(options)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		keys = append(keys, string(it.Item().KeyCopy(nil)))
	}
	return keys, nil
}

// produce makes one block in ev-node's order of writes.
func (n *node) produce(most int) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	height := n.state.height + 1
	txs := [][]byte{}
	for i := range mix(height) % uint64(most+1) {
		txs = append(txs, fmt.Appendf(nil, "key-%d=%x", mix(height^i<<32)%200, mix(height+i)))
	}
	queued := queueKey(queueStart + n.queue)
	n.queue++
	if len(txs) > 0 {
		if err := n.batch(map[string][]byte{queued: putQueue(txs)}); err != nil {
			return err
		}
	}
	n.execute(txs)
	b := nextBlock(n.key, n.state, n.last, max(n.state.time, uint64(time.Now().UnixNano())), txs, n.appHash())
	if height == n.genesis.Initial {
		b = nextBlock(n.key, n.state, n.last, n.state.time, txs, n.appHash())
	}
	err := n.batch(map[string][]byte{"/0/m/pending_header": b.header.blob(), "/0/m/pending_data": b.data.blob()})
	if err != nil {
		return err
	}
	blob := b.header.blob()
	sum := sha256.Sum256(blob)
	err = n.batch(map[string][]byte{
		headerKey(height): blob, dataKey(height): b.data.blob(), signatureKey(height): b.header.signature,
		"/0/i/" + strings.ToUpper(hex.EncodeToString(sum[:])): le64(height), tipKey: le64(height), stateKey(height): b.state.blob(),
	})
	if err != nil {
		return err
	}
	n.state, n.last = b.state, b.data
	if len(txs) > 0 {
		if err := n.batch(map[string][]byte{queued: nil}); err != nil {
			return err
		}
	}
	return n.submit(height)
}

// submit does what a DA layer would cause: marks that trail the blocks.
func (n *node) submit(height uint64) error {
	if height < 5 {
		return nil
	}
	sent := height - 2
	marks := map[string][]byte{submittedKey: le64(sent), "/0/m/last-submitted-data-height": le64(sent)}
	included := height - 4
	marks[daKey(included, "h")], marks[daKey(included, "d")] = le64(1000+included), le64(1000+included)
	marks[daHeightKey] = le64(included)
	keys := make([]string, 0, len(marks))
	for key := range marks {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys { // each in a batch of its own, as ev-node's asynchronous writer
		if err := n.batch(map[string][]byte{key: marks[key]}); err != nil {
			return err
		}
	}
	return nil
}
