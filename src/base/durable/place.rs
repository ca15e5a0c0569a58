//! A name in a folder, and how it is taken.
//!
//! The folder is opened once and all calls are relative to it, so that a folder renamed meanwhile takes its files along.

use crate::error::{Error, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// May a rename take the place of something that is there?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replace {
    /// No: that is an error of [`Kind::Exists`](crate::error::Kind::Exists), and what was there stays.
    Never,
    /// Yes: every reader sees the old one or the new one.
    Always,
}

/// What a file system offers to take a name without replacing. Tests name the weaker ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Means {
    /// `renameat2` with `RENAME_NOREPLACE` and `RENAME_EXCHANGE`.
    Flags,
    /// Hard links, which never replace.
    Link,
    /// Neither: an exclusive empty file (or directory) claims the name, then a rename replaces our own claim.
    Claim,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(file: &File, path: &Path) -> Result<Self> {
        let about = file.metadata().map_err(|error| Error::from_io(error, "look at it", path))?;
        Ok(Self { device: about.dev(), inode: about.ino() })
    }
}

/// What is at a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum There {
    Nothing,
    File(Identity),
    Folder(Identity),
    Link,
    Other,
}

/// `path` with `suffix` after its file name: `full.badger` → `full.badger.json`.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn system(errno: Errno, doing: &'static str, path: &Path) -> Error {
    let error = Error::from_io(errno.into(), doing, path);
    match errno {
        Errno::NAMETOOLONG => {
            let what = "expected a shorter name, found one that leaves no room for the suffixes of its parts";
            Error::invalid(what).at_path(path).with_errno(errno.raw_os_error()).caused_by(error)
        }
        _ => error,
    }
}

/// A name in an opened folder.
#[derive(Debug)]
pub(super) struct Place {
    folder: OwnedFd,
    folder_path: PathBuf,
    name: OsString,
    path: PathBuf,
}

impl Place {
    /// Opens the folder of `path`; whether something is at `path` is not asked.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(Error::invalid("expected a path that ends in a name").at_path(path));
        };
        // Joined again without a trailing slash, which would change what suffixes are added to.
        let (folder_path, path) = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => (parent.to_owned(), parent.join(name)),
            _ => (PathBuf::from("."), PathBuf::from(name)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, &folder_path, flags, Mode::empty())
            .map_err(|errno| system(errno, "open the folder", &folder_path))?;
        Ok(Self { folder, folder_path, name: name.to_owned(), path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Another name in the same folder.
    pub(super) fn sibling(&self, suffix: &str) -> Result<Self> {
        let mut name = self.name.clone();
        name.push(suffix);
        let folder = self
            .folder
            .try_clone()
            .map_err(|error| Error::from_io(error, "open the folder", &self.folder_path))?;
        let path = with_suffix(&self.path, suffix);
        Ok(Self { folder, folder_path: self.folder_path.clone(), name, path })
    }

    /// What is at the name; a symbolic link is not followed.
    pub(super) fn there(&self) -> Result<There> {
        let stat = match rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(There::Nothing),
            Err(errno) => return Err(system(errno, "look at it", &self.path)),
        };
        let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
        Ok(match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::RegularFile => There::File(identity),
            rustix::fs::FileType::Directory => There::Folder(identity),
            rustix::fs::FileType::Symlink => There::Link,
            _ => There::Other,
        })
    }

    /// Opens what is at the name, which is no symbolic link.
    pub(super) fn open(&self, flags: OFlags, mode: Mode) -> rustix::io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, &self.name, flags, mode).map(File::from)
    }

    /// Makes the folder's names durable.
    pub(super) fn sync_folder(&self) -> Result<()> {
        sync_folder(&self.folder, &self.folder_path)
    }

    /// Takes the name of `to`; durable when it returns.
    pub(super) fn rename(&self, to: &Place, replace: Replace, means: Means) -> Result<()> {
        let done = match replace {
            Replace::Always => rustix::fs::renameat(&self.folder, &self.name, &to.folder, &to.name),
            Replace::Never => self.rename_new(to, means),
        };
        done.map_err(|errno| taken(errno, to))?;
        to.sync_folder()?;
        if self.folder_path == to.folder_path { Ok(()) } else { self.sync_folder() }
    }

    fn rename_new(&self, to: &Place, means: Means) -> rustix::io::Result<()> {
        match means {
            Means::Flags => {
                let flags = RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(&self.folder, &self.name, &to.folder, &to.name, flags) {
                    Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.rename_new(to, Means::Link),
                    done => done,
                }
            }
            Means::Link => {
                match rustix::fs::linkat(&self.folder, &self.name, &to.folder, &to.name, AtFlags::empty()) {
                    // Killed here, both names are the same file, and the next run clears the part's.
                    Ok(()) => rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty()),
                    // A file system without links, or a directory, which never has a second name.
                    Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK | Errno::INVAL) => {
                        self.rename_new(to, Means::Claim)
                    }
                    Err(errno) => Err(errno),
                }
            }
            Means::Claim => self.rename_by_claim(to),
        }
    }

    fn rename_by_claim(&self, to: &Place) -> rustix::io::Result<()> {
        let stat = rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_folder = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
        if is_folder {
            rustix::fs::mkdirat(&to.folder, &to.name, Mode::RWXU)?;
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            drop(rustix::fs::openat(&to.folder, &to.name, flags, Mode::RUSR | Mode::WUSR)?);
        }
        let done = rustix::fs::renameat(&self.folder, &self.name, &to.folder, &to.name);
        if done.is_err() {
            // Best effort: the claim is empty, and the error that matters is the rename's.
            let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            let _ = rustix::fs::unlinkat(&to.folder, &to.name, flags);
        }
        done
    }

    /// Exchanges what is at the two names, both of which are there; false when the file system cannot.
    pub(super) fn exchange(&self, other: &Place) -> Result<bool> {
        let flags = RenameFlags::EXCHANGE;
        match rustix::fs::renameat_with(&self.folder, &self.name, &other.folder, &other.name, flags) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => return Ok(false),
            Err(errno) => return Err(system(errno, "exchange it with the new one", &other.path)),
        }
        other.sync_folder()?;
        Ok(true)
    }
}

fn taken(errno: Errno, to: &Place) -> Error {
    match errno {
        Errno::EXIST | Errno::NOTEMPTY => {
            exists("nothing at this name", "something that is there", to.path())
        }
        Errno::ISDIR => exists("a file or nothing", "a directory", to.path()),
        Errno::NOTDIR => exists("a directory or nothing", "a file", to.path()),
        errno => system(errno, "take this name", to.path()),
    }
    .with_errno(errno.raw_os_error())
}

pub(super) fn exists(expected: &str, found: &str, path: &Path) -> Error {
    Error::exists(format!("expected {expected}, found {found}"))
        .at_path(path)
        .with_errno(Errno::EXIST.raw_os_error())
}

pub(super) fn sync_folder(folder: &OwnedFd, path: &Path) -> Result<()> {
    match rustix::fs::fsync(folder) {
        // Some network file systems have no such thing as a folder's sync, and nothing better either.
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(system(errno, "make the folder durable", path)),
    }
}

/// Renames a file or a directory within its file system, durably.
pub fn rename(from: &Path, to: &Path, replace: Replace) -> Result<()> {
    let from = Place::of(from)?;
    if from.there()? == There::Nothing {
        return Err(system(Errno::NOENT, "rename it", from.path()));
    }
    from.rename(&Place::of(to)?, replace, Means::Flags)
}

#[cfg(test)]
mod tests {
    use super::super::write_file;
    use super::*;
    use std::fs::read;

    const ALL: [Means; 3] = [Means::Flags, Means::Link, Means::Claim];

    #[test]
    fn every_means_takes_a_free_name_and_refuses_a_taken_one() {
        for means in ALL {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            write_file(&at("a"), b"new", Replace::Never).unwrap();
            write_file(&at("b"), b"old", Replace::Never).unwrap();
            let (a, b) = (Place::of(&at("a")).unwrap(), Place::of(&at("b")).unwrap());
            let error = a.rename(&b, Replace::Never, means).unwrap_err();
            assert_eq!(error.what(), "expected nothing at this name, found something that is there");
            assert_eq!((error.code(), error.errno()), ("exists", Some(17)));
            assert_eq!((read(at("a")).unwrap(), read(at("b")).unwrap()), (b"new".to_vec(), b"old".to_vec()));
            a.rename(&Place::of(&at("c")).unwrap(), Replace::Never, means).unwrap();
            assert_eq!((read(at("c")).unwrap(), at("a").exists()), (b"new".to_vec(), false), "{means:?}");
        }
    }

    #[test]
    fn every_means_takes_a_free_name_for_a_directory() {
        for means in ALL {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            for name in ["a", "b"] {
                super::super::private_dir(&at(name)).unwrap();
                write_file(&at(name).join("f"), name.as_bytes(), Replace::Never).unwrap();
            }
            let (a, b) = (Place::of(&at("a")).unwrap(), Place::of(&at("b")).unwrap());
            assert_eq!(a.rename(&b, Replace::Never, means).unwrap_err().code(), "exists");
            a.rename(&Place::of(&at("c")).unwrap(), Replace::Never, means).unwrap();
            assert_eq!((read(at("c/f")).unwrap(), read(at("b/f")).unwrap()), (b"a".to_vec(), b"b".to_vec()));
        }
    }

    #[test]
    fn of_many_writers_by_any_means_one_takes_the_name() {
        for means in ALL {
            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("target");
            let won: Vec<bool> = std::thread::scope(|scope| {
                let one = |number: u8| {
                    let (folder, target) = (folder.path(), target.as_path());
                    scope.spawn(move || {
                        let from = folder.join(number.to_string());
                        write_file(&from, &[number], Replace::Never).unwrap();
                        let from = Place::of(&from).unwrap();
                        from.rename(&Place::of(target).unwrap(), Replace::Never, means).is_ok()
                    })
                };
                let threads: Vec<_> = (0..8).map(one).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(won.iter().filter(|won| **won).count(), 1, "{means:?}");
            let winner = won.iter().position(|won| *won).unwrap();
            assert_eq!(read(&target).unwrap(), [u8::try_from(winner).unwrap()]);
        }
    }

    #[test]
    fn names_that_cannot_be_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Place::of(Path::new("/")).unwrap_err().code(), "invalid-argument");
        assert_eq!(Place::of(Path::new("a/..")).unwrap_err().code(), "invalid-argument");
        let error = Place::of(&folder.path().join("no/such")).unwrap_err();
        assert_eq!((error.code(), error.path()), ("missing", Some(folder.path().join("no").as_path())));
        assert_eq!(Place::of(Path::new("plain")).unwrap().path(), Path::new("plain"));
        let gone = rename(&folder.path().join("a"), &folder.path().join("b"), Replace::Always).unwrap_err();
        assert_eq!(gone.code(), "missing");
    }
}
