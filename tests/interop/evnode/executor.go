package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/evstack/ev-node/core/execution"
	ds "github.com/ipfs/go-datastore"
)

// An execution layer whose state is a hash over all that was executed. Without a database it keeps nothing and says so (height 0): then
// ev-node executes every block of its store again when it starts, and compares each app hash with the one it has. With a
// database it goes on from what it holds, as reth does, and ev-node only brings it up to its own height.
type executor struct {
	mutex  sync.Mutex
	db     ds.Batching // nil: keeps nothing
	root   []byte
	height uint64
	total  uint64 // transactions
	made   uint64
	batch  int
	first  uint64 // the first height that this process executed
	undone uint64 // blocks that ev-node had it take back
	final  uint64 // the highest height that ev-node called final
	salt   [8]byte
}

// What the database holds for a block, under /block/<height>, beside its transactions under /tx/<height>/<number>.
type elBlock struct {
	Height    uint64 `json:"height"`
	Timestamp int64  `json:"timestamp"` // seconds, as in a block of Ethereum
	StateRoot string `json:"state_root"`
	Txs       int    `json:"txs"`
}

var (
	_       execution.HeightProvider = (*executor)(nil)
	_       execution.Rollbackable   = (*executor)(nil)
	headKey                          = ds.NewKey("/head") // the newest elBlock again
)

func blockKey(height uint64) ds.Key { return ds.NewKey(fmt.Sprintf("/block/%d", height)) }

func txKey(height uint64, number int) ds.Key {
	return ds.NewKey(fmt.Sprintf("/tx/%d/%d", height, number))
}

func newExecutor(ctx context.Context, chain string, batch int, db ds.Batching) (*executor, error) {
	e := &executor{root: genesisRoot(chain), batch: batch, db: db}
	// No transaction of an earlier run comes again.
	binary.BigEndian.PutUint64(e.salt[:], uint64(time.Now().UnixNano()))
	if db == nil {
		return e, nil
	}
	raw, err := db.Get(ctx, headKey)
	if errors.Is(err, ds.ErrNotFound) {
		return e, nil
	}
	if err != nil {
		return nil, err
	}
	return e, e.adopt(raw)
}

// Goes on behind a block of the database.
func (e *executor) adopt(raw []byte) error {
	var head elBlock
	if err := json.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("the head of the execution layer: %w", err)
	}
	root, err := hex.DecodeString(head.StateRoot)
	if err != nil {
		return fmt.Errorf("the head of the execution layer: %w", err)
	}
	e.height, e.root = head.Height, root
	return nil
}

func genesisRoot(chain string) []byte {
	root := sha256.Sum256([]byte(chain))
	return root[:]
}

func (e *executor) InitChain(_ context.Context, _ time.Time, _ uint64, chain string) ([]byte, error) {
	return genesisRoot(chain), nil
}

func (e *executor) GetTxs(context.Context) ([][]byte, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	txs := make([][]byte, 0, e.batch)
	for range e.batch {
		e.made++
		txs = append(txs, fmt.Appendf(nil, "%x/%d=%d", e.salt, e.made, e.made))
	}
	return txs, nil
}

func (e *executor) ExecuteTxs(
	ctx context.Context, txs [][]byte, height uint64, at time.Time, before []byte,
) (execution.ExecuteResult, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if height != e.height+1 {
		return execution.ExecuteResult{}, fmt.Errorf("expected block %d to execute, found %d", e.height+1, height)
	}
	if !bytes.Equal(before, e.root) {
		return execution.ExecuteResult{}, fmt.Errorf("block %d: expected the state %x before it, found %x", height, e.root, before)
	}
	sum := sha256.New()
	sum.Write(e.root)
	sum.Write(binary.BigEndian.AppendUint64(nil, height))
	for _, tx := range txs {
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(tx))))
		sum.Write(tx)
	}
	root := sum.Sum(nil)
	if err := e.keep(ctx, txs, elBlock{height, at.Unix(), hex.EncodeToString(root), len(txs)}); err != nil {
		return execution.ExecuteResult{}, err
	}
	e.root, e.height = root, height
	e.total += uint64(len(txs))
	if e.first == 0 {
		e.first = height
	}
	return execution.ExecuteResult{UpdatedStateRoot: bytes.Clone(e.root)}, nil
}

// One batch, so one Badger transaction, before ev-node commits the block: as reth, the execution layer may be one block ahead.
func (e *executor) keep(ctx context.Context, txs [][]byte, made elBlock) error {
	if e.db == nil {
		return nil
	}
	raw, err := json.Marshal(made)
	if err != nil {
		return err
	}
	batch, err := e.db.Batch(ctx)
	if err != nil {
		return err
	}
	for number, tx := range txs {
		err = errors.Join(err, batch.Put(ctx, txKey(made.Height, number), tx))
	}
	err = errors.Join(err, batch.Put(ctx, blockKey(made.Height), raw), batch.Put(ctx, headKey, raw))
	if err != nil {
		return err
	}
	return batch.Commit(ctx)
}

func (e *executor) Rollback(ctx context.Context, target uint64) error {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.db == nil {
		return errors.New("an execution layer that keeps nothing has nothing to take back")
	}
	return e.rollback(ctx, target)
}

func (e *executor) rollback(ctx context.Context, target uint64) error {
	if target == 0 {
		return errors.New("the genesis of the execution layer is not a block")
	}
	raw, err := e.db.Get(ctx, blockKey(target))
	if err != nil {
		return fmt.Errorf("block %d of the execution layer: %w", target, err)
	}
	batch, err := e.db.Batch(ctx)
	if err != nil {
		return err
	}
	for height := e.height; height > target; height-- {
		var above elBlock
		stored, err := e.db.Get(ctx, blockKey(height))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(stored, &above); err != nil {
			return err
		}
		for number := range above.Txs {
			err = errors.Join(err, batch.Delete(ctx, txKey(height, number)))
		}
		if err := errors.Join(err, batch.Delete(ctx, blockKey(height))); err != nil {
			return err
		}
	}
	if err := errors.Join(batch.Put(ctx, headKey, raw), batch.Commit(ctx)); err != nil {
		return err
	}
	e.undone += e.height - target
	return e.adopt(raw)
}

func (e *executor) SetFinal(_ context.Context, height uint64) error {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.final = max(e.final, height)
	return nil
}

func (e *executor) GetExecutionInfo(context.Context) (execution.ExecutionInfo, error) {
	return execution.ExecutionInfo{}, nil
}

func (e *executor) FilterTxs(_ context.Context, txs [][]byte, _, _ uint64, _ bool) ([]execution.FilterStatus, error) {
	return make([]execution.FilterStatus, len(txs)), nil // FilterOK
}

func (e *executor) GetLatestHeight(context.Context) (uint64, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.height, nil
}

// What a line says of it.
func (e *executor) figures() map[string]any {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return map[string]any{"txs": e.total, "el_height": e.height, "undone": e.undone, "final": e.final}
}

// How many of the blocks up to a height this process executed.
func (e *executor) replayed(height uint64) uint64 {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.first == 0 || e.first > height {
		return 0
	}
	return min(e.height, height) - e.first + 1
}
