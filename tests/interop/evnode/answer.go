package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"time"

	da "github.com/evstack/ev-node/pkg/da/types"
	"github.com/evstack/ev-node/pkg/store"
)

// The heights that ev-node keeps as metadata, and what a line calls them.
var marks = map[string]string{
	store.DAIncludedHeightKey:          "da_included",
	store.LastSubmittedHeaderHeightKey: "submitted_headers",
	"last-submitted-data-height":       "submitted_data",
	store.LastPrunedBlockHeightKey:     "pruned",
}

// What a line says of the block at a height; 0 is the tip.
func (w *wired) report(ctx context.Context, height uint64) (map[string]any, error) {
	tip, err := w.store.Height(ctx)
	if err != nil {
		return nil, err
	}
	if height == 0 {
		height = tip
	}
	said := w.exec.figures()
	said["ok"], said["pid"], said["tip"], said["height"] = true, os.Getpid(), tip, height
	for key, name := range marks {
		value, err := w.store.GetMetadata(ctx, key)
		if err == nil && len(value) == 8 {
			said[name] = binary.LittleEndian.Uint64(value)
		}
	}
	header, err := w.store.GetHeader(ctx, height)
	if err != nil {
		return nil, err
	}
	state, err := w.store.GetStateAtHeight(ctx, height)
	if err != nil {
		return nil, err
	}
	said["hash"], said["app_hash"] = hex.EncodeToString(header.Hash()), hex.EncodeToString(state.AppHash)
	said["time"] = header.BaseHeader.Time
	return said, nil
}

// Puts a transaction where the DA layer has those that must be included.
func (w *wired) force(ctx context.Context, tx string) map[string]any {
	if w.da == nil || !w.da.HasForcedInclusionNamespace() {
		return map[string]any{"ok": false, "error": "there is no namespace of forced inclusion"}
	}
	done := w.da.Submit(ctx, [][]byte{[]byte(tx)}, -1, w.da.GetForcedInclusionNamespace(), nil)
	if done.Code != da.StatusSuccess {
		return map[string]any{"ok": false, "error": done.Message}
	}
	return map[string]any{"ok": true, "da_height": done.Height}
}

// Says when the first new block is there, then answers the lines of standard input; returns at its end.
func (w *wired) answer(ctx context.Context) {
	out := json.NewEncoder(os.Stdout)
	for {
		height, err := w.store.Height(ctx)
		if err == nil && height > w.began {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	say := func(height uint64, more map[string]any) {
		said, err := w.report(ctx, height)
		if err != nil {
			said = map[string]any{"ok": false, "error": err.Error()}
		}
		for name, value := range more {
			said[name] = value
		}
		_ = out.Encode(said)
	}
	say(0, map[string]any{
		"ready": true, "began": w.began, "pending": w.pending, "replayed": w.exec.replayed(w.began),
		"rpc": w.rpc, "p2p": w.p2p, "backups": w.backups,
	})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var command struct {
			Height uint64 `json:"height"`
			Force  string `json:"force"`
		}
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			_ = out.Encode(map[string]any{"ok": false, "error": err.Error()})
			continue
		}
		if command.Force != "" {
			_ = out.Encode(w.force(ctx, command.Force))
			continue
		}
		say(command.Height, nil)
	}
}
