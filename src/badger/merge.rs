//! Many tables, one order: what a directory holds.
//!
//! Tables are merged by internal key over all levels. Which version is the newest is decided by its number alone: levels are no order of age, since
//! Badger up to v4.9.3 may compact new data below old. Only where two tables hold the same key at the same version, the newer place stands, and
//! the other copies are asked for the value when its pointer leads nowhere (garbage collection and compaction leave such copies).
//!
//! | Newest first | |
//! |---|---|
//! | logs of memtables | higher number first |
//! | tables of level 0 | higher number first |
//! | tables of level 1, 2, … | those of a level do not overlap: one walk goes through them, one open at a time |

use super::key;
use super::meta::{Pointer, Value};
use super::table::index::Index;
use super::table::reader::Found;
use super::table::{Table, Walk};
use super::vlog::{Lookup, Vlogs};
use crate::entry::{
    Entry, INTERNAL_PREFIX, META_DELETE, META_DISCARD_EARLIER, META_KEPT, META_VALUE_POINTER, OwnedEntry,
    Source,
};
use crate::error::{Error, Result};
use std::cmp::{Ordering, Reverse};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of indexes that are kept for point reads.
const KEPT_INDEXES: usize = 32 << 20;
/// A buffer for values that is larger is given back with the value.
const KEEP: usize = 64 << 20;

/// How new the place of a table is: the least is the newest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Rank {
    /// Of a memtable's log, by its number.
    Memory(Reverse<u64>),
    /// Of level 0, by the table's number.
    Level0(Reverse<u64>),
    /// Of a deeper level.
    Level(u8),
}

impl Rank {
    /// Of the log of a memtable.
    pub(super) fn memory(fid: u64) -> Self {
        Self::Memory(Reverse(fid))
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

/// What tables and value logs hold together.
#[derive(Debug)]
pub(super) struct View {
    /// Newest first.
    runs: Vec<Run>,
    vlogs: Vlogs,
    now: u64,
    max_version: u64,
    dropped: AtomicU64,
    recent: Mutex<VecDeque<Arc<Index>>>,
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
        let (dropped, recent) = (AtomicU64::new(0), Mutex::default());
        Self { runs, vlogs, now, max_version, dropped, recent }
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
                walks.push(RunWalk { tables, walk: None });
            }
        }
        Ok(Merged {
            view: self,
            walks,
            heap: Vec::new(),
            group: Vec::new(),
            begun: false,
            span: span.clone(),
            since,
            until,
            which,
            key: Vec::new(),
            rest: Rest::Newest,
            entry: Head::default(),
            value: Place::Nowhere,
            buffer: Vec::new(),
        })
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
                self.keep(table.index()?);
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

    /// Keeps an index for the next point reads, and as few of those before it as there is room for.
    fn keep(&self, index: Arc<Index>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = recent.iter().position(|kept| Arc::ptr_eq(kept, &index)) {
            recent.remove(at);
        }
        recent.push_back(index);
        while recent.len() > 1 && recent.iter().map(|index| index.len()).sum::<usize>() > KEPT_INDEXES {
            recent.pop_front();
        }
    }
}

fn in_key(error: &Error, internal: &[u8]) -> Error {
    Error::damaged(format!("{} beside key {}", error.what(), key::shown(internal)))
}

/// A walk through the tables of a run, one open at a time.
#[derive(Debug)]
struct RunWalk {
    tables: VecDeque<Table>,
    walk: Option<Walk>,
}

impl RunWalk {
    fn key(&self) -> &[u8] {
        self.walk.as_ref().map_or(&[], Walk::key)
    }

    fn value(&self) -> Value<'_> {
        self.walk.as_ref().map_or_else(Value::default, Walk::value)
    }

    /// The error with the place where this walk stands.
    fn blame(&self, error: Error) -> Error {
        self.walk
            .as_ref()
            .map_or_else(|| Error::damaged(error.what().to_owned()), |walk| walk.damaged(&error))
    }

    fn load(&mut self) -> Result<()> {
        self.walk.as_mut().map_or(Ok(()), Walk::load)
    }

    /// To the first entry of a user key that is not below `from`.
    fn begin(&mut self, from: &[u8]) -> Result<bool> {
        let mut sought = Vec::new();
        key::put(&mut sought, from, u64::MAX);
        let Some(table) = self.tables.pop_front() else { return Ok(false) };
        let walk = self.walk.insert(table.walk()?);
        let more = if from.is_empty() { walk.advance()? } else { walk.seek(&sought)? };
        if more { Ok(true) } else { self.next_table() }
    }

    fn advance(&mut self) -> Result<bool> {
        let more = self.walk.as_mut().map_or(Ok(false), Walk::advance)?;
        if more { Ok(true) } else { self.next_table() }
    }

    fn next_table(&mut self) -> Result<bool> {
        let (Some(table), Some(walk)) = (self.tables.pop_front(), &mut self.walk) else {
            self.walk = None;
            return Ok(false);
        };
        walk.turn_to(&table)?;
        walk.advance()
    }
}

/// What is to be done with the next versions of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rest {
    /// The newest was not seen yet.
    Newest,
    /// It was: those that follow are superseded.
    Superseded,
    /// None is wanted.
    Nothing,
}

/// Where the value of the current entry lies.
#[derive(Clone, Debug)]
enum Place {
    Nowhere,
    /// In the block of this walk.
    Walk(usize),
    /// In the buffer.
    Buffer(Range<usize>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    version: u64,
    meta: u8,
    user_meta: u8,
    expires_at: u64,
}

/// The entries of a view in order.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    view: &'a View,
    /// Newest first.
    walks: Vec<RunWalk>,
    /// Walks that wait, by where they stand; a binary heap, the smallest key first, among equal keys the newest.
    heap: Vec<usize>,
    /// Walks that stand on the current internal key, newest first.
    group: Vec<usize>,
    begun: bool,
    span: Span,
    since: u64,
    until: u64,
    which: Which,
    /// The current user key.
    key: Vec<u8>,
    rest: Rest,
    entry: Head,
    value: Place,
    buffer: Vec<u8>,
}

impl Merged<'_> {
    fn key_of(&self, walk: usize) -> &[u8] {
        self.walks.get(walk).map_or(&[], RunWalk::key)
    }

    fn order(&self, one: usize, other: usize) -> Ordering {
        key::compare(self.key_of(one), self.key_of(other)).then(one.cmp(&other))
    }

    fn step(&mut self, walk: usize) -> Result<bool> {
        self.walks.get_mut(walk).map_or(Ok(false), RunWalk::advance)
    }

    fn push(&mut self, walk: usize) {
        let mut place = self.heap.len();
        self.heap.push(walk);
        while let Some(parent) = place.checked_sub(1).map(|place| place / 2)
            && let Some(above) = self.heap.get(parent)
            && self.order(walk, *above) == Ordering::Less
        {
            self.heap.swap(place, parent);
            place = parent;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        if self.heap.is_empty() {
            return None;
        }
        let first = self.heap.swap_remove(0);
        let mut place = 0;
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if let (Some(one), Some(other)) = (self.heap.get(child), self.heap.get(least))
                    && self.order(*one, *other) == Ordering::Less
                {
                    least = child;
                }
            }
            if least == place {
                return Some(first);
            }
            self.heap.swap(place, least);
            place = least;
        }
    }

    /// Goes to the next internal key, with every walk that stands on it in the group.
    fn next_group(&mut self) -> Result<bool> {
        if !self.begun {
            self.begun = true;
            for (number, walk) in self.walks.iter_mut().enumerate() {
                if walk.begin(&self.span.from)? {
                    self.group.push(number);
                }
            }
            while let Some(walk) = self.group.pop() {
                self.push(walk);
            }
        } else if let [only] = *self.group {
            if self.step(only)? {
                let next = self.heap.first().map(|next| key::compare(self.key_of(only), self.key_of(*next)));
                if next.is_none_or(|order| order == Ordering::Less) {
                    return Ok(true);
                }
                self.push(only);
            }
            self.group.clear();
        } else {
            while let Some(walk) = self.group.pop() {
                if self.step(walk)? {
                    self.push(walk);
                }
            }
        }
        let Some(first) = self.pop() else { return Ok(false) };
        self.group.push(first);
        while let Some(next) = self.heap.first()
            && self.key_of(*next) == self.key_of(first)
        {
            let next = self.pop();
            self.group.extend(next);
        }
        Ok(true)
    }

    /// Is the internal key that the group stands on wanted? Then its entry is made ready.
    fn take(&mut self) -> Result<Taken> {
        let Some(first) = self.group.first().copied() else { return Ok(Taken::End) };
        let (user_key, version) = key::split(self.walks.get(first).map_or(&[], RunWalk::key))?;
        if user_key != self.key {
            if self.span.to.as_deref().is_some_and(|to| user_key >= to) {
                return Ok(Taken::End);
            }
            self.rest = if user_key.starts_with(INTERNAL_PREFIX) { Rest::Nothing } else { Rest::Newest };
            self.key.clear();
            self.key.extend_from_slice(user_key);
        }
        if version > self.until || self.rest == Rest::Nothing {
            return Ok(Taken::No);
        }
        if self.since > 0 && version <= self.since {
            self.rest = Rest::Nothing;
            return Ok(Taken::No);
        }
        let superseded = self.rest == Rest::Superseded;
        let Some(walk) = self.walks.get_mut(first) else { return Ok(Taken::End) };
        walk.load()?;
        let Value { meta, user_meta, expires_at, .. } = walk.value();
        self.entry = Head { version, meta: meta & META_KEPT, user_meta, expires_at };
        let deleted = meta & META_DELETE != 0;
        let expired = expires_at != 0 && expires_at <= self.view.now;
        let ends = deleted || expired || meta & META_DISCARD_EARLIER != 0;
        self.rest = if ends && self.which == Which::Backup { Rest::Nothing } else { Rest::Superseded };
        self.value = Place::Nowhere;
        if deleted {
            return Ok(Taken::Yes);
        }
        if meta & META_VALUE_POINTER == 0 {
            self.value = Place::Walk(first);
            return Ok(Taken::Yes);
        }
        match self.resolve()? {
            None => Ok(Taken::Yes),
            Some(_) if expired => Ok(Taken::Yes),
            Some(_) if superseded => {
                self.view.dropped.fetch_add(1, Relaxed);
                Ok(Taken::No)
            }
            Some(error) => Err(error),
        }
    }

    /// Finds the value through the first copy whose pointer leads to it; what the first copy met, when none does.
    fn resolve(&mut self) -> Result<Option<Error>> {
        let mut missing = None;
        if self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        }
        for number in &self.group {
            let Some(walk) = self.walks.get_mut(*number) else { continue };
            walk.load()?;
            let value = walk.value();
            if !value.is_pointer() {
                self.value = Place::Walk(*number);
                return Ok(None);
            }
            let pointer = Pointer::read(value.bytes).map_err(|error| walk.blame(error))?;
            match self.view.vlogs.read(pointer, walk.key(), &mut self.buffer)? {
                Lookup::Value(place) => {
                    self.value = Place::Buffer(place);
                    return Ok(None);
                }
                Lookup::Dangling(error) | Lookup::Damaged(error) => {
                    missing.get_or_insert(error);
                }
            }
        }
        Ok(missing)
    }
}

enum Taken {
    Yes,
    No,
    End,
}

impl Source for Merged<'_> {
    fn advance(&mut self) -> Result<bool> {
        while self.next_group()? {
            match self.take()? {
                Taken::Yes => return Ok(true),
                Taken::No => {}
                Taken::End => break,
            }
        }
        self.heap.clear();
        self.group.clear();
        Ok(false)
    }

    fn entry(&self) -> Entry<'_> {
        if self.group.is_empty() {
            return Entry::default();
        }
        let Head { version, meta, user_meta, expires_at } = self.entry;
        let value = match &self.value {
            Place::Nowhere => &[],
            Place::Walk(walk) => self.walks.get(*walk).map_or(&[][..], |walk| walk.value().bytes),
            Place::Buffer(place) => self.buffer.get(place.clone()).unwrap_or_default(),
        };
        Entry { key: &self.key, version, value, meta, user_meta, expires_at }
    }
}
