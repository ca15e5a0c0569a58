//! The index by version of entries that arrive by key: an external sort.
//!
//! Keys are gathered in memory up to a bound, sorted by version and, when there are more, spilled as a run; runs are merged at
//! the end. Entries arrive with their keys ascending, so that a stable sort by version alone gives version, then key.
//!
//! A run, private to one load and never synced: version u64 be │ length u32 be │ key, repeated.

use crate::error::{Error, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Runs that are merged at once: each holds a file and a buffer.
const MAX_RUNS: usize = 128;
const RUN_BUFFER: usize = 64 << 10;
/// Slots hold 32-bit offsets.
const MAX_MEMORY: usize = 1 << 30;

/// Takes the keys and versions of entries in entry order, gives them back by version.
pub(super) struct Versions {
    dir: PathBuf,
    /// The keys one behind the other.
    keys: Vec<u8>,
    slots: Vec<Slot>,
    max_keys: usize,
    max_slots: usize,
    runs: Vec<File>,
    made: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    version: u64,
    at: u32,
    len: u32,
}

impl Versions {
    /// Spills into `dir` what does not fit into `memory` bytes.
    pub(super) fn new(dir: &Path, memory: usize) -> Self {
        let memory = memory.clamp(1 << 10, MAX_MEMORY);
        // A stable sort needs room for half of the slots beside them.
        let max_slots = memory / 3 / size_of::<Slot>();
        Self {
            dir: dir.to_owned(),
            keys: Vec::new(),
            slots: Vec::new(),
            max_keys: memory / 2,
            max_slots,
            runs: Vec::new(),
            made: 0,
        }
    }

    /// Takes one.
    pub(super) fn push(&mut self, version: u64, key: &[u8]) -> Result<()> {
        let len =
            u32::try_from(key.len()).map_err(|_| Error::damaged("expected a key, found 4 GiB of one"))?;
        if self.slots.len() >= self.max_slots || self.keys.len() + key.len() > self.max_keys {
            self.spill()?;
        }
        if self.slots.is_empty() {
            // Once for all: growing would copy, and untouched room costs nothing.
            self.keys.reserve(self.max_keys.max(key.len()));
            self.slots.reserve(self.max_slots);
        }
        let at = u32::try_from(self.keys.len()).map_err(|_| Error::damaged("expected fewer keys"))?;
        self.keys.extend_from_slice(key);
        self.slots.push(Slot { version, at, len });
        Ok(())
    }

    /// Gives all of them to `take`, by version, then by key.
    pub(super) fn finish(mut self, mut take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        if self.runs.is_empty() {
            return self.drain(&mut take);
        }
        self.spill()?;
        (self.keys, self.slots) = (Vec::new(), Vec::new());
        merge(std::mem::take(&mut self.runs), &self.dir, &mut take)
    }

    fn drain(&mut self, take: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        self.slots.sort_by_key(|slot| slot.version);
        for slot in &self.slots {
            let key = self.keys.get(slot.at as usize..).and_then(|keys| keys.get(..slot.len as usize));
            take(slot.version, key.unwrap_or_default())?;
        }
        self.slots.clear();
        self.keys.clear();
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        if self.slots.is_empty() {
            return Ok(());
        }
        if self.runs.len() >= MAX_RUNS {
            let runs = std::mem::take(&mut self.runs);
            let mut run = self.new_run()?;
            merge(runs, &self.dir, &mut |version, key| run.put(version, key))?;
            self.runs.push(run.finish()?);
        }
        let mut run = self.new_run()?;
        self.drain(&mut |version, key| run.put(version, key))?;
        self.runs.push(run.finish()?);
        Ok(())
    }

    fn new_run(&mut self) -> Result<NewRun> {
        self.made += 1;
        NewRun::create(&self.dir.join(format!("versions-{:06}.run", self.made)))
    }
}

struct NewRun {
    path: PathBuf,
    out: BufWriter<File>,
}

impl NewRun {
    fn create(path: &Path) -> Result<Self> {
        let new = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        // Only the open file is needed: whatever happens, nothing is left.
        let file = new.and_then(|file| std::fs::remove_file(path).map(|()| file));
        let file = file.map_err(|error| Error::from_io(error, "create a sorted run", path))?;
        Ok(Self { path: path.to_owned(), out: BufWriter::with_capacity(RUN_BUFFER, file) })
    }

    fn put(&mut self, version: u64, key: &[u8]) -> Result<()> {
        let len = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let put = self.out.write_all(&version.to_be_bytes());
        let put = put.and_then(|()| self.out.write_all(&len.to_be_bytes()));
        let put = put.and_then(|()| self.out.write_all(key));
        put.map_err(|error| Error::from_io(error, "write a sorted run", &self.path))
    }

    fn finish(self) -> Result<File> {
        let Self { path, out } = self;
        let rewound = out.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|mut file| {
            file.rewind()?;
            Ok(file)
        });
        rewound.map_err(|error| Error::from_io(error, "write a sorted run", &path))
    }
}

/// A run that is being read; runs are ordered by what they stand on.
struct Run {
    version: u64,
    key: Vec<u8>,
    /// Earlier runs hold lower keys of a version, and ties are impossible: a key and version comes once.
    number: usize,
    from: BufReader<File>,
}

impl Run {
    /// Moves to the next; false at the end.
    fn advance(&mut self) -> std::io::Result<bool> {
        let mut head = [0_u8; 8];
        match self.from.read(&mut head)? {
            0 => return Ok(false),
            read => self.from.read_exact(head.get_mut(read..).unwrap_or_default())?,
        }
        self.version = u64::from_be_bytes(head);
        let mut len = [0_u8; 4];
        self.from.read_exact(&mut len)?;
        self.key.resize(u32::from_be_bytes(len) as usize, 0);
        self.from.read_exact(&mut self.key)?;
        Ok(true)
    }

    fn place(&self) -> (u64, &[u8], usize) {
        (self.version, &self.key, self.number)
    }
}

impl Ord for Run {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Run {}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

fn merge(files: Vec<File>, dir: &Path, take: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let failed = |error| Error::from_io(error, "read a sorted run", dir);
    let mut heap = BinaryHeap::with_capacity(files.len());
    for (number, file) in files.into_iter().enumerate() {
        let from = BufReader::with_capacity(RUN_BUFFER, file);
        let mut run = Run { version: 0, key: Vec::new(), number, from };
        if run.advance().map_err(failed)? {
            heap.push(Reverse(run));
        }
    }
    while let Some(mut least) = heap.peek_mut() {
        take(least.0.version, &least.0.key)?;
        if !least.0.advance().map_err(failed)? {
            PeekMut::pop(least);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(memory: usize, count: u32) -> Vec<(u64, Vec<u8>)> {
        let dir = tempfile::tempdir().unwrap();
        let mut versions = Versions::new(dir.path(), memory);
        for number in 0..count {
            let version = u64::from(number.wrapping_mul(2_654_435_761) % 97);
            versions.push(version, format!("key {number:06}").as_bytes()).unwrap();
        }
        let mut out = Vec::new();
        versions
            .finish(|version, key| {
                out.push((version, key.to_vec()));
                Ok(())
            })
            .unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        out
    }

    #[test]
    fn order_is_version_then_key_however_often_it_spills() {
        let in_memory = sorted(1 << 20, 5_000);
        assert_eq!(in_memory.len(), 5_000);
        assert!(in_memory.is_sorted());
        // 21 slots to a run: more than MAX_RUNS of them.
        assert_eq!(sorted(1 << 10, 5_000), in_memory);
        assert_eq!(sorted(16 << 10, 5_000), in_memory);
    }

    #[test]
    fn nothing_in_is_nothing_out() {
        assert!(sorted(1 << 10, 0).is_empty());
    }
}
