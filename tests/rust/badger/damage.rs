use super::reading::everything;
use super::{directories, look};
use crate::proof::{in_memory, put};
use evbackup::error::Kind;
use std::collections::HashSet;
use std::path::Path;

/// Every byte is damaged in files up to this size,
const EXHAUSTIVE: usize = 400;
/// about this many bytes in larger ones.
const SAMPLES: usize = 12;
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
pub(super) fn damaged(bytes: &[u8]) -> impl Iterator<Item = (usize, &'static str, Vec<u8>)> {
    // Odd, so that it does not fall in step with what repeats in the file.
    let step = if bytes.len() <= EXHAUSTIVE { 1 } else { (bytes.len() / SAMPLES) | 1 };
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
    for (directory, paper) in directories() {
        let (place, files) = copy(&directory);
        // The large ones show nothing that the small ones do not.
        if !paper["refused"].is_null() || files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > LARGE {
            continue;
        }
        // Some are damaged already.
        let Ok(whole) = everything(place.path()) else { continue };
        let held: HashSet<_> = whole.iter().collect();
        for (name, bytes) in &files {
            let path = place.path().join(name);
            let is_table = path.extension().is_some_and(|extension| extension == "sst");
            for (at, how, damaged) in damaged(bytes) {
                put(&path, &damaged);
                let about = format!("{} {name} {how} at {at}", paper["case"]);
                let (found, kind) = match look(place.path()) {
                    Ok((_, found)) => (!found.is_empty(), None),
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
                    // Never what was not there; what a table holds is all there or nothing is.
                    Ok(entries) => {
                        assert!(entries.iter().all(|entry| held.contains(entry)), "{about}");
                        assert!(!is_table || entries.len() == held.len(), "{about}");
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
}
