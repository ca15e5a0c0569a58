//! An increment at the cost of what changed: the index by version says which entries, then each is fetched.

use super::fault::fault;
use super::reader::Cursor;
use super::schema::{VERSIONS, behind, entry_key, split_version_key, versions_above};
use crate::entry::{Entry, Source};
use crate::error::{Error, Result};
use rocksdb::{DBRawIterator, ReadOptions, Snapshot};
use std::path::Path;

/// What the picked keys may take. Beyond it, everything is read instead.
const MAX_BYTES: usize = 64 << 20;
/// When more than one in so many entries is picked, reading everything in order is quicker.
const FULL_SHARE: u64 = 3;
/// After a fetch that was no neighbour of the one before, so many are sought before another step is tried.
const STEP_PAUSE: u32 = 16;

/// The entries of some versions, by key.
pub(super) struct Picked<'a> {
    /// The keys one behind the other.
    keys: Vec<u8>,
    slots: Vec<Slot>,
    next: usize,
    stored: DBRawIterator<'a>,
    cursor: Cursor<'a>,
    path: &'a Path,
    wanted: Vec<u8>,
    /// How many fetches are sought before a step to the neighbour is tried again.
    pause: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    version: u64,
    at: u32,
    len: u32,
}

impl<'a> Picked<'a> {
    /// The entries with `since < version <= pinned` of a store of `all` entries; `None` when they are too many.
    pub(super) fn between(
        at: &'a Snapshot<'_>,
        path: &'a Path,
        since: u64,
        pinned: u64,
        all: u64,
    ) -> Result<Option<Self>> {
        let (keys, slots) = match versions_above(since) {
            Some(from) if since < pinned => {
                let to = versions_above(pinned).unwrap_or_else(|| behind(&[VERSIONS]));
                match collect(at, path, (from, to), all)? {
                    Some(found) => found,
                    None => return Ok(None),
                }
            }
            _ => (Vec::new(), Vec::new()),
        };
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let stored = at.raw_iterator_opt(options);
        let (cursor, wanted) = (Cursor::new(path), Vec::new());
        Ok(Some(Self { keys, slots, next: 0, stored, cursor, path, wanted, pause: STEP_PAUSE }))
    }

    /// Stands `stored` on the wanted key.
    fn find(&mut self) -> bool {
        if self.pause == 0 && self.stored.valid() {
            self.stored.next();
            if self.stored.key() == Some(&self.wanted) {
                return true;
            }
            self.pause = STEP_PAUSE;
        }
        self.pause = self.pause.saturating_sub(1);
        self.stored.seek(&self.wanted);
        self.stored.key() == Some(&self.wanted)
    }
}

/// The keys and versions of a range of the versions space, in entry order.
fn collect(
    at: &Snapshot<'_>,
    path: &Path,
    (from, to): (Vec<u8>, Vec<u8>),
    all: u64,
) -> Result<Option<(Vec<u8>, Vec<Slot>)>> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    let mut index = at.raw_iterator_opt(options);
    let mut keys = Vec::new();
    let mut slots: Vec<Slot> = Vec::new();
    index.seek_to_first();
    while let Some(stored) = index.key() {
        let (version, key) = split_version_key(stored).map_err(|error| error.at_path(path))?;
        // Vectors double: what they hold is at most half of what they take.
        let bytes = keys.len() + key.len() + (slots.len() + 1) * size_of::<Slot>();
        let share = (slots.len() as u64).saturating_mul(FULL_SHARE);
        let (Ok(at), Ok(len)) = (u32::try_from(keys.len()), u32::try_from(key.len())) else {
            return Ok(None);
        };
        if bytes * 2 > MAX_BYTES || share > all.max(1_000) {
            return Ok(None);
        }
        keys.extend_from_slice(key);
        slots.push(Slot { version, at, len });
        index.next();
    }
    index.status().map_err(|error| fault(error, path))?;
    slots.sort_unstable_by(|one, other| {
        key_of(&keys, *one).cmp(key_of(&keys, *other)).then(other.version.cmp(&one.version))
    });
    Ok(Some((keys, slots)))
}

fn key_of(keys: &[u8], slot: Slot) -> &[u8] {
    keys.get(slot.at as usize..).and_then(|keys| keys.get(..slot.len as usize)).unwrap_or_default()
}

impl Source for Picked<'_> {
    fn advance(&mut self) -> Result<bool> {
        let Some(slot) = self.slots.get(self.next).copied() else {
            self.cursor = Cursor::new(self.path);
            return Ok(false);
        };
        self.next += 1;
        entry_key(key_of(&self.keys, slot), slot.version, &mut self.wanted);
        if self.find() {
            return self.cursor.load(&self.stored);
        }
        self.stored.status().map_err(|error| fault(error, self.path))?;
        let key = key_of(&self.keys, slot).escape_ascii();
        let what =
            format!("expected the entry {key} at version {} that the index names, found none", slot.version);
        Err(Error::damaged(what).at_path(self.path))
    }

    fn entry(&self) -> Entry<'_> {
        self.cursor.entry(&self.stored)
    }
}
