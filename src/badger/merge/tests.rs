//! Views of many tables against a model, and by hand.

use super::super::blob::Blob;
use super::super::key;
use super::super::log::{Record, put_header, put_record};
use super::super::meta::{Pointer, Value};
use super::super::table::{Builder, BuilderOptions, Compression, Table};
use super::super::vlog::Vlogs;
use super::{Rank, Span, View, Which};
use crate::base::scratch::Scratch;
use crate::entry::{
    META_DELETE, META_DISCARD_EARLIER, META_KEPT, META_MERGE, META_VALUE_POINTER, OwnedEntry, Source,
};
use crate::error::{Error, Result};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

const NOW: u64 = 1000;

/// Where the value of a copy is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Inline,
    Log,
    /// In a value log that is not there.
    Gone,
}

/// An entry of one table.
#[derive(Clone, Debug)]
struct Copy {
    key: Vec<u8>,
    version: u64,
    meta: u8,
    expires_at: u64,
    value: Vec<u8>,
    at: At,
}

fn copy(key: &[u8], version: u64, value: &[u8]) -> Copy {
    Copy { key: key.to_vec(), version, meta: 0x40, expires_at: 0, value: value.to_vec(), at: At::Inline }
}

fn blob(bytes: &[u8], name: &str) -> Blob {
    let mut file = Scratch::system().file().unwrap();
    file.write_all(bytes).unwrap();
    Blob::of(file, Path::new(name)).unwrap()
}

fn internal(user_key: &[u8], version: u64) -> Vec<u8> {
    let mut internal = Vec::new();
    key::put(&mut internal, user_key, version);
    internal
}

/// A view of these tables, whose values stand in value log 1.
fn view(tables: Vec<(Rank, Vec<Copy>)>) -> View {
    let mut log = Vec::new();
    put_header(&mut log, [0; 12]);
    let tables = tables.into_iter().map(|(rank, mut copies)| {
        copies.sort_by(|one, other| {
            key::compare(&internal(&one.key, one.version), &internal(&other.key, other.version))
        });
        let mut bytes = Vec::new();
        let options = BuilderOptions { compression: Compression::Snappy, block_size: 100, bloom: true };
        let mut builder = Builder::new(&mut bytes, options).unwrap();
        for copy in copies {
            let key = internal(&copy.key, copy.version);
            let mut value =
                Value { meta: copy.meta, user_meta: 5, expires_at: copy.expires_at, bytes: &copy.value };
            let mut pointer = Pointer { fid: 9, len: 100, offset: 20 };
            if copy.at == At::Log {
                pointer = Pointer { fid: 1, offset: u32::try_from(log.len()).unwrap(), len: 0 };
                let record = Record { key: &key, value: &copy.value, ..Record::default() };
                pointer.len = u32::try_from(put_record(&mut log, &record)).unwrap();
            }
            let pointer = pointer.bytes();
            if copy.at != At::Inline {
                (value.meta, value.bytes) = (copy.meta | META_VALUE_POINTER, &pointer);
            }
            builder.add(&key, &value, 0).unwrap();
        }
        builder.finish(None).unwrap();
        (rank, Table::open(blob(&bytes, "000001.sst"), Compression::Snappy).unwrap())
    });
    let tables = tables.collect();
    View::new(tables, Vlogs::new("/db", BTreeMap::from([(1, blob(&log, "/db/000001.vlog"))])), NOW)
}

fn drain(source: &mut dyn Source) -> (Vec<OwnedEntry>, Option<Error>) {
    let mut entries = Vec::new();
    loop {
        match source.advance() {
            Ok(true) => entries.push(source.entry().to_owned()),
            Ok(false) => return (entries, None),
            Err(error) => return (entries, Some(error)),
        }
    }
}

fn all(view: &View, which: Which) -> Vec<OwnedEntry> {
    let (entries, error) = drain(&mut view.source(&Span::all(), 0, u64::MAX, which).unwrap());
    assert!(error.is_none(), "{error:?}");
    entries
}

fn keys(entries: &[OwnedEntry]) -> Vec<(&[u8], u64)> {
    entries.iter().map(|entry| (&*entry.key, entry.version)).collect()
}

/// What a view must give, from the text of the format: entries, how many were dropped, whether an error ends it.
fn model(
    tables: &[(Rank, Vec<Copy>)],
    span: impl Fn(&[u8]) -> bool,
    since: u64,
    until: u64,
    which: Which,
) -> (Vec<OwnedEntry>, u64, bool) {
    let mut ranked: Vec<_> = tables.iter().collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    // Keys ascending, versions descending, copies from the newest place on.
    let mut held: BTreeMap<(Vec<u8>, u64), Vec<&Copy>> = BTreeMap::new();
    for copy in ranked.iter().flat_map(|(_, copies)| copies) {
        held.entry((copy.key.clone(), u64::MAX - copy.version)).or_default().push(copy);
    }
    let (mut entries, mut dropped) = (Vec::new(), 0);
    let (mut key, mut seen, mut stopped) = (None, false, false);
    for ((user_key, inverted), copies) in &held {
        let version = u64::MAX - inverted;
        if key.as_ref() != Some(user_key) {
            (key, seen, stopped) = (Some(user_key.clone()), false, false);
        }
        let outside = user_key.starts_with(b"!badger!") || !span(user_key);
        if outside || version > until || (since > 0 && version <= since) || stopped {
            continue;
        }
        let first = copies[0];
        let superseded = std::mem::replace(&mut seen, true);
        let (deleted, expired) =
            (first.meta & META_DELETE != 0, first.expires_at != 0 && first.expires_at <= NOW);
        stopped = which == Which::Backup && (deleted || expired || first.meta & META_DISCARD_EARLIER != 0);
        let value = match copies.iter().find(|copy| copy.at != At::Gone) {
            _ if deleted => Vec::new(),
            Some(copy) => copy.value.clone(),
            None if expired => Vec::new(),
            None if superseded => {
                dropped += 1;
                continue;
            }
            None => return (entries, dropped, true),
        };
        entries.push(OwnedEntry {
            key: user_key.clone(),
            version,
            value,
            meta: first.meta & META_KEPT,
            user_meta: 5,
            expires_at: first.expires_at,
        });
    }
    (entries, dropped, false)
}

fn a_copy() -> impl Strategy<Value = Copy> {
    let key = prop_oneof![
        6 => (0u8..6).prop_map(|at| vec![b'a' + at]),
        1 => Just(b"!badger!x".to_vec()),
        1 => Just(vec![0xff, 0xff]),
        1 => Just(Vec::new()),
    ];
    let meta = prop_oneof![6 => Just(0x40u8), 2 => Just(META_DELETE), 1 => Just(META_DISCARD_EARLIER), 1 => Just(META_MERGE)];
    let expires_at = prop_oneof![6 => Just(0u64), 1 => Just(NOW), 1 => Just(NOW + 1)];
    let at = prop_oneof![3 => Just(At::Inline), 2 => Just(At::Log), 1 => Just(At::Gone)];
    (key, 1u64..9, meta, expires_at, 0usize..60, at).prop_map(
        |(key, version, meta, expires_at, value, at)| Copy {
            value: format!("{}@{version}{}", key.escape_ascii(), "x".repeat(value)).into_bytes(),
            key,
            version,
            meta,
            expires_at,
            at,
        },
    )
}

fn some_tables() -> impl Strategy<Value = Vec<(Rank, Vec<Copy>)>> {
    let ranks = [
        Rank::memory(2, 0),
        Rank::memory(1, 0),
        Rank::table(0, 7),
        Rank::table(0, 3),
        Rank::table(1, 4),
        Rank::table(2, 9),
        Rank::table(6, 1),
    ];
    prop::collection::vec(prop::collection::vec(a_copy(), 0..12), ranks.len()).prop_map(move |dealt| {
        let mut tables = Vec::new();
        for (rank, mut copies) in ranks.into_iter().zip(dealt) {
            copies.sort_by(|one, other| (&one.key, one.version).cmp(&(&other.key, other.version)));
            copies.dedup_by(|one, other| (&one.key, one.version) == (&other.key, other.version));
            // Levels below the first hold several tables that do not overlap.
            while matches!(rank, Rank::Level(_)) && copies.len() > 3 {
                let cut = copies.len() - 3;
                let at = copies[cut].key.clone();
                let rest = copies.split_off(copies.partition_point(|copy| copy.key < at));
                tables.push((rank, rest));
            }
            if !copies.is_empty() {
                tables.push((rank, copies));
            }
        }
        tables
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_view_is_what_the_model_says(
        tables in some_tables(), since in 0u64..8, until in prop_oneof![Just(u64::MAX), 0u64..9], backup: bool,
        from in prop_oneof![Just(Vec::new()), (0u8..6).prop_map(|at| vec![b'a' + at]), (0u8..6).prop_map(|at| vec![b'a' + at, 0])],
        to in prop_oneof![Just(None), (0u8..6).prop_map(|at| Some(vec![b'a' + at]))],
    ) {
        let which = if backup { Which::Backup } else { Which::All };
        let view = view(tables.clone());
        let inside = |key: &[u8]| key >= &*from && to.as_deref().is_none_or(|to| key < to);
        let (expected, dropped, fails) = model(&tables, inside, since, until, which);
        let mut source = view.source(&Span::new(&from, to.as_deref()), since, until, which)?;
        let (found, error) = drain(&mut source);
        prop_assert!(error.is_some() || source.entry() == crate::entry::Entry::default());
        prop_assert_eq!((found, view.dropped(), error.is_some()), (expected, dropped, fails));
        if let Some(error) = error {
            prop_assert_eq!(error.code(), "damaged");
            prop_assert_eq!((error.path(), error.offset()), (Some(Path::new("/db/000009.vlog")), Some(20)));
        }
        let highest = tables.iter().flat_map(|(_, copies)| copies).map(|copy| copy.version).max();
        prop_assert_eq!(view.max_version(), highest.unwrap_or(0));
        let (mut of_keys, mut newest) = (view.source(&Span::new(&from, to.as_deref()), since, until, Which::Keys)?, BTreeMap::new());
        for copy in tables.iter().flat_map(|(_, copies)| copies) {
            let counts = inside(&copy.key) && !copy.key.starts_with(b"!badger!") && copy.version <= until;
            if counts && (since == 0 || copy.version > since) {
                let version = newest.entry(&*copy.key).or_insert(0);
                *version = copy.version.max(*version);
            }
        }
        let (found, error) = drain(&mut of_keys);
        prop_assert!(error.is_none() && found.iter().all(|entry| entry.value.is_empty()));
        prop_assert_eq!(keys(&found), newest.into_iter().collect::<Vec<_>>());
        for at in 0..6 {
            let key = [b'a' + at];
            let (expected, _, fails) = model(&tables, |it| it == key, 0, until, Which::Backup);
            match view.get(&key, until) {
                Ok(found) => prop_assert_eq!(found, expected.into_iter().next()),
                Err(error) => prop_assert!(fails && expected.is_empty() && error.code() == "damaged"),
            }
        }
    }
}

#[test]
fn the_newest_version_wins_whatever_its_level() {
    // As Badger up to v4.9.3 leaves it: what is newer lies deeper.
    let tables = vec![
        (Rank::table(5, 1), vec![copy(b"k", 3, b"old")]),
        (Rank::table(6, 2), vec![copy(b"k", 8, b"new"), copy(b"l", 9, b"other")]),
    ];
    let view = view(tables);
    assert_eq!(view.get(b"k", u64::MAX).unwrap().unwrap().value, b"new");
    assert_eq!(view.get(b"k", 7).unwrap().unwrap().value, b"old");
    assert_eq!(keys(&all(&view, Which::Backup)), [(&b"k"[..], 8), (b"k", 3), (b"l", 9)]);
}

#[test]
fn of_one_key_and_version_the_newest_place_stands_and_the_others_are_asked_for_the_value() {
    let gone = Copy { at: At::Gone, ..copy(b"k", 5, b"-") };
    let log = Copy { at: At::Log, ..copy(b"k", 5, b"value") };
    for tables in [
        vec![(Rank::table(0, 9), vec![gone.clone()]), (Rank::table(0, 2), vec![log.clone()])],
        vec![
            (Rank::memory(1, 0), vec![gone.clone()]),
            (Rank::table(0, 9), vec![gone.clone()]),
            (Rank::table(3, 1), vec![log]),
        ],
        vec![(Rank::table(1, 1), vec![gone.clone()]), (Rank::table(3, 1), vec![copy(b"k", 5, b"value")])],
    ] {
        let view = view(tables);
        let entries = all(&view, Which::All);
        assert_eq!((keys(&entries), &*entries[0].value), (vec![(&b"k"[..], 5)], &b"value"[..]));
        assert_eq!((view.get(b"k", 5).unwrap().unwrap().value, view.dropped()), (b"value".to_vec(), 0));
    }
    let view = view(vec![(Rank::table(0, 9), vec![gone])]);
    let (none, error) = drain(&mut view.source(&Span::all(), 0, u64::MAX, Which::Backup).unwrap());
    assert!(none.is_empty());
    assert_eq!(
        error.unwrap().to_string(),
        "/db/000009.vlog: expected the value of key k at version 5, found no such value log at byte 20"
    );
    assert_eq!(view.get(b"k", 5).unwrap_err().code(), "damaged");
}

#[test]
fn newer_places_come_first() {
    let ranks = [
        Rank::memory(10, 0),
        Rank::memory(9, 1),
        Rank::memory(9, 0),
        Rank::table(0, 10),
        Rank::table(0, 9),
        Rank::table(1, 99),
        Rank::table(6, 1),
    ];
    assert!(ranks.is_sorted());
    let view = view(
        ranks
            .iter()
            .enumerate()
            .rev()
            .map(|(at, rank)| (*rank, vec![copy(b"k", 1, &[u8::try_from(at).unwrap()])]))
            .collect(),
    );
    assert_eq!(all(&view, Which::All)[0].value, [0]);
    assert_eq!(view.get(b"k", 1).unwrap().unwrap().value, [0]);
}

#[test]
fn tables_of_a_level_that_overlap_are_merged_all_the_same() {
    let level = Rank::table(4, 1);
    let view = view(vec![
        (level, vec![copy(b"a", 1, b""), copy(b"m", 1, b"")]),
        (level, vec![copy(b"c", 1, b""), copy(b"z", 1, b"")]),
        (level, vec![copy(b"n", 1, b""), copy(b"o", 1, b"")]),
    ]);
    let expected: Vec<_> = [&b"a"[..], b"c", b"m", b"n", b"o", b"z"].map(|key| (key, 1)).into();
    assert_eq!(keys(&all(&view, Which::All)), expected);
    for (key, _) in expected {
        assert!(view.get(key, 1).unwrap().is_some());
    }
}

#[test]
fn a_pointer_of_a_wrong_length_is_damage_with_its_table_and_key() {
    let mut wrong = copy(b"k", 5, b"eleven byte");
    wrong.meta |= META_VALUE_POINTER;
    let view = view(vec![(Rank::table(0, 1), vec![wrong])]);
    let (_, error) = drain(&mut view.source(&Span::all(), 0, u64::MAX, Which::All).unwrap());
    let text = error.unwrap().to_string();
    assert!(
        text.starts_with("000001.sst: expected a value pointer of 12 bytes, found 11")
            && text.contains("key k at version 5"),
        "{text}"
    );
    assert!(view.get(b"k", 5).unwrap_err().to_string().contains("key k at version 5"));
}

#[test]
fn a_prefix_is_a_range() {
    let span = |prefix: &[u8], from: &[u8]| (Span::prefix(prefix, from).from, Span::prefix(prefix, from).to);
    assert_eq!(span(b"/0/", b""), (b"/0/".to_vec(), Some(b"/00".to_vec())));
    assert_eq!(span(b"/0/", b"/0/h/7"), (b"/0/h/7".to_vec(), Some(b"/00".to_vec())));
    assert_eq!(span(b"a\xff\xff", b"b"), (b"b".to_vec(), Some(b"b".to_vec())));
    assert_eq!(span(b"\xff", b""), (b"\xff".to_vec(), None));
    assert_eq!(span(b"", b""), (Vec::new(), None));
}

#[test]
fn many_tables_of_a_level_are_open_one_at_a_time() -> Result<()> {
    let tables = (0..300).map(|at| {
        let keys =
            (0..20).map(|key| copy(format!("{at:03}/{key:02}").as_bytes(), 1 + key, &[7; 50])).collect();
        (Rank::table(6, at), keys)
    });
    let view = view(tables.collect());
    let mut source = view.source(&Span::all(), 0, u64::MAX, Which::All)?;
    let mut entries = 0;
    while source.advance()? {
        entries += 1;
        assert_eq!(source.open(), 1);
    }
    assert_eq!(entries, 6000);
    Ok(())
}
