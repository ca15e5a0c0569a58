//! Directories as datastores: at rest, and while a node works in them.

use super::live::Step;
use super::node::{Live, Node, THRESHOLD};
use super::{Directory, Pauses, ReadOptions};
use crate::base::progress::Progress;
use crate::entry::{Datastore, Need, OwnedEntry, Snapshot, Source};
use crate::error::Result;
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
    let place = tempfile::tempdir().unwrap();
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
    for seed in 0..300 {
        let place = tempfile::tempdir().unwrap();
        let node = Arc::new(Mutex::new(Node::start(place.path())));
        let mut dice = Dice(seed);
        for _ in 0..30 {
            work(&mut node.lock().unwrap(), &mut dice);
        }
        race(place.path(), &node, seed, &Need::everything(), 1 + seed % 3, |snapshot, possible| {
            let entries = drain(&mut *snapshot.source(0).unwrap()).unwrap();
            let found = live(&entries);
            assert!(possible.contains(&found), "seed {seed}: {found:?}\n{possible:?}");
            assert!(entries.iter().all(|entry| entry.version <= snapshot.pinned_version()));
        });
    }
}
