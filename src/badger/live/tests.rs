//! Why the files are read in this order: what other orders would make of the same directory.

use super::*;
use crate::badger::frozen::memory_tables;
use crate::badger::merge::{Rank, Span, View, Which};
use crate::badger::node::{Live, Node};
use crate::badger::vlog::Vlogs;
use crate::entry::{META_DELETE, Source as _};
use std::cell::RefCell;

/// Steps 1 to 3, while the node does something once at a step.
fn look(dir: &Path, step: Option<Step>, act: impl Fn()) -> Result<State, Failure> {
    let left = RefCell::new(step);
    let pause = |at: Step| {
        if *left.borrow() == Some(at) {
            left.take();
            act();
        }
    };
    let (known, scratch, progress) = (Known::default(), Scratch::system(), Progress::new());
    let (dir, known, scratch, progress) = (dir, &known, &scratch, &progress);
    Look { dir, live: true, known, scratch, progress, wanted: &|_, _| true, pause: &pause }.state()
}

/// What is live in these tables and in the memtables of `memory`.
fn seen<'a>(tables: impl Iterator<Item = &'a Listed>, memory: &State) -> Live {
    let mut all: Vec<_> =
        tables.map(|listed| (Rank::table(listed.info.level, listed.id), listed.table.clone())).collect();
    all.extend(memory_tables(memory));
    let view = View::new(all, Vlogs::default(), 0);
    let mut entries = view.source(&Span::all(), 0, u64::MAX, Which::All).unwrap();
    let mut live: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
    while entries.advance().unwrap() {
        let entry = entries.entry();
        let value = (entry.meta & META_DELETE == 0).then(|| entry.value.to_vec());
        live.entry(entry.key.to_vec()).or_insert(value);
    }
    live.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

#[test]
fn who_reads_the_manifest_only_before_the_logs_loses_what_was_acknowledged() {
    let place = tempfile::tempdir().unwrap();
    let node = RefCell::new(Node::start(place.path()));
    node.borrow_mut().commit(&[(b"a", Some(b"1"))]);
    node.borrow_mut().flush(false);
    node.borrow_mut().commit(&[(b"a", Some(b"2")), (b"b", Some(b"2"))]);
    let acknowledged = node.borrow().states.len() - 1;
    // Between the MANIFEST and the logs the memtable becomes a table.
    let state = look(place.path(), Some(Step::Logs), || node.borrow_mut().flush(false)).unwrap();
    let possible = &node.borrow().states[acknowledged..];
    assert!(possible.contains(&seen(state.tables.iter(), &state)));
    let first = &state.first.manifest.tables;
    let once = seen(state.tables.iter().filter(|listed| first.contains_key(&listed.id)), &state);
    assert_eq!(once, node.borrow().states[1], "the commit that was acknowledged before is gone");
    assert!(!possible.contains(&once));
}

#[test]
fn who_reads_the_manifest_only_after_the_logs_brings_back_what_was_deleted() {
    let place = tempfile::tempdir().unwrap();
    let node = RefCell::new(Node::start(place.path()));
    node.borrow_mut().commit(&[(b"a", Some(b"1"))]);
    let work = || {
        let mut node = node.borrow_mut();
        node.flush(false);
        node.commit(&[(b"a", None), (b"b", Some(b"2"))]);
        node.flush(false);
        // The tombstone goes, and what it hides.
        node.compact();
    };
    let logs = look(place.path(), None, || {}).unwrap();
    // The table that the memtable became is needed, and has gone: the attempt is given up.
    let again = look(place.path(), Some(Step::Again), work);
    assert!(matches!(again, Err(Failure::Gone(..))), "{again:?}");
    let later = look(place.path(), None, || {}).unwrap();
    let states = &node.borrow().states;
    assert_eq!(seen(later.tables.iter(), &later), states[2]);
    let mixed = seen(later.tables.iter(), &logs);
    assert!(mixed.contains_key(&b"a"[..]) && mixed.contains_key(&b"b"[..]));
    assert!(!states.contains(&mixed), "the commit that deletes `a` writes `b`");
}

#[test]
fn who_reads_a_later_log_first_leaves_a_gap() {
    let place = tempfile::tempdir().unwrap();
    let node = RefCell::new(Node::start(place.path()));
    node.borrow_mut().commit(&[(b"a", Some(b"1"))]);
    node.borrow_mut().rotate();
    node.borrow_mut().commit(&[(b"b", Some(b"2"))]);
    node.borrow_mut().rotate();
    node.borrow_mut().commit(&[(b"c", Some(b"3"))]);
    let mut state = look(place.path(), None, || {}).unwrap();
    assert_eq!(seen([].iter(), &state), node.borrow().states[3]);
    assert!(state.memory.is_sorted_by_key(|memory| memory.fid));
    // As if the second had been read before it was written to, and the third afterwards.
    state.memory.remove(1);
    assert!(!node.borrow().states.contains(&seen([].iter(), &state)));
}
