//! What RocksDB's errors mean to a caller: the kind, the file and the byte, read from its text.

use crate::error::{Error, Kind};
use rocksdb::ErrorKind;
use std::path::{Path, PathBuf};

const ENOSPC: i32 = 28;

/// The error of ours for one of RocksDB's about the store in `dir`.
pub(super) fn fault(error: rocksdb::Error, dir: &Path) -> Error {
    let from = error.kind();
    let text = error.into_string();
    let (file, offset) = place(&text, dir);
    let kind = kind(&from, &text, file.as_deref());
    let detail = detail(&text, file.as_deref().unwrap_or(dir));
    let what = match kind {
        Kind::Damaged => format!("expected what RocksDB wrote there, found: {detail}"),
        Kind::Locked => "expected a store that nobody writes, found it locked".into(),
        Kind::NoSpace => "expected room on the disk, found none".into(),
        _ => format!("expected RocksDB to go on, found: {detail}"),
    };
    let mut fault = Error::new(kind, what).at_path(file.as_deref().unwrap_or(dir));
    if let Some(offset) = offset {
        fault = fault.at_offset(offset);
    }
    match kind {
        Kind::Damaged => fault.with_hint("the store is damaged: restore it from its segments"),
        Kind::Locked => fault.with_hint("another run is writing this store: wait for it"),
        Kind::NoSpace => fault.with_errno(ENOSPC),
        _ => fault,
    }
}

fn kind(from: &ErrorKind, text: &str, file: Option<&Path>) -> Kind {
    let has = |words: &str| text.contains(words);
    match from {
        _ if has("No space left") || has("quota exceeded") || has("File too large") => Kind::NoSpace,
        _ if has("/LOCK") && (has("lock file") || has("lock hold")) => Kind::Locked,
        _ if has("Permission denied") || has("Operation not permitted") || has("Read-only file system") => {
            Kind::Denied
        }
        ErrorKind::Corruption | ErrorKind::NotFound => Kind::Damaged,
        // A file that the store lists and that is not there, or that ends too early.
        ErrorKind::IOError if file.is_some() && has("No such file") => Kind::Damaged,
        ErrorKind::InvalidArgument if has("does not exist") => Kind::Damaged,
        ErrorKind::NotSupported => Kind::Unsupported,
        ErrorKind::Busy => Kind::Locked,
        _ => Kind::Io,
    }
}

/// The file of the store that the text names, and the byte in it.
fn place(text: &str, dir: &Path) -> (Option<PathBuf>, Option<u64>) {
    let dir_text = dir.to_string_lossy();
    let Some((_, rest)) = text.split_once(&*dir_text) else {
        return (None, None);
    };
    let end = rest.find([' ', ':', ',', ';', '"', '\'']).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let name = name.trim_matches('/').trim_end_matches('.');
    let file = (!name.is_empty()).then(|| dir.join(name));
    let digits = after
        .split_once(" offset ")
        .map(|(_, number)| number.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    (file, digits.and_then(|digits| digits.parse().ok()))
}

/// The text without the kind that leads it and the path, which the error says elsewhere.
fn detail(text: &str, path: &Path) -> String {
    let text = text.split_once(": ").map_or(text, |(_, rest)| rest);
    let text = text.replace(&*path.to_string_lossy(), "the file");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Kind, Option<PathBuf>, Option<u64>) {
        let dir = Path::new("/data/my store");
        let (file, offset) = place(text, dir);
        let from = match text.split(':').next() {
            Some("Corruption") => ErrorKind::Corruption,
            Some("IO error") => ErrorKind::IOError,
            _ => ErrorKind::Unknown,
        };
        (kind(&from, text, file.as_deref()), file, offset)
    }

    #[test]
    fn texts_of_rocksdb_are_understood() {
        let sst = Some(PathBuf::from("/data/my store/000009.sst"));
        let text = "Corruption: block checksum mismatch: stored = 1, computed = 2, type = 4  in /data/my store/000009.sst offset 20 size 4096";
        assert_eq!(read(text), (Kind::Damaged, sst.clone(), Some(20)));
        let text = "IO error: No such file or directory: While open a file for random read: /data/my store/000009.sst: No such file or directory";
        assert_eq!(read(text), (Kind::Damaged, sst.clone(), None));
        let text = "IO error: No space left on device: While appending to file: /data/my store/000009.sst: No space left on device";
        assert_eq!(read(text), (Kind::NoSpace, sst, None));
        let lock = Some(PathBuf::from("/data/my store/LOCK"));
        let text = "IO error: While lock file: /data/my store/LOCK: Resource temporarily unavailable";
        assert_eq!(read(text), (Kind::Locked, lock.clone(), None));
        let text = "IO error: lock hold by current process, acquire time 1 acquiring thread 2: /data/my store/LOCK: No locks available";
        assert_eq!(read(text), (Kind::Locked, lock, None));
        assert_eq!(read("Corruption: CURRENT file does not end with newline"), (Kind::Damaged, None, None));
    }

    #[test]
    fn a_detail_says_no_path_twice() {
        let text = "Corruption: Bad table magic number: expected 1, found 2 in /d/000009.sst.";
        let detail = detail(text, Path::new("/d/000009.sst"));
        assert_eq!(detail, "bad table magic number: expected 1, found 2 in the file");
    }
}
