//! `NNNNNN.vlog`: values that are kept apart from their keys, read by the pointer that stands in their place. The records are drawn in `log`.
//!
//! Pointers that lead nowhere are normal where a newer version has taken over: Badger's garbage collection removes a file once the newest
//! versions of its keys stand elsewhere. So a lookup says whether nothing is there (*dangling*) or something that is not right
//! (*damaged*), and who asks decides (`merge`).

use super::blob::Blob;
use super::key;
use super::log::read_record;
use super::meta::Pointer;
use super::names;
use crate::base::cursor::Cursor;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

/// What is read before there is room for a whole record: more than its head.
const FIRST: usize = 4 << 10;
const CRC: u64 = 4;

/// The value logs of a directory by their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Vlogs {
    directory: PathBuf,
    files: BTreeMap<u32, Blob>,
}

/// What stands where a pointer leads.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The value, as a place in the buffer.
    Value(Range<usize>),
    /// The file is not there or ends before, or the record is that of another key.
    Dangling(Error),
    /// The file has bytes there that are no record.
    Damaged(Error),
}

impl Vlogs {
    /// These value logs of a directory; errors name it for those that are missing.
    pub(super) fn new(directory: impl Into<PathBuf>, files: BTreeMap<u32, Blob>) -> Self {
        Self { directory: directory.into(), files }
    }

    /// The file of a number.
    pub(super) fn blob(&self, fid: u32) -> Option<&Blob> {
        self.files.get(&fid)
    }

    /// Reads the record that `pointer` names into `to` and holds it against its checksum and the internal key that led to it.
    pub(super) fn read(&self, pointer: Pointer, internal: &[u8], to: &mut Vec<u8>) -> Result<Lookup> {
        let (offset, len) = (u64::from(pointer.offset), u64::from(pointer.len));
        let Some(blob) = self.blob(pointer.fid) else {
            let what = format!("expected the value of key {}, found no such value log", key::shown(internal));
            let path = names::value_log(&self.directory, pointer.fid);
            return Ok(Lookup::Dangling(Error::damaged(what).at_path(path).at_offset(offset)));
        };
        let wrong = |found: &str| {
            let what =
                format!("expected the value of key {} at byte {offset}, found {found}", key::shown(internal));
            Error::damaged(what).at_path(blob.path()).at_offset(offset)
        };
        if offset + len > blob.len() {
            return Ok(Lookup::Dangling(wrong("the end of the file")));
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        to.resize(len.min(FIRST), 0);
        if let Err(error) = blob.read(offset, to) {
            return gone(blob, error);
        }
        // A pointer is not believed before the record says the same.
        let (Ok(said), true) = (length(to), len > 0) else { return Ok(Lookup::Damaged(wrong("no record"))) };
        if said != len as u64 {
            return Ok(Lookup::Damaged(wrong(&format!("a record of {said} bytes in place of {len}"))));
        }
        if let Some(more) = len.checked_sub(to.len()).filter(|more| *more > 0) {
            let begin = to.len();
            to.reserve_exact(more);
            to.resize(len, 0);
            let rest = to.get_mut(begin..).unwrap_or_default();
            if let Err(error) = blob.read_passing(offset + begin as u64, rest) {
                return gone(blob, error);
            }
        }
        let record = match read_record(to) {
            Ok((record, _)) => record,
            Err(error) => return Ok(Lookup::Damaged(wrong(error.what()))),
        };
        if record.key != internal {
            return Ok(Lookup::Dangling(wrong(&format!("that of key {}", key::shown(record.key)))));
        }
        let end = len.saturating_sub(usize::try_from(CRC).unwrap_or_default());
        Ok(Lookup::Value(end - record.value.len()..end))
    }
}

/// How long the record that begins here says it is.
fn length(bytes: &[u8]) -> Result<u64> {
    let mut at = Cursor::new(bytes);
    let _ = (at.u8("meta bits")?, at.u8("user meta")?);
    let (key, value) = (at.uvarint("the length of a key")?, at.uvarint("the length of a value")?);
    let _ = at.uvarint("an expiry")?;
    Ok([key, value, CRC].iter().fold(at.offset(), |sum, part| sum.saturating_add(*part)))
}

/// A file that became shorter while it was read is being removed.
fn gone(blob: &Blob, error: Error) -> Result<Lookup> {
    if error.kind() == crate::error::Kind::Damaged && !blob.is_whole()? {
        return Ok(Lookup::Dangling(error));
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::super::log::{HEADER, Record, put_header, put_record};
    use super::*;
    use crate::base::scratch::Scratch;
    use std::io::Write;
    use std::path::Path;

    fn internal(user_key: &[u8], version: u64) -> Vec<u8> {
        let mut internal = Vec::new();
        key::put(&mut internal, user_key, version);
        internal
    }

    fn blob(bytes: &[u8]) -> Blob {
        let mut file = Scratch::system().file().unwrap();
        file.write_all(bytes).unwrap();
        Blob::of(file, Path::new("/db/000002.vlog")).unwrap()
    }

    /// A value log with one value, and the pointer to it.
    fn log(key: &[u8], value: &[u8]) -> (Vec<u8>, Pointer) {
        let mut bytes = Vec::new();
        put_header(&mut bytes, [1; 12]);
        let len =
            put_record(&mut bytes, &Record { key, value, user_meta: 9, expires_at: 77, ..Record::default() });
        let pointer =
            Pointer { fid: 2, len: u32::try_from(len).unwrap(), offset: u32::try_from(HEADER).unwrap() };
        (bytes, pointer)
    }

    fn vlogs(bytes: &[u8]) -> Vlogs {
        Vlogs::new("/db", BTreeMap::from([(2, blob(bytes))]))
    }

    fn verdict(vlogs: &Vlogs, pointer: Pointer, key: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut buffer = vec![5; 3];
        match vlogs.read(pointer, key, &mut buffer).unwrap() {
            Lookup::Value(place) => Ok(buffer[place].to_vec()),
            Lookup::Dangling(error) => {
                assert!(error.path().is_some() && error.offset().is_some(), "{error}");
                Err("dangling")
            }
            Lookup::Damaged(error) => {
                assert!(error.path().is_some() && error.offset().is_some(), "{error}");
                Err("damaged")
            }
        }
    }

    #[test]
    fn a_value_is_read_by_its_pointer_whatever_its_size() {
        for size in [0, 1, 100, FIRST - 40, FIRST, FIRST + 1, 1 << 20] {
            let (key, value) = (internal(b"/0/v", 3), vec![7; size]);
            let (bytes, pointer) = log(&key, &value);
            assert_eq!(verdict(&vlogs(&bytes), pointer, &key), Ok(value), "{size}");
        }
    }

    #[test]
    fn what_is_not_there_dangles_and_what_is_wrong_is_damage() {
        let key = internal(b"/0/v", 3);
        let (bytes, pointer) = log(&key, &[7; 9000]);
        let whole = vlogs(&bytes);
        assert_eq!(verdict(&whole, Pointer { fid: 3, ..pointer }, &key), Err("dangling"));
        assert_eq!(
            verdict(&whole, Pointer { offset: u32::MAX, len: u32::MAX, ..pointer }, &key),
            Err("dangling")
        );
        assert_eq!(verdict(&whole, pointer, &internal(b"/0/v", 4)), Err("dangling"));
        for len in [0, 1, pointer.len - 1] {
            assert_eq!(verdict(&whole, Pointer { len, ..pointer }, &key), Err("damaged"), "{len}");
        }
        assert_eq!(
            verdict(&whole, Pointer { offset: 21, len: pointer.len - 1, ..pointer }, &key),
            Err("damaged")
        );
        assert_eq!(verdict(&vlogs(&vec![0; bytes.len()]), pointer, &key), Err("damaged"));
        let missing = whole.read(Pointer { fid: 3, ..pointer }, &key, &mut Vec::new()).unwrap();
        let Lookup::Dangling(error) = missing else { panic!("{missing:?}") };
        assert_eq!(
            error.to_string(),
            "/db/000003.vlog: expected the value of key /0/v at version 3, found no such value log at byte 20"
        );
    }

    #[test]
    fn every_flipped_byte_of_a_record_is_found() {
        let key = internal(b"/0/v", 3);
        let (bytes, pointer) = log(&key, b"value");
        for at in HEADER..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                assert_eq!(verdict(&vlogs(&bytes), pointer, &key), Err("damaged"), "{at} {bit}");
            }
        }
    }

    #[test]
    fn a_file_that_is_taken_away_dangles() {
        let key = internal(b"/0/v", 3);
        let (bytes, pointer) = log(&key, b"value");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000002.vlog");
        std::fs::File::create_new(&path).unwrap().write_all(&bytes).unwrap();
        let vlogs = Vlogs::new(folder.path(), BTreeMap::from([(2, Blob::open(&path).unwrap())]));
        assert_eq!(verdict(&vlogs, pointer, &key), Ok(b"value".to_vec()));
        std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert_eq!(verdict(&vlogs, pointer, &key), Err("dangling"));
    }
}
