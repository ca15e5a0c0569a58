//! Opens a table, from its end.
//!
//! An open table holds its first and last key and a few numbers. The index is read when somebody walks or looks up, and shared while
//! somebody does, so that hundreds of tables can be open.

use super::index::{BlockAt, Facts, Index};
use super::walk::Walk;
use super::{Compression, bloom, checksum};
use crate::badger::blob::Blob;
use crate::badger::key;
use crate::badger::meta::Value;
use crate::badger::pace::Pace;
use crate::error::{Error, Kind, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Badger's builder cannot make a block larger than 1 GiB (`z.Allocator`).
pub(super) const MAX_BLOCK: usize = (1 << 30) + (1 << 20);
/// The longest index. Tables of 128 MiB, the longest with ev-node's options, have one of 4 MiB; only keys as long as Badger takes make it as long
/// as the table.
const MAX_INDEX: u64 = 128 << 20;
/// An index that is longer is held against its checksum before there is room for it.
const BELIEVED: u64 = 4 << 20;
/// What is read at once for that.
const WINDOW: usize = 256 << 10;
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

/// The file of a table.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) blob: Blob,
    pub(super) compression: Compression,
    /// Where the index lies. The blocks end where it begins.
    pub(super) index: Range<u64>,
    /// The longest that a block can be when it is decompressed.
    pub(super) longest: usize,
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
        let (table, key) = walk.into_parts();
        let Some(mut inner) = Arc::into_inner(table.0) else {
            return Err(Error::damaged("expected a table that nobody else has, found one shared"));
        };
        if damage.is_none() {
            inner.biggest = key;
        }
        Ok((Self(Arc::new(inner)), damage))
    }

    /// The same, read at this pace.
    pub(in crate::badger) fn paced(&self, pace: Option<&Pace>) -> Self {
        let Inner { file, facts, smallest, biggest, index } = &*self.0;
        let index = index.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self(Arc::new(Inner {
            file: File { blob: file.blob.clone().paced(pace), ..file.clone() },
            facts: *facts,
            smallest: smallest.clone(),
            biggest: biggest.clone(),
            index: Mutex::new(index),
        }))
    }

    /// Its file.
    pub(super) fn file(&self) -> &File {
        &self.0.file
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
    let (rest, _) = checksum::split(&bytes).map_err(|error| error.at_offset(blob.len()))?;
    let behind = (bytes.len() - rest.len()) as u64;
    let Some((_, len)) = rest.split_last_chunk::<4>() else {
        let what = format!("expected the length of an index and a checksum, found {} bytes", bytes.len());
        return Err(Error::damaged(what).at_offset(blob.len()));
    };
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
        if end - start > BELIEVED {
            self.check_index()?;
        }
        // Up to the end of the file, so that the checksum is that of these bytes.
        let mut bytes = vec![0; usize::try_from(self.blob.len() - start).unwrap_or(usize::MAX)];
        self.blob.read(start, &mut bytes)?;
        let len = usize::try_from(end - start).unwrap_or(usize::MAX);
        let (rest, message) = checksum::split(&bytes).map_err(|error| error.at_offset(start))?;
        let index = rest.get(..len).unwrap_or_default();
        checksum::check(index, message, "an index").map_err(|error| error.at_offset(start))?;
        bytes.truncate(len);
        Index::read(bytes, start).map_err(|error| error.at_offset(start))
    }

    /// Holds a long index against its checksum, without room for all of it: only what is really there is worth that.
    fn check_index(&self) -> Result<()> {
        let Range { start, end } = self.index;
        let mut tail = vec![0; usize::try_from(self.blob.len() - end).unwrap_or_default()];
        self.blob.read(end, &mut tail)?;
        let (_, message) = checksum::split(&tail).map_err(|error| error.at_offset(end))?;
        let wrong = |error: Error| error.at_offset(start);
        let mut sum = checksum::Sum::new(message, "an index").map_err(wrong)?;
        let (mut window, mut at) = (vec![0; WINDOW], start);
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(WINDOW).min(WINDOW);
            let part = window.get_mut(..room).unwrap_or_default();
            self.blob.read(at, part)?;
            sum.update(part);
            at += room as u64;
        }
        sum.end("an index").map_err(wrong)?;
        if end - start > MAX_INDEX {
            let what =
                format!("expected an index of at most {MAX_INDEX} bytes, found one of {}", end - start);
            return Err(Error::unsupported(what).at_offset(start));
        }
        Ok(())
    }

    /// The error with the file and the block, and the key it begins with.
    pub(super) fn in_block(&self, error: Error, number: usize, block: &BlockAt<'_>) -> Error {
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
