//! The one door to the disk: whatever we leave there exists whole or not at all, is private, and survives a power cut.
//!
//! | What             | While it is made                            | Then                                              |
//! |------------------|---------------------------------------------|---------------------------------------------------|
//! | a file           | `<target>.part`, 0600, see [`PartFile`]     | renamed, [`Replace`] says whether over another one |
//! | a directory tree | `<dest>.part-<random>`, 0700, see [`PartDir`] | renamed, or exchanged with what was there         |
//!
//! A part is held by a lock (`flock`) while somebody works on it and removed when that one gives up. What a killed run leaves
//! is unlocked, which is how the next run on the same target knows that it may clear it; a locked one is another run's.
//! Everything is synced before it gets its name, and the folder after it. Nobody looks whether a name is free and then
//! takes it: names are taken by calls that fail when they are not free.
//!
//! A target that is a symbolic link is refused: replacing it would leave the data on another disk than the operator chose,
//! and following it would put the part there without being asked.

mod dir;
mod file;
mod grow;
mod owner;
mod place;
mod writeback;

pub use dir::{DirLock, PartDir, private_dir, remove_tree, sync_tree};
pub use file::{FileLock, PartFile, remove_file, write_file};
pub use grow::GrowingFile;
pub use owner::Owner;
pub use place::{Replace, rename, with_suffix};

use crate::error::{Error, Result};
use std::path::Path;

/// How many bytes an unprivileged writer can still put on the file system of `path`; what is not there yet counts as
/// its nearest parent that is.
pub fn free_space(path: &Path) -> Result<u64> {
    let mut at = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        match rustix::fs::statvfs(at) {
            Ok(stat) => return Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
            Err(rustix::io::Errno::NOENT) => match at.parent() {
                Some(parent) if parent.as_os_str().is_empty() => at = Path::new("."),
                Some(parent) => at = parent,
                None => return Err(place::system(rustix::io::Errno::NOENT, "ask for free space", path)),
            },
            Err(errno) => return Err(place::system(errno, "ask for free space", path)),
        }
    }
}

/// Fails before anything is written when `bytes` will not fit where `path` is.
pub fn require_space(path: &Path, bytes: u64) -> Result<()> {
    let free = free_space(path)?;
    if free >= bytes {
        return Ok(());
    }
    Err(Error::no_space(format!("expected {bytes} bytes of free space, found {free}"))
        .at_path(path)
        .with_errno(rustix::io::Errno::NOSPC.raw_os_error())
        .with_hint(format!("free {} bytes there, or choose another place", bytes - free)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_asked_of_the_nearest_parent_and_said_in_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        assert!(free_space(&deep).unwrap() > 0);
        assert!(require_space(&deep, 1).is_ok());
        let error = require_space(&deep, u64::MAX).unwrap_err();
        assert_eq!((error.code(), error.errno()), ("no-space", Some(28)));
        assert!(error.what().starts_with("expected 18446744073709551615 bytes of free space, found "));
    }
}
