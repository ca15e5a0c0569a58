//! `MANIFEST`: which tables there are and in which level, as a log of changes (`manifest.go` of Badger v4.5.1).
//!
//! | bytes | field                                                                         |
//! |-------|-------------------------------------------------------------------------------|
//! | 4     | `Bdgr`                                                                        |
//! | 2     | external magic, big-endian, 0                                                 |
//! | 2     | version, big-endian, 8                                                        |
//! | …     | records, each:                                                                |
//! | 4     | length of the body, big-endian                                                |
//! | 4     | CRC-32C of the body, big-endian                                               |
//! | …     | body: a protobuf `ManifestChangeSet` {1: repeated `ManifestChange`}, one step |
//!
//! A `ManifestChange` is {1: table id, 2: 0 create or 1 delete, 3: level, 4: key id, 0 is plain text, 5: cipher, 6: compression}.
//!
//! Bad input: an incomplete last record was never there, as for Badger, which cuts it away. Anything else that is wrong is damage, with its
//! byte, but for the deletion of a table that is not there: Badger from v4.8.0 on passes it with a warning.
//!
//! **A length that leads beyond the end.** What was being appended is the beginning of one record: its checksum does not fit yet, and no
//! whole record follows. If the checksum fits the first changes of it, or a whole record is found in it, the length was damaged since: Badger would
//! drop that record and all that follow without a word, and with them their tables; we do not.

use super::table::Compression;
use crate::base::checksum::crc32c;
use crate::base::cursor::{Cursor, put_uvarint};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// No `MANIFEST` that Badger keeps is longer, not for a million tables: it writes a fresh one long before.
pub(super) const MAX: u64 = 64 << 20;

const MAGIC: &[u8; 4] = b"Bdgr";
const VERSION: u16 = 8;
const HEAD: usize = 8;
const RECORD_HEAD: usize = 8;
/// How a record that changes something goes on behind its head: with a change.
const CHANGE: u8 = 1 << 3 | 2;
/// So many bytes are held against checksums at the most, to tell damage from an end. An end needs none of it.
const LOOKED_AT: usize = 256 << 20;

/// What is said of a table beside its id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TableInfo {
    pub(super) level: u8,
    pub(super) compression: Compression,
}

/// One change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    Create(u64, TableInfo),
    Delete(u64),
}

/// Changes that happened in one step.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Record {
    pub(super) changes: Vec<Change>,
}

impl Record {
    /// A memtable that became a table of level 0: its one change creates that.
    pub(super) fn flushed(&self) -> Option<(u64, TableInfo)> {
        match self.changes.as_slice() {
            [Change::Create(id, info)] if info.level == 0 => Some((*id, *info)),
            _ => None,
        }
    }

    /// The tables that it creates.
    pub(super) fn created(&self) -> impl Iterator<Item = u64> {
        self.changes.iter().filter_map(|change| match change {
            Change::Create(id, _) => Some(*id),
            Change::Delete(_) => None,
        })
    }

    /// Tables went and none came: everything was dropped, or a compaction found nothing that lives.
    pub(super) fn only_deletes(&self) -> bool {
        !self.changes.is_empty() && self.changes.iter().all(|change| matches!(change, Change::Delete(_)))
    }
}

/// The tables after all complete records.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Manifest {
    pub(super) tables: BTreeMap<u64, TableInfo>,
    /// How many records made it.
    pub(super) records: usize,
    /// Where the next record begins.
    pub(super) end: u64,
}

/// Reads a whole one.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Manifest> {
    Manifest::read(bytes).map_err(|error| error.at_path(path))
}

/// A fresh one that holds these tables.
pub(super) fn encode(tables: &[(u64, TableInfo)]) -> Vec<u8> {
    let mut bytes = head(VERSION);
    let changes: Vec<_> = tables.iter().map(|(id, info)| Change::Create(*id, *info)).collect();
    put_record(&mut bytes, &changes);
    bytes
}

impl Manifest {
    fn read(bytes: &[u8]) -> Result<Self> {
        let mut at = Cursor::new(bytes);
        let magic = at.take(MAGIC.len() as u64, "the head of a MANIFEST")?;
        if magic != MAGIC {
            let found = magic.escape_ascii();
            return Err(
                Error::damaged(format!("expected a MANIFEST to begin with Bdgr, found {found}")).at_offset(0)
            );
        }
        let (external, version) = (at.u16_be("an external magic")?, at.u16_be("a version")?);
        if version != VERSION {
            let what = format!("expected MANIFEST version {VERSION} (Badger v4), found {version}");
            return Err(Error::unsupported(what).at_offset(6));
        }
        if external != 0 {
            let what = format!("expected the external magic 0, found {external}: another program's database");
            return Err(Error::unsupported(what).at_offset(4));
        }
        let mut this = Self { end: HEAD as u64, ..Self::default() };
        this.follow(at.rest())?;
        Ok(this)
    }

    /// Takes what follows at [`end`](Self::end), to the last complete record; returns those it took.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> Result<Vec<Record>> {
        let mut taken = Vec::new();
        while let Some((record, length)) = next_record(bytes, self.end)? {
            for change in &record.changes {
                self.apply(*change)?;
            }
            bytes = bytes.get(length..).unwrap_or_default();
            self.end += length as u64;
            self.records += 1;
            taken.push(record);
        }
        Ok(taken)
    }

    fn apply(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Create(id, info) => {
                if self.tables.insert(id, info).is_some() {
                    let what =
                        format!("expected a new table, found the creation of table {id}, which is there");
                    return Err(Error::damaged(what).at_offset(self.end));
                }
            }
            Change::Delete(id) => {
                if self.tables.remove(&id).is_none() {
                    tracing::warn!(
                        table = id,
                        offset = self.end,
                        "MANIFEST deletes a table that is not there"
                    );
                }
            }
        }
        Ok(())
    }
}

/// The record at the front of `bytes`, which stands at `offset`, and its length; `None` when there is no complete one.
fn next_record(bytes: &[u8], offset: u64) -> Result<Option<(Record, usize)>> {
    if bytes.len() < RECORD_HEAD {
        return Ok(None);
    }
    let mut at = Cursor::at_offset(bytes, offset);
    let (length, crc) = (at.u32_be("the length of a record")?, at.u32_be("the checksum of a record")?);
    let file = offset.saturating_add(bytes.len() as u64);
    if u64::from(length) > file {
        let what = format!("expected a record within the {file} bytes of the file, found one of {length}");
        return Err(Error::damaged(what).at_offset(offset));
    }
    let Ok(body) = at.take(u64::from(length), "a record") else {
        let there = at.rest();
        if holds_its_body(there, crc) || holds_a_record(there) {
            let what = format!(
                "expected a record of {length} bytes, found another length that fits its checksum or what follows"
            );
            return Err(Error::damaged(what).at_offset(offset));
        }
        return Ok(None);
    };
    let found = crc32c(0, body);
    if found != crc {
        let what = format!("expected a record with checksum {crc:08x}, found {found:08x}");
        return Err(Error::damaged(what).at_offset(offset));
    }
    let mut record = Record::default();
    let mut set = Cursor::at_offset(body, offset.saturating_add(RECORD_HEAD as u64));
    while !set.is_empty() {
        if let (1, Field::Bytes(change)) = field(&mut set)? {
            record.changes.push(read_change(change)?);
        }
    }
    Ok(Some((record, RECORD_HEAD + body.len())))
}

/// Are the first changes of these bytes, or none, what a record with this checksum holds?
fn holds_its_body(bytes: &[u8], crc: u32) -> bool {
    let (mut at, mut found, mut begin) = (Cursor::new(bytes), 0, 0);
    loop {
        if found == crc {
            return true;
        }
        let change = field(&mut at).is_ok_and(|field| matches!(field, (1, Field::Bytes(_))));
        let end = usize::try_from(at.offset()).unwrap_or(usize::MAX);
        let Some(change) = bytes.get(begin..end).filter(|bytes| change && !bytes.is_empty()) else {
            return false;
        };
        (found, begin) = (crc32c(found, change), end);
    }
}

/// Does a whole record that changes something begin anywhere in these bytes? Where there is too much that looks like one it is taken for
/// granted.
fn holds_a_record(bytes: &[u8]) -> bool {
    let mut left = LOOKED_AT;
    let heads = bytes.windows(RECORD_HEAD + 1).enumerate().filter(|(_, head)| head.last() == Some(&CHANGE));
    for (at, head) in heads {
        let mut head = Cursor::new(head);
        let (Ok(length), Ok(crc)) = (head.u32_be("a length"), head.u32_be("a checksum")) else { continue };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let body = bytes.get(at + RECORD_HEAD..).and_then(|behind| behind.get(..length));
        let Some(body) = body.filter(|body| !body.is_empty()) else { continue };
        let Some(after) = left.checked_sub(length) else { return true };
        left = after;
        if crc32c(0, body) == crc {
            return true;
        }
    }
    false
}

fn read_change(mut at: Cursor<'_>) -> Result<Change> {
    let offset = at.offset();
    let (mut id, mut op, mut level, mut key_id, mut compression) = (0, 0, 0, 0, 0);
    while !at.is_empty() {
        match field(&mut at)? {
            (1, Field::Varint(value)) => id = value,
            (2, Field::Varint(value)) => op = value,
            (3, Field::Varint(value)) => level = value,
            (4, Field::Varint(value)) => key_id = value,
            (6, Field::Varint(value)) => compression = value,
            _ => {}
        }
    }
    match op {
        0 => {}
        1 => return Ok(Change::Delete(id)),
        _ => {
            let what = format!("expected a change that creates (0) or deletes (1), found {op}");
            return Err(Error::damaged(what).at_offset(offset));
        }
    }
    if key_id != 0 {
        return Err(encrypted(&format!("table {id} with the data key {key_id}")).at_offset(offset));
    }
    let level = u8::try_from(level).map_err(|_| {
        Error::damaged(format!("expected a level below 256, found {level}")).at_offset(offset)
    })?;
    let known = u32::try_from(compression).ok().map(Compression::from_id);
    let compression = known.unwrap_or_else(|| {
        Err(Error::unsupported(format!("expected compression 0, 1 or 2, found {compression}")))
    });
    Ok(Change::Create(
        id,
        TableInfo { level, compression: compression.map_err(|error| error.at_offset(offset))? },
    ))
}

/// What is encrypted at rest is refused by name; `found` says what of it.
pub(super) fn encrypted(found: &str) -> Error {
    Error::unsupported(format!("expected a directory that is not encrypted, found {found}"))
        .with_hint("evbackup does not hold Badger's keys; ev-node sets none")
}

/// A field of a protobuf message.
enum Field<'a> {
    Varint(u64),
    Bytes(Cursor<'a>),
    Other,
}

fn field<'a>(at: &mut Cursor<'a>) -> Result<(u64, Field<'a>)> {
    let offset = at.offset();
    let tag = at.uvarint("a field")?;
    let value = match tag & 7 {
        0 => Field::Varint(at.uvarint("a number")?),
        1 => at.take(8, "a field").map(|_| Field::Other)?,
        2 => {
            let length = at.uvarint("the length of a field")?;
            let offset = at.offset();
            Field::Bytes(Cursor::at_offset(at.take(length, "a field")?, offset))
        }
        5 => at.take(4, "a field").map(|_| Field::Other)?,
        kind => {
            let what = format!("expected a field of kind 0, 1, 2 or 5, found {kind}");
            return Err(Error::damaged(what).at_offset(offset));
        }
    };
    Ok((tag >> 3, value))
}

fn head(version: u16) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&0_u16.to_be_bytes());
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes
}

fn put_record(to: &mut Vec<u8>, changes: &[Change]) {
    let mut body = Vec::new();
    for change in changes {
        let mut bytes = Vec::new();
        let mut put = |number: u64, value: u64| {
            if value != 0 {
                put_uvarint(&mut bytes, number << 3);
                put_uvarint(&mut bytes, value);
            }
        };
        match change {
            Change::Create(id, info) => {
                put(1, *id);
                put(3, u64::from(info.level));
                put(6, u64::from(info.compression.id()));
            }
            Change::Delete(id) => {
                put(1, *id);
                put(2, 1);
            }
        }
        put_uvarint(&mut body, u64::from(CHANGE));
        put_uvarint(&mut body, bytes.len() as u64);
        body.extend_from_slice(&bytes);
    }
    to.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(&crc32c(0, &body).to_be_bytes());
    to.extend_from_slice(&body);
}

/// What a node appends: one record. For tests that play the node.
#[cfg(test)]
pub(super) fn record(changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_record(&mut bytes, changes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As Badger v4.5.1 wrote it.
    const EMPTY: &str = "42646772000000080000000000000000";
    const NONE: &str = "00000004215419160a020801";
    const SNAPPY: &str = "00000006edc51afe0a0408013001";
    const ZSTD: &str = "00000006fe95e90a0a0408013002";

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Manifest> {
        read(bytes, Path::new("MANIFEST"))
    }

    fn info(level: u8, compression: Compression) -> TableInfo {
        TableInfo { level, compression }
    }

    fn created(id: u64) -> Change {
        Change::Create(id, info(0, Compression::Snappy))
    }

    fn with(records: &[&[Change]]) -> Vec<u8> {
        let mut bytes = encode(&[]);
        for changes in records {
            put_record(&mut bytes, changes);
        }
        bytes
    }

    #[test]
    fn is_the_one_that_badger_writes() {
        assert_eq!(encode(&[]), hex(EMPTY));
        assert!(open(&hex(EMPTY)).unwrap().tables.is_empty());
        for (record, compression) in
            [(NONE, Compression::None), (SNAPPY, Compression::Snappy), (ZSTD, Compression::Zstd)]
        {
            let table = info(0, compression);
            assert_eq!(with(&[&[Change::Create(1, table)]]), hex(&format!("{EMPTY}{record}")));
            let manifest = open(&hex(&format!("{EMPTY}{record}"))).unwrap();
            assert_eq!(manifest.tables, BTreeMap::from([(1, table)]));
            assert_eq!((manifest.records, manifest.end), (2, (EMPTY.len() + record.len()) as u64 / 2));
        }
    }

    #[test]
    fn a_set_of_tables_comes_back() {
        let tables: Vec<_> = (1..300).map(|id| (id * 7, info((id % 7) as u8, Compression::Zstd))).collect();
        let manifest = open(&encode(&tables)).unwrap();
        assert_eq!(manifest.tables.into_iter().collect::<Vec<_>>(), tables);
    }

    #[test]
    fn records_say_what_they_are() {
        let flush = Record { changes: vec![created(9)] };
        assert_eq!(flush.flushed(), Some((9, info(0, Compression::Snappy))));
        let compaction = Record { changes: vec![created(9), Change::Delete(1)] };
        let stream_writer = Record { changes: vec![Change::Create(9, info(6, Compression::None))] };
        let dropped = Record { changes: vec![Change::Delete(1), Change::Delete(2)] };
        for record in [&compaction, &stream_writer, &dropped, &Record::default()] {
            assert_eq!(record.flushed(), None);
            assert_eq!(record.only_deletes(), *record == dropped);
        }
    }

    #[test]
    fn what_is_appended_later_follows() {
        let bytes = with(&[&[created(1)], &[created(2)], &[Change::Delete(1), created(3)]]);
        let first = with(&[&[created(1)]]);
        let mut manifest = open(&first).unwrap();
        let later = manifest.follow(&bytes[first.len()..]).unwrap();
        assert_eq!(later.len(), 2);
        assert_eq!(manifest, open(&bytes).unwrap());
        assert_eq!(manifest.tables.into_keys().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn an_incomplete_last_record_is_not_there() {
        let before = with(&[&[created(1)]]);
        let bytes = with(&[&[created(1)], &[created(2), Change::Delete(1)]]);
        let expected = open(&before).unwrap();
        for cut in before.len()..bytes.len() {
            assert_eq!(open(&bytes[..cut]).unwrap(), expected, "{cut}");
        }
        for cut in 0..HEAD {
            assert_eq!(open(&bytes[..cut]).unwrap_err().code(), "damaged", "{cut}");
        }
    }

    #[test]
    fn a_damaged_length_is_not_the_end() {
        let some: [&[&[Change]]; 3] =
            [&[], &[&[created(1)]], &[&[created(1)], &[created(2), created(3)], &[Change::Delete(1)]]];
        // Where the last record was being appended, too.
        let torn = some.iter().flat_map(|records| [0, 1, 5].map(|cut| (*records, cut)));
        for (records, cut) in torn.filter(|(records, cut)| *cut == 0 || !records.is_empty()) {
            let mut bytes = with(records);
            bytes.truncate(bytes.len() - cut);
            let whole = open(&bytes).unwrap();
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                match open(&flipped) {
                    Ok(found) => assert_eq!(found, whole, "{bit}"),
                    Err(error) => {
                        assert!(matches!(error.code(), "damaged" | "unsupported"), "{bit}: {error}");
                        assert!(error.offset().is_some_and(|at| at <= bit as u64 / 8), "{bit}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_tail_full_of_heads_is_not_searched_for_ever() {
        // Changes of eight bytes, each of which may be the head of a record that goes on to the end.
        let (count, change) = (100_000_u32, 10);
        let mut tail = Vec::new();
        for left in (0..count).rev() {
            tail.extend_from_slice(&[0x0a, 8]);
            tail.extend_from_slice(&(left * change).to_be_bytes());
            tail.extend_from_slice(&[0xff; 4]);
        }
        let mut bytes = encode(&[]);
        bytes.extend_from_slice(&(count * change + 1).to_be_bytes());
        bytes.extend_from_slice(&[7; 4]);
        bytes.extend_from_slice(&tail);
        // None of them is one: only who stops searching takes that for granted.
        assert_eq!(open(&bytes).unwrap_err().offset(), Some(EMPTY.len() as u64 / 2));
    }

    #[test]
    fn damage_is_named_with_its_byte() {
        let bytes = with(&[&[created(1)]]);
        let at = HEAD + RECORD_HEAD;
        let mut flipped = bytes.clone();
        flipped[at + 9] ^= 1;
        let error = open(&flipped).unwrap_err();
        assert_eq!((error.code(), error.offset()), ("damaged", Some(at as u64)));
        assert_eq!(error.path(), Some(Path::new("MANIFEST")));
        let mut long = bytes.clone();
        long[at] = 0x7f;
        assert_eq!(open(&long).unwrap_err().offset(), Some(at as u64));
        let twice = with(&[&[created(1)], &[created(1)]]);
        assert_eq!(open(&twice).unwrap_err().offset(), Some(bytes.len() as u64));
        let mut unknown = encode(&[]);
        let body = hex("0a0408011002");
        unknown.extend_from_slice(&6_u32.to_be_bytes());
        unknown.extend_from_slice(&crc32c(0, &body).to_be_bytes());
        unknown.extend_from_slice(&body);
        let error = open(&unknown).unwrap_err();
        assert_eq!((error.code(), error.offset()), ("damaged", Some(26)));
    }

    #[test]
    fn deleting_what_is_not_there_is_passed() {
        assert!(open(&with(&[&[Change::Delete(7)], &[created(1)]])).is_ok());
    }

    #[test]
    fn other_versions_programs_ciphers_and_codecs_are_refused_by_name() {
        let text = |bytes: &[u8]| {
            let error = open(bytes).unwrap_err();
            assert_eq!(error.code(), "unsupported");
            error.to_string()
        };
        assert!(text(&head(7)).contains("version 8 (Badger v4), found 7"));
        let mut external = head(8);
        external[5] = 3;
        assert!(text(&external).contains("external magic 0, found 3"));
        let change = |body: &str| {
            let (mut bytes, body) = (encode(&[]), hex(body));
            bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&crc32c(0, &body).to_be_bytes());
            bytes.extend_from_slice(&body);
            bytes
        };
        assert!(text(&change("0a0408012005")).contains("not encrypted, found table 1 with the data key 5"));
        assert!(text(&change("0a0408013009")).contains("compression 0, 1 or 2, found 9"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_manifest_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = open(&bytes);
            let mut with_head = head(8);
            with_head.extend_from_slice(&bytes);
            let _ = open(&with_head);
            let mut body = encode(&[]);
            body.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
            body.extend_from_slice(&crc32c(0, &bytes).to_be_bytes());
            body.extend_from_slice(&bytes);
            let _ = open(&body);
        }
    }
}
