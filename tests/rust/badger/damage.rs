use super::reading::everything;
use super::{directories, look};
use crate::proof::{in_memory, put};
use evbackup::entry::OwnedEntry;
use evbackup::error::Kind;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;

/// Every byte is damaged in files up to this size, in MANIFEST, and in logs up to the longer one,
const EXHAUSTIVE: usize = 400;
const EXHAUSTIVE_LOG: usize = 8 << 10;
/// about this many bytes in larger ones.
const SAMPLES: usize = 60;
/// Directories above this are left alone.
const LARGE: usize = 100 << 10;

/// A golden directory where it may be damaged, and its files.
pub(super) fn copy(directory: &Path) -> (tempfile::TempDir, Vec<(String, Vec<u8>)>) {
    let place = in_memory();
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    for (name, bytes) in &files {
        put(&place.path().join(name), bytes);
    }
    (place, files)
}

/// The bytes of a file, each time cut or with one bit flipped, and where.
fn damaged<'a>(
    name: &str,
    bytes: &'a [u8],
) -> impl Iterator<Item = (usize, &'static str, Vec<u8>)> + use<'a> {
    let is_log = [".mem", ".vlog"].iter().any(|extension| name.ends_with(extension));
    let all = if is_log { EXHAUSTIVE_LOG } else { EXHAUSTIVE };
    // Odd, so that it does not fall in step with what repeats in the file.
    let step = if bytes.len() <= all || name == "MANIFEST" { 1 } else { (bytes.len() / SAMPLES) | 1 };
    let cuts = (0..bytes.len()).step_by(step).map(|at| (at, "cut", bytes[..at].to_vec()));
    let flips = (0..bytes.len()).step_by(step).map(|at| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        (at, "flip", bytes)
    });
    cuts.chain(flips)
}

#[test]
fn damage_is_found_whichever_file_it_is_in() {
    // Each directory is a place of its own.
    let left = Mutex::new(directories());
    let next = || left.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((directory, paper)) = next() {
                    damage(&directory, &paper);
                }
            });
        }
    });
}

/// Damages each file of a directory.
fn damage(directory: &Path, paper: &Value) {
    let (place, files) = copy(directory);
    // The large ones show nothing that the small ones do not.
    if !paper["refused"].is_null() || files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > LARGE {
        return;
    }
    // Some are damaged already.
    let Ok(whole) = everything(place.path()) else { return };
    let held: HashSet<_> = whole.iter().collect();
    let versions: HashSet<_> = whole.iter().map(|entry| (&entry.key, entry.version)).collect();
    let usual = look(place.path()).unwrap().1.len();
    for (name, bytes) in &files {
        let path = place.path().join(name);
        let is_table = path.extension().is_some_and(|extension| extension == "sst");
        let is_log = path.extension().is_some_and(|extension| extension == "mem");
        for (at, how, damaged) in damaged(name, bytes) {
            put(&path, &damaged);
            let about = format!("{} {name} {how} at {at}", paper["case"]);
            let (found, kind) = match look(place.path()) {
                Ok((_, found)) => (found.len() != usual || found.iter().any(|damage| !damage.harmless), None),
                Err(error) => (true, Some(error.kind())),
            };
            assert!(kind.is_none_or(|kind| kind == Kind::Unsupported), "{about}: {kind:?}");
            // Logs may end anywhere; so may MANIFEST between two records, and the last value log.
            let table = is_table
                && paper["tables"].as_array().is_some_and(|tables| {
                    tables.iter().any(|table| {
                        *name == format!("{:06}.sst", table["id"].as_u64().unwrap())
                            && table["compression"] == "none"
                    })
                });
            assert!(found || !table, "{about}");
            match everything(place.path()) {
                // Never what was not there; what a table holds is all there or nothing is. Of a log's entries with one version the last
                // counts: where the log ends before it, an earlier one.
                Ok(entries) => {
                    let was_there = |entry: &OwnedEntry| {
                        held.contains(entry) || (is_log && versions.contains(&(&entry.key, entry.version)))
                    };
                    assert!(entries.iter().all(was_there), "{about}");
                    assert!(!is_table || entries.len() == held.len(), "{about}");
                    let may_lose = name != "MANIFEST" || how == "cut";
                    assert!(may_lose || entries.len() == held.len(), "{about}");
                }
                Err(error) => {
                    assert!(
                        matches!(error.kind(), Kind::Damaged | Kind::Unsupported | Kind::Missing),
                        "{about}: {error}"
                    );
                    assert!(error.path().is_some() && found, "{about}: {error}");
                }
            }
        }
        put(&path, bytes);
    }
}
