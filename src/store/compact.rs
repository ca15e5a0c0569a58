//! Dropping old versions, only when asked, and keeping the tables in order.

use super::about::About;
use super::fault::fault;
use super::open::{Store, mark};
use super::reader::Scan;
use super::schema::{ENTRIES, behind, entry_key, version_key};
use crate::base::durable::DirLock;
use crate::base::progress::Progress;
use crate::entry::Source;
use crate::error::{Error, Kind, Result};
use rocksdb::{
    BottommostLevelCompaction, CompactOptions, DB, WaitForCompactOptions, WriteBatch, WriteOptions,
    properties,
};
use std::path::Path;

/// Tables of the top level each cost every reader a look; from so many on, an increment merges them downwards.
const MAX_TOP_TABLES: u64 = 24;
/// A scan holds each of them open, and a process may often hold a thousand files.
const TOP_TABLES_LIMIT: u64 = 256;
/// A batch of drops: it stands in memory until it is written.
const BATCH_BYTES: usize = 1 << 20;

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dropped {
    /// Entries that are no longer in the store.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl Store {
    /// Drops what no reader at `keep_from` or above can see: of each key, the versions below its newest one that is at or
    /// below `keep_from`. Deletes stay, so that increments of this store keep telling of them.
    ///
    /// The tables are rewritten, so nobody may have the store open for reading. Killed in the middle, some of these
    /// versions are gone and the others are there.
    pub fn compact(&mut self, keep_from: u64, progress: &Progress) -> Result<Dropped> {
        self.check_writable()?;
        if keep_from > self.about.pinned_version {
            let pinned = self.about.pinned_version;
            let what = format!(
                "expected a version of at most {pinned}, which the store is pinned to, found {keep_from}"
            );
            return Err(Error::invalid(what));
        }
        let alone = Alone::take(&self.path, &mut self.lock)?;
        let dropped = self.drop_below(keep_from, progress)?;
        let failed = |error| fault(error, &self.path);
        self.db.flush().map_err(failed)?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::ForceOptimized);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        self.db.wait_for_compact(&WaitForCompactOptions::default()).map_err(failed)?;
        mark(&self.path, &self.about)?;
        alone.share(&self.path, &mut self.lock)?;
        Ok(dropped)
    }

    fn drop_below(&mut self, keep_from: u64, progress: &Progress) -> Result<Dropped> {
        let mut all = Dropped::default();
        let mut key: Option<Vec<u8>> = None;
        let mut in_batch = Dropped::default();
        let mut batch = WriteBatch::default();
        let mut stored_key = Vec::new();
        let mut about = self.about.clone();
        about.compacted_to = about.compacted_to.max(keep_from);
        let bounds = (vec![ENTRIES], behind(&[ENTRIES]));
        let snapshot = self.db.snapshot();
        let mut scan = Scan::over(&snapshot, &self.path, bounds, 0..=keep_from);
        while scan.advance()? {
            progress.check()?;
            let entry = scan.entry();
            if key.as_deref() != Some(entry.key) {
                key = Some(entry.key.to_vec());
                continue;
            }
            entry_key(entry.key, entry.version, &mut stored_key);
            batch.delete(&stored_key);
            version_key(entry.version, entry.key, &mut stored_key);
            batch.delete(&stored_key);
            in_batch.entries += 1;
            in_batch.bytes += (entry.key.len() + entry.value.len()) as u64;
            if batch.size_in_bytes() >= BATCH_BYTES {
                write(&self.db, &self.path, std::mem::take(&mut batch), &mut about, in_batch)?;
                (all.entries, all.bytes) = (all.entries + in_batch.entries, all.bytes + in_batch.bytes);
                in_batch = Dropped::default();
            }
        }
        write(&self.db, &self.path, batch, &mut about, in_batch)?;
        drop(scan);
        drop(snapshot);
        self.about = about;
        Ok(Dropped { entries: all.entries + in_batch.entries, bytes: all.bytes + in_batch.bytes })
    }
}

/// Writes a batch of drops together with the counts that they leave.
fn write(db: &DB, path: &Path, mut batch: WriteBatch, about: &mut About, dropped: Dropped) -> Result<()> {
    about.entries = about.entries.saturating_sub(dropped.entries);
    about.bytes = about.bytes.saturating_sub(dropped.bytes);
    about.generation += 1;
    for (key, value) in about.records(about.applied.len()) {
        batch.put(key, value);
    }
    let mut options = WriteOptions::default();
    options.set_sync(true);
    db.write_opt(batch, &options).map_err(|error| fault(error, path))
}

/// Merges the tables of the top level downwards when there are many; no entry is dropped by it.
///
/// Only when nobody has the store open: a reader would find its tables gone. It is then left to a later increment.
pub(super) fn tidy(db: &DB, path: &Path, lock: &mut Option<DirLock>) -> Result<()> {
    let failed = |error| fault(error, path);
    if top_tables(db, path)? < MAX_TOP_TABLES {
        return Ok(());
    }
    let alone = match Alone::take(path, lock) {
        Err(error) if error.kind() == Kind::Locked => return Ok(()),
        alone => alone?,
    };
    db.set_options(&[("disable_auto_compactions", "false")]).map_err(failed)?;
    db.wait_for_compact(&WaitForCompactOptions::default()).map_err(failed)?;
    db.set_options(&[("disable_auto_compactions", "true")]).map_err(failed)?;
    alone.share(path, lock)
}

/// Refuses another increment when the top level is full, because readers kept all those before from being merged.
pub(super) fn make_room(db: &DB, path: &Path, lock: &mut Option<DirLock>) -> Result<()> {
    if top_tables(db, path)? < TOP_TABLES_LIMIT {
        return Ok(());
    }
    tidy(db, path, lock)?;
    let found = top_tables(db, path)?;
    if found < TOP_TABLES_LIMIT {
        return Ok(());
    }
    let what =
        format!("expected at most {TOP_TABLES_LIMIT} increments that are not merged yet, found {found}");
    let hint = "it is merged when nobody reads it: close its readers, and apply the increment again";
    Err(Error::locked(what).at_path(path).with_hint(hint))
}

/// How many tables the top level has.
fn top_tables(db: &DB, path: &Path) -> Result<u64> {
    let tables =
        db.property_int_value(properties::num_files_at_level(0)).map_err(|error| fault(error, path))?;
    Ok(tables.unwrap_or_default())
}

/// The store's directory, held alone: a reader that is open would find its tables gone.
struct Alone(DirLock);

impl Alone {
    /// Gives up the shared hold for a hold alone; when others share it, it is shared again.
    fn take(path: &Path, lock: &mut Option<DirLock>) -> Result<Self> {
        *lock = None;
        match DirLock::exclusive(path) {
            Ok(alone) => Ok(Self(alone)),
            Err(error) => {
                *lock = Some(DirLock::shared(path)?);
                Err(error)
            }
        }
    }

    fn share(self, path: &Path, lock: &mut Option<DirLock>) -> Result<()> {
        drop(self.0);
        *lock = Some(DirLock::shared(path)?);
        Ok(())
    }
}
