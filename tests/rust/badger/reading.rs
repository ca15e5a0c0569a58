use super::{HARMLESS, NOW, directories, known};
use crate::proof::{drain, unlocked};
use evbackup::badger::{Directory, ReadOptions};
use evbackup::base::checksum::sha256_hex;
use evbackup::entry::{Datastore, META_DELETE, META_KEPT, OwnedEntry};
use evbackup::error::Result;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// A directory that no node has open.
pub(super) fn open(directory: &Path) -> Result<Directory> {
    unlocked(|| Directory::open(directory, ReadOptions { offline: true, ..ReadOptions::default() }))
}

/// Everything it holds.
pub(super) fn everything(directory: &Path) -> Result<Vec<OwnedEntry>> {
    let directory = open(directory)?;
    let snapshot = directory.snapshot()?;
    let mut source = snapshot.everything()?;
    drain(&mut *source)
}

/// An entry as the papers have it: key, version, meta bits that count, user meta, expiry, length and digest of the value.
type Line = (Vec<u8>, u64, u8, u8, u64, u64, String);

fn line(value: &Value) -> Line {
    let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"));
    let byte = |name: &str| u8::try_from(number(name)).unwrap();
    let key = data_encoding::HEXLOWER.decode(value["key"].as_str().unwrap().as_bytes()).unwrap();
    let sha256 = value["value_sha256"].as_str().unwrap().to_owned();
    (
        key,
        number("version"),
        byte("meta") & META_KEPT,
        byte("user_meta"),
        number("expires_at"),
        number("value_len"),
        sha256,
    )
}

fn line_of(entry: &OwnedEntry) -> Line {
    let OwnedEntry { key, version, value, meta, user_meta, expires_at } = entry.clone();
    (key, version, meta, user_meta, expires_at, value.len() as u64, sha256_hex(&value))
}

/// The lines of a file of a paper.
fn lines(directory: &Path, name: &Value) -> Vec<Value> {
    let text = std::fs::read_to_string(directory.parent().unwrap().join(name.as_str().unwrap())).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Directories that Badger and we read, with what Badger says.
fn readable() -> impl Iterator<Item = (std::path::PathBuf, Value)> {
    directories().into_iter().filter(|(_, paper)| {
        let case = paper["case"].as_str().unwrap();
        paper["refused"].is_null() && (known(case).is_empty() || HARMLESS.contains(&case))
    })
}

#[test]
fn what_real_badger_wrote_is_read_to_the_entry() {
    for (directory, paper) in readable() {
        let case = paper["case"].as_str().unwrap();
        let written = lines(&directory, &paper["badger"]["entries_file"]);
        let internal = |line: &Line| line.0.starts_with(b"!badger!");
        let expected = written.iter().filter(|line| line["dangling"] != true).map(line);
        let expected: Vec<_> = expected.filter(|line| !internal(line)).collect();
        let found = everything(&directory).unwrap_or_else(|error| panic!("{case}: {error}"));
        let found: Vec<_> = found.iter().map(line_of).collect();
        for (one, other) in found.iter().zip(&expected) {
            assert_eq!(one, other, "{case}");
        }
        assert_eq!(found.len(), expected.len(), "{case}");
    }
}

#[test]
fn a_snapshot_is_what_badgers_own_backup_sends() {
    for (directory, paper) in readable() {
        let case = paper["case"].as_str().unwrap();
        let dangling: HashSet<_> = lines(&directory, &paper["badger"]["entries_file"])
            .iter()
            .filter(|line| line["dangling"] == true)
            .map(|value| (line(value).0, line(value).1))
            .collect();
        let mut expected = BTreeMap::new();
        for value in lines(&directory, &paper["badger"]["backup_file"]) {
            // Without user meta: a tombstone that Badger makes up behind an entry that discards those before it.
            if value["user_meta"] == -1 {
                assert_eq!(value["meta"], META_DELETE, "{case}");
                continue;
            }
            let line = line(&value);
            if !dangling.contains(&(line.0.clone(), line.1)) {
                expected.insert((line.0.clone(), line.1), line);
            }
        }
        let store = open(&directory).unwrap();
        let snapshot = store.snapshot().unwrap();
        let badger = &paper["badger"];
        assert_eq!(snapshot.pinned_version(), badger["view"]["max_version"].as_u64().unwrap(), "{case}");
        let found = drain(&mut *snapshot.source(0).unwrap()).unwrap();
        for entry in &found {
            let mut found = line_of(entry);
            if entry.as_entry().is_expired(NOW) {
                // Badger leaves the value out.
                (found.5, found.6) = (0, sha256_hex(b""));
            }
            assert_eq!(expected.remove(&(entry.key.clone(), entry.version)), Some(found), "{case}");
        }
        assert!(expected.is_empty(), "{case}: {expected:?}");
        for since in [1, snapshot.pinned_version() / 2, snapshot.pinned_version()] {
            let newer = drain(&mut *snapshot.source(since).unwrap()).unwrap();
            assert!(newer.iter().eq(found.iter().filter(|entry| entry.version > since)), "{case} {since}");
        }
    }
}

#[test]
fn every_key_is_found_as_badger_finds_it() {
    for (directory, paper) in readable() {
        let case = paper["case"].as_str().unwrap();
        let store = open(&directory).unwrap();
        let snapshot = store.snapshot().unwrap();
        let mut asked = HashSet::new();
        for value in lines(&directory, &paper["badger"]["entries_file"]) {
            let expected = line(&value);
            if expected.0.starts_with(b"!badger!") || !asked.insert(expected.0.clone()) {
                continue;
            }
            // The first line of a key is its newest version.
            let found = snapshot.get(&expected.0).unwrap();
            assert_eq!(found.as_ref().map(line_of), Some(expected.clone()), "{case}");
            let live =
                found.is_some_and(|entry| !entry.as_entry().is_delete() && !entry.as_entry().is_expired(NOW));
            assert_eq!(live, value["live"] == true, "{case} {value}");
            assert_eq!(snapshot.get(&[&expected.0[..], b"no"].concat()).unwrap(), None, "{case}");
        }
    }
}

#[test]
fn a_prefix_holds_what_begins_with_it() {
    for (directory, paper) in readable() {
        let store = open(&directory).unwrap();
        let snapshot = store.snapshot().unwrap();
        let all = drain(&mut *snapshot.source(0).unwrap()).unwrap();
        let step = (all.len() / 7).max(1);
        for entry in all.iter().step_by(step) {
            for prefix in [&entry.key[..], &entry.key[..entry.key.len() / 2]] {
                let found = drain(&mut *snapshot.prefix(prefix, b"").unwrap()).unwrap();
                let expected = all.iter().filter(|entry| entry.key.starts_with(prefix));
                assert!(found.iter().eq(expected), "{} {prefix:?}", paper["case"]);
                let rest = drain(&mut *snapshot.prefix(prefix, &entry.key).unwrap()).unwrap();
                let expected = found.iter().filter(|other| other.key >= entry.key);
                assert!(rest.iter().eq(expected), "{} {prefix:?}", paper["case"]);
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_reason() {
    for (directory, paper) in directories() {
        let case = paper["case"].as_str().unwrap();
        let harmful = known(case).first().filter(|_| !HARMLESS.contains(&case)).copied();
        let expected = paper["refused"].as_str().or(harmful.map(|_| "damaged"));
        let Some(expected) = expected else { continue };
        let error = everything(&directory).map(|entries| entries.len()).unwrap_err();
        assert_eq!(error.code(), expected, "{case}: {error}");
        let path = error.path().unwrap_or_else(|| panic!("{case}: no file: {error}"));
        if let Some((_, file, _)) = harmful {
            assert_eq!(path, directory.join(file), "{case}: {error}");
        }
    }
}
