use super::*;
use evbackup::base::progress::Progress;
use evbackup::error::Kind;

#[test]
fn an_overlapping_increment_adds_what_is_new_and_passes_over_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let first = [entry("a", 1, "1"), entry("b", 2, "2"), tombstone("c", 3)];
    let before = load(&path, &first, pinned(3)).unwrap();
    let mut store = Store::open_for_writing(&path).unwrap();
    let again = [first[1].clone(), first[2].clone(), entry("c", 4, "4")];
    let written = apply(&mut store, &again, pinned(4)).unwrap();
    assert_eq!((written.entries, written.known, written.last_version, written.late), (1, 2, 4, false));
    assert_eq!(written.store_id, before.store_id);
    assert_eq!(store.about().entries, 4);
    assert_eq!(all(&store).unwrap(), sort([&first[..], &again[2..]].concat()));
    // All of it again changes nothing but the count of changes.
    let written = apply(&mut store, &again, pinned(4)).unwrap();
    assert_eq!((written.entries, written.known, store.about().entries), (0, 3, 4));
}

#[test]
fn the_same_version_with_other_content_is_a_mismatch_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    load(&path, &[entry("a", 1, "1"), tombstone("b", 2)], pinned(2)).unwrap();
    let mut store = Store::open_for_writing(&path).unwrap();
    let (said, held) = (store.about().clone(), all(&store).unwrap());
    let others = [
        entry("a", 1, "other"),
        OwnedEntry { user_meta: 1, ..entry("a", 1, "1") },
        OwnedEntry { expires_at: 1, ..entry("a", 1, "1") },
        tombstone("a", 1),
        entry("b", 2, ""),
    ];
    for other in others {
        let error = apply(&mut store, &[entry("0", 3, "new"), other], pinned(3)).unwrap_err();
        assert_eq!(error.kind(), Kind::Mismatch);
        assert!(error.hint().unwrap().contains("take a full backup"));
    }
    assert_eq!(apply(&mut store, &[], pinned(1)).unwrap_err().kind(), Kind::Mismatch);
    assert_eq!((store.about(), all(&store).unwrap()), (&said, held.clone()));
    assert!(!path.join("increment.part").exists());
    drop(store);
    assert_eq!(all(&Store::open(&path).unwrap()).unwrap(), held);
}

/// A stream that Badger's own RPC sends while its node writes is torn: of the versions above the complete one, some entries are
/// there and others are not. The late ones arrive with the next increment, which overlaps. Whoever had pinned a backup of
/// the store to the highest version it holds would have told its reader that it has them.
#[test]
fn late_entries_of_a_torn_segment_are_in_the_next_increment() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("store"), dir.path().join("copy"));
    // Complete up to 90. Of 91 to 100 only the keys behind "k" were read after they had been written.
    let whole: Vec<_> = (1..=90).map(|version| entry(format!("k{version:03}"), version, "v")).collect();
    let torn: Vec<_> =
        (91..=100).filter(|version| version % 2 == 0).map(|v| entry(format!("z{v}"), v, "v")).collect();
    let late: Vec<_> =
        (91..=100).filter(|version| version % 2 == 1).map(|v| entry(format!("a{v}"), v, "v")).collect();
    let next: Vec<_> = (101..=120).map(|version| entry(format!("k{version:03}"), version, "v")).collect();
    let first = load(&path, &[whole.clone(), torn.clone()].concat(), pinned(90)).unwrap();
    assert_eq!(first.last_version, 100);

    // The store is copied to another one, through its first backup.
    let mut store = Store::open_for_writing(&path).unwrap();
    {
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.pinned_version(), 90);
        assert_eq!(
            since(&*snapshot, 0).unwrap(),
            sort(whole.clone()),
            "nothing above the pinned version is seen"
        );
        load(&copy, &since(&*snapshot, 0).unwrap(), pinned(90)).unwrap();
    }
    // The overlapping increment: everything above 90, the torn entries once more.
    let increment = [torn.clone(), late.clone(), next.clone()].concat();
    let written = apply(&mut store, &increment, pinned(120)).unwrap();
    assert_eq!((written.known, written.entries), (torn.len() as u64, (late.len() + next.len()) as u64));
    assert!(!written.late, "no copy has been told that it has them");
    assert_eq!(written.store_id, first.store_id);

    let snapshot = store.snapshot().unwrap();
    let change = since(&*snapshot, 90).unwrap();
    assert_eq!(change, sort(increment));
    let mut copied = Store::open_for_writing(&copy).unwrap();
    apply(&mut copied, &change, pinned(120)).unwrap();
    assert_eq!(all(&copied).unwrap(), all(&store).unwrap());
}

#[test]
fn an_entry_later_than_that_gives_the_store_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let first = load(&path, &[entry("a", 1, "1"), entry("b", 9, "9")], pinned(9)).unwrap();
    let mut store = Store::open_for_writing(&path).unwrap();
    let mut increment = Increment::begin(&mut store, small()).unwrap();
    increment.put(entry("c", 5, "late").as_entry()).unwrap();
    assert!(increment.is_late());
    let written = increment.finish_with(pinned(9)).unwrap();
    assert!(written.late);
    assert_ne!(written.store_id, first.store_id);
    assert_eq!(store.id(), written.store_id);
    let kept = NewAbout { store_id: Some(first.store_id), ..pinned(9) };
    let written = apply(&mut store, &[entry("d", 5, "late, and the caller knows")], kept).unwrap();
    assert_eq!((written.late, written.store_id), (true, first.store_id));
}

#[test]
fn a_snapshot_and_an_open_reader_keep_their_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    load(&path, &[entry("a", 1, "1")], pinned(1)).unwrap();
    let reader = Store::open(&path).unwrap();
    let snapshot = reader.snapshot().unwrap();
    let mut store = Store::open_for_writing(&path).unwrap();
    // More than the top level may hold: a reader keeps the tables where they are.
    for version in 2..60 {
        apply(&mut store, &[entry("a", version, "n"), entry("b", version, "n")], pinned(version)).unwrap();
    }
    assert_eq!(since(&*snapshot, 0).unwrap(), [entry("a", 1, "1")]);
    assert_eq!(all(&store).unwrap().len(), 117);
    assert_eq!(all(&Store::open(&path).unwrap()).unwrap().len(), 117);
    drop(snapshot);
    drop(reader);
    // Now they are merged, and everything is still there.
    apply(&mut store, &[entry("a", 60, "n")], pinned(60)).unwrap();
    assert_eq!(all(&store).unwrap().len(), 118);
    drop(store);
    let tables = || {
        let names = std::fs::read_dir(&path).unwrap().map(|name| name.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".sst")).count()
    };
    assert!(tables() < 20, "{} tables", tables());
    assert_eq!(all(&Store::open(&path).unwrap()).unwrap().len(), 118);
}

#[test]
fn a_reader_that_never_closes_does_not_let_the_tables_pile_up_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    load(&path, &[entry("a", 1, "1")], pinned(1)).unwrap();
    let reader = Store::open(&path).unwrap();
    let mut store = Store::open_for_writing(&path).unwrap();
    let mut version = 1;
    let error = loop {
        match apply(&mut store, &[entry("a", version + 1, "n")], pinned(version + 1)) {
            Ok(_) => version += 1,
            Err(error) => break error,
        }
        assert!(version < 1_000);
    };
    assert_eq!(error.kind(), Kind::Locked, "{error}");
    assert_eq!(all(&store).unwrap().len() as u64, version);
    assert_eq!(all(&reader).unwrap().len(), 1);
    drop(reader);
    apply(&mut store, &[entry("a", version + 1, "n")], pinned(version + 1)).unwrap();
    assert_eq!(all(&store).unwrap().len() as u64, version + 1);
}

#[test]
fn two_writers_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    load(&path, &[entry("a", 1, "1")], pinned(1)).unwrap();
    let first = Store::open_for_writing(&path).unwrap();
    let error = Store::open_for_writing(&path).unwrap_err();
    assert_eq!(error.kind(), Kind::Locked, "{error}");
    assert_eq!(all(&Store::open(&path).unwrap()).unwrap().len(), 1);
    drop(first);
    Store::open_for_writing(&path).unwrap();
}

#[test]
fn whoever_replaces_a_store_needs_it_closed_and_may_read_what_it_built() {
    use evbackup::base::durable::{DirLock, PartDir};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let part = PartDir::create(&path).unwrap();
    load(part.path(), &[entry("a", 1, "1")], pinned(1)).unwrap();
    assert_eq!(Store::open(part.path()).unwrap_err().kind(), Kind::Locked);
    assert_eq!(all(&Store::open_held(part.path()).unwrap()).unwrap().len(), 1);
    part.commit().unwrap();
    for store in [Store::open(&path).unwrap(), Store::open_for_writing(&path).unwrap()] {
        assert_eq!(DirLock::exclusive(&path).unwrap_err().kind(), Kind::Locked);
        drop(store);
    }
    let alone = DirLock::exclusive(&path).unwrap();
    assert_eq!(Store::open(&path).unwrap_err().kind(), Kind::Locked);
    assert_eq!(Store::open_for_writing(&path).unwrap_err().kind(), Kind::Locked);
    drop(alone);
}

#[test]
fn leftovers_of_a_killed_writer_are_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    load(&path, &[entry("a", 1, "1")], pinned(1)).unwrap();
    let left = path.join("increment.part");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("000000.sst"), "half a table").unwrap();
    assert_eq!(all(&Store::open(&path).unwrap()).unwrap().len(), 1);
    drop(Store::open_for_writing(&path).unwrap());
    assert!(!left.exists());
}

#[test]
fn compact_drops_what_nobody_can_see_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut entries = Vec::new();
    for key in 0..50 {
        for version in 1..=20 {
            entries.push(entry(format!("k{key}"), version, [b'v'; 100]));
        }
    }
    entries.push(entry("gone", 3, "v"));
    entries.push(tombstone("gone", 4));
    entries.push(entry("later", 15, "v"));
    load(&path, &entries, pinned(18)).unwrap();
    let progress = Progress::new();
    let mut store = Store::open_for_writing(&path).unwrap();
    assert_eq!(store.compact(19, &progress).unwrap_err().kind(), Kind::Invalid);

    let reader = Store::open(&path).unwrap();
    assert_eq!(store.compact(10, &progress).unwrap_err().kind(), Kind::Locked);
    drop(reader);
    let dropped = store.compact(10, &progress).unwrap();
    assert_eq!((dropped.entries, dropped.bytes), (50 * 9 + 1, 9 * (40 * 103 + 10 * 102) + 5));
    let kept = |entry: &&OwnedEntry| entry.version >= 10 || entry.key == b"gone" && entry.version == 4;
    let expected = sort(entries.iter().filter(kept).filter(|e| e.version <= 18).cloned().collect());
    assert_eq!(all(&store).unwrap(), expected);
    assert_eq!((store.about().entries, store.about().compacted_to), (entries.len() as u64 - 451, 10));
    drop(store);

    // It holds on the disk, above the pinned version too, and increments go on.
    let mut store = Store::open_for_writing(&path).unwrap();
    assert_eq!(all(&store).unwrap(), expected);
    apply(&mut store, &[entry("k0", 21, "new")], pinned(21)).unwrap();
    assert_eq!(all(&store).unwrap().len() as u64, store.about().entries);
    let snapshot = store.snapshot().unwrap();
    assert_eq!(since(&*snapshot, 20).unwrap(), [entry("k0", 21, "new")]);
    assert_eq!(
        since(&*snapshot, 9).unwrap(),
        since(&*snapshot, 0).unwrap().into_iter().filter(|e| e.version > 9).collect::<Vec<_>>()
    );
}
