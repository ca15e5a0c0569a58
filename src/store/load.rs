//! Bulk load: entries in order become a fresh store.

use super::about::{About, Applied};
use super::fault::fault;
use super::fresh::fresh_dir;
use super::open::{mark, options};
use super::schema::{entry_key, entry_value, version_key};
use super::tables::Tables;
use super::versions::Versions;
use crate::base::durable::remove_tree;
use crate::base::progress::Progress;
use crate::entry::{Entry, Sink};
use crate::error::{Error, Result};
use rocksdb::{DB, IngestExternalFileOptions};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

/// Where a load builds its tables, inside the new store.
const WORK_DIR: &str = "load.part";

/// Values from this size on are neither copied nor queued on their way into a table.
const LARGE: usize = 1 << 20;

/// How a load or an increment works.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// How many bytes may be gathered to sort the index by version. The tables take some 10 MiB beside it.
    pub memory: usize,
    /// Asked whether the caller still wants it. Counting is left to whoever pours the entries in.
    pub progress: Progress,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { memory: 48 << 20, progress: Progress::new() }
    }
}

/// What a store is to say of itself after a load or an increment.
#[derive(Clone, Debug, Default)]
pub struct NewAbout {
    /// The complete version of what was applied. An increment's is never below the store's.
    pub pinned_version: u64,
    /// See [`About::deletes`]; empty: unknown for a load, as it was for an increment.
    pub deletes: String,
    /// What was applied now.
    pub applied: Vec<Applied>,
    /// The store's new id. Without one a load makes a random one, and an increment keeps the old one unless something
    /// [late](Written::late) arrived.
    pub store_id: Option<[u8; 16]>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Written {
    /// Entries that are now in the store and were not before.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Entries that were there already, just the same.
    pub known: u64,
    /// The store's highest version.
    pub last_version: u64,
    /// Was there a new entry at or below the version that the store was pinned to? Then whoever had copied the store lacks it,
    /// and the store got another id, so that the next backup of it is a full one.
    pub late: bool,
    /// The store's id.
    pub store_id: [u8; 16],
}

/// Fills a fresh directory: a [`Sink`] that becomes a store when [`finish_with`](Loader::finish_with) returns.
///
/// The directory is no store until then; the caller makes it beside the target, and removes it or swaps it in.
pub struct Loader {
    dir: PathBuf,
    batch: Batch,
    progress: Progress,
}

impl Loader {
    /// Begins in `dir`, which is empty or is made.
    pub fn create(dir: impl AsRef<Path>, options: LoadOptions) -> Result<Self> {
        let dir = dir.as_ref();
        fresh_dir(dir)?;
        let work = dir.join(WORK_DIR);
        fresh_dir(&work)?;
        Ok(Self { dir: dir.to_owned(), batch: Batch::new(&work, options.memory), progress: options.progress })
    }

    /// Ends: the store is whole and on the disk.
    pub fn finish_with(self, new: NewAbout) -> Result<Written> {
        let Self { dir, batch, progress } = self;
        let mut about = About::new(new.store_id.map_or_else(random_id, Ok)?);
        about.pinned_version = new.pinned_version;
        if !new.deletes.is_empty() {
            about.deletes = new.deletes;
        }
        about.applied = new.applied;
        let (tables, about) = batch.finish(about, 0, &progress)?;
        progress.check()?;
        let mut options = options();
        options.create_if_missing(true);
        let db = DB::open(&options, &dir).map_err(|error| fault(error, &dir))?;
        ingest(&db, &dir, tables)?;
        drop(db);
        remove_tree(&dir.join(WORK_DIR))?;
        mark(&dir, &about)?;
        Ok(Written {
            entries: about.entries,
            bytes: about.bytes,
            known: 0,
            last_version: about.last_version,
            late: false,
            store_id: about.store_id,
        })
    }
}

impl Sink for Loader {
    fn put(&mut self, entry: Entry<'_>) -> Result<()> {
        self.progress.check()?;
        self.batch.check_order(&entry)?;
        self.batch.put(&entry)
    }

    /// Ends with what the entries alone say: pinned to the highest version, nothing known of deletes.
    fn finish(self: Box<Self>) -> Result<()> {
        let pinned_version = self.batch.last_version;
        self.finish_with(NewAbout { pinned_version, ..NewAbout::default() }).map(drop)
    }
}

/// Entries on their way into tables, in the work directory of a load or an increment.
pub(super) struct Batch {
    tables: Tables,
    versions: Versions,
    /// The key and version of the entry before; the version is `None` at the start.
    key: Vec<u8>,
    version: Option<u64>,
    stored_key: Vec<u8>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) last_version: u64,
}

impl Batch {
    pub(super) fn new(work: &Path, memory: usize) -> Self {
        Self {
            tables: Tables::new(work),
            versions: Versions::new(work, memory),
            key: Vec::new(),
            version: None,
            stored_key: Vec::new(),
            entries: 0,
            bytes: 0,
            last_version: 0,
        }
    }

    /// Refuses an entry that does not stand behind the one before.
    pub(super) fn check_order(&mut self, entry: &Entry<'_>) -> Result<()> {
        if let Some(version) = self.version {
            let before = Entry { key: &self.key, version, ..Entry::default() };
            if before.order(entry) != Ordering::Less {
                let (key, at) = (entry.key.escape_ascii(), entry.version);
                return Err(Error::damaged(format!(
                    "expected an entry behind {} at version {version}, found {key} at version {at}",
                    self.key.escape_ascii()
                )));
            }
        }
        self.version = Some(entry.version);
        if self.key != entry.key {
            self.key.clear();
            self.key.extend_from_slice(entry.key);
        }
        Ok(())
    }

    /// Takes one entry, which [`check_order`](Self::check_order) has let through.
    pub(super) fn put(&mut self, entry: &Entry<'_>) -> Result<()> {
        entry_key(entry.key, entry.version, &mut self.stored_key);
        if entry.value.len() < LARGE {
            self.tables.put_with(&self.stored_key, |out| entry_value(entry, out))?;
        } else {
            let mut value = Vec::new();
            entry_value(entry, &mut value);
            self.tables.put_large(std::mem::take(&mut self.stored_key), value)?;
        }
        self.versions.push(entry.version, entry.key)?;
        self.entries += 1;
        self.bytes += (entry.key.len() + entry.value.len()) as u64;
        self.last_version = self.last_version.max(entry.version);
        Ok(())
    }

    /// Writes the index by version and what the store says of itself behind the entries; the tables, durable.
    pub(super) fn finish(
        self,
        mut about: About,
        applied_from: usize,
        progress: &Progress,
    ) -> Result<(Vec<PathBuf>, About)> {
        let Self { mut tables, versions, mut stored_key, .. } = self;
        versions.finish(|version, key| {
            progress.check()?;
            version_key(version, key, &mut stored_key);
            tables.put(&stored_key, b"")
        })?;
        about.entries += self.entries;
        about.bytes += self.bytes;
        about.last_version = about.last_version.max(self.last_version);
        about.generation += 1;
        for (key, value) in about.records(applied_from) {
            tables.put(&key, &value)?;
        }
        Ok((tables.finish()?, about))
    }
}

/// Puts tables into a store, all or none, durably.
pub(super) fn ingest(db: &DB, path: &Path, tables: Vec<PathBuf>) -> Result<()> {
    let mut options = IngestExternalFileOptions::default();
    options.set_move_files(true);
    db.ingest_external_file_opts(&options, tables).map_err(|error| fault(error, path))
}

/// An id that no other store has.
pub(super) fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Error::io("expected random bytes from the system, found none").caused_by(error))?;
    Ok(id)
}
