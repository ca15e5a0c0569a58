//! Copies of what a running node may take away, in one file without a name, which is gone with the process however it ends.
//!
//! Where the file system can share bytes between files, a copy takes no time and no room. Else it is read and written, holes left out, once
//! it is known that there is room. A copy is good if its file is still as long as it was: Badger empties a file before it removes
//! it. What is in it is not looked at: every checksum is held against the copy as it is read.
//!
//! **The pace.** Bytes that are copied are read at it, and bytes that are shared when they are read later.
//!
//! **The node's cache.** What was read is given up at once (`POSIX_FADV_DONTNEED`). That takes nothing from the node: Badger maps all its files,
//! and the kernel keeps pages that a process has mapped. The copies themselves stay in memory, and mostly never reach the disk, as long
//! as they are a small part of what is free; the rest is written out while more is copied, and given up when it has been read.

use super::blob::Blob;
use super::pace::Pace;
use crate::base::durable::require_space;
use crate::base::files::{
    Identity, available_memory, can_share, next_data, open_quietly, punch, share, uncache,
};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What is copied between two looks at the clock and at the caller.
const PIECE: usize = 1 << 20;
/// What must stay free where the node writes, too: it maps files with holes, and where it cannot fill one the kernel ends it (SIGBUS).
const RESERVE: u64 = 1 << 30;
/// The reserve is looked at again each time so many bytes were copied: the node grows meanwhile.
const RECHECK: u64 = 64 << 20;
/// So many bytes of copies stay in the system's memory in any case, and such a part of what is free.
const KEPT: u64 = 256 << 20;
const KEPT_PART: u64 = 4;
/// What is copied beyond that is written out each time there are so many bytes of it,
const STRIDE: u64 = 8 << 20;
/// and given up when it is so far behind: it has reached the disk by then.
const BEHIND: u64 = 64 << 20;
/// Copies begin at multiples of this: what is shared must begin with a block of the file system.
const ALIGN: u64 = 64 << 10;
/// One file without a name, and in it the copies.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    scratch: Scratch,
    /// Made for the first copy.
    file: Option<Arc<File>>,
    /// Where the next copy begins.
    end: u64,
    /// Does the file system share bytes between the directory's files and this one?
    shares: Arc<OnceLock<bool>>,
    /// Bytes copied since the last look at what is free.
    unchecked: u64,
    /// Bytes copied.
    copied: u64,
    /// Copies that begin behind this do not stay in the system's memory; known with the file.
    kept: Option<u64>,
    pace: Option<Pace>,
    buffer: Vec<u8>,
}

impl Stage {
    /// Nothing of `dir` copied yet. At the `pace`, if there is one. `shares` may be known from another stage of the same directory and scratch.
    pub(super) fn new(
        dir: &Path,
        scratch: &Scratch,
        pace: Option<Pace>,
        shares: Arc<OnceLock<bool>>,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            scratch: scratch.clone(),
            file: None,
            end: 0,
            shares,
            unchecked: 0,
            copied: 0,
            kept: None,
            pace,
            buffer: Vec::new(),
        }
    }

    /// The file, made when it is first needed.
    fn file(&mut self) -> Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = Arc::new(self.scratch.file()?);
        self.kept.get_or_insert_with(|| available_memory().map_or(0, |bytes| bytes / KEPT_PART).max(KEPT));
        Ok(self.file.insert(file).clone())
    }

    /// How many bytes were copied, those that are not needed any more included.
    pub(super) fn copied(&self) -> u64 {
        self.copied
    }

    /// Do copies of `path` take no time?
    pub(super) fn shares(&self, path: &Path) -> Result<bool> {
        match self.shares.get() {
            Some(shares) => Ok(*shares),
            None => open_quietly(path).map_or(Ok(false), |from| self.can_share(&from)),
        }
    }

    fn can_share(&self, from: &File) -> Result<bool> {
        if let Some(shares) = self.shares.get() {
            return Ok(*shares);
        }
        // A disk that is full now is no answer.
        let Some(shares) = can_share(from, &self.scratch.file()?) else { return Ok(false) };
        Ok(*self.shares.get_or_init(|| shares))
    }

    /// What must stay free where the node writes.
    fn reserve(&self) -> Result<u64> {
        let device = |path: &Path| -> Result<u64> {
            let about = std::fs::metadata(path).map_err(|error| Error::from_io(error, "look at it", path))?;
            Ok(about.dev())
        };
        Ok(if device(&self.dir)? == device(self.scratch.folder())? { RESERVE } else { 0 })
    }

    /// Fails when copies of `bytes` bytes will not fit.
    pub(super) fn require(&self, bytes: u64) -> Result<()> {
        if self.shares.get() == Some(&true) {
            return Ok(());
        }
        require_space(self.scratch.folder(), bytes.saturating_add(self.reserve()?)).map_err(|error| match error.errno() {
            Some(errno) if error.kind() == Kind::NoSpace => Error::no_space(error.what().to_owned())
                .at_path(self.scratch.folder())
                .with_errno(errno)
                .with_hint(
                    "name a staging folder on another file system with room for the directory's tables, or free some: the node must not run short",
                ),
            _ => error,
        })
    }

    /// Copies a table: all of it or nothing. `None` when it is not the one that was there, or not all of it any more.
    pub(super) fn table(
        &mut self,
        path: &Path,
        about: Identity,
        progress: &Progress,
    ) -> Result<Option<Blob>> {
        let Some(from) = open_there(path)? else { return Ok(None) };
        if Identity::of(&from, path)? != about {
            return Ok(None);
        }
        let at = self.end;
        let copied = self.copy(&from, path, about.len, progress)?;
        if copied.len == about.len && Identity::of(&from, path)?.len == about.len {
            return Ok(Some(self.part(at, about.len, path, copied.shared)?));
        }
        self.give_back(at, about.len);
        Ok(None)
    }

    /// Copies a value log, which may be cut to what is in it at any time. `None` when it is gone, which is when it is empty.
    pub(super) fn value_log(&mut self, path: &Path, progress: &Progress) -> Result<Option<Blob>> {
        let Some(from) = open_there(path)? else { return Ok(None) };
        let len = Identity::of(&from, path)?.len;
        let at = self.end;
        let copied = self.copy(&from, path, len, progress)?;
        if Identity::of(&from, path)?.len == 0 {
            self.give_back(at, len);
            return Ok(None);
        }
        Ok(Some(self.part(at, len, path, copied.shared)?))
    }

    fn part(&mut self, at: u64, len: u64, path: &Path, shared: bool) -> Result<Blob> {
        let file = self.file()?;
        let pace = self.pace.as_ref().filter(|_| shared);
        Ok(Blob::part(file, at, len, path).frugal(Some(at) >= self.kept).paced(pace))
    }

    /// A copy is not needed any more.
    pub(super) fn drop_copy(&self, copy: &Blob) {
        if let Some((at, len)) = self.file.as_ref().and_then(|file| copy.place_in(file)) {
            self.give_back(at, len);
        }
    }

    fn give_back(&self, at: u64, len: u64) {
        if let Some(file) = &self.file {
            punch(file, at, len);
        }
    }

    /// Copies up to `len` bytes behind what is there, up to where the file ends.
    fn copy(&mut self, from: &File, path: &Path, len: u64, progress: &Progress) -> Result<Copied> {
        progress.check()?;
        let file = self.file()?;
        let base = self.end;
        self.end = base.saturating_add(len).next_multiple_of(ALIGN);
        if self.can_share(from)? && share(from, &file, base, len) == len {
            return Ok(Copied { len, shared: true });
        }
        // As long as all copies, so that a copy that ends with a hole can be read to its end.
        file.set_len(self.end).map_err(|error| self.cannot_write(error))?;
        self.buffer.resize(PIECE, 0);
        let mut at = 0;
        while let Some((start, end)) = next_data(from, at, path)?.filter(|(start, _)| *start < len) {
            at = start;
            while at < end.min(len) {
                let room = usize::try_from(end.min(len) - at).unwrap_or(PIECE).min(PIECE);
                let piece = self.buffer.get_mut(..room).unwrap_or_default();
                let found = match from.read_at(piece, at) {
                    Ok(found) => found,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(Error::from_io(error, "read it", path).at_offset(at)),
                };
                if found == 0 {
                    return Ok(Copied { len: at, shared: false });
                }
                let piece = self.buffer.get(..found).unwrap_or_default();
                file.write_all_at(piece, base + at).map_err(|error| self.cannot_write(error))?;
                uncache(from, at, found as u64);
                self.let_go(&file, base + at, found as u64);
                at += found as u64;
                self.unchecked += found as u64;
                self.copied += found as u64;
                if self.unchecked >= RECHECK {
                    self.unchecked = 0;
                    self.require(0)?;
                }
                progress.check()?;
                if let Some(pace) = &self.pace {
                    pace.wait(found as u64)?;
                }
            }
        }
        Ok(Copied { len, shared: false })
    }

    /// `len` bytes were written at `at`: begins to write out what will not stay, and gives up what was written out.
    fn let_go(&self, file: &File, at: u64, len: u64) {
        let (end, kept) = (at.saturating_add(len), self.kept.unwrap_or_default());
        if at >= kept && end / STRIDE > at / STRIDE {
            let begin = end.saturating_sub(BEHIND + STRIDE).max(kept);
            uncache(file, begin, end - begin);
        }
    }

    fn cannot_write(&self, error: std::io::Error) -> Error {
        Error::from_io(error, "copy what the node may take away into it", self.scratch.folder())
            .with_hint("name a staging folder with room for the directory's tables")
    }
}

/// What a copy came to.
struct Copied {
    len: u64,
    /// It has the file's own bytes, which nobody has read yet.
    shared: bool,
}

/// Opens a file that may be gone by now.
fn open_there(path: &Path) -> Result<Option<File>> {
    match open_quietly(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.code() == "missing" => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::badger::pace::NAP;
    use crate::base::durable::{Replace, write_file};
    use std::time::{Duration, Instant};

    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn file(&self, name: &str, bytes: &[u8]) -> (PathBuf, Identity) {
            let path = self.folder.path().join(name);
            write_file(&path, bytes, Replace::Never).unwrap();
            let about = Identity::at(&path).unwrap().unwrap();
            (path, about)
        }

        fn stage(&self, max_rate: Option<u64>) -> Stage {
            let pace = max_rate.map(|rate| Pace::new(rate, &Progress::new()));
            Stage::new(self.folder.path(), &Scratch::new(self.folder.path()), pace, Arc::default())
        }
    }

    fn bytes(len: usize, seed: u8) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at % 251).unwrap() ^ seed).collect()
    }

    fn whole(copy: &Blob) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(copy.len()).unwrap()];
        copy.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn copies_outlive_their_files_and_leave_nothing() {
        let place = Place::new();
        let files: Vec<_> = [0, 1, 70_000, 3 << 20].iter().map(|len| bytes(*len, 9)).collect();
        let mut stage = place.stage(None);
        let copies: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(at, file)| {
                let (path, about) = place.file(&at.to_string(), file);
                let copy = stage.table(&path, about, &Progress::new()).unwrap().unwrap();
                File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
                std::fs::remove_file(&path).unwrap();
                copy
            })
            .collect();
        for (copy, file) in copies.iter().zip(&files) {
            assert!(whole(copy) == *file);
        }
        assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 0);
        stage.drop_copy(&copies[3]);
        assert!(whole(&copies[3]).iter().all(|byte| *byte == 0) && whole(&copies[2]) == files[2]);
    }

    #[test]
    fn copies_that_share_their_bytes_are_the_same() {
        let place = Place::new();
        let mut stage = place.stage(None);
        // Where the file system cannot, the kernel copies.
        stage.shares.set(true).unwrap();
        let files: Vec<_> = [70_000, 0, 1, 3 << 20].iter().map(|len| bytes(*len, 5)).collect();
        for (at, file) in files.iter().enumerate() {
            let (path, about) = place.file(&at.to_string(), file);
            let copy = stage.table(&path, about, &Progress::new()).unwrap().unwrap();
            let log = stage.value_log(&path, &Progress::new()).unwrap();
            assert!(whole(&copy) == *file && log.is_none_or(|log| whole(&log) == *file));
        }
    }

    #[test]
    fn copies_that_share_their_bytes_are_read_at_the_pace_and_others_were() {
        let place = Place::new();
        let (path, about) = place.file("000001.sst", &bytes(2 << 20, 7));
        // Of a busy machine the best of a few tries counts.
        let is_quick = |shares| {
            let mut stage = place.stage(Some(8 << 20));
            stage.shares.set(shares).unwrap();
            let begun = Instant::now();
            let copy = stage.table(&path, about, &Progress::new()).unwrap().unwrap();
            let copied = begun.elapsed();
            let mut window = vec![0; 256 << 10];
            for at in (0..copy.len()).step_by(window.len()) {
                copy.read_passing(at, &mut window).unwrap();
            }
            let read = begun.elapsed().saturating_sub(copied);
            let (slow, quick) = if shares { (read, copied) } else { (copied, read) };
            assert!(slow >= Duration::from_millis(200), "{shares}: {slow:?}");
            quick < slow
        };
        for shares in [true, false] {
            assert!((0..3).any(|_| is_quick(shares)), "{shares}");
        }
    }

    #[test]
    fn what_has_gone_or_changed_is_no_copy() {
        let place = Place::new();
        let (path, about) = place.file("000001.sst", &bytes(9000, 1));
        let mut stage = place.stage(None);
        let progress = Progress::new();
        std::fs::remove_file(&path).unwrap();
        assert!(stage.table(&path, about, &progress).unwrap().is_none());
        assert!(stage.value_log(&path, &progress).unwrap().is_none());
        // Of another length: on an old kernel it may get the inode again within one tick of the clock.
        let (path, other) = place.file("000001.sst", &bytes(9001, 2));
        assert!(stage.table(&path, about, &progress).unwrap().is_none());
        assert!(stage.table(&path, other, &progress).unwrap().is_some());
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        assert!(stage.table(&path, other, &progress).unwrap().is_none());
        assert!(stage.value_log(&path, &progress).unwrap().is_none());
    }

    #[test]
    fn holes_are_not_copied() {
        use std::os::unix::fs::MetadataExt;
        let place = Place::new();
        let (path, _) = place.file("000001.vlog", &bytes(10_000, 3));
        File::options().write(true).open(&path).unwrap().set_len(2 << 30).unwrap();
        let mut stage = place.stage(None);
        let copy = stage.value_log(&path, &Progress::new()).unwrap().unwrap();
        let mut found = vec![1; 20_000];
        copy.read(0, &mut found).unwrap();
        assert!(found[..10_000] == bytes(10_000, 3) && found[10_000..].iter().all(|byte| *byte == 0));
        copy.read((2 << 30) - 20_000, &mut found).unwrap();
        assert!(copy.len() == 2 << 30 && stage.file().unwrap().metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_caller_who_has_gone_is_noticed_while_the_pace_is_kept() {
        let place = Place::new();
        let (path, about) = place.file("000001.sst", &bytes(4 << 20, 4));
        let progress = Progress::new();
        let mut stage = place.stage(None);
        stage.pace = Some(Pace::new(1, &progress));
        let canceller = std::thread::spawn({
            let progress = progress.clone();
            move || {
                std::thread::sleep(NAP);
                progress.cancel();
            }
        });
        // At this pace it would take weeks.
        assert_eq!(stage.table(&path, about, &progress).unwrap_err().code(), "cancelled");
        canceller.join().unwrap();
    }

    /// How many bytes of a file the system keeps in memory, if it says so.
    fn cached(file: &File) -> Option<u64> {
        use std::os::fd::AsRawFd;
        let name = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let said = std::process::Command::new("fincore").args(["-bnro", "RES", &name]).output().ok()?;
        std::str::from_utf8(&said.stdout).ok()?.trim().parse().ok()
    }

    #[test]
    fn copies_beyond_what_is_kept_leave_memory_when_they_were_read() {
        let place = Place::new();
        let (path, about) = place.file("000001.sst", &bytes(8 << 20, 6));
        for (kept, most) in [(u64::MAX, u64::MAX), (0, 1 << 20)] {
            let mut stage = place.stage(None);
            stage.kept = Some(kept);
            let copy = stage.table(&path, about, &Progress::new()).unwrap().unwrap();
            // What is not written yet the system keeps.
            stage.file().unwrap().sync_data().unwrap();
            let mut window = vec![0; 256 << 10];
            for at in (0..copy.len()).step_by(window.len()) {
                copy.read_passing(at, &mut window).unwrap();
            }
            let Some(cached) = cached(&stage.file().unwrap()) else { return };
            assert!(cached <= most, "{cached} of {} bytes still in memory", copy.len());
            assert!(kept == 0 || cached == copy.len() || cached == 0, "{cached}");
            assert!(whole(&copy) == bytes(8 << 20, 6));
        }
    }

    #[test]
    fn too_little_room_is_known_before() {
        let place = Place::new();
        let stage = place.stage(None);
        let error = stage.require(u64::MAX / 2).unwrap_err();
        assert!(error.code() == "no-space" && error.errno() == Some(28) && error.path().is_some());
        assert!(error.hint().is_some_and(|hint| hint.contains("the node must not run short")), "{error:?}");
        stage.require(1).unwrap();
    }
}
