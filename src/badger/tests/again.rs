//! Nodes that start again, other directories in the place of the one that was opened, and what a reading needs.

use super::*;

#[test]
fn numbers_of_logs_that_begin_again_leave_no_gap() {
    // How many logs were full before, and before which of those that are listed the node starts again and fills as many.
    for (filled, listed, at) in [(1, 2, 2), (1, 2, 1), (4, 1, 1), (4, 3, 3)] {
        let place = in_memory();
        let node = Arc::new(Mutex::new(Node::start(place.path())));
        {
            let mut node = node.lock().unwrap();
            node.commit(&[(b"a", Some(b"1"))]);
            for _ in 0..filled + 1 - listed.min(filled + 1) {
                node.flush(false);
            }
            for number in 1..listed {
                node.rotate();
                node.commit(&[(b"a", Some(format!("old {number}").as_bytes()))]);
            }
            node.commit(&[(b"b", Some(b"old"))]);
        }
        let (working, left) = (node.clone(), Mutex::new(at));
        let pauses = Pauses::new(move |step| {
            let mut left = left.lock().unwrap();
            if step != Step::Log || *left == 0 {
                return;
            }
            *left -= 1;
            if *left > 0 {
                return;
            }
            let mut node = working.lock().unwrap();
            node.restart();
            for number in 0..=filled {
                node.commit(&[(format!("new {number}").as_bytes(), Some(b"new"))]);
                node.rotate();
            }
        });
        let acknowledged = node.lock().unwrap().states.len() - 1;
        let directory =
            Directory::open(place.path(), ReadOptions { pauses, ..ReadOptions::default() }).unwrap();
        let found = everything(&directory).unwrap().1;
        let node = node.lock().unwrap();
        assert!(node.states[acknowledged..].contains(&found), "{filled} {listed} {at}: {found:?}");
    }
}

#[test]
fn another_directory_that_comes_while_a_snapshot_is_taken_is_noticed() {
    let steps = [Step::Manifest, Step::Logs, Step::Again, Step::Tables, Step::Table, Step::Settle];
    for (step, since) in steps.into_iter().flat_map(|step| [(step, 0), (step, 1)]) {
        let place = in_memory();
        let node = Arc::new(Mutex::new(Node::start(place.path())));
        node.lock().unwrap().commit(&[(b"a", Some(b"1"))]);
        node.lock().unwrap().flush(false);
        node.lock().unwrap().commit(&[(b"a", Some(b"2"))]);
        node.lock().unwrap().flush(false);
        let (dir, left) = (place.path().to_owned(), Mutex::new(step != Step::Settle || since > 0));
        if !*left.lock().unwrap() {
            continue;
        }
        let pauses = Pauses::new(move |at| {
            if at == step && std::mem::take(&mut *left.lock().unwrap()) {
                write_file(
                    &dir.join("KEYREGISTRY"),
                    &crate::badger::registry::encode([8; 16]),
                    Replace::Always,
                )
                .unwrap();
                node.lock().unwrap().rewrite();
            }
        });
        let directory =
            Directory::open(place.path(), ReadOptions { pauses, ..ReadOptions::default() }).unwrap();
        let need = Need { since, ..Need::everything() };
        let error = directory.snapshot_for(&need, &Progress::new()).map(drop).unwrap_err();
        assert_eq!(
            (error.code(), error.path()),
            ("mismatch", Some(place.path())),
            "{step:?} {since}: {error}"
        );
    }
}

#[test]
fn who_reads_a_key_needs_no_room() {
    let (place, staging) = (in_memory(), in_memory());
    let mut node = Node::start(place.path());
    node.commit(&[(b"a", Some(b"1")), (b"v", Some(&[1; THRESHOLD]))]);
    node.flush(false);
    let options = ReadOptions { staging: Some(staging.path().to_owned()), ..ReadOptions::default() };
    let directory = Directory::open(place.path(), options).unwrap();
    staging.close().unwrap();
    let need = Need::keys(vec![b"a".to_vec(), b"v".to_vec()]);
    let snapshot = directory.snapshot_for(&need, &Progress::new()).unwrap();
    assert_eq!(snapshot.get(b"a").unwrap().unwrap().value, b"1");
    assert_eq!(snapshot.get(b"v").unwrap().unwrap().value, [1; THRESHOLD]);
    assert_eq!(directory.snapshot().map(drop).unwrap_err().code(), "missing");
}

#[test]
fn a_value_log_of_the_highest_number_costs_nothing() {
    let place = in_memory();
    let node = Arc::new(Mutex::new(Node::start(place.path())));
    node.lock().unwrap().commit(&[(b"a", Some(&[1; THRESHOLD]))]);
    let log = place.path().join("4294967295.vlog");
    let pauses = once(&node, Step::Again, move |_| write_file(&log, &[0; 20], Replace::Never).unwrap());
    let directory = Directory::open(place.path(), ReadOptions { pauses, ..ReadOptions::default() }).unwrap();
    assert_eq!(everything(&directory).unwrap(), (1, node.lock().unwrap().states[1].clone()));
}

#[test]
fn another_directory_in_the_place_of_the_one_that_was_opened_is_noticed() {
    let place = in_memory();
    Node::start(place.path());
    let directory = Directory::open(place.path(), ReadOptions::default()).unwrap();
    let other = crate::badger::registry::encode([8; 16]);
    write_file(&place.path().join("KEYREGISTRY"), &other, Replace::Always).unwrap();
    assert_eq!(directory.snapshot().map(drop).unwrap_err().code(), "mismatch");
}

#[test]
fn copies_are_not_made_in_the_directory_itself() {
    let place = in_memory();
    Node::start(place.path());
    let staging = Some(place.path().to_owned());
    let options = ReadOptions { staging, ..ReadOptions::default() };
    assert_eq!(Directory::open(place.path(), options).unwrap_err().code(), "invalid-argument");
}

/// Logs are read on where they ended the last time, and only there.
#[test]
fn who_comes_back_sees_a_state_each_time() {
    let mut snapshots = 0;
    for seed in 2000..2060 {
        let place = in_memory();
        let node = Arc::new(Mutex::new(Node::start(place.path())));
        let dice = Arc::new(Mutex::new(Dice(seed)));
        let pauses = {
            let (node, dice) = (node.clone(), dice.clone());
            Pauses::new(move |_: Step| {
                let mut dice = dice.lock().unwrap();
                if dice.throw(4) == 0 {
                    work(&mut node.lock().unwrap(), &mut dice);
                }
            })
        };
        let directory =
            Directory::open(place.path(), ReadOptions { pauses, ..ReadOptions::default() }).unwrap();
        for turn in 0..12 {
            let busy = dice.lock().unwrap().throw(4);
            for _ in 0..busy {
                work(&mut node.lock().unwrap(), &mut dice.lock().unwrap());
            }
            let acknowledged = node.lock().unwrap().states.len() - 1;
            let key = b"k3".to_vec();
            let need = if turn % 3 == 0 { Need::everything() } else { Need::keys(vec![key.clone()]) };
            let snapshot = match directory.snapshot_for(&need, &Progress::new()) {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    assert_eq!(error.code(), "unavailable", "seed {seed}: {error}");
                    continue;
                }
            };
            snapshots += 1;
            let node = node.lock().unwrap();
            let mut possible = node.states[acknowledged..].iter();
            if need.since == 0 {
                let found = live(&drain(&mut *snapshot.source(0).unwrap()).unwrap());
                assert!(possible.any(|state| *state == found), "seed {seed}, turn {turn}");
            } else {
                let found = snapshot.get(&key).unwrap().filter(|entry| !entry.as_entry().is_delete());
                let found = found.map(|entry| entry.value);
                assert!(possible.any(|state| state.get(&key) == found.as_ref()), "seed {seed}, turn {turn}");
            }
        }
    }
    assert!(snapshots > 600, "only {snapshots} of 720 came to an end");
}
