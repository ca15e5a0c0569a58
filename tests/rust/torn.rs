#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::proof::{at, block_on, digest_of_store, drain, record, replay, restore_to, take, unlocked};
use evbackup::apply;
use evbackup::backup::Since;
use evbackup::base::progress::Progress;
use evbackup::entry::{Datastore, OwnedEntry, Sink};
use evbackup::evnode::key::Key;
use evbackup::evnode::sample::Sample;
use evbackup::format::Writer;
use evbackup::store::Store;
use std::collections::BTreeMap;
use std::path::Path;

/// As Badger streams it.
fn stream(mut entries: Vec<OwnedEntry>) -> Vec<u8> {
    entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    let mut stream = Vec::new();
    let mut writer = Box::new(Writer::new(1, |frame: &mut Vec<u8>| {
        stream.append(frame);
        Ok(())
    }));
    entries.iter().try_for_each(|entry| writer.put(entry.as_entry())).unwrap();
    writer.finish().unwrap();
    stream
}

/// The newest version of each key that a store shows.
fn shown(path: &Path) -> BTreeMap<Vec<u8>, u64> {
    let store = unlocked(|| Store::open(path)).unwrap();
    let snapshot = store.snapshot().unwrap();
    let entries = drain(&mut *snapshot.source(0).unwrap()).unwrap();
    // Newest first.
    entries.into_iter().rev().map(|entry| (entry.key, entry.version)).collect()
}

/// A node that was started again at block 30 and wrote its state, and more, once more, while it sent what came from block 20 on.
#[test]
fn a_store_that_takes_a_torn_increment_shows_what_a_restore_of_the_chain_shows() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let sample = Sample::with_blocks(30);
    let other = |key: &[u8], version: u64| OwnedEntry {
        key: key.to_vec(),
        version,
        value: version.to_le_bytes().to_vec(),
        ..OwnedEntry::default()
    };
    let mut before: Vec<_> = sample.owned().into_iter().filter(|entry| entry.version <= 20).collect();
    before.extend([other(b"/0/m/old", 5), other(b"/0/m/rhb/19/h", 19)]);
    let full = record(&stream(before), 20, &path("full.badger"));
    assert_eq!((full.complete_version, full.complete_height), (20, 20));
    let mut after: Vec<_> = sample.owned().into_iter().filter(|entry| entry.version >= 20).collect();
    let state = Key::State(30).to_bytes();
    let mangled = Key::exec_meta(47);
    for entry in after.iter_mut().filter(|entry| entry.key == state) {
        entry.version = 31;
    }
    after.extend([
        other(b"/0/m/old", 32),
        other(b"/0/m/new", 33),
        other(b"/0/m/rhb/19/h", 33),
        other(b"/0/m/rhb/29/h", 34),
        other(b"/0/m/rhb/31/h", 34),
        OwnedEntry { value: vec![8, 30], ..other(&mangled, 35) },
    ]);
    let server = block_on(replay(stream(after), 30));
    let increment =
        block_on(take(&at(&server), &path("inc.badger"), Since::Segment(path("full.badger")))).unwrap();
    assert_eq!((increment.complete_version, increment.last_version), (30, 35), "{increment:?}");
    let chain = [path("full.badger"), path("inc.badger")];
    block_on(restore_to(&chain, &path("restored"))).unwrap();
    block_on(restore_to(&chain[..1], &path("applied"))).unwrap();
    let options = apply::Options { paths: vec![chain[1].clone()], store: path("applied") };
    let applied = unlocked(|| block_on(apply::run(options.clone(), Progress::new()))).unwrap();
    assert!(!applied.new_history && applied.complete_version == 30, "{applied:?}");
    let (restored, applied) = (shown(&path("restored")), shown(&path("applied")));
    assert_eq!(restored, applied);
    let digest = |name| digest_of_store(&path(name), 0, false);
    assert_eq!(digest("restored"), digest("applied"));
    let version = |key: &[u8]| applied.get(key).copied();
    for key in [&state[..], b"/0/m/new", b"/0/m/rhb/29/h", &mangled] {
        assert_eq!(version(key), Some(30), "{}", key.escape_ascii());
    }
    let old = [version(b"/0/m/old"), version(b"/0/m/rhb/19/h"), version(b"/0/m/rhb/31/h")];
    assert_eq!(old, [Some(5), Some(19), None]);
}
