//! Files: the part that becomes the target, and locks that are files.

use super::place::{Identity, Means, Place, Replace, There, exists, system};
use super::writeback::{STRIDE, Writeback};
use crate::error::{Error, Result};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
/// How often a part is made again when a run that clears leftovers takes it away between two calls of ours: each of them
/// does so once, so more than a few in a row is somebody else's doing.
const ATTEMPTS: u32 = 100;

/// A file that is not there yet: `<target>.part`, which [`commit`](PartFile::commit) renames and dropping removes.
///
/// ```
/// # use evbackup::base::durable::{PartFile, Replace};
/// # let folder = tempfile::tempdir().unwrap();
/// # let target = folder.path().join("full.badger");
/// let mut part = PartFile::create(&target)?;
/// part.append(b"frames")?;
/// assert!(!target.exists());
/// part.commit(Replace::Never)?;
/// assert_eq!(std::fs::read(&target).unwrap(), b"frames");
/// # Ok::<(), evbackup::error::Error>(())
/// ```
#[derive(Debug)]
pub struct PartFile {
    target: Place,
    part: Place,
    file: File,
    identity: Identity,
    position: u64,
    writeback: Option<Box<Writeback>>,
    /// A write or a sync has failed: what the disk holds is unknown, and a second sync would not say so.
    failed: bool,
    done: bool,
}

impl PartFile {
    /// Makes the part of `target` and locks it. A leftover of a killed run is cleared; the part of a running one is an
    /// error of [`Kind::Locked`](crate::error::Kind::Locked).
    pub fn create(target: &Path) -> Result<Self> {
        let target = Place::of(target)?;
        // Said now rather than after hours; the rename would refuse a directory too.
        match target.there()? {
            There::Nothing | There::File(_) => {}
            There::Folder(_) => return Err(exists("a file or nothing", "a directory", target.path())),
            There::Other => {
                return Err(exists("a file or nothing", "a device, a pipe or a socket", target.path()));
            }
            There::Link => {
                return Err(exists("a file or nothing", "a symbolic link", target.path())
                    .with_hint("name the file that it points to"));
            }
        }
        let part = target.sibling(".part")?;
        for _ in 0..ATTEMPTS {
            match part.open(OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, PRIVATE) {
                Ok(file) => {
                    if let Some(identity) = hold(&file, &part)? {
                        // The umask may have taken bits from the owner; it cannot have added any.
                        rustix::fs::fchmod(&file, PRIVATE)
                            .map_err(|errno| system(errno, "make it private", part.path()))?;
                        return Ok(Self {
                            target,
                            part,
                            file,
                            identity,
                            position: 0,
                            writeback: None,
                            failed: false,
                            done: false,
                        });
                    }
                }
                Err(Errno::EXIST) => clear_leftover(&part)?,
                Err(errno) => return Err(system(errno, "make it", part.path())),
            }
        }
        Err(busy(part.path()))
    }

    /// Where the file will be.
    pub fn target(&self) -> &Path {
        self.target.path()
    }

    /// Where it is until then.
    pub fn path(&self) -> &Path {
        self.part.path()
    }

    /// How many bytes were written.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes all of `bytes`; the error says which file.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let before = self.position;
        self.write_all(bytes).map_err(|error| Error::from_io(error, "write it", self.part.path()))?;
        if before / STRIDE < self.position / STRIDE {
            if self.writeback.is_none() {
                // Without it the sync at the end takes longer, and that is all.
                self.writeback = Writeback::start(&self.file).ok().map(Box::new);
            }
            if let Some(writeback) = &self.writeback {
                writeback.wake();
            }
        }
        Ok(())
    }

    /// Another descriptor with its own position, for reading back what was written.
    pub fn reader(&self) -> Result<File> {
        let file = self
            .part
            .open(OFlags::RDONLY, Mode::empty())
            .map_err(|errno| system(errno, "read it back", self.part.path()))?;
        if Identity::of(&file, self.part.path())? == self.identity { Ok(file) } else { Err(self.lost()) }
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) -> Result<()> {
        if self.failed {
            let what = "expected a file that can be written, found that an earlier write or sync had failed";
            return Err(Error::io(what).at_path(self.part.path()));
        }
        let written = self.writeback.take().map_or(Ok(()), |writeback| writeback.end());
        written.and_then(|()| self.file.sync_all()).map_err(|error| {
            self.failed = true;
            Error::from_io(error, "make it durable", self.part.path())
        })
    }

    /// Makes it durable and gives it its name. The lock that comes back is still held on the file, for those who have
    /// more names to change; on failure the target is as it was and the part is gone.
    pub fn commit(self, replace: Replace) -> Result<FileLock> {
        self.commit_by(replace, Means::Flags)
    }

    fn commit_by(mut self, replace: Replace, means: Means) -> Result<FileLock> {
        self.sync()?;
        let file =
            self.file.try_clone().map_err(|error| Error::from_io(error, "keep it open", self.path()))?;
        if self.part.there()? != There::File(self.identity) {
            return Err(self.lost());
        }
        self.part.rename(&self.target, replace, means)?;
        self.done = true;
        Ok(FileLock { file })
    }

    fn lost(&self) -> Error {
        Error::io("expected the part that this run writes, found that it was moved or removed")
            .at_path(self.part.path())
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.write(bytes) {
            Ok(written) => {
                self.position += u64::try_from(written).unwrap_or(u64::MAX);
                Ok(written)
            }
            Err(error) => {
                self.failed |= error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.done && self.part.there().is_ok_and(|there| there == There::File(self.identity)) {
            // Best effort: the next run clears what cannot be removed now.
            let _ = rustix::fs::unlinkat(self.part.folder(), self.part.name(), AtFlags::empty());
        }
    }
}

/// Locks a file that was just opened at `place`; `None` when it is no longer what the name means.
fn hold(file: &File, place: &Place) -> Result<Option<Identity>> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        // A run that takes a new part for a leftover holds it for a moment and removes it.
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(system(errno, "lock it", place.path())),
    }
    let identity = Identity::of(file, place.path())?;
    Ok((place.there()? == There::File(identity)).then_some(identity))
}

/// Removes the part of a run that is no more; an error when that run is alive.
fn clear_leftover(part: &Place) -> Result<()> {
    let file = match part.open(OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::LOOP) => {
            return Err(exists("a part of an earlier run or nothing", "a symbolic link", part.path()));
        }
        Err(errno) => return Err(system(errno, "look at what is there", part.path())),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(busy(part.path())),
        Err(errno) => return Err(system(errno, "lock it", part.path())),
    }
    match part.there()? {
        There::File(identity) if identity == Identity::of(&file, part.path())? => {
            match rustix::fs::unlinkat(part.folder(), part.name(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(system(errno, "clear what an earlier run left", part.path())),
            }
        }
        There::File(_) | There::Nothing => Ok(()),
        _ => Err(exists("a part of an earlier run or nothing", "something that is no file", part.path())),
    }
}

pub(super) fn busy(path: &Path) -> Error {
    Error::locked("expected no other run on this target, found one that is writing it")
        .at_path(path)
        .with_hint("wait for the other run, or stop it: what it leaves is cleared by the next one")
}

/// Writes a small file durably and in one piece.
pub fn write_file(target: &Path, bytes: &[u8], replace: Replace) -> Result<()> {
    let mut part = PartFile::create(target)?;
    part.append(bytes)?;
    part.commit(replace).map(drop)
}

/// Removes a file durably; that there is none is fine.
pub fn remove_file(path: &Path) -> Result<()> {
    let place = Place::of(path)?;
    match rustix::fs::unlinkat(place.folder(), place.name(), AtFlags::empty()) {
        Ok(()) => place.sync_folder(),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(system(errno, "remove it", path)),
    }
}

/// An exclusive lock on a file, held until it is dropped.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

/// Given back by name, not by closing: see [`DirLock`](super::DirLock).
impl Drop for FileLock {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl FileLock {
    /// Locks the file at `path`, made when it is not there and never removed: a lock file that comes and goes lets two
    /// runs lock two files of one name.
    pub fn exclusive(path: &Path) -> Result<Self> {
        let place = Place::of(path)?;
        let file = place
            .open(OFlags::RDWR | OFlags::CREATE, PRIVATE)
            .map_err(|errno| system(errno, "open the lock file", path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file }),
            Err(Errno::WOULDBLOCK) => {
                Err(Error::locked("expected no other run here, found one that holds the lock")
                    .at_path(path)
                    .with_hint("wait for the other run, or stop it"))
            }
            Err(errno) => Err(system(errno, "lock it", path)),
        }
    }

    /// Locks the file that `path` names, waiting up to `patience` for who holds it; `None` when there is no file.
    pub fn existing(path: &Path, patience: Duration) -> Result<Option<Self>> {
        let place = Place::of(path)?;
        let until = Instant::now() + patience;
        loop {
            let file = match place.open(OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) {
                Ok(file) => file,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP) => return Err(exists("a file", "a symbolic link", path)),
                Err(errno) => return Err(system(errno, "open it", path)),
            };
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if place.there()? == There::File(Identity::of(&file, path)?) => {
                    return Ok(Some(Self { file }));
                }
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(Errno::WOULDBLOCK) => return Err(busy(path)),
                Err(errno) => return Err(system(errno, "lock it", path)),
            }
        }
    }

    /// The locked file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Is the locked file what `path` names?
    pub fn is_at(&self, path: &Path) -> Result<bool> {
        let path: PathBuf = path.to_owned();
        Ok(Place::of(&path)?.there()? == There::File(Identity::of(&self.file, &path)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_part_is_private_readable_and_becomes_the_target() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let mut part = PartFile::create(&target).unwrap();
        assert_eq!(names(folder.path()), ["a.part"]);
        assert_eq!(part.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        part.append(b"abc").unwrap();
        let mut read = String::new();
        part.reader().unwrap().read_to_string(&mut read).unwrap();
        part.append(b"d").unwrap();
        assert_eq!((read.as_str(), part.position()), ("abc", 4));
        part.commit(Replace::Never).unwrap();
        assert_eq!(names(folder.path()), ["a"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"abcd");
    }

    #[test]
    fn a_failed_commit_leaves_the_target_and_no_part() {
        for means in [Means::Flags, Means::Link, Means::Claim] {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("a");
            write_file(&target, b"old", Replace::Never).unwrap();
            let mut part = PartFile::create(&target).unwrap();
            part.append(b"new").unwrap();
            assert_eq!(part.commit_by(Replace::Never, means).unwrap_err().code(), "exists");
            assert_eq!(std::fs::read(&target).unwrap(), b"old");
            assert_eq!(names(folder.path()), ["a"]);
            write_file(&target, b"new", Replace::Always).unwrap();
            assert_eq!(std::fs::read(&target).unwrap(), b"new");
        }
    }

    #[test]
    fn a_leftover_is_cleared_and_a_running_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        #[expect(clippy::disallowed_methods, reason = "what a killed run leaves")]
        std::fs::write(folder.path().join("a.part"), b"half").unwrap();
        let part = PartFile::create(&target).unwrap();
        assert_eq!(part.path().metadata().unwrap().len(), 0);
        let error = PartFile::create(&target).unwrap_err();
        assert_eq!(error.code(), "locked");
        assert_eq!(error.what(), "expected no other run on this target, found one that is writing it");
        drop(part);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_may_not_be_a_target_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        super::super::private_dir(&at("dir")).unwrap();
        symlink("nowhere", at("link")).unwrap();
        symlink("nowhere", at("b.part")).unwrap();
        let code = |name: &str| PartFile::create(&at(name)).unwrap_err().code();
        assert_eq!((code("dir"), code("link"), code("b")), ("exists", "exists", "exists"));
        assert_eq!((code("no/a"), code("dir/../..")), ("missing", "invalid-argument"));
        assert_eq!(code(&"n".repeat(254)), "invalid-argument");
        assert_eq!(PartFile::create(Path::new("/dev/null")).unwrap_err().code(), "exists");
        assert_eq!(names(folder.path()), ["b.part", "dir", "link"]);
    }

    #[test]
    fn a_part_that_was_taken_away_is_not_committed_nor_is_its_successor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        let part = PartFile::create(&target).unwrap();
        remove_file(part.path()).unwrap();
        let other = PartFile::create(&target).unwrap();
        assert_eq!(part.commit(Replace::Always).unwrap_err().code(), "io");
        assert_eq!(names(folder.path()), ["a.part"]);
        other.commit(Replace::Never).unwrap();
    }

    #[test]
    fn locks_exclude_and_follow_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        assert!(FileLock::existing(&path, Duration::ZERO).unwrap().is_none());
        let held = FileLock::exclusive(&path).unwrap();
        assert_eq!(FileLock::exclusive(&path).unwrap_err().code(), "locked");
        assert_eq!(FileLock::existing(&path, Duration::from_millis(5)).unwrap_err().code(), "locked");
        assert!(held.is_at(&path).unwrap());
        write_file(&path, b"another", Replace::Always).unwrap();
        assert!(!held.is_at(&path).unwrap());
        drop(FileLock::existing(&path, Duration::ZERO).unwrap().unwrap());
    }

    #[test]
    fn concurrent_runs_over_a_leftover_never_share_a_part() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        for _ in 0..200 {
            #[expect(clippy::disallowed_methods, reason = "what a killed run leaves")]
            std::fs::write(folder.path().join("a.part"), b"half").unwrap();
            let barrier = std::sync::Barrier::new(4);
            let made = std::thread::scope(|scope| {
                let one = || {
                    barrier.wait();
                    let part = PartFile::create(&target);
                    barrier.wait();
                    usize::from(part.is_ok())
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
            });
            assert_eq!(made, 1);
        }
    }
}
