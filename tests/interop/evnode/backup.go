package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/dgraph-io/badger/v4"
	"github.com/evstack/ev-node/pkg/rpc/server"
	ds "github.com/ipfs/go-datastore"
	badger4 "github.com/ipfs/go-ds-badger4"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The Backup RPC as pull request 2758 had it in the end, over the database of the running node: Badger's own backup in chunks. No
// released node has it. The HTTP server is set up by ev-node's own code, and has the time limits of the node's.
const (
	procedure = "/evnode.v1.StoreService/Backup"
	chunkSize = 128 << 10
)

func (w *wired) serveBackups(database ds.Batching) (string, error) {
	held, ok := database.(*badger4.Datastore)
	if !ok {
		return "", fmt.Errorf("expected a Badger, found %T", database)
	}
	handler := func(_ context.Context, asked *connect.Request[message], out *connect.ServerStream[message]) error {
		return backup(held.DB, asked.Msg.body, out)
	}
	mux := http.NewServeMux()
	mux.Handle(procedure, connect.NewServerStreamHandler(procedure, handler, connect.WithCodec(rawCodec{})))
	// node/failover.go, setupFailoverState
	answering := &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 120 * time.Second,
	}
	if err := server.ConfigureHTTPServer(answering); err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = answering.Serve(listener) }()
	w.closers = append(w.closers, func() { _ = answering.Close() })
	return listener.Addr().String(), nil
}

// Metadata, chunks, metadata.
func backup(db *badger.DB, asked []byte, out *connect.ServerStream[message]) error {
	since, err := sinceOf(asked)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	tip, err := tipOf(db)
	if err != nil {
		return connect.NewError(connect.CodeInternal, err)
	}
	if err := out.Send(metadata(tip, since, 0, false)); err != nil {
		return err
	}
	to := &chunks{out: out}
	last, err := db.Backup(to, since)
	if err == nil {
		err = to.flush()
	}
	if err != nil {
		return connect.NewError(connect.CodeInternal, err)
	}
	return out.Send(metadata(tip, since, last, true))
}

func sinceOf(request []byte) (since uint64, err error) {
	for len(request) > 0 {
		number, kind, length := protowire.ConsumeTag(request)
		if length < 0 {
			return 0, protowire.ParseError(length)
		}
		request = request[length:]
		value := protowire.ConsumeFieldValue(number, kind, request)
		if value < 0 {
			return 0, protowire.ParseError(value)
		}
		if number == 1 && kind == protowire.VarintType {
			since, _ = protowire.ConsumeVarint(request)
		}
		request = request[value:]
	}
	return since, nil
}

func tipOf(db *badger.DB) (tip uint64, err error) {
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte("/0/t"))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(value []byte) error {
			if len(value) != 8 {
				return fmt.Errorf("expected a tip of 8 bytes, found %d", len(value))
			}
			tip = binary.LittleEndian.Uint64(value)
			return nil
		})
	})
	return tip, err
}

func metadata(height, since, last uint64, completed bool) *message {
	body := []byte{}
	for at, value := range []uint64{height, since, last, protowire.EncodeBool(completed)} {
		if value != 0 {
			body = protowire.AppendVarint(protowire.AppendTag(body, protowire.Number(at+1), protowire.VarintType), value)
		}
	}
	return &message{protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), body)}
}

// What Badger writes, in messages of one chunk.
type chunks struct {
	out     *connect.ServerStream[message]
	pending []byte
}

func (c *chunks) Write(written []byte) (int, error) {
	c.pending = append(c.pending, written...)
	for len(c.pending) >= chunkSize {
		if err := c.send(c.pending[:chunkSize]); err != nil {
			return 0, err
		}
		c.pending = append(c.pending[:0], c.pending[chunkSize:]...)
	}
	return len(written), nil
}

func (c *chunks) flush() error {
	if len(c.pending) == 0 {
		return nil
	}
	return c.send(c.pending)
}

func (c *chunks) send(chunk []byte) error {
	body := protowire.AppendTag(make([]byte, 0, len(chunk)+8), 2, protowire.BytesType)
	return c.out.Send(&message{protowire.AppendBytes(body, chunk)})
}

// A protobuf message as its bytes: nobody has generated code for these.
type message struct{ body []byte }

type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(value any) ([]byte, error) {
	switch of := value.(type) {
	case *message:
		return of.body, nil
	case proto.Message: // connect's own error details
		return proto.Marshal(of)
	}
	return nil, errors.New("not a message")
}

func (rawCodec) Unmarshal(data []byte, value any) error {
	switch to := value.(type) {
	case *message:
		to.body = append([]byte(nil), data...)
		return nil
	case proto.Message:
		return proto.Unmarshal(data, to)
	}
	return errors.New("not a message")
}
