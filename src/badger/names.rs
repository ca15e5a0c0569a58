//! What the files of a directory are called: `%06d.sst`, `%06d.vlog`, `%05d.mem`. Badger takes a name for its number and names the file by
//! that, whatever zeros stand before it; numbers may be longer than their names are wide.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The list of tables.
pub(super) fn manifest(dir: &Path) -> PathBuf {
    dir.join("MANIFEST")
}

/// A table.
pub(super) fn table(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:06}.sst"))
}

/// A value log.
pub(super) fn value_log(dir: &Path, fid: u32) -> PathBuf {
    dir.join(format!("{fid:06}.vlog"))
}

/// The log of a memtable.
pub(super) fn memory_log(dir: &Path, fid: u64) -> PathBuf {
    dir.join(format!("{fid:05}.mem"))
}

/// The numbers of the value logs that are there, ascending.
pub(super) fn value_logs(dir: &Path) -> Result<Vec<u32>> {
    let number = |fid| {
        u32::try_from(fid).map_err(|_| {
            let most = u32::MAX;
            Error::damaged(format!("expected a value log of number 0 to {most}, found {fid}.vlog"))
                .at_path(dir)
        })
    };
    numbers(dir, "vlog")?.into_iter().map(number).collect()
}

/// The numbers of the tables that are there, ascending.
pub(super) fn tables(dir: &Path) -> Result<Vec<u64>> {
    numbers(dir, "sst")
}

/// The numbers of the logs of memtables that are there, ascending.
pub(super) fn memory_logs(dir: &Path) -> Result<Vec<u64>> {
    numbers(dir, "mem")
}

fn numbers(dir: &Path, extension: &str) -> Result<Vec<u64>> {
    let failed = |error| Error::from_io(error, "list the directory", dir);
    let mut found = Vec::new();
    for entry in dir.read_dir().map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(extension)?.strip_suffix('.'));
        let digits = stem.filter(|stem| !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit()));
        found.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::durable::{Replace, write_file};

    #[test]
    fn files_are_found_by_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let made = [
            table(dir, 7),
            value_log(dir, 3),
            value_log(dir, 1_000_000),
            memory_log(dir, 123_456),
            memory_log(dir, 2),
        ];
        for path in made.iter().chain(&[
            dir.join("x.mem"),
            dir.join(".vlog"),
            dir.join("1.vlog.part"),
            dir.join("2vlog"),
        ]) {
            write_file(path, b"", Replace::Never).unwrap();
        }
        assert_eq!(value_logs(dir).unwrap(), [3, 1_000_000]);
        assert_eq!(memory_logs(dir).unwrap(), [2, 123_456]);
        assert_eq!(tables(dir).unwrap(), [7]);
        assert_eq!(made[0].file_name().unwrap(), "000007.sst");
        write_file(&dir.join("4294967296.vlog"), b"", Replace::Never).unwrap();
        let error = value_logs(dir).unwrap_err();
        assert!(error.code() == "damaged" && error.path() == Some(dir), "{error}");
        assert_eq!(value_logs(&dir.join("no")).unwrap_err().code(), "missing");
    }
}
