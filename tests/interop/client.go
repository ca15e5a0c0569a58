package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"
)

// clientReport says what a backup over the wire brought.
type clientReport struct {
	Path      string    `json:"path"`
	Bytes     int64     `json:"bytes"`
	SHA256    string    `json:"sha256"`
	Chunks    int       `json:"chunks"`
	MaxChunk  int       `json:"max_chunk"`
	Metadatas int       `json:"metadatas"`
	First     *metadata `json:"first"`
	Final     *metadata `json:"final"`
	ElapsedS  float64   `json:"elapsed_s"`
	Error     string    `json:"error,omitempty"`
	Code      string    `json:"code,omitempty"` // connect's name of the error
}

// headerFlags are repeated `--header name:value`.
type headerFlags map[string]string

func (h headerFlags) String() string { return "" }

func (h headerFlags) Set(s string) error {
	name, value, ok := strings.Cut(s, ":")
	if !ok {
		return errors.New("expected name:value")
	}
	h[name] = strings.TrimSpace(value)
	return nil
}

func runClient(fs *flag.FlagSet, args []string) error {
	addr := fs.String("addr", "", "host:port (required)")
	out := fs.String("out", "", "the file to write (required)")
	since := fs.Uint64("since", 0, "version to start after")
	target := fs.Uint64("target-height", 0, "layout T only")
	layoutName := fs.String("layout", "F", "message layout: F or T")
	protocol := fs.String("protocol", "connect", "connect, grpc or grpcweb")
	version := fs.Int("http", 0, "1: HTTP/1.1, 2: h2c; 0: 2 for grpc, else 1")
	keep := fs.Bool("keep-partial", false, "keep the file of a failed backup")
	requestHex := fs.String("request-hex", "", "send these bytes as BackupRequest instead")
	gzip := fs.Bool("gzip", true, "accept compressed replies, as Go clients do")
	headers := headerFlags{}
	fs.Var(headers, "header", "name:value, repeatable")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *addr == "" || *out == "" {
		return errors.New("--addr and --out are required")
	}
	l, err := parseLayout(*layoutName)
	if err != nil {
		return err
	}
	body := request{Target: *target, Since: *since}.encode(l)
	if *requestHex != "" {
		if body, err = hex.DecodeString(*requestHex); err != nil {
			return err
		}
	}
	options, err := clientOptions(*protocol, *gzip)
	if err != nil {
		return err
	}
	if *version == 0 {
		*version = 1
		if *protocol == "grpc" {
			*version = 2
		}
	}
	client := connect.NewClient[message, message](httpClient(*version), "http://"+*addr+backupProcedure, options...)
	req := connect.NewRequest(&message{body})
	for name, value := range headers {
		req.Header().Set(name, value)
	}
	r := &clientReport{Path: *out}
	if err := r.save(client, req, l); err != nil {
		if !*keep {
			_ = os.Remove(*out) // it may never have been made
		}
		r.Error, r.Code = err.Error(), connect.CodeOf(err).String()
		return errors.Join(err, printJSON(r))
	}
	return printJSON(r)
}

func clientOptions(protocol string, gzip bool) ([]connect.ClientOption, error) {
	options := []connect.ClientOption{connect.WithCodec(rawCodec{})}
	if !gzip {
		options = append(options, connect.WithAcceptCompression("gzip", nil, nil))
	}
	switch protocol {
	case "connect":
		return options, nil
	case "grpc":
		return append(options, connect.WithGRPC()), nil
	case "grpcweb":
		return append(options, connect.WithGRPCWeb()), nil
	}
	return nil, fmt.Errorf("protocol: expected connect, grpc or grpcweb, found %q", protocol)
}

func httpClient(version int) *http.Client {
	if version != 2 {
		return &http.Client{}
	}
	return &http.Client{Transport: &http2.Transport{
		AllowHTTP: true,
		DialTLSContext: func(ctx context.Context, network, addr string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	}}
}

// save does what the proposal's client does: chunks in order into the file, and
// no success without a final metadata that says completed.
func (r *clientReport) save(client *connect.Client[message, message], req *connect.Request[message], l layout) error {
	start := time.Now()
	defer func() { r.ElapsedS = time.Since(start).Seconds() }()
	file, err := os.OpenFile(r.Path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	stream, err := client.CallServerStream(context.Background(), req)
	if err != nil {
		return err
	}
	defer stream.Close()
	hash := sha256.New()
	for stream.Receive() {
		meta, chunk, err := decodeResponse(l, stream.Msg().body)
		if err != nil {
			return err
		}
		if meta != nil {
			r.Metadatas++
			if r.First == nil {
				r.First = meta
			}
			r.Final = meta
			continue
		}
		if _, err := file.Write(chunk); err != nil {
			return err
		}
		hash.Write(chunk)
		r.Bytes += int64(len(chunk))
		r.Chunks++
		r.MaxChunk = max(r.MaxChunk, len(chunk))
	}
	if err := stream.Err(); err != nil {
		return err
	}
	r.SHA256 = hex.EncodeToString(hash.Sum(nil))
	if r.Final == nil {
		return errors.New("the stream ended without metadata")
	}
	if !r.Final.Completed {
		return errors.New("the stream ended without completion metadata")
	}
	return file.Close()
}
