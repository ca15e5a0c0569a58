package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/dgraph-io/badger/v4"
)

// order is one command on standard input of `serve`.
type order struct {
	Cmd string          `json:"cmd"`
	ID  json.RawMessage `json:"id"`

	operation             // put, delete, discard
	Ops       []operation `json:"ops"` // txn

	At      uint64 `json:"at"` // digest
	Now     uint64 `json:"now"`
	History bool   `json:"history"`

	Count int    `json:"count"` // blocks
	To    uint64 `json:"to"`    // prune, rollback

	Fault string `json:"fault"` // fault
	Times int    `json:"times"`
}

// operation is one change; each text field has a twin in hex.
type operation struct {
	Op        string `json:"op"`
	Key       string `json:"key"`
	KeyHex    string `json:"key_hex"`
	Value     string `json:"value"`
	ValueHex  string `json:"value_hex"`
	UserMeta  byte   `json:"user_meta"`
	ExpiresAt uint64 `json:"expires_at"`
}

// control answers each line with one line until the input ends.
func (s *server) control(in *bufio.Reader) {
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 1 {
			answer := s.answer(line)
			if printJSON(answer) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *server) answer(line []byte) map[string]any {
	var o order
	answer := map[string]any{"ok": true}
	err := json.Unmarshal(line, &o)
	if err == nil {
		answer["cmd"] = o.Cmd
		if o.ID != nil {
			answer["id"] = o.ID
		}
		var more map[string]any
		more, err = s.obey(&o)
		maps.Copy(answer, more)
	}
	if err != nil {
		answer["ok"], answer["error"] = false, err.Error()
	}
	return answer
}

func (s *server) obey(o *order) (map[string]any, error) {
	switch o.Cmd {
	case "stats":
		return s.stats()
	case "digest":
		var r *digestReport
		err := s.view(func(db *badger.DB) (err error) {
			r, err = digest(db, o.At, o.Now, o.History)
			return err
		})
		if err != nil {
			return nil, err
		}
		return toMap(r)
	case "put", "delete", "discard":
		o.operation.Op = o.Cmd
		return s.change([]operation{o.operation})
	case "txn":
		return s.change(o.Ops)
	case "blocks":
		if err := s.producer.produce(max(o.Count, 1)); err != nil {
			return nil, err
		}
		return s.stats()
	case "prune", "rollback":
		return s.drop(o)
	case "pause":
		s.producer.pause()
		return s.stats()
	case "resume":
		s.producer.resume()
		return nil, nil
	case "compact":
		return s.reopen(s.store.purge)
	case "reopen":
		return s.reopen(func() error { return nil })
	case "fault":
		f, err := parseFault(o.Fault)
		if err == nil {
			s.faults.set(f, o.Times)
		}
		return nil, err
	}
	return nil, fmt.Errorf("unknown command %q", o.Cmd)
}

func (s *server) stats() (map[string]any, error) {
	var m map[string]any
	err := s.view(func(db *badger.DB) error {
		tip, err := readTip(db)
		m = map[string]any{
			"tip": tip, "max_version": db.MaxVersion(), "levels": levels(db),
			"blocks": s.producer.blocks.Load(), "others": s.producer.others.Load(),
			"backups": s.backups.Load(), "completed": s.completed.Load(), "last_version": s.lastServed.Load(),
		}
		if fatal, ok := s.producer.fatal.Load().(string); ok && err == nil {
			err = errors.New("the producer has failed: " + fatal)
		}
		return err
	})
	return m, err
}

// change commits operations in one transaction and answers its version.
func (s *server) change(ops []operation) (map[string]any, error) {
	if len(ops) == 0 {
		return nil, errors.New("no operations")
	}
	var version uint64
	err := s.view(func(db *badger.DB) error {
		err := db.Update(func(txn *badger.Txn) error {
			for _, op := range ops {
				if err := op.apply(txn); err != nil {
					return err
				}
			}
			return nil
		})
		version = db.MaxVersion()
		return err
	})
	// MaxVersion is the database's: exact unless others commit meanwhile.
	return map[string]any{"version": version}, err
}

func (op *operation) apply(txn *badger.Txn) error {
	key, err := textOrHex(op.Key, op.KeyHex)
	if err != nil {
		return err
	}
	value, err := textOrHex(op.Value, op.ValueHex)
	if err != nil {
		return err
	}
	if op.Op == "delete" {
		return txn.Delete(key)
	}
	e := badger.NewEntry(key, value).WithMeta(op.UserMeta)
	e.ExpiresAt = op.ExpiresAt
	switch op.Op {
	case "put":
	case "discard":
		e = e.WithDiscard()
	default:
		return fmt.Errorf("unknown operation %q", op.Op)
	}
	return txn.SetEntry(e)
}

func textOrHex(text, inHex string) ([]byte, error) {
	if inHex != "" {
		return hex.DecodeString(inHex)
	}
	return []byte(text), nil
}

// drop prunes or rolls back, with the producer standing still.
func (s *server) drop(o *order) (map[string]any, error) {
	var deleted int
	err := s.view(func(db *badger.DB) (err error) {
		if o.Cmd == "prune" {
			deleted, err = prune(db, 1, o.To)
			return err
		}
		deleted, err = rollback(db, o.To)
		if err == nil {
			s.producer.height.Store(o.To)
		}
		return err
	})
	return map[string]any{"deleted": deleted}, err
}

// reopen closes the database, lets between happen, and opens it again. Backups
// under way are waited for.
func (s *server) reopen(between func() error) (map[string]any, error) {
	s.mu.Lock()
	before := s.ds.DB.MaxVersion()
	err := s.ds.Close()
	if err == nil {
		err = between()
	}
	if err == nil {
		s.ds, err = s.store.open()
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	m, err := s.stats()
	if m != nil {
		m["max_version_before"] = before
	}
	return m, err
}

func toMap(v any) (map[string]any, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	return m, json.Unmarshal(line, &m)
}
