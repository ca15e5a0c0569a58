package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// model says whether a snapshot of what `live` writes is one that there was.
type model struct {
	work     liveWork
	Version  uint64   `json:"version"` // the highest in the snapshot
	Commits  []uint64 `json:"commits"` // of each writer
	Entries  int      `json:"entries"`
	Live     int      `json:"live"`
	Problems []string `json:"problems"`
	OK       bool     `json:"ok"`
	found    map[string]modelEntry
}

type modelEntry struct {
	key     string
	version uint64
	deleted bool
	size    int
	sum     string
	value   []byte // of sequence keys
}

func runLiveModel(fs *flag.FlagSet, args []string) error {
	var m model
	fs.Uint64Var(&m.work.seed, "seed", 1, "as in live")
	fs.IntVar(&m.work.writers, "writers", 4, "as in live")
	fs.IntVar(&m.work.keys, "keys", 500, "as in live")
	fs.IntVar(&m.work.large, "large", 12, "as in live")
	var in listFlag
	fs.Var(&in, "in", "a segment; several are a chain, oldest first (repeatable, required)")
	acked := fs.String("acked", "", "for each writer, what was acknowledged before the snapshot began: 1,2,3,4")
	begun := fs.String("begun", "", "for each writer, what had begun when the snapshot ended")
	version := fs.Uint64("version", 0, "what the snapshot says that it was taken at; 0: anything")
	if err := fs.Parse(args); err != nil {
		return err
	}
	lower, err := m.numbers(*acked)
	if err != nil {
		return err
	}
	upper, err := m.numbers(*begun)
	if err != nil {
		return err
	}
	m.Problems, m.found, m.Commits = []string{}, map[string]modelEntry{}, make([]uint64, m.work.writers)
	for _, path := range in {
		if err := m.read(path); err != nil {
			return err
		}
	}
	if *version != 0 && m.Version != *version {
		m.problem("the highest version is %d, but the snapshot says %d", m.Version, *version)
	}
	m.sequences(lower, upper)
	m.contents()
	m.OK = len(m.Problems) == 0
	if err := printJSON(m); err != nil || m.OK {
		return err
	}
	return fmt.Errorf("%d problems, first: %s", len(m.Problems), m.Problems[0])
}

func (m *model) numbers(text string) ([]uint64, error) {
	if text == "" {
		return nil, nil
	}
	var out []uint64
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	if len(out) != m.work.writers {
		return nil, errors.New("expected a number for each writer")
	}
	return out, nil
}

func (m *model) problem(format string, args ...any) {
	if len(m.Problems) < 20 {
		m.Problems = append(m.Problems, fmt.Sprintf(format, args...))
	}
}

func (m *model) read(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = readValues(file, func(kv kvLine, value []byte) error {
		key, err := hex.DecodeString(kv.Key)
		if err != nil {
			return err
		}
		e := modelEntry{key: string(key), version: kv.Version, deleted: kv.Meta&metaDelete != 0, size: len(value), sum: kv.ValueSHA256}
		if strings.HasSuffix(e.key, "/seq") {
			e.value = append(e.value, value...)
		}
		m.Entries++
		m.Version = max(m.Version, e.version)
		if before, known := m.found[e.key]; !known || before.version <= e.version {
			m.found[e.key] = e
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// sequences holds the writers' counts against what was acknowledged, against each other and against the version.
func (m *model) sequences(acked, begun []uint64) {
	clocks := make([][]uint64, m.work.writers)
	var sum uint64
	for writer := range m.work.writers {
		if e, known := m.found[liveSeqKey(writer)]; known && len(e.value) == 8*m.work.writers {
			for at := 0; at < len(e.value); at += 8 {
				clocks[writer] = append(clocks[writer], binary.LittleEndian.Uint64(e.value[at:]))
			}
			m.Commits[writer] = clocks[writer][writer]
		}
		sum += m.Commits[writer]
		if acked != nil && m.Commits[writer] < acked[writer] {
			m.problem("writer %d: %d commits were acknowledged, found %d", writer, acked[writer], m.Commits[writer])
		}
		if begun != nil && m.Commits[writer] > begun[writer] {
			m.problem("writer %d: %d commits had begun, found %d", writer, begun[writer], m.Commits[writer])
		}
	}
	// Each commit has a version of its own, and nothing else commits.
	if sum != m.Version {
		m.problem("version %d, but %d commits %v: not the first so many", m.Version, sum, m.Commits)
	}
	for writer, clock := range clocks {
		for other, n := range clock {
			if m.Commits[other] < n {
				m.problem("commit %d of writer %d knew of commit %d of writer %d, found %d", m.Commits[writer], writer, n, other, m.Commits[other])
			}
		}
	}
}

// contents holds every key against the last commit that wrote it.
func (m *model) contents() {
	expected := map[string]*liveWrite{}
	for writer, commits := range m.Commits {
		commitOf := map[string]uint64{}
		last := map[string]liveWrite{}
		for n := uint64(1); n <= commits; n++ {
			for _, w := range m.work.writes(writer, n) {
				last[w.key], commitOf[w.key] = w, n
			}
		}
		// The keys of a commit that are still there have one version.
		byCommit := map[uint64]uint64{commits: m.found[liveSeqKey(writer)].version}
		for key, w := range last {
			expected[key] = &w
			n, version := commitOf[key], m.found[key].version
			if known, seen := byCommit[n]; seen && known != version && m.found[key].key != "" {
				m.problem("%s: commit %d of writer %d has version %d, found %d: not whole", key, n, writer, known, version)
			}
			byCommit[n] = version
		}
	}
	for key, w := range expected {
		e, known := m.found[key]
		switch {
		case !known:
			m.problem("%s: missing", key)
		case e.deleted:
			m.problem("%s: deleted", key)
		default:
			m.Live++
			if sum := sha256.Sum256(w.value()); e.sum != hex.EncodeToString(sum[:]) {
				m.problem("%s: the value of version %d is not that of the last commit", key, e.version)
			}
		}
	}
	for key := range m.found {
		if expected[key] == nil && !strings.HasSuffix(key, "/seq") {
			m.problem("%s: nobody wrote that", key)
		}
	}
}
