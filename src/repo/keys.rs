//! The keys file: the sorted live keys of a segment's source, which the tombstones of the next increment are made from.
//!
//! | bytes   | field                                                                   |
//! |---------|-------------------------------------------------------------------------|
//! | 7       | `evbkeys`                                                               |
//! | 1       | format, 1                                                               |
//! | …       | the keys, ascending, each once:                                         |
//! | varint  | how many bytes it begins with that the key before it begins with too    |
//! | varint  | how many follow                                                         |
//! | n       | those                                                                   |
//! | varint  | the version of its newest entry                                         |
//! | 8       | hash of what that entry holds ([`content_hash`](crate::base::checksum::content_hash)), little-endian |
//! | 2       | 0, 0: the end (the empty key, which Badger has not)                     |
//! | 8       | how many keys, little-endian                                            |
//! | 4       | CRC-32C of all bytes before it, little-endian                           |
//!
//! Any bytes give keys in order, or an error that says where; memory is one buffer and two keys. Keys are handed out before
//! the checksum behind them was seen: whoever acts on them waits until [`KeysReader::advance`] has said that it was the end.

use super::manifest::Keys;
use crate::base::checksum::{Sha256, crc32c};
use crate::base::cursor::{Cursor, MAX_VARINT, put_uvarint};
use crate::entry::MAX_KEY;
use crate::error::{Error, Result};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"evbkeys\x01";
/// One write or read; a record is not longer than a key and three varints, so a reader's buffer holds at most twice this.
const BUFFER: usize = 128 << 10;
/// The longest record apart from its key: three varints and the hash.
const FIELDS: usize = 3 * MAX_VARINT + 8;
const TRAILER: usize = 2 + 8 + 4;

/// Writes a keys file.
///
/// ```
/// use evbackup::repo::keys::{KeysReader, KeysWriter};
///
/// let mut writer = KeysWriter::new(Vec::new(), "full.badger.keys");
/// writer.put(b"/0/t", 7, 42)?;
/// let (bytes, keys) = writer.finish(true)?;
///
/// let mut reader = KeysReader::new(bytes.as_slice(), "full.badger.keys")?.expecting(&keys);
/// assert!(reader.advance()?);
/// assert_eq!((reader.key(), reader.version(), reader.hash()), (b"/0/t".as_slice(), 7, 42));
/// assert!(!reader.advance()?);
/// # Ok::<(), evbackup::error::Error>(())
/// ```
#[derive(Debug)]
pub struct KeysWriter<W> {
    to: W,
    path: PathBuf,
    buffer: Vec<u8>,
    last: Vec<u8>,
    entries: u64,
    bytes: u64,
    crc: u32,
    sha256: Sha256,
}

impl<W: Write> KeysWriter<W> {
    /// Writes to `to`, which errors call `path`.
    pub fn new(to: W, path: impl AsRef<Path>) -> Self {
        let mut buffer = Vec::with_capacity(BUFFER);
        buffer.extend_from_slice(MAGIC);
        Self {
            to,
            path: path.as_ref().to_owned(),
            buffer,
            last: Vec::new(),
            entries: 0,
            bytes: 0,
            crc: 0,
            sha256: Sha256::new(),
        }
    }

    /// Adds a key, which comes after the one before.
    pub fn put(&mut self, key: &[u8], version: u64, hash: u64) -> Result<()> {
        if key.is_empty() || key.len() > MAX_KEY {
            let what = format!("expected a key of 1 to {MAX_KEY} bytes, found {}", key.len());
            return Err(Error::invalid(what).at_path(&self.path));
        }
        if key <= self.last.as_slice() {
            return Err(Error::invalid(
                "expected keys in ascending order, found one that is not above the one before",
            )
            .at_path(&self.path));
        }
        let shared = self.last.iter().zip(key).take_while(|(one, other)| one == other).count();
        let suffix = key.get(shared..).unwrap_or_default();
        put_uvarint(&mut self.buffer, shared as u64);
        put_uvarint(&mut self.buffer, suffix.len() as u64);
        self.buffer.extend_from_slice(suffix);
        put_uvarint(&mut self.buffer, version);
        self.buffer.extend_from_slice(&hash.to_le_bytes());
        self.last.truncate(shared);
        self.last.extend_from_slice(suffix);
        self.entries += 1;
        if self.buffer.len() >= BUFFER - (MAX_KEY + FIELDS) { self.drain() } else { Ok(()) }
    }

    /// Ends the file; `all` says whether it lists all live keys. The writer comes back with what the manifest says of it.
    pub fn finish(mut self, all: bool) -> Result<(W, Keys)> {
        self.buffer.extend_from_slice(&[0, 0]);
        self.buffer.extend_from_slice(&self.entries.to_le_bytes());
        let crc = crc32c(self.crc, &self.buffer);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.drain()?;
        self.to.flush().map_err(|error| Error::from_io(error, "write it", &self.path))?;
        let keys = Keys { bytes: self.bytes, sha256: self.sha256.hex(), entries: self.entries, all };
        Ok((self.to, keys))
    }

    fn drain(&mut self) -> Result<()> {
        self.to.write_all(&self.buffer).map_err(|error| Error::from_io(error, "write it", &self.path))?;
        self.crc = crc32c(self.crc, &self.buffer);
        self.sha256.update(&self.buffer);
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads a keys file: a cursor that stands on one key after the other.
#[derive(Debug)]
pub struct KeysReader<R> {
    from: R,
    path: PathBuf,
    buffer: Vec<u8>,
    /// What of the buffer has been read, and where in the file that is.
    read: usize,
    offset: u64,
    ended: bool,
    key: Vec<u8>,
    version: u64,
    hash: u64,
    entries: u64,
    crc: u32,
    sha256: Sha256,
    expected: Option<Keys>,
}

impl<R: Read> KeysReader<R> {
    /// Reads from `from`, which errors call `path`.
    pub fn new(from: R, path: impl AsRef<Path>) -> Result<Self> {
        let mut this = Self {
            from,
            path: path.as_ref().to_owned(),
            buffer: Vec::with_capacity(BUFFER),
            read: 0,
            offset: 0,
            ended: false,
            key: Vec::new(),
            version: 0,
            hash: 0,
            entries: 0,
            crc: 0,
            sha256: Sha256::new(),
            expected: None,
        };
        this.fill(MAGIC.len())?;
        let (magic, rest) = MAGIC.split_at(MAGIC.len() - 1);
        let mut at = this.cursor();
        let header = at.take(MAGIC.len() as u64, "the header").map_err(|error| error.at_path(&this.path))?;
        if !header.starts_with(magic) {
            return Err(Error::damaged("expected a keys file, found another header")
                .at_offset(0)
                .at_path(&this.path));
        }
        if !header.ends_with(rest) {
            let found = header.last().copied().unwrap_or_default();
            return Err(Error::unsupported(format!("expected a keys file of format 1, found {found}"))
                .at_path(&this.path)
                .with_hint("a later version of evbackup wrote it: use that one"));
        }
        this.consume(MAGIC.len());
        Ok(this)
    }

    /// Has the end compared with what the manifest says of the file.
    #[must_use]
    pub fn expecting(mut self, keys: &Keys) -> Self {
        self.expected = Some(keys.clone());
        self
    }

    /// Moves to the next key; false at the end, once everything is proven.
    pub fn advance(&mut self) -> Result<bool> {
        self.step().map_err(|error| error.at_path(&self.path))
    }

    /// The key it stands on; empty before the first and after the last.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The version of the key's newest entry.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The hash of what that entry holds.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    fn step(&mut self) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.fill(MAX_KEY + FIELDS)?;
        // Not self.cursor(): what it lends must live while the key changes.
        let available = self.buffer.get(self.read..).unwrap_or_default();
        let mut at = Cursor::at_offset(available, self.offset);
        let shared = at.uvarint("shared length")?;
        let length = at.uvarint("key length")?;
        if (shared, length) == (0, 0) {
            return self.end();
        }
        let shared = usize::try_from(shared).unwrap_or(usize::MAX);
        let Some(before) = self.key.get(shared..).filter(|_| length <= (MAX_KEY - shared) as u64) else {
            let what = format!(
                "expected a key of at most {MAX_KEY} bytes that begins as the one before, found other lengths"
            );
            return Err(Error::damaged(what).at_offset(self.offset));
        };
        let suffix = at.take(length, "key")?;
        // The shared bytes are the same, so what follows them decides the order.
        if suffix <= before {
            let what = "expected a key above the one before, found one that is not";
            return Err(Error::damaged(what).at_offset(self.offset));
        }
        let version = at.uvarint("version")?;
        let hash = at.u64_le("content hash")?;
        let length = available.len() - at.rest().len();
        self.key.truncate(shared);
        self.key.extend_from_slice(suffix);
        (self.version, self.hash) = (version, hash);
        self.entries += 1;
        self.consume(length);
        Ok(true)
    }

    fn end(&mut self) -> Result<bool> {
        let mut at = self.cursor();
        at.take(2, "end mark")?;
        let entries = at.u64_le("number of keys")?;
        let found = crc32c(self.crc, self.available().get(..TRAILER - 4).unwrap_or_default());
        let (offset, expected) = (at.offset(), at.u32_le("checksum")?);
        at.finish("the keys file")?;
        if expected != found {
            let what = format!("expected CRC-32C {expected:08x}, found {found:08x}");
            return Err(Error::damaged(what).at_offset(offset));
        }
        if entries != self.entries {
            let what = format!("expected {entries} keys, found {}", self.entries);
            return Err(Error::damaged(what).at_offset(offset));
        }
        self.consume(TRAILER);
        self.key.clear();
        (self.version, self.hash, self.ended) = (0, 0, true);
        let Some(expected) = &self.expected else { return Ok(false) };
        let found = Keys { bytes: self.offset, sha256: self.sha256.hex(), entries, all: expected.all };
        if *expected == found {
            return Ok(false);
        }
        Err(Error::mismatch(format!(
            "expected the keys file of the manifest, {} keys of SHA-256 {}, found {} of {}",
            expected.entries, expected.sha256, found.entries, found.sha256
        )))
    }

    fn available(&self) -> &[u8] {
        self.buffer.get(self.read..).unwrap_or_default()
    }

    fn cursor(&self) -> Cursor<'_> {
        Cursor::at_offset(self.available(), self.offset)
    }

    /// Has at least `count` bytes ready, unless the file has fewer.
    fn fill(&mut self, count: usize) -> Result<()> {
        if self.available().len() >= count {
            return Ok(());
        }
        self.buffer.drain(..self.read);
        self.read = 0;
        let missing = (BUFFER.max(count) - self.buffer.len()) as u64;
        self.from
            .by_ref()
            .take(missing)
            .read_to_end(&mut self.buffer)
            .map(drop)
            .map_err(|error| Error::from_io(error, "read it", &self.path))
    }

    fn consume(&mut self, count: usize) {
        let taken = self.buffer.get(self.read..self.read + count).unwrap_or_default();
        self.crc = crc32c(self.crc, taken);
        self.sha256.update(taken);
        self.read += count;
        self.offset += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Record = (Vec<u8>, u64, u64);

    fn written(records: &[Record]) -> (Vec<u8>, Keys) {
        let mut writer = KeysWriter::new(Vec::new(), "k");
        for (key, version, hash) in records {
            writer.put(key, *version, *hash).unwrap();
        }
        writer.finish(false).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Record>> {
        let mut reader = KeysReader::new(bytes, "k")?;
        let mut records = Vec::new();
        while reader.advance()? {
            records.push((reader.key().to_vec(), reader.version(), reader.hash()));
        }
        assert!(reader.key().is_empty() && !reader.advance()?);
        Ok(records)
    }

    fn some() -> Vec<Record> {
        let keys: [&[u8]; 5] = [b"\0", b"/0/h/1", b"/0/h/10", b"/0/t", b"x"];
        keys.iter().zip(0..).map(|(key, at)| (key.to_vec(), at * 1000, u64::MAX - at)).collect()
    }

    #[test]
    fn the_bytes_are_as_drawn() {
        let (bytes, keys) = written(&[(b"ab".to_vec(), 1, 2), (b"ac".to_vec(), 128, 3)]);
        let (body, crc) = bytes.split_at(bytes.len() - 4);
        let expected = [
            b"evbkeys\x01".as_slice(),
            b"\x00\x02ab\x01\x02\0\0\0\0\0\0\0",
            b"\x01\x01c\x80\x01\x03\0\0\0\0\0\0\0",
            b"\0\0\x02\0\0\0\0\0\0\0",
        ];
        assert_eq!(body, expected.concat());
        assert_eq!(crc, crc32c(0, body).to_le_bytes());
        let sha256 = crate::base::checksum::sha256_hex(&bytes);
        assert_eq!(keys, Keys { bytes: bytes.len() as u64, sha256, entries: 2, all: false });
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (bytes, _) = written(&some());
        assert_eq!(read(&bytes).unwrap(), some());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let error = read(&damaged).unwrap_err();
                let format = at == 7;
                assert_eq!(
                    error.code(),
                    if format { "unsupported" } else { "damaged" },
                    "{at} {bit} {error}"
                );
            }
            assert_eq!(read(&bytes[..at]).unwrap_err().code(), "damaged");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        let error = read(&longer).unwrap_err();
        assert_eq!(
            error.what(),
            format!("expected the end of the keys file at byte {}, found 1 byte more", bytes.len())
        );
    }

    #[test]
    fn lengths_beyond_a_key_are_refused_before_they_are_believed() {
        for record in [
            [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1].as_slice(),
            &[1, 1, b'a'],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1],
            &[0, 0xe9, 0xfb, 3],
        ] {
            let bytes = [MAGIC.as_slice(), record].concat();
            let error = read(&bytes).unwrap_err();
            assert_eq!((error.code(), error.offset()), ("damaged", Some(8)), "{error}");
            assert!(error.what().starts_with("expected a key of at most 65000 bytes"), "{error}");
        }
    }

    #[test]
    fn only_keys_in_order_are_written() {
        let mut writer = KeysWriter::new(Vec::new(), "k");
        writer.put(b"b", 1, 1).unwrap();
        for key in [b"b".as_slice(), b"a", b"", &vec![b'c'; MAX_KEY + 1]] {
            assert_eq!(writer.put(key, 1, 1).unwrap_err().code(), "invalid-argument");
        }
        assert_eq!(read(&writer.finish(true).unwrap().0).unwrap().len(), 1);
    }

    #[test]
    fn a_keys_file_of_another_segment_is_a_mismatch() {
        let ((bytes, _), (_, other)) = (written(&some()), written(&some()[1..]));
        let mut reader = KeysReader::new(bytes.as_slice(), "k").unwrap().expecting(&other);
        let error = loop {
            match reader.advance() {
                Ok(more) => assert!(more),
                Err(error) => break error,
            }
        };
        assert!(error.what().starts_with("expected the keys file of the manifest, 4 keys"), "{error}");
    }

    #[test]
    fn keys_of_the_greatest_length_and_many_of_them_pass() {
        let mut records: Vec<Record> = (0..40_u8).map(|at| (vec![at; MAX_KEY], 1, 1)).collect();
        records.extend((0..5_000_u32).map(|at| ([b"z".as_slice(), &at.to_be_bytes()].concat(), u64::MAX, 0)));
        let (bytes, keys) = written(&records);
        assert_eq!(read(&bytes).unwrap(), records);
        let mut reader = KeysReader::new(bytes.as_slice(), "k").unwrap().expecting(&keys);
        while reader.advance().unwrap() {
            assert!(reader.buffer.capacity() <= 2 * BUFFER);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back(records: std::collections::BTreeMap<Vec<u8>, (u64, u64)>) {
            let records: Vec<Record> =
                records.into_iter().filter(|(key, _)| !key.is_empty()).map(|(key, (version, hash))| (key, version, hash)).collect();
            prop_assert_eq!(read(&written(&records).0).unwrap(), records);
        }

        #[test]
        fn any_bytes_give_keys_or_an_error(bytes: Vec<u8>) {
            let _ = read(&[MAGIC.as_slice(), &bytes].concat());
        }
    }
}
