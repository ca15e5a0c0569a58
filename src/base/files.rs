//! Reading and copying files that another process works with.

use crate::error::{Error, Result};
use rustix::fs::{Advice, CWD, FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which file it is, and whether it has changed: two that are equal have the same bytes, unless somebody goes to great lengths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The file system and the inode.
    pub inode: (u64, u64),
    /// How long it is.
    pub len: u64,
    modified: (i64, i64),
}

impl Identity {
    /// Of an open file, which errors call `path`.
    pub fn of(file: &File, path: &Path) -> Result<Self> {
        let about = file.metadata().map_err(|error| Error::from_io(error, "look at it", path))?;
        Ok(Self::from(&about))
    }

    /// Of what is at `path`; `None` when nothing is.
    pub fn at(path: &Path) -> Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(about) => Ok(Some(Self::from(&about))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::from_io(error, "look at it", path)),
        }
    }
}

impl From<&Metadata> for Identity {
    fn from(about: &Metadata) -> Self {
        Self {
            inode: (about.dev(), about.ino()),
            len: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
        }
    }
}

/// Opens a file for reading and leaves no trace of it where that is allowed: not even the time of the last access. Does not wait for the
/// other end of a pipe.
pub fn open_quietly(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = match rustix::fs::openat(CWD, path, flags | OFlags::NOATIME, Mode::empty()) {
        // Only its owner may.
        Err(Errno::PERM) => rustix::fs::openat(CWD, path, flags, Mode::empty()),
        opened => opened,
    };
    opened.map(File::from).map_err(|errno| Error::from_io(errno.into(), "open it", path))
}

/// The next bytes at or behind `offset` that are no hole, from where to where; `None` when only holes follow. A file system that keeps no
/// holes answers with all that follows. Moves the file's cursor, so `file` is one that is read by position; errors call it `path`.
pub fn next_data(file: &File, offset: u64, path: &Path) -> Result<Option<(u64, u64)>> {
    let failed = |errno: Errno| Error::from_io(errno.into(), "look for data in it", path);
    let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Ok(end) => Ok(Some((start, end)).filter(|(start, end)| start < end)),
        // It was cut in between.
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// Can what `from` holds be shared with `to`, an empty file, so that a copy costs neither time nor room? `to` is empty afterwards. `None`
/// where the file system has no room to answer.
pub fn can_share(from: &File, to: &File) -> Option<bool> {
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Some(to.set_len(0).is_ok()),
        Err(Errno::NOSPC | Errno::DQUOT | Errno::IO) => None,
        Err(_) => Some(false),
    }
}

/// Puts `len` bytes of `from` at `at` of `to`, where the file system shares them; how many bytes it did.
pub fn share(from: &File, to: &File, at: u64, len: u64) -> u64 {
    let (mut read, mut write) = (0, at);
    while read < len {
        let left = usize::try_from(len - read).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), left) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    read
}

/// Gives the room of these bytes back; they read as zeros from then on. Where that cannot be done, nothing happens.
pub fn punch(file: &File, at: u64, len: u64) {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let _ = rustix::fs::fallocate(file, flags, at, len);
}

/// What the kernel keeps of files lies in pieces of up to this size, each at a multiple of its own, and is given up in whole pieces.
const FOLIO: u64 = 2 << 20;

/// Gives up what is cached of these bytes, whatever was before them in the same piece included: for bytes that were read or written in order.
/// The kernel keeps what some process has mapped; what is not written yet it begins to write, and keeps this time.
pub fn uncache(file: &File, at: u64, len: u64) {
    let begin = at - at % FOLIO;
    if let Some(len) = NonZeroU64::new(at.saturating_add(len) - begin).filter(|_| len > 0) {
        let _ = rustix::fs::fadvise(file, begin, Some(len), Advice::DontNeed);
    }
}

/// How much memory could be had without pushing out what is in use (`MemAvailable`); `None` where the system does not say.
pub fn available_memory() -> Option<u64> {
    let about = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = about.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// The kernel's number for the kind of file system that `path` is on (`f_type` of `statfs`).
pub fn file_system(path: &Path) -> Result<u64> {
    let about = rustix::fs::statfs(path)
        .map_err(|errno| Error::from_io(errno.into(), "ask for its file system", path))?;
    // The type differs between machines; the numbers have 32 bits.
    #[expect(clippy::cast_sign_loss, reason = "the bits count")]
    Ok(about.f_type as u64 & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::durable::{Replace, write_file};
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    #[test]
    fn every_byte_that_was_written_is_in_some_data() {
        let file = tempfile::tempfile().unwrap();
        let path = Path::new("f");
        assert_eq!(next_data(&file, 0, path).unwrap(), None);
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"x", 5).unwrap();
        file.write_all_at(b"y", 33 << 20).unwrap();
        let (mut at, mut found) = (0, Vec::new());
        while let Some((start, end)) = next_data(&file, at, path).unwrap() {
            let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
            file.read_exact_at(&mut bytes, start).unwrap();
            let places = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
            found.extend(places.map(|(place, byte)| (start + place as u64, *byte)));
            at = end;
        }
        assert_eq!(found, [(5, b'x'), (33 << 20, b'y')]);
    }

    #[test]
    fn a_changed_file_is_another_and_a_pipe_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        assert_eq!(Identity::at(&path).unwrap(), None);
        write_file(&path, b"one", Replace::Never).unwrap();
        let first = Identity::at(&path).unwrap().unwrap();
        let mut text = String::new();
        let mut file = open_quietly(&path).unwrap();
        assert_eq!(Identity::of(&file, &path).unwrap(), first);
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), Identity::at(&path).unwrap()), ("one", Some(first)));
        write_file(&path, b"two", Replace::Always).unwrap();
        assert_ne!(Identity::at(&path).unwrap(), Some(first));
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success() && open_quietly(&pipe).is_ok());
        assert_eq!(open_quietly(&folder.path().join("no")).unwrap_err().code(), "missing");
    }

    #[test]
    fn the_system_says_how_much_memory_there_is() {
        assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn what_is_shared_is_equal() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        from.write_all_at(&bytes, 0).unwrap();
        // Also where the kernel has to copy.
        let _ = can_share(&from, &to);
        assert_eq!(to.metadata().unwrap().len(), 0);
        assert_eq!(share(&from, &to, 1 << 16, bytes.len() as u64), bytes.len() as u64);
        let mut found = vec![0; bytes.len()];
        to.read_exact_at(&mut found, 1 << 16).unwrap();
        assert!(found == bytes);
        punch(&to, 1 << 16, 4096);
        uncache(&to, 0, 0);
        to.read_exact_at(&mut found, 1 << 16).unwrap();
        assert!(found[..4096].iter().all(|byte| *byte == 0) && found[4096..] == bytes[4096..]);
    }
}
