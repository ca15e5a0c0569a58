//! Reading a store: one RocksDB snapshot, read at the pinned version.

use super::fault::fault;
use super::open::Store;
use super::picked::Picked;
use super::schema::{
    ENTRIES, Head, VERSIONS, behind, entry_key, entry_prefix, split_entry_key, split_entry_value,
    versions_above,
};
use crate::base::progress::Progress;
use crate::entry::{Datastore, Entry, Need, OwnedEntry, Snapshot, Source};
use crate::error::Result;
use rocksdb::{DBRawIterator, Range, ReadOptions};
use std::ops::RangeInclusive;
use std::path::Path;

/// What a scan reads ahead in each level and each table of the top one, of which there are at most 256: 64 MiB in all.
const SCAN_READAHEAD: usize = 256 << 10;

impl Datastore for Store {
    fn id(&self) -> &[u8] {
        &self.about.store_id
    }

    fn snapshot_for(&self, _: &Need, _: &Progress) -> Result<Box<dyn Snapshot + '_>> {
        Ok(Box::new(Frozen { store: self, at: self.db.snapshot() }))
    }
}

/// One state of a store.
struct Frozen<'a> {
    store: &'a Store,
    at: rocksdb::Snapshot<'a>,
}

impl Frozen<'_> {
    fn scan(&self, from: Vec<u8>, versions: RangeInclusive<u64>) -> Scan<'_> {
        let to = behind(&from);
        Scan::over(&self.at, &self.store.path, (from, to), versions)
    }
}

impl Snapshot for Frozen<'_> {
    fn pinned_version(&self) -> u64 {
        self.store.about.pinned_version
    }

    fn deletes(&self) -> &str {
        &self.store.about.deletes
    }

    fn get(&self, key: &[u8]) -> Result<Option<OwnedEntry>> {
        let mut prefix = Vec::new();
        entry_key(key, u64::MAX, &mut prefix);
        prefix.truncate(prefix.len() - size_of::<u64>());
        let mut from = Vec::new();
        entry_key(key, self.pinned_version(), &mut from);
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(behind(&prefix));
        let mut stored = self.at.raw_iterator_opt(options);
        stored.seek(from);
        let mut cursor = Cursor::new(&self.store.path);
        Ok(cursor.load(&stored)?.then(|| cursor.entry(&stored).to_owned()))
    }

    fn source(&self, since: u64) -> Result<Box<dyn Source + '_>> {
        let pinned = self.pinned_version();
        if since == 0 {
            return Ok(Box::new(self.scan(vec![ENTRIES], 0..=pinned)));
        }
        let all = self.store.about.entries;
        if let Some(picked) = Picked::between(&self.at, &self.store.path, since, pinned, all)? {
            return Ok(Box::new(picked));
        }
        // So much has changed that reading everything is quicker, or that the keys do not fit into memory.
        Ok(Box::new(self.scan(vec![ENTRIES], since.saturating_add(1)..=pinned)))
    }

    fn everything(&self) -> Result<Box<dyn Source + '_>> {
        Ok(Box::new(self.scan(vec![ENTRIES], 0..=u64::MAX)))
    }

    fn prefix(&self, prefix: &[u8], from: &[u8]) -> Result<Box<dyn Source + '_>> {
        let (mut first, mut start) = (Vec::new(), Vec::new());
        entry_prefix(prefix, &mut first);
        // The newest version that a key can have comes first among its own.
        entry_key(from, u64::MAX, &mut start);
        let to = behind(&first);
        let versions = 0..=self.pinned_version();
        Ok(Box::new(Scan::over(&self.at, &self.store.path, (first.max(start), to), versions)))
    }

    fn estimate(&self, since: u64) -> Result<u64> {
        let about = &self.store.about;
        let Some(from) = versions_above(since).filter(|_| since != 0) else {
            return Ok(if since == 0 { about.bytes } else { 0 });
        };
        let to = versions_above(about.pinned_version).unwrap_or_else(|| behind(&[VERSIONS]));
        if from >= to {
            return Ok(0);
        }
        let (first, end) = (vec![VERSIONS], behind(&[VERSIONS]));
        let ranges = [Range::new(&from, &to), Range::new(&first, &end)];
        let sizes = self.store.db.get_approximate_sizes(&ranges);
        let [changed, all] = <[u64; 2]>::try_from(sizes).unwrap_or_default();
        let share = u128::from(about.bytes) * u128::from(changed) / u128::from(all.max(1));
        Ok(u64::try_from(share).map_or(about.bytes, |share| share.min(about.bytes)))
    }
}

/// Reads what an iterator over the entries space stands on; keeps the key, which is escaped there, and lends the value.
pub(super) struct Cursor<'a> {
    path: &'a Path,
    key: Vec<u8>,
    version: u64,
    head: Head,
    stands: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, key: Vec::new(), version: 0, head: Head::default(), stands: false }
    }

    /// Reads the entry; false when the iterator has ended.
    pub(super) fn load(&mut self, stored: &DBRawIterator<'_>) -> Result<bool> {
        self.stands = false;
        let Some((key, value)) = stored.item() else {
            stored.status().map_err(|error| fault(error, self.path))?;
            return Ok(false);
        };
        self.version = split_entry_key(key, &mut self.key).map_err(|error| error.at_path(self.path))?;
        self.head = split_entry_value(value).map_err(|error| error.at_path(self.path))?;
        self.stands = true;
        Ok(true)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The entry that was loaded from `stored`, which has not moved since.
    pub(super) fn entry<'b>(&'b self, stored: &'b DBRawIterator<'_>) -> Entry<'b> {
        if !self.stands {
            return Entry::default();
        }
        let value = stored.value().and_then(|value| value.get(self.head.value_at..));
        Entry {
            key: &self.key,
            version: self.version,
            value: value.unwrap_or_default(),
            meta: self.head.meta,
            user_meta: self.head.user_meta,
            expires_at: self.head.expires_at,
        }
    }
}

/// A walk over a range of the entries space that passes over all but some versions.
pub(super) struct Scan<'a> {
    stored: DBRawIterator<'a>,
    cursor: Cursor<'a>,
    versions: RangeInclusive<u64>,
    began: bool,
}

impl<'a> Scan<'a> {
    /// Over the entries from the first to before the second of `bounds`.
    pub(super) fn over(
        at: &'a rocksdb::Snapshot<'_>,
        path: &'a Path,
        bounds: (Vec<u8>, Vec<u8>),
        versions: RangeInclusive<u64>,
    ) -> Self {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(SCAN_READAHEAD);
        options.set_iterate_lower_bound(bounds.0);
        options.set_iterate_upper_bound(bounds.1);
        Self { stored: at.raw_iterator_opt(options), cursor: Cursor::new(path), versions, began: false }
    }
}

impl Source for Scan<'_> {
    fn advance(&mut self) -> Result<bool> {
        loop {
            if self.began {
                self.stored.next();
            } else {
                self.began = true;
                self.stored.seek_to_first();
            }
            if !self.cursor.load(&self.stored)? {
                return Ok(false);
            }
            if self.versions.contains(&self.cursor.version()) {
                return Ok(true);
            }
        }
    }

    fn entry(&self) -> Entry<'_> {
        self.cursor.entry(&self.stored)
    }
}
