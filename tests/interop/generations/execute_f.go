//go:build f

package main

import (
	"context"
	"time"

	"github.com/evstack/ev-node/core/execution"
)

func (e layer) ExecuteTxs(
	_ context.Context, txs [][]byte, height uint64, _ time.Time, _ []byte,
) (execution.ExecuteResult, error) {
	return execution.ExecuteResult{UpdatedStateRoot: e.execute(txs, height)}, nil
}
