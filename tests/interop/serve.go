package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/dgraph-io/badger/v4"
	badger4 "github.com/ipfs/go-ds-badger4"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// codes are the names that `--fault refuse=…` takes.
var codes = map[string]connect.Code{
	"failed_precondition": connect.CodeFailedPrecondition,
	"internal":            connect.CodeInternal,
	"permission_denied":   connect.CodePermissionDenied,
	"resource_exhausted":  connect.CodeResourceExhausted,
	"unauthenticated":     connect.CodeUnauthenticated,
	"unavailable":         connect.CodeUnavailable,
	"unimplemented":       connect.CodeUnimplemented,
}

// server is a node as far as evbackup can see: a Badger, the RPC, a producer of blocks.
type server struct {
	store   storeFlags
	layout  layout
	chunk   int
	fallTip uint64
	faults  faults
	stopped chan struct{}

	// mu lets `compact` and `reopen` close the database while nothing uses it.
	mu       sync.RWMutex
	ds       *badger4.Datastore
	producer *producer

	backups    atomic.Int64 // started
	completed  atomic.Int64
	lastServed atomic.Uint64 // what DB.Backup returned last
}

func runServe(fs *flag.FlagSet, args []string) error {
	s := &server{stopped: make(chan struct{})}
	s.store.register(fs, 1)
	layoutName := fs.String("layout", "F", "message layout: F (final) or T (with a target height)")
	writeTimeout := fs.Duration("write-timeout", 0, "http.Server.WriteTimeout; the node's is 10s; 0: none")
	addr := fs.String("addr", "127.0.0.1:0", "where to listen")
	fs.IntVar(&s.chunk, "chunk", 131072, "bytes in a chunk")
	faultText := fs.String("fault", "", "how to misbehave, see README.md")
	faultTimes := fs.Int("fault-times", 0, "misbehave in the first N backups only; 0: always")
	fs.Uint64Var(&s.fallTip, "fall-tip", 0, "announce a height lower than the tip by this")
	rate := fs.Float64("write-blocks", 0, "commit this many blocks a second while serving; below 0: as many as possible")
	writers := fs.Int("writers", 1, "goroutines that commit metadata and queue entries meanwhile, each at the same rate")
	size := fs.Int("block-size", 1024, "bytes of a block's data")
	seed := fs.Uint64("seed", 1, "for the blocks written meanwhile")
	stdin := fs.Bool("stdin", true, "take commands from standard input and stop at its end")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var err error
	if s.layout, err = parseLayout(*layoutName); err != nil {
		return err
	}
	f, err := parseFault(*faultText)
	if err != nil {
		return err
	}
	s.faults.set(f, *faultTimes)
	if s.ds, err = s.store.open(); err != nil {
		return err
	}
	s.producer = newProducer(s, *seed, *size, *rate, *writers)
	if err := s.producer.start(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	conns := &trackedListener{Listener: listener, open: map[*trackedConn]bool{}}
	httpServer := s.httpServer(*writeTimeout)
	go func() { _ = httpServer.Serve(conns) }()
	if err := printJSON(map[string]any{"addr": listener.Addr().String(), "pid": os.Getpid()}); err != nil {
		return err
	}

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	ended := make(chan struct{})
	if *stdin {
		go func() {
			defer close(ended)
			s.control(bufio.NewReader(os.Stdin))
		}()
	}
	select {
	case <-signals:
	case <-ended:
	}
	return s.shutdown(httpServer, conns)
}

// httpServer has the node's settings: HTTP/1.1 and h2c on one port, and a write
// timeout that counts from the start of a response.
func (s *server) httpServer(writeTimeout time.Duration) *http.Server {
	mux := http.NewServeMux()
	backup := connect.NewServerStreamHandler(backupProcedure, s.backup, connect.WithCodec(rawCodec{}))
	mux.HandleFunc(backupProcedure, func(w http.ResponseWriter, r *http.Request) {
		s.faults.mu.Lock()
		missing := s.faults.current.kind == "not-found"
		s.faults.mu.Unlock()
		if missing { // a released node
			http.NotFound(w, r)
			return
		}
		backup.ServeHTTP(w, r)
	})
	return &http.Server{
		Handler: h2c.NewHandler(mux, &http2.Server{
			MaxConcurrentStreams: 100,
			MaxReadFrameSize:     1 << 24,
			IdleTimeout:          120 * time.Second,
			ReadIdleTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
		}),
		ReadTimeout:  10 * time.Second,
		WriteTimeout: writeTimeout,
		IdleTimeout:  120 * time.Second,
	}
}

// backup is the proposal's handler: metadata, chunks of DB.Backup, metadata.
func (s *server) backup(ctx context.Context, req *connect.Request[message], stream *connect.ServerStream[message]) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.backups.Add(1)
	f := s.faults.take()
	if f.kind == "refuse" {
		return connect.NewError(codes[f.text], errors.New("refused on purpose"))
	}
	asked, err := decodeRequest(s.layout, req.Msg.body)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	tip, err := readTip(s.ds.DB)
	if err != nil {
		return connect.NewError(connect.CodeInternal, err)
	}
	tip -= min(tip, s.fallTip)
	if s.layout == layoutT && asked.Target > tip {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("target height is above the tip"))
	}
	first := metadata{CurrentHeight: tip, TargetHeight: asked.Target, SinceVersion: asked.Since}
	if f.kind != "no-first" {
		if err := stream.Send(metadataResponse(s.layout, first)); err != nil {
			return err
		}
	}
	sender := &faultySender{
		fault: f,
		chunk: s.chunk,
		send:  func(chunk []byte) error { return stream.Send(chunkResponse(chunk)) },
		beat:  func() error { return stream.Send(metadataResponse(s.layout, first)) },
		hang:  func() error { return s.wait(ctx, 0) },
		pause: func(bytes int) error {
			if f.kind != "slow" {
				return s.wait(ctx, -1)
			}
			return s.wait(ctx, time.Duration(float64(bytes)/float64(max(f.at, 1))*float64(time.Second)))
		},
	}
	last, err := s.ds.DB.Backup(sender, asked.Since)
	if sender.failed != nil {
		err = sender.failed
	}
	if err == nil {
		err = sender.flush()
	}
	if err == nil && f.kind == "no-final" {
		err = errEnd
	}
	switch {
	case errors.Is(err, errEnd):
		return nil
	case errors.Is(err, errAbort):
		panic(http.ErrAbortHandler)
	case err != nil && ctx.Err() != nil:
		return connect.NewError(connect.CodeCanceled, err)
	case err != nil:
		return connect.NewError(connect.CodeInternal, err)
	}
	s.lastServed.Store(last)
	return s.finish(stream, f, first, last)
}

// finish sends the final message, or what the fault wants in its place.
func (s *server) finish(stream *connect.ServerStream[message], f fault, final metadata, last uint64) error {
	final.LastVersion, final.Completed = last, true
	switch f.kind {
	case "lie-last-version":
		final.LastVersion += 1_000_000
	case "lie-since":
		final.SinceVersion += 1_000_000
	}
	if err := stream.Send(metadataResponse(s.layout, final)); err != nil {
		return err
	}
	s.completed.Add(1)
	switch f.kind {
	case "double-final":
		return stream.Send(metadataResponse(s.layout, final))
	case "data-after-final":
		return stream.Send(chunkResponse(make([]byte, 8)))
	}
	return nil
}

// wait sleeps, for ever if d is 0 and not at all below, unless the client goes
// or the server stops.
func (s *server) wait(ctx context.Context, d time.Duration) error {
	var timer <-chan time.Time
	if d < 0 {
		ready := make(chan time.Time)
		close(ready)
		timer = ready
	} else if d > 0 {
		timer = time.After(d)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return errors.New("the server stops")
	default:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return errors.New("the server stops")
	case <-timer:
		return nil
	}
}

// shutdown drops every connection, so that no handler stays blocked on a client
// that does not read, and closes the database once the handlers are gone.
func (s *server) shutdown(httpServer *http.Server, conns *trackedListener) error {
	close(s.stopped)
	_ = httpServer.Close() // the listener is all it still holds
	conns.closeAll()
	s.producer.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ds.Close()
}

// view runs use with the open database.
func (s *server) view(use func(db *badger.DB) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return use(s.ds.DB)
}

// trackedListener knows its connections: net/http forgets those it hands to h2c.
type trackedListener struct {
	net.Listener
	mu   sync.Mutex
	open map[*trackedConn]bool
}

func (l *trackedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	tracked := &trackedConn{Conn: conn, owner: l}
	l.open[tracked] = true
	return tracked, nil
}

func (l *trackedListener) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.open {
		_ = conn.Conn.Close() // it may be closed already
	}
}

type trackedConn struct {
	net.Conn
	owner *trackedListener
}

func (c *trackedConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.open, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}
