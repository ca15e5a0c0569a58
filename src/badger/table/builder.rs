//! Writes a table (`table/builder.go`): blocks as they fill, the index at the end.
//!
//! The parts are drawn in `block`, `index` and `checksum`. In memory are one block and what the index will say: a key for each block, and
//! 4 bytes for each entry.

use super::codec::{Compression, Encoder};
use super::index::{self, BlockAt, Facts};
use super::{bloom, checksum};
use crate::badger::key::{compare, split};
use crate::badger::meta::Value;
use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::io::Write;
use std::num::TryFromIntError;

/// Stored blocks are written when there are so many bytes of them.
const WRITE_BYTES: usize = 256 << 10;

/// How a table is written.
#[derive(Clone, Copy, Debug)]
pub(in crate::badger) struct Options {
    pub(in crate::badger) compression: Compression,
    /// A block is ended before an entry with which it would be longer.
    pub(in crate::badger) block_size: usize,
    /// With a filter over the user keys?
    pub(in crate::badger) bloom: bool,
}

impl Default for Options {
    /// As Badger's default options, and ev-node's.
    fn default() -> Self {
        Self { compression: Compression::Snappy, block_size: 4096, bloom: true }
    }
}

/// What was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::badger) struct TableFacts {
    /// The file's length.
    pub(in crate::badger) bytes: u64,
    pub(in crate::badger) max_version: u64,
    pub(in crate::badger) keys: u64,
    /// The first internal key.
    pub(in crate::badger) smallest: Vec<u8>,
    /// The last internal key.
    pub(in crate::badger) biggest: Vec<u8>,
}

/// A table on its way to `out`, which need not be buffered.
pub(in crate::badger) struct Builder<W> {
    out: W,
    options: Options,
    encoder: Encoder,
    block: Block,
    /// Stored blocks that were not written yet.
    stored: Vec<u8>,
    /// Where the next stored block begins.
    at: u64,
    /// Bytes of the blocks' keys and places.
    indexed: u64,
    places: Vec<Place>,
    max_version: u64,
    keys: u32,
    hashes: Vec<u32>,
    uncompressed: u64,
    /// Bytes in value logs that the entries point to.
    pointed: u64,
    /// The last internal key.
    last: Vec<u8>,
}

/// A block that is stored.
struct Place {
    /// Its first internal key.
    key: Box<[u8]>,
    offset: u32,
    len: u32,
}

/// The block that is being filled.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    starts: Vec<u32>,
    /// Its first internal key.
    base: Vec<u8>,
}

impl<W: Write> Builder<W> {
    /// A table without entries so far.
    pub(in crate::badger) fn new(out: W, options: Options) -> Result<Self> {
        Ok(Self {
            out,
            options,
            encoder: Encoder::new(options.compression)?,
            block: Block::default(),
            stored: Vec::new(),
            at: 0,
            indexed: 0,
            places: Vec::new(),
            max_version: 0,
            keys: 0,
            hashes: Vec::new(),
            uncompressed: 0,
            pointed: 0,
            last: Vec::new(),
        })
    }

    /// Appends an entry; its internal key is above all before it. `pointer_len` is what its pointer says of the length in the value log,
    /// 0 without one.
    pub(in crate::badger) fn add(
        &mut self,
        internal: &[u8],
        value: &Value<'_>,
        pointer_len: u32,
    ) -> Result<()> {
        let (user_key, version) = split(internal)?;
        if !self.last.is_empty() && compare(&self.last, internal) != Ordering::Less {
            return Err(Error::invalid(
                "expected keys in order, each once, found one that is not above the last",
            ));
        }
        if !self.block.starts.is_empty() && self.block.length_with(internal, value) > self.options.block_size
        {
            self.end_block()?;
        }
        self.block.push(internal, value)?;
        if self.options.bloom {
            self.hashes.push(bloom::hash(user_key));
        }
        self.max_version = self.max_version.max(version);
        self.keys = self.keys.saturating_add(1);
        self.pointed += u64::from(pointer_len);
        self.last.clear();
        self.last.extend_from_slice(internal);
        Ok(())
    }

    /// Bytes of the blocks that are full, and about what the index says of them: with wide keys that is as much.
    pub(in crate::badger) fn stored_bytes(&self) -> u64 {
        self.at + self.indexed
    }

    /// Ends the table. Its index says that no version is above `raise_max_version`, or what its entries say where that is higher.
    pub(in crate::badger) fn finish(self, raise_max_version: Option<u64>) -> Result<TableFacts> {
        self.finish_into(raise_max_version).map(|(facts, _)| facts)
    }

    /// The same, and what it was written to.
    pub(in crate::badger) fn finish_into(
        mut self,
        raise_max_version: Option<u64>,
    ) -> Result<(TableFacts, W)> {
        self.end_block()?;
        let Some(first) = self.places.first() else {
            return Err(Error::invalid("expected entries in a table, found none"));
        };
        let smallest = first.key.to_vec();
        let filter = if self.options.bloom { bloom::build(&self.hashes) } else { Vec::new() };
        // Sizes are statistics that steer compaction.
        let facts = Facts {
            max_version: self.max_version.max(raise_max_version.unwrap_or(0)),
            key_count: self.keys,
            uncompressed_size: u32::try_from(self.uncompressed).unwrap_or(u32::MAX),
            on_disk_size: u32::try_from(self.at + self.pointed).unwrap_or(u32::MAX),
            stale_data_size: 0,
        };
        let blocks =
            self.places.iter().map(|block| BlockAt { key: &block.key, offset: block.offset, len: block.len });
        let mut end = index::encode(&facts, &filter, blocks);
        let length = u32::try_from(end.len()).map_err(too_large)?;
        let mut sum = Vec::new();
        checksum::put(&mut sum, &end);
        end.extend_from_slice(&length.to_be_bytes());
        end.append(&mut sum);
        self.write_stored()?;
        self.out.write_all(&end).and_then(|()| self.out.flush()).map_err(cannot_write)?;
        let bytes = self.at + end.len() as u64;
        let (max_version, keys) = (facts.max_version, u64::from(self.keys));
        Ok((TableFacts { bytes, max_version, keys, smallest, biggest: self.last }, self.out))
    }

    fn end_block(&mut self) -> Result<()> {
        if self.block.starts.is_empty() {
            return Ok(());
        }
        self.block.end()?;
        let begin = self.stored.len();
        self.encoder.append(&self.block.bytes, &mut self.stored)?;
        let len = (self.stored.len() - begin) as u64;
        let key: Box<[u8]> = self.block.base.as_slice().into();
        self.indexed += (key.len() + size_of::<Place>()) as u64;
        let offset = u32::try_from(self.at).map_err(too_large)?;
        self.places.push(Place { key, offset, len: u32::try_from(len).map_err(too_large)? });
        self.at += len;
        self.uncompressed += self.block.bytes.len() as u64;
        self.block.bytes.clear();
        self.block.starts.clear();
        if self.stored.len() >= WRITE_BYTES { self.write_stored() } else { Ok(()) }
    }

    fn write_stored(&mut self) -> Result<()> {
        self.out.write_all(&self.stored).map_err(cannot_write)?;
        self.stored.clear();
        Ok(())
    }
}

impl Block {
    /// How long Badger thinks that it would be with this entry (`shouldFinishBlock`).
    fn length_with(&self, internal: &[u8], value: &Value<'_>) -> usize {
        let expiry = varint_length(value.expires_at);
        let entry = 6 + internal.len() + 2 + expiry + value.bytes.len();
        // The list of entries, its length, 8 bytes of checksum and the length of that.
        self.bytes.len() + entry + (self.starts.len() + 1) * 4 + 16
    }

    fn push(&mut self, internal: &[u8], value: &Value<'_>) -> Result<()> {
        let overlap = if self.starts.is_empty() {
            self.base.clear();
            self.base.extend_from_slice(internal);
            0
        } else {
            self.base.iter().zip(internal).take_while(|(one, other)| one == other).count()
        };
        let rest = internal.get(overlap..).unwrap_or_default();
        let (Ok(overlap), Ok(diff)) = (u16::try_from(overlap), u16::try_from(rest.len())) else {
            let what = format!("expected a key of at most 65527 bytes, found {}", internal.len());
            return Err(Error::unsupported(what));
        };
        self.starts.push(u32::try_from(self.bytes.len()).map_err(too_large)?);
        self.bytes.extend_from_slice(&overlap.to_le_bytes());
        self.bytes.extend_from_slice(&diff.to_le_bytes());
        self.bytes.extend_from_slice(rest);
        value.put(&mut self.bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        for start in &self.starts {
            self.bytes.extend_from_slice(&start.to_le_bytes());
        }
        let count = u32::try_from(self.starts.len()).map_err(too_large)?;
        self.bytes.extend_from_slice(&count.to_be_bytes());
        checksum::seal(&mut self.bytes);
        Ok(())
    }
}

fn varint_length(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn too_large(error: TryFromIntError) -> Error {
    Error::unsupported("expected a table of less than 4 GiB, found a larger one").caused_by(error)
}

fn cannot_write(error: std::io::Error) -> Error {
    Error::of_io(error, "write it")
}

#[cfg(test)]
mod tests {
    use super::super::codec::Compression::None as Plain;
    use super::*;
    use crate::badger::key;

    fn internal(key: &[u8], version: u64) -> Vec<u8> {
        let mut internal = Vec::new();
        key::put(&mut internal, key, version);
        internal
    }

    fn plain() -> Options {
        Options { compression: Plain, ..Options::default() }
    }

    #[test]
    fn a_block_is_the_one_that_badger_writes() {
        // Made by Badger v4.5.1.
        let expected = [
            "00000e002f302f682f31fffffffffffffffd410000",
            "0d000100fe400900686472",
            "0300090074fffffffffffffffe4000000100000000000000",
            "00000000150000002000000000000003",
            "10d790c9e60b00000006",
        ];
        let mut out = Vec::new();
        let mut table = Builder::new(&mut out, plain()).unwrap();
        let tombstone = Value { meta: 0x41, ..Value::default() };
        table.add(&internal(b"/0/h/1", 2), &tombstone, 0).unwrap();
        let header = Value { meta: 0x40, user_meta: 9, expires_at: 0, bytes: b"hdr" };
        table.add(&internal(b"/0/h/1", 1), &header, 0).unwrap();
        let tip = Value { meta: 0x40, bytes: &[1, 0, 0, 0, 0, 0, 0, 0], ..Value::default() };
        table.add(&internal(b"/0/t", 1), &tip, 0).unwrap();
        let facts = table.finish(None).unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&out[..82]), expected.concat());
        assert_eq!((facts.bytes, facts.keys, facts.max_version), (out.len() as u64, 3, 2));
        assert_eq!((facts.smallest, facts.biggest), (internal(b"/0/h/1", 2), internal(b"/0/t", 1)));
    }

    #[test]
    fn what_is_out_of_order_or_twice_is_refused() {
        let mut table = Builder::new(Vec::new(), plain()).unwrap();
        table.add(&internal(b"b", 2), &Value::default(), 0).unwrap();
        for (key, version) in [(&b"b"[..], 2), (b"b", 3), (b"a", 1)] {
            let error = table.add(&internal(key, version), &Value::default(), 0).unwrap_err();
            assert_eq!(error.code(), "invalid-argument");
        }
        table.add(&internal(b"b", 1), &Value::default(), 0).unwrap();
    }

    #[test]
    fn a_table_without_entries_is_none() {
        assert_eq!(
            Builder::new(Vec::new(), plain()).unwrap().finish(None).unwrap_err().code(),
            "invalid-argument"
        );
    }

    #[test]
    fn a_write_that_fails_is_told_as_what_it_is() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut table = Builder::new(Full, plain()).unwrap();
        table.add(&internal(b"b", 2), &Value::default(), 0).unwrap();
        assert_eq!(table.finish(None).unwrap_err().at_path("000001.sst").code(), "no-space");
    }
}
