#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::cut::{self, clean, run};
use super::proof::{block_on, digest_of_directory, digest_of_store, into_badger, into_rocksdb, unlocked};
use evbackup::align;
use evbackup::apply;
use evbackup::backup::Since;
use evbackup::base::progress::Progress;
use evbackup::evnode::key::{Key, Mark, TIP};
use evbackup::evnode::record::Batch;
use evbackup::evnode::sample::Sample;
use evbackup::flow::node::Node;
use evbackup::open;
use evbackup::restore::{self, Restored};
use evbackup::store::{LoadOptions, Loader, NewAbout};
use evbackup::verify::{self, Report};
use std::path::{Path, PathBuf};

fn at_height(options: restore::Options, height: u64) -> restore::Options {
    restore::Options { at_height: Some(height), ..options }
}

/// Nobody says anything of the segment any more.
fn strip(segment: &Path) {
    std::fs::remove_file(format!("{}.json", segment.display())).unwrap();
}

/// A segment without a manifest.
fn bare(folder: &Path, sample: Sample) -> PathBuf {
    let path = folder.join("bare.badger");
    cut::Node::new(folder, sample).backup(&path, Since::Version(0));
    strip(&path);
    path
}

fn checked(paths: &[PathBuf]) -> Report {
    let options = verify::Options { paths: paths.to_vec(), ..verify::Options::default() };
    unlocked(|| block_on(verify::run(options.clone(), Progress::new()))).unwrap()
}

fn opened(paths: &[PathBuf]) -> (u64, u64) {
    let opened = block_on(open::segments(paths.to_vec())).unwrap();
    let heights = block_on(opened.ask_node(Node::heights, Progress::new())).unwrap();
    (heights.first, heights.last)
}

fn has_note(made: &Restored, words: &str) -> bool {
    made.notes.iter().any(|note| note.contains(words))
}

/// Blocks 1 to 20 with a manifest, 21 to 30 without: what the first one promises is not where the chain ends.
#[test]
fn a_manifest_does_not_speak_for_the_segments_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut node = cut::Node::new(folder.path(), Sample::with_blocks(20));
    node.backup(&path("full.badger"), Since::Version(0));
    node.grow(10);
    node.backup(&path("inc.badger"), Since::Segment(path("full.badger")));
    strip(&path("inc.badger"));
    let chain = [path("full.badger"), path("inc.badger")];
    assert_eq!((checked(&chain).complete_height, opened(&chain)), (30, (1, 30)));
    let whole = digest_of_store(&node.path, 0, false);
    let plain = run(&into_badger(&chain, &path("plain"))).unwrap();
    assert_eq!((plain.tip_height, plain.complete_height), (30, 30));
    assert_eq!(digest_of_directory(&path("plain"), 0, false), whole);
    let store = run(&into_rocksdb(&chain, &path("store"))).unwrap();
    assert_eq!((store.tip_height, store.complete_height, store.cut_height), (30, 30, None));
    assert_eq!(digest_of_store(&path("store"), 0, false), whole);
    for (height, needed) in [(10, 1), (20, 1), (21, 2), (25, 2), (30, 2)] {
        let dest = path(&format!("at{height}"));
        let made = run(&at_height(into_badger(&chain, &dest), height)).unwrap();
        assert_eq!((made.cut_height, made.segments.len()), (Some(height), needed));
        clean(&dest);
        let options =
            align::Options { paths: chain.to_vec(), el_height: height, ..align::Options::default() };
        assert_eq!(block_on(align::run(options, Progress::new())).unwrap().at_height, height);
    }
    let error = run(&at_height(into_badger(&chain, &path("no")), 31)).unwrap_err();
    assert_eq!(error.what(), "expected a height within 1 to 30, found 31");
}

#[test]
fn a_torn_segment_without_a_manifest_is_cut_where_verify_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(30);
    for key in [Key::State(30), Key::State(29), Key::Data(30)] {
        sample.remove(&key.to_bytes());
    }
    let paths = [bare(folder.path(), sample)];
    let report = checked(&paths);
    assert!(report.ok && report.findings.iter().any(|one| one.code == "torn-head"), "{:?}", report.findings);
    let planned = run(&restore::Options { dry_run: true, ..into_badger(&paths, &path("plan")) }).unwrap();
    let plain = run(&into_badger(&paths, &path("plain"))).unwrap();
    for made in [&planned, &plain] {
        assert_eq!(
            (made.cut_height, made.tip_height, made.complete_height),
            (Some(28), 28, report.complete_height)
        );
        assert!(has_note(made, "cut at height 28, up to which the chain is whole"), "{:?}", made.notes);
    }
    // A plan proves no bytes.
    let cut: Vec<_> = plain.notes.iter().filter(|note| !note.starts_with("no manifest beside it")).collect();
    assert_eq!((&planned.changes, planned.notes.iter().collect()), (&plain.changes, cut));
    clean(&path("plain"));
    assert_eq!(opened(&paths), (1, 28));
    // A store keeps the rest, and hides it.
    let store = run(&into_rocksdb(&paths, &path("store"))).unwrap();
    assert_eq!((store.cut_height, store.tip_height, store.complete_height), (None, 28, 28));
    assert!(has_note(&store, "up to version 28, height 28"), "{:?}", store.notes);
    clean(&path("store"));
    // As is a history.
    let history = restore::Options { history: true, ..into_badger(&paths, &path("history")) };
    let history = run(&history).unwrap();
    assert_eq!((history.cut_height, history.tip_height, history.complete_height), (None, 28, 28));
    clean(&path("history"));
}

/// Whatever each family has missed of the last blocks.
#[test]
fn however_a_stream_is_torn_all_name_one_height() {
    for number in (0..3_u64.pow(6)).step_by(23) {
        let lost = |family: u32| number / 3_u64.pow(family) % 3;
        let mut sample = Sample::with_blocks(30);
        for height in 29..=30 {
            let misses = |family| height > 30 - lost(family);
            if misses(0) {
                sample.unindex(height);
            }
            let keys = [Key::Header(height), Key::Data(height), Key::Signature(height), Key::State(height)];
            for (_, key) in (1..).zip(keys).filter(|(family, _)| misses(*family)) {
                sample.remove(&key.to_bytes());
            }
        }
        sample.put(TIP.to_vec(), (30 - lost(5)).to_le_bytes().to_vec());
        let whole = 30 - (0..6).map(lost).max().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let paths = [bare(folder.path(), sample)];
        let report = checked(&paths);
        assert!(report.ok, "{number}: {:?}", report.findings);
        assert_eq!((report.complete_height, opened(&paths)), (whole, (1, whole)), "{number}");
        let (plain, store) = (folder.path().join("plain"), folder.path().join("store"));
        for options in [into_badger(&paths, &plain), into_rocksdb(&paths, &store)] {
            let made = run(&options).unwrap();
            assert_eq!((made.tip_height, made.complete_height), (whole, whole), "{number}: {:?}", made.notes);
            clean(&options.dest);
        }
    }
}

/// The store then shows what no tip of the streams names: the older one is that of the segment before, the newer one may be torn.
#[test]
fn a_torn_increment_without_a_manifest_shows_what_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let elsewhere = tempfile::tempdir().unwrap();
    let old = cut::Node::new(folder.path(), Sample::with_blocks(20));
    old.backup(&path("full.badger"), Since::Version(0));
    let mut sample = Sample::with_blocks(30);
    for key in [Key::State(30), Key::State(29), Key::Data(30)] {
        sample.remove(&key.to_bytes());
    }
    cut::Node::new(elsewhere.path(), sample).backup(&path("inc.badger"), Since::Version(20));
    strip(&path("inc.badger"));
    let chain = [path("full.badger"), path("inc.badger")];
    assert_eq!((checked(&chain).complete_height, opened(&chain)), (28, (1, 28)));
    for options in [into_badger(&chain, &path("plain")), into_rocksdb(&chain, &path("store"))] {
        let made = run(&options).unwrap();
        assert_eq!((made.tip_height, made.complete_height), (28, 28), "{:?}", made.notes);
        clean(&options.dest);
    }
}

/// The families are read one after another: the last one may know of a block that the others have missed.
#[test]
fn a_block_that_is_only_named_is_torn_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(31);
    for key in [Key::Header(31), Key::Data(31), Key::Signature(31), Key::State(31)] {
        sample.remove(&key.to_bytes());
    }
    sample.put(TIP.to_vec(), 30u64.to_le_bytes().to_vec());
    let paths = [bare(folder.path(), sample)];
    assert!(checked(&paths).findings.iter().any(|one| one.code == "torn-head"));
    let made = run(&into_badger(&paths, &path("plain"))).unwrap();
    assert_eq!((made.cut_height, made.tip_height), (Some(30), 30));
    clean(&path("plain"));
    let made = run(&into_rocksdb(&paths, &path("store"))).unwrap();
    assert_eq!((made.tip_height, made.complete_height), (30, 30));
    clean(&path("store"));
}

/// With the block that was in the making, as releases up to v1.0.0-rc.4 keep it: that is no tear.
#[test]
fn a_whole_segment_without_a_manifest_is_restored_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(30);
    sample.include(20);
    let mut longer = Sample::with_blocks(31);
    for key in [Key::Header(31), Key::Data(31)] {
        sample.put(key.to_bytes(), longer.remove(&key.to_bytes()).unwrap());
    }
    sample.put(Key::Signature(31).to_bytes(), Vec::new());
    sample.mark(Mark::SubmittedData, 20);
    let paths = [bare(folder.path(), sample)];
    let whole = digest_of_store(&path("node"), 0, false);
    let made = run(&into_badger(&paths, &path("plain"))).unwrap();
    assert_eq!((made.cut_height, made.tip_height, made.complete_height), (None, 30, 30));
    assert_eq!(digest_of_directory(&path("plain"), 0, false), whole);
    let made = run(&into_rocksdb(&paths, &path("store"))).unwrap();
    assert_eq!((made.cut_height, made.tip_height, made.complete_height), (None, 30, 30));
    assert_eq!(opened(&paths), (1, 30));
    assert_eq!(digest_of_store(&path("store"), 0, false), whole);
}

/// The queue's entry was deleted while nobody looked; its transactions are in a block.
#[test]
fn of_a_chain_without_manifests_nothing_is_queued_again_that_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(18);
    sample.put(Key::Queued(1 << 63).to_bytes(), Batch::encode([&b"k20-1=v"[..], b"k20-2=v"]));
    sample.put(Key::Queued((1 << 63) + 1).to_bytes(), Batch::encode([&b"waiting=1"[..]]));
    sample.extend(1, |_, _| {});
    let mut node = cut::Node::new(folder.path(), sample);
    let chain = [path("full.badger"), path("inc.badger")];
    node.backup(&chain[0], Since::Version(0));
    node.grow(11);
    node.backup(&chain[1], Since::Version(18));
    for segment in &chain {
        strip(segment);
    }
    let made = run(&into_badger(&chain, &path("plain"))).unwrap();
    assert_eq!((made.cut_height, made.tip_height), (Some(30), 30));
    let change = made.changes.iter().find(|change| change.family == "queue").unwrap();
    assert_eq!((change.action, &change.keys[..]), ("dropped", &["/batches/8000000000000000".to_owned()][..]));
    clean(&path("plain"));
}

/// A block that was signed and not applied yet, and blobs that are no blocks: such a restore goes on, and says what it does not do.
#[test]
fn what_cannot_be_cut_is_restored_as_it_is_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(30);
    for key in [Key::Data(30), Key::Signature(29), Key::State(30)] {
        sample.remove(&key.to_bytes());
    }
    let paths = [bare(folder.path(), sample)];
    let made = run(&into_badger(&paths, &path("plain"))).unwrap();
    assert_eq!((made.cut_height, made.tip_height, made.complete_height), (None, 30, 0));
    assert!(has_note(&made, "nothing is cut: expected block 29 to cut at"), "{:?}", made.notes);
    assert!(has_note(&made, "blocks above 29 may be torn, and shows all the same"), "{:?}", made.notes);
    assert_eq!(digest_of_directory(&path("plain"), 0, false), digest_of_store(&path("node"), 0, false));
}

fn foreign(folder: &Path, keys: &[&str], version: u64) -> PathBuf {
    let path = folder.join("foreign");
    let mut loader = Loader::create(&path, LoadOptions::default()).unwrap();
    for key in keys {
        let entry =
            evbackup::entry::Entry { key: key.as_bytes(), version, value: b"x", ..Default::default() };
        evbackup::entry::Sink::put(&mut loader, entry).unwrap();
    }
    loader.finish_with(NewAbout { pinned_version: version, ..NewAbout::default() }).unwrap();
    path
}

#[test]
fn of_an_empty_store_there_is_nothing_to_say() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [foreign(folder.path(), &[], 0)];
    for dry_run in [true, false] {
        let options = restore::Options { dry_run, ..into_badger(&paths, &folder.path().join("db")) };
        let made = run(&options).unwrap();
        assert!(!has_note(&made, "no chain"), "{:?}", made.notes);
    }
}

/// An increment that nobody speaks for shows in a store as it is, which is said where there are blocks that may be torn.
#[test]
fn an_increment_without_a_manifest_is_applied_with_a_note_if_it_has_blocks() {
    for of_evnode in [true, false] {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = |name: &str| old.path().join(name);
        if of_evnode {
            cut::Node::new(old.path(), Sample::with_blocks(20))
                .backup(&path("full.badger"), Since::Version(0));
            let grown = cut::Node::new(new.path(), Sample::with_blocks(30));
            grown.backup(&path("inc.badger"), Since::Version(20));
        } else {
            let of = |folder: &Path, version| {
                evbackup::backup::Origin::datastore(foreign(folder, &["bar", "foo"], version))
            };
            let take = super::proof::take;
            block_on(take(&of(old.path(), 1), &path("full.badger"), Since::Version(0))).unwrap();
            block_on(take(&of(new.path(), 2), &path("inc.badger"), Since::Version(1))).unwrap();
        }
        strip(&path("inc.badger"));
        run(&into_rocksdb(&[path("full.badger")], &path("store"))).unwrap();
        let options = apply::Options { paths: vec![path("inc.badger")], store: path("store") };
        let made = block_on(apply::run(options, Progress::new())).unwrap();
        let says = made.notes.iter().any(|note| note.contains("no manifest says how far"));
        assert!(made.entries > 0 && says == of_evnode, "{:?}", made.notes);
    }
}

#[test]
fn a_database_without_a_chain_is_restored_with_one_note() {
    for (keys, words) in [
        (&["bar", "foo"][..], "no chain was found: there are no keys of ev-node's"),
        (&["/0/b/1", "/0/r/1"], "a database of ev-node v0.x"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let source = evbackup::backup::Origin::datastore(foreign(folder.path(), keys, 1));
        let taken = block_on(super::proof::take(&source, &path("full.badger"), Since::Version(0))).unwrap();
        let count = taken.notes.iter().filter(|note| note.contains(words)).count();
        assert_eq!(count, 1, "{:?}", taken.notes);
        let paths = [path("full.badger")];
        for name in ["claimed", "bare"] {
            let plan = restore::Options { dry_run: true, ..into_badger(&paths, &path("plan")) };
            let plan = run(&plan).unwrap();
            let made = [
                plan,
                run(&into_badger(&paths, &path(&format!("{name}-badger")))).unwrap(),
                run(&into_rocksdb(&paths, &path(&format!("{name}-rocksdb")))).unwrap(),
            ];
            for made in made {
                let count = made.notes.iter().filter(|note| note.contains(words)).count();
                assert_eq!((count, made.cut_height), (1, None), "{name}: {:?}", made.notes);
                // And nothing more of blocks.
                assert!(!has_note(&made, "torn") && !has_note(&made, "cut:"), "{name}: {:?}", made.notes);
            }
            if name == "claimed" {
                strip(&paths[0]);
            }
        }
        // And so is what was restored from it; a plan of that reads nothing, and says nothing.
        for name in ["claimed-badger", "claimed-rocksdb"] {
            let paths = [path(name)];
            let plan = restore::Options { dry_run: true, ..into_badger(&paths, &path("plan")) };
            assert!(!has_note(&run(&plan).unwrap(), words));
            for options in [into_badger(&paths, &path("again")), into_rocksdb(&paths, &path("stored"))] {
                let made = run(&restore::Options { overwrite: true, ..options }).unwrap();
                let count = made.notes.iter().filter(|note| note.contains(words)).count();
                assert_eq!((count, made.cut_height), (1, None), "{name}: {:?}", made.notes);
            }
        }
    }
}
