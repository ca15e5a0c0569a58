package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// fault is one way in which the server misbehaves.
type fault struct {
	kind string
	at   uint64 // bytes or frames, where the kind takes a number
	text string // the same, as written
}

// faultKinds maps each kind to whether it takes a number; README.md explains them.
var faultKinds = map[string]bool{
	"stop-mid-stream":  true,
	"error-mid-stream": true,
	"end-mid-stream":   true,
	"end-at-frame":     true,
	"cut-mid-stream":   true,
	"cut-at-frame":     true,
	"hang":             true,
	"flip":             true,
	"slow":             true,
	"lie-last-version": false,
	"lie-since":        false,
	"no-first":         false,
	"no-final":         false,
	"double-final":     false,
	"data-after-final": false,
	"bad-chunk-cut":    false,
	"heartbeats":       false,
	"refuse":           false,
	"not-found":        false,
}

func parseFault(s string) (fault, error) {
	if s == "" || s == "none" {
		return fault{}, nil
	}
	kind, text, has := strings.Cut(s, "=")
	numbered, known := faultKinds[kind]
	if !known {
		return fault{}, fmt.Errorf("fault: unknown kind %q", kind)
	}
	f := fault{kind: kind, text: text}
	if kind == "refuse" {
		if _, ok := codes[text]; !ok {
			return fault{}, fmt.Errorf("fault: unknown code %q", text)
		}
		return f, nil
	}
	if numbered != has {
		return fault{}, fmt.Errorf("fault %s: a number is expected: %t", kind, numbered)
	}
	if numbered {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fault{}, fmt.Errorf("fault %s: %w", kind, err)
		}
		f.at = n
	}
	return f, nil
}

// faults hands out the current fault, a limited number of times if asked.
type faults struct {
	mu      sync.Mutex
	current fault
	left    int // backups that still get it; below 0: all
}

func (f *faults) set(current fault, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current, f.left = current, times
	if times == 0 {
		f.left = -1
	}
}

func (f *faults) take() fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		return fault{}
	}
	if f.left > 0 {
		f.left--
	}
	return f.current
}

// How a faulty stream ends.
var (
	errAbort = errors.New("the connection is dropped on purpose")
	errFail  = errors.New("an error on purpose")
	errEnd   = errors.New("the stream ends without its final message on purpose")
)

// faultySender passes Badger's bytes on, cut into chunks, and misbehaves at the
// asked place.
type faultySender struct {
	fault  fault
	chunk  int
	send   func(chunk []byte) error
	beat   func() error // an additional metadata message that is not final
	hang   func() error // blocks until the client has gone or the server stops
	pause  func(bytes int) error
	buffer []byte
	bytes  uint64
	chunks int
	silent bool  // everything further is dropped
	failed error // why Write failed: Badger may report its own cancelling instead
	frames frameCounter
}

func (s *faultySender) Write(p []byte) (int, error) {
	n, err := s.write(p)
	if err != nil {
		s.failed = err
	}
	return n, err
}

func (s *faultySender) write(p []byte) (int, error) {
	for i := 0; i < len(p) && !s.silent; {
		part := p[i:]
		stop := false
		switch s.fault.kind {
		case "stop-mid-stream", "error-mid-stream", "end-mid-stream", "cut-mid-stream", "hang":
			if left := s.fault.at - s.bytes; uint64(len(part)) >= left {
				part, stop = part[:left], true
			}
		case "end-at-frame", "cut-at-frame":
			if s.frames.complete >= s.fault.at {
				part, stop = nil, true
			} else {
				part = part[:s.frames.step(part)]
			}
		case "flip":
			if s.fault.at >= s.bytes && s.fault.at < s.bytes+uint64(len(part)) {
				part = append([]byte(nil), part...)
				part[s.fault.at-s.bytes] ^= 0x10
			}
		}
		s.bytes += uint64(len(part))
		i += len(part)
		s.buffer = append(s.buffer, part...)
		if err := s.drain(); err != nil {
			return 0, err
		}
		if stop {
			if err := s.stop(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// stop does what the fault does at its place.
func (s *faultySender) stop() error {
	if err := s.flush(); err != nil {
		return err
	}
	switch s.fault.kind {
	case "stop-mid-stream":
		return errAbort
	case "error-mid-stream":
		return errFail
	case "end-mid-stream", "end-at-frame":
		return errEnd
	case "hang":
		return s.hang()
	}
	s.silent = true // cut-…: the rest is lost, the final message claims success
	return nil
}

// drain sends what makes whole chunks.
func (s *faultySender) drain() error {
	for {
		size := s.nextSize()
		if len(s.buffer) < size {
			return nil
		}
		if err := s.emit(s.buffer[:size]); err != nil {
			return err
		}
		s.buffer = append(s.buffer[:0], s.buffer[size:]...)
	}
}

// flush sends the rest as a shorter chunk.
func (s *faultySender) flush() error {
	if len(s.buffer) == 0 {
		return nil
	}
	err := s.emit(s.buffer)
	s.buffer = s.buffer[:0]
	return err
}

// nextSize is the node's constant, or sizes that no node would choose: within
// the frame length, empty, and large.
func (s *faultySender) nextSize() int {
	if s.fault.kind != "bad-chunk-cut" {
		return s.chunk
	}
	sizes := []int{1, 7, 0, 8, 9, 3, 4093, 3*s.chunk + 1}
	return sizes[s.chunks%len(sizes)]
}

func (s *faultySender) emit(chunk []byte) error {
	s.chunks++
	if s.fault.kind == "heartbeats" {
		if err := s.beat(); err != nil {
			return err
		}
	}
	if err := s.pause(len(chunk)); err != nil {
		return err
	}
	return s.send(chunk)
}

// frameCounter follows the frames of a stream that arrives in pieces.
type frameCounter struct {
	complete uint64
	head     []byte
	body     uint64 // bytes of the body still to come
}

// step consumes at most the rest of the current frame and returns how much.
func (c *frameCounter) step(p []byte) int {
	used := 0
	if len(c.head) < 8 {
		used = min(8-len(c.head), len(p))
		c.head = append(c.head, p[:used]...)
		if len(c.head) < 8 {
			return used
		}
		c.body = binary.LittleEndian.Uint64(c.head)
	}
	n := min(c.body, uint64(len(p)-used))
	c.body -= n
	if c.body == 0 {
		c.complete++
		c.head = c.head[:0]
	}
	return used + int(n)
}
