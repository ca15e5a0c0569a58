//! Directories: the part that becomes the target or changes places with it, and Badger's lock on a directory.

use super::file::busy;
use super::owner::Owner;
use super::place::{Identity, Means, Place, Replace, There, exists, sync_folder, system};
use crate::error::{Error, Result};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A part whose random name is taken, or that a clearing run took away, is made again under another.
const ATTEMPTS: u32 = 100;

/// A directory that is not there yet: `<dest>.part-<random>`, which [`commit`](PartDir::commit) and [`swap`](PartDir::swap)
/// rename and dropping removes with all that is in it.
///
/// Its lock is the one Badger takes on a directory, so that no node starts on a half-built one; it is held until the value
/// is dropped. Its random name lets a leftover be cleared at leisure while another run builds.
#[derive(Debug)]
pub struct PartDir {
    dest: Place,
    part: Place,
    identity: Identity,
    /// Closed, and so given back, after `drop` has removed what it guards.
    lock: File,
    owner: Option<Owner>,
    done: bool,
}

impl PartDir {
    /// Makes a part of `dest` after clearing those that killed runs left.
    pub fn create(dest: &Path) -> Result<Self> {
        let dest = Place::of(dest)?;
        match dest.there()? {
            There::Nothing | There::Folder(_) => {}
            There::File(_) | There::Other => {
                return Err(exists("a directory or nothing", "a file", dest.path()));
            }
            There::Link => {
                return Err(exists("a directory or nothing", "a symbolic link", dest.path())
                    .with_hint("name the directory that it points to"));
            }
        }
        clear_leftovers(&dest)?;
        for _ in 0..ATTEMPTS {
            let part = dest.sibling(&format!(".part-{}", random_hex()?))?;
            match rustix::fs::mkdirat(part.folder(), part.name(), Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(system(errno, "make it", part.path())),
            }
            if let Some((lock, identity)) = hold(&part)? {
                rustix::fs::fchmod(&lock, Mode::RWXU)
                    .map_err(|errno| system(errno, "make it private", part.path()))?;
                return Ok(Self { dest, part, identity, lock, owner: None, done: false });
            }
        }
        Err(busy(dest.path()))
    }

    /// Where to build.
    pub fn path(&self) -> &Path {
        self.part.path()
    }

    /// Where it will be.
    pub fn dest(&self) -> &Path {
        self.dest.path()
    }

    /// Says who shall own it. The directory itself is given at once, so that what is not allowed fails before the work;
    /// what is in it follows when it is committed.
    pub fn set_owner(&mut self, owner: Owner) -> Result<()> {
        owner.take(self.part.path())?;
        self.owner = Some(owner);
        Ok(())
    }

    /// Makes all that is in it durable and gives it the name of the target, where nothing may be.
    pub fn commit(self) -> Result<()> {
        self.commit_by(Means::Flags)
    }

    fn commit_by(mut self, means: Means) -> Result<()> {
        self.seal()?;
        self.part.rename(&self.dest, Replace::Never, means)?;
        self.done = true;
        Ok(())
    }

    /// Makes all that is in it durable and puts it in the place of the directory that `old` holds.
    ///
    /// With `keep`, the old one stays as `<dest>.replaced-<UTC>`, whose path comes back. Else it is removed, and a path comes
    /// back only if it could not be: the swap itself has been done.
    pub fn swap(self, old: &DirLock, keep: bool) -> Result<Option<PathBuf>> {
        self.swap_by(old, keep, Means::Flags)
    }

    fn swap_by(mut self, old: &DirLock, keep: bool, means: Means) -> Result<Option<PathBuf>> {
        self.seal()?;
        if keep { self.swap_keeping(old, means).map(Some) } else { self.swap_removing(old, means) }
    }

    /// The new directory first takes the name that the old one shall have, then the two change places: so at every
    /// moment the old data stands under a name that no run ever clears.
    fn swap_keeping(&mut self, old: &DirLock, means: Means) -> Result<PathBuf> {
        if means == Means::Flags {
            let aside = self.rename_aside(&self.part, Means::Flags)?;
            let exchanged = aside.exchange(&self.dest);
            match exchanged {
                Ok(true) if aside.there()? == There::Folder(old.identity) => {
                    self.done = true;
                    return Ok(aside.path().to_owned());
                }
                // Not the directory that was locked: it goes back to where it was.
                Ok(true) => {
                    aside.exchange(&self.dest)?;
                    aside.rename(&self.part, Replace::Never, Means::Flags)?;
                    return Err(self.changed());
                }
                Ok(false) => aside.rename(&self.part, Replace::Never, Means::Flags)?,
                // Exchanged, and only the sync of the folder failed: the old directory has its lasting name already.
                Err(error) if aside.there()? == There::Folder(old.identity) => {
                    self.done = true;
                    let kept = aside.path().display();
                    return Err(error.with_hint(format!(
                        "the swap is done but may not outlive a power cut; the old directory is {kept}"
                    )));
                }
                Err(error) => {
                    aside.rename(&self.part, Replace::Never, Means::Flags)?;
                    return Err(error);
                }
            }
        }
        self.swap_by_two_renames(old)
    }

    fn swap_removing(&mut self, old: &DirLock, means: Means) -> Result<Option<PathBuf>> {
        if means == Means::Flags && self.part.exchange(&self.dest)? {
            if self.part.there()? != There::Folder(old.identity) {
                self.part.exchange(&self.dest)?;
                return Err(self.changed());
            }
            self.done = true;
            // Killed here, the old directory is a leftover under the part's name, and the next run clears it.
            let aside = self.part.path().to_owned();
            return Ok(remove_tree(&aside).is_err().then_some(aside));
        }
        let aside = self.swap_by_two_renames(old)?;
        Ok(remove_tree(&aside).is_err().then_some(aside))
    }

    /// Where the file system cannot exchange: for a moment nothing is at the target, and the old directory is whole beside it.
    fn swap_by_two_renames(&mut self, old: &DirLock) -> Result<PathBuf> {
        if self.dest.there()? != There::Folder(old.identity) {
            return Err(self.changed());
        }
        let aside = self.rename_aside(&self.dest, Means::Flags)?;
        if let Err(error) = self.part.rename(&self.dest, Replace::Never, Means::Flags) {
            aside.rename(&self.dest, Replace::Never, Means::Flags)?;
            return Err(error);
        }
        self.done = true;
        Ok(aside.path().to_owned())
    }

    /// Renames `from` to the first free of `<dest>.replaced-<UTC>`, `…-2`, `…-3`.
    fn rename_aside(&self, from: &Place, means: Means) -> Result<Place> {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut number = 1;
        loop {
            let suffix = match number {
                1 => format!(".replaced-{now}"),
                _ => format!(".replaced-{now}-{number}"),
            };
            let aside = self.dest.sibling(&suffix)?;
            match from.rename(&aside, Replace::Never, means) {
                Ok(()) => return Ok(aside),
                Err(error) if error.code() == "exists" && number < ATTEMPTS => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn changed(&self) -> Error {
        exists("the directory that this run has locked", "another one", self.dest.path())
            .with_hint("something else replaces it at the same time; nothing was changed")
    }

    fn seal(&self) -> Result<()> {
        if self.part.there()? != There::Folder(self.identity) {
            return Err(Error::io(
                "expected the part that this run builds, found that it was moved or removed",
            )
            .at_path(self.part.path()));
        }
        visit(self.part.path(), &mut |path, is_folder| {
            if let Some(owner) = self.owner {
                owner.take(path)?;
            }
            sync(path, is_folder)
        })
    }
}

impl Drop for PartDir {
    fn drop(&mut self) {
        if !self.done && self.part.there().is_ok_and(|there| there == There::Folder(self.identity)) {
            // Best effort: the next run clears what cannot be removed now. The lock is still held.
            let _ = remove_tree(self.part.path());
        }
        // By name, as a DirLock.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::io("cannot draw random bytes for a name").caused_by(error))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

/// Opens and locks a directory that was just made or found; `None` when somebody holds or has removed it.
fn hold(place: &Place) -> Result<Option<(File, Identity)>> {
    let file = match place.open(OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(system(errno, "open it", place.path())),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(system(errno, "lock it", place.path())),
    }
    let identity = Identity::of(&file, place.path())?;
    Ok((place.there()? == There::Folder(identity)).then_some((file, identity)))
}

/// Removes the parts of `dest` that nobody holds: names that [`random_hex`] makes, and no others.
fn clear_leftovers(dest: &Place) -> Result<()> {
    let parent =
        dest.path().parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = dest.sibling(".part-")?.name().to_owned();
    let listed = parent.read_dir().map_err(|error| Error::from_io(error, "list the folder", parent))?;
    for entry in listed {
        let name = entry.map_err(|error| Error::from_io(error, "list the folder", parent))?.file_name();
        let random = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        if !random.is_some_and(|hex| hex.len() == 16 && hex.iter().all(u8::is_ascii_hexdigit)) {
            continue;
        }
        let leftover = Place::of(&parent.join(name))?;
        if matches!(leftover.there()?, There::Folder(_))
            && hold(&leftover)?.is_some_and(|held| {
                // The lock is held while it is removed. What cannot be removed costs room, not this run.
                let _ = remove_tree(leftover.path());
                drop(held);
                true
            })
        {
            tracing::info!(path = %leftover.path().display(), "cleared what an earlier run left");
        }
    }
    Ok(())
}

/// Makes a directory that only its owner can enter; an error when something is there.
pub fn private_dir(path: &Path) -> Result<()> {
    let place = Place::of(path)?;
    match rustix::fs::mkdirat(place.folder(), place.name(), Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(exists("nothing at this name", "something that is there", path)),
        Err(errno) => return Err(system(errno, "make it", path)),
    }
    let made = place
        .open(OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        .map_err(|errno| system(errno, "open it", path))?;
    rustix::fs::fchmod(&made, Mode::RWXU).map_err(|errno| system(errno, "make it private", path))?;
    place.sync_folder()
}

/// Makes every file and directory below `dir`, and `dir`, durable.
pub fn sync_tree(dir: &Path) -> Result<()> {
    visit(dir, &mut sync)
}

fn sync(path: &Path, is_folder: bool) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| system(errno, "open it", path))?;
    if is_folder {
        return sync_folder(&opened, path);
    }
    rustix::fs::fsync(&opened).map_err(|errno| system(errno, "make it durable", path))
}

/// Calls `each` for every file and directory at and below `dir`, a directory after what is in it. Symbolic links, pipes and the
/// like are passed by: nothing of ours makes them.
fn visit(dir: &Path, each: &mut dyn FnMut(&Path, bool) -> Result<()>) -> Result<()> {
    // A stack of our own: a tree may be deeper than the thread's.
    let mut stack = vec![(dir.to_owned(), false)];
    while let Some((path, entered)) = stack.pop() {
        if entered {
            each(&path, true)?;
            continue;
        }
        let listed = path.read_dir().map_err(|error| Error::from_io(error, "list the folder", &path))?;
        stack.push((path.clone(), true));
        for entry in listed {
            let entry = entry.map_err(|error| Error::from_io(error, "list the folder", &path))?;
            let kind =
                entry.file_type().map_err(|error| Error::from_io(error, "look at it", entry.path()))?;
            if kind.is_dir() {
                stack.push((entry.path(), false));
            } else if kind.is_file() {
                each(&entry.path(), false)?;
            }
        }
    }
    Ok(())
}

/// Removes a directory and all that is in it; symbolic links are removed, not followed. That there is none is fine.
pub fn remove_tree(dir: &Path) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is the wrapper to use instead")]
    match std::fs::remove_dir_all(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::from_io(error, "remove the directory", dir)),
    }
    Place::of(dir)?.sync_folder()
}

/// Badger's own lock on a directory: `flock` on the directory itself, never waited for.
///
/// Not to be tried on a directory that a node may be about to open: even a lock held for a microsecond makes the node fail.
#[derive(Debug)]
pub struct DirLock {
    identity: Identity,
    file: File,
}

/// Given back by name, not by closing: a process that another thread is forking at this moment has a copy of the descriptor until it
/// runs its own program, and with it the lock.
impl Drop for DirLock {
    fn drop(&mut self) {
        // Closing follows, which gives it back as well.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl DirLock {
    /// As a writer: nobody else has it open.
    pub fn exclusive(dir: &Path) -> Result<Self> {
        Self::take(dir, FlockOperation::NonBlockingLockExclusive)
    }

    /// As a reader: nobody writes it.
    pub fn shared(dir: &Path) -> Result<Self> {
        Self::take(dir, FlockOperation::NonBlockingLockShared)
    }

    fn take(dir: &Path, operation: FlockOperation) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, dir, flags, Mode::empty())
            .map(File::from)
            .map_err(|errno| system(errno, "open the directory", dir))?;
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Self { identity: Identity::of(&file, dir)?, file }),
            Err(Errno::WOULDBLOCK) => {
                Err(Error::locked("expected a directory that nobody has open, found one that is locked")
                    .at_path(dir)
                    .with_hint("stop the node or the run that uses it"))
            }
            Err(errno) => Err(system(errno, "lock the directory", dir)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::write_file;
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn build(dest: &Path, content: &[u8]) -> PartDir {
        let part = PartDir::create(dest).unwrap();
        private_dir(&part.path().join("sub")).unwrap();
        write_file(&part.path().join("sub/f"), content, Replace::Never).unwrap();
        part
    }

    fn content(dir: &Path) -> Vec<u8> {
        std::fs::read(dir.join("sub/f")).unwrap()
    }

    #[test]
    fn a_part_is_private_and_becomes_the_target_or_nothing() {
        for means in [Means::Flags, Means::Link, Means::Claim] {
            let folder = tempfile::tempdir().unwrap();
            let dest = folder.path().join("db");
            drop(build(&dest, b"dropped"));
            assert!(names(folder.path()).is_empty());
            let (first, second) = (build(&dest, b"first"), build(&dest, b"second"));
            assert_eq!(first.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
            first.commit_by(means).unwrap();
            assert_eq!(second.commit_by(means).unwrap_err().code(), "exists");
            assert_eq!((names(folder.path()), content(&dest)), (vec!["db".to_owned()], b"first".to_vec()));
        }
    }

    #[test]
    fn a_swap_keeps_the_old_one_or_removes_it() {
        for means in [Means::Flags, Means::Claim] {
            let folder = tempfile::tempdir().unwrap();
            let dest = folder.path().join("db");
            build(&dest, b"one").commit().unwrap();
            let old = DirLock::exclusive(&dest).unwrap();
            let kept = build(&dest, b"two").swap_by(&old, true, means).unwrap().unwrap();
            assert_eq!((content(&dest), content(&kept)), (b"two".to_vec(), b"one".to_vec()));
            let old = DirLock::exclusive(&dest).unwrap();
            let again = build(&dest, b"three").swap_by(&old, true, means).unwrap().unwrap();
            assert_ne!(kept, again);
            let old = DirLock::exclusive(&dest).unwrap();
            assert_eq!(build(&dest, b"four").swap_by(&old, false, means).unwrap(), None);
            assert_eq!((content(&dest), content(&again)), (b"four".to_vec(), b"two".to_vec()));
            let stem = kept.file_name().unwrap().to_str().unwrap();
            assert!(stem.starts_with("db.replaced-2") && stem.ends_with('Z'), "{stem}");
            assert_eq!(names(folder.path()).len(), 3);
        }
    }

    #[test]
    fn a_swap_with_another_directory_than_the_locked_one_changes_nothing() {
        for (means, keep) in [(Means::Flags, true), (Means::Flags, false), (Means::Claim, true)] {
            let folder = tempfile::tempdir().unwrap();
            let (dest, gone) = (folder.path().join("db"), folder.path().join("gone"));
            build(&dest, b"one").commit().unwrap();
            let old = DirLock::exclusive(&dest).unwrap();
            let part = build(&dest, b"two");
            super::super::rename(&dest, &gone, Replace::Never).unwrap();
            build(&dest, b"new").commit().unwrap();
            let error = part.swap_by(&old, keep, means).unwrap_err();
            assert_eq!(error.what(), "expected the directory that this run has locked, found another one");
            assert_eq!((content(&dest), content(&gone)), (b"new".to_vec(), b"one".to_vec()));
            assert_eq!(names(folder.path()), ["db", "gone"]);
        }
    }

    #[test]
    fn a_swap_with_nothing_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("db");
        build(&dest, b"one").commit().unwrap();
        let old = DirLock::exclusive(&dest).unwrap();
        let part = build(&dest, b"two");
        remove_tree(&dest).unwrap();
        assert_eq!(part.swap(&old, true).unwrap_err().code(), "missing");
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn only_unlocked_parts_of_this_target_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("db");
        for name in ["db.part-0123456789abcdef", "db.part-mine", "db2.part-0123456789abcdef", "db.replaced-x"]
        {
            private_dir(&folder.path().join(name)).unwrap();
        }
        let running = build(&dest, b"running");
        let mut expected = vec!["db.part-mine", "db.replaced-x", "db2.part-0123456789abcdef"];
        expected.push(running.path().file_name().unwrap().to_str().unwrap());
        expected.sort_unstable();
        drop(PartDir::create(&dest).unwrap());
        assert_eq!(names(folder.path()), expected);
    }

    #[test]
    fn what_may_not_be_a_target_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_file(&at("file"), b"", Replace::Never).unwrap();
        symlink(folder.path(), at("link")).unwrap();
        let code = |path: &Path| PartDir::create(path).unwrap_err().code();
        assert_eq!((code(&at("file")), code(&at("link"))), ("exists", "exists"));
        assert_eq!((code(&at("no/db")), code(Path::new("/"))), ("missing", "invalid-argument"));
        assert_eq!(code(&at(&"n".repeat(250))), "invalid-argument");
        assert_eq!(private_dir(&at("file")).unwrap_err().code(), "exists");
    }

    #[test]
    fn badgers_lock_excludes_writers_and_lets_readers_share() {
        let folder = tempfile::tempdir().unwrap();
        let one = DirLock::shared(folder.path()).unwrap();
        let two = DirLock::shared(folder.path()).unwrap();
        let error = DirLock::exclusive(folder.path()).unwrap_err();
        assert_eq!(error.what(), "expected a directory that nobody has open, found one that is locked");
        drop((one, two));
        let alone = DirLock::exclusive(folder.path()).unwrap();
        assert_eq!(DirLock::shared(folder.path()).unwrap_err().code(), "locked");
        drop(alone);
        assert_eq!(DirLock::shared(&folder.path().join("no")).unwrap_err().code(), "missing");
    }

    #[test]
    fn the_owner_is_the_wanted_one_else_that_of_what_is_replaced_else_the_parents() {
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("db");
        let about = folder.path().metadata().unwrap();
        let mine = Owner { uid: about.uid(), gid: about.gid() };
        assert_eq!(Owner::of_target(&dest, None).unwrap(), mine);
        let wanted = Owner { uid: 4321, gid: 1234 };
        assert_eq!(Owner::of_target(&dest, Some(wanted)).unwrap(), wanted);
        let mut part = build(&dest, b"x");
        match part.set_owner(wanted) {
            Ok(()) => {
                part.commit().unwrap();
                for path in [dest.clone(), dest.join("sub"), dest.join("sub/f")] {
                    let about = path.metadata().unwrap();
                    assert_eq!((about.uid(), about.gid()), (4321, 1234));
                }
                assert_eq!(Owner::of_target(&dest, None).unwrap(), wanted);
            }
            Err(error) => {
                assert_eq!(error.code(), "denied");
                assert!(error.hint().unwrap().contains("as user 4321 of group 1234"));
            }
        }
    }
}
