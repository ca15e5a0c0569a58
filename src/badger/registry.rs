//! `KEYREGISTRY`: the data keys of an encrypted directory, and the id of every directory (`key_registry.go` of Badger v4.5.1).
//!
//! | bytes | field                                                                                    |
//! |-------|------------------------------------------------------------------------------------------|
//! | 16    | an initialisation vector, drawn when the directory was made: its id                      |
//! | 12    | `Hello Badger`, encrypted with the user's key if there is one                            |
//! | …     | data keys: length and CRC-32C (4 bytes each, big-endian), then a protobuf `DataKey` each |
//!
//! Only what is not encrypted is read: the text is plain, and no data key follows.

use super::manifest::encrypted;
use crate::base::cursor::Cursor;
use crate::base::files::open_quietly;
use crate::error::{Error, Kind, Result};
use std::io::Read;
use std::path::Path;

/// Bytes of the id.
pub(super) const ID: usize = 16;
const SANITY: &[u8; 12] = b"Hello Badger";
const LEN: usize = ID + SANITY.len();

/// The id of a directory; `None` when it has no `KEYREGISTRY`: Badger makes one when it first opens a directory for writing.
pub(super) fn id_of(dir: &Path) -> Result<Option<[u8; ID]>> {
    let path = dir.join("KEYREGISTRY");
    let file = match open_quietly(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == Kind::Missing => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    // One byte more tells that something follows.
    file.take(LEN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::from_io(error, "read it", &path))?;
    read(&bytes).map(Some).map_err(|error| error.at_path(&path))
}

fn read(bytes: &[u8]) -> Result<[u8; ID]> {
    let mut at = Cursor::new(bytes);
    let iv = at.take(ID as u64, "the id of a directory")?;
    let sanity = at.take(SANITY.len() as u64, "the text behind the id")?;
    if sanity != SANITY {
        return Err(encrypted("a KEYREGISTRY without its plain text").at_offset(ID as u64));
    }
    if !at.is_empty() {
        return Err(encrypted("a KEYREGISTRY with data keys").at_offset(LEN as u64));
    }
    Ok(iv.try_into().unwrap_or_default())
}

/// One without keys.
pub(super) fn encode(iv: [u8; ID]) -> Vec<u8> {
    let mut bytes = iv.to_vec();
    bytes.extend_from_slice(SANITY);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::durable::{Replace, write_file};

    #[test]
    fn an_id_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(id_of(folder.path()).unwrap(), None);
        let bytes = encode([7; ID]);
        assert_eq!(bytes, b"\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07Hello Badger");
        write_file(&folder.path().join("KEYREGISTRY"), &bytes, Replace::Never).unwrap();
        assert_eq!(id_of(folder.path()).unwrap(), Some([7; ID]));
    }

    #[test]
    fn every_cut_is_damage() {
        for cut in 0..LEN {
            assert_eq!(read(&encode([7; ID])[..cut]).unwrap_err().code(), "damaged");
        }
    }

    #[test]
    fn what_is_encrypted_is_refused_by_name() {
        let mut with_key = encode([7; ID]);
        with_key.push(0);
        let mut sealed = encode([7; ID]);
        sealed[ID] ^= 1;
        for (bytes, offset) in [(with_key, LEN as u64), (sealed, ID as u64)] {
            let error = read(&bytes).unwrap_err();
            assert_eq!((error.code(), error.offset()), ("unsupported", Some(offset)));
            assert!(error.to_string().contains("not encrypted"), "{error}");
        }
    }
}
