//! Everything that is wrong with a store, not just the first thing.
//!
//! | Part | What is held against what |
//! |---|---|
//! | tables | every block against RocksDB's checksum of it |
//! | entries | each can be read, in the order of keys; none is above the last version |
//! | versions | the index by version names every entry, and nothing else |
//! | about | the counts of entries and bytes |
//!
//! One walk over all of it. Behind a damaged block it goes on where the next table begins or ends, so that each damaged table is named.

use super::fault::fault;
use super::open::Store;
use super::reader::Cursor;
use super::schema::{ABOUT, ENTRIES, VERSIONS, split_version_key};
use crate::base::checksum::content_hash;
use crate::base::progress::Progress;
use crate::entry::Entry;
use crate::error::{Error, Kind, Result};
use rocksdb::{DBRawIterator, ReadOptions};
use std::collections::BTreeSet;

/// What the walk reads ahead in each table.
const READAHEAD: usize = 256 << 10;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Checked {
    /// Entries, all versions.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The highest version.
    pub max_version: u64,
}

/// The entries, and the index by version, as numbers that are the same when both name the same.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Names {
    count: u64,
    sum: u64,
}

impl Names {
    fn add(&mut self, key: &[u8], version: u64) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(content_hash(0, 0, version, key));
    }
}

impl Store {
    /// Reads all of it. `found` is told everything that is wrong; `see` gets the entries up to the pinned version, in the order of a
    /// source, as far as they can be read.
    pub fn check(
        &self,
        progress: &Progress,
        found: &mut dyn FnMut(Error),
        see: &mut dyn FnMut(&Entry<'_>) -> Result<()>,
    ) -> Result<Checked> {
        let walk = Walk {
            store: self,
            progress,
            found,
            see,
            done: Checked::default(),
            entries: Names::default(),
            versions: Names::default(),
            sound: true,
            too_new: false,
        };
        walk.run()
    }
}

struct Walk<'a> {
    store: &'a Store,
    progress: &'a Progress,
    found: &'a mut dyn FnMut(Error),
    see: &'a mut dyn FnMut(&Entry<'_>) -> Result<()>,
    done: Checked,
    entries: Names,
    versions: Names,
    /// Everything could be read, so the sums mean something.
    sound: bool,
    too_new: bool,
}

impl Walk<'_> {
    fn run(mut self) -> Result<Checked> {
        let snapshot = self.store.db.snapshot();
        let resumes = self.resumes()?;
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD);
        let mut stored = snapshot.raw_iterator_opt(options);
        stored.seek_to_first();
        let mut last = Vec::new();
        loop {
            self.stretch(&mut stored, &mut last)?;
            let Err(error) = stored.status() else { break };
            let error = fault(error, &self.store.path);
            if error.kind() != Kind::Damaged {
                return Err(error);
            }
            self.tell(error);
            // Each place is tried once.
            let Some(next) =
                resumes.range((std::ops::Bound::Excluded(last.clone()), std::ops::Bound::Unbounded)).next()
            else {
                break;
            };
            last.clone_from(next);
            stored.seek(next);
        }
        self.compare();
        Ok(self.done)
    }

    /// Where a walk can go on: the first and the last key of every table.
    fn resumes(&self) -> Result<BTreeSet<Vec<u8>>> {
        let files = self.store.db.live_files().map_err(|error| fault(error, &self.store.path))?;
        Ok(files.into_iter().flat_map(|file| [file.start_key, file.end_key]).flatten().collect())
    }

    fn tell(&mut self, error: Error) {
        self.sound = false;
        (self.found)(error);
    }

    /// Walks up to the end or to what cannot be read; `last` is the last key it stood on.
    fn stretch(&mut self, stored: &mut DBRawIterator<'_>, last: &mut Vec<u8>) -> Result<()> {
        let mut cursor = Cursor::new(&self.store.path);
        let (mut bytes, mut entries) = (0, 0);
        while let Some((key, value)) = stored.item() {
            last.clear();
            last.extend_from_slice(key);
            bytes += (key.len() + value.len()) as u64;
            match key.first() {
                Some(&ENTRIES) => {
                    entries += 1;
                    match cursor.load(stored) {
                        Ok(_) => self.entry(&cursor.entry(stored))?,
                        Err(error) => self.tell(error),
                    }
                }
                Some(&VERSIONS) => match split_version_key(key) {
                    Ok((version, key)) => self.versions.add(key, version),
                    Err(error) => self.tell(error.at_path(&self.store.path)),
                },
                Some(&ABOUT) => {}
                _ => {
                    let what = format!("expected a key of a store, found {}", key.escape_ascii());
                    self.tell(Error::damaged(what).at_path(&self.store.path));
                }
            }
            if bytes >= 1 << 20 || entries >= 1 << 12 {
                self.progress.check()?;
                self.progress.add(bytes, entries);
                (bytes, entries) = (0, 0);
            }
            stored.next();
        }
        self.progress.add(bytes, entries);
        self.progress.check()
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<()> {
        self.entries.add(entry.key, entry.version);
        self.done.entries += 1;
        self.done.bytes += (entry.key.len() + entry.value.len()) as u64;
        self.done.max_version = self.done.max_version.max(entry.version);
        let last = self.store.about.last_version;
        if entry.version > last && !std::mem::replace(&mut self.too_new, true) {
            let key = entry.key.escape_ascii();
            let what = format!("expected no version above {last}, found {key} at {}", entry.version);
            self.tell(Error::damaged(what).at_path(&self.store.path));
        }
        if entry.version <= self.store.about.pinned_version { (self.see)(entry) } else { Ok(()) }
    }

    /// What the store says of itself against what was read.
    fn compare(&mut self) {
        if !self.sound {
            return;
        }
        let about = &self.store.about;
        let mut wrong = Vec::new();
        for (what, expected, found) in [
            ("entries", about.entries, self.done.entries),
            ("bytes in entries", about.bytes, self.done.bytes),
        ] {
            if expected != found {
                wrong.push(format!("expected {expected} {what}, found {found}"));
            }
        }
        if self.entries != self.versions {
            let (expected, found) = (self.entries.count, self.versions.count);
            wrong.push(if expected == found {
                "expected the index by version to name the entries, found that it names others".to_owned()
            } else {
                format!("expected {expected} entries in the index by version, found {found}")
            });
        }
        for what in wrong {
            self.tell(Error::damaged(what).at_path(&self.store.path));
        }
    }
}
