//! The bytes of one file of a directory, or of a copy of it, read by position.

use super::pace::Pace;
use crate::base::files::{Identity, next_data, open_quietly, uncache};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file; clones share it. Its length is fixed when it is opened: what a writer appends later is not seen.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    bytes: Bytes,
    path: Arc<PathBuf>,
    len: u64,
    /// Is what was read in passing given up?
    frugal: bool,
    /// What is read counts against this.
    pace: Option<Pace>,
}

#[derive(Clone, Debug)]
enum Bytes {
    /// An open file, or a part of one that begins at a byte of it.
    Open(Arc<File>, u64),
    /// The file with this name, opened for each reading: a directory may have more tables than a process may have files open.
    Named(Identity),
    /// The value log with this name: likewise, but it changes.
    Log((u64, u64)),
}

impl Blob {
    /// Opens a file of the directory for reading.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::of(open_quietly(path)?, path)
    }

    /// Takes an open file, such as a copy without a name; errors name `path`, of which it is one.
    pub(super) fn of(file: File, path: &Path) -> Result<Self> {
        let about = file.metadata().map_err(|error| Error::from_io(error, "look at it", path))?;
        if !about.is_file() {
            return Err(Error::damaged("expected a file, found something else").at_path(path));
        }
        Ok(Self::part(Arc::new(file), 0, about.len(), path))
    }

    /// A part of an open file: a copy of the file at `path`.
    pub(super) fn part(file: Arc<File>, at: u64, len: u64, path: &Path) -> Self {
        Self::new(Bytes::Open(file, at), len, path)
    }

    fn new(bytes: Bytes, len: u64, path: &Path) -> Self {
        Self { bytes, path: Arc::new(path.to_owned()), len, frugal: false, pace: None }
    }

    /// The same, read at this pace.
    pub(super) fn paced(self, pace: Option<&Pace>) -> Self {
        Self { pace: pace.cloned(), ..self }
    }

    /// The same; the system does not keep what [`read_passing`](Self::read_passing) has read.
    pub(super) fn frugal(self, frugal: bool) -> Self {
        Self { frugal, ..self }
    }

    /// The file at `path`, which is opened when it is read, and must be this one then.
    pub(super) fn named(path: &Path, about: Identity) -> Self {
        Self::new(Bytes::Named(about), about.len, path)
    }

    /// The file that is at `path` now, which is opened when it is read: for files of which there may be many.
    pub(super) fn at(path: &Path) -> Result<Self> {
        match Identity::at(path)? {
            Some(about) => Ok(Self::named(path, about)),
            None => Self::open(path),
        }
    }

    /// The value log at `path`, which is opened when it is read. It may be appended to and cut behind what was written, so only the
    /// file must be this one.
    pub(super) fn named_log(path: &Path, about: Identity) -> Self {
        Self::new(Bytes::Log(about.inode), about.len, path)
    }

    /// Where in `file` it lies, if it is a part of that.
    pub(super) fn place_in(&self, file: &Arc<File>) -> Option<(u64, u64)> {
        match &self.bytes {
            Bytes::Open(own, base) => Arc::ptr_eq(own, file).then_some((*base, self.len)),
            Bytes::Named(_) | Bytes::Log(_) => None,
        }
    }

    /// What errors call it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `to` with the bytes at `offset`. A file that is shorter than it was has been taken away: damage, which a live reading
    /// tells from the real one by [`is_whole`](Self::is_whole).
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        if self.read_some(offset, to)? < to.len() {
            let what = format!("expected {} bytes at byte {offset}, found the end of the file", to.len());
            return Err(Error::damaged(what).at_path(&*self.path).at_offset(offset));
        }
        Ok(())
    }

    /// [`read`](Self::read), for bytes that nobody is likely to want again.
    pub(super) fn read_passing(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        self.read(offset, to)?;
        if let (true, Bytes::Open(file, base)) = (self.frugal, &self.bytes) {
            uncache(file, base.saturating_add(offset), to.len() as u64);
        }
        Ok(())
    }

    /// Fills what it can of `to` with the bytes at `offset`; how much that was. Less than all only where the file ends.
    pub(super) fn read_some(&self, offset: u64, to: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let room = to.len().min(left);
        let to = to.get_mut(..room).unwrap_or_default();
        let done = self.read_from(offset, to)?;
        if let Some(pace) = &self.pace {
            pace.wait(done as u64)?;
        }
        Ok(done)
    }

    fn read_from(&self, offset: u64, to: &mut [u8]) -> Result<usize> {
        match &self.bytes {
            Bytes::Open(file, base) => self.fill(file, base.saturating_add(offset), to),
            Bytes::Named(about) => {
                let file = open_quietly(&self.path)?;
                self.must_be(&file, *about)?;
                let done = self.fill(&file, offset, to)?;
                // What is longer than nothing afterwards was not emptied before.
                self.must_be(&file, *about)?;
                Ok(done)
            }
            Bytes::Log(inode) => {
                let file = open_quietly(&self.path)?;
                let done = self.fill(&file, offset, to)?;
                let now = Identity::of(&file, &self.path)?;
                if now.inode == *inode && now.len > 0 { Ok(done) } else { Err(self.another()) }
            }
        }
    }

    fn fill(&self, file: &File, offset: u64, to: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(room) = to.get_mut(done..).filter(|room| !room.is_empty()) {
            let at = offset.saturating_add(done as u64);
            match file.read_at(room, at) {
                Ok(0) => break,
                Ok(found) => done += found,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from_io(error, "read it", &*self.path).at_offset(at)),
            }
        }
        Ok(done)
    }

    fn must_be(&self, file: &File, about: Identity) -> Result<()> {
        if Identity::of(file, &self.path)? == about {
            return Ok(());
        }
        Err(self.another())
    }

    fn another(&self) -> Error {
        Error::missing("expected the file that was there before, found another or a changed one")
            .at_path(&*self.path)
    }

    /// The next bytes at or behind `offset` that are no hole.
    pub(super) fn next_data(&self, offset: u64) -> Result<Option<(u64, u64)>> {
        let (found, base) = match &self.bytes {
            Bytes::Open(file, base) => (next_data(file, base.saturating_add(offset), &self.path)?, *base),
            Bytes::Named(_) | Bytes::Log(_) => {
                (next_data(&open_quietly(&self.path)?, offset, &self.path)?, 0)
            }
        };
        let found =
            found.map(|(start, end)| (start.saturating_sub(base), end.saturating_sub(base).min(self.len)));
        Ok(found.filter(|(start, end)| start < end))
    }

    /// The file system and the inode.
    pub(super) fn inode(&self) -> Result<(u64, u64)> {
        match &self.bytes {
            Bytes::Open(file, _) => Ok(Identity::of(file, &self.path)?.inode),
            Bytes::Named(about) => Ok(about.inode),
            Bytes::Log(inode) => Ok(*inode),
        }
    }

    /// How long the file is now.
    pub(super) fn len_now(&self) -> Result<u64> {
        match &self.bytes {
            Bytes::Open(file, base) => {
                Ok(Identity::of(file, &self.path)?.len.saturating_sub(*base).min(self.len))
            }
            Bytes::Named(about) => {
                let now = Identity::at(&self.path)?;
                Ok(now.filter(|now| now == about).map_or(0, |now| now.len))
            }
            Bytes::Log(inode) => {
                let now = Identity::at(&self.path)?;
                Ok(now.filter(|now| now.inode == *inode).map_or(0, |now| now.len.min(self.len)))
            }
        }
    }

    /// Is the file still as long as it was? Badger truncates a file before it unlinks it, and never makes it longer again.
    pub(super) fn is_whole(&self) -> Result<bool> {
        Ok(self.len_now()? >= self.len)
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
        let open = Blob::open(&path).unwrap();
        let named = Blob::named(&path, Identity::at(&path).unwrap().unwrap());
        for blob in [&open, &named] {
            let mut bytes = [0; 4];
            blob.read(3, &mut bytes).unwrap();
            assert_eq!((&bytes, blob.len(), blob.path()), (b"3456", 10, &*path));
            assert_eq!(blob.read_some(8, &mut bytes).unwrap(), 2);
            assert_eq!(blob.read_some(80, &mut bytes).unwrap(), 0);
            assert!(blob.is_whole().unwrap());
        }
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        for (blob, code) in [(&open, "damaged"), (&named, "missing")] {
            let error = blob.read(3, &mut [0; 4]).unwrap_err();
            assert_eq!((error.code(), error.path()), (code, Some(&*path)));
            assert!(!blob.is_whole().unwrap());
        }
        assert_eq!(Blob::open(&folder.path().join("no")).unwrap_err().code(), "missing");
        assert_eq!(Blob::open(folder.path()).unwrap_err().code(), "damaged");
    }

    #[test]
    fn a_part_ends_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_file(&path, b"0123456789", Replace::Never).unwrap();
        let part = Blob::part(Arc::new(File::open(&path).unwrap()), 2, 5, &path);
        let mut bytes = [0; 4];
        part.read(1, &mut bytes).unwrap();
        assert_eq!((&bytes, part.len()), (b"3456", 5));
        assert_eq!(part.read(2, &mut bytes).unwrap_err().offset(), Some(2));
        assert_eq!(part.next_data(1).unwrap(), Some((1, 5)));
        assert!(part.is_whole().unwrap());
    }
}
