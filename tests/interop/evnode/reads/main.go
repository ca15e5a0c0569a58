// reads asks the read RPCs with ev-node's own clients, and answers them with ev-node's own server out of the database of a stopped node, so that
// the answers of another server can be held against it.
//
//	reads --dir D                      serves; prints {"addr":…}; ends with standard input
//	reads --addr A --protocol P        answers questions, a line of JSON each, in the same order
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"github.com/evstack/ev-node/pkg/config"
	"github.com/evstack/ev-node/pkg/genesis"
	"github.com/evstack/ev-node/pkg/rpc/client"
	"github.com/evstack/ev-node/pkg/rpc/server"
	"github.com/evstack/ev-node/pkg/store"
	pb "github.com/evstack/ev-node/types/pb/evnode/v1"
	rpc "github.com/evstack/ev-node/types/pb/evnode/v1/v1connect"
	"github.com/rs/zerolog"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	dir := flag.String("dir", "", "the database of a stopped node")
	initial := flag.Uint64("initial-height", 1, "of the chain's genesis")
	addr := flag.String("addr", "", "the server to ask")
	protocol := flag.String("protocol", "evnode", "evnode (its own client), grpc, grpc-web, connect or connect-json")
	flag.Parse()
	var err error
	switch {
	case *dir != "" && *addr == "":
		err = serve(*dir, *initial)
	case *dir == "" && *addr != "":
		err = ask("http://"+*addr, *protocol)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func serve(dir string, initial uint64) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	raw, err := store.NewDefaultKVStore("", filepath.Dir(dir), filepath.Base(dir))
	if err != nil {
		return err
	}
	defer raw.Close()
	blocks := store.New(store.NewEvNodeKVStore(raw))
	chain := genesis.Genesis{InitialHeight: initial}
	headers, data := store.NewHeaderStoreAdapter(blocks, chain), store.NewDataStoreAdapter(blocks, chain)
	handler, err := server.NewServiceHandler(
		blocks, headers, data, nil, nil, zerolog.Nop(), config.DefaultConfig(), func() uint64 { return 0 }, nil)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	answering := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	if err := server.ConfigureHTTPServer(answering); err != nil {
		return err
	}
	go func() { _ = answering.Serve(listener) }()
	fmt.Printf("{\"addr\":%q}\n", listener.Addr().String())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, answering.Close())
}

type question struct {
	Method string  `json:"method"`
	Height *uint64 `json:"height"`
	Hash   *string `json:"hash"`
	Key    string  `json:"key"`
}

// What a question comes to: the message, or why there is none.
type answer struct {
	Message json.RawMessage `json:"message,omitempty"`
	// Canonical bytes, in which no two different messages are equal.
	Proto string `json:"proto,omitempty"`
	Code  string `json:"code,omitempty"`
	Text  string `json:"text,omitempty"`
}

type asker func(context.Context, question) (proto.Message, error)

func ask(url, protocol string) error {
	put, err := clients(url, protocol)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		message, err := put(ctx, asked)
		cancel()
		said, err := told(message, err)
		if err != nil {
			return err
		}
		if err := out.Encode(said); err != nil {
			return err
		}
	}
	return lines.Err()
}

func told(message proto.Message, failed error) (answer, error) {
	var refused *connect.Error
	if errors.As(failed, &refused) {
		return answer{Code: refused.Code().String(), Text: refused.Message()}, nil
	}
	if failed != nil {
		return answer{}, failed
	}
	text, err := protojson.Marshal(message)
	if err != nil {
		return answer{}, err
	}
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	return answer{Message: text, Proto: hex.EncodeToString(wire)}, err
}

func clients(url, protocol string) (asker, error) {
	options := map[string][]connect.ClientOption{
		"grpc":         {connect.WithGRPC()},
		"grpc-web":     {connect.WithGRPCWeb()},
		"connect":      {},
		"connect-json": {connect.WithProtoJSON()},
	}
	if protocol == "evnode" {
		return own(client.NewClient(url)), nil
	}
	chosen, known := options[protocol]
	if !known {
		return nil, fmt.Errorf("no protocol %q", protocol)
	}
	return generated(rpc.NewStoreServiceClient(http.DefaultClient, url, chosen...)), nil
}

// ev-node's own client, every method of it.
func own(c *client.Client) asker {
	return func(ctx context.Context, q question) (proto.Message, error) {
		switch q.Method {
		case "GetBlock":
			if q.Hash != nil {
				hash, err := hex.DecodeString(*q.Hash)
				if err != nil {
					return nil, err
				}
				return orError(c.GetBlockByHash(ctx, hash))
			}
			return orError(c.GetBlockByHeight(ctx, *q.Height))
		case "GetState":
			state, err := c.GetState(ctx)
			return orError(&pb.GetStateResponse{State: state}, err)
		case "GetMetadata":
			value, err := c.GetMetadata(ctx, q.Key)
			return orError(&pb.GetMetadataResponse{Value: value}, err)
		case "GetP2PStoreInfo":
			stores, err := c.GetP2PStoreInfo(ctx)
			return orError(&pb.GetP2PStoreInfoResponse{Stores: stores}, err)
		case "GetPeerInfo":
			peers, err := c.GetPeerInfo(ctx)
			return orError(&pb.GetPeerInfoResponse{Peers: peers}, err)
		case "GetNetInfo":
			info, err := c.GetNetInfo(ctx)
			return orError(&pb.GetNetInfoResponse{NetInfo: info}, err)
		case "GetNamespace":
			return orError(c.GetNamespace(ctx))
		}
		return nil, fmt.Errorf("ev-node's client has no %q", q.Method)
	}
}

func orError[M proto.Message](message M, err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return message, nil
}

func generated(c rpc.StoreServiceClient) asker {
	empty := func() *connect.Request[emptypb.Empty] { return connect.NewRequest(&emptypb.Empty{}) }
	return func(ctx context.Context, q question) (proto.Message, error) {
		switch q.Method {
		case "GetBlock":
			asked := &pb.GetBlockRequest{}
			switch {
			case q.Hash != nil:
				hash, err := hex.DecodeString(*q.Hash)
				if err != nil {
					return nil, err
				}
				asked.Identifier = &pb.GetBlockRequest_Hash{Hash: hash}
			case q.Height != nil:
				asked.Identifier = &pb.GetBlockRequest_Height{Height: *q.Height}
			}
			return of(c.GetBlock(ctx, connect.NewRequest(asked)))
		case "GetState":
			return of(c.GetState(ctx, empty()))
		case "GetMetadata":
			return of(c.GetMetadata(ctx, connect.NewRequest(&pb.GetMetadataRequest{Key: q.Key})))
		case "GetGenesisDaHeight":
			return of(c.GetGenesisDaHeight(ctx, empty()))
		case "GetP2PStoreInfo":
			return of(c.GetP2PStoreInfo(ctx, empty()))
		}
		return nil, fmt.Errorf("no method %q", q.Method)
	}
}

func of[M any, P interface {
	*M
	proto.Message
}](response *connect.Response[M], err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return P(response.Msg), nil
}
