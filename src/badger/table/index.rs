//! The index of a table: a FlatBuffers `TableIndex` (`fb/flatbuffer.fbs`), little-endian throughout.
//!
//! A FlatBuffers *table* is a place that says, 4 bytes, how far before it its *vtable* lies; the vtable says, 2 bytes for each field, how far
//! behind the place the field lies, 0: absent, so the default; fields at its end may be missing. Vectors and tables in a field are 4 bytes that
//! say how far behind themselves they lie; a vector is its length in 4 bytes and its elements. Anything may lie anywhere.
//!
//! | `TableIndex` |                    |                                                                          |
//! |--------------|--------------------|--------------------------------------------------------------------------|
//! | 0            | `[BlockOffset]`    | the blocks in order                                                      |
//! | 1            | `[ubyte]`          | the Bloom filter; may be absent                                          |
//! | 2            | `uint64`           | the highest version in the table, or more                                |
//! | 3            | `uint32`           | how many entries                                                         |
//! | 4            | `uint32`           | bytes of all blocks, not compressed                                      |
//! | 5            | `uint32`           | bytes of all blocks, of the index, and of what pointers point to         |
//! | 6            | `uint32`           | bytes that compaction believes it can drop                               |
//!
//! | `BlockOffset` |           |                                                   |
//! |---------------|-----------|---------------------------------------------------|
//! | 0             | `[ubyte]` | the internal key the block begins with            |
//! | 1             | `uint32`  | where in the file it begins                       |
//! | 2             | `uint32`  | how long it is there                              |
//!
//! What we write is laid out so (Badger's own builder lays it out from the end; both read the same):
//!
//! | at   | bytes    | what                                                                                    |
//! |------|----------|-----------------------------------------------------------------------------------------|
//! | 0    | 4        | 24: the `TableIndex`                                                                    |
//! | 4    | 18 + 2   | its vtable                                                                              |
//! | 24   | 36       | 20 (back to the vtable), blocks, `uint64` on a multiple of 8, filter, the four `uint32` |
//! | 60   | 10 + 2   | the vtable of every `BlockOffset`                                                       |
//! | 72   | 4 + 4 n  | the vector of blocks                                                                    |
//! |      | each     | 16: back to the vtable, key, offset, length; 4 + key, filled up to a multiple of 4      |
//! |      | 4 + m    | the filter                                                                              |
//!
//! **Bad input.** Every place is checked when the index is read: it lies inside, blocks lie inside the table, do not overlap, and begin with ascending
//! keys. An index costs its own bytes of memory, nothing for each block.

use crate::badger::key;
use crate::error::{Error, Result};
use std::cmp::Ordering;

const ROOT: usize = 24;
const VTABLE: usize = 4;
const BLOCK_VTABLE: usize = 60;
const BLOCKS: usize = 72;
/// Fields of `TableIndex`.
const OFFSETS: usize = 0;
const FILTER: usize = 1;
const MAX_VERSION: usize = 2;
const KEY_COUNT: usize = 3;
const UNCOMPRESSED_SIZE: usize = 4;
const ON_DISK_SIZE: usize = 5;
const STALE_DATA_SIZE: usize = 6;
/// Fields of `BlockOffset`.
const KEY: usize = 0;
const OFFSET: usize = 1;
const LEN: usize = 2;

/// What an index says of the whole table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::badger) struct Facts {
    pub(in crate::badger) max_version: u64,
    pub(in crate::badger) key_count: u32,
    pub(in crate::badger) uncompressed_size: u32,
    pub(in crate::badger) on_disk_size: u32,
    pub(in crate::badger) stale_data_size: u32,
}

/// Where a block lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::badger) struct BlockAt<'a> {
    /// The internal key that it begins with.
    pub(in crate::badger) key: &'a [u8],
    pub(in crate::badger) offset: u32,
    /// As stored.
    pub(in crate::badger) len: u32,
}

/// An index: its bytes, and where in them the parts begin.
#[derive(Debug)]
pub(in crate::badger) struct Index {
    bytes: Vec<u8>,
    facts: Facts,
    blocks: Vector,
    filter: Vector,
}

#[derive(Clone, Copy, Debug, Default)]
struct Vector {
    at: usize,
    len: usize,
}

impl Index {
    /// Reads the index of a table whose blocks end at byte `end` of the file.
    pub(in crate::badger) fn read(bytes: Vec<u8>, end: u64) -> Result<Self> {
        let root = Table::at(&bytes, follow(&bytes, 0)?)?;
        let facts = Facts {
            max_version: root.field(MAX_VERSION, u64_at)?.unwrap_or_default(),
            key_count: root.field(KEY_COUNT, u32_at)?.unwrap_or_default(),
            uncompressed_size: root.field(UNCOMPRESSED_SIZE, u32_at)?.unwrap_or_default(),
            on_disk_size: root.field(ON_DISK_SIZE, u32_at)?.unwrap_or_default(),
            stale_data_size: root.field(STALE_DATA_SIZE, u32_at)?.unwrap_or_default(),
        };
        let (blocks, filter) = (root.vector(OFFSETS, 4)?, root.vector(FILTER, 1)?);
        let this = Self { bytes, facts, blocks, filter };
        this.check(end)?;
        Ok(this)
    }

    fn check(&self, end: u64) -> Result<()> {
        if self.blocks.len == 0 {
            return Err(Error::damaged("expected at least one block in the index of a table, found none"));
        }
        let (mut free, mut last) = (0, &[][..]);
        for number in 0..self.blocks.len {
            let block = self.block(number)?;
            let (from, to) = (u64::from(block.offset), u64::from(block.offset) + u64::from(block.len));
            if from < free || to > end || block.len == 0 {
                let text =
                    format!("expected block {number} between bytes {free} and {end}, found {from} to {to}");
                return Err(Error::damaged(text));
            }
            if block.key.len() < key::SUFFIX || key::compare(last, block.key) != Ordering::Less {
                let (last, found) = (last.escape_ascii(), block.key.escape_ascii());
                return Err(Error::damaged(format!(
                    "expected block {number} to begin behind key {last}, found {found}"
                )));
            }
            (free, last) = (to, block.key);
        }
        Ok(())
    }

    /// What it says of the whole table.
    pub(in crate::badger) fn facts(&self) -> Facts {
        self.facts
    }

    /// How many blocks there are; at least one.
    pub(in crate::badger) fn blocks(&self) -> usize {
        self.blocks.len
    }

    /// A block.
    pub(in crate::badger) fn block(&self, number: usize) -> Result<BlockAt<'_>> {
        if number >= self.blocks.len {
            return Err(Error::damaged(format!("expected block {number}, found {} blocks", self.blocks.len)));
        }
        let block = Table::at(&self.bytes, follow(&self.bytes, self.blocks.at + 4 * number)?)?;
        let key = block.vector(KEY, 1)?;
        Ok(BlockAt {
            key: self.slice(key)?,
            offset: block.field(OFFSET, u32_at)?.unwrap_or_default(),
            len: block.field(LEN, u32_at)?.unwrap_or_default(),
        })
    }

    /// How many blocks begin at or before this internal key.
    pub(in crate::badger) fn begun(&self, internal: &[u8]) -> Result<usize> {
        let (mut from, mut to) = (0, self.blocks.len);
        while from < to {
            let middle = from.midpoint(to);
            if key::compare(self.block(middle)?.key, internal) == Ordering::Greater {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        Ok(from)
    }

    /// The Bloom filter, empty when there is none.
    pub(in crate::badger) fn filter(&self) -> &[u8] {
        self.slice(self.filter).unwrap_or_default()
    }

    /// Bytes of memory it takes.
    pub(in crate::badger) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn slice(&self, vector: Vector) -> Result<&[u8]> {
        self.bytes.get(vector.at..).and_then(|rest| rest.get(..vector.len)).ok_or_else(|| outside(vector.at))
    }
}

/// A FlatBuffers table.
#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Its vtable, without the two lengths.
    slots: &'a [u8],
}

impl<'a> Table<'a> {
    fn at(bytes: &'a [u8], at: usize) -> Result<Self> {
        let back = i64::from(u32_at(bytes, at)?.cast_signed());
        let vtable = i64::try_from(at).ok().and_then(|at| usize::try_from(at - back).ok());
        let vtable = vtable.and_then(|vtable| bytes.get(vtable..)).ok_or_else(|| outside(at))?;
        let len = usize::from(u16_at(vtable, 0)?);
        let slots = vtable.get(4..len).ok_or_else(|| outside(at))?;
        Ok(Self { bytes, at, slots })
    }

    /// Where a field lies, if it does.
    fn place(&self, field: usize) -> Option<usize> {
        let slot = u16_at(self.slots, 2 * field).ok().filter(|slot| *slot != 0)?;
        Some(self.at + usize::from(slot))
    }

    fn field<T>(&self, field: usize, read: impl Fn(&[u8], usize) -> Result<T>) -> Result<Option<T>> {
        self.place(field).map(|at| read(self.bytes, at)).transpose()
    }

    /// A vector of elements of `size` bytes, empty when it is absent.
    fn vector(&self, field: usize, size: usize) -> Result<Vector> {
        let Some(place) = self.place(field) else { return Ok(Vector::default()) };
        let at = follow(self.bytes, place)?;
        let len = usize::try_from(u32_at(self.bytes, at)?).unwrap_or(usize::MAX);
        let left = self.bytes.len().saturating_sub(at + 4);
        if len > left / size {
            let text = format!("expected at most {} elements in an index, found {len}", left / size);
            return Err(Error::damaged(text));
        }
        Ok(Vector { at: at + 4, len })
    }
}

/// What the four bytes at `at` point to.
fn follow(bytes: &[u8], at: usize) -> Result<usize> {
    let far = usize::try_from(u32_at(bytes, at)?).unwrap_or(usize::MAX);
    at.checked_add(far).filter(|to| *to < bytes.len()).ok_or_else(|| outside(at))
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or_else(|| outside(at))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    chunk(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    chunk(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64> {
    chunk(bytes, at).map(u64::from_le_bytes)
}

fn outside(at: usize) -> Error {
    Error::damaged(format!("expected a place inside the index of a table, found its byte {at}"))
}

/// An index. `stored` of the facts (`on_disk_size`) comes without the index itself, whose length is added.
///
/// Everything in a table must lie below 4 GiB; a length that does not fit is the caller's mistake and gives an index that is none.
pub(in crate::badger) fn encode<'a, B>(facts: &Facts, filter: &[u8], blocks: B) -> Vec<u8>
where
    B: ExactSizeIterator<Item = BlockAt<'a>>,
{
    let mut bytes = Vec::new();
    let u16s = |bytes: &mut Vec<u8>, numbers: &[u16]| {
        for number in numbers {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    };
    put_u32(&mut bytes, ROOT);
    let filter_slot = if filter.is_empty() { 0 } else { 16 };
    u16s(&mut bytes, &[18, 36, 4, filter_slot, 8, 20, 24, 28, 32, 0]);
    put_u32(&mut bytes, ROOT - VTABLE);
    let here = bytes.len();
    put_u32(&mut bytes, BLOCKS - here);
    bytes.extend_from_slice(&facts.max_version.to_le_bytes());
    let filter_place = bytes.len();
    put_u32(&mut bytes, 0);
    bytes.extend_from_slice(&facts.key_count.to_le_bytes());
    bytes.extend_from_slice(&facts.uncompressed_size.to_le_bytes());
    let size_place = bytes.len();
    put_u32(&mut bytes, 0);
    bytes.extend_from_slice(&facts.stale_data_size.to_le_bytes());
    u16s(&mut bytes, &[10, 16, 4, 8, 12, 0]);
    let count = blocks.len();
    put_u32(&mut bytes, count);
    let first = bytes.len();
    bytes.resize(first + 4 * count, 0);
    for (number, block) in blocks.enumerate() {
        let (slot, at) = (first + 4 * number, bytes.len());
        set_u32(&mut bytes, slot, at - slot);
        put_u32(&mut bytes, at - BLOCK_VTABLE);
        put_u32(&mut bytes, 12);
        bytes.extend_from_slice(&block.offset.to_le_bytes());
        bytes.extend_from_slice(&block.len.to_le_bytes());
        put_u32(&mut bytes, block.key.len());
        bytes.extend_from_slice(block.key);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if !filter.is_empty() {
        let at = bytes.len();
        set_u32(&mut bytes, filter_place, at - filter_place);
        put_u32(&mut bytes, filter.len());
        bytes.extend_from_slice(filter);
    }
    let size = bytes.len().saturating_add(usize::try_from(facts.on_disk_size).unwrap_or(usize::MAX));
    set_u32(&mut bytes, size_place, size);
    bytes
}

fn put_u32(to: &mut Vec<u8>, number: usize) {
    to.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn set_u32(bytes: &mut [u8], at: usize, number: usize) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
        *place = u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made by Badger v4.5.1: a table of three entries in a block of 82 bytes.
    const BADGER: [&str; 10] = [
        "1800000000000000",
        "1000240020001c00100008000c000400",
        "10000000d2000000030000005200000002000000000000000000000008000000",
        "14000000",
        "09000000800004000010131104000000",
        "0100000010000000",
        "00000a000c0008000000",
        "0400",
        "0a0000005200000004000000",
        "0e0000002f302f682f31fffffffffffffffd0000",
    ];

    fn badger() -> Vec<u8> {
        data_encoding::HEXLOWER.decode(BADGER.concat().as_bytes()).unwrap()
    }

    fn keys(number: usize) -> Vec<Vec<u8>> {
        (0..number).map(|at| format!("/0/h/{at:06}\0\0\0\0\0\0\0\0").into_bytes()).collect()
    }

    fn blocks(keys: &[Vec<u8>]) -> impl ExactSizeIterator<Item = BlockAt<'_>> {
        (0..)
            .zip(keys)
            .map(|(at, key)| BlockAt { key, offset: 100 * at, len: 100 })
            .collect::<Vec<_>>()
            .into_iter()
    }

    #[test]
    fn reads_what_badger_wrote() {
        let bytes = badger();
        assert_eq!(bytes.len(), 128);
        let index = Index::read(bytes, 82).unwrap();
        let facts = Facts {
            max_version: 2,
            key_count: 3,
            uncompressed_size: 82,
            on_disk_size: 210,
            stale_data_size: 0,
        };
        assert_eq!((index.facts(), index.blocks()), (facts, 1));
        let key = b"/0/h/1\xff\xff\xff\xff\xff\xff\xff\xfd";
        assert_eq!(index.block(0).unwrap(), BlockAt { key, offset: 0, len: 82 });
        assert_eq!(index.filter(), [0x80, 0, 4, 0, 0, 0x10, 0x13, 0x11, 4]);
        assert_eq!(index.block(1).unwrap_err().code(), "damaged");
    }

    #[test]
    fn what_is_written_is_laid_out_as_drawn_and_comes_back() {
        for count in [1, 2, 500] {
            for filter in [&[][..], &[1, 2, 3]] {
                let keys = keys(count);
                let facts = Facts {
                    max_version: 7,
                    key_count: 9,
                    uncompressed_size: 1000,
                    on_disk_size: 50,
                    stale_data_size: 3,
                };
                let bytes = encode(&facts, filter, blocks(&keys));
                assert_eq!(u32_at(&bytes, 0).unwrap(), 24);
                assert_eq!((24 + 8) % 8, 0);
                let len = u32::try_from(bytes.len()).unwrap();
                let index = Index::read(bytes, 100 * count as u64).unwrap();
                assert_eq!(index.facts(), Facts { on_disk_size: 50 + len, ..facts });
                assert_eq!(index.filter(), filter);
                let read: Vec<_> = (0..count).map(|at| index.block(at).unwrap()).collect();
                assert_eq!(read, blocks(&keys).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn finds_the_block_of_a_key() {
        let keys = keys(10);
        let index = Index::read(encode(&Facts::default(), &[], blocks(&keys)), 1000).unwrap();
        assert_eq!(index.begun(b"/0/h\0\0\0\0\0\0\0\0").unwrap(), 0);
        assert_eq!(index.begun(&keys[0]).unwrap(), 1);
        assert_eq!(index.begun(b"/0/h/000004x\0\0\0\0\0\0\0\0").unwrap(), 5);
        assert_eq!(index.begun(b"/1\0\0\0\0\0\0\0\0").unwrap(), 10);
    }

    #[test]
    fn blocks_that_cannot_be_are_damage() {
        let keys = keys(3);
        let [a, b] = [&keys[0][..], &keys[1]];
        let read = |blocks: Vec<BlockAt<'_>>| {
            Index::read(encode(&Facts::default(), &[], blocks.into_iter()), 1000)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let block = |key, offset, len| BlockAt { key, offset, len };
        assert!(read(vec![block(a, 0, 500), block(b, 500, 500)]).is_ok());
        let error = read(vec![block(a, 0, 500), block(b, 499, 500)]).unwrap_err();
        assert_eq!(error, "expected block 1 between bytes 500 and 1000, found 499 to 999");
        assert!(read(vec![block(a, 0, 500), block(b, u32::MAX, u32::MAX)]).is_err());
        assert!(read(vec![block(a, 0, 0)]).is_err());
        assert!(read(vec![]).unwrap_err().contains("found none"));
        assert!(read(vec![block(b, 0, 1), block(a, 1, 1)]).unwrap_err().contains("begin behind key"));
        assert!(read(vec![block(a, 0, 1), block(a, 1, 1)]).is_err());
        assert!(read(vec![block(b"1234567", 0, 1)]).is_err());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_gives_an_index_or_an_error() {
        for bytes in [badger(), encode(&Facts::default(), &[1, 2, 3], blocks(&keys(5)))] {
            for cut in 0..bytes.len() {
                let _ = Index::read(bytes[..cut].to_vec(), 500).map(|index| walk(&index));
            }
            for at in 0..bytes.len() {
                for flip in [1, 0x80, 0xff] {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= flip;
                    let _ = Index::read(bytes, 500).map(|index| walk(&index));
                }
            }
        }
    }

    fn walk(index: &Index) {
        for number in 0..index.blocks() {
            assert!(
                index.block(number).is_ok_and(|block| u64::from(block.offset) + u64::from(block.len) <= 500)
            );
        }
        let _ = (index.filter(), index.begun(b"/0/h/3\0\0\0\0\0\0\0\0"), index.len());
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_index_or_an_error(bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>(), 0u8..64], 0..400)) {
            let _ = Index::read(bytes, 500).map(|index| walk(&index));
        }
    }
}
