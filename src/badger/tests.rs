//! Directories as datastores: at rest, and while a node works in them.

/// What starts again, comes in its place, and what a reading needs.
mod again;

use super::live::Step;
use super::node::{Live, Node, THRESHOLD};
use super::{Directory, Pauses, ReadOptions};
use crate::base::durable::{DirLock, Replace, remove_file, write_file};
use crate::base::progress::Progress;
use crate::entry::{Datastore, Need, OwnedEntry, Snapshot, Source};
use crate::error::Result;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A number generator that needs no seed from outside: a failure comes again.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// In memory where that can be had: a node of ours waits for the disk often.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn drain(source: &mut dyn Source) -> Result<Vec<OwnedEntry>> {
    let mut entries = Vec::new();
    while source.advance()? {
        entries.push(source.entry().to_owned());
    }
    Ok(entries)
}

/// The newest version of each key, where it is live.
fn live(entries: &[OwnedEntry]) -> Live {
    let mut live = Live::new();
    let mut last = None;
    for entry in entries {
        if last != Some(&entry.key) && !entry.as_entry().is_delete() {
            live.insert(entry.key.clone(), entry.value.clone());
        }
        last = Some(&entry.key);
    }
    live
}

fn offline(dir: &Path) -> Directory {
    Directory::open(dir, ReadOptions { offline: true, ..ReadOptions::default() }).unwrap()
}

fn everything(dir: &Directory) -> Result<(u64, Live)> {
    let snapshot = dir.snapshot()?;
    let entries = drain(&mut *snapshot.source(0)?)?;
    Ok((snapshot.pinned_version(), live(&entries)))
}

#[test]
fn a_directory_at_rest_is_read_from_all_its_files() {
    let place = in_memory();
    let mut node = Node::start(place.path());
    let long = [7; THRESHOLD + 1];
    node.commit(&[(b"/0/t", Some(b"\x01\0\0\0\0\0\0\0")), (b"a", Some(b"1")), (b"v", Some(&long))]);
    node.flush(false);
    node.commit(&[(b"a", None), (b"b", Some(b"2"))]);
    node.flush(false);
    node.compact();
    node.commit(&[(b"c", Some(b"3")), (b"v", Some(&[8; THRESHOLD]))]);
    node.rotate();
    node.commit(&[(b"d", Some(b"4"))]);
    node.begin(&[(b"e", Some(b"5"))]);
    let directory = offline(place.path());
    let (version, found) = everything(&directory).unwrap();
    assert_eq!((version, &found), (4, &node.states[4]));
    let snapshot = directory.snapshot().unwrap();
    assert_eq!((directory.id(), snapshot.tip().unwrap()), (&[7; 16][..], 1));
    assert_eq!((snapshot.deletes(), directory.reuses_versions()), ("exact", true));
    let changed = drain(&mut *snapshot.source(2).unwrap()).unwrap();
    assert_eq!(
        changed.iter().map(|entry| (&*entry.key, entry.version)).collect::<Vec<_>>(),
        [(&b"c"[..], 3), (b"d", 4), (b"v", 3)]
    );
    assert!(snapshot.estimate(0).unwrap() > snapshot.estimate(2).unwrap());
    let error = super::Directory::open(place.path(), ReadOptions::default()).map(|live| everything(&live));
    assert_eq!(error.unwrap().unwrap().1, found);
}

/// What the node does at a step, by chance.
fn work(node: &mut Node, dice: &mut Dice) {
    let changes = dice.throw(4) + 1;
    let mut written: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    for _ in 0..changes {
        let key = format!("k{}", dice.throw(12)).into_bytes();
        let version = node.version + 1;
        let value = match dice.throw(5) {
            0 => None,
            1 => Some(format!("{version:0>100}").into_bytes()),
            _ => Some(version.to_string().into_bytes()),
        };
        written.retain(|(other, _)| *other != key);
        written.push((key, value));
    }
    let written: Vec<_> = written.iter().map(|(key, value)| (&**key, value.as_deref())).collect();
    match dice.throw(24) {
        0..=9 => node.commit(&written),
        10..=12 => node.rotate(),
        13..=14 => node.flush(false),
        15 => node.flush(true),
        16 => node.let_go(),
        17..=18 => node.compact(),
        19 => node.rewrite(),
        20 => node.collect(),
        21 => node.rotate_values(),
        22 => node.restart(),
        _ => {
            if dice.throw(4) == 0 {
                node.drop_all();
            }
        }
    }
}

/// Takes a snapshot while the node works between the steps; which states it may be.
fn race(
    dir: &Path,
    node: &Arc<Mutex<Node>>,
    seed: u64,
    need: &Need,
    busy: u64,
    check: impl FnOnce(&dyn Snapshot, &[Live]),
) {
    let dice = Mutex::new(Dice(seed));
    let working = node.clone();
    let pauses = Pauses::new(move |_: Step| {
        let (mut node, mut dice) = (working.lock().unwrap(), dice.lock().unwrap());
        for _ in 0..dice.throw(busy) {
            work(&mut node, &mut dice);
        }
    });
    let acknowledged = node.lock().unwrap().states.len() - 1;
    let directory = Directory::open(dir, ReadOptions { pauses, ..ReadOptions::default() }).unwrap();
    let snapshot = match directory.snapshot_for(need, &Progress::new()) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            assert_eq!(error.code(), "unavailable", "seed {seed}: {error}");
            return;
        }
    };
    let possible = node.lock().unwrap().states[acknowledged..].to_vec();
    // It is not looked at before the node has gone on.
    let mut dice = Dice(seed ^ 0x5555);
    for _ in 0..20 {
        work(&mut node.lock().unwrap(), &mut dice);
    }
    check(&*snapshot, &possible);
}

#[test]
fn a_snapshot_is_one_state_whatever_the_node_does_meanwhile() {
    let mut snapshots = 0;
    for seed in 0..300 {
        let place = in_memory();
        let node = Arc::new(Mutex::new(Node::start(place.path())));
        let mut dice = Dice(seed);
        for _ in 0..30 {
            work(&mut node.lock().unwrap(), &mut dice);
        }
        race(place.path(), &node, seed, &Need::everything(), 1 + seed % 3, |snapshot, possible| {
            snapshots += 1;
            let entries = drain(&mut *snapshot.source(0).unwrap()).unwrap();
            let found = live(&entries);
            assert!(possible.contains(&found), "seed {seed}: {found:?}\n{possible:?}");
            assert!(entries.iter().all(|entry| entry.version <= snapshot.pinned_version()));
        });
    }
    assert!(snapshots > 250, "only {snapshots} of 300 came to an end");
}

/// The keys that an increment lists: those outside these families.
const FAMILIES: &[&[u8]] = &[b"k1", b"k5"];

fn keys(live: &Live) -> Vec<Vec<u8>> {
    live.keys().filter(|key| !FAMILIES.iter().any(|family| key.starts_with(family))).cloned().collect()
}

#[test]
fn an_increment_is_of_one_state_and_so_are_its_keys() {
    let mut increments = 0;
    for seed in 1000..1200 {
        let place = in_memory();
        let node = Arc::new(Mutex::new(Node::start(place.path())));
        let mut dice = Dice(seed);
        for _ in 0..30 {
            work(&mut node.lock().unwrap(), &mut dice);
        }
        let since = node.lock().unwrap().version / 2 + 1;
        let asked = vec![b"k3".to_vec(), b"no".to_vec()];
        let need = Need { since, keys: asked, listed: Some(FAMILIES), ..Need::default() };
        race(place.path(), &node, seed, &need, 1 + seed % 3, |snapshot, possible| {
            increments += 1;
            let listed = drain(&mut *snapshot.listed().unwrap().unwrap()).unwrap();
            let k3 = snapshot.get(b"k3").unwrap();
            let changed = drain(&mut *snapshot.source(since).unwrap()).unwrap();
            assert!(changed.iter().all(|entry| entry.version > since), "seed {seed}");
            let fits = |state: &Live| {
                let names: Vec<_> = listed.iter().map(|entry| entry.key.clone()).collect();
                // What the increment says of a key is what is live, and what it says nothing of has not changed.
                let mut newest = changed.clone();
                newest.dedup_by(|later, first| later.key == first.key);
                names == keys(state)
                    && newest.iter().all(|entry| {
                        let value = state.get(&entry.key);
                        if entry.as_entry().is_delete() {
                            value.is_none()
                        } else {
                            value == Some(&entry.value)
                        }
                    })
                    && k3.as_ref().filter(|entry| !entry.as_entry().is_delete()).map(|entry| &entry.value)
                        == state.get(&b"k3"[..])
            };
            assert!(possible.iter().any(fits), "seed {seed}");
            assert!(listed.iter().all(|entry| entry.value.is_empty()), "seed {seed}");
            let newest = |key: &[u8]| changed.iter().find(|entry| entry.key == key);
            assert!(
                listed.iter().all(|entry| match newest(&entry.key) {
                    Some(found) => found.version == entry.version,
                    None => entry.version <= since,
                }),
                "seed {seed}"
            );
            assert_eq!(snapshot.get(b"no").unwrap(), None);
            assert_eq!(snapshot.get(b"k4").unwrap_err().code(), "invalid-argument");
            assert_eq!(snapshot.source(since - 1).map(drop).unwrap_err().code(), "invalid-argument");
            assert_eq!(snapshot.prefix(b"k", b"").map(drop).unwrap_err().code(), "invalid-argument");
            assert_eq!(snapshot.everything().map(drop).unwrap_err().code(), "invalid-argument");
        });
    }
    assert!(increments > 150, "only {increments} of 200 came to an end");
}

#[test]
fn values_beyond_what_is_enough_are_not_read() {
    let place = in_memory();
    let mut node = Node::start(place.path());
    node.commit(&[
        (b"a", Some(&[1; 60])),
        (b"b", Some(&[2; 60])),
        (b"c", Some(b"3")),
        (b"/0/t", Some(b"tip")),
    ]);
    let directory = Directory::open(place.path(), ReadOptions::default()).unwrap();
    let asked: Vec<_> = [b"a", b"b", b"c"].map(|key| key.to_vec()).into();
    for (enough, answered) in [(0, 1), (60, 1), (61, 2), (120, 2), (121, 3), (usize::MAX, 3)] {
        let need = Need { enough: Some(enough), ..Need::keys(asked.clone()) };
        let snapshot = directory.snapshot_for(&need, &Progress::new()).unwrap();
        let found = asked.iter().filter(|key| snapshot.get(key).is_ok_and(|entry| entry.is_some())).count();
        assert_eq!(found, answered, "{enough}");
        assert!(snapshot.get(b"/0/t").unwrap().is_some());
    }
}

/// Calls `act` with the node the first time that a reading is at `step`.
fn once(node: &Arc<Mutex<Node>>, step: Step, act: impl Fn(&mut Node) + Send + Sync + 'static) -> Pauses {
    let (node, left) = (node.clone(), Mutex::new(true));
    Pauses::new(move |at| {
        if at == step && std::mem::take(&mut *left.lock().unwrap()) {
            act(&mut node.lock().unwrap());
        }
    })
}

#[test]
fn each_race_gives_a_state_that_was_acknowledged() {
    type Act = fn(&mut Node);
    let races: [(&str, Step, Act); 13] = [
        ("a flush between the two readings of the MANIFEST", Step::Logs, |node| node.flush(false)),
        ("a flush when the logs were listed", Step::Log, |node| node.flush(false)),
        ("a flush whose log lingers", Step::Logs, |node| node.flush(true)),
        ("a commit and a new log", Step::Log, |node| {
            node.commit(&[(b"k", Some(b"later"))]);
            node.rotate();
            node.commit(&[(b"k", Some(b"last"))]);
        }),
        ("a rewritten MANIFEST", Step::Again, Node::rewrite),
        ("twice, so that an inode may come back", Step::Again, |node| {
            node.rewrite();
            node.rewrite();
        }),
        ("a compaction before the tables are listed", Step::Again, Node::compact),
        ("a compaction before they are opened", Step::Tables, Node::compact),
        ("a compaction before one is copied", Step::Table, Node::compact),
        ("a collected value log", Step::ValueLog, Node::collect),
        ("a cut value log", Step::ValueLog, Node::rotate_values),
        ("a restart", Step::Tables, Node::restart),
        ("everything dropped", Step::Again, Node::drop_all),
    ];
    for (name, step, act) in races {
        for need in [Need::everything(), Need { since: 1, ..Need::everything() }] {
            let place = in_memory();
            let node = Arc::new(Mutex::new(Node::start(place.path())));
            {
                let mut node = node.lock().unwrap();
                node.commit(&[(b"a", Some(b"1")), (b"v", Some(&[1; THRESHOLD]))]);
                node.flush(false);
                node.commit(&[(b"a", Some(b"2")), (b"w", Some(&[2; THRESHOLD]))]);
                node.flush(false);
                node.rotate_values();
                node.commit(&[(b"a", None), (b"b", Some(b"3")), (b"x", Some(&[3; THRESHOLD]))]);
            }
            let before = node.lock().unwrap().states.len() - 1;
            let pauses = once(&node, step, act);
            let directory =
                Directory::open(place.path(), ReadOptions { pauses, ..ReadOptions::default() }).unwrap();
            let snapshot = directory.snapshot_for(&need, &Progress::new()).unwrap();
            let found = live(&drain(&mut *snapshot.source(need.since).unwrap()).unwrap());
            let mut possible = node.lock().unwrap().states[before..].to_vec();
            if need.since == 1 {
                // `v` was written by the first commit.
                for state in &mut possible {
                    state.remove(&b"v"[..]);
                }
            }
            assert!(possible.contains(&found), "{name}: {found:?}");
        }
    }
}

#[test]
fn what_is_dropped_in_two_steps_is_there_or_not() {
    let place = in_memory();
    let node = Arc::new(Mutex::new(Node::start(place.path())));
    {
        let mut node = node.lock().unwrap();
        node.commit(&[(b"a", Some(b"1")), (b"v", Some(&[1; THRESHOLD]))]);
        node.flush(false);
        node.rotate_values();
        node.commit(&[(b"b", Some(b"2"))]);
    }
    let (half, dropping) = (Mutex::new(0), node.clone());
    let pauses = Pauses::new(move |at| {
        let mut half = half.lock().unwrap();
        match (at, *half) {
            (Step::Logs, 0) => dropping.lock().unwrap().drop_logs(),
            // The tables were copied by now.
            (Step::ValueLog, 1) => dropping.lock().unwrap().drop_tables(),
            _ => return,
        }
        *half += 1;
    });
    let directory = Directory::open(place.path(), ReadOptions { pauses, ..ReadOptions::default() }).unwrap();
    assert_eq!(
        everything(&directory).unwrap().1,
        Live::new(),
        "neither the table alone nor what was dropped"
    );
}

#[test]
fn a_flushed_log_that_lingers_brings_nothing_back() {
    let place = in_memory();
    let mut node = Node::start(place.path());
    node.commit(&[(b"a", Some(b"1"))]);
    node.commit(&[(b"b", Some(b"1"))]);
    node.flush(true);
    node.commit(&[(b"a", None), (b"c", Some(b"1"))]);
    node.flush(false);
    // The table has neither `a` nor its tombstone; the log of the first memtable still has `a`.
    node.compact();
    for directory in [offline(place.path()), Directory::open(place.path(), ReadOptions::default()).unwrap()] {
        assert_eq!(everything(&directory).unwrap().1, *node.states.last().unwrap());
    }
}

#[test]
fn a_table_that_is_missing_is_damage_and_not_a_race() {
    let place = in_memory();
    let mut node = Node::start(place.path());
    node.commit(&[(b"a", Some(b"1"))]);
    node.flush(false);
    let path = place.path().join("000001.sst");
    remove_file(&path).unwrap();
    for offline in [true, false] {
        let options = ReadOptions { offline, ..ReadOptions::default() };
        let error = everything(&Directory::open(place.path(), options).unwrap()).unwrap_err();
        assert_eq!((error.code(), error.path()), ("damaged", Some(&*path)));
    }
}

#[test]
fn a_value_log_that_is_missing_is_damage_with_its_key() {
    let place = in_memory();
    let mut node = Node::start(place.path());
    node.commit(&[(b"a", Some(&[1; THRESHOLD]))]);
    node.rotate_values();
    remove_file(&place.path().join("000001.vlog")).unwrap();
    for offline in [true, false] {
        let options = ReadOptions { offline, ..ReadOptions::default() };
        let error = everything(&Directory::open(place.path(), options).unwrap()).unwrap_err();
        assert_eq!(error.code(), "damaged");
        assert!(error.to_string().contains("000001.vlog") && error.to_string().contains("key a"), "{error}");
    }
}

/// Two versions of a key, both in the first value log, and where the value of the older one ends.
fn two_values(dir: &Path) -> u64 {
    let mut node = Node::start(dir);
    let path = dir.join("000001.vlog");
    node.commit(&[(b"a", Some(&[1; THRESHOLD]))]);
    let end = std::fs::read(&path).unwrap().iter().rposition(|byte| *byte != 0).unwrap();
    node.commit(&[(b"a", Some(&[2; THRESHOLD]))]);
    node.rotate_values();
    // Behind the value stands its checksum.
    end as u64 - 8
}

#[test]
fn a_damaged_value_of_an_older_version_is_left_out_and_counted() {
    for live in [false, true] {
        let place = in_memory();
        let at = two_values(place.path());
        let options = ReadOptions { offline: !live, ..ReadOptions::default() };
        let directory = Directory::open(place.path(), options).unwrap();
        let snapshot = directory.snapshot().unwrap();
        assert_eq!((drain(&mut *snapshot.source(0).unwrap()).unwrap().len(), snapshot.damaged()), (2, 0));
        let file = std::fs::File::options().write(true).open(place.path().join("000001.vlog")).unwrap();
        file.write_all_at(b"x", at).unwrap();
        let snapshot = directory.snapshot().unwrap();
        let entries = drain(&mut *snapshot.source(0).unwrap()).unwrap();
        assert_eq!((entries.len(), entries[0].version, snapshot.damaged()), (1, 2, 1));
    }
}

#[test]
fn listed_keys_need_no_values() {
    let place = in_memory();
    two_values(place.path());
    remove_file(&place.path().join("000001.vlog")).unwrap();
    let need = Need { listed: Some(FAMILIES), ..Need::everything() };
    for offline in [true, false] {
        let options = ReadOptions { offline, ..ReadOptions::default() };
        let directory = Directory::open(place.path(), options).unwrap();
        let snapshot = directory.snapshot_for(&need, &Progress::new()).unwrap();
        let listed = drain(&mut *snapshot.listed().unwrap().unwrap()).unwrap();
        assert_eq!((listed.len(), &*listed[0].key, listed[0].version), (1, &b"a"[..], 2));
        assert_eq!(drain(&mut *snapshot.source(0).unwrap()).unwrap_err().code(), "damaged");
    }
}

#[test]
fn damage_in_a_table_is_not_taken_for_a_value_log_that_has_gone() {
    let place = in_memory();
    let node = Arc::new(Mutex::new(Node::start(place.path())));
    {
        let mut node = node.lock().unwrap();
        let keys: Vec<_> = (0..200).map(|at| format!("k{at:03}").into_bytes()).collect();
        let changes: Vec<_> = keys.iter().map(|key| (&**key, Some(&[9; 40][..]))).collect();
        node.commit(&changes);
        node.commit(&[(b"v", Some(&[1; THRESHOLD]))]);
        node.flush(false);
        node.rotate_values();
    }
    let path = place.path().join("000001.sst");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"xxxx", 30).unwrap();
    let pauses = once(&node, Step::ValueLog, Node::collect);
    let directory = Directory::open(place.path(), ReadOptions { pauses, ..ReadOptions::default() }).unwrap();
    let begun = std::time::Instant::now();
    let error = everything(&directory).unwrap_err();
    assert_eq!((error.code(), error.path()), ("damaged", Some(&*path)), "{error}");
    assert!(begun.elapsed().as_secs() < 5, "it was tried again and again");
}

#[test]
fn a_directory_that_never_stays_the_same_is_given_up_with_a_reason() {
    let place = in_memory();
    let node = Arc::new(Mutex::new(Node::start(place.path())));
    let working = node.clone();
    let pauses = Pauses::new(move |step| {
        if step == Step::Again {
            working.lock().unwrap().rewrite();
        }
    });
    let directory = Directory::open(place.path(), ReadOptions { pauses, ..ReadOptions::default() }).unwrap();
    let cancelled = Progress::new();
    cancelled.cancel();
    assert_eq!(
        directory.snapshot_for(&Need::everything(), &cancelled).map(drop).unwrap_err().code(),
        "cancelled"
    );
    let error = directory.snapshot().map(drop).unwrap_err();
    assert_eq!((error.code(), error.path()), ("unavailable", Some(place.path())));
    assert!(error.to_string().contains("100 times; last: the MANIFEST was rewritten"), "{error}");
}

#[test]
fn zero_length_files_and_what_belongs_to_nobody_are_passed() {
    let place = in_memory();
    let mut node = Node::start(place.path());
    node.commit(&[(b"a", Some(b"1"))]);
    for name in ["00007.mem", "000007.vlog", "000099.sst", "MANIFEST-REWRITE", "x.mem", ".mem", "DISCARD"] {
        write_file(&place.path().join(name), b"", Replace::Never).unwrap();
    }
    for directory in [offline(place.path()), Directory::open(place.path(), ReadOptions::default()).unwrap()] {
        assert_eq!(everything(&directory).unwrap(), (1, node.states[1].clone()));
    }
}

#[test]
fn a_directory_without_a_registry_has_no_id_and_one_without_a_manifest_is_none() {
    let place = in_memory();
    write_file(&place.path().join("MANIFEST"), &super::manifest::encode(&[]), Replace::Never).unwrap();
    for directory in [offline(place.path()), Directory::open(place.path(), ReadOptions::default()).unwrap()] {
        assert_eq!((directory.id(), everything(&directory).unwrap()), (&[][..], (0, Live::new())));
    }
    let empty = in_memory();
    let error = Directory::open(empty.path(), ReadOptions::default()).unwrap_err();
    assert!(error.code() == "missing" && error.hint().is_some());
}

#[test]
fn a_stopped_nodes_directory_is_locked_and_a_running_ones_is_not() {
    let place = in_memory();
    Node::start(place.path());
    let live = Directory::open(place.path(), ReadOptions::default()).unwrap();
    let snapshot = live.snapshot().unwrap();
    // A node may start meanwhile.
    let node = DirLock::exclusive(place.path()).unwrap();
    let options = ReadOptions { offline: true, ..ReadOptions::default() };
    assert_eq!(Directory::open(place.path(), options).unwrap_err().code(), "locked");
    drop((snapshot, node));
    let _stopped = offline(place.path());
    assert_eq!(DirLock::exclusive(place.path()).unwrap_err().code(), "locked");
}

#[test]
fn reading_changes_nothing_in_the_directory() {
    let place = in_memory();
    let mut node = Node::start(place.path());
    node.commit(&[(b"a", Some(&[1; THRESHOLD]))]);
    node.flush(false);
    node.commit(&[(b"b", Some(b"1"))]);
    let listing = || {
        let mut found: Vec<_> = place
            .path()
            .read_dir()
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let about = path.metadata().unwrap();
                (
                    path,
                    about.len(),
                    about.modified().unwrap(),
                    about.permissions().mode(),
                    about.accessed().unwrap(),
                )
            })
            .collect();
        found.sort();
        found
    };
    let before = listing();
    for directory in [offline(place.path()), Directory::open(place.path(), ReadOptions::default()).unwrap()] {
        everything(&directory).unwrap();
        drop(directory);
        assert_eq!(listing(), before);
    }
}
