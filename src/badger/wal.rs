//! `NNNNN.mem`: the log of a table that is still in memory (`memtable.go` of Badger v4.5.1). The records are drawn in `log`.
//!
//! A transaction stands in one file: its entries, marked as such and all of one version, then the mark that commits it, whose value is
//! that version in decimal. Entries without either mark commit by themselves (`Load`, value-log GC). What no mark commits was never
//! there; where a record cannot be read, or does not fit the ones before, the log ends.
//!
//! **An end in the middle.** Whoever writes a log writes it front to back, so behind its end there is nothing. If a whole commit mark is
//! found there, a transaction was acknowledged whose bytes were damaged since: Badger would drop it and all that follows without a word, we
//! do not. In a log that a node is writing to, the mark may only be newer than what we have read; so it is read again before it is
//! called damage.
//!
//! Memory: nothing of the log is held but while it is sorted, [`CHUNK`] bytes at a time.
//!
//! A log is read once, however much of it is wanted, and who knows what has happened up to some commit goes on from there.

use super::blob::Blob;
use super::key;
use super::log::{HEADER, Record, Records, check_header, read_record};
use super::meta::{META_FIN_TXN, META_TXN, Value};
use super::table::{Builder, BuilderOptions, Compression};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::time::Duration;

/// So many bytes of a log are sorted at once.
const CHUNK: usize = 32 << 20;
/// The user key of a commit mark.
const MARK: &[u8] = b"!badger!txn";
/// Bytes of a commit mark before its key.
const MARK_HEAD: u64 = 5;
/// What is searched for marks at once.
const WINDOW: usize = 256 << 10;
/// A record that a node was writing while we read is right by then.
const AGAIN: u32 = 3;
const PAUSE: Duration = Duration::from_millis(5);
/// Progress is asked once in so many records.
const RECORDS: u64 = 1024;

/// What of a log has happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Replayed {
    /// Where the last commit ends: everything before has happened.
    pub(super) end: u64,
    /// The highest version.
    pub(super) max_version: u64,
    /// The highest version of a transaction; `None` when there was none.
    pub(super) max_txn: Option<u64>,
    /// How many entries.
    pub(super) entries: u64,
}

impl Default for Replayed {
    /// Nothing yet.
    fn default() -> Self {
        Self { end: HEADER as u64, max_version: 0, max_txn: None, entries: 0 }
    }
}

/// How a log is read: where and what of it is sorted.
#[derive(Clone, Copy)]
pub(super) struct Sorting<'a> {
    /// A node may be writing to it.
    pub(super) live: bool,
    /// Where tables without a name are made.
    pub(super) scratch: &'a Scratch,
    /// Will anybody ask for this user key at this version?
    pub(super) wanted: &'a dyn Fn(&[u8], u64) -> bool,
}

/// Finds what has happened behind `before`, up to `until` if it is known that commits go so far, and makes sorted tables without a name of
/// it, the newest last: for one internal key the later table counts. A log that has been emptied or is not made yet has nothing.
pub(super) fn read(
    blob: &Blob,
    before: Replayed,
    until: Option<u64>,
    sorting: Sorting<'_>,
    progress: &Progress,
) -> Result<(Replayed, Vec<Blob>)> {
    let mut sorter =
        Sorter { log: blob, sorting, chunk: Chunk::default(), done: Vec::new(), open: Vec::new() };
    let found = follow(blob, before, until, progress, &mut sorter)?;
    Ok((found, sorter.finish()?))
}

fn follow(
    blob: &Blob,
    before: Replayed,
    until: Option<u64>,
    progress: &Progress,
    sorter: &mut Sorter<'_>,
) -> Result<Replayed> {
    let mut found = before;
    if blob.len() < HEADER as u64 {
        return Ok(found);
    }
    match check_header(blob) {
        Ok(()) => {}
        // It was emptied, which the caller sees.
        Err(_) if !blob.is_whole()? => return Ok(found),
        Err(error) => return Err(error),
    }
    let mut records = Records::new(blob, before.end, until.unwrap_or(blob.len()));
    let mut open = Open::default();
    let mut stuck = (0, 0);
    let mut seen = 0_u64;
    loop {
        while let Some((record, len)) = records.peek()? {
            let step = open.take(&record)?;
            if step == Step::End {
                break;
            }
            sorter.take(&record, step)?;
            records.pass(len);
            if step == Step::Commit {
                found.add(&open);
                found.end = records.position();
                open = Open::default();
            }
            seen += 1;
            if seen.is_multiple_of(RECORDS) {
                progress.check()?;
            }
        }
        let at = records.position();
        if until.is_some_and(|until| found.end >= until) {
            return Ok(found);
        }
        let Some(mark) = mark_behind(blob, at)? else { return Ok(found) };
        if !blob.is_whole()? {
            return Ok(found);
        }
        stuck = if stuck.0 == at { (at, stuck.1 + 1) } else { (at, 0) };
        if stuck.1 == AGAIN || !sorter.sorting.live {
            let what = format!(
                "expected the next record of a log, found none, and behind it a commit at byte {mark}"
            );
            return Err(Error::damaged(what).at_path(blob.path()).at_offset(at).with_hint(
                "Badger drops everything from there on when it opens the directory: start and stop the node to accept that",
            ));
        }
        std::thread::sleep(PAUSE);
        progress.check()?;
        records.reread(at);
    }
}

/// Entries that no mark has committed yet.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    /// The version of the transaction, 0 outside one.
    txn: u64,
    max_version: u64,
    entries: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Pending,
    Commit,
    End,
}

impl Open {
    fn take(&mut self, record: &Record<'_>) -> Result<Step> {
        let (_, version) = key::split(record.key)?;
        if record.meta & META_TXN != 0 {
            if self.txn == 0 {
                self.txn = version;
            }
            if version != self.txn {
                return Ok(Step::End);
            }
        } else if record.meta & META_FIN_TXN != 0 {
            return Ok(if decimal(record.value) == Some(self.txn) { Step::Commit } else { Step::End });
        } else if self.txn != 0 {
            return Ok(Step::End);
        }
        self.entries += 1;
        self.max_version = version;
        Ok(if self.txn == 0 { Step::Commit } else { Step::Pending })
    }
}

impl Replayed {
    fn add(&mut self, open: &Open) {
        self.entries += open.entries;
        self.max_version = self.max_version.max(open.max_version);
        if open.txn != 0 {
            self.max_txn = self.max_txn.max(Some(open.txn));
        }
    }
}

/// As Go reads a number: digits alone.
fn decimal(text: &[u8]) -> Option<u64> {
    let text =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

/// Where a whole commit mark stands behind `from`.
fn mark_behind(blob: &Blob, from: u64) -> Result<Option<u64>> {
    let mut window = vec![0; WINDOW];
    let mut from = from + 1;
    while let Some((start, end)) = blob.next_data(from)? {
        let mut at = start;
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(WINDOW).min(WINDOW);
            let found = blob.read_some(at, window.get_mut(..room).unwrap_or_default())?;
            let bytes = window.get(..found).unwrap_or_default();
            for place in places(bytes, MARK) {
                let mark = (at + place as u64).saturating_sub(MARK_HEAD);
                if mark >= from && is_mark(blob, mark)? {
                    return Ok(Some(mark));
                }
            }
            if found < room || at + found as u64 == end {
                break;
            }
            // A mark may lie across two windows.
            at += (found - MARK.len()) as u64;
        }
        from = from.max(end);
    }
    Ok(None)
}

/// Where `word` begins in `bytes`.
fn places<'a>(bytes: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    // Nearly all of it is zeros: whole blocks of those are passed at once.
    let blocks = bytes.chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0));
    blocks.flat_map(move |(block, _)| {
        let begin = block * 4096;
        let end = bytes.len().min(begin + 4096 + word.len() - 1);
        let around = bytes.get(begin..end).unwrap_or_default();
        around
            .windows(word.len())
            .enumerate()
            .filter(move |(_, found)| *found == word)
            .map(move |(at, _)| begin + at)
    })
}

fn is_mark(blob: &Blob, at: u64) -> Result<bool> {
    // Head, key with version, up to 20 digits, checksum.
    let mut bytes = [0; 64];
    let found = blob.read_some(at, &mut bytes)?;
    let record = read_record(bytes.get(..found).unwrap_or_default());
    Ok(record.is_ok_and(|(record, _)| {
        record.meta & META_FIN_TXN != 0
            && key::split(record.key)
                .is_ok_and(|(key, version)| key == MARK && decimal(record.value) == Some(version))
    }))
}

/// Sorts what passes.
struct Sorter<'a> {
    log: &'a Blob,
    sorting: Sorting<'a>,
    /// What is in no table yet.
    chunk: Chunk,
    /// Tables of what is committed, and of what is not yet.
    done: Vec<Blob>,
    open: Vec<Blob>,
}

impl Sorter<'_> {
    fn take(&mut self, record: &Record<'_>, step: Step) -> Result<()> {
        if record.meta & META_FIN_TXN == 0 {
            let (user_key, version) = key::split(record.key)?;
            if (self.sorting.wanted)(user_key, version) {
                if self.chunk.is_full_with(record) {
                    self.empty()?;
                }
                self.chunk.push(record);
            }
        }
        if step == Step::Commit {
            self.chunk.committed = self.chunk.slots.len();
            self.done.append(&mut self.open);
        }
        Ok(())
    }

    /// Makes tables of what is held: what no mark has committed yet gets its own.
    fn empty(&mut self) -> Result<()> {
        let open = self.chunk.slots.split_off(self.chunk.committed);
        if !self.chunk.slots.is_empty() {
            let table = self.chunk.table(self.log, self.sorting.scratch)?;
            self.done.push(table);
        }
        self.chunk.slots = open;
        if !self.chunk.slots.is_empty() {
            let table = self.chunk.table(self.log, self.sorting.scratch)?;
            self.open.push(table);
        }
        self.chunk.clear();
        Ok(())
    }

    /// What is committed.
    fn finish(mut self) -> Result<Vec<Blob>> {
        self.chunk.slots.truncate(self.chunk.committed);
        self.empty()?;
        Ok(self.done)
    }
}

/// Records that are sorted together.
#[derive(Default)]
struct Chunk {
    /// Internal key and value structure, one record after the other.
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// How many of them are committed.
    committed: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    start: usize,
    key: u32,
    len: usize,
}

impl Chunk {
    fn is_full_with(&self, record: &Record<'_>) -> bool {
        let held = self.bytes.len() + self.slots.len() * size_of::<Slot>();
        !self.slots.is_empty() && held + record.key.len() + record.value.len() > CHUNK
    }

    fn push(&mut self, record: &Record<'_>) {
        if self.bytes.capacity() == 0 {
            // Once, so that it is not moved as it grows; pages that are not used cost nothing.
            self.bytes.reserve(CHUNK);
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.key);
        let Record { meta, user_meta, expires_at, value, .. } = *record;
        Value { meta: meta & !META_TXN, user_meta, expires_at, bytes: value }.put(&mut self.bytes);
        let key = u32::try_from(record.key.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot { start, key, len: self.bytes.len() - start });
    }

    fn parts(&self, slot: Slot) -> (&[u8], &[u8]) {
        let whole = self.bytes.get(slot.start..slot.start + slot.len).unwrap_or_default();
        whole.split_at_checked(slot.key as usize).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.committed = 0;
        self.slots.clear();
        self.bytes.clear();
        if self.bytes.capacity() > 2 * CHUNK {
            self.bytes = Vec::new();
        }
    }

    /// Writes what its slots stand for, and has none any more.
    fn table(&mut self, log: &Blob, scratch: &Scratch) -> Result<Blob> {
        let mut slots = std::mem::take(&mut self.slots);
        slots.sort_unstable_by(|one, other| {
            // Of the same internal key the later one first: it counts.
            key::compare(self.parts(*one).0, self.parts(*other).0).then(other.start.cmp(&one.start))
        });
        slots.dedup_by(|later, first| {
            key::compare(self.parts(*later).0, self.parts(*first).0) == Ordering::Equal
        });
        let file = scratch.file()?;
        let options = BuilderOptions { compression: Compression::None, block_size: 16 << 10, bloom: false };
        let mut builder = Builder::new(&file, options)?;
        for slot in slots {
            let (internal, value) = self.parts(slot);
            builder.add(internal, &Value::read(value)?, 0)?;
        }
        let written = builder.finish(None);
        written.map_err(|error| error.at_path(scratch.folder()))?;
        Blob::of(file, log.path())
    }
}

#[cfg(test)]
mod tests;
