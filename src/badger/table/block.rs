//! A block of a table: entries, where they begin, a checksum. This is what it is when it is decompressed.
//!
//! | bytes | field                                                                                     |
//! |-------|-------------------------------------------------------------------------------------------|
//! | …     | the entries                                                                               |
//! | 4 k   | where each begins, little-endian; it ends where the next begins, the last where this list begins |
//! | 4     | k, big-endian                                                                             |
//! | m     | checksum of everything before it (`checksum`)                                             |
//! | 4     | m, big-endian                                                                             |
//!
//! | bytes | field of an entry                                                                         |
//! |-------|-------------------------------------------------------------------------------------------|
//! | 2     | how many bytes of the block's first key this key begins with, little-endian               |
//! | 2     | n, little-endian                                                                          |
//! | n     | the rest of the internal key                                                              |
//! | rest  | the value structure (`meta`)                                                              |
//!
//! The first entry has the whole of its key: the *base key*, which the index repeats. Overlaps are with that key, not with the one before
//! (`table/builder.go`, `table/iterator.go`).

use super::checksum;
use crate::error::{Error, Result};
use std::ops::Range;

/// Where the parts of a block lie. Says nothing about entries: each is checked when it is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layout {
    /// How many entries; at least one.
    pub(super) count: usize,
    /// Where the entries end, and the list of their beginnings begins.
    end: usize,
}

/// An entry of a block, its key and value structure as places in the block.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Bytes of the base key.
    pub(super) overlap: usize,
    /// The rest of the key.
    pub(super) rest: Range<usize>,
    /// The value structure.
    pub(super) value: Range<usize>,
}

impl Layout {
    /// Holds the checksum against the block.
    pub(super) fn read(block: &[u8]) -> Result<Self> {
        let (bytes, message) = checksum::split(block)?;
        checksum::check(bytes, message, "a block")?;
        let Some((rest, count)) = bytes.split_last_chunk::<4>() else {
            return Err(Error::damaged(format!(
                "expected the number of entries in a block, found {} bytes",
                bytes.len()
            )));
        };
        let count = usize::try_from(u32::from_be_bytes(*count)).unwrap_or(usize::MAX);
        match rest.len().checked_sub(count.saturating_mul(4)) {
            Some(end) if count > 0 => Ok(Self { count, end }),
            _ => {
                let most = rest.len() / 4;
                Err(Error::damaged(format!("expected 1 to {most} entries in a block, found {count}")))
            }
        }
    }

    /// Where entry `number` lies; `from` is where it begins, which is where the one before ends.
    pub(super) fn place(&self, block: &[u8], number: usize, from: usize) -> Result<Place> {
        let to = if number + 1 == self.count { self.end } else { self.start(block, number + 1)? };
        let head = block.get(from..to).filter(|_| to <= self.end).and_then(|entry| entry.first_chunk::<4>());
        let Some([overlap @ .., one, other]) = head else {
            let what =
                format!("expected entry {number} of a block at bytes {from} to {to}, found {}", self.end);
            return Err(Error::damaged(what));
        };
        let rest = from + 4..from + 4 + usize::from(u16::from_le_bytes([*one, *other]));
        if rest.end > to {
            let what = format!(
                "expected at most {} bytes of a key in entry {number} of a block, found {}",
                to - rest.start,
                rest.len()
            );
            return Err(Error::damaged(what));
        }
        Ok(Place { overlap: usize::from(u16::from_le_bytes(*overlap)), value: rest.end..to, rest })
    }

    /// Where entry `number` begins.
    pub(super) fn start(&self, block: &[u8], number: usize) -> Result<usize> {
        let bytes = block.get(self.end + 4 * number..).and_then(|rest| rest.first_chunk::<4>());
        match bytes {
            Some(bytes) if number < self.count => {
                Ok(usize::try_from(u32::from_le_bytes(*bytes)).unwrap_or(usize::MAX))
            }
            _ => Err(Error::damaged(format!("expected entry {number}, found {} entries", self.count))),
        }
    }
}
