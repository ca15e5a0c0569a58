//! The bytes of one file of a directory, or of a copy of it, read by position.

use crate::error::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open file; clones share it. Its length is fixed when it is opened: what a writer appends later is not seen.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    file: Arc<File>,
    path: Arc<PathBuf>,
    len: u64,
}

impl Blob {
    /// Opens a file of the directory for reading.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::from_io(error, "open it", path))?;
        Self::of(file, path)
    }

    /// Takes an open file, such as a copy without a name; errors name `path`, of which it is one.
    pub(super) fn of(file: File, path: &Path) -> Result<Self> {
        let about = file.metadata().map_err(|error| Error::from_io(error, "look at it", path))?;
        Ok(Self { len: about.len(), file: Arc::new(file), path: Arc::new(path.to_owned()) })
    }

    /// What errors call it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Fills `to` with the bytes at `offset`. A file that is shorter than it was has been taken away: damage, which a live reading
    /// tells from the real one by [`is_whole`](Self::is_whole).
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(to, offset).map_err(|error| {
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                let what = format!("expected {} bytes at byte {offset}, found the end of the file", to.len());
                return Error::damaged(what).at_path(&*self.path).at_offset(offset);
            }
            Error::from_io(error, "read it", &*self.path)
        })
    }

    /// Is the file still as long as it was? Badger truncates a file before it unlinks it, and never makes it longer again.
    pub(super) fn is_whole(&self) -> Result<bool> {
        let about = self.file.metadata().map_err(|error| Error::from_io(error, "look at it", &*self.path))?;
        Ok(about.len() >= self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::durable::{Replace, write_file};

    #[test]
    fn reads_by_position_and_notices_that_it_was_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000001.sst");
        write_file(&path, b"0123456789", Replace::Never).unwrap();
        let blob = Blob::open(&path).unwrap();
        let mut bytes = [0; 4];
        blob.read(3, &mut bytes).unwrap();
        assert_eq!((&bytes, blob.len(), blob.path()), (b"3456", 10, &*path));
        assert!(blob.is_whole().unwrap());
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let error = blob.read(3, &mut bytes).unwrap_err();
        assert_eq!((error.code(), error.offset(), error.path()), ("damaged", Some(3), Some(&*path)));
        assert!(!blob.is_whole().unwrap());
        assert_eq!(Blob::open(&folder.path().join("no")).unwrap_err().code(), "missing");
    }
}
