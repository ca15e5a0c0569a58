//! Many tables, one order: what a directory holds.
//!
//! Tables are merged by internal key over all levels. Which version is the newest is decided by its number alone: levels are no order of age, since
//! Badger up to v4.9.3 may compact new data below old. Only where two tables hold the same key at the same version, the newer place stands, and
//! the other copies are asked for the value when its pointer leads nowhere (garbage collection and compaction leave such copies).
//!
//! | Newest first | |
//! |---|---|
//! | logs of memtables | higher number first, what was written later first |
//! | tables of level 0 | higher number first |
//! | tables of level 1, 2, … | those of a level do not overlap: one walk goes through them, one open at a time |

use super::key;
use super::merged::{LostValue, Merged, RunWalk};
use super::meta::Pointer;
use super::table::Table;
use super::table::index::Index;
use super::table::reader::Found;
use super::vlog::{Lookup, Vlogs};
use crate::base::progress::Progress;
use crate::entry::{INTERNAL_PREFIX, META_KEPT, META_VALUE_POINTER, OwnedEntry};
use crate::error::{Error, Result};
use std::cmp::{Ordering, Reverse};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of indexes that are kept for point reads.
const KEPT_INDEXES: usize = 32 << 20;

/// How new the place of a table is: the least is the newest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Rank {
    /// Of a memtable's log, by its number, and which of the tables made of it.
    Memory(Reverse<(u64, usize)>),
    /// Of level 0, by the table's number.
    Level0(Reverse<u64>),
    /// Of a deeper level.
    Level(u8),
}

impl Rank {
    /// Of the log of a memtable, of which several tables may have been made, the last from what was written last.
    pub(super) fn memory(fid: u64, part: usize) -> Self {
        Self::Memory(Reverse((fid, part)))
    }

    /// Of a table in a level.
    pub(super) fn table(level: u8, id: u64) -> Self {
        if level == 0 { Self::Level0(Reverse(id)) } else { Self::Level(level) }
    }
}

/// Which versions of a key come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Which {
    /// Those that Badger's `DB.Backup` sends: down to the first that is deleted, expired, or discards those before it. Without the tombstone
    /// that it makes up behind the latter.
    Backup,
    /// Every one that is there.
    All,
    /// Of each key the newest one, without its value: none is looked for.
    Keys,
}

/// A range of user keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Span {
    from: Vec<u8>,
    /// Exclusive.
    to: Option<Vec<u8>>,
}

impl Span {
    /// Every key.
    pub(super) fn all() -> Self {
        Self::default()
    }

    /// Keys from `from` up to, but without, `to`.
    pub(super) fn new(from: &[u8], to: Option<&[u8]>) -> Self {
        Self { from: from.to_vec(), to: to.map(<[u8]>::to_vec) }
    }

    /// Keys that begin with `prefix` and are not below `from`.
    pub(super) fn prefix(prefix: &[u8], from: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        // The first key behind all with this prefix; behind a prefix of 0xff only the end is.
        while to.last() == Some(&0xff) {
            to.pop();
        }
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        Self { from: prefix.max(from).to_vec(), to: (!to.is_empty()).then_some(to) }
    }

    /// The first key.
    pub(super) fn from(&self) -> &[u8] {
        &self.from
    }

    /// The first key behind it, if there is one.
    pub(super) fn to(&self) -> Option<&[u8]> {
        self.to.as_deref()
    }

    fn overlaps(&self, table: &Table) -> Result<bool> {
        let ((smallest, _), (biggest, _)) = (key::split(table.smallest())?, key::split(table.biggest())?);
        Ok(biggest >= &*self.from && self.to.as_deref().is_none_or(|to| smallest < to))
    }
}

/// Tables that do not overlap, in their order.
#[derive(Debug)]
struct Run {
    tables: Vec<Table>,
}

/// Indexes that are kept for the next point reads, of one view or of all views of a directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(Arc<Mutex<VecDeque<Arc<Index>>>>);

impl Recent {
    /// Keeps an index, and as few of those before it as there is room for.
    fn keep(&self, index: Arc<Index>) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().position(|kept| Arc::ptr_eq(kept, &index)) {
            recent.remove(at);
        }
        recent.push_back(index);
        while recent.len() > 1 && recent.iter().map(|index| index.len()).sum::<usize>() > KEPT_INDEXES {
            recent.pop_front();
        }
    }
}

/// What tables and value logs hold together.
#[derive(Debug)]
pub(super) struct View {
    /// Newest first.
    runs: Vec<Run>,
    vlogs: Vlogs,
    now: u64,
    max_version: u64,
    dropped: AtomicU64,
    /// Those of them where something stood that is no value.
    damaged: AtomicU64,
    recent: Recent,
    progress: Progress,
}

impl View {
    /// Of these tables, in any order; what expires is judged at `now` (Unix seconds).
    pub(super) fn new(mut tables: Vec<(Rank, Table)>, vlogs: Vlogs, now: u64) -> Self {
        tables.sort_by(|(one, a), (other, b)| {
            one.cmp(other).then_with(|| key::compare(a.smallest(), b.smallest()))
        });
        let max_version = tables.iter().map(|(_, table)| table.max_version()).max().unwrap_or_default();
        let mut runs: Vec<Run> = Vec::new();
        // The runs of the level that is being dealt out. More than one: its tables overlap, which Badger would refuse.
        let mut level = (None, 0);
        for (rank, table) in tables {
            if !matches!(rank, Rank::Level(_)) || level.0 != Some(rank) {
                level = (Some(rank), runs.len());
            }
            let behind = |run: &&mut Run| {
                run.tables
                    .last()
                    .is_some_and(|last| key::compare(last.biggest(), table.smallest()) == Ordering::Less)
            };
            match runs.get_mut(level.1..).unwrap_or_default().iter_mut().find(behind) {
                Some(run) => run.tables.push(table),
                None => runs.push(Run { tables: vec![table] }),
            }
        }
        let (dropped, damaged, recent) = (AtomicU64::new(0), AtomicU64::new(0), Recent::default());
        Self { runs, vlogs, now, max_version, dropped, damaged, recent, progress: Progress::new() }
    }

    /// The same, for a caller who may want it no more: a walk asks even where it finds nothing to yield.
    pub(super) fn watched(mut self, progress: &Progress) -> Self {
        self.progress = progress.clone();
        self
    }

    /// The same, with the indexes that others have read.
    pub(super) fn remembering(mut self, recent: &Recent) -> Self {
        self.recent = recent.clone();
        self
    }

    /// Does the caller still want it?
    pub(super) fn check(&self) -> Result<()> {
        self.progress.check()
    }

    /// The highest version that a table's index knows of.
    pub(super) fn max_version(&self) -> u64 {
        self.max_version
    }

    /// How many superseded versions were left out because their values are gone, over all sources so far. Normal where a node collects
    /// garbage.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// How many of those are not just gone: something else, or something damaged, stands where the value was.
    pub(super) fn damaged(&self) -> u64 {
        self.damaged.load(Relaxed)
    }

    /// Counts from here on.
    pub(super) fn count_anew(&self) {
        self.dropped.store(0, Relaxed);
        self.damaged.store(0, Relaxed);
    }

    /// Another superseded version was left out.
    pub(super) fn drop_one(&self, lost: &LostValue) {
        self.dropped.fetch_add(1, Relaxed);
        self.damaged.fetch_add(u64::from(lost.damaged), Relaxed);
    }

    /// When what expires is judged.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// The value logs.
    pub(super) fn vlogs(&self) -> &Vlogs {
        &self.vlogs
    }

    /// Entries of the keys in `span` with `since < version <= until`; 0: all up to `until`. Badger's own keys never.
    pub(super) fn source(&self, span: &Span, since: u64, until: u64, which: Which) -> Result<Merged<'_>> {
        let mut walks = Vec::new();
        for run in &self.runs {
            let mut tables = VecDeque::new();
            for table in &run.tables {
                if (since == 0 || table.max_version() > since) && span.overlaps(table)? {
                    tables.push_back(table.clone());
                }
            }
            if !tables.is_empty() {
                walks.push(RunWalk::new(tables));
            }
        }
        Ok(Merged::new(self, walks, span.clone(), since..=until, which))
    }

    /// The newest version of a key that is not above `until`, deletes included.
    pub(super) fn get(&self, user_key: &[u8], until: u64) -> Result<Option<OwnedEntry>> {
        if user_key.starts_with(INTERNAL_PREFIX) {
            return Ok(None);
        }
        let (mut first, mut last) = (Vec::new(), Vec::new());
        key::put(&mut first, user_key, until);
        key::put(&mut last, user_key, 0);
        let mut copies: Vec<Found> = Vec::new();
        for run in &self.runs {
            let begin =
                run.tables.partition_point(|table| key::compare(table.biggest(), &first) == Ordering::Less);
            for table in run.tables.iter().skip(begin) {
                if key::compare(table.smallest(), &last) == Ordering::Greater {
                    break;
                }
                self.recent.keep(table.index()?);
                let Some(found) = table.get(user_key, until)? else { continue };
                match copies.first().map_or(Ordering::Greater, |best| found.version.cmp(&best.version)) {
                    Ordering::Less => {}
                    Ordering::Equal => copies.push(found),
                    Ordering::Greater => copies = vec![found],
                }
            }
        }
        let Some(newest) = copies.first() else { return Ok(None) };
        let mut entry = OwnedEntry {
            key: user_key.to_vec(),
            version: newest.version,
            value: Vec::new(),
            meta: newest.meta & META_KEPT,
            user_meta: newest.user_meta,
            expires_at: newest.expires_at,
        };
        if !entry.as_entry().is_delete() {
            first.clear();
            key::put(&mut first, user_key, newest.version);
            let expired = entry.as_entry().is_expired(self.now);
            entry.value = self
                .value_of(&copies, &first)
                .or_else(|error| if expired { Ok(Vec::new()) } else { Err(error) })?;
        }
        Ok(Some(entry))
    }

    /// The value of the first copy that has one.
    fn value_of(&self, copies: &[Found], internal: &[u8]) -> Result<Vec<u8>> {
        let mut missing = None;
        for copy in copies {
            if copy.meta & META_VALUE_POINTER == 0 {
                return Ok(copy.bytes.clone());
            }
            let mut value = Vec::new();
            let pointer = Pointer::read(&copy.bytes).map_err(|error| in_key(&error, internal))?;
            match self.vlogs.read(pointer, internal, &mut value)? {
                Lookup::Value(place) => {
                    value.truncate(place.end);
                    value.drain(..place.start);
                    return Ok(value);
                }
                Lookup::Dangling(error) | Lookup::Damaged(error) => {
                    missing.get_or_insert(error);
                }
            }
        }
        Err(missing.unwrap_or_else(|| Error::damaged("expected a copy of an entry, found none")))
    }
}

fn in_key(error: &Error, internal: &[u8]) -> Error {
    Error::damaged(format!("{} beside key {}", error.what(), key::shown(internal)))
}

#[cfg(test)]
mod tests;
