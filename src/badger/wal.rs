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
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
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

/// Finds what has happened. A log that has been emptied or is not made yet has nothing.
pub(super) fn replay(blob: &Blob, progress: &Progress) -> Result<Replayed> {
    let mut found = Replayed { end: HEADER as u64, ..Replayed::default() };
    if blob.len() < HEADER as u64 {
        return Ok(found);
    }
    match check_header(blob) {
        Ok(()) => {}
        // It was emptied, which the caller sees.
        Err(_) if !blob.is_whole()? => return Ok(found),
        Err(error) => return Err(error),
    }
    let mut records = Records::new(blob, HEADER as u64, blob.len());
    let mut open = Open::default();
    let mut stuck = (0, 0);
    let mut seen = 0_u64;
    loop {
        while let Some((record, len)) = records.peek()? {
            let step = open.take(&record)?;
            if step == Step::End {
                break;
            }
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
        let Some(mark) = mark_behind(blob, at)? else { return Ok(found) };
        if !blob.is_whole()? {
            return Ok(found);
        }
        stuck = if stuck.0 == at { (at, stuck.1 + 1) } else { (at, 0) };
        if stuck.1 == AGAIN {
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

/// Makes sorted tables without a name of what has happened in a log, the newest last: for one internal key the later table counts.
///
/// `wanted` says of a user key and version whether anybody will ask for it.
pub(super) fn tables(
    blob: &Blob,
    end: u64,
    scratch: &Scratch,
    progress: &Progress,
    wanted: &dyn Fn(&[u8], u64) -> bool,
) -> Result<Vec<Blob>> {
    let mut records = Records::new(blob, HEADER as u64, end);
    let (mut tables, mut chunk, mut seen) = (Vec::new(), Chunk::default(), 0_u64);
    while records.position() < end {
        let Some((record, len)) = records.peek()? else {
            // It was read before.
            let at = records.position();
            let what =
                format!("expected the records that were there up to byte {end}, found the end at byte {at}");
            return Err(Error::damaged(what).at_path(blob.path()).at_offset(at));
        };
        if record.meta & META_FIN_TXN == 0 {
            let (user_key, version) = key::split(record.key)?;
            if wanted(user_key, version) {
                if chunk.is_full_with(&record) {
                    tables.push(chunk.table(blob, scratch)?);
                }
                chunk.push(&record);
            }
        }
        records.pass(len);
        seen += 1;
        if seen.is_multiple_of(RECORDS) {
            progress.check()?;
        }
    }
    if !chunk.slots.is_empty() {
        tables.push(chunk.table(blob, scratch)?);
    }
    Ok(tables)
}

/// Records that are sorted together.
#[derive(Default)]
struct Chunk {
    /// Internal key and value structure, one record after the other.
    bytes: Vec<u8>,
    slots: Vec<Slot>,
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

    /// Writes what it holds and is empty again.
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
        self.bytes.clear();
        if self.bytes.capacity() > 2 * CHUNK {
            self.bytes = Vec::new();
        }
        Blob::of(file, log.path())
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::{blob, vector};
    use super::super::log::{put_header, put_record};
    use super::super::table::Table;
    use super::*;

    /// A log that a test writes as Badger does.
    struct Log(Vec<u8>);

    impl Log {
        fn new() -> Self {
            let mut bytes = Vec::new();
            put_header(&mut bytes, [7; 12]);
            Self(bytes)
        }

        fn put(&mut self, user_key: &[u8], version: u64, meta: u8, value: &[u8]) -> &mut Self {
            let mut internal = Vec::new();
            key::put(&mut internal, user_key, version);
            put_record(&mut self.0, &Record { key: &internal, meta, value, ..Record::default() });
            self
        }

        fn commit(&mut self, version: u64) -> &mut Self {
            self.put(MARK, version, META_FIN_TXN, version.to_string().as_bytes())
        }

        fn end(&self) -> u64 {
            self.0.len() as u64
        }
    }

    fn replayed(bytes: &[u8]) -> Result<Replayed> {
        replay(&blob(bytes), &Progress::new())
    }

    #[test]
    fn transactions_of_badger_are_replayed() {
        let expected = Replayed { end: vector().len() as u64, max_version: 2, max_txn: Some(2), entries: 3 };
        assert_eq!(replayed(&vector()).unwrap(), expected);
        let mut padded = vector();
        padded.resize(1 << 20, 0);
        assert_eq!(replayed(&padded).unwrap(), expected);
    }

    #[test]
    fn a_torn_tail_ends_the_log_at_the_last_commit() {
        let whole = vector();
        let first = 20 + 29 + 26 + 29;
        for cut in 0..whole.len() {
            let mut padded = whole[..cut].to_vec();
            if cut >= HEADER {
                padded.resize(whole.len() + 100, 0);
            }
            let found = replayed(&padded).unwrap();
            let (end, entries) = if cut < first { (20, 0) } else { (first as u64, 2) };
            assert_eq!((found.end, found.entries), (end, entries), "{cut}");
        }
    }

    #[test]
    fn what_is_not_committed_or_does_not_fit_was_never_there() {
        let mut log = Log::new();
        let end = log.put(b"a", 1, META_TXN, b"1").commit(1).end();
        let uncommitted: [&dyn Fn(&mut Log) -> &mut Log; 5] = [
            &|log| log.put(b"b", 2, META_TXN, b"2"),
            &|log| log.put(b"b", 2, META_TXN, b"2").put(b"c", 3, META_TXN, b"3"),
            &|log| log.put(b"b", 2, META_TXN, b"2").put(b"c", 2, 0, b"3"),
            &|log| log.put(b"b", 2, META_TXN, b"2").put(MARK, 3, META_FIN_TXN, b"3"),
            &|log| log.put(b"b", 2, META_TXN, b"2").put(MARK, 2, META_FIN_TXN, b"+2"),
        ];
        for (case, add) in uncommitted.into_iter().enumerate() {
            let mut log = Log(log.0.clone());
            add(&mut log);
            let found = replayed(&log.0).unwrap();
            let expected = Replayed { end, max_version: 1, max_txn: Some(1), entries: 1 };
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn entries_of_no_transaction_commit_by_themselves() {
        let mut log = Log::new();
        log.put(b"gc", 90, 0, b"old").put(b"a", 91, META_TXN, b"1").commit(91).put(b"gc", 95, 0, b"x");
        let found = replayed(&log.0).unwrap();
        let expected = Replayed { end: log.end(), max_version: 95, max_txn: Some(91), entries: 3 };
        assert_eq!(found, expected);
        assert_eq!(replayed(&Log::new().put(b"gc", 9, 0, b"old").0).unwrap().max_txn, None);
    }

    #[test]
    fn damage_before_a_commit_mark_is_named_with_its_byte() {
        let mut log = Log::new();
        log.put(b"a", 1, META_TXN, b"1").put(b"b", 1, META_TXN, b"1").commit(1);
        let mark = log.put(b"a", 2, META_TXN, b"2").put(b"b", 2, META_TXN, b"2").end();
        log.commit(2);
        for at in HEADER as u64..log.end() {
            let mut flipped = log.0.clone();
            flipped[usize::try_from(at).unwrap()] ^= 0x10;
            flipped.resize(4096, 0);
            if at >= mark {
                // Without its mark the last transaction was never there.
                assert_eq!(replayed(&flipped).unwrap().max_txn, Some(1), "{at}");
                continue;
            }
            let error = replayed(&flipped).unwrap_err();
            assert_eq!(error.code(), "damaged", "{at}");
            assert!(error.offset().unwrap() <= at && error.path().is_some(), "{at}: {error}");
        }
        let mut zeroed = Log::new();
        for version in 1..50 {
            zeroed.put(b"key", version, META_TXN, &[1; 9000]).commit(version);
        }
        zeroed.0[30_000..34_000].fill(0);
        assert_eq!(replayed(&zeroed.0).unwrap_err().code(), "damaged");
    }

    #[test]
    fn a_record_that_the_node_was_writing_is_read_again() {
        use std::os::unix::fs::FileExt;
        let mut log = Log::new();
        let first = log.put(b"a", 1, META_TXN, b"1").commit(1).end();
        log.put(b"b", 2, META_TXN, &[5; 40]).commit(2);
        let mut torn = log.0.clone();
        torn[usize::try_from(first).unwrap() + 20..][..10].fill(0);
        let file = Scratch::system().file().unwrap();
        file.write_all_at(&torn, 0).unwrap();
        let node = file.try_clone().unwrap();
        let blob = Blob::of(file, std::path::Path::new("00001.mem")).unwrap();
        let whole = log.0.clone();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(PAUSE);
            node.write_all_at(&whole, 0).unwrap();
        });
        let found = replay(&blob, &Progress::new()).unwrap();
        writer.join().unwrap();
        assert_eq!((found.end, found.max_txn), (log.end(), Some(2)));
    }

    #[test]
    fn an_empty_log_has_nothing() {
        for len in [0, 1, HEADER - 1, HEADER, 4096] {
            let found = replayed(&vec![0; len]).unwrap();
            assert_eq!((found.entries, found.end, found.max_txn), (0, HEADER as u64, None));
        }
    }

    #[test]
    fn a_log_becomes_sorted_tables_of_bounded_size_in_which_the_later_entry_counts() {
        let mut log = Log::new();
        let value = vec![5; 1 << 20];
        for version in 1..=40 {
            let key = format!("k{:02}", version * 7 % 40);
            log.put(key.as_bytes(), version, META_TXN, &value).commit(version);
        }
        // Garbage collection writes again what is there.
        log.put(b"gc", 3, 0, b"first").put(b"gc", 3, 0, b"second");
        let blob = blob(&log.0);
        let (progress, scratch) = (Progress::new(), Scratch::system());
        let end = replay(&blob, &progress).unwrap().end;
        let found = tables(&blob, end, &scratch, &progress, &|_, version| version > 2).unwrap();
        assert_eq!(found.len(), 2);
        let mut entries = Vec::new();
        for sorted in found {
            assert!(sorted.len() < 2 * CHUNK as u64);
            let mut walk = Table::open(sorted, Compression::None).unwrap().walk().unwrap();
            while walk.advance().unwrap() {
                walk.load().unwrap();
                entries.push((walk.key().to_vec(), walk.value().bytes.to_vec()));
            }
        }
        assert_eq!(entries.len(), 38 + 1);
        let of_gc: Vec<_> = entries.iter().filter(|(key, _)| key.starts_with(b"gc")).collect();
        assert_eq!(of_gc.len(), 1);
        assert_eq!(of_gc[0].1, b"second");
    }
}
