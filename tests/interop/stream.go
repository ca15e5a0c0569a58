package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/dgraph-io/badger/v4"
	"google.golang.org/protobuf/encoding/protowire"
)

// kvLine is one KV of a backup stream, parsed without Badger's own code so that
// absent fields stay visible.
type kvLine struct {
	Frame       int    `json:"frame"`
	StreamID    uint64 `json:"stream_id"`
	Key         string `json:"key"`
	Version     uint64 `json:"version"`
	Meta        int    `json:"meta"`      // -1: field absent
	UserMeta    int    `json:"user_meta"` // -1: field absent
	ExpiresAt   uint64 `json:"expires_at"`
	ValueLen    int    `json:"value_len"`
	ValueSHA256 string `json:"value_sha256"`
	StreamDone  bool   `json:"stream_done,omitempty"`
	Unknown     int    `json:"unknown,omitempty"` // fields we do not know
}

// streamSummary counts a whole stream.
type streamSummary struct {
	Bytes      int64   `json:"bytes"`
	SHA256     string  `json:"sha256"`
	Frames     int     `json:"frames"`
	FrameEnds  []int64 `json:"frame_ends"` // offsets at which a cut is undetectable
	Entries    int     `json:"entries"`
	Deletes    int     `json:"deletes"`
	StreamIDs  int     `json:"stream_ids"`
	Sorted     bool    `json:"sorted"` // keys ascending, versions descending, over the whole stream
	MinVersion uint64  `json:"min_version"`
	MaxVersion uint64  `json:"max_version"`
}

// maxFrame is what Badger can produce, twice over.
const maxFrame = 4 << 30

// readStream parses a backup stream and hands each KV to visit.
func readStream(r io.Reader, visit func(kvLine) error) (*streamSummary, error) {
	return readValues(r, func(kv kvLine, _ []byte) error { return visit(kv) })
}

// readValues hands over the value of each KV, too; it is not kept.
func readValues(r io.Reader, visit func(kv kvLine, value []byte) error) (*streamSummary, error) {
	hash := sha256.New()
	in := bufio.NewReaderSize(io.TeeReader(r, hash), 1<<20)
	s := &streamSummary{FrameEnds: []int64{}}
	ids := map[uint64]bool{}
	s.Sorted = true
	var lastKey string
	var lastVersion uint64
	for {
		var head [8]byte
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("byte %d: frame length: %w", s.Bytes, err)
		}
		length := binary.LittleEndian.Uint64(head[:])
		if length > maxFrame {
			return nil, fmt.Errorf("byte %d: frame length %d is above %d", s.Bytes, length, uint64(maxFrame))
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			return nil, fmt.Errorf("byte %d: frame of %d bytes: %w", s.Bytes, length, err)
		}
		s.Bytes += 8 + int64(length)
		s.FrameEnds = append(s.FrameEnds, s.Bytes)
		err := fields(body, func(num protowire.Number, typ protowire.Type, raw []byte, n uint64) error {
			if num != 1 || typ != protowire.BytesType {
				return nil
			}
			kv, value, err := parseKV(raw)
			if err != nil {
				return err
			}
			kv.Frame = s.Frames
			s.Entries++
			ids[kv.StreamID] = true
			if s.Entries > 1 && (kv.Key < lastKey || kv.Key == lastKey && kv.Version >= lastVersion) {
				s.Sorted = false
			}
			lastKey, lastVersion = kv.Key, kv.Version
			if kv.Meta > 0 && kv.Meta&metaDelete != 0 {
				s.Deletes++
			}
			if s.Entries == 1 {
				s.MinVersion = kv.Version
			}
			s.MinVersion = min(s.MinVersion, kv.Version)
			s.MaxVersion = max(s.MaxVersion, kv.Version)
			return visit(kv, value)
		})
		if err != nil {
			return nil, fmt.Errorf("frame that ends at byte %d: %w", s.Bytes, err)
		}
		s.Frames++
	}
	s.StreamIDs = len(ids)
	s.SHA256 = hex.EncodeToString(hash.Sum(nil))
	return s, nil
}

func parseKV(body []byte) (kvLine, []byte, error) {
	kv := kvLine{Meta: -1, UserMeta: -1}
	var key, value []byte
	err := fields(body, func(num protowire.Number, typ protowire.Type, raw []byte, n uint64) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			key = raw
		case num == 2 && typ == protowire.BytesType:
			value = raw
		case num == 3 && typ == protowire.BytesType && len(raw) == 1:
			kv.UserMeta = int(raw[0])
		case num == 4 && typ == protowire.VarintType:
			kv.Version = n
		case num == 5 && typ == protowire.VarintType:
			kv.ExpiresAt = n
		case num == 6 && typ == protowire.BytesType && len(raw) == 1:
			kv.Meta = int(raw[0])
		case num == 10 && typ == protowire.VarintType:
			kv.StreamID = n
		case num == 11 && typ == protowire.VarintType:
			kv.StreamDone = n != 0
		default:
			kv.Unknown++
		}
		return nil
	})
	sum := sha256.Sum256(value)
	kv.Key, kv.ValueLen, kv.ValueSHA256 = hex.EncodeToString(key), len(value), hex.EncodeToString(sum[:])
	return kv, value, err
}

// fields walks a protobuf message; raw is set for length-delimited fields, n for varints.
func fields(body []byte, visit func(num protowire.Number, typ protowire.Type, raw []byte, n uint64) error) error {
	for len(body) > 0 {
		num, typ, size := protowire.ConsumeTag(body)
		if size < 0 {
			return protowire.ParseError(size)
		}
		body = body[size:]
		var raw []byte
		var n uint64
		switch typ {
		case protowire.BytesType:
			raw, size = protowire.ConsumeBytes(body)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(body)
		default:
			size = protowire.ConsumeFieldValue(num, typ, body)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		body = body[size:]
		if err := visit(num, typ, raw, n); err != nil {
			return err
		}
	}
	return nil
}

func runDump(fs *flag.FlagSet, args []string) error {
	var f storeFlags
	f.register(fs, 0)
	in := fs.String("in", "", "a backup stream; - is standard input")
	summary := fs.Bool("summary", false, "print one line with counts instead of the entries")
	if err := fs.Parse(args); err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	visit := func(kv kvLine) error {
		if *summary {
			return nil
		}
		return writeLine(out, kv)
	}
	if *in == "" {
		return errors.Join(f.with(func(db *badger.DB) error { return dumpStore(db, visit) }), out.Flush())
	}
	file := os.Stdin
	if *in != "-" {
		var err error
		if file, err = os.Open(*in); err != nil {
			return err
		}
		defer file.Close()
	}
	s, err := readStream(file, visit)
	if err != nil {
		return errors.Join(err, out.Flush())
	}
	if *summary {
		if err := writeLine(out, s); err != nil {
			return err
		}
	}
	return out.Flush()
}

// dumpStore prints every physical entry of a database in the shape of a stream's.
func dumpStore(db *badger.DB, visit func(kvLine) error) error {
	return forEachVersion(db, func(_ uint64, item *badger.Item, meta byte, _ func() bool) error {
		if item == nil {
			return nil
		}
		return item.Value(func(value []byte) error {
			sum := sha256.Sum256(value)
			return visit(kvLine{
				Key: hex.EncodeToString(item.Key()), Version: item.Version(), Meta: int(meta),
				UserMeta: int(item.UserMeta()), ExpiresAt: item.ExpiresAt(),
				ValueLen: len(value), ValueSHA256: hex.EncodeToString(sum[:]),
			})
		})
	})
}
