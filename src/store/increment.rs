//! Increments: entries in order are added to a store that is there, all or none.

use super::about::About;
use super::compact;
use super::fault::fault;
use super::fresh::fresh_dir;
use super::load::{Batch, LoadOptions, NewAbout, Written, ingest, random_id};
use super::open::{Store, WORK_DIR, mark};
use super::schema::{Head, entry_key, split_entry_key, split_entry_value};
use crate::base::durable::{DirLock, remove_tree};
use crate::base::progress::Progress;
use crate::entry::{Discards, Entry, META_KEPT, OwnedEntry, Sink};
use crate::error::{Error, Result};
use rocksdb::{DB, DBRawIterator, ReadOptions};
use std::path::{Path, PathBuf};

/// Adds to a store: a [`Sink`] whose entries are in the store when [`finish_with`](Increment::finish_with) returns, and of
/// which nothing is there before: dropped or killed, the store is as it was.
///
/// What is in the store already, just the same, is passed over, so that overlapping increments do no harm.
pub struct Increment<'a> {
    db: &'a DB,
    path: &'a Path,
    about: &'a mut About,
    lock: &'a mut Option<DirLock>,
    work: PathBuf,
    batch: Batch,
    known: Known<'a>,
    found: u64,
    late: bool,
    discards: Discards,
    /// Entries, and their bytes, that give way to Badger's stand-ins.
    replaced: (u64, u64),
    progress: Progress,
}

impl<'a> Increment<'a> {
    /// Begins an increment of a store that was opened for writing.
    pub fn begin(store: &'a mut Store, options: LoadOptions) -> Result<Self> {
        store.check_writable()?;
        let Store { db, path, about, lock, .. } = store;
        compact::make_room(db, path, lock)?;
        let work = path.join(WORK_DIR);
        remove_tree(&work)?;
        fresh_dir(&work)?;
        Ok(Self {
            db,
            path,
            about,
            lock,
            batch: Batch::new(&work, options.memory),
            work,
            known: Known::new(db, path),
            found: 0,
            late: false,
            discards: Discards::default(),
            replaced: (0, 0),
            progress: options.progress,
        })
    }

    /// Has something arrived that copies of the store may lack? See [`Written::late`].
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// The newest entry that the store has of a key, those that were put since left out.
    pub fn stored(&mut self, key: &[u8]) -> Result<Option<OwnedEntry>> {
        self.known.newest(key, u64::MAX)
    }

    /// The newest entry of a key that the store has at or below a version, those that were put since left out.
    pub fn stored_at(&mut self, key: &[u8], version: u64) -> Result<Option<OwnedEntry>> {
        self.known.newest(key, version)
    }

    /// Ends: the entries and what the store says of itself are in it, together and durably.
    pub fn finish_with(mut self, new: NewAbout) -> Result<Written> {
        let mut about = self.about.clone();
        if new.pinned_version < about.pinned_version {
            let (pinned, found) = (about.pinned_version, new.pinned_version);
            let what = format!("expected a complete version of {pinned} or higher, found {found}");
            let hint = "version numbers were used again: take a full backup, and restore it into a new store";
            return Err(Error::mismatch(what).at_path(self.path).with_hint(hint));
        }
        about.pinned_version = new.pinned_version;
        if !new.deletes.is_empty() {
            about.deletes = new.deletes;
        }
        match new.store_id {
            Some(id) => about.store_id = id,
            None if self.late => about.store_id = random_id()?,
            None => {}
        }
        let applied_before = about.applied.len();
        about.applied.extend(new.applied);
        let batch = std::mem::replace(&mut self.batch, Batch::new(&self.work, 0));
        let (entries, bytes) = (batch.entries, batch.bytes);
        about.entries = about.entries.saturating_sub(self.replaced.0);
        about.bytes = about.bytes.saturating_sub(self.replaced.1);
        let (tables, about) = batch.finish(about, applied_before, &self.progress)?;
        self.progress.check()?;
        ingest(self.db, self.path, tables)?;
        // From here on it is in the store, whatever happens.
        *self.about = about;
        mark(self.path, self.about)?;
        // Only for the speed of readers, and the increment is applied either way.
        let _ = compact::tidy(self.db, self.path, self.lock);
        Ok(Written {
            entries,
            bytes,
            known: self.found,
            last_version: self.about.last_version,
            late: self.late,
            store_id: self.about.store_id,
        })
    }
}

impl Sink for Increment<'_> {
    fn put(&mut self, entry: Entry<'_>) -> Result<()> {
        self.progress.check()?;
        self.batch.check_order(&entry)?;
        self.discards.pass(&entry);
        // Above all that is there it cannot be there.
        if entry.version <= self.about.last_version {
            match self.known.find(&entry)? {
                Found::Same => {
                    self.found += 1;
                    return Ok(());
                }
                // As with Badger's own loader, what comes later stands.
                Found::Other { bytes } if self.discards.explain(&entry) => {
                    self.replaced.0 += 1;
                    self.replaced.1 += bytes;
                }
                Found::Other { .. } => return Err(self.known.reused(&entry)),
                Found::Nothing => self.late |= entry.version <= self.about.pinned_version,
            }
        }
        self.batch.put(&entry)
    }

    /// Ends with what the entries alone say: pinned to the highest version, nothing new known of deletes.
    fn finish(self: Box<Self>) -> Result<()> {
        let pinned_version = self.about.pinned_version.max(self.batch.last_version);
        self.finish_with(NewAbout { pinned_version, ..NewAbout::default() }).map(drop)
    }
}

impl Drop for Increment<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next writer.
        let _ = remove_tree(&self.work);
    }
}

/// What a store has at a key and version.
enum Found {
    Nothing,
    Same,
    /// Other content, with this many bytes of key and value.
    Other {
        bytes: u64,
    },
}

/// Looks up entries that come in order.
struct Known<'a> {
    stored: DBRawIterator<'a>,
    path: &'a Path,
    wanted: Vec<u8>,
}

impl<'a> Known<'a> {
    fn new(db: &'a DB, path: &'a Path) -> Self {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        Self { stored: db.raw_iterator_opt(options), path, wanted: Vec::new() }
    }

    /// What the store has at this key and version.
    fn find(&mut self, entry: &Entry<'_>) -> Result<Found> {
        entry_key(entry.key, entry.version, &mut self.wanted);
        self.stored.seek(&self.wanted);
        let Some((key, value)) = self.stored.item() else {
            self.stored.status().map_err(|error| fault(error, self.path))?;
            return Ok(Found::Nothing);
        };
        if key != self.wanted {
            return Ok(Found::Nothing);
        }
        let head = split_entry_value(value).map_err(|error| error.at_path(self.path))?;
        let same = head.meta == entry.meta & META_KEPT
            && head.user_meta == entry.user_meta
            && head.expires_at == entry.expires_at
            && value.get(head.value_at..) == Some(entry.value);
        let stored = Entry {
            key: entry.key,
            version: entry.version,
            value: value.get(head.value_at..).unwrap_or_default(),
            meta: head.meta,
            user_meta: head.user_meta,
            expires_at: head.expires_at,
        };
        let same = same || entry.same_but_expired(&stored);
        let bytes = (entry.key.len() + value.len().saturating_sub(head.value_at)) as u64;
        Ok(if same { Found::Same } else { Found::Other { bytes } })
    }

    fn newest(&mut self, key: &[u8], until: u64) -> Result<Option<OwnedEntry>> {
        entry_key(key, until, &mut self.wanted);
        self.stored.seek(&self.wanted);
        let Some((stored, value)) = self.stored.item() else {
            self.stored.status().map_err(|error| fault(error, self.path))?;
            return Ok(None);
        };
        // Behind the last entry comes another space.
        let of_key = self.wanted.len().saturating_sub(size_of::<u64>());
        if stored.get(..of_key) != self.wanted.get(..of_key) {
            return Ok(None);
        }
        let mut found = Vec::new();
        let at = |error: Error| error.at_path(self.path);
        let version = split_entry_key(stored, &mut found).map_err(at)?;
        if found != key {
            return Ok(None);
        }
        let head = split_entry_value(value).map_err(at)?;
        let value = value.get(head.value_at..).unwrap_or_default().to_vec();
        let Head { meta, user_meta, expires_at, .. } = head;
        Ok(Some(OwnedEntry { key: found, version, value, meta, user_meta, expires_at }))
    }

    /// The same key and version with other content.
    fn reused(&self, entry: &Entry<'_>) -> Error {
        let (key, version) = (entry.key.escape_ascii(), entry.version);
        let what = format!("expected {key} at version {version} as it is in the store, found other content");
        let hint = "version numbers were used again: take a full backup, and restore it into a new store";
        Error::mismatch(what).at_path(self.path).with_hint(hint)
    }
}
