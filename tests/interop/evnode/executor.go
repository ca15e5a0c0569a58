package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/evstack/ev-node/core/execution"
)

// An execution layer that keeps nothing: its state is a hash over all that was executed. Since it says so (height 0), ev-node
// executes every block of its store again when it starts, and compares each app hash with the one it has.
type executor struct {
	mutex  sync.Mutex
	root   []byte
	height uint64
	total  uint64 // transactions
	made   uint64
	batch  int
	first  uint64 // the first height that this process executed
	salt   [8]byte
}

var _ execution.HeightProvider = (*executor)(nil)

func newExecutor(chain string, batch int) *executor {
	e := &executor{root: genesisRoot(chain), batch: batch}
	// No transaction of an earlier run comes again.
	binary.BigEndian.PutUint64(e.salt[:], uint64(time.Now().UnixNano()))
	return e
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
	_ context.Context, txs [][]byte, height uint64, _ time.Time, before []byte,
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
	e.root = sum.Sum(nil)
	e.height = height
	e.total += uint64(len(txs))
	if e.first == 0 {
		e.first = height
	}
	return execution.ExecuteResult{UpdatedStateRoot: bytes.Clone(e.root)}, nil
}

func (e *executor) SetFinal(context.Context, uint64) error { return nil }

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

// How many transactions were executed, replayed ones too.
func (e *executor) executed() uint64 {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.total
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
