package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// liveWork says what each commit of `live` writes, as a function of its numbers
// alone, so that a model can tell what a directory must hold.
type liveWork struct {
	seed    uint64
	writers int
	keys    int
	large   int // one value in so many goes to the value log; 0: none
}

// liveRing is how many keys of the kind that is written in turn there are.
const liveRing = 512

type liveWrite struct {
	key  string
	size int
	seed uint64
}

// mix is SplitMix64: a number for a number.
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

func liveSeqKey(writer int) string { return fmt.Sprintf("/live/%d/seq", writer) }

// writes are the keys of a writer's n-th commit, beside its sequence key.
func (w *liveWork) writes(writer int, n uint64) []liveWrite {
	state := mix(w.seed ^ mix(uint64(writer)<<48^n))
	next := func() uint64 { state = mix(state); return state }
	out := make([]liveWrite, 0, 7)
	add := func(key string) {
		for _, before := range out {
			if before.key == key {
				return
			}
		}
		size := int(20 + next()%200)
		switch r := next() % 100; {
		case r < 5:
			size = 0
		case r < 25:
			size = int(200 + next()%700)
		case w.large > 0 && next()%uint64(w.large) == 0:
			size = int(1100 + next()%4000)
		}
		out = append(out, liveWrite{key, size, next()})
	}
	for range 1 + next()%5 {
		add(fmt.Sprintf("/live/%d/k/%05d", writer, next()%uint64(w.keys)))
	}
	if n%4 == 0 {
		add(fmt.Sprintf("/live/%d/a/%04d", writer, n/4%liveRing))
	}
	return out
}

// value is half text that compresses, half noise.
func (l *liveWrite) value() []byte {
	out := make([]byte, 0, l.size+8)
	for state := l.seed; len(out) < l.size; {
		state = mix(state)
		if len(out)%64 < 32 {
			out = binary.LittleEndian.AppendUint64(out, state)
		} else {
			out = append(out, "evbackup"...)
		}
	}
	return out[:l.size]
}

// liveTally is the side record: for each writer how many commits it has begun
// and how many were acknowledged. A shared mapping outlives kill -9.
type liveTally struct {
	mapped  []byte
	writers int
}

func openTally(path string, writers int) (*liveTally, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size := 16 * writers
	if err := file.Truncate(int64(size)); err != nil {
		return nil, err
	}
	mapped, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	return &liveTally{mapped, writers}, err
}

func (t *liveTally) at(slot int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&t.mapped[8*slot]))
}

func (t *liveTally) begun(writer int) *atomic.Uint64 { return t.at(2 * writer) }
func (t *liveTally) acked(writer int) *atomic.Uint64 { return t.at(2*writer + 1) }

// clock is what a writer knows of all when it begins a commit: a vector of acknowledged commits.
func (t *liveTally) clock() []byte {
	out := make([]byte, 0, 8*t.writers)
	for writer := range t.writers {
		out = binary.LittleEndian.AppendUint64(out, t.acked(writer).Load())
	}
	return out
}
