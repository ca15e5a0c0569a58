//! Writes a fresh directory that a node opens: no Go, no log of a memtable, one table in memory.
//!
//! | File | What is in it |
//! |---|---|
//! | `000001.sst`, … | the entries, as tables of the last level, each of some 61 MiB; all versions of a key are in one |
//! | `000001.vlog`, … | values of 1 MiB and more, to which the tables point; exact in size |
//! | `KEYREGISTRY` | a random id and no keys |
//! | `MANIFEST` | one change set that creates every table; written last, so that a directory with it is whole |
//!
//! **Compact**, unless the history is asked for: of each key the newest version, and nothing of a key whose newest version is a delete or has
//! expired. (What a merge operator has not merged yet stays, down to where it would stop.)
//!
//! **The next version.** Badger counts on from the highest version that the tables' indexes speak of, and believes them. The last index is made
//! to speak of the highest version that was ever there, even if that was a delete: so no version is given out twice. Where no key is alive, a
//! single tombstone carries it.
//!
//! What Badger cannot hold is refused by name: empty keys and such of more than 65,000 bytes, keys of its own (`!badger!`), values of 1 GiB and
//! more.

mod look;
mod tables;
#[cfg(test)]
mod tests;
mod values;

pub use look::{Look, look};

use super::key;
use super::meta::Value;
use super::{manifest, names, registry};
use crate::base::durable::{Replace, write_file};
use crate::base::progress::Progress;
use crate::entry::{
    Entry, INTERNAL_PREFIX, MAX_KEY, META_DELETE, META_DISCARD_EARLIER, META_KEPT, META_MERGE,
    META_VALUE_POINTER, Sink,
};
use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use tables::Tables;
use values::Values;

/// `ValueThreshold`: so many bytes and more go to a value log. Badger's default, and ev-node's.
pub const VALUE_THRESHOLD: usize = 1 << 20;

/// A table is ended at the next user key when its blocks have so many bytes: 0.95 of the 64 MiB that Badger's own stream writer aims at.
const TABLE_BYTES: u64 = 61 << 20;
/// `ValueLogFileSize`: a value log is ended before a record with which it would be longer. Also the longest value that Badger takes.
const FILE_BYTES: u64 = (1 << 30) - 1;
/// `ValueLogMaxEntries`.
const FILE_ENTRIES: u64 = 1_000_000;

/// The key of the tombstone that carries the highest version where there was never an entry. It hides nothing.
const NO_KEY: &[u8] = b"/evbackup";

/// How a directory is written.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Every version of every key instead of the newest live ones.
    pub history: bool,
    /// Entries above this version are left out.
    pub at: u64,
    /// What has expired at this moment, in Unix seconds, is left out unless the history is asked for.
    pub now: u64,
    /// So many bytes of a value and more go to a value log.
    pub value_threshold: usize,
    /// Asked whether the caller still wants it. Counting is left to whoever pours the entries in.
    pub progress: Progress,
}

impl Default for WriterOptions {
    fn default() -> Self {
        let (now, progress) = (0, Progress::new());
        Self { history: false, at: u64::MAX, now, value_threshold: VALUE_THRESHOLD, progress }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Built {
    /// Entries that are in it, with the tombstone that carries the highest version where there is one.
    pub entries: u64,
    /// Bytes of all its tables and value logs.
    pub bytes: u64,
    /// Badger's first commit gets the version above this one.
    pub last_version: u64,
    /// The directory's id, which is random.
    pub store_id: [u8; 16],
    /// How many tables there are.
    pub tables: u64,
    /// How many value logs there are.
    pub value_logs: u64,
}

/// When a file is ended and the next one begun. Tests have smaller ones.
#[derive(Clone, Copy, Debug)]
struct Limits {
    table_bytes: u64,
    log_bytes: u64,
    log_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { table_bytes: TABLE_BYTES, log_bytes: FILE_BYTES, log_entries: FILE_ENTRIES }
    }
}

/// Fills a fresh directory: a [`Sink`] whose files are a Badger directory when [`finish_with`](Writer::finish_with) returns.
///
/// The directory is none until then; the caller makes it beside the target, and removes it or swaps it in.
pub struct Writer {
    dir: PathBuf,
    options: WriterOptions,
    tables: Tables,
    values: Values,
    /// The key of the last entry, whether it was written or not.
    key: Vec<u8>,
    version: Option<u64>,
    state: State,
    /// Was an entry of this key written?
    begun: bool,
    internal: Vec<u8>,
    entries: u64,
    last_version: u64,
}

/// What is known of the key of the last entry.
#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    /// No version that counts has come.
    Begun,
    /// The newest one is an operand of a merge operator: older ones belong to it.
    Merging,
    /// What follows is history.
    Done,
}

impl Writer {
    /// Begins in `dir`, which is empty.
    pub fn create(dir: impl AsRef<Path>, options: WriterOptions) -> Result<Self> {
        Self::with_limits(dir.as_ref(), options, Limits::default())
    }

    fn with_limits(dir: &Path, options: WriterOptions, limits: Limits) -> Result<Self> {
        let mut names =
            std::fs::read_dir(dir).map_err(|error| Error::from_io(error, "look into the directory", dir))?;
        if names.next().is_some() {
            return Err(Error::exists("expected an empty directory, found files in it").at_path(dir));
        }
        Ok(Self {
            dir: dir.to_owned(),
            options,
            tables: Tables::new(dir, limits.table_bytes),
            values: Values::new(dir, limits),
            key: Vec::new(),
            version: None,
            state: State::Begun,
            begun: false,
            internal: Vec::new(),
            entries: 0,
            last_version: 0,
        })
    }

    /// Ends: the directory is whole and on the disk. Badger will count on from `last_version`, or from the highest version that was put where
    /// that is higher.
    pub fn finish_with(mut self, last_version: u64) -> Result<Built> {
        let last_version = self.last_version.max(last_version);
        if self.entries == 0 && last_version > 0 {
            let key = if self.key.is_empty() { NO_KEY.to_vec() } else { std::mem::take(&mut self.key) };
            let tombstone = Entry { key: &key, version: last_version, meta: META_DELETE, ..Entry::default() };
            self.begun = false;
            self.write(&tombstone)?;
        }
        let Self { dir, options, tables, values, entries, .. } = self;
        let made = tables.finish(last_version)?;
        let (value_logs, value_bytes) = values.finish()?;
        options.progress.check()?;
        let store_id = random_id()?;
        write_file(&dir.join("KEYREGISTRY"), &registry::encode(store_id), Replace::Never)?;
        write_file(&names::manifest(&dir), &manifest::encode(&made.tables), Replace::Never)?;
        Ok(Built {
            entries,
            bytes: made.bytes + value_bytes,
            last_version,
            store_id,
            tables: made.tables.len() as u64,
            value_logs: u64::from(value_logs),
        })
    }

    /// Holds an entry against the one before and against what Badger can hold.
    fn check(&mut self, entry: &Entry<'_>) -> Result<()> {
        if let Some(version) = self.version {
            let before = Entry { key: &self.key, version, ..Entry::default() };
            if before.order(entry) != Ordering::Less {
                let (key, at) = (entry.key.escape_ascii(), entry.version);
                let text = format!(
                    "expected an entry behind {} at version {version}, found {key} at version {at}",
                    self.key.escape_ascii()
                );
                return Err(Error::damaged(text));
            }
        }
        if self.version.is_none() || self.key != entry.key {
            check_key(entry.key)?;
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            (self.state, self.begun) = (State::Begun, false);
        }
        self.version = Some(entry.version);
        check_entry(entry)
    }

    /// Does this entry stay?
    fn stays(&mut self, entry: &Entry<'_>) -> bool {
        if entry.version > self.options.at {
            return false;
        }
        if self.options.history {
            return true;
        }
        if self.state == State::Done {
            return false;
        }
        if entry.is_delete() || entry.is_expired(self.options.now) {
            self.state = State::Done;
            return false;
        }
        let merges = self.state == State::Merging || entry.meta & META_MERGE != 0;
        let goes_on = merges && entry.meta & META_DISCARD_EARLIER == 0;
        self.state = if goes_on { State::Merging } else { State::Done };
        true
    }

    fn write(&mut self, entry: &Entry<'_>) -> Result<()> {
        let begins = !std::mem::replace(&mut self.begun, true);
        self.internal.clear();
        key::put(&mut self.internal, entry.key, entry.version);
        let meta = entry.meta & META_KEPT;
        let mut value =
            Value { meta, user_meta: entry.user_meta, expires_at: entry.expires_at, bytes: entry.value };
        if entry.value.len() < self.options.value_threshold || entry.is_delete() {
            self.tables.put(&self.internal, begins, &value, 0)?;
        } else {
            let pointer = self.values.put(&self.internal, entry)?;
            let bytes = pointer.bytes();
            (value.meta, value.bytes) = (meta | META_VALUE_POINTER, &bytes);
            self.tables.put(&self.internal, begins, &value, pointer.len)?;
        }
        self.entries += 1;
        Ok(())
    }
}

impl Sink for Writer {
    fn put(&mut self, entry: Entry<'_>) -> Result<()> {
        self.options.progress.check()?;
        self.check(&entry)?;
        self.last_version = self.last_version.max(entry.version);
        if self.stays(&entry) { self.write(&entry) } else { Ok(()) }
    }

    /// Ends with what the entries alone say.
    fn finish(self: Box<Self>) -> Result<()> {
        self.finish_with(0).map(drop)
    }
}

fn check_key(key: &[u8]) -> Result<()> {
    let refuse = |expected: &str, found: String| {
        Err(Error::unsupported(format!("expected a key {expected}, found {found}: Badger cannot hold it")))
    };
    if key.is_empty() {
        return refuse("of at least 1 byte", "an empty one".to_owned());
    }
    if key.len() > MAX_KEY {
        return refuse(&format!("of at most {MAX_KEY} bytes"), format!("{} bytes", key.len()));
    }
    if key.starts_with(INTERNAL_PREFIX) {
        return refuse(
            "of the application's",
            format!("{}, which is one of Badger's own", key.escape_ascii()),
        );
    }
    Ok(())
}

fn check_entry(entry: &Entry<'_>) -> Result<()> {
    let refuse = |expected: String, found: String| {
        let key = entry.key.escape_ascii();
        Err(Error::unsupported(format!("expected {expected} of {key}, found {found}: Badger cannot hold it")))
    };
    if entry.value.len() as u64 > FILE_BYTES {
        return refuse(format!("at most {FILE_BYTES} bytes"), entry.value.len().to_string());
    }
    if entry.version == u64::MAX {
        return refuse(format!("a version below {}", u64::MAX), "it".to_owned());
    }
    Ok(())
}

fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Error::io("cannot draw random bytes for an id").caused_by(error))?;
    Ok(id)
}
