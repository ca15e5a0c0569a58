package main

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// producer commits blocks, metadata and queue entries as a running node does.
type producer struct {
	server  *server
	seed    uint64
	size    int
	rate    float64 // blocks a second; below 0: no pause; 0: none
	writers int

	halt    chan struct{}
	running sync.WaitGroup
	gate    sync.RWMutex // held for writing while paused
	pausing sync.Mutex   // a signal and a command may come together
	paused  bool

	making sync.Mutex // one block after the other
	height atomic.Uint64
	blocks atomic.Int64
	others atomic.Int64
	queue  atomic.Uint64
	fatal  atomic.Value // string
}

func newProducer(s *server, seed uint64, size int, rate float64, writers int) *producer {
	return &producer{server: s, seed: seed, size: size, rate: rate, writers: writers, halt: make(chan struct{})}
}

func (p *producer) start() error {
	err := p.server.view(func(db *badger.DB) error {
		tip, err := readTip(db)
		p.height.Store(tip)
		return err
	})
	if err != nil || p.rate == 0 {
		return err
	}
	p.loop(func() error { return p.produce(1) })
	for i := range p.writers {
		rng := rand.New(rand.NewPCG(p.seed, uint64(i)))
		p.loop(func() error { return p.other(rng) })
	}
	return nil
}

func (p *producer) stop() {
	p.resume()
	close(p.halt)
	p.running.Wait()
}

func (p *producer) pause() {
	p.pausing.Lock()
	defer p.pausing.Unlock()
	if !p.paused {
		p.gate.Lock() // waits for the commits under way
		p.paused = true
	}
}

func (p *producer) resume() {
	p.pausing.Lock()
	defer p.pausing.Unlock()
	if p.paused {
		p.paused = false
		p.gate.Unlock()
	}
}

// loop runs step at the rate until the producer stops.
func (p *producer) loop(step func() error) {
	var ticks <-chan time.Time
	if p.rate > 0 {
		ticks = time.NewTicker(time.Duration(float64(time.Second) / p.rate)).C
	} else {
		always := make(chan time.Time)
		close(always)
		ticks = always
	}
	p.running.Add(1)
	go func() {
		defer p.running.Done()
		for {
			select {
			case <-p.halt:
				return
			case <-ticks:
			}
			p.gate.RLock()
			err := step()
			p.gate.RUnlock()
			if err != nil {
				p.fatal.Store(err.Error())
				return
			}
		}
	}()
}

// produce commits n blocks after the tip, each with the queue's cleaning and
// the metadata that follow in transactions of their own.
func (p *producer) produce(n int) error {
	p.making.Lock()
	defer p.making.Unlock()
	return p.server.view(func(db *badger.DB) error {
		for range n {
			height := p.height.Load() + 1
			if err := putBlock(db, p.seed, height, p.size); err != nil {
				return err
			}
			p.height.Store(height)
			p.blocks.Add(1)
			if err := db.Update(func(txn *badger.Txn) error {
				return txn.Set([]byte(daKey(height, "h")), le64(height+1000))
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// other commits what a node writes beside blocks: transactions that enter and
// leave the queue, and marks that move.
func (p *producer) other(rng *rand.Rand) error {
	defer p.others.Add(1)
	return p.server.view(func(db *badger.DB) error {
		switch rng.IntN(4) {
		case 0:
			return db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(daHeightKey), le64(p.height.Load())) })
		case 1:
			return db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(submittedKey), le64(p.height.Load())) })
		case 2:
			if done := p.queue.Load(); done > 3 {
				seq := queueStart + done - 3
				return db.Update(func(txn *badger.Txn) error { return txn.Delete([]byte(queueKey(seq))) })
			}
		}
		seq := queueStart + p.queue.Add(1)
		return db.Update(func(txn *badger.Txn) error {
			return txn.Set([]byte(queueKey(seq)), randomBytes(p.seed, queueKey(seq), 200))
		})
	})
}
