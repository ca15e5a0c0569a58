//! The entries of a [`View`] in order.

use super::key;
use super::merge::{Span, View, Which};
use super::meta::{Pointer, Value};
use super::table::{Table, Walk};
use super::vlog::Lookup;
use crate::entry::{
    Entry, INTERNAL_PREFIX, META_DELETE, META_DISCARD_EARLIER, META_KEPT, META_VALUE_POINTER, Source,
};
use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};

/// The caller is asked once in so many internal keys, or kilobytes of values from value logs.
const CHECK: usize = 4096;
/// A buffer for values that is larger is given back before the next value.
const KEEP: usize = 64 << 20;

/// A walk through the tables of a run, one open at a time.
#[derive(Debug)]
pub(super) struct RunWalk {
    tables: VecDeque<Table>,
    walk: Option<Walk>,
}

impl RunWalk {
    /// Stands before the first entry of the first table.
    pub(super) fn new(tables: VecDeque<Table>) -> Self {
        Self { tables, walk: None }
    }

    fn key(&self) -> &[u8] {
        self.walk.as_ref().map_or(&[], Walk::key)
    }

    fn value(&self) -> Value<'_> {
        self.walk.as_ref().map_or_else(Value::default, Walk::value)
    }

    /// The error with the place where this walk stands.
    fn blame(&self, error: &Error) -> Error {
        self.walk.as_ref().map_or_else(|| Error::damaged(error.what().to_owned()), |walk| walk.damaged(error))
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
    /// Internal keys, and kilobytes of values, since the caller was asked.
    passed: usize,
}

impl<'a> Merged<'a> {
    /// Entries of the keys in `span` from these walks, newest first; `versions` without their first, if that is not 0.
    pub(super) fn new(
        view: &'a View,
        walks: Vec<RunWalk>,
        span: Span,
        versions: RangeInclusive<u64>,
        which: Which,
    ) -> Self {
        Self {
            view,
            walks,
            heap: Vec::new(),
            group: Vec::new(),
            begun: false,
            span,
            since: *versions.start(),
            until: *versions.end(),
            which,
            key: Vec::new(),
            rest: Rest::Newest,
            entry: Head::default(),
            value: Place::Nowhere,
            buffer: Vec::new(),
            passed: 0,
        }
    }

    /// How many tables are open.
    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        self.walks.iter().filter(|walk| walk.walk.is_some()).count()
    }

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
                if walk.begin(self.span.from())? {
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

    /// Goes to the next entry, past those that a reader sees and whose value is nowhere: `lost` is told their keys.
    pub(super) fn advance_or(&mut self, lost: Lost<'_>) -> Result<bool> {
        while self.next_group()? {
            self.passed += 1;
            if self.passed >= CHECK {
                self.passed = 0;
                self.view.check()?;
            }
            match self.take(lost)? {
                Taken::Yes => return Ok(true),
                Taken::No => {}
                Taken::End => break,
            }
        }
        self.heap.clear();
        self.group.clear();
        Ok(false)
    }

    /// Is the internal key that the group stands on wanted? Then its entry is made ready.
    fn take(&mut self, lost: Lost<'_>) -> Result<Taken> {
        let Some(first) = self.group.first().copied() else { return Ok(Taken::End) };
        let (user_key, version) = key::split(self.walks.get(first).map_or(&[], RunWalk::key))?;
        if user_key != self.key {
            if self.span.to().is_some_and(|to| user_key >= to) {
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
        let expired = expires_at != 0 && expires_at <= self.view.now();
        let ends = deleted || expired || meta & META_DISCARD_EARLIER != 0;
        self.rest = match self.which {
            Which::Keys => Rest::Nothing,
            Which::Backup if ends => Rest::Nothing,
            Which::Backup | Which::All => Rest::Superseded,
        };
        self.value = Place::Nowhere;
        if deleted || self.which == Which::Keys {
            return Ok(Taken::Yes);
        }
        if meta & META_VALUE_POINTER == 0 {
            self.value = Place::Walk(first);
            return Ok(Taken::Yes);
        }
        match self.resolve()? {
            None => Ok(Taken::Yes),
            Some(_) if expired => Ok(Taken::Yes),
            Some(value) if superseded => {
                self.view.drop_one(&value);
                Ok(Taken::No)
            }
            Some(value) => lost(&self.key, value).map(|()| Taken::No),
        }
    }

    /// Finds the value through the first copy whose pointer leads to it; what the first copy met, when none does.
    fn resolve(&mut self) -> Result<Option<LostValue>> {
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
            let pointer = Pointer::read(value.bytes).map_err(|error| walk.blame(&error))?;
            match self.view.vlogs().read(pointer, walk.key(), &mut self.buffer)? {
                Lookup::Value(place) => {
                    self.passed += place.len() >> 10;
                    self.value = Place::Buffer(place);
                    return Ok(None);
                }
                Lookup::Dangling(error) => {
                    missing.get_or_insert(LostValue { error, damaged: false });
                }
                Lookup::Damaged(error) => {
                    missing.get_or_insert(LostValue { error, damaged: false }).damaged = true;
                }
            }
        }
        Ok(missing)
    }
}

/// A value that no copy of its entry leads to.
#[derive(Debug)]
pub(super) struct LostValue {
    /// What the first copy met.
    pub(super) error: Error,
    /// Does something stand there that is no value? Else nothing does, as where a node has collected garbage.
    pub(super) damaged: bool,
}

/// Is told of a user key whose newest version has lost its value; what it gives back ends the walk.
pub(super) type Lost<'l> = &'l mut dyn FnMut(&[u8], LostValue) -> Result<()>;

enum Taken {
    Yes,
    No,
    End,
}

impl Source for Merged<'_> {
    fn advance(&mut self) -> Result<bool> {
        self.advance_or(&mut |_, value| Err(value.error))
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
