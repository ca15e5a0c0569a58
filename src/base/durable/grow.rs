//! Files that grow in a directory which only its writer knows: [`PartDir`](super::PartDir) gives that its name.

use super::place::system;
use super::writeback::{STRIDE, Writeback};
use crate::error::{Error, Result};
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A new file, readable for others as far as the umask lets it be. Not buffered.
///
/// It goes to the disk while it is written, so that [`finish`](GrowingFile::finish) has little left to wait for.
#[derive(Debug)]
pub struct GrowingFile {
    file: File,
    path: PathBuf,
    position: u64,
    writeback: Option<Writeback>,
}

impl GrowingFile {
    /// Makes it; an error when something is there.
    pub fn create(path: &Path) -> Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        let file =
            rustix::fs::openat(CWD, path, flags, mode).map_err(|errno| system(errno, "make it", path))?;
        Ok(Self { file: file.into(), path: path.to_owned(), position: 0, writeback: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes were written.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes all of `bytes`; the error says which file.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|error| Error::from_io(error, "write it", &self.path))
    }

    /// Makes it durable.
    pub fn finish(mut self) -> Result<()> {
        let written = self.writeback.take().map_or(Ok(()), Writeback::end);
        let synced = written.and_then(|()| self.file.sync_all());
        synced.map_err(|error| Error::from_io(error, "make it durable", &self.path))
    }

    fn wake(&mut self) {
        if self.writeback.is_none() {
            // Without it the sync at the end takes longer, and that is all.
            self.writeback = Writeback::start(&self.file).ok();
        }
        if let Some(writeback) = &self.writeback {
            writeback.wake();
        }
    }
}

impl Write for GrowingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        let before = self.position;
        self.position += u64::try_from(written).unwrap_or(u64::MAX);
        if before / STRIDE < self.position / STRIDE {
            self.wake();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn grows_and_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000001.sst");
        let mut file = GrowingFile::create(&path).unwrap();
        let piece = vec![7; 1 << 20];
        (0..40).for_each(|_| file.append(&piece).unwrap());
        assert_eq!((file.position(), file.path()), (40 << 20, &*path));
        file.finish().unwrap();
        let about = std::fs::metadata(&path).unwrap();
        assert_eq!((about.len(), about.permissions().mode() & 0o133), (40 << 20, 0));
        assert_eq!(GrowingFile::create(&path).unwrap_err().code(), "exists");
    }

    #[test]
    fn a_full_disk_is_named() {
        let mut full = GrowingFile {
            file: File::options().write(true).open("/dev/full").unwrap(),
            path: "full".into(),
            position: 0,
            writeback: None,
        };
        let error = full.append(b"x").unwrap_err();
        assert_eq!(
            (error.code(), error.errno(), error.path()),
            ("no-space", Some(28), Some(Path::new("full")))
        );
    }
}
