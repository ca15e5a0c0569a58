//! Logs as Badger and as tests write them.

use super::*;
use crate::badger::log::tests::{blob, vector};
use crate::badger::log::{put_header, put_record};
use crate::badger::table::Table;

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

fn replay(blob: &Blob, progress: &Progress) -> Result<Replayed> {
    let sorting = Sorting { live: true, scratch: &Scratch::system(), wanted: &|_, _| false };
    Ok(read(blob, Replayed::default(), None, sorting, progress)?.0)
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
    // The node is done with it when the record before is looked at: by then the reader has what it read before.
    let wanted = |key: &[u8], _: u64| {
        if key == b"a" {
            node.write_all_at(&whole, 0).unwrap();
        }
        false
    };
    let sorting = Sorting { live: true, scratch: &Scratch::system(), wanted: &wanted };
    let found = read(&blob, Replayed::default(), None, sorting, &Progress::new()).unwrap().0;
    assert_eq!((found.end, found.max_txn), (log.end(), Some(2)));
}

/// The entries of sorted tables, later tables last.
fn entries(tables: Vec<Blob>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    for sorted in tables {
        let mut walk = Table::open(sorted, Compression::None).unwrap().walk().unwrap();
        while walk.advance().unwrap() {
            walk.load().unwrap();
            entries.push((walk.key().to_vec(), walk.value().bytes.to_vec()));
        }
    }
    entries
}

#[test]
fn a_log_that_was_read_up_to_a_commit_is_read_on_from_there() {
    let mut log = Log::new();
    log.put(b"a", 1, META_TXN, b"1").commit(1).put(b"gc", 1, 0, b"x");
    let first = Log(log.0.clone());
    log.put(b"a", 2, META_TXN, b"2").put(b"b", 2, META_TXN, b"2").commit(2).put(b"c", 3, META_TXN, b"3");
    let (scratch, progress) = (Scratch::system(), Progress::new());
    let sorting = Sorting { live: true, scratch: &scratch, wanted: &|_, _| true };
    let of = |bytes: &[u8], before, until| read(&blob(bytes), before, until, sorting, &progress).unwrap();
    let (before, early) = of(&first.0, Replayed::default(), None);
    let (after, late) = of(&log.0, before, None);
    assert_eq!(after, replayed(&log.0).unwrap());
    assert_eq!((entries(early).len(), entries(late).len()), (2, 2));
    assert!(of(&log.0, after, None).1.is_empty());
    // Up to a commit, and nothing behind it.
    let (again, tables) = of(&log.0, Replayed::default(), Some(before.end));
    assert_eq!((again, entries(tables).len()), (before, 2));
}

#[test]
fn a_transaction_larger_than_what_is_sorted_at_once_is_there_with_its_mark_only() {
    let mut log = Log::new();
    log.put(b"a", 1, META_TXN, b"1").commit(1);
    let value = vec![5; 1 << 20];
    for number in 0..40 {
        log.put(format!("k{number:02}").as_bytes(), 2, META_TXN, &value);
    }
    let (scratch, progress) = (Scratch::system(), Progress::new());
    let sorting = Sorting { live: true, scratch: &scratch, wanted: &|_, _| true };
    let open = read(&blob(&log.0), Replayed::default(), None, sorting, &progress).unwrap();
    assert_eq!((open.0.entries, entries(open.1).len()), (1, 1));
    log.commit(2);
    let whole = read(&blob(&log.0), Replayed::default(), None, sorting, &progress).unwrap();
    assert_eq!((whole.0.entries, entries(whole.1).len()), (41, 41));
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
    let sorting = Sorting { live: true, scratch: &scratch, wanted: &|_, version| version > 2 };
    let (replayed, found) = read(&blob, Replayed::default(), None, sorting, &progress).unwrap();
    assert_eq!((replayed, found.len()), (replay(&blob, &progress).unwrap(), 2));
    assert!(found.iter().all(|sorted| sorted.len() < 2 * CHUNK as u64));
    let entries = entries(found);
    assert_eq!(entries.len(), 38 + 1);
    let of_gc: Vec<_> = entries.iter().filter(|(key, _)| key.starts_with(b"gc")).collect();
    assert_eq!(of_gc.len(), 1);
    assert_eq!(of_gc[0].1, b"second");
}
