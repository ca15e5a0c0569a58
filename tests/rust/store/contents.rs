use super::*;
use evbackup::base::progress::Progress;
use evbackup::entry::{Entry, META_DISCARD_EARLIER, META_MERGE};
use evbackup::error::Kind;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn every_field_comes_back() {
    let mut entries = vec![
        entry("plain", 1, "value"),
        entry("", 2, "of the empty key"),
        entry("empty value", 3, ""),
        entry(b"\0", 4, b"\0"),
        entry(b"\0\0", 4, b"\0"),
        entry(b"\0\xFF", 4, "x"),
        entry(b"\xFF\xFF", u64::MAX, b"\xFF"),
        entry(b"\xFF", 0, "version 0"),
        tombstone("gone", 5),
        OwnedEntry { expires_at: u64::MAX, user_meta: 0xFE, ..entry("expires", 6, "v") },
        OwnedEntry { meta: META_DISCARD_EARLIER | META_MERGE, ..entry("merge", 7, "v") },
    ];
    for version in 1..=1_000 {
        entries.push(entry("versions", version, version.to_string()));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let written = load(&path, &entries, pinned(u64::MAX)).unwrap();
    let entries = sort(entries);
    let bytes: usize = entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    assert_eq!((written.entries, written.bytes), (entries.len() as u64, bytes as u64));
    assert_eq!(written.last_version, u64::MAX);

    let store = Store::open(&path).unwrap();
    assert_eq!(all(&store).unwrap(), entries);
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.get(b"versions").unwrap().unwrap(), entry("versions", 1_000, "1000"));
    assert_eq!(snapshot.get(b"gone").unwrap().unwrap(), tombstone("gone", 5));
    assert_eq!(snapshot.get(b"\0").unwrap().unwrap(), entry(b"\0", 4, b"\0"));
    for absent in [&b"version"[..], b"versions\0", b"\0\0\0", b"\x01", b"\xFF\xFF\xFF"] {
        assert_eq!(snapshot.get(absent).unwrap(), None);
    }
    assert_eq!(since(&*snapshot, 1_000).unwrap(), [entry(b"\xFF\xFF", u64::MAX, b"\xFF")]);
    assert_eq!(since(&*snapshot, u64::MAX).unwrap(), []);
}

#[test]
fn directory_bits_of_meta_are_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let from_vlog = OwnedEntry { meta: 0x02 | 0x40 | META_MERGE, ..entry("k", 1, "v") };
    load(&path, std::slice::from_ref(&from_vlog), pinned(1)).unwrap();
    let mut store = Store::open_for_writing(&path).unwrap();
    assert_eq!(all(&store).unwrap(), [OwnedEntry { meta: META_MERGE, ..entry("k", 1, "v") }]);
    // And do not make it another entry when it comes again.
    assert_eq!(apply(&mut store, &[from_vlog], pinned(1)).unwrap().known, 1);
}

#[test]
fn what_is_above_the_pinned_version_is_held_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let entries = [entry("k", 6, "late"), entry("k", 5, "v"), entry("l", 7, "late")];
    load(&path, &entries, pinned(5)).unwrap();
    let store = Store::open(&path).unwrap();
    assert_eq!(all(&store).unwrap(), entries[1..2]);
    assert_eq!(drain(store.snapshot().unwrap().everything().unwrap()).unwrap(), entries);
}

#[test]
fn keys_and_values_of_any_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut entries = Vec::new();
    for length in [1, 2, 255, 4_096, 65_000] {
        for byte in [0_u8, 1, b'x', 0xFF] {
            entries.push(entry(vec![byte; length], 1, "v"));
        }
    }
    for length in [0, 1, 4_096, 1 << 20, 20 << 20] {
        entries.push(entry(format!("value of {length}"), 2, vec![b'v'; length]));
    }
    load(&path, &entries, pinned(2)).unwrap();
    let store = Store::open(&path).unwrap();
    let entries = sort(entries);
    assert!(all(&store).unwrap() == entries);
    let snapshot = store.snapshot().unwrap();
    for entry in &entries {
        assert!(snapshot.get(&entry.key).unwrap().as_ref() == Some(entry));
    }
}

#[test]
fn an_empty_store_is_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    assert!(!Store::is_store(&path));
    load(&path, &[], pinned(0)).unwrap();
    assert!(Store::is_store(&path));
    let store = Store::open(&path).unwrap();
    assert_eq!(all(&store).unwrap(), []);
    let snapshot = store.snapshot().unwrap();
    assert_eq!((snapshot.tip().unwrap(), snapshot.estimate(0).unwrap()), (0, 0));
}

#[test]
fn what_it_says_of_itself_comes_back() {
    use evbackup::store::Applied;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let applied = |number: u8| Applied {
        source: vec![number; 5],
        sha256: [number; 32],
        complete_version: u64::from(number),
    };
    let new = NewAbout { deletes: "exact".into(), applied: vec![applied(1)], ..pinned(1) };
    let first = load(&path, &[entry("a", 1, "v")], new).unwrap();
    let mut store = Store::open_for_writing(&path).unwrap();
    assert_eq!(store.id(), first.store_id);
    for number in 2..=20 {
        let new = NewAbout { applied: vec![applied(number)], ..pinned(u64::from(number)) };
        let written = apply(&mut store, &[entry("a", u64::from(number), "v")], new).unwrap();
        assert_eq!((written.entries, written.late, written.store_id), (1, false, first.store_id));
    }
    let said = store.about().clone();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.about(), &said);
    assert_eq!(said.applied, (1..=20).map(applied).collect::<Vec<_>>());
    assert_eq!((said.entries, said.generation, said.pinned_version), (20, 20, 20));
    assert_eq!(store.snapshot().unwrap().deletes(), "exact");
    assert!(store.disk_bytes() > 0);
}

#[test]
fn opening_for_reading_changes_nothing_and_many_may() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    load(&path, &[entry("a", 1, "v")], pinned(1)).unwrap();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(&path)
            .unwrap()
            .map(|name| {
                let name = name.unwrap();
                (name.file_name(), name.metadata().unwrap().modified().unwrap())
            })
            .collect();
        names.sort();
        names
    };
    let before = names();
    let stores: Vec<_> = (0..4).map(|_| Store::open(&path).unwrap()).collect();
    assert!(stores.iter().all(|store| all(store).unwrap().len() == 1));
    drop(stores);
    assert_eq!(names(), before);
}

#[test]
fn a_store_that_was_opened_for_reading_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    load(&path, &[], pinned(0)).unwrap();
    let mut store = Store::open(&path).unwrap();
    assert_eq!(apply(&mut store, &[], pinned(0)).unwrap_err().kind(), Kind::Invalid);
    assert_eq!(store.compact(0, &Progress::new()).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn entries_out_of_order_are_refused() {
    for (first, second) in [(("b", 1), ("a", 1)), (("a", 1), ("a", 2)), (("a", 1), ("a", 1))] {
        let dir = tempfile::tempdir().unwrap();
        let mut loader = Loader::create(dir.path(), LoadOptions::default()).unwrap();
        loader.put(entry(first.0, first.1, "").as_entry()).unwrap();
        let error = loader.put(entry(second.0, second.1, "").as_entry()).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut loader = Loader::create(dir.path(), LoadOptions::default()).unwrap();
    loader.put(Entry { key: b"b", version: 3, ..Entry::default() }).unwrap();
    let error = loader.put(Entry { key: b"a", version: 9, ..Entry::default() }).unwrap_err();
    assert_eq!(error.to_string(), "expected an entry behind b at version 3, found a at version 9");
}

#[test]
fn a_load_takes_only_an_empty_directory_and_stops_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("mine")).unwrap();
    let error = Loader::create(dir.path(), LoadOptions::default()).err().unwrap();
    assert_eq!(error.kind(), Kind::Exists);

    let dir = tempfile::tempdir().unwrap();
    let progress = Progress::new();
    let options = LoadOptions { progress: progress.clone(), ..LoadOptions::default() };
    let mut loader = Loader::create(dir.path(), options).unwrap();
    loader.put(entry("a", 1, "v").as_entry()).unwrap();
    progress.cancel();
    assert_eq!(loader.put(entry("b", 1, "v").as_entry()).unwrap_err().kind(), Kind::Cancelled);
    assert!(!Store::is_store(dir.path()));
}

/// Few keys and few versions, so that they meet; some keys that begin with others.
fn entries() -> impl Strategy<Value = Vec<OwnedEntry>> {
    let key = proptest::collection::vec(prop_oneof![Just(0_u8), Just(0xFF), Just(b'a')], 0..4);
    let one = (key, 1_u64..60, 0_u8..3, proptest::collection::vec(any::<u8>(), 0..20));
    proptest::collection::vec(one, 0..120).prop_map(|entries| {
        let mut model = BTreeMap::new();
        for (key, version, kind, value) in entries {
            let entry = if kind == 0 { tombstone(&key, version) } else { entry(&key, version, &value) };
            model.insert((key, !version), entry);
        }
        model.into_values().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_way_to_read_agrees_with_a_filter(entries in entries(), pin in 0_u64..70, cuts in proptest::collection::vec(0_u64..70, 3)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        // A part is loaded, the others come as increments, whatever their versions.
        let part = |number: u64| entries.iter().filter(|e| (e.version + e.key.len() as u64) % 3 == number).cloned().collect::<Vec<_>>();
        load(&path, &part(0), pinned(0)).unwrap();
        let mut store = Store::open_for_writing(&path).unwrap();
        apply(&mut store, &part(1), pinned(0)).unwrap();
        apply(&mut store, &part(2), pinned(pin)).unwrap();

        let seen = |e: &&OwnedEntry| e.version <= pin;
        let snapshot = store.snapshot().unwrap();
        for cut in cuts.into_iter().chain([0, pin]) {
            let expected: Vec<_> = entries.iter().filter(seen).filter(|e| e.version > cut).cloned().collect();
            prop_assert_eq!(since(&*snapshot, cut).unwrap(), expected);
            snapshot.estimate(cut).unwrap();
        }
        for prefix in [&b""[..], b"a", b"\0", b"\xFF", b"\0\0", b"a\xFF"] {
            let expected: Vec<_> = entries.iter().filter(seen).filter(|e| e.key.starts_with(prefix)).cloned().collect();
            prop_assert_eq!(drain(snapshot.prefix(prefix, b"").unwrap()).unwrap(), expected);
            let newest = entries.iter().filter(seen).find(|e| e.key == prefix).cloned();
            prop_assert_eq!(snapshot.get(prefix).unwrap(), newest);
        }
    }
}
