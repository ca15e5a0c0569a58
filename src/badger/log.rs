//! What the value log (`NNNNNN.vlog`) and the memtable's log (`NNNNN.mem`) are made of (`memtable.go`, `value.go`, `structs.go` of
//! Badger v4.5.1).
//!
//! A file:
//!
//! | bytes | field                                                  |
//! |-------|--------------------------------------------------------|
//! | 8     | id of the data key, big-endian, 0: plain text          |
//! | 12    | an initialisation vector, random                       |
//! | …     | records; then nothing, or zeros up to the file's size  |
//!
//! A record:
//!
//! | bytes | field                                                  |
//! |-------|--------------------------------------------------------|
//! | 1     | meta bits                                              |
//! | 1     | user meta                                              |
//! | 1–5   | length of the key, a varint                            |
//! | 1–5   | length of the value, a varint                          |
//! | 1–10  | expiry in Unix seconds, a varint, 0: never             |
//! | …     | key: the internal one, with its version                |
//! | …     | value                                                  |
//! | 4     | CRC-32C of all before, big-endian                      |
//!
//! Nothing says how many records there are: they end where none can be read, whatever the file's size.

use super::blob::Blob;
use super::key::SUFFIX;
use super::manifest::encrypted;
use crate::base::checksum::crc32c;
use crate::base::cursor::{Cursor, put_uvarint};
use crate::error::{Error, Result};

/// Bytes before the first record.
pub(super) const HEADER: usize = 20;
/// Bytes of a record before its key, at the most.
const MAX_HEAD: usize = 22;
/// A longer key is no key for Badger.
const MAX_KEY: u64 = 1 << 16;
const CRC: usize = 4;
/// What is read at once, and the longest record that is not looked over before room is made for it.
const BUFFER: usize = 256 << 10;

/// Appends the head of a file.
pub(super) fn put_header(to: &mut Vec<u8>, iv: [u8; 12]) {
    to.extend_from_slice(&0_u64.to_be_bytes());
    to.extend_from_slice(&iv);
}

/// Holds the head of a file against what we can read.
pub(super) fn check_header(blob: &Blob) -> Result<()> {
    let mut bytes = [0; HEADER];
    blob.read(0, &mut bytes)?;
    match Cursor::new(&bytes).u64_be("the id of a data key")? {
        0 => Ok(()),
        id => Err(encrypted(&format!("a log with the data key {id}")).at_path(blob.path()).at_offset(0)),
    }
}

/// One record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Record<'a> {
    /// The internal key.
    pub(super) key: &'a [u8],
    pub(super) meta: u8,
    pub(super) user_meta: u8,
    pub(super) expires_at: u64,
    pub(super) value: &'a [u8],
}

/// Appends what stands before the value of a record: its head and its key.
pub(super) fn put_head(to: &mut Vec<u8>, record: &Record<'_>) {
    to.extend_from_slice(&[record.meta, record.user_meta]);
    put_uvarint(to, record.key.len() as u64);
    put_uvarint(to, record.value.len() as u64);
    put_uvarint(to, record.expires_at);
    to.extend_from_slice(record.key);
}

/// Appends a record; how many bytes it takes.
#[cfg(test)]
pub(super) fn put_record(to: &mut Vec<u8>, record: &Record<'_>) -> usize {
    let begin = to.len();
    put_head(to, record);
    to.extend_from_slice(record.value);
    let crc = crc32c(0, to.get(begin..).unwrap_or_default());
    to.extend_from_slice(&crc.to_be_bytes());
    to.len() - begin
}

/// What a record says of itself.
#[derive(Clone, Copy, Debug)]
struct Head {
    meta: u8,
    user_meta: u8,
    expires_at: u64,
    /// Where the key begins, how long it is, where the value ends.
    key_at: usize,
    key_len: usize,
    value_end: usize,
}

impl Head {
    /// Reads as much of it as is there.
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut at = Cursor::new(bytes);
        let (meta, user_meta) = (at.u8("meta bits")?, at.u8("user meta")?);
        let (key_len, value_len) = (at.uvarint("the length of a key")?, at.uvarint("the length of a value")?);
        let expires_at = at.uvarint("an expiry")?;
        if !(SUFFIX as u64..=MAX_KEY).contains(&key_len) {
            let what = format!("expected a key of {SUFFIX} to {MAX_KEY} bytes, found one of {key_len}");
            return Err(Error::damaged(what));
        }
        if value_len > u64::from(u32::MAX) {
            return Err(Error::damaged(format!(
                "expected a value of less than 4 GiB, found one of {value_len}"
            )));
        }
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (key_at, key_len) = (size(at.offset()), size(key_len));
        Ok(Self {
            meta,
            user_meta,
            expires_at,
            key_at,
            key_len,
            value_end: key_at + key_len + size(value_len),
        })
    }

    fn len(&self) -> usize {
        self.value_end + CRC
    }

    /// The record, whose bytes begin with `bytes`.
    fn record<'a>(&self, bytes: &'a [u8]) -> Record<'a> {
        let key_end = self.key_at + self.key_len;
        Record {
            key: bytes.get(self.key_at..key_end).unwrap_or_default(),
            meta: self.meta,
            user_meta: self.user_meta,
            expires_at: self.expires_at,
            value: bytes.get(key_end..self.value_end).unwrap_or_default(),
        }
    }
}

/// The record at the front of `bytes`, with its checksum held against it, and its length.
pub(super) fn read_record(bytes: &[u8]) -> Result<(Record<'_>, usize)> {
    let head = Head::read(bytes)?;
    let (Some(body), Some(crc)) =
        (bytes.get(..head.value_end), bytes.get(head.value_end..).and_then(<[u8]>::first_chunk::<CRC>))
    else {
        let (expected, found) = (head.len(), bytes.len());
        return Err(Error::damaged(format!(
            "expected a record of {expected} bytes, found the end after {found}"
        )));
    };
    let (expected, found) = (u32::from_be_bytes(*crc), crc32c(0, body));
    if expected != found {
        let what = format!("expected a record with checksum {expected:08x}, found {found:08x}");
        return Err(Error::damaged(what));
    }
    Ok((head.record(bytes), head.len()))
}

/// Reads a file record by record, whatever their size, up to where there is none.
///
/// Memory: a buffer, and the largest record that is really there. Before room is made for a long one its checksum is computed.
#[derive(Debug)]
pub(super) struct Records {
    blob: Blob,
    /// Where the next record begins.
    at: u64,
    /// Nothing is read from here on.
    end: u64,
    /// The bytes of the file at `from`.
    buffer: Vec<u8>,
    from: u64,
}

impl Records {
    /// The records of a file from `at` up to `end` at the most.
    pub(super) fn new(blob: &Blob, at: u64, end: u64) -> Self {
        Self { blob: blob.clone(), at, end: end.min(blob.len()), buffer: Vec::new(), from: at }
    }

    /// Where the next record begins, or could.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    /// Goes to `at` and forgets what it has read: a running node may have written there since.
    pub(super) fn reread(&mut self, at: u64) {
        (self.at, self.from) = (at, at);
        self.buffer.clear();
    }

    /// Looks at the next record; `None` where there is none, complete and with the right checksum.
    pub(super) fn peek(&mut self) -> Result<Option<(Record<'_>, u64)>> {
        self.buffered(MAX_HEAD)?;
        let Ok(head) = Head::read(self.here()) else { return Ok(None) };
        if head.len() as u64 > self.end.saturating_sub(self.at) {
            return Ok(None);
        }
        if head.len() > BUFFER && !self.is_right(&head)? {
            return Ok(None);
        }
        self.buffered(head.len())?;
        Ok(read_record(self.here()).ok().map(|(record, len)| (record, len as u64)))
    }

    /// Passes the record that was looked at.
    pub(super) fn pass(&mut self, len: u64) {
        self.at += len;
        if self.buffer.capacity() > 2 * BUFFER {
            self.reread(self.at);
            self.buffer = Vec::new();
        }
    }

    fn here(&self) -> &[u8] {
        let skip = usize::try_from(self.at.saturating_sub(self.from)).unwrap_or(usize::MAX);
        self.buffer.get(skip..).unwrap_or_default()
    }

    /// Makes [`here`](Self::here) at least `len` bytes, fewer only where the file ends.
    fn buffered(&mut self, len: usize) -> Result<()> {
        if self.here().len() >= len {
            return Ok(());
        }
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        self.from = self.at;
        self.buffer.resize(len.max(BUFFER).min(left), 0);
        let found = self.blob.read_some(self.at, &mut self.buffer)?;
        self.buffer.truncate(found);
        Ok(())
    }

    /// Is the checksum of a long record right?
    fn is_right(&self, head: &Head) -> Result<bool> {
        let mut chunk = vec![0; BUFFER];
        let (mut crc, mut at, mut left) = (0, self.at, head.value_end);
        while left > 0 {
            let room = chunk.get_mut(..left.min(BUFFER)).unwrap_or_default();
            let found = self.blob.read_some(at, room)?;
            if found < room.len() {
                return Ok(false);
            }
            crc = crc32c(crc, room);
            (at, left) = (at + found as u64, left - found);
        }
        let mut stored = [0; CRC];
        Ok(self.blob.read_some(at, &mut stored)? == CRC && u32::from_be_bytes(stored) == crc)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::key;
    use super::*;
    use crate::base::scratch::Scratch;
    use proptest::prelude::*;
    use std::io::Write;
    use std::path::Path;

    /// The head and five records of a log as Badger v4.5.1 wrote them: `/0/t` and `/0/h/1` set by the first transaction, `/0/h/1`
    /// deleted by the second.
    pub(in crate::badger) fn vector() -> Vec<u8> {
        let mut bytes = Vec::new();
        put_header(&mut bytes, [7; 12]);
        for record in [
            "40000c08002f302f74fffffffffffffffe0100000000000000ab13854f",
            "40090e03002f302f682f31fffffffffffffffe686472553f58dc",
            "8000130100216261646765722174786efffffffffffffffe31975e4026",
            "41000e00002f302f682f31fffffffffffffffd7d603902",
            "8000130100216261646765722174786efffffffffffffffd32b0e91b4b",
        ] {
            bytes.extend_from_slice(&data_encoding::HEXLOWER.decode(record.as_bytes()).unwrap());
        }
        bytes
    }

    pub(in crate::badger) fn blob(bytes: &[u8]) -> Blob {
        let mut file = Scratch::system().file().unwrap();
        file.write_all(bytes).unwrap();
        Blob::of(file, Path::new("00001.mem")).unwrap()
    }

    /// Key, meta and value.
    type Found = (Vec<u8>, u8, Vec<u8>);

    /// What is there up to the end, and where that is.
    fn drain(bytes: &[u8]) -> (Vec<Found>, u64) {
        let blob = blob(bytes);
        let mut records = Records::new(&blob, HEADER as u64, blob.len());
        let mut found = Vec::new();
        while let Some((record, len)) = records.peek().unwrap() {
            found.push((record.key.to_vec(), record.meta, record.value.to_vec()));
            records.pass(len);
        }
        (found, records.position())
    }

    fn internal(user_key: &[u8], version: u64) -> Vec<u8> {
        let mut internal = Vec::new();
        key::put(&mut internal, user_key, version);
        internal
    }

    #[test]
    fn is_the_one_that_badger_writes() {
        let (found, end) = drain(&vector());
        assert_eq!(end, vector().len() as u64);
        let expected = [
            (internal(b"/0/t", 1), 0x40, b"\x01\0\0\0\0\0\0\0".to_vec()),
            (internal(b"/0/h/1", 1), 0x40, b"hdr".to_vec()),
            (internal(b"!badger!txn", 1), 0x80, b"1".to_vec()),
            (internal(b"/0/h/1", 2), 0x41, Vec::new()),
            (internal(b"!badger!txn", 2), 0x80, b"2".to_vec()),
        ];
        assert_eq!(found, expected);
        let mut again = Vec::new();
        put_header(&mut again, [7; 12]);
        for (key, meta, value) in &expected {
            let user_meta = if value == b"hdr" { 9 } else { 0 };
            put_record(&mut again, &Record { key, meta: *meta, user_meta, expires_at: 0, value });
        }
        assert_eq!(again, vector());
    }

    #[test]
    fn a_large_value_of_the_value_log_is_the_one_that_badger_writes() {
        let key = internal(b"/0/v", 3);
        let (mut bytes, value) = (Vec::new(), vec![7; 1 << 20]);
        put_header(&mut bytes, [0; 12]);
        let len = put_record(&mut bytes, &Record { key: &key, value: &value, ..Record::default() });
        assert_eq!((len, bytes.len()), (1_048_599, 1_048_619));
        assert_eq!(bytes[HEADER..HEADER + 6], [0, 0, 0x0c, 0x80, 0x80, 0x40]);
        assert_eq!(bytes[bytes.len() - 4..], [0xea, 0x22, 0x97, 0xa9]);
        let (found, end) = drain(&bytes);
        assert_eq!((found.len(), end), (1, bytes.len() as u64));
        assert_eq!(found[0], (key, 0, value));
    }

    #[test]
    fn a_cut_or_flipped_record_ends_the_log() {
        let whole = vector();
        let (records, _) = drain(&whole);
        for cut in HEADER..whole.len() {
            let (found, end) = drain(&whole[..cut]);
            assert!(found.len() < records.len() && end <= cut as u64);
            assert_eq!(found, records[..found.len()]);
            let mut padded = whole[..cut].to_vec();
            padded.resize(4096, 0);
            assert_eq!(drain(&padded), (found, end), "{cut}");
        }
        for at in HEADER..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                let (found, end) = drain(&flipped);
                assert!(end <= at as u64, "{at} {bit}");
                assert_eq!(found, records[..found.len()]);
            }
        }
    }

    #[test]
    fn records_of_every_size_pass_the_buffer() {
        let mut bytes = vec![0; HEADER];
        let sizes = [0, 1, BUFFER - 40, BUFFER, BUFFER + 1, 3 * BUFFER, 5, 2 * BUFFER, 0, 17];
        for (at, size) in sizes.iter().enumerate() {
            let key = internal(&[b'k'; 30][..at], at as u64);
            let value = vec![7; *size];
            put_record(
                &mut bytes,
                &Record { key: &key, value: &value, expires_at: u64::MAX, ..Record::default() },
            );
        }
        let (found, end) = drain(&bytes);
        assert_eq!(found.iter().map(|(_, _, value)| value.len()).collect::<Vec<_>>(), sizes);
        assert_eq!(end, bytes.len() as u64);
    }

    #[test]
    fn a_length_out_of_proportion_makes_no_room() {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(&[0, 0, 9]);
        put_uvarint(&mut bytes, 200 << 20);
        bytes.resize(1 << 20, 1);
        let mut file = Scratch::system().file().unwrap();
        file.write_all(&bytes).unwrap();
        // The file says that it is long, as a sparse one does.
        file.set_len(256 << 20).unwrap();
        let blob = Blob::of(file, Path::new("00001.mem")).unwrap();
        let mut records = Records::new(&blob, HEADER as u64, blob.len());
        assert_eq!(records.peek().unwrap(), None);
        assert!(records.buffer.capacity() <= 2 * BUFFER);
    }

    #[test]
    fn an_encrypted_log_is_refused_by_name() {
        let mut bytes = vector();
        check_header(&blob(&bytes)).unwrap();
        bytes[7] = 1;
        let error = check_header(&blob(&bytes)).unwrap_err();
        assert_eq!((error.code(), error.offset()), ("unsupported", Some(0)));
        assert_eq!(check_header(&blob(&bytes[..19])).unwrap_err().code(), "damaged");
    }

    proptest! {
        #[test]
        fn any_bytes_end_somewhere(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_record(&bytes);
            drain(&bytes);
        }
    }
}
