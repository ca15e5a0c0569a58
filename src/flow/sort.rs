//! Entries in an order that memory does not hold: sorted runs in nameless files, merged.

use super::merge::{Merge, Named};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Entry, Sink, Source};
use crate::error::{Error, Result};
use crate::format::{FileInput, Reader, Writer};
use std::io::Write;
use std::ops::Range;

/// Writes a source that is in order to a nameless file, as a stream; what it gives reads that file.
pub fn spill(source: &mut dyn Source, scratch: &Scratch, progress: &Progress) -> Result<Reader<FileInput>> {
    let mut file = scratch.file()?;
    let mut writer = Box::new(Writer::new(1, |frame: &mut Vec<u8>| {
        progress.check()?;
        file.write_all(frame)
            .map_err(|error| Error::from_io(error, "write a temporary file", scratch.folder()))?;
        frame.clear();
        Ok(())
    }));
    while source.advance()? {
        writer.put(source.entry())?;
    }
    writer.finish()?;
    Ok(Reader::new(FileInput::from_file(file, scratch.folder())?))
}

/// Takes entries in any order within `memory` bytes, and gives them back sorted, each key and version once.
pub struct Sorter {
    scratch: Scratch,
    progress: Progress,
    memory: usize,
    arena: Arena,
    runs: Vec<Named<'static>>,
}

impl Sorter {
    /// A sorter that holds at most about `memory` bytes, and the largest entry.
    pub fn new(scratch: &Scratch, memory: usize, progress: &Progress) -> Self {
        Self {
            scratch: scratch.clone(),
            progress: progress.clone(),
            memory,
            arena: Arena::default(),
            runs: Vec::new(),
        }
    }

    /// Takes one entry.
    pub fn put(&mut self, entry: Entry<'_>) -> Result<()> {
        let size = entry.key.len() + entry.value.len() + size_of::<Slot>();
        if !self.arena.slots.is_empty() && self.arena.size() + size > self.memory {
            self.arena.sort();
            let run = spill(&mut self.arena, &self.scratch, &self.progress)?;
            self.runs.push(Named::new("a sorted run", Box::new(run)));
            self.arena.clear();
        }
        self.arena.push(&entry);
        Ok(())
    }

    /// All of them, sorted.
    pub fn finish(mut self) -> Result<Box<dyn Source>> {
        self.arena.sort();
        self.runs.push(Named::new("the last run", Box::new(self.arena)));
        // Doubles within one run are dropped by the merge as well: it needs each run to be sorted, not strictly.
        Merge::in_passes(self.runs, &self.scratch, &self.progress)
            .map(|source| Box::new(Once::new(source)) as _)
    }
}

/// Entries side by side in memory.
#[derive(Default)]
struct Arena {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// Slots passed.
    passed: usize,
}

struct Slot {
    key: Range<usize>,
    value: Range<usize>,
    version: u64,
    expires_at: u64,
    meta: u8,
    user_meta: u8,
}

impl Slot {
    fn entry<'a>(&self, bytes: &'a [u8]) -> Entry<'a> {
        Entry {
            key: bytes.get(self.key.clone()).unwrap_or_default(),
            version: self.version,
            value: bytes.get(self.value.clone()).unwrap_or_default(),
            meta: self.meta,
            user_meta: self.user_meta,
            expires_at: self.expires_at,
        }
    }
}

impl Arena {
    fn size(&self) -> usize {
        self.bytes.len() + self.slots.len() * size_of::<Slot>()
    }

    fn push(&mut self, entry: &Entry<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(entry.key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(entry.value);
        self.slots.push(Slot {
            key: start..middle,
            value: middle..self.bytes.len(),
            version: entry.version,
            expires_at: entry.expires_at,
            meta: entry.meta,
            user_meta: entry.user_meta,
        });
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        // Stable and quick on what is nearly sorted, which entries of sorted runs are.
        self.slots.sort_by(|one, other| one.entry(bytes).order(&other.entry(bytes)));
        self.passed = 0;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.slots.clear();
        self.passed = 0;
    }
}

impl Source for Arena {
    fn advance(&mut self) -> Result<bool> {
        self.passed = (self.passed + 1).min(self.slots.len() + 1);
        Ok(self.passed <= self.slots.len())
    }

    fn entry(&self) -> Entry<'_> {
        let slot = self.passed.checked_sub(1).and_then(|at| self.slots.get(at));
        slot.map_or_else(Entry::default, |slot| slot.entry(&self.bytes))
    }
}

/// Drops an entry that is the one before it once more; refuses one that has its key and version only.
struct Once<S> {
    source: S,
    last: Option<crate::entry::OwnedEntry>,
}

impl<S: Source> Once<S> {
    fn new(source: S) -> Self {
        Self { source, last: None }
    }
}

impl<S: Source> Source for Once<S> {
    fn advance(&mut self) -> Result<bool> {
        while self.source.advance()? {
            let entry = self.source.entry();
            match &self.last {
                Some(last) if last.as_entry().order(&entry).is_eq() => {
                    if !last.as_entry().same_content(&entry) {
                        return Err(Error::mismatch(format!(
                            "expected one value for key {} at version {}, found two",
                            entry.key.escape_ascii(),
                            entry.version
                        )));
                    }
                }
                _ => {
                    self.last = Some(entry.to_owned());
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn entry(&self) -> Entry<'_> {
        self.source.entry()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::OwnedEntry;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorts_whatever_the_memory(
            entries in prop::collection::vec((prop::collection::vec(0u8..4, 1..4), 0u64..4), 0..200),
            memory in 1usize..4000,
        ) {
            let (scratch, progress) = (Scratch::system(), Progress::new());
            let entries: Vec<_> = entries.into_iter().map(|(key, version)| OwnedEntry {
                value: vec![key.len().to_le_bytes()[0]; 20], key, version, ..OwnedEntry::default()
            }).collect();
            let mut sorter = Sorter::new(&scratch, memory, &progress);
            for entry in &entries {
                sorter.put(entry.as_entry())?;
            }
            let mut expected = entries;
            expected.sort_by(|a, b| a.as_entry().order(&b.as_entry()));
            expected.dedup();
            let mut sorted = sorter.finish()?;
            for entry in &expected {
                prop_assert!(sorted.advance()?);
                prop_assert_eq!(sorted.entry(), entry.as_entry());
            }
            prop_assert!(!sorted.advance()?);
        }
    }

    #[test]
    fn one_version_with_two_values_is_refused() {
        let (scratch, progress) = (Scratch::system(), Progress::new());
        let mut sorter = Sorter::new(&scratch, 1 << 20, &progress);
        for value in [b"a", b"b"] {
            sorter.put(Entry { key: b"k", version: 1, value, ..Entry::default() }).unwrap();
        }
        let mut all = sorter.finish().unwrap();
        assert!(all.advance().unwrap());
        assert_eq!(all.advance().unwrap_err().code(), "mismatch");
    }
}
