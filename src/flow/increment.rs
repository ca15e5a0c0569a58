//! What makes an increment sound: the base it follows, the deletes that its stream does not carry, and the keys that are live after it.
//!
//! Versions alone do not (`docs/concepts/increments.md`): Badger drops deletes that compaction has purged, and hands out versions
//! again after a restart. So every segment has a list of its live keys, and a key that was live in the base, is not live any more
//! and is not in the stream gets a tombstone, which any loader understands.

use super::segment::expect_file;
use crate::base::progress::Progress;
use crate::entry::{Entry, META_DELETE, Sink, Source};
use crate::error::{Error, Kind, Result};
use crate::evnode::key::is_block_family;
use crate::repo::keys::KeysReader;
use crate::repo::manifest::Manifest;
use crate::repo::pair;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is to be done where a base does not fit; also over the wire, so a client knows by it what the error is about.
const FULL_HINT: &str = "take a full backup, or pass on_mismatch=\"full\"";

/// A base and a source that do not fit.
pub(super) fn mismatch(what: impl Into<String>) -> Error {
    Error::mismatch(what.into()).with_hint(FULL_HINT)
}

/// The segment that an increment follows.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its file.
    pub path: PathBuf,
    /// What it is.
    pub manifest: Manifest,
}

impl Base {
    /// The base at `path`, which must have a manifest: without one nobody knows up to where it is complete.
    pub fn load(path: &Path) -> Result<Self> {
        expect_file(path)?;
        match pair::load(path)? {
            Some(manifest) => Ok(Self { path: path.to_owned(), manifest }),
            None => Err(Error::missing(
                "expected its manifest, which says up to where it is complete, found none",
            )
            .at_path(path)
            .with_hint("take a full backup, or give the version as a number")),
        }
    }

    /// Its keys file, which proves itself against the manifest by the time it has been read; `None` when it has none.
    pub fn keys(&self) -> Result<Option<KeysSource>> {
        let Some(claim) = &self.manifest.keys else { return Ok(None) };
        let path = pair::keys_path(&self.path);
        // Also where a swap was killed that cannot be finished here.
        let Some(file) = pair::open(&self.path)?.keys else {
            let what =
                format!("expected {} bytes of the base's keys, found none or another length", claim.bytes);
            return Err(Error::missing(what)
                .at_path(&path)
                .with_hint("take a full backup: deletes follow from the keys"));
        };
        let reader = KeysReader::new(file, &path)?.expecting(claim);
        Ok(Some(KeysSource { reader, hash: [0; 8], stands: false }))
    }

    /// The error that says the source is not what the base was taken from.
    pub fn mismatch(&self, what: impl Into<String>) -> Error {
        self.refused(mismatch(what))
    }

    /// An error of the source, which does not know what the base is called here: where it is about the base, that is said.
    #[must_use]
    pub fn refused(&self, error: Error) -> Error {
        match (error.kind(), error.hint()) {
            (Kind::Mismatch, Some(FULL_HINT)) => error.cannot(format_args!("follow {}", self.name())),
            _ => error,
        }
    }

    fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// A keys file as a source: the value of an entry is the 8 bytes of its content hash.
pub struct KeysSource {
    reader: KeysReader<File>,
    hash: [u8; 8],
    stands: bool,
}

impl Source for KeysSource {
    fn advance(&mut self) -> Result<bool> {
        self.stands = self.reader.advance()?;
        self.hash = self.reader.hash().to_le_bytes();
        Ok(self.stands)
    }

    fn entry(&self) -> Entry<'_> {
        if !self.stands {
            return Entry::default();
        }
        Entry {
            key: self.reader.key(),
            version: self.reader.version(),
            value: &self.hash,
            ..Entry::default()
        }
    }
}

/// Takes what is known of each key after the increment, in key order.
pub trait Ledger {
    /// The key is live at this version with this content hash.
    fn live(&mut self, key: &[u8], version: u64, hash: u64) -> Result<()>;
    /// The key was live in the base at this version and is gone without a trace.
    fn gone(&mut self, key: &[u8], version: u64) -> Result<()>;
}

/// A source that says whether it still stands on an entry.
struct Peek<'a> {
    source: &'a mut dyn Source,
    stands: bool,
}

impl<'a> Peek<'a> {
    fn new(source: &'a mut dyn Source) -> Result<Self> {
        let stands = source.advance()?;
        Ok(Self { source, stands })
    }

    fn key(&self) -> Option<&[u8]> {
        self.stands.then(|| self.source.entry().key)
    }

    fn next(&mut self) -> Result<()> {
        self.stands = self.source.advance()?;
        Ok(())
    }

    /// Passes older versions of the key it stands on.
    fn next_key(&mut self) -> Result<()> {
        let key = self.source.entry().key.to_vec();
        while self.stands && self.source.entry().key == key {
            self.next()?;
        }
        Ok(())
    }
}

/// Goes through the base's keys and those that the stream changed, and says of each whether it is live afterwards.
///
/// `base` and `changed` yield a key, its newest version and the 8 bytes of its content hash; `listed`, where the source lists its
/// live keys, yields only keys, and their newest versions where it says them. A key whose version did not grow although its content
/// changed was written under a reused version, and so was a key that the base should have, and has not.
pub fn settle(
    base: &Base,
    base_keys: &mut dyn Source,
    changed: &mut dyn Source,
    listed: Option<&mut dyn Source>,
    ledger: &mut dyn Ledger,
    progress: &Progress,
) -> Result<()> {
    let mut old = Peek::new(base_keys)?;
    let mut new = Peek::new(changed)?;
    let mut listed = listed.map(Peek::new).transpose()?;
    let mut passed = 0u32;
    loop {
        passed = passed.wrapping_add(1);
        if passed.is_multiple_of(4096) {
            progress.check()?;
        }
        let (in_old, in_new) = match (old.key(), new.key()) {
            (None, None) => break,
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some(one), Some(other)) => (one <= other, other <= one),
        };
        let key = if in_old { old.key() } else { new.key() }.unwrap_or_default();
        let is_listed = match &mut listed {
            // A source lists no keys of the block families: tip and pruning marks say which of those are live.
            Some(listed) if !is_block_family(key) => {
                let expected = if in_new { new.source.entry() } else { old.source.entry() };
                pass_to(listed, &expected, base)?
            }
            _ => true,
        };
        if in_new {
            let entry = new.source.entry();
            if in_old {
                not_reused(base, &old.source.entry(), &entry)?;
            } else {
                not_missed(base, &entry)?;
            }
            if !entry.is_delete() {
                ledger.live(entry.key, entry.version, hash_of(&entry))?;
            }
            new.next_key()?;
        } else {
            let entry = old.source.entry();
            if is_listed {
                ledger.live(entry.key, entry.version, hash_of(&entry))?;
            } else {
                ledger.gone(entry.key, entry.version)?;
            }
        }
        if in_old {
            old.next()?;
        }
    }
    match listed.as_ref().and_then(Peek::key) {
        Some(key) => Err(unknown(base, key)),
        None => Ok(()),
    }
}

/// Moves the listed keys up to `key`; is it there? A listed key that neither the base nor the stream has is one the base missed.
fn pass_to(listed: &mut Peek<'_>, expected: &Entry<'_>, base: &Base) -> Result<bool> {
    match listed.key() {
        Some(at) if at < expected.key => Err(unknown(base, at)),
        Some(at) if at == expected.key => {
            let found = listed.source.entry().version;
            if found != 0 && found != expected.version {
                return Err(base.mismatch(format!(
                    "the source holds key {} at version {found}, base and increment have it at {}: it has reused its versions",
                    expected.key.escape_ascii(),
                    expected.version
                )));
            }
            listed.next().map(|()| true)
        }
        _ => Ok(false),
    }
}

fn unknown(base: &Base, key: &[u8]) -> Error {
    base.mismatch(format!(
        "the source holds key {}, which neither the base nor the increment has",
        key.escape_ascii()
    ))
}

/// A live key that the base does not have, at a version that the base is complete to, is of a later time: a tombstone of the base may
/// hide it.
fn not_missed(base: &Base, new: &Entry<'_>) -> Result<()> {
    if new.is_delete() || new.version > base.manifest.complete_version {
        return Ok(());
    }
    Err(base.mismatch(format!(
        "key {} is new at version {}, though the base is complete to version {}: the source has reused its versions",
        new.key.escape_ascii(),
        new.version,
        base.manifest.complete_version
    )))
}

fn hash_of(entry: &Entry<'_>) -> u64 {
    entry.value.try_into().map_or(0, u64::from_le_bytes)
}

fn not_reused(base: &Base, old: &Entry<'_>, new: &Entry<'_>) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    // An expired entry comes again without its value.
    let same = new.value == old.value || new.is_expired(now);
    if new.version > old.version || (new.version == old.version && same && !new.is_delete()) {
        return Ok(());
    }
    Err(base.mismatch(format!(
        "key {} changed although its version went from {} to {}: the source has reused its versions",
        new.key.escape_ascii(),
        old.version,
        new.version
    )))
}

/// Everything there is against the base's keys: passes on what differs, and a tombstone for each key that is gone.
///
/// `all` yields every entry in order. `put` takes the entries of the increment, `live` each live key with its version and hash.
pub fn compare(
    base: &Base,
    base_keys: &mut dyn Source,
    all: &mut dyn Source,
    put: &mut dyn Sink,
    live: &mut dyn FnMut(&Entry<'_>, u64) -> Result<()>,
    tombstone: u64,
    progress: &Progress,
) -> Result<()> {
    let mut old = Peek::new(base_keys)?;
    let mut key: Option<Vec<u8>> = None;
    // Versions of the current key at or below this are in the base already.
    let mut known = 0u64;
    let mut skip = false;
    let mut passed = 0u32;
    while all.advance()? {
        passed = passed.wrapping_add(1);
        if passed.is_multiple_of(4096) {
            progress.check()?;
        }
        let entry = all.entry();
        if key.as_deref() != Some(entry.key) {
            while old.key().is_some_and(|at| at < entry.key) {
                bury(&old.source.entry(), tombstone, put)?;
                old.next()?;
            }
            let hash = super::watch::hash(&entry);
            (known, skip) = (0, false);
            if old.key() == Some(entry.key) {
                let before = old.source.entry();
                let now = Entry { value: &hash.to_le_bytes(), ..entry };
                not_reused(base, &before, &now)?;
                skip = before.version == entry.version;
                known = before.version;
                old.next()?;
            } else if !entry.is_delete() {
                not_missed(base, &entry)?;
            } else if entry.version <= base.manifest.last_version {
                // A tombstone of before the base, which does without the key: it would come again in every increment.
                skip = true;
            }
            if !entry.is_delete() {
                live(&entry, hash)?;
            }
            key = Some(entry.key.to_vec());
        }
        if !skip && (known == 0 || entry.version > known) {
            put.put(entry)?;
        }
    }
    while old.stands {
        bury(&old.source.entry(), tombstone, put)?;
        old.next()?;
    }
    Ok(())
}

/// A tombstone for a key of the base, above its version there.
pub fn bury(old: &Entry<'_>, version: u64, put: &mut dyn Sink) -> Result<()> {
    let version = version.max(old.version.saturating_add(1));
    put.put(Entry { key: old.key, version, meta: META_DELETE, ..Entry::default() })
}
