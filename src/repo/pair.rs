//! A segment and its manifest, which are one thing in two files (three with the keys) and are replaced as one.
//!
//! ```text
//! 1  <name>.json.next   durable
//! 2  <name>.keys.next   durable
//! 3  <name>.part     →  <name>         from here on the new pair counts
//! 4  <name>.keys.next → <name>.keys
//! 5  <name>.json.next → <name>.json
//! ```
//!
//! A `.json.next` that matches the segment (length, then SHA-256) is its manifest, whatever `.json` says; one that does not is
//! left over from a run that was killed before step 3. [`open`] follows that rule, so every reader sees the old pair or the
//! new one; it also takes steps 4 and 5 for a run that was killed before them, where it may write. [`begin`] does that too, and
//! clears what does not match.
//!
//! Who changes a `.next` holds the lock of the file that `<name>` then is: a writer has it from the part on, and takes the old
//! segment's before step 1. So nobody finishes a swap that somebody else has begun anew.

use super::manifest::{MAX_BYTES, Manifest, too_long};
use crate::base::checksum::Sha256;
use crate::base::durable::{FileLock, PartFile, Replace, remove_file, rename, with_suffix, write_file};
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a writer waits for a reader or another writer that takes the last two steps: two renames and a sync.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a reader looks again when the segment was replaced under its eyes: as many runs would have to end in a row.
const LOOKS: u32 = 100;
const BUFFER: usize = 1 << 20;

/// A segment with what belongs to it, opened at one moment.
#[derive(Debug)]
pub struct Pair {
    /// The segment, at its first byte.
    pub segment: File,
    /// Its length.
    pub bytes: u64,
    /// Its manifest, if it has one. Whether it is of this segment is proven by reading the segment.
    pub manifest: Option<Manifest>,
    /// The keys file that the manifest names, if it is there and has the right length.
    pub keys: Option<File>,
}

/// `<name>.json`.
#[must_use]
pub fn manifest_path(segment: &Path) -> PathBuf {
    with_suffix(segment, ".json")
}

/// `<name>.keys`.
#[must_use]
pub fn keys_path(segment: &Path) -> PathBuf {
    with_suffix(segment, ".keys")
}

fn next(path: &Path) -> PathBuf {
    with_suffix(path, ".next")
}

/// Begins to write a segment: finishes or clears what a killed run left, and fails early where
/// [`commit`] would fail for what is there already.
pub fn begin(segment: &Path, replace: Replace) -> Result<PartFile> {
    let longest = ".json.next.part".len() + segment.file_name().map_or(0, std::ffi::OsStr::len);
    if longest > 255 {
        let what = format!("expected a file name of at most {} bytes, found {}", 255 - 15, longest - 15);
        return Err(Error::invalid(what).at_path(segment));
    }
    let part = PartFile::create(segment)?;
    let segment = part.target();
    settle(segment)?;
    for suffix in [".json.next.part", ".keys.next.part"] {
        remove_file(&with_suffix(segment, suffix))?;
    }
    if replace == Replace::Never {
        for path in [segment.to_owned(), manifest_path(segment)] {
            if path.symlink_metadata().is_ok() {
                return Err(exists(&path));
            }
        }
    }
    Ok(part)
}

/// Begins to write the keys file of a segment that [`begin`] has begun.
pub fn begin_keys(segment: &PartFile) -> Result<PartFile> {
    PartFile::create(&next(&keys_path(segment.target())))
}

/// Makes segment, keys and manifest visible together. On failure what was there is there still.
pub fn commit(
    mut segment: PartFile,
    keys: Option<PartFile>,
    manifest: &Manifest,
    replace: Replace,
) -> Result<()> {
    let path = segment.target().to_owned();
    let (json, keys_name) = (manifest_path(&path), keys_path(&path));
    same("bytes in the segment", manifest.bytes, segment.position(), &path)?;
    let written = keys.as_ref().map(PartFile::position);
    same(
        "bytes in the keys file",
        manifest.keys.as_ref().map_or(0, |keys| keys.bytes),
        written.unwrap_or(0),
        &path,
    )?;
    let encoded = manifest.encode().map_err(|error| error.at_path(&json))?;
    segment.sync()?;

    // Held until the new segment has taken the name.
    let old = FileLock::existing(&path, PATIENCE)?;
    if replace == Replace::Never && old.is_some() {
        return Err(exists(&path));
    }
    let ours = identity(&segment.reader()?, &path)?;
    let prepared = write_file(&next(&json), &encoded, Replace::Always)
        .and_then(|()| keys.map_or(Ok(()), |keys| keys.commit(Replace::Always).map(drop)))
        .and_then(|()| segment.commit(replace));
    let new = match prepared {
        Ok(lock) => Ok(lock),
        // The name was taken, only its sync failed: the new pair counts, though a power cut may undo it.
        Err(error) if path.metadata().is_ok_and(|now| (now.dev(), now.ino()) == ours) => Err(error),
        Err(error) => {
            // Best effort: what stays does not match the segment, so no reader believes it and the next run clears it.
            let _ = remove_file(&next(&keys_name)).and_then(|()| remove_file(&next(&json)));
            return Err(error);
        }
    };
    drop(old);
    let finished = match finish(&path, manifest, replace) {
        Err(error) if error.kind() == Kind::Exists => {
            // A manifest has appeared where there was none: this run's segment goes, for the other was there first.
            let _ = remove_file(&path)
                .and_then(|()| remove_file(&next(&keys_name)))
                .and_then(|()| remove_file(&next(&json)));
            Err(error)
        }
        finished => finished,
    };
    // Until here nobody else may finish for us.
    new.map(drop).and(finished)
}

/// Steps 4 and 5, by a holder of the segment's lock.
fn finish(segment: &Path, manifest: &Manifest, replace: Replace) -> Result<()> {
    let (json, keys) = (manifest_path(segment), keys_path(segment));
    if replace == Replace::Never && json.symlink_metadata().is_ok() {
        return Err(exists(&json));
    }
    if manifest.keys.is_some() && next(&keys).symlink_metadata().is_ok() {
        rename(&next(&keys), &keys, Replace::Always)?;
    }
    rename(&next(&json), &json, replace)?;
    if manifest.keys.is_none() {
        remove_file(&keys)?;
        remove_file(&next(&keys))?;
    }
    Ok(())
}

/// Finishes or clears what a killed run left, for a writer that holds the part.
fn settle(segment: &Path) -> Result<()> {
    // Taken even when there is nothing to do: a run that is about to finish is waited for.
    let lock = FileLock::existing(segment, PATIENCE)?;
    if let Some(lock) = &lock
        && let Some((_, manifest)) = read_next(segment)?
        && matches(lock.file(), &manifest, segment)?
    {
        return finish(segment, &manifest, Replace::Always);
    }
    remove_file(&next(&keys_path(segment)))?;
    remove_file(&next(&manifest_path(segment)))
}

/// Opens a segment with its manifest and keys: the old pair or the new one, whatever a writer does meanwhile.
pub fn open(segment: &Path) -> Result<Pair> {
    for _ in 0..LOOKS {
        let about = segment.metadata().map_err(|error| Error::from_io(error, "open it", segment))?;
        if !about.is_file() {
            return Err(
                Error::invalid("expected a segment, found something that is no file").at_path(segment)
            );
        }
        let file = File::open(segment).map_err(|error| Error::from_io(error, "open it", segment))?;
        let opened = identity(&file, segment)?;
        let found = find(segment, &file);
        // Read while the name still meant this file? Otherwise the manifest may be another one's.
        if segment.metadata().is_ok_and(|now| (now.dev(), now.ino()) == opened) {
            let (manifest, keys) = found?;
            let bytes = file.metadata().map_err(|error| Error::from_io(error, "look at it", segment))?.len();
            return Ok(Pair { segment: file, bytes, manifest, keys });
        }
    }
    Err(Error::locked("expected a segment that stays, found one that is replaced all the time")
        .at_path(segment))
}

/// The manifest of a segment; `None` when it has none.
pub fn load(segment: &Path) -> Result<Option<Manifest>> {
    open(segment).map(|pair| pair.manifest)
}

fn find(segment: &Path, file: &File) -> Result<(Option<Manifest>, Option<File>)> {
    let json = manifest_path(segment);
    if let Some((bytes, manifest)) = read_next(segment)?
        && matches(file, &manifest, segment)?
    {
        let keys = find_keys(segment, &manifest)?;
        // Where we may not write, or somebody is at it, following the rule is enough.
        let _ = finish_for_another(segment, file, &bytes, &manifest);
        return Ok((Some(manifest), keys));
    }
    let Some(bytes) = read_limited(&json)? else { return Ok((None, None)) };
    let manifest = Manifest::decode(&bytes).map_err(|error| error.at_path(&json))?;
    let keys = find_keys(segment, &manifest)?;
    Ok((Some(manifest), keys))
}

fn find_keys(segment: &Path, manifest: &Manifest) -> Result<Option<File>> {
    let Some(expected) = &manifest.keys else { return Ok(None) };
    let path = keys_path(segment);
    let mut fitting = Vec::new();
    for path in [next(&path), path] {
        match File::open(&path) {
            Ok(file) => {
                let about = file.metadata().map_err(|error| Error::from_io(error, "look at it", &path))?;
                if about.is_file() && about.len() == expected.bytes {
                    fitting.push((file, path));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::from_io(error, "open it", &path)),
        }
    }
    // Whoever reads it proves it; only a choice between two must be made here.
    if let [(one, path), _] = fitting.as_slice()
        && sha256_of(one, path)? != expected.sha256
    {
        fitting.remove(0);
    }
    Ok(fitting.into_iter().next().map(|(file, _)| file))
}

fn finish_for_another(segment: &Path, file: &File, bytes: &[u8], manifest: &Manifest) -> Result<()> {
    let Some(lock) = FileLock::existing(segment, Duration::ZERO)? else { return Ok(()) };
    let still_next = read_limited(&next(&manifest_path(segment)))?;
    if identity(lock.file(), segment)? == identity(file, segment)? && still_next.as_deref() == Some(bytes) {
        finish(segment, manifest, Replace::Always)?;
    }
    Ok(())
}

fn identity(file: &File, path: &Path) -> Result<(u64, u64)> {
    let about = file.metadata().map_err(|error| Error::from_io(error, "look at it", path))?;
    Ok((about.dev(), about.ino()))
}

/// Is it the manifest of this file?
fn matches(file: &File, manifest: &Manifest, path: &Path) -> Result<bool> {
    let about = file.metadata().map_err(|error| Error::from_io(error, "look at it", path))?;
    Ok(about.len() == manifest.bytes && sha256_of(file, path)? == manifest.sha256)
}

/// The digest of a file, without moving its position.
fn sha256_of(file: &File, path: &Path) -> Result<String> {
    let (mut sha256, mut buffer, mut offset) = (Sha256::new(), vec![0; BUFFER], 0_u64);
    loop {
        let count = match file.read_at(&mut buffer, offset) {
            Ok(0) => return Ok(sha256.hex()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::from_io(error, "read it", path)),
        };
        sha256.update(buffer.get(..count).unwrap_or_default());
        offset = offset.saturating_add(count as u64);
    }
}

/// The `.json.next`, bytes and meaning. One that is damaged is nobody's manifest; one of a later format may well be this
/// segment's, so it is not passed over.
fn read_next(segment: &Path) -> Result<Option<(Vec<u8>, Manifest)>> {
    let path = next(&manifest_path(segment));
    let read = read_limited(&path).and_then(|bytes| {
        bytes.map(|bytes| Manifest::decode(&bytes).map(|manifest| (bytes, manifest))).transpose()
    });
    match read {
        Err(error) if error.kind() == Kind::Damaged => Ok(None),
        read => read.map_err(|error| error.at_path(&path)),
    }
}

/// All of a small file; `None` when there is none.
fn read_limited(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::from_io(error, "open it", path)),
    };
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(|error| Error::from_io(error, "read it", path))?;
    if bytes.len() > MAX_BYTES {
        return Err(too_long(bytes.len() as u64).at_path(path));
    }
    Ok(Some(bytes))
}

fn same(what: &str, expected: u64, found: u64, path: &Path) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::invalid(format!("expected {expected} {what}, found {found}")).at_path(path))
}

fn exists(path: &Path) -> Error {
    Error::exists("expected nothing at this name, found something that is there")
        .at_path(path)
        .with_errno(rustix::io::Errno::EXIST.raw_os_error())
        .with_hint("choose another name, or say overwrite")
}
