#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

/// Every file damaged and cut.
mod damage;
/// To the entry, as Badger says.
mod reading;

use super::golden::folder;
use evbackup::badger::{Checked, Damage, Part, check};
use evbackup::base::progress::Progress;
use evbackup::base::scratch::Scratch;
use evbackup::error::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// When the golden directories were judged.
pub(super) const NOW: u64 = 1_700_000_000;

/// The golden directories with their papers.
pub(super) fn directories() -> Vec<(PathBuf, Value)> {
    let mut cases: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"badger-")))
        .map(|path| {
            let paper = std::fs::read(path.join("paper.json")).unwrap();
            (path.join("db"), serde_json::from_slice(&paper).unwrap())
        })
        .collect();
    cases.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert!(cases.len() >= 40, "found only {} golden directories", cases.len());
    cases
}

/// Everything that is wrong with a directory.
pub(super) fn look(directory: &Path) -> Result<(Checked, Vec<Damage>)> {
    let mut found = Vec::new();
    let scratch = Scratch::system();
    let checked = super::proof::unlocked(|| {
        check(
            directory,
            NOW,
            &scratch,
            &Progress::new(),
            &mut |damage| found.push(damage),
            Some(&mut |_| Ok(())),
        )
    })?;
    Ok((checked, found))
}

/// Where what is wrong costs nothing: tables that nobody lists, files without bytes.
pub(super) const HARMLESS: [&str; 3] = ["badger-leftovers", "badger-torn-manifest", "badger-zero-length"];

/// What is wrong with a golden directory: part, file, how often. Everything else is sound.
fn known(case: &str) -> Vec<(Part, &'static str, usize)> {
    match case {
        "badger-leftovers" => vec![(Part::Table, "000005.sst", 1), (Part::Table, "000009.sst", 1)],
        "badger-torn-manifest" => vec![(Part::Table, "000005.sst", 1)],
        "badger-bad-manifest" => vec![(Part::Manifest, "MANIFEST", 1)],
        "badger-missing-table" => vec![(Part::Table, "000002.sst", 1)],
        "badger-missing-value" => vec![(Part::Value, "000001.vlog", 10)],
        // Whole transactions stand behind the damage: Badger drops them, we do not.
        "badger-torn-flip" | "badger-torn-middle" => vec![(Part::Log, "00001.mem", 1)],
        "badger-zero-length" => vec![(Part::Log, "00007.mem", 1), (Part::ValueLog, "000007.vlog", 1)],
        _ => Vec::new(),
    }
}

#[test]
fn a_golden_directory_is_sound_or_wrong_where_its_paper_says() {
    for (directory, paper) in directories() {
        let case = paper["case"].as_str().unwrap();
        let (checked, found) = match look(&directory) {
            Ok(looked) => looked,
            Err(error) => {
                assert_eq!(
                    (error.code(), paper["refused"].as_str().unwrap_or_default()),
                    ("unsupported", "unsupported"),
                    "{case}: {error}"
                );
                continue;
            }
        };
        assert_ne!(paper["refused"], "unsupported", "{case}");
        let expected = known(case);
        assert_eq!(found.len(), expected.iter().map(|(.., count)| count).sum::<usize>(), "{case}: {found:?}");
        for damage in &found {
            let path = damage.error.path().unwrap_or_else(|| panic!("{case}: {damage:?}"));
            let named =
                |(part, file, _): &&(Part, &str, usize)| *part == damage.part && path == directory.join(file);
            assert!(expected.iter().any(|one| named(&one)), "{case}: {damage:?}");
            assert_eq!(damage.harmless, HARMLESS.contains(&case), "{case}: {damage:?}");
            assert_eq!(damage.key.is_some(), damage.part == Part::Value, "{case}: {damage:?}");
        }
        if found.iter().all(|damage| damage.harmless) {
            let badger = &paper["badger"];
            let tables = paper["tables"].as_array().map_or(0, Vec::len);
            assert_eq!(checked.tables, tables as u64, "{case}");
            assert_eq!(checked.dropped, badger["dangling"].as_u64().unwrap_or_default(), "{case}");
            assert_eq!(checked.max_version, badger["view"]["max_version"].as_u64().unwrap(), "{case}");
        }
    }
}

#[test]
fn a_directory_that_is_not_there_or_open_in_a_node_is_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(look(&folder.path().join("db")).unwrap_err().code(), "missing");
    let _node = evbackup::base::durable::DirLock::exclusive(folder.path()).unwrap();
    assert_eq!(
        check(folder.path(), NOW, &Scratch::system(), &Progress::new(), &mut |_| {}, None)
            .unwrap_err()
            .code(),
        "locked"
    );
}

/// A golden directory that may be damaged.
fn copy_of(case: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(super::golden::folder().join(case).join("db")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

fn flip(directory: &Path, name: &str, at: usize) {
    let mut bytes = std::fs::read(directory.join(name)).unwrap();
    bytes[at] ^= 1;
    super::proof::put(&directory.join(name), &bytes);
}

#[test]
fn all_that_is_damaged_is_listed_each_with_its_place() {
    let places = |found: &[Damage]| {
        let place = |damage: &Damage| {
            let name = damage.error.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
            (damage.part, name)
        };
        let mut places: Vec<_> = found.iter().map(place).collect();
        places.dedup();
        places
    };
    let (_folder, directory) = copy_of("badger-levels");
    evbackup::base::durable::remove_file(&directory.join("000012.sst")).unwrap();
    flip(&directory, "000017.sst", 100);
    flip(&directory, "000033.sst", 100);
    let (_, found) = look(&directory).unwrap();
    let expected = [
        (Part::Table, "000012.sst".to_owned()),
        (Part::Table, "000017.sst".to_owned()),
        (Part::Table, "000033.sst".to_owned()),
    ];
    assert_eq!(places(&found), expected, "{found:?}");
    assert!(
        found[1..].iter().all(|damage| damage.error.offset() == Some(0) && damage.key.is_some()),
        "{found:?}"
    );

    let (_folder, directory) = copy_of("badger-collected-live");
    flip(&directory, "000003.sst", 30);
    for log in ["000006.vlog", "000007.vlog"] {
        flip(&directory, log, 60);
    }
    let (_, found) = look(&directory).unwrap();
    let listed = places(&found);
    let expected =
        [(Part::Table, "000003.sst"), (Part::ValueLog, "000006.vlog"), (Part::ValueLog, "000007.vlog")];
    for (part, name) in expected {
        assert!(listed.contains(&(part, name.to_owned())), "{name}: {found:?}");
    }
    assert!(found.iter().all(|damage| damage.error.offset().is_some() && !damage.harmless), "{found:?}");
}
