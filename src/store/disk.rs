//! What the store asks of the disk besides RocksDB's own files.

use crate::error::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a private directory, or takes one that is there and empty.
pub(super) fn fresh_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::from_io(error, "create a directory", path));
        }
        _ => {}
    }
    let mut names =
        std::fs::read_dir(path).map_err(|error| Error::from_io(error, "read a directory", path))?;
    if names.next().is_some() {
        return Err(Error::exists("expected an empty directory, found files in it").at_path(path));
    }
    Ok(())
}

/// A private file that is new.
pub(super) fn new_file(path: &Path) -> Result<File> {
    let open = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    open.map_err(|error| Error::from_io(error, "create a file", path))
}

/// Writes a small file beside itself and renames it into place; durable when this returns.
pub(super) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    remove_file(&part)?;
    let mut file = new_file(&part)?;
    let write = file.write_all(bytes).and_then(|()| file.sync_all());
    write.map_err(|error| Error::from_io(error, "write a file", &part))?;
    rustix::fs::rename(&part, path).map_err(|errno| Error::from_io(errno.into(), "rename a file", &part))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::from_io(error, "remove a file", path))
        }
        _ => Ok(()),
    }
}

/// Removes a directory of files, if it is there.
pub(super) fn remove_flat_dir(path: &Path) -> Result<()> {
    let names = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::from_io(error, "read a directory", path)),
        Ok(names) => names,
    };
    for name in names {
        let name = name.map_err(|error| Error::from_io(error, "read a directory", path))?;
        remove_file(&name.path())?;
    }
    std::fs::remove_dir(path).map_err(|error| Error::from_io(error, "remove a directory", path))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(|error| Error::from_io(error, "sync a directory", path))
}

/// How a [`DirLock`] is shared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Hold {
    /// Any number of these at once.
    Shared,
    /// One, and no shared ones.
    Alone,
}

/// An advisory lock on a directory itself: it changes nothing in it, so readers can take it too.
///
/// A reader shares it, and whoever rewrites the store's files holds it alone: an open reader would find files gone.
#[derive(Debug)]
pub(super) struct DirLock {
    _dir: File,
}

impl DirLock {
    /// Takes the lock, or `None` when someone else's stands against it.
    pub(super) fn take(path: &Path, hold: Hold) -> Result<Option<Self>> {
        let dir = File::open(path).map_err(|error| Error::from_io(error, "open a directory", path))?;
        let operation = match hold {
            Hold::Shared => FlockOperation::NonBlockingLockShared,
            Hold::Alone => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(&dir, operation) {
            Ok(()) => Ok(Some(Self { _dir: dir })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(Error::from_io(errno.into(), "lock a directory", path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_a_rewriter_is_alone() {
        let dir = tempfile::tempdir().unwrap();
        let take = |hold| DirLock::take(dir.path(), hold).unwrap();
        let (one, two) = (take(Hold::Shared), take(Hold::Shared));
        assert!(one.is_some() && two.is_some() && take(Hold::Alone).is_none());
        drop((one, two));
        let alone = take(Hold::Alone);
        assert!(alone.is_some() && take(Hold::Shared).is_none());
    }

    #[test]
    fn a_fresh_directory_is_private_and_empty() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        fresh_dir(&path).unwrap();
        fresh_dir(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        replace_file(&path.join("x"), b"1").unwrap();
        assert_eq!(fresh_dir(&path).unwrap_err().code(), "exists");
        remove_flat_dir(&path).unwrap();
        remove_flat_dir(&path).unwrap();
        assert!(!path.exists());
    }
}
