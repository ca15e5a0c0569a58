package main

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const backupProcedure = "/evnode.v1.StoreService/Backup"

// layout is one of the two field numberings that the proposal went through.
type layout string

const (
	layoutF layout = "F" // the final one
	layoutT layout = "T" // with a target height
)

func parseLayout(s string) (layout, error) {
	if l := layout(s); l == layoutF || l == layoutT {
		return l, nil
	}
	return "", fmt.Errorf("layout: expected F or T, found %q", s)
}

// request is BackupRequest.
type request struct {
	Target uint64 // layout T only
	Since  uint64
}

func (r request) encode(l layout) []byte {
	if l == layoutT {
		return appendUint(appendUint(nil, 1, r.Target), 2, r.Since)
	}
	return appendUint(nil, 1, r.Since)
}

func decodeRequest(l layout, body []byte) (r request, err error) {
	err = fields(body, func(num protowire.Number, typ protowire.Type, _ []byte, n uint64) error {
		switch {
		case typ != protowire.VarintType:
		case l == layoutF && num == 1, l == layoutT && num == 2:
			r.Since = n
		case l == layoutT && num == 1:
			r.Target = n
		}
		return nil
	})
	return r, err
}

// metadata is BackupMetadata, with what evbackup's own server adds.
type metadata struct {
	CurrentHeight uint64 `json:"current_height"`
	TargetHeight  uint64 `json:"target_height"` // layout T only
	SinceVersion  uint64 `json:"since_version"`
	LastVersion   uint64 `json:"last_version"`
	Completed     bool   `json:"completed"`

	PinnedVersion  uint64 `json:"pinned_version,omitempty"`
	StoreID        string `json:"store_id,omitempty"`
	SHA256         string `json:"sha256,omitempty"`
	EstimatedBytes uint64 `json:"estimated_bytes,omitempty"`
	TipHeight      uint64 `json:"tip_height,omitempty"`
	Listed         int    `json:"listed,omitempty"`
}

func (m metadata) encode(l layout) []byte {
	values := []uint64{m.CurrentHeight, m.SinceVersion, m.LastVersion}
	if l == layoutT {
		values = []uint64{m.CurrentHeight, m.TargetHeight, m.SinceVersion, m.LastVersion}
	}
	var b []byte
	for i, v := range values {
		b = appendUint(b, protowire.Number(i+1), v)
	}
	completed := uint64(0)
	if m.Completed {
		completed = 1
	}
	return appendUint(b, protowire.Number(len(values)+1), completed)
}

func decodeMetadata(l layout, body []byte) (m metadata, err error) {
	slots := []*uint64{&m.CurrentHeight, &m.SinceVersion, &m.LastVersion}
	if l == layoutT {
		slots = []*uint64{&m.CurrentHeight, &m.TargetHeight, &m.SinceVersion, &m.LastVersion}
	}
	err = fields(body, func(num protowire.Number, typ protowire.Type, raw []byte, n uint64) error {
		switch {
		case typ == protowire.VarintType && int(num) <= len(slots):
			*slots[num-1] = n
		case typ == protowire.VarintType && int(num) == len(slots)+1:
			m.Completed = n != 0
		case num == 16:
			m.PinnedVersion = n
		case num == 17:
			m.StoreID = fmt.Sprintf("%x", raw)
		case num == 18:
			m.SHA256 = fmt.Sprintf("%x", raw)
		case num == 19:
			m.EstimatedBytes = n
		case num == 20:
			m.TipHeight = n
		case num == 21:
			m.Listed++
		}
		return nil
	})
	return m, err
}

// BackupResponse: a oneof of metadata = 1 and chunk = 2.
func metadataResponse(l layout, m metadata) *message {
	body := protowire.AppendTag(nil, 1, protowire.BytesType)
	return &message{protowire.AppendBytes(body, m.encode(l))}
}

func chunkResponse(chunk []byte) *message {
	body := protowire.AppendTag(make([]byte, 0, len(chunk)+8), 2, protowire.BytesType)
	return &message{protowire.AppendBytes(body, chunk)}
}

// decodeResponse returns the metadata, or nil and the chunk.
func decodeResponse(l layout, body []byte) (meta *metadata, chunk []byte, err error) {
	err = fields(body, func(num protowire.Number, typ protowire.Type, raw []byte, _ uint64) error {
		switch {
		case num == 1 && typ == protowire.BytesType:
			m, err := decodeMetadata(l, raw)
			meta = &m
			return err
		case num == 2 && typ == protowire.BytesType:
			chunk = raw
		}
		return nil
	})
	return meta, chunk, err
}

// appendUint leaves zero out, as proto3 does.
func appendUint(b []byte, num protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), n)
}

// message is a protobuf message that nobody has decoded.
type message struct{ body []byte }

// rawCodec lets connect move messages as bytes, so that both layouts and broken
// messages can be spoken without generated code.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	switch m := v.(type) {
	case *message:
		return m.body, nil
	case proto.Message: // connect's own error details
		return proto.Marshal(m)
	}
	return nil, errors.New("not a message")
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	switch m := v.(type) {
	case *message:
		m.body = append([]byte(nil), data...)
		return nil
	case proto.Message:
		return proto.Unmarshal(data, m)
	}
	return errors.New("not a message")
}
