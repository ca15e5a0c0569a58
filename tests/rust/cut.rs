#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::proof::{
    at, block_on, digest_of_directory, digest_of_store, drain, into_badger, into_rocksdb, names, record,
    replay, take, unlocked,
};
use evbackup::backup::{Origin, Since};
use evbackup::badger::{Directory, ReadOptions};
use evbackup::base::progress::Progress;
use evbackup::entry::{Datastore, META_DELETE, OwnedEntry, Sink};
use evbackup::error::Result;
use evbackup::evnode::chain::{Checker, Options as Check};
use evbackup::evnode::key::{Key, Mark, Part, TIP};
use evbackup::evnode::record::{Batch, Checkpoint};
use evbackup::evnode::sample::Sample;
use evbackup::restore::{self, Restored};
use evbackup::store::{Increment, LoadOptions, Loader, NewAbout, Store};
use evbackup::{align, apply};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A node's datastore that grows with a sample chain.
pub(super) struct Node {
    pub(super) path: PathBuf,
    pub(super) sample: Sample,
    keys: BTreeSet<Vec<u8>>,
    version: u64,
}

impl Node {
    pub(super) fn new(folder: &Path, sample: Sample) -> Self {
        let path = folder.join("node");
        let mut loader = Loader::create(&path, LoadOptions::default()).unwrap();
        sample.entries().for_each(|entry| loader.put(entry).unwrap());
        let version = sample.entries().map(|entry| entry.version).max().unwrap();
        loader.finish_with(about(version)).unwrap();
        let keys = sample.entries().map(|entry| entry.key.to_vec()).collect();
        Self { path, sample, keys, version }
    }

    /// Writes what has changed in the sample, deletes included.
    fn write(&mut self) {
        let version = self.sample.entries().map(|entry| entry.version).max().unwrap();
        let mut entries: Vec<OwnedEntry> =
            self.sample.owned().into_iter().filter(|entry| entry.version > self.version).collect();
        let keys: BTreeSet<Vec<u8>> = self.sample.entries().map(|entry| entry.key.to_vec()).collect();
        entries.extend(self.keys.difference(&keys).map(|key| OwnedEntry {
            key: key.clone(),
            version,
            meta: META_DELETE,
            ..OwnedEntry::default()
        }));
        entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
        let mut store = Store::open_for_writing(&self.path).unwrap();
        let mut increment = Increment::begin(&mut store, LoadOptions::default()).unwrap();
        for entry in &entries {
            increment.put(entry.as_entry()).unwrap();
        }
        increment.finish_with(about(version)).unwrap();
        (self.keys, self.version) = (keys, version);
    }

    /// Makes blocks, and writes them.
    pub(super) fn grow(&mut self, blocks: u64) {
        self.sample.extend(blocks, |_, _| {});
        self.write();
    }

    pub(super) fn backup(&self, path: &Path, since: Since) -> evbackup::backup::Backup {
        block_on(take(&Origin::datastore(self.path.clone()), path, since)).unwrap()
    }
}

fn about(version: u64) -> NewAbout {
    NewAbout { pinned_version: version, deletes: "exact".into(), ..NewAbout::default() }
}

fn le(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn queue(sample: &mut Sample, number: u64, transaction: &str) {
    sample.put(Key::Queued((1 << 63) + number).to_bytes(), Batch::encode([transaction.as_bytes()]));
}

/// `blocks` blocks, pruned and partly on DA, with a queue and a checkpoint.
fn rich(blocks: u64) -> Sample {
    let mut sample = Sample::with_blocks(blocks - 1);
    sample.prune(10);
    for height in 1..=15 {
        sample.remove(&Key::State(height).to_bytes());
    }
    sample.mark(Mark::PrunedStates, 15);
    sample.include(blocks / 2);
    sample.mark(Mark::SubmittedHeader, blocks / 2 + 5);
    queue(&mut sample, 0, "waiting=1");
    let checkpoint = Checkpoint { da_height: 100 + blocks, tx_index: 3 };
    sample.put(Key::SingleCheckpoint.to_bytes(), checkpoint.encode());
    // What was put goes into the version of this one.
    sample.extend(1, |_, _| {});
    // DA heights of pruned blocks are gone.
    for height in 1..=10 {
        for part in [Part::Header, Part::Data] {
            sample.remove(&Key::DaHeight(height, part).to_bytes());
        }
    }
    sample
}

pub(super) fn run(options: &restore::Options) -> Result<Restored> {
    unlocked(|| block_on(restore::run(options.clone(), Progress::new())))
}

fn at_height(options: restore::Options, height: u64) -> restore::Options {
    restore::Options { at_height: Some(height), role: Some("follower".into()), ..options }
}

fn offline() -> ReadOptions {
    ReadOptions { offline: true, ..ReadOptions::default() }
}

/// The live entries of a store or a directory, which the chain checker has nothing to say of.
#[track_caller]
pub(super) fn clean(path: &Path) -> Vec<OwnedEntry> {
    let entries = if path.join("KEYREGISTRY").exists() {
        let directory = unlocked(|| Directory::open(path, offline())).unwrap();
        let snapshot = directory.snapshot().unwrap();
        drain(&mut *snapshot.source(0).unwrap()).unwrap()
    } else {
        let store = unlocked(|| Store::open(path)).unwrap();
        let snapshot = store.snapshot().unwrap();
        drain(&mut *snapshot.source(0).unwrap()).unwrap()
    };
    let mut checker = Checker::new(Check::default());
    for entry in &entries {
        checker.feed(&entry.as_entry()).unwrap();
    }
    let report = checker.finish().unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    entries
}

fn value<'a>(entries: &'a [OwnedEntry], key: &[u8]) -> Option<&'a [u8]> {
    entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_slice())
}

#[test]
fn a_chain_a_store_and_a_directory_are_cut_alike_into_both_engines() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let node = Node::new(folder.path(), rich(60));
    let full = path("full.badger");
    node.backup(&full, Since::Version(0));
    run(&into_badger(std::slice::from_ref(&full), &path("whole"))).unwrap();
    let sources = [full.clone(), node.path.clone(), path("whole")];
    for height in [11, 15, 16, 44, 59, 60] {
        let mut made = Vec::new();
        let mut digests = BTreeSet::new();
        for (number, source) in sources.iter().enumerate() {
            let paths = std::slice::from_ref(source);
            let (store, directory) =
                (path(&format!("s{height}-{number}")), path(&format!("d{height}-{number}")));
            let reading = restore::Options { reading: offline(), ..into_rocksdb(paths, &store) };
            made.push(run(&at_height(reading.clone(), height)).unwrap());
            made.push(
                run(&restore::Options {
                    engine: None,
                    dest: directory.clone(),
                    ..at_height(reading, height)
                })
                .unwrap(),
            );
            let entries = clean(&store);
            assert_eq!(value(&entries, TIP), Some(&le(height)[..]));
            clean(&directory);
            digests.insert(digest_of_store(&store, 0, false));
            digests.insert(digest_of_directory(&directory, 0, false));
        }
        assert_eq!(digests.len(), 1, "{height}");
        for one in &made {
            assert_eq!((one.cut_height, one.tip_height, one.complete_height), (Some(height), height, height));
            assert_eq!(one.changes, made[0].changes);
            assert_eq!(one.changes.is_empty(), height == 60);
            assert!(!one.next_steps.is_empty());
        }
    }
    // At the tip nothing is above, and nothing changes.
    let whole = digest_of_store(&node.path, 0, false);
    assert_eq!(digest_of_store(&path("s60-0"), 0, false), whole);
    assert_eq!(digest_of_directory(&path("d60-2"), 0, false), whole);
}

#[test]
fn of_a_chain_the_shortest_part_is_read_that_is_whole_at_the_height() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(19);
    queue(&mut sample, 0, "waiting=1");
    sample.extend(1, |_, _| {});
    let mut node = Node::new(folder.path(), sample);
    let mut chain = vec![path("0.badger")];
    node.backup(&chain[0], Since::Version(0));
    for number in 1..=4u64 {
        node.sample.mark(Mark::SubmittedHeader, number);
        queue(&mut node.sample, number, "waiting=2");
        node.sample.remove(&Key::Queued((1 << 63) + number - 1).to_bytes());
        if number == 3 {
            node.sample.prune(25);
        }
        node.sample.extend(10, |_, _| {});
        node.write();
        let next = path(&format!("{number}.badger"));
        node.backup(&next, Since::Segment(chain.last().unwrap().clone()));
        chain.push(next);
    }
    for (height, needed) in [(5, 1), (20, 1), (21, 2), (30, 2), (45, 4), (60, 5)] {
        let dest = path(&format!("at{height}"));
        let made = run(&at_height(into_badger(&chain, &dest), height)).unwrap();
        assert_eq!((made.segments.len(), made.cut_height), (needed, Some(height)));
        let entries = clean(&dest);
        // The queue is that of the last segment read: what was deleted by then is gone.
        let queued: Vec<_> = entries.iter().filter(|entry| entry.key.starts_with(b"/batches/")).collect();
        assert_eq!(queued.len(), 1, "{height}");
        assert_eq!(queued[0].key, Key::Queued((1 << 63) + needed as u64 - 1).to_bytes());
        // What is there is the same whichever way it came.
        let alone = path(&format!("alone{height}"));
        run(&at_height(into_rocksdb(&chain[..needed], &alone), height)).unwrap();
        assert_eq!(digest_of_store(&alone, 0, false), digest_of_directory(&dest, 0, false));
    }
    // Blocks that were pruned later are in the older part; what was pruned before the first segment is nowhere.
    let error = run(&at_height(into_badger(&chain, &path("no")), 61)).unwrap_err();
    assert_eq!(error.code(), "invalid-argument");
    assert_eq!(error.what(), "expected a height within 1 to 60, found 61");
    let error = run(&at_height(into_badger(&[node.path.clone()], &path("no")), 25)).unwrap_err();
    assert_eq!(error.what(), "expected a height within 26 to 60, found 25");
    let error = run(&at_height(into_badger(&chain, &path("no")), 0)).unwrap_err();
    assert_eq!(error.what(), "expected a height within 1 to 60, found 0");
    assert!(!path("no").exists());
}

/// A node that announced block 40 of 60 and wrote on: what may be torn goes, whoever asks for it.
#[test]
fn a_plain_restore_of_a_torn_segment_is_the_cut_at_its_complete_height() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let node = Node::new(folder.path(), rich(60));
    let bare = path("bare.badger");
    node.backup(&bare, Since::Version(0));
    let torn = path("torn.badger");
    let taken = record(&std::fs::read(&bare).unwrap(), 40, &torn);
    assert_eq!((taken.complete_version, taken.complete_height, taken.last_version), (40, 40, 60));
    let paths = std::slice::from_ref(&torn);
    let plain = run(&into_badger(paths, &path("plain"))).unwrap();
    assert_eq!((plain.cut_height, plain.tip_height, plain.complete_version), (Some(40), 40, 40));
    assert!(
        plain.notes.iter().any(|note| note == "cut at height 40, up to which the chain is whole"),
        "{:?}",
        plain.notes
    );
    let entries = clean(&path("plain"));
    // What was written late stands in, and is no higher than the cut.
    assert_eq!(value(&entries, b"/0/m/d"), Some(&le(30)[..]));
    assert_eq!(
        value(&entries, b"/single/checkpoint"),
        Some(&Checkpoint { da_height: 140, tx_index: 0 }.encode()[..])
    );
    let asked = run(&at_height(into_badger(paths, &path("asked")), 40)).unwrap();
    assert_eq!(asked.changes, plain.changes);
    assert_eq!(digest_of_directory(&path("asked"), 0, false), digest_of_directory(&path("plain"), 0, false));
    // A plan says the same and leaves nothing.
    let rehearsed = run(&restore::Options { dry_run: true, ..into_badger(paths, &path("plan")) }).unwrap();
    assert_eq!(
        (rehearsed.changes, rehearsed.cut_height, rehearsed.tip_height),
        (plain.changes, Some(40), 40)
    );
    assert!(!path("plan").exists());
    // A store keeps the rest for the increments that complete it.
    let store = run(&into_rocksdb(paths, &path("store"))).unwrap();
    assert_eq!((store.cut_height, store.tip_height), (None, 40));
    // Above the complete height there is nothing to be had.
    let error = run(&at_height(into_badger(paths, &path("no")), 41)).unwrap_err();
    assert_eq!(error.what(), "expected a height within 11 to 40, found 41");
}

/// Nobody wrote blocks while it ran: then what was written since the last one counts as well.
#[test]
fn a_hot_backup_of_an_idle_node_comes_back_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(30);
    sample.include(20);
    queue(&mut sample, 0, "waiting=1");
    let node = Node::new(folder.path(), sample);
    let bare = path("bare.badger");
    node.backup(&bare, Since::Version(0));
    let idle = path("idle.badger");
    let taken = record(&std::fs::read(&bare).unwrap(), 30, &idle);
    assert_eq!((taken.complete_version, taken.last_version), (30, 31));
    for height in [None, Some(30)] {
        let dest = path(&format!("{height:?}"));
        let options =
            restore::Options { at_height: height, ..into_badger(std::slice::from_ref(&idle), &dest) };
        let made = run(&options).unwrap();
        assert_eq!((made.cut_height, made.changes.len()), (Some(30), 0));
        assert_eq!(digest_of_directory(&dest, 0, false), digest_of_store(&node.path, 0, false));
    }
}

#[test]
fn a_segment_of_which_nobody_says_anything_is_cut_where_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(30);
    for key in ["/0/d/30", "/0/c/29", "/0/s/30"] {
        sample.remove(key.as_bytes());
    }
    let node = Node::new(folder.path(), sample);
    node.backup(&path("full.badger"), Since::Version(0));
    std::fs::remove_file(path("full.badger.json")).unwrap();
    let paths = [path("full.badger")];
    let made = run(&at_height(into_badger(&paths, &path("a")), 28)).unwrap();
    assert_eq!(made.tip_height, 28);
    clean(&path("a"));
    // A role alone asks for the highest.
    let options = restore::Options { role: Some("follower".into()), ..into_badger(&paths, &path("b")) };
    let error = run(&options).unwrap_err();
    assert!(error.what().starts_with("expected block 29 to cut at, found no signature"), "{error}");
}

#[test]
fn a_plan_says_what_the_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let node = Node::new(folder.path(), rich(60));
    node.backup(&path("full.badger"), Since::Version(0));
    for (number, source) in [path("full.badger"), node.path.clone()].into_iter().enumerate() {
        for role in ["follower", "aggregator"] {
            let dest = path(&format!("{number}{role}"));
            let options = restore::Options {
                at_height: Some(40),
                role: Some(role.into()),
                requeue: true,
                ..into_rocksdb(std::slice::from_ref(&source), &dest)
            };
            let plan = run(&restore::Options { dry_run: true, ..options.clone() }).unwrap();
            assert!(!dest.exists());
            let made = run(&options).unwrap();
            assert_eq!(
                (plan.changes, plan.dangers, plan.next_steps),
                (made.changes, made.dangers, made.next_steps)
            );
            assert_eq!(
                (plan.entries, plan.tip_height, plan.notes),
                (made.entries, made.tip_height, made.notes)
            );
            let entries = clean(&dest);
            let queued = entries.iter().filter(|entry| entry.key.starts_with(b"/batches/")).count();
            // Two of three blocks have transactions: 41 to 60 without 42, 45, …, 60.
            assert_eq!(queued, 1 + 13, "{role}");
        }
    }
    assert_eq!(names(folder.path()).iter().filter(|name| name.contains(".part")).count(), 0);
}

#[test]
fn what_cannot_be_cut_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let node = Node::new(folder.path(), rich(60));
    node.backup(&path("full.badger"), Since::Version(0));
    let before = names(folder.path());
    for source in [path("full.badger"), node.path.clone()] {
        let options = |role: Option<&str>| restore::Options {
            role: role.map(str::to_owned),
            at_height: Some(20),
            ..into_badger(std::slice::from_ref(&source), &path("no"))
        };
        let code = |options: restore::Options| run(&options).unwrap_err().code();
        assert_eq!(code(options(Some("aggregator"))), "mismatch");
        assert_eq!(code(options(None)), "invalid-argument");
        assert_eq!(code(options(Some("king"))), "invalid-argument");
        assert_eq!(code(restore::Options { history: true, ..options(Some("follower")) }), "invalid-argument");
        assert_eq!(
            code(restore::Options { at_height: Some(10), ..options(Some("follower")) }),
            "invalid-argument"
        );
        assert_eq!(names(folder.path()), before);
    }
}

#[test]
fn a_store_that_was_cut_takes_no_increments() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut node = Node::new(folder.path(), Sample::with_blocks(20));
    node.backup(&path("full.badger"), Since::Version(0));
    node.sample.extend(5, |_, _| {});
    node.write();
    node.backup(&path("inc.badger"), Since::Segment(path("full.badger")));
    run(&at_height(into_rocksdb(&[path("full.badger")], &path("cut")), 15)).unwrap();
    let options = apply::Options { paths: vec![path("inc.badger")], store: path("cut") };
    let error = block_on(apply::run(options, Progress::new())).unwrap_err();
    assert_eq!(error.code(), "mismatch");
    assert!(error.what().contains("cut at a height"), "{error}");
    // It can be cut again, and backed up anew.
    run(&at_height(into_badger(&[path("cut")], &path("again")), 10)).unwrap();
    clean(&path("again"));
    let taken =
        block_on(take(&Origin::datastore(path("cut")), &path("new.badger"), Since::Version(0))).unwrap();
    assert_eq!((taken.complete_height, taken.deletes), (15, "exact"));
}

/// Deletes that Badger purged before an increment was taken: the queue's entries would come back though their transactions are in
/// blocks.
#[test]
fn where_deletes_are_lost_what_is_done_is_not_queued_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(18);
    // The transactions of block 20, and one that waits.
    sample.put(Key::Queued(1 << 63).to_bytes(), Batch::encode([&b"k20-1=v"[..], b"k20-2=v"]));
    queue(&mut sample, 1, "waiting=1");
    sample.extend(1, |_, _| {});
    let mut node = Node::new(folder.path(), sample);
    node.backup(&path("bare0"), Since::Version(0));
    let full = path("full.badger");
    record(&std::fs::read(path("bare0")).unwrap(), 19, &full);
    node.sample.extend(11, |_, _| {});
    node.write();
    // Badger's own stream is asked for the base's block once more.
    node.backup(&path("bare1"), Since::Version(18));
    // As Badger's own RPC sends it: nobody says what was deleted.
    let inc = path("inc.badger");
    block_on(async {
        let server = replay(std::fs::read(path("bare1")).unwrap(), 30).await;
        take(&at(&server), &inc, Since::Segment(full.clone())).await.unwrap();
        server.stop().await.unwrap();
    });
    for height in [None, Some(25)] {
        let dest = path(&format!("{height:?}"));
        let options =
            restore::Options { at_height: height, ..into_badger(&[full.clone(), inc.clone()], &dest) };
        let made = run(&options).unwrap();
        assert_eq!(made.deletes, "derived");
        let entries = clean(&dest);
        let queued: Vec<_> = entries.iter().filter(|entry| entry.key.starts_with(b"/batches/")).collect();
        assert_eq!(queued.len(), 1, "{:?}", made.changes);
        let change = made.changes.iter().find(|change| change.family == "queue").unwrap();
        assert_eq!(
            (change.action, &change.keys[..]),
            ("dropped", &["/batches/8000000000000000".to_owned()][..])
        );
    }
}

#[test]
fn a_chain_is_aligned_with_the_execution_layer() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut node = Node::new(folder.path(), Sample::with_blocks(20));
    node.backup(&path("full.badger"), Since::Version(0));
    node.sample.extend(10, |_, _| {});
    node.write();
    node.backup(&path("inc.badger"), Since::Segment(path("full.badger")));
    let root = |height: u64| {
        let value = node.sample.value(&Key::State(height).to_bytes()).unwrap();
        let state = evbackup::evnode::record::State::decode(value).unwrap();
        <[u8; 32]>::try_from(state.app_hash).unwrap()
    };
    let chain = vec![path("full.badger"), path("inc.badger")];
    let options = |el_height: u64| align::Options {
        paths: chain.clone(),
        el_height,
        el_state_root: Some(root(el_height.min(30))),
        ..align::Options::default()
    };
    let ask = |options: align::Options| block_on(align::run(options, Progress::new()));
    for (height, needed) in [(20, 1), (21, 2)] {
        let found = ask(options(height)).unwrap();
        assert_eq!((found.at_height, found.segments.len()), (height, needed));
        let dest = path(&format!("at{height}"));
        run(&at_height(into_badger(&found.segments, &dest), found.at_height)).unwrap();
        clean(&dest);
    }
    let error = ask(options(31)).unwrap_err();
    assert_eq!((error.code(), error.what().contains("within 1 to 30, found 31")), ("mismatch", true));
    let other = align::Options { el_state_root: Some(root(25)), ..options(24) };
    let error = ask(other).unwrap_err();
    assert_eq!(error.hint(), Some("block 25 has that state root: is the execution layer's height right?"));
}

/// What published releases have written: those that are cut are clean at every height, the older ones are refused by name.
#[test]
fn chains_of_published_releases_are_cut_or_refused_by_generation() {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cuts = 0;
    for case in
        ["a", "b", "c", "c1", "e", "f"].iter().flat_map(|one| [(*one).to_owned(), format!("{one}-follower")])
    {
        let segment = folder.path().join(format!("{case}.badger"));
        std::fs::copy(golden.join(format!("evnode-{case}/full.badger")), &segment).unwrap();
        let paths = std::slice::from_ref(&segment);
        let whole = run(&into_badger(paths, &folder.path().join(&case))).unwrap();
        if case.starts_with(['a', 'b']) {
            let error = run(&at_height(into_badger(paths, &folder.path().join("no")), 5)).unwrap_err();
            assert_eq!(error.code(), "unsupported", "{case}: {error}");
            let tags =
                if case.starts_with('a') { "v1.0.0-beta.1 to beta.2" } else { "v1.0.0-beta.3 to beta.8" };
            assert!(error.what().ends_with(tags), "{case}: {error}");
            continue;
        }
        for height in 1..=whole.tip_height {
            let dest = folder.path().join(format!("{case}-{height}"));
            let made = run(&at_height(into_badger(paths, &dest), height)).unwrap();
            assert_eq!(made.tip_height, height, "{case}");
            clean(&dest);
            cuts += 1;
        }
        let tip = folder.path().join(format!("{case}-{}", whole.tip_height));
        if digest_of_directory(&tip, 0, false) != digest_of_directory(&folder.path().join(&case), 0, false) {
            // A block that was in production is not part of a cut.
            let again = folder.path().join(format!("{case}-again"));
            let made = run(&at_height(into_badger(paths, &again), whole.tip_height)).unwrap();
            assert!(!made.changes.is_empty(), "{case}");
        }
    }
    assert!(cuts > 100, "only {cuts} heights");
}
