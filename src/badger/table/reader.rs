//! Reads a table: opened from its end, walked from any key on, block after block.
//!
//! An open table holds its first and last key and a few numbers. The index is read when somebody walks or looks up, and shared while
//! somebody does, so that hundreds of tables can be open. A walk holds a quarter of a MiB of the file and one block, whatever the table
//! holds.

use super::block::Layout;
use super::index::{BlockAt, Facts, Index};
use super::{Compression, bloom, checksum};
use crate::badger::blob::Blob;
use crate::badger::key;
use crate::badger::meta::Value;
use crate::error::{Error, Kind, Result};
use std::cmp::Ordering;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// How much of a file is read at once while blocks are taken in order.
const READ: usize = 256 << 10;
/// Buffers that had to grow beyond this are given back as soon as they are not needed.
const KEEP: usize = 4 << 20;
/// Badger's builder cannot make a block larger than 1 GiB (`z.Allocator`).
const MAX_BLOCK: usize = (1 << 30) + (1 << 20);
/// The end of a table: both lengths, and the longest checksum between them.
const FOOTER: u64 = 4 + 64 + 4;

/// A table; clones share it.
#[derive(Clone, Debug)]
pub(in crate::badger) struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: File,
    facts: Facts,
    smallest: Vec<u8>,
    biggest: Vec<u8>,
    /// Alive while a walk or whoever looks up often holds it.
    index: Mutex<Weak<Index>>,
}

#[derive(Debug)]
struct File {
    blob: Blob,
    compression: Compression,
    /// Where the index lies. The blocks end where it begins.
    index: Range<u64>,
    /// The longest that a block can be when it is decompressed.
    longest: usize,
}

/// What [`Table::get`] found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::badger) struct Found {
    pub(in crate::badger) version: u64,
    pub(in crate::badger) meta: u8,
    pub(in crate::badger) user_meta: u8,
    pub(in crate::badger) expires_at: u64,
    /// The value, or a pointer to it.
    pub(in crate::badger) bytes: Vec<u8>,
}

impl Table {
    /// Opens a table. Its index and its last block are checked.
    pub(in crate::badger) fn open(blob: Blob, compression: Compression) -> Result<Self> {
        let (this, damage) = Self::open_leniently(blob, compression)?;
        damage.map_or(Ok(this), Err)
    }

    /// Opens a table whose last block may be damaged: then its last key is the one that this block begins with.
    pub(in crate::badger) fn open_leniently(
        blob: Blob,
        compression: Compression,
    ) -> Result<(Self, Option<Error>)> {
        let path = blob.path().to_owned();
        Self::open_file(blob, compression).map_err(|error| error.at_path(path))
    }

    fn open_file(blob: Blob, compression: Compression) -> Result<(Self, Option<Error>)> {
        let mut file = File { index: footer(&blob)?, blob, compression, longest: MAX_BLOCK };
        let index = Arc::new(file.read_index()?);
        let facts = index.facts();
        if compression == Compression::Zstd {
            // A zstd frame of a few bytes can stand for anything; a snappy block cannot.
            file.longest = MAX_BLOCK.min(usize::try_from(facts.uncompressed_size).unwrap_or(usize::MAX));
        }
        let last = index.blocks().saturating_sub(1);
        let smallest = index.block(0)?.key.to_vec();
        let biggest = index.block(last)?.key.to_vec();
        let inner = Inner { file, facts, smallest, biggest, index: Mutex::new(Arc::downgrade(&index)) };
        let mut walk = Walk::over(Self(Arc::new(inner)), index);
        let damage = walk.enter(last).and_then(|_| walk.finish_block()).err();
        let Walk { table, key, .. } = walk;
        let Some(mut inner) = Arc::into_inner(table.0) else {
            return Err(Error::damaged("expected a table that nobody else has, found one shared"));
        };
        if damage.is_none() {
            inner.biggest = key;
        }
        Ok((Self(Arc::new(inner)), damage))
    }

    /// The highest version that its index knows of.
    pub(in crate::badger) fn max_version(&self) -> u64 {
        self.0.facts.max_version
    }

    /// How many entries it has, says its index.
    pub(in crate::badger) fn key_count(&self) -> u32 {
        self.0.facts.key_count
    }

    /// What its index says of it.
    pub(in crate::badger) fn facts(&self) -> Facts {
        self.0.facts
    }

    /// The first internal key.
    pub(in crate::badger) fn smallest(&self) -> &[u8] {
        &self.0.smallest
    }

    /// The last internal key.
    pub(in crate::badger) fn biggest(&self) -> &[u8] {
        &self.0.biggest
    }

    /// What errors call it.
    pub(in crate::badger) fn path(&self) -> &Path {
        self.0.file.blob.path()
    }

    /// The file.
    pub(in crate::badger) fn blob(&self) -> &Blob {
        &self.0.file.blob
    }

    /// Its index: the one that somebody still holds, or read again.
    pub(in crate::badger) fn index(&self) -> Result<Arc<Index>> {
        let mut shared = self.0.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = shared.upgrade() {
            return Ok(index);
        }
        let index = Arc::new(self.0.file.read_index().map_err(|error| error.at_path(self.path()))?);
        *shared = Arc::downgrade(&index);
        Ok(index)
    }

    /// A walk over its entries that stands before the first.
    pub(in crate::badger) fn walk(&self) -> Result<Walk> {
        Ok(Walk::over(self.clone(), self.index()?))
    }

    /// The newest version of a key that is not above `until`.
    pub(in crate::badger) fn get(&self, user_key: &[u8], until: u64) -> Result<Option<Found>> {
        let index = self.index()?;
        if !index.filter().is_empty() && !bloom::may_contain(index.filter(), bloom::hash(user_key)) {
            return Ok(None);
        }
        let mut sought = Vec::with_capacity(user_key.len() + key::SUFFIX);
        key::put(&mut sought, user_key, until);
        let mut walk = Walk::over(self.clone(), index);
        if !walk.seek(&sought)? {
            return Ok(None);
        }
        let (found, version) = key::split(walk.key())?;
        if found != user_key {
            return Ok(None);
        }
        walk.load()?;
        let Value { meta, user_meta, expires_at, bytes } = walk.value();
        Ok(Some(Found { version, meta, user_meta, expires_at, bytes: bytes.to_vec() }))
    }
}

/// Where the index lies.
fn footer(blob: &Blob) -> Result<Range<u64>> {
    let tail = blob.len().min(FOOTER);
    let mut bytes = vec![0; usize::try_from(tail).unwrap_or_default()];
    blob.read(blob.len() - tail, &mut bytes)?;
    let (rest, message) = checksum::split(&bytes).map_err(|error| error.at_offset(blob.len()))?;
    let behind = (bytes.len() - rest.len()) as u64;
    let Some((_, len)) = rest.split_last_chunk::<4>() else {
        let what = format!("expected the length of an index and a checksum, found {} bytes", bytes.len());
        return Err(Error::damaged(what).at_offset(blob.len()));
    };
    let _ = message;
    let end = blob.len() - behind - 4;
    let len = u64::from(u32::from_be_bytes(*len));
    match end.checked_sub(len) {
        Some(start) if len > 0 => Ok(start..end),
        _ => {
            let what = format!("expected an index of 1 to {end} bytes, found a length of {len}");
            Err(Error::damaged(what).at_offset(end))
        }
    }
}

impl File {
    fn read_index(&self) -> Result<Index> {
        let Range { start, end } = self.index;
        // Up to the end of the file, so that the checksum is that of these bytes.
        let mut bytes = vec![0; usize::try_from(self.blob.len() - start).unwrap_or(usize::MAX)];
        self.blob.read(start, &mut bytes)?;
        let len = usize::try_from(end - start).unwrap_or(usize::MAX);
        let (rest, message) = checksum::split(&bytes).map_err(|error| error.at_offset(start))?;
        let index = rest.get(..len).unwrap_or_default();
        checksum::check(index, message, "an index").map_err(|error| error.at_offset(start))?;
        bytes.truncate(len);
        Index::read(bytes, start).map_err(|error| error.offset_by(start).at_offset(start))
    }

    /// The error with the file and the block, and the key it begins with.
    fn in_block(&self, error: Error, number: usize, block: &BlockAt<'_>) -> Error {
        if error.kind() != Kind::Damaged {
            return error.at_path(self.blob.path());
        }
        let what = format!(
            "{} in block {number} at byte {}, which begins with key {}",
            error.what(),
            block.offset,
            key::shown(block.key)
        );
        Error::damaged(what).at_path(self.blob.path()).at_offset(u64::from(block.offset)).caused_by(error)
    }
}

/// One block, decompressed, and what was read of the file beyond it.
#[derive(Debug, Default)]
struct Blocks {
    /// Bytes of the file from `at` on.
    raw: Vec<u8>,
    at: u64,
    /// Is more read than a block, since the next ones will be wanted?
    ahead: bool,
    /// The block, when it was compressed.
    plain: Vec<u8>,
    /// Where in `raw` it lies, when it was not.
    stored: Option<Range<usize>>,
}

impl Blocks {
    fn block(&self) -> &[u8] {
        match &self.stored {
            Some(place) => self.raw.get(place.clone()).unwrap_or_default(),
            None => &self.plain,
        }
    }

    fn fetch(&mut self, file: &File, block: &BlockAt<'_>) -> Result<()> {
        let len = usize::try_from(block.len).unwrap_or(usize::MAX);
        if len > MAX_BLOCK + MAX_BLOCK / 6 {
            let what = format!("expected a block of at most {MAX_BLOCK} bytes, found one of {len}");
            return Err(Error::damaged(what));
        }
        let place = match self.held(u64::from(block.offset), len) {
            Some(place) => place,
            None => self.read(file, u64::from(block.offset), len)?,
        };
        if file.compression == Compression::None {
            self.stored = Some(place);
            return Ok(());
        }
        self.stored = None;
        let stored = self.raw.get(place).unwrap_or_default();
        file.compression.decompress(stored, file.longest, &mut self.plain)?;
        if self.raw.capacity() > KEEP {
            self.raw = Vec::new();
        }
        Ok(())
    }

    fn held(&self, offset: u64, len: usize) -> Option<Range<usize>> {
        let start = usize::try_from(offset.checked_sub(self.at)?).ok()?;
        (start.checked_add(len)? <= self.raw.len()).then_some(start..start + len)
    }

    fn read(&mut self, file: &File, offset: u64, len: usize) -> Result<Range<usize>> {
        let left = usize::try_from(file.index.start.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = if self.ahead { len.max(READ.min(left)) } else { len };
        self.ahead = true;
        self.at = offset;
        self.raw.resize(wanted, 0);
        if let Err(error) = file.blob.read(offset, &mut self.raw) {
            self.raw.clear();
            return Err(error);
        }
        Ok(0..len)
    }

    /// Nothing lent is in use any more: gives back what is unusually large.
    fn trim(&mut self) {
        for buffer in [&mut self.raw, &mut self.plain] {
            if buffer.capacity() > KEEP {
                *buffer = Vec::new();
                self.stored = None;
            }
        }
    }

    fn forget(&mut self) {
        self.raw.clear();
        self.plain.clear();
        self.stored = None;
        self.ahead = false;
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Before,
    /// At the first entry of a block, of which only the key is known, from the index.
    Head,
    Inside,
    End,
}

/// Goes over the entries of a table in order.
///
/// The key it stands on is known before its block is read: whoever merges many walks holds one large value at a time, and [`load`](Self::load)s
/// it when its turn has come.
#[derive(Debug)]
pub(in crate::badger) struct Walk {
    table: Table,
    index: Arc<Index>,
    blocks: Blocks,
    layout: Layout,
    state: State,
    block: usize,
    /// The entry of the block.
    entry: usize,
    /// Where in the block the entry ends.
    end: usize,
    /// Where in the block the base key lies.
    base: Range<usize>,
    /// Of the current entry, where in the block its value lies.
    bytes: Range<usize>,
    meta: u8,
    user_meta: u8,
    expires_at: u64,
    key: Vec<u8>,
    last: Vec<u8>,
}

impl Walk {
    fn over(table: Table, index: Arc<Index>) -> Self {
        Self {
            table,
            index,
            blocks: Blocks::default(),
            layout: Layout::default(),
            state: State::Before,
            block: 0,
            entry: 0,
            end: 0,
            base: 0..0,
            bytes: 0..0,
            meta: 0,
            user_meta: 0,
            expires_at: 0,
            key: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Goes before the first entry of another table, with the buffers of this walk.
    pub(in crate::badger) fn turn_to(&mut self, table: &Table) -> Result<()> {
        self.index = table.index()?;
        self.table = table.clone();
        self.state = State::Before;
        self.key.clear();
        self.last.clear();
        self.blocks.forget();
        Ok(())
    }

    /// The table.
    pub(in crate::badger) fn table(&self) -> &Table {
        &self.table
    }

    /// The internal key it stands on; empty before the first and behind the last.
    pub(in crate::badger) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The number of the block it stands in.
    pub(in crate::badger) fn block(&self) -> usize {
        self.block
    }

    /// What stands beside the key. [`load`](Self::load) comes first.
    pub(in crate::badger) fn value(&self) -> Value<'_> {
        let bytes = match self.state {
            State::Inside => self.blocks.block().get(self.bytes.clone()).unwrap_or_default(),
            _ => &[],
        };
        Value { meta: self.meta, user_meta: self.user_meta, expires_at: self.expires_at, bytes }
    }

    /// Goes to the next entry; false behind the last.
    pub(in crate::badger) fn advance(&mut self) -> Result<bool> {
        self.load()?;
        match self.state {
            State::Before => self.enter(0),
            State::Inside if self.entry + 1 < self.layout.count => self.step().map(|()| true),
            State::Inside => self.enter(self.block + 1),
            State::Head | State::End => Ok(false),
        }
    }

    /// Goes to the first entry that is not before this internal key; false when there is none.
    pub(in crate::badger) fn seek(&mut self, internal: &[u8]) -> Result<bool> {
        self.key.clear();
        self.last.clear();
        self.blocks.ahead = false;
        let begun = self.index.begun(internal)?;
        let mut more = self.enter(begun.saturating_sub(1))?;
        while more && key::compare(&self.key, internal) == Ordering::Less {
            more = self.advance()?;
        }
        Ok(more)
    }

    /// Goes to the first entry of a block without reading it; false when there are not so many.
    pub(in crate::badger) fn enter(&mut self, block: usize) -> Result<bool> {
        self.blocks.trim();
        self.block = block;
        std::mem::swap(&mut self.key, &mut self.last);
        self.key.clear();
        if block >= self.index.blocks() {
            self.state = State::End;
            return Ok(false);
        }
        self.state = State::Head;
        let at = self.index.block(block)?;
        self.key.extend_from_slice(at.key);
        if key::compare(&self.last, &self.key) != Ordering::Less {
            let what = format!("expected a key behind {}, found another", key::shown(&self.last));
            return Err(self.table.0.file.in_block(Error::damaged(what), block, &at));
        }
        Ok(true)
    }

    /// Goes to the first entry of the block behind the one it stands in, whatever is between, which may be damaged.
    pub(in crate::badger) fn skip_block(&mut self) -> Result<bool> {
        self.key.clear();
        self.last.clear();
        self.enter(self.block + 1)
    }

    /// Goes to the last entry of the block.
    fn finish_block(&mut self) -> Result<()> {
        self.load()?;
        while self.entry + 1 < self.layout.count {
            self.step()?;
        }
        Ok(())
    }

    /// Has the entry in memory, not just its key.
    pub(in crate::badger) fn load(&mut self) -> Result<()> {
        if self.state != State::Head {
            return Ok(());
        }
        let at = self.index.block(self.block)?;
        let file = &self.table.0.file;
        let whole = self.blocks.fetch(file, &at).and_then(|()| Layout::read(self.blocks.block()));
        self.layout = whole.map_err(|error| file.in_block(error, self.block, &at))?;
        let block = self.blocks.block();
        let first = self.layout.start(block, 0).and_then(|start| self.layout.place(block, 0, start));
        let first = first.map_err(|error| file.in_block(error, self.block, &at))?;
        if first.overlap != 0 || first.rest.start != 4 || block.get(first.rest.clone()) != Some(at.key) {
            let what = "expected the key that the index names, found another";
            return Err(file.in_block(Error::damaged(what), self.block, &at));
        }
        (self.entry, self.end, self.base) = (0, first.value.end, first.rest);
        self.state = State::Inside;
        self.take(first.value)
    }

    /// Goes to the next entry of the block.
    fn step(&mut self) -> Result<()> {
        let block = self.blocks.block();
        let place = match self.layout.place(block, self.entry + 1, self.end) {
            Ok(place) => place,
            Err(error) => return Err(self.damaged(&error)),
        };
        let (base, rest) = (block.get(self.base.clone()), block.get(place.rest));
        let (Some(same), Some(rest)) = (base.and_then(|base| base.get(..place.overlap)), rest) else {
            let (most, found) = (self.base.len(), place.overlap);
            let what =
                format!("expected an overlap of at most {most} bytes with the base key, found {found}");
            return Err(self.damaged(&Error::damaged(what)));
        };
        std::mem::swap(&mut self.key, &mut self.last);
        self.key.clear();
        self.key.extend_from_slice(same);
        self.key.extend_from_slice(rest);
        self.entry += 1;
        self.end = place.value.end;
        if self.key.len() < key::SUFFIX || key::compare(&self.last, &self.key) != Ordering::Less {
            let (last, found) = (key::shown(&self.last), key::shown(&self.key));
            return Err(self.damaged(&Error::damaged(format!("expected a key behind {last}, found {found}"))));
        }
        self.take(place.value)
    }

    fn take(&mut self, place: Range<usize>) -> Result<()> {
        let bytes = self.blocks.block().get(place.clone()).unwrap_or_default();
        let Ok(value) = Value::read(bytes) else {
            let what = format!("expected meta bits and an expiry, found {} bytes", bytes.len());
            return Err(self.damaged(&Error::damaged(what)));
        };
        (self.meta, self.user_meta, self.expires_at) = (value.meta, value.user_meta, value.expires_at);
        self.bytes = place.end - value.bytes.len()..place.end;
        Ok(())
    }

    /// Damage with the place where the walk stands.
    pub(in crate::badger) fn damaged(&self, error: &Error) -> Error {
        match self.index.block(self.block) {
            Ok(at) => self.table.0.file.in_block(Error::damaged(error.what().to_owned()), self.block, &at),
            Err(error) => error.at_path(self.table.path()),
        }
    }
}
