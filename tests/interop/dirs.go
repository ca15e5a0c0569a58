package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/dgraph-io/ristretto/v2/z"
	"google.golang.org/protobuf/proto"
)

// goldenDir makes one Badger directory and its paper.
type goldenDir struct {
	out   string // the case's folder; the directory is out/db
	work  string // where the database lives while it is written
	opts  badger.Options
	db    *badger.DB
	judge string // what Badger is asked about, if that is not the directory itself
	read  func(badger.Options) badger.Options
	paper dirPaper
}

// dirPaper says what a directory is, and what Badger says of it.
type dirPaper struct {
	Case      string            `json:"case"`
	Kind      string            `json:"kind"` // "directory"
	Shows     string            `json:"shows"`
	Program   string            `json:"program"`
	Modules   map[string]string `json:"modules"`
	Options   string            `json:"options"`
	Directory string            `json:"directory"`
	Live      bool              `json:"live_image"` // taken while Badger held it, as kill -9 leaves it
	Refused   string            `json:"refused,omitempty"`
	Note      string            `json:"note,omitempty"`
	Badger    badgerPaper       `json:"badger"`
	Files     []filePaper       `json:"files"`
	Tables    []tablePaper      `json:"tables"`
}

// badgerPaper is Badger's own view, from opening a copy.
type badgerPaper struct {
	Error      string       `json:"error,omitempty"` // of the first open
	View       *digestPaper `json:"view,omitempty"`
	Entries    string       `json:"entries_file,omitempty"`
	Backup     string       `json:"backup_file,omitempty"` // what DB.Backup(0) emits, sorted
	BackupSays uint64       `json:"backup_returned"`
	Dangling   int          `json:"dangling"` // physical entries whose value Badger cannot read
	Checksums  string       `json:"checksums,omitempty"`
}

type filePaper struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	Before int64  `json:"bytes_before_cut,omitempty"` // if zeros at the end were left out
	SHA256 string `json:"sha256"`
}

type tablePaper struct {
	ID           uint64 `json:"id"`
	Level        int    `json:"level"`
	Compression  string `json:"compression"`
	KeyID        uint64 `json:"key_id,omitempty"`
	MaxVersion   uint64 `json:"max_version"`
	Keys         uint32 `json:"keys"`
	Smallest     string `json:"smallest"` // internal key
	Biggest      string `json:"biggest"`
	Bloom        int    `json:"bloom_bytes"`
	OnDisk       uint32 `json:"on_disk_size"`
	Uncompressed uint32 `json:"uncompressed_size"`
	Stale        uint32 `json:"stale_data_size"`
}

// dirEntry is one physical entry as Badger's iterator shows it.
type dirEntry struct {
	Key         string `json:"key"`
	Version     uint64 `json:"version"`
	Meta        byte   `json:"meta"`
	UserMeta    byte   `json:"user_meta"`
	ExpiresAt   uint64 `json:"expires_at"`
	ValueLen    int    `json:"value_len"`
	ValueSHA256 string `json:"value_sha256"`
	Live        bool   `json:"live"` // Txn.Get answers with this version
	Dangling    bool   `json:"dangling,omitempty"`
}

// slack is how many zeros stay behind what is used of a sparse file.
const slack = 64

func makeDirs(out, only string) error {
	work, err := os.MkdirTemp("", "golden")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, c := range dirCases {
		if only != "" && only != c.name {
			continue
		}
		d := &goldenDir{out: filepath.Join(out, c.name), work: filepath.Join(work, c.name), opts: smallOptions()}
		d.paper = dirPaper{
			Case: c.name, Kind: "directory", Shows: c.shows, Program: "tests/interop golden", Modules: modules(),
			Options: c.options, Directory: "db", Refused: c.refused, Files: []filePaper{}, Tables: []tablePaper{},
		}
		if err := d.make(c.run); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// smallOptions keep every version and make small files; nothing compacts.
func smallOptions() badger.Options {
	return badger.DefaultOptions("").WithLogger(nil).WithDetectConflicts(false).
		WithNumVersionsToKeep(math.MaxInt).WithNumCompactors(0).
		WithNumLevelZeroTables(100).WithNumLevelZeroTablesStall(200).
		WithMemTableSize(1 << 20).WithValueLogFileSize(1 << 20).WithValueThreshold(100 << 10).
		WithCompression(options.Snappy)
}

func (d *goldenDir) make(run func(d *goldenDir) error) error {
	if err := os.RemoveAll(d.out); err != nil {
		return err
	}
	if err := os.MkdirAll(d.target(), 0o755); err != nil {
		return err
	}
	if err := errors.Join(run(d), d.close()); err != nil {
		return err
	}
	if names, err := os.ReadDir(d.target()); err != nil {
		return err
	} else if len(names) == 0 {
		if err := d.copy(); err != nil {
			return err
		}
	}
	if err := errors.Join(d.describe(), d.ask()); err != nil {
		return err
	}
	body, err := json.MarshalIndent(d.paper, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.out, "paper.json"), append(body, '\n'), 0o644); err != nil {
		return err
	}
	return printJSON(map[string]any{"case": d.paper.Case, "files": len(d.paper.Files), "tables": len(d.paper.Tables)})
}

func (d *goldenDir) target() string { return filepath.Join(d.out, "db") }

func (d *goldenDir) open() error {
	if err := os.MkdirAll(d.work, 0o755); err != nil {
		return err
	}
	var err error
	d.db, err = badger.Open(d.opts.WithDir(d.work).WithValueDir(d.work))
	return err
}

func (d *goldenDir) close() error {
	if d.db == nil {
		return nil
	}
	err := d.db.Close()
	d.db = nil
	return err
}

// reopen flushes the memtable to a table of level 0.
func (d *goldenDir) reopen() error { return errors.Join(d.close(), d.open()) }

// image copies the directory while Badger holds it: what kill -9 would leave.
func (d *goldenDir) image() error {
	d.paper.Live = true
	return d.copy()
}

// copy takes the files over without the zeros at the end of sparse ones.
func (d *goldenDir) copy() error {
	entries, err := os.ReadDir(d.work)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		body, err := os.ReadFile(filepath.Join(d.work, entry.Name()))
		if err != nil {
			return err
		}
		if before := len(body); sparse(entry.Name()) {
			if body = cut(body); len(body) < before {
				d.paper.Files = append(d.paper.Files, filePaper{Name: entry.Name(), Before: int64(before)})
			}
		}
		if entry.Name() == "LOCK" {
			body = []byte("12345\n") // a process id, which says nothing
		}
		if err := os.WriteFile(filepath.Join(d.target(), entry.Name()), body, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func sparse(name string) bool {
	return strings.HasSuffix(name, ".mem") || strings.HasSuffix(name, ".vlog") || name == "DISCARD"
}

func cut(body []byte) []byte {
	used := len(body)
	for used > 0 && body[used-1] == 0 {
		used--
	}
	return body[:min(len(body), max(used, 20)+slack)]
}

// describe lists files and tables of the finished directory.
func (d *goldenDir) describe() error {
	before := map[string]int64{}
	for _, f := range d.paper.Files {
		before[f.Name] = f.Before
	}
	d.paper.Files = []filePaper{}
	entries, err := os.ReadDir(d.target())
	if err != nil {
		return err
	}
	for _, entry := range entries {
		body, err := os.ReadFile(filepath.Join(d.target(), entry.Name()))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		f := filePaper{Name: entry.Name(), Bytes: int64(len(body)), SHA256: hex.EncodeToString(sum[:])}
		if n := before[f.Name]; n > f.Bytes {
			f.Before = n
		}
		d.paper.Files = append(d.paper.Files, f)
	}
	return d.describeTables()
}

// describeTables asks Badger's table reader; where MANIFEST or a key stands in the way, there are none.
func (d *goldenDir) describeTables() error {
	tables, err := d.tables()
	if err != nil {
		return nil // the paper has Badger's error from the open
	}
	for _, t := range tables {
		p := tablePaper{ID: t.Id, Level: int(t.Level), KeyID: t.KeyId}
		p.Compression = []string{"none", "snappy", "zstd"}[t.Compression]
		if t.KeyId == 0 {
			if err := d.describeTable(&p, options.CompressionType(t.Compression)); err != nil {
				return err
			}
		}
		d.paper.Tables = append(d.paper.Tables, p)
	}
	sort.Slice(d.paper.Tables, func(i, j int) bool { return d.paper.Tables[i].ID < d.paper.Tables[j].ID })
	return nil
}

func (d *goldenDir) describeTable(p *tablePaper, compression options.CompressionType) error {
	// Opened from a copy: closing the last reference of a table deletes its file.
	body, err := os.ReadFile(filepath.Join(d.target(), fmt.Sprintf("%06d.sst", p.ID)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	path := filepath.Join(d.work, fmt.Sprintf("%06d.sst", p.ID+1_000_000))
	if err := errors.Join(os.MkdirAll(d.work, 0o755), os.WriteFile(path, body, 0o644)); err != nil {
		return err
	}
	mapped, err := z.OpenMmapFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	t, err := table.OpenTable(mapped, table.Options{Compression: compression, BlockSize: 4096, ReadOnly: true})
	if err != nil {
		p.Smallest = "damaged"
		return nil
	}
	p.MaxVersion, p.Keys, p.Bloom = t.MaxVersion(), t.KeyCount(), t.BloomFilterSize()
	p.OnDisk, p.Uncompressed, p.Stale = t.OnDiskSize(), t.UncompressedSize(), t.StaleDataSize()
	p.Smallest, p.Biggest = hex.EncodeToString(t.Smallest()), hex.EncodeToString(t.Biggest())
	return t.DecrRef()
}

// ask opens a copy with Badger, and writes down what it says.
func (d *goldenDir) ask() error {
	from := d.target()
	if d.judge != "" {
		from = d.judge
	}
	work, err := os.MkdirTemp("", "judge")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := copyFiles(from, work); err != nil {
		return err
	}
	opts := smallOptions().WithDir(work).WithValueDir(work).WithIndexCacheSize(10 << 20)
	if d.read != nil {
		// The first open is with ev-node's options, for the error.
		if db, err := badger.Open(opts); err != nil {
			d.refusal(err, work)
		} else if err := db.Close(); err != nil {
			return err
		}
		opts = d.read(opts)
		if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o755), copyFiles(from, work)); err != nil {
			return err
		}
	}
	db, err := badger.Open(opts)
	for try := 0; err != nil && try < 3; try++ {
		d.refusal(err, work)
		db, err = badger.Open(opts)
	}
	if err != nil {
		return nil // it stays shut; the paper says why
	}
	return errors.Join(d.interview(db), db.Close())
}

// refusal notes the first error of an open, without the stack that Badger adds.
func (d *goldenDir) refusal(err error, work string) {
	if d.paper.Badger.Error == "" {
		text, _, _ := strings.Cut(err.Error(), "\n")
		d.paper.Badger.Error = strings.ReplaceAll(text, work, "db")
	}
}

func (d *goldenDir) interview(db *badger.DB) error {
	p := &d.paper.Badger
	if err := db.VerifyChecksum(); err != nil {
		p.Checksums = err.Error()
	} else {
		p.Checksums = "ok"
	}
	view, err := digests(db)
	if err != nil {
		return err
	}
	p.View, p.Entries, p.Backup = &view, "entries.jsonl", "backup.jsonl"
	if err := toFile(filepath.Join(d.out, p.Entries), func(w *bufio.Writer) error { return d.list(db, w) }); err != nil {
		return err
	}
	segment := filepath.Join(d.out, "segment")
	defer os.Remove(segment)
	if p.BackupSays, err = backupTo(db, segment, 0); err != nil {
		return err
	}
	lines, err := sortedDump(segment)
	if err != nil {
		return err
	}
	return toFile(filepath.Join(d.out, p.Backup), func(w *bufio.Writer) error {
		for _, line := range lines {
			if err := writeLine(w, line); err != nil {
				return err
			}
		}
		return nil
	})
}

// list writes every physical entry, and which of them Badger's Get finds.
func (d *goldenDir) list(db *badger.DB, w *bufio.Writer) error {
	txn := db.NewTransaction(false)
	defer txn.Discard()
	return forEachVersion(db, func(_ uint64, item *badger.Item, meta byte, _ func() bool) error {
		if item == nil {
			return nil
		}
		value, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(value)
		e := dirEntry{
			Key: hex.EncodeToString(item.Key()), Version: item.Version(), Meta: meta, UserMeta: item.UserMeta(),
			ExpiresAt: item.ExpiresAt(), ValueLen: len(value), ValueSHA256: hex.EncodeToString(sum[:]),
			// No value that went to the value log is empty.
			Dangling: meta&metaPointer != 0 && len(value) == 0 && !item.IsDeletedOrExpired(),
		}
		if found, err := txn.Get(item.Key()); err == nil {
			e.Live = found.Version() == item.Version()
		} else if !errors.Is(err, badger.ErrKeyNotFound) {
			return err
		}
		if e.Dangling {
			d.paper.Badger.Dangling++
		}
		return writeLine(w, e)
	})
}

// sortedDump is a backup stream's entries, in order of keys, newest first.
func sortedDump(segment string) ([]kvLine, error) {
	in, err := os.Open(segment)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var lines []kvLine
	_, err = readStream(in, func(kv kvLine) error {
		kv.Frame, kv.StreamID = 0, 0 // differ from run to run
		lines = append(lines, kv)
		return nil
	})
	sort.SliceStable(lines, func(i, j int) bool {
		if lines[i].Key != lines[j].Key {
			return lines[i].Key < lines[j].Key
		}
		return lines[i].Version > lines[j].Version
	})
	return lines, err
}

func toFile(path string, write func(w *bufio.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	return errors.Join(write(w), w.Flush(), file.Close())
}

func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		body, err := os.ReadFile(filepath.Join(from, entry.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, entry.Name()), body, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeManifest replaces MANIFEST by one record that creates these tables, as Badger's rewrite does.
func (d *goldenDir) writeManifest(tables []*pb.ManifestChange) error {
	body, err := proto.Marshal(&pb.ManifestChangeSet{Changes: tables})
	if err != nil {
		return err
	}
	out := append([]byte("Bdgr"), 0, 0, 0, 8)
	out = append(out, y.U32ToBytes(uint32(len(body)))...)
	out = append(out, y.U32ToBytes(crc(body))...)
	return os.WriteFile(filepath.Join(d.target(), "MANIFEST"), append(out, body...), 0o644)
}

// edit changes a file of the finished directory.
func (d *goldenDir) edit(name string, change func(body []byte) []byte) error {
	path := filepath.Join(d.target(), name)
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, change(body), 0o644)
}
