#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::proof::{
    at, block_on, digest_of_directory, digest_of_store, drain, into_badger, into_rocksdb, names, put, replay,
    restore_to, take, unlocked,
};
use evbackup::backup::{Origin, Since};
use evbackup::badger::{self, Directory, ReadOptions};
use evbackup::base::durable::{DirLock, private_dir};
use evbackup::base::progress::Progress;
use evbackup::base::scratch::Scratch;
use evbackup::entry::{Datastore, Entry, OwnedEntry, Sink as _};
use evbackup::error::{Kind, Result};
use evbackup::flow::chain::Chain;
use evbackup::flow::checks::Level;
use evbackup::flow::merge::MAX_OPEN;
use evbackup::flow::sample::{self, Shape};
use evbackup::restore::{self, Restored};
use std::path::{Path, PathBuf};

fn restored(options: &restore::Options) -> Result<Restored> {
    unlocked(|| block_on(restore::run(options.clone(), Progress::new())))
}

fn over(options: restore::Options) -> restore::Options {
    restore::Options { overwrite: true, ..options }
}

fn entries_of(path: &Path) -> Vec<OwnedEntry> {
    let options = ReadOptions { offline: true, ..ReadOptions::default() };
    let directory = unlocked(|| Directory::open(path, options.clone())).unwrap();
    let snapshot = directory.snapshot().unwrap();
    let mut source = snapshot.everything().unwrap();
    drain(&mut *source).unwrap()
}

/// A full segment of a store of so many blocks, and the store.
fn segment(folder: &Path, blocks: u64) -> (PathBuf, PathBuf) {
    let (node, full) = (folder.join("node"), folder.join("full.badger"));
    sample::create(&node, blocks, Shape { data_bytes: 500 }).unwrap();
    block_on(take(&Origin::datastore(node.clone()), &full, Since::Version(0))).unwrap();
    (node, full)
}

#[test]
fn a_store_a_directory_and_a_chain_become_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (node, full) = segment(folder.path(), 60);
    let live = digest_of_store(&node, 0, false).0;
    let whole = digest_of_store(&node, 0, true).0;
    let with_history = |options| restore::Options { history: true, ..options };
    let from_chain = restored(&into_badger(&[full], &path("a"))).unwrap();
    let from_store = restored(&with_history(into_badger(&[node], &path("b")))).unwrap();
    let from_directory = restored(&into_rocksdb(&[path("b")], &path("c"))).unwrap();
    let copied = restored(&into_badger(&[path("c")], &path("d"))).unwrap();
    let again = restored(&with_history(into_badger(&[path("b")], &path("e")))).unwrap();
    let stored = restored(&into_rocksdb(&[path("c")], &path("f"))).unwrap();
    for (name, has_history) in [("a", false), ("b", true), ("d", false), ("e", true)] {
        assert_eq!(digest_of_directory(&path(name), 0, false).0, live, "{name}");
        assert_eq!(digest_of_directory(&path(name), 0, true).0 == whole, has_history, "{name}");
    }
    for name in ["c", "f"] {
        assert_eq!((digest_of_store(&path(name), 0, true).0, name), (whole.clone(), name));
    }
    let all = [from_chain, from_store, from_directory, copied, again, stored];
    for one in &all {
        assert_eq!((one.last_version, one.complete_version), (60, 60), "{one:?}");
        assert_eq!((one.tip_height, one.complete_height), (60, 60), "{one:?}");
        assert_eq!((one.store_id.len(), one.segments.len()), (32, 1), "{one:?}");
    }
    // Every one begins a history of its own.
    let mut ids: Vec<_> = all.iter().map(|one| &one.store_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all.len());
    assert_eq!((all[2].engine, all[3].engine, all[3].segments[0].clone()), ("rocksdb", "badger", path("c")));
}

#[test]
fn one_datastore_alone_is_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let (node, full) = segment(folder.path(), 5);
    let dest = folder.path().join("dest");
    let fails = |paths: &[PathBuf]| restored(&into_badger(paths, &dest)).unwrap_err();
    assert_eq!(fails(&[node.clone(), full]).kind(), Kind::Invalid);
    assert_eq!(fails(&[node, folder.path().join("node")]).kind(), Kind::Invalid);
    assert_eq!(fails(&[folder.path().to_owned()]).kind(), Kind::Invalid);
    assert_eq!(fails(&[]).kind(), Kind::Invalid);
    assert!(!dest.exists());
}

#[test]
fn a_torn_chain_is_cut_where_it_is_complete_and_no_version_comes_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (_, full) = segment(folder.path(), 12);
    // A node that announced block 8 and wrote on while it sent.
    let server = block_on(replay(std::fs::read(full).unwrap(), 8));
    let torn = folder.path().join("torn.badger");
    let taken = block_on(take(&at(&server), &torn, Since::Version(0))).unwrap();
    assert_eq!((taken.complete_version, taken.last_version), (8, 12));
    for history in [false, true] {
        let dest = folder.path().join(format!("{history}"));
        let options = restore::Options { history, ..into_badger(std::slice::from_ref(&torn), &dest) };
        let made = restored(&options).unwrap();
        assert_eq!((made.complete_version, made.last_version, made.tip_height), (8, 12, 8));
        let note = "they are left out: a Badger directory would show them";
        assert!(made.notes.iter().any(|text| text.ends_with(note)), "{:?}", made.notes);
        assert_eq!(made.cut_height, (!history).then_some(8));
        let entries = entries_of(&dest);
        // Of the queue, what lives at the end of the stream stays: those transactions wait for a block.
        let late = entries
            .iter()
            .filter(|entry| entry.version > 8)
            .map(|entry| entry.key.escape_ascii().to_string());
        let late: Vec<_> = late.collect();
        assert!(late.iter().all(|key| key.starts_with("/batches/")), "{late:?}");
        assert!(entries.iter().any(|entry| entry.key == b"/0/h/8"));
        assert_eq!(badger::look(&dest).unwrap().last_version, 12);
    }
}

#[test]
fn a_node_that_holds_the_target_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (node, full) = segment(folder.path(), 10);
    let paths = [full];
    restored(&into_badger(&paths, &path("db"))).unwrap();
    let before = digest_of_directory(&path("db"), 0, true);
    let held = DirLock::exclusive(&path("db")).unwrap();
    let error = block_on(restore::run(over(into_badger(&paths, &path("db"))), Progress::new())).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Locked, Some(&*path("db"))));
    drop(held);
    // Without being told to, nothing is replaced; nor what another engine made.
    assert_eq!(restored(&into_badger(&paths, &path("db"))).unwrap_err().kind(), Kind::Exists);
    let error = restored(&over(into_rocksdb(&paths, &path("db")))).unwrap_err();
    assert!(error.what().contains("of engine rocksdb, found one of badger"), "{error}");
    let error = restored(&over(into_badger(&paths, &node))).unwrap_err();
    assert!(error.what().contains("of engine badger, found one of rocksdb"), "{error}");
    // A datastore is not replaced by a copy of itself.
    let error = restored(&over(into_badger(&[path("db")], &path("db")))).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
    assert_eq!(digest_of_directory(&path("db"), 0, true), before);
    assert_eq!(names(folder.path()), ["db", "full.badger", "full.badger.json", "full.badger.keys", "node"]);
    let made = restored(&over(into_badger(&paths, &path("db")))).unwrap();
    assert_eq!(digest_of_directory(&made.replaced.unwrap(), 0, true), before);
}

#[test]
fn what_badger_opens_is_a_directory_and_a_file_called_manifest_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (_, full) = segment(folder.path(), 3);
    for name in ["minimal", "other"] {
        private_dir(&path(name)).unwrap();
    }
    // All that Badger needs, and what it makes of it is an empty database.
    put(&path("minimal/MANIFEST"), b"Bdgr\0\0\0\x08\0\0\0\0\0\0\0\0");
    put(&path("other/MANIFEST"), b"Implementation-Title: precious\n");
    let error = restored(&over(into_badger(std::slice::from_ref(&full), &path("other")))).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
    assert_eq!(names(&path("other")), ["MANIFEST"]);
    let made = restored(&over(into_badger(&[full], &path("minimal")))).unwrap();
    assert_eq!(names(&made.replaced.unwrap()), ["MANIFEST"]);
    assert!(entries_of(&path("minimal")).len() > 3);
}

#[test]
fn what_a_restore_makes_has_no_damage_and_all_is_private() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let (_, full) = segment(folder.path(), 40);
    let dest = folder.path().join("db");
    let made = restored(&into_badger(&[full], &dest)).unwrap();
    let mut damage = Vec::new();
    let scratch = Scratch::new(folder.path());
    let checked = badger::check(
        &dest,
        0,
        &scratch,
        &Progress::new(),
        &mut |one| damage.push(one),
        Some(&mut |_| Ok(())),
    )
    .unwrap();
    assert!(damage.is_empty(), "{damage:?}");
    assert_eq!((checked.entries, checked.max_version), (made.entries, made.last_version));
    let about = std::fs::metadata(&dest).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o700);
    for name in names(&dest) {
        let file = std::fs::metadata(dest.join(&name)).unwrap();
        assert_eq!((file.uid(), file.gid()), (about.uid(), about.gid()), "{name}");
    }
    assert_eq!(names(&dest), ["000001.sst", "KEYREGISTRY", "MANIFEST"]);
}

/// A chain of more segments than are open at once.
#[test]
fn a_long_chain_is_merged_in_passes() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("node");
    sample::create(&node, 2, Shape { data_bytes: 200 }).unwrap();
    let mut chain: Vec<PathBuf> = Vec::new();
    for number in 0..MAX_OPEN + 5 {
        let next = folder.path().join(format!("{number}.badger"));
        let since = chain.last().map_or(Since::Version(0), |last| Since::Segment(last.clone()));
        block_on(take(&Origin::datastore(node.clone()), &next, since)).unwrap();
        chain.push(next);
        sample::extend(&node, 1, Shape { data_bytes: 200 }).unwrap();
    }
    let (store, directory) = (folder.path().join("store"), folder.path().join("directory"));
    block_on(restore_to(&chain, &store)).unwrap();
    restored(&restore::Options { history: true, ..into_badger(&chain, &directory) }).unwrap();
    for history in [false, true] {
        assert_eq!(digest_of_directory(&directory, 0, history), digest_of_store(&store, 0, history));
    }
}

/// What Badger made is read as the runs it is: there is nowhere to sort, and no memory for it.
#[test]
fn segments_that_badger_made_are_not_sorted() {
    let nowhere = Scratch::new("/nowhere/at/all");
    let mut runs = 0;
    for (folder, paper) in super::golden::cases() {
        for segment in paper["segments"].as_array().unwrap() {
            let path = folder.join(segment["file"].as_str().unwrap());
            let mut chain = Chain::open(std::slice::from_ref(&path), None).unwrap();
            chain.check(Level::Full, false, &Progress::new()).unwrap();
            let mut source = chain.source(&nowhere, 1, &Progress::new()).unwrap();
            let entries = drain(&mut *source).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(entries.len() as u64, segment["stream"]["entries"].as_u64().unwrap());
            runs = runs.max(segment["stream"]["stream_ids"].as_u64().unwrap());
        }
    }
    assert!(runs > 1, "no golden segment has several runs");
}

#[test]
fn older_versions_whose_values_are_damaged_are_noted_in_the_backup() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    private_dir(&path("db")).unwrap();
    let options = badger::WriterOptions { history: true, value_threshold: 100, ..Default::default() };
    let mut writer = Box::new(badger::Writer::create(path("db"), options).unwrap());
    for version in [3, 2, 1] {
        let value = vec![b'0' + u8::try_from(version).unwrap(); 500];
        writer.put(Entry { key: b"k", version, value: &value, ..Entry::default() }).unwrap();
    }
    writer.finish_with(3).unwrap();
    let log = path("db").join("000001.vlog");
    let whole =
        block_on(take(&Origin::datastore(path("db")), &path("whole.badger"), Since::Version(0))).unwrap();
    let no_chain = "no chain was found: there are no keys of ev-node's";
    assert_eq!((whole.entries, &*whole.notes), (3, &[no_chain.to_owned()][..]));
    for (digit, kept) in [(b'1', 2), (b'2', 1)] {
        let mut bytes = std::fs::read(&log).unwrap();
        *bytes.iter_mut().rfind(|byte| **byte == digit).unwrap() ^= 0x80;
        put(&log, &bytes);
        let segment = path(&format!("{digit}.badger"));
        let made = block_on(take(&Origin::datastore(path("db")), &segment, Since::Version(0))).unwrap();
        assert_eq!((made.entries, made.notes.len()), (kept, 2));
        let count = 3 - kept;
        assert!(made.notes[0].contains(&format!("values were: {count};")), "{:?}", made.notes);
    }
    let mut bytes = std::fs::read(&log).unwrap();
    *bytes.iter_mut().rfind(|byte| **byte == b'3').unwrap() ^= 0x80;
    put(&log, &bytes);
    let error =
        block_on(take(&Origin::datastore(path("db")), &path("no.badger"), Since::Version(0))).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Damaged, Some(&*log)), "{error}");
    assert!(error.to_string().contains("key k at version 3") && !path("no.badger").exists(), "{error}");
}
