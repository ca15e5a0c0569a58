use super::*;
use crate::badger::blob::Blob;
use crate::badger::merge::{Span, Which};
use crate::badger::table::{Compression, Table};
use crate::entry::{META_DISCARD_EARLIER, OwnedEntry, Source};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const NOW: u64 = 1_700_000_000;

fn entry(key: &[u8], version: u64, value: &[u8]) -> OwnedEntry {
    OwnedEntry { key: key.to_vec(), version, value: value.to_vec(), ..OwnedEntry::default() }
}

fn delete(key: &[u8], version: u64) -> OwnedEntry {
    OwnedEntry { meta: META_DELETE, ..entry(key, version, b"") }
}

fn sorted(mut entries: Vec<OwnedEntry>) -> Vec<OwnedEntry> {
    entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    entries
}

fn compact() -> WriterOptions {
    WriterOptions { now: NOW, ..WriterOptions::default() }
}

fn history() -> WriterOptions {
    WriterOptions { history: true, ..compact() }
}

fn write_with(
    entries: &[OwnedEntry],
    options: WriterOptions,
    limits: Limits,
    last: u64,
) -> Result<(TempDir, Built)> {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::with_limits(folder.path(), options, limits)?;
    entries.iter().try_for_each(|entry| writer.put(entry.as_entry()))?;
    let built = writer.finish_with(last)?;
    Ok((folder, built))
}

fn write(entries: &[OwnedEntry], options: WriterOptions) -> (TempDir, Built) {
    write_with(entries, options, Limits::default(), 0).unwrap()
}

fn refused(entries: &[OwnedEntry]) -> Error {
    write_with(entries, history(), Limits::default(), 0).map(drop).unwrap_err()
}

/// Every physical entry, by the code that reads other directories.
fn read(folder: &TempDir, built: &Built) -> Vec<OwnedEntry> {
    let look = look(folder.path()).unwrap();
    assert_eq!((look.entries, look.last_version), (built.entries, built.last_version));
    assert_eq!(look.store_id, Some(built.store_id));
    let mut source = look.view().source(&Span::all(), 0, u64::MAX, Which::All).unwrap();
    let mut entries = Vec::new();
    while source.advance().unwrap() {
        entries.push(source.entry().to_owned());
    }
    for entry in &entries {
        let got = look.view().get(&entry.key, entry.version).unwrap();
        assert_eq!(got.as_ref(), Some(entry), "a point read finds what a walk sees");
    }
    entries
}

fn names(folder: &TempDir) -> Vec<String> {
    let names = std::fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn of_each_key_the_newest_live_version_stays() {
    let expired = OwnedEntry { expires_at: NOW, ..entry(b"expired", 9, b"x") };
    let later = OwnedEntry { expires_at: NOW + 1, user_meta: 7, ..entry(b"later", 3, b"x") };
    let entries = sorted(vec![
        delete(b"deleted", 8),
        entry(b"deleted", 2, b"x"),
        expired,
        entry(b"expired", 1, b"x"),
        entry(b"kept", 5, b"new"),
        delete(b"kept", 4),
        entry(b"kept", 3, b"old"),
        later.clone(),
    ]);
    let (folder, built) = write(&entries, compact());
    assert_eq!(read(&folder, &built), [entry(b"kept", 5, b"new"), later]);
    // Nothing is written at 9, and what comes next is above it all the same.
    assert_eq!((built.last_version, built.tables, built.value_logs), (9, 1, 0));
    let (folder, built) = write(&entries, history());
    assert_eq!((read(&folder, &built), built.entries), (entries, 8));
}

#[test]
fn what_lies_above_the_version_asked_for_is_as_if_it_had_not_been() {
    let entries = sorted(vec![
        entry(b"a", 9, b"above"),
        entry(b"a", 5, b"at"),
        delete(b"b", 9),
        entry(b"b", 4, b"deleted later"),
        entry(b"c", 7, b"above"),
    ]);
    let expected = [entry(b"a", 5, b"at"), entry(b"b", 4, b"deleted later")];
    for options in [compact(), history()] {
        let (folder, built) = write(&entries, WriterOptions { at: 5, ..options });
        assert_eq!((&read(&folder, &built)[..], built.last_version), (&expected[..], 9));
    }
}

#[test]
fn what_a_merge_operator_has_not_merged_yet_stays() {
    let operand = |version, meta| OwnedEntry { meta: META_MERGE | meta, ..entry(b"m", version, b"+1") };
    let entries = vec![
        operand(9, 0),
        operand(8, 0),
        operand(7, META_DISCARD_EARLIER),
        operand(6, 0),
        // Merged: what is older is history.
        OwnedEntry { meta: META_MERGE | META_DISCARD_EARLIER, ..entry(b"n", 5, b"sum") },
        OwnedEntry { meta: META_MERGE, ..entry(b"n", 4, b"+1") },
    ];
    let (folder, built) = write(&entries, compact());
    let expected: Vec<_> = [0, 1, 2, 4].map(|at| entries[at].clone()).to_vec();
    assert_eq!(read(&folder, &built), expected);
}

#[test]
fn with_no_live_key_a_tombstone_carries_the_version() {
    let (folder, built) = write(&[delete(b"gone", 7), entry(b"gone", 3, b"x")], compact());
    assert_eq!((read(&folder, &built), built.entries), (vec![delete(b"gone", 7)], 1));
    let (folder, built) = write_with(&[], compact(), Limits::default(), 12).unwrap();
    assert_eq!((read(&folder, &built), built.last_version), (vec![delete(NO_KEY, 12)], 12));
}

#[test]
fn an_empty_directory_is_the_one_that_badger_makes() {
    let (folder, built) = write(&[], compact());
    assert_eq!((read(&folder, &built).len(), built.last_version, built.tables), (0, 0, 0));
    assert_eq!(names(&folder), ["KEYREGISTRY", "MANIFEST"]);
    let manifest = std::fs::read(folder.path().join("MANIFEST")).unwrap();
    assert_eq!(manifest, b"Bdgr\0\0\0\x08\0\0\0\0\0\0\0\0");
}

#[test]
fn files_have_the_names_and_modes_of_badgers() {
    let big = vec![1; VALUE_THRESHOLD];
    let (folder, _) = write(&[entry(b"a", 1, b"small"), entry(b"b", 2, &big)], compact());
    assert_eq!(names(&folder), ["000001.sst", "000001.vlog", "KEYREGISTRY", "MANIFEST"]);
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("KEYREGISTRY"), mode("MANIFEST")), (0o600, 0o600));
    for name in ["000001.sst", "000001.vlog"] {
        // As the umask lets it, which is the process's.
        assert_eq!((mode(name) & 0o600, mode(name) & 0o133), (0o600, 0));
    }
    let (_, first) = write(&[], compact());
    assert_ne!(write(&[], compact()).1.store_id, first.store_id);
}

#[test]
fn a_mebibyte_goes_to_the_value_log_and_a_byte_less_does_not() {
    let values = [VALUE_THRESHOLD - 1, VALUE_THRESHOLD, 100 << 20].map(|len| vec![7; len]);
    let entries: Vec<_> = (0..).zip(&values).map(|(at, value)| entry(&[b'a' + at], 1, value)).collect();
    let (folder, built) = write(&entries, compact());
    assert_eq!(built.value_logs, 1);
    // Badger's record of 1 MiB at `/0/v` takes 1,048,599 bytes; these keys are three bytes shorter, and longer lengths take one more.
    let records = (1_048_599 - 3) + ((100 << 20) + (1_048_599 - 3 - (1 << 20)) + 1);
    assert_eq!(std::fs::metadata(folder.path().join("000001.vlog")).unwrap().len(), 20 + records);
    let table = std::fs::metadata(folder.path().join("000001.sst")).unwrap().len();
    assert!(table < 1 << 20, "{table}");
    let found: Vec<_> = read(&folder, &built).into_iter().map(|entry| entry.value.len()).collect();
    assert_eq!(found, values.map(|value| value.len()));
}

#[test]
fn the_longest_key_is_taken_and_what_badger_cannot_hold_is_not() {
    let longest = entry(&vec![b'k'; MAX_KEY], 3, b"");
    let (folder, built) = write(std::slice::from_ref(&longest), compact());
    assert_eq!(read(&folder, &built), [longest]);
    for (unfit, text) in [
        (entry(&vec![b'k'; MAX_KEY + 1], 1, b""), "65001 bytes"),
        (entry(b"", 1, b""), "an empty one"),
        (entry(b"!badger!banned", 1, b""), "!badger!banned"),
        (entry(b"k", u64::MAX, b""), "a version below"),
        (OwnedEntry { value: vec![0; 1 << 30], ..entry(b"large", 1, b"") }, "1073741824"),
    ] {
        let error = refused(&[unfit]);
        assert_eq!(error.code(), "unsupported", "{error}");
        assert!(error.to_string().contains(text) && error.to_string().contains("Badger"), "{error}");
    }
}

#[test]
fn what_comes_out_of_order_or_twice_is_damage() {
    let one = entry(b"b", 2, b"");
    for other in [entry(b"b", 2, b""), entry(b"b", 3, b""), entry(b"a", 1, b"")] {
        assert_eq!(refused(&[one.clone(), other]).code(), "damaged");
    }
}

#[test]
fn all_versions_of_a_key_are_in_one_table_and_tables_follow_each_other() {
    let mut entries = Vec::new();
    for key in [b"a", b"b", b"c", b"d"] {
        entries.extend((1..=1000).rev().map(|version| entry(key, version, &version.to_le_bytes().repeat(9))));
    }
    let limits = Limits { table_bytes: 8 << 10, ..Limits::default() };
    let (folder, built) = write_with(&entries, history(), limits, 0).unwrap();
    assert_eq!((read(&folder, &built), built.tables), (entries, 4));
}

#[test]
fn a_value_log_is_ended_by_its_length_and_by_its_entries() {
    let entries: Vec<_> = (0..10).map(|at| entry(&[at], 1, &[at; 600])).collect();
    let options = || WriterOptions { value_threshold: 500, ..compact() };
    let by_length = Limits { log_bytes: 2000, ..Limits::default() };
    let by_entries = Limits { log_entries: 2, ..Limits::default() };
    let smaller_than_one = Limits { log_bytes: 100, ..Limits::default() };
    for (limits, logs) in [(by_length, 4), (by_entries, 5), (smaller_than_one, 10)] {
        let (folder, built) = write_with(&entries, options(), limits, 0).unwrap();
        assert_eq!((read(&folder, &built), built.value_logs), (entries.clone(), logs));
    }
}

#[test]
fn given_up_it_leaves_no_directory_and_no_thread() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(folder.path(), compact()).unwrap();
    for at in 0..10_000_u32 {
        writer.put(entry(&at.to_be_bytes(), 1, &[0; 1000]).as_entry()).unwrap();
    }
    drop(writer);
    assert!(!folder.path().join("MANIFEST").exists());
    // Nobody makes anything there any more.
    std::fs::remove_file(folder.path().join("000001.sst")).unwrap();
    assert_eq!(Writer::create(folder.path(), compact()).map(drop).err().map(|error| error.code()), None);

    let progress = Progress::new();
    let options = WriterOptions { progress: progress.clone(), ..compact() };
    let mut writer = Writer::create(folder.path(), options).unwrap();
    writer.put(entry(b"a", 1, b"").as_entry()).unwrap();
    progress.cancel();
    assert_eq!(writer.put(entry(b"b", 1, b"").as_entry()).unwrap_err().code(), "cancelled");
    assert_eq!(writer.finish_with(0).unwrap_err().code(), "cancelled");
    assert!(!folder.path().join("MANIFEST").exists());
    assert_eq!(Writer::create(folder.path(), compact()).map(drop).unwrap_err().code(), "exists");
}

#[test]
fn statistics_are_those_that_badger_keeps() {
    let entries = [entry(b"a", 1, &[7; 100]), entry(b"b", 2, &[8; 600])];
    let options = WriterOptions { value_threshold: 500, ..compact() };
    let (folder, _) = write(&entries, options);
    let blob = Blob::open(&folder.path().join("000001.sst")).unwrap();
    let bytes = blob.len();
    let table = Table::open(blob, Compression::Snappy).unwrap();
    let record = std::fs::metadata(folder.path().join("000001.vlog")).unwrap().len() - 20;
    let facts = table.facts();
    assert_eq!((facts.key_count, facts.stale_data_size, facts.max_version), (2, 0, 2));
    // The footer is no part of it; what a pointer points to is.
    assert!(u64::from(facts.on_disk_size) > record && u64::from(facts.on_disk_size) < bytes + record);
}

/// Some keys that share beginnings, some versions each, every bit that an entry keeps.
fn entries() -> impl Strategy<Value = Vec<OwnedEntry>> {
    let key = prop_oneof!["[ab/]{1,6}", "/0/h/[0-9]{1,3}"].prop_map(String::into_bytes);
    let key = prop_oneof![key, proptest::collection::vec(any::<u8>(), 1..20)];
    let value = (any::<u8>(), prop_oneof![Just(0_usize), 0..200_usize, 900..1100_usize, 0..20_000_usize]);
    let meta = (0..16_u8).prop_map(|bits| bits | ((bits & 2) << 5));
    let expiry = prop_oneof![3 => Just(0), 1 => Just(NOW), 1 => Just(NOW + 1), 1 => any::<u64>()];
    let version = prop_oneof![1..9_u64, 0..u64::MAX];
    let fields = (key, version, value, meta, any::<u8>(), expiry);
    proptest::collection::vec(fields, 0..120).prop_map(|all| {
        let mut once = BTreeMap::new();
        for (key, version, (byte, len), meta, user_meta, expires_at) in all {
            let len = if meta & META_DELETE == 0 { len } else { 0 };
            let entry = OwnedEntry { key, version, value: vec![byte; len], meta, user_meta, expires_at };
            if !entry.key.starts_with(INTERNAL_PREFIX) {
                once.insert((entry.key.clone(), u64::MAX - version), entry);
            }
        }
        once.into_values().collect()
    })
}

fn kept(entry: &OwnedEntry) -> OwnedEntry {
    OwnedEntry { meta: entry.meta & META_KEPT, ..entry.clone() }
}

/// What compact means, said another way.
fn newest_live(entries: &[OwnedEntry], at: u64) -> Vec<OwnedEntry> {
    let mut by_key: BTreeMap<&[u8], Vec<&OwnedEntry>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.version <= at) {
        by_key.entry(&entry.key).or_default().push(entry);
    }
    let mut live = Vec::new();
    for versions in by_key.into_values() {
        let dead = |entry: &&OwnedEntry| entry.as_entry().is_delete() || entry.as_entry().is_expired(NOW);
        let alive = versions.iter().position(dead).unwrap_or(versions.len());
        let merges = versions.first().is_some_and(|newest| newest.meta & META_MERGE != 0);
        let whole = versions.iter().position(|entry| entry.meta & META_DISCARD_EARLIER != 0);
        let most = if merges { whole.map_or(usize::MAX, |at| at + 1) } else { 1 };
        live.extend(versions[..alive].iter().take(most).map(|entry| kept(entry)));
    }
    live
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_what_was_put(
        entries in entries(), threshold in prop_oneof![Just(0_usize), 1..2000_usize, Just(VALUE_THRESHOLD)],
        table_bytes in 0..20_000_u64, at in prop_oneof![Just(u64::MAX), 1..9_u64], last in 0..20_u64,
    ) {
        let limits = Limits { table_bytes, log_bytes: 5000, log_entries: 7 };
        let highest = entries.iter().map(|entry| entry.version).max().unwrap_or(0).max(last);
        for history in [true, false] {
            let options = WriterOptions { history, at, value_threshold: threshold, ..compact() };
            let (folder, built) = write_with(&entries, options, limits, last).unwrap();
            let found = read(&folder, &built);
            prop_assert_eq!(built.last_version, highest);
            let expected: Vec<_> = if history {
                entries.iter().filter(|entry| entry.version <= at).map(kept).collect()
            } else {
                newest_live(&entries, at)
            };
            if expected.is_empty() && highest > 0 {
                prop_assert_eq!(found.len(), 1);
                prop_assert_eq!((found[0].meta, found[0].version), (META_DELETE, highest));
            } else {
                prop_assert_eq!(found, expected);
            }
        }
    }
}
