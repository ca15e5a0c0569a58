//! Goes over the entries of a table in order, block after block, from any key on.
//!
//! A walk holds a quarter of a MiB of the file and one block, whatever the table holds. Nothing is allocated for an entry: its value is
//! lent from the block.

use super::Compression;
use super::block::Layout;
use super::index::{BlockAt, Index};
use super::reader::{File, MAX_BLOCK, Table};
use crate::badger::blob::Blob;
use crate::badger::key;
use crate::badger::meta::Value;
use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// How much of a file is read at once while blocks are taken in order.
const READ: usize = 256 << 10;
/// Buffers that had to grow beyond this are given back as soon as they are not needed.
const KEEP: usize = 4 << 20;

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
        let passing = std::mem::replace(&mut self.ahead, true);
        let wanted = if passing { len.max(READ.min(left)) } else { len };
        self.at = offset;
        self.raw.resize(wanted, 0);
        let read = if passing { Blob::read_passing } else { Blob::read };
        if let Err(error) = read(&file.blob, offset, &mut self.raw) {
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
    /// Stands before the first entry.
    pub(super) fn over(table: Table, index: Arc<Index>) -> Self {
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

    /// The table, and the key it stands on.
    pub(super) fn into_parts(self) -> (Table, Vec<u8>) {
        (self.table, self.key)
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

    /// Bytes that its buffers take.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.blocks.raw.capacity() + self.blocks.plain.capacity()
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
            return Err(self.table.file().in_block(Error::damaged(what), block, &at));
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
    pub(super) fn finish_block(&mut self) -> Result<()> {
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
        let file = self.table.file();
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
            Ok(at) => self.table.file().in_block(Error::damaged(error.what().to_owned()), self.block, &at),
            Err(error) => error.at_path(self.table.path()),
        }
    }
}
