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

#[cfg(test)]
mod tests {
    use super::super::keys::KeysWriter;
    use super::super::manifest::tests::sample;
    use super::*;

    fn write(segment: &Path, content: &[u8], keys: &[&[u8]], replace: Replace) -> Result<()> {
        let mut part = begin(segment, replace)?;
        part.append(content)?;
        let mut manifest = sample(content);
        let mut keys_part = None;
        if !keys.is_empty() {
            let mut writer = KeysWriter::new(begin_keys(&part)?, keys_path(segment));
            for key in keys {
                writer.put(key, 1, 1)?;
            }
            let (part, about) = writer.finish(false)?;
            (keys_part, manifest.keys) = (Some(part), Some(about));
        }
        commit(part, keys_part, &manifest, replace)
    }

    /// The segment's content, and whether it has keys, of a pair that is consistent.
    fn content(segment: &Path) -> (Vec<u8>, bool) {
        let mut pair = open(segment).unwrap();
        let mut content = Vec::new();
        pair.segment.read_to_end(&mut content).unwrap();
        let manifest = pair.manifest.unwrap();
        assert_eq!((manifest.sha256, manifest.bytes), (sample(&content).sha256, pair.bytes));
        assert_eq!(manifest.keys.is_some(), pair.keys.is_some());
        if let (Some(expected), Some(keys)) = (manifest.keys, pair.keys) {
            assert_eq!(expected.sha256, sha256_of(&keys, segment).unwrap());
        }
        (content, next(&keys_path(segment)).exists() || keys_path(segment).exists())
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_pair_appears_whole_and_is_not_replaced_unless_asked() {
        let folder = tempfile::tempdir().unwrap();
        let segment = folder.path().join("a");
        write(&segment, b"one", &[b"k"], Replace::Never).unwrap();
        assert_eq!(names(folder.path()), ["a", "a.json", "a.keys"]);
        assert_eq!(write(&segment, b"two", &[], Replace::Never).unwrap_err().code(), "exists");
        assert_eq!(content(&segment), (b"one".to_vec(), true));
        write(&segment, b"two", &[], Replace::Always).unwrap();
        assert_eq!(names(folder.path()), ["a", "a.json"]);
        assert_eq!(content(&segment), (b"two".to_vec(), false));
        remove_file(&segment).unwrap();
        let error = write(&segment, b"three", &[], Replace::Never).unwrap_err();
        assert_eq!((error.code(), error.path()), ("exists", Some(manifest_path(&segment).as_path())));
        assert_eq!(open(&segment).unwrap_err().code(), "missing");
        assert_eq!(open(folder.path()).unwrap_err().code(), "invalid-argument");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn what_appears_while_a_run_works_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let segment = folder.path().join("a");
        for appears in ["a", "a.json"] {
            let mut part = begin(&segment, Replace::Never).unwrap();
            part.append(b"new").unwrap();
            #[expect(clippy::disallowed_methods, reason = "somebody who does not know our locks")]
            std::fs::write(folder.path().join(appears), b"theirs").unwrap();
            let error = commit(part, None, &sample(b"new"), Replace::Never).unwrap_err();
            assert_eq!(error.code(), "exists");
            assert_eq!(names(folder.path()), [appears]);
            assert_eq!(std::fs::read(folder.path().join(appears)).unwrap(), b"theirs");
            remove_file(&folder.path().join(appears)).unwrap();
        }
    }

    #[test]
    fn a_manifest_that_is_not_of_what_was_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let segment = folder.path().join("a");
        let mut part = begin(&segment, Replace::Never).unwrap();
        part.append(b"longer").unwrap();
        let error = commit(part, None, &sample(b"new"), Replace::Never).unwrap_err();
        assert_eq!(error.what(), "expected 3 bytes in the segment, found 6");
        assert!(names(folder.path()).is_empty());
        let long = folder.path().join("n".repeat(241));
        assert_eq!(
            begin(&long, Replace::Never).unwrap_err().what(),
            "expected a file name of at most 240 bytes, found 241"
        );
        write(&folder.path().join("n".repeat(240)), b"x", &[b"k"], Replace::Never).unwrap();
    }

    /// Every state that a kill can leave, in the order of the steps, and whether the new pair counts in it.
    fn states(old_keys: bool, new_keys: bool) -> Vec<(Vec<(&'static str, &'static str)>, bool)> {
        let keep = |with: bool, pair: (&'static str, &'static str)| with.then_some(pair);
        let old =
            [Some(("a", "old/a")), Some(("a.json", "old/a.json")), keep(old_keys, ("a.keys", "old/a.keys"))];
        let new =
            [Some(("a", "new/a")), Some(("a.json", "old/a.json")), keep(old_keys, ("a.keys", "old/a.keys"))];
        let json_next = Some(("a.json.next", "new/a.json"));
        let keys_next = keep(new_keys, ("a.keys.next", "new/a.keys"));
        let moved =
            [Some(("a", "new/a")), Some(("a.json", "old/a.json")), keep(new_keys, ("a.keys", "new/a.keys"))];
        let done =
            [Some(("a", "new/a")), Some(("a.json", "new/a.json")), keep(old_keys, ("a.keys", "old/a.keys"))];
        let state = |base: [Option<_>; 3], more: [Option<_>; 2], new: bool| {
            (base.into_iter().chain(more).flatten().collect::<Vec<_>>(), new)
        };
        let mut states = vec![
            state(old, [json_next, None], false),
            state(old, [json_next, keys_next], false),
            state(new, [json_next, keys_next], true),
        ];
        states.push(if new_keys {
            state(moved, [json_next, None], true)
        } else {
            state(done, [None, None], true)
        });
        states
    }

    #[test]
    fn every_state_that_a_kill_can_leave_reads_as_a_pair_and_takes_the_next_run() {
        // Same length, so that only the digest can tell; another length; with keys and without.
        for (new_content, old_keys, new_keys) in [
            (b"new".as_slice(), true, true),
            (b"newer", true, true),
            (b"new", false, true),
            (b"new", true, false),
            (b"new", false, false),
        ] {
            let keys = |with: bool, key: &'static [u8]| if with { vec![key] } else { vec![] };
            for (files, new) in states(old_keys, new_keys) {
                let folder = tempfile::tempdir().unwrap();
                for (name, content, keys) in [
                    ("old", b"old".as_slice(), keys(old_keys, b"k")),
                    ("new", new_content, keys(new_keys, b"l")),
                ] {
                    crate::base::durable::private_dir(&folder.path().join(name)).unwrap();
                    write(&folder.path().join(name).join("a"), content, &keys, Replace::Never).unwrap();
                }
                for read_first in [true, false] {
                    let here = folder.path().join(format!("here{read_first}"));
                    crate::base::durable::private_dir(&here).unwrap();
                    for (to, from) in &files {
                        std::fs::copy(folder.path().join(from), here.join(to)).unwrap();
                    }
                    let segment = here.join("a");
                    let expected = if new { new_content } else { b"old".as_slice() };
                    if read_first {
                        assert_eq!(content(&segment).0, expected, "{files:?}");
                        let left = names(&here).iter().any(|name| name.contains(".next"));
                        assert_eq!(left, !new, "{files:?}");
                    }
                    // A run that begins and gives up leaves a finished swap and nothing else.
                    drop(begin(&segment, Replace::Always).unwrap());
                    assert!(names(&here).iter().all(|name| !name.contains(".next")), "{files:?}");
                    assert_eq!(content(&segment).0, expected);
                    write(&segment, b"third", &[b"m"], Replace::Always).unwrap();
                    assert_eq!(content(&segment), (b"third".to_vec(), true));
                    assert_eq!(names(&here), ["a", "a.json", "a.keys"]);
                }
            }
        }
    }

    #[test]
    fn a_killed_first_run_leaves_a_segment_that_has_its_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let segment = folder.path().join("a");
        write(&segment, b"one", &[], Replace::Never).unwrap();
        rename(&manifest_path(&segment), &next(&manifest_path(&segment)), Replace::Never).unwrap();
        // Somebody holds it, so that following the rule is all a reader can do.
        let held = FileLock::existing(&segment, Duration::ZERO).unwrap().unwrap();
        assert_eq!(content(&segment).0, b"one");
        assert_eq!(names(folder.path()), ["a", "a.json.next"]);
        drop(held);
        assert_eq!(begin(&segment, Replace::Never).unwrap_err().code(), "exists");
        assert_eq!(names(folder.path()), ["a", "a.json"]);
    }
}
