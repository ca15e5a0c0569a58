//! Tables as Badger and as our builder write them, whole, cut and damaged.

use super::builder::{Builder, Options};
use super::index::{self, BlockAt, Facts};
use super::reader::Found;
use super::{Compression, Table, checksum};
use crate::badger::blob::Blob;
use crate::badger::key;
use crate::badger::meta::Value;
use crate::base::cursor::put_uvarint;
use crate::base::scratch::Scratch;
use crate::error::{Error, Result};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Made by Badger v4.5.1: `/0/t` and `/0/h/1` set at version 1, `/0/h/1` deleted at version 2.
const BADGER: [&str; 4] = [
    // A block of 82 bytes: three entries, their places, the checksum.
    "00000e002f302f682f31fffffffffffffffd4100000d000100fe4009006864720300090074fffffffffffffffe4000000100000000000000",
    "0000000015000000200000000000000310d790c9e60b00000006",
    // The index of 128 bytes.
    "18000000000000001000240020001c00100008000c00040010000000d2000000030000005200000002000000000000000000000008000000140000000900000080000400001013110400000001000000100000000000 0a000c00080000000400 0a0000005200000004000000 0e0000002f302f682f31fffffffffffffffd0000",
    // Its length and checksum.
    "0000008010c2f798970600000006",
];

const ALL: [Compression; 3] = [Compression::None, Compression::Snappy, Compression::Zstd];

type Line = (Vec<u8>, u8, u8, u64, Vec<u8>);

fn u32_of(len: usize) -> u32 {
    u32::try_from(len).unwrap()
}

fn badger() -> Vec<u8> {
    let hex: String = BADGER.concat().split(' ').collect();
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn internal(user_key: &[u8], version: u64) -> Vec<u8> {
    let mut internal = Vec::new();
    key::put(&mut internal, user_key, version);
    internal
}

fn blob(bytes: &[u8]) -> Blob {
    let mut file = Scratch::system().file().unwrap();
    file.write_all(bytes).unwrap();
    Blob::of(file, Path::new("000001.sst")).unwrap()
}

fn open(bytes: &[u8], compression: Compression) -> Result<Table> {
    Table::open(blob(bytes), compression)
}

fn all(table: &Table) -> Result<Vec<Line>> {
    let mut walk = table.walk()?;
    let mut lines = Vec::new();
    while walk.advance()? {
        walk.load()?;
        let value = walk.value();
        lines.push((
            walk.key().to_vec(),
            value.meta,
            value.user_meta,
            value.expires_at,
            value.bytes.to_vec(),
        ));
    }
    Ok(lines)
}

/// A table of these entries.
fn build(lines: &[Line], compression: Compression, block_size: usize, bloom: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut builder = Builder::new(&mut bytes, Options { compression, block_size, bloom }).unwrap();
    for (key, meta, user_meta, expires_at, bytes) in lines {
        let value = Value { meta: *meta, user_meta: *user_meta, expires_at: *expires_at, bytes };
        builder.add(key, &value, 0).unwrap();
    }
    builder.finish(None).unwrap();
    bytes
}

/// Keys `/0/h/000…` in two versions each.
fn lines(keys: usize, value: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for at in 0..keys {
        for version in [9, 3] {
            let value = format!("{at}@{version} ").repeat(value / 6 + 1).into_bytes();
            lines.push((internal(format!("/0/h/{at:05}").as_bytes(), version), 0x40, 1, version * 7, value));
        }
    }
    lines
}

/// A table of blocks as given, each with the key that the index shall name.
fn craft(blocks: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut places) = (Vec::new(), Vec::new());
    for (key, block) in blocks {
        let (offset, len) = (u32_of(bytes.len()), u32_of(block.len()));
        places.push(BlockAt { key, offset, len });
        bytes.extend_from_slice(block);
    }
    let index = index::encode(&Facts::default(), &[], places.into_iter());
    bytes.extend_from_slice(&index);
    bytes.extend_from_slice(&u32_of(index.len()).to_be_bytes());
    checksum::put(&mut bytes, &index);
    bytes
}

/// A block of entries (overlap, length of the rest, bytes behind that), with a right checksum.
fn block(entries: &[(u16, u16, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for (overlap, rest, behind) in entries {
        starts.push(u32_of(bytes.len()));
        bytes.extend_from_slice(&overlap.to_le_bytes());
        bytes.extend_from_slice(&rest.to_le_bytes());
        bytes.extend_from_slice(behind);
    }
    for start in &starts {
        bytes.extend_from_slice(&u32::to_le_bytes(*start));
    }
    bytes.extend_from_slice(&u32_of(starts.len()).to_be_bytes());
    checksum::seal(&mut bytes);
    bytes
}

fn damage<T>(result: Result<T>) -> Error {
    let Err(error) = result else { panic!("expected damage, found none") };
    assert_eq!(error.code(), "damaged", "{error}");
    assert_eq!(error.path(), Some(Path::new("000001.sst")), "{error}");
    assert!(error.offset().is_some(), "{error}");
    error
}

#[test]
fn a_table_of_badger_is_read_to_the_entry() {
    let bytes = badger();
    assert_eq!(bytes.len(), 224);
    let table = open(&bytes, Compression::None).unwrap();
    assert_eq!((table.max_version(), table.key_count()), (2, 3));
    assert_eq!((table.smallest(), table.biggest()), (&*internal(b"/0/h/1", 2), &*internal(b"/0/t", 1)));
    let expected = vec![
        (internal(b"/0/h/1", 2), 0x41, 0, 0, vec![]),
        (internal(b"/0/h/1", 1), 0x40, 9, 0, b"hdr".to_vec()),
        (internal(b"/0/t", 1), 0x40, 0, 0, vec![1, 0, 0, 0, 0, 0, 0, 0]),
    ];
    assert_eq!(all(&table).unwrap(), expected);
}

#[test]
fn gets_the_newest_version_that_is_not_too_new() {
    let table = open(&badger(), Compression::None).unwrap();
    let get =
        |key: &[u8], until| table.get(key, until).unwrap().map(|found: Found| (found.version, found.bytes));
    assert_eq!(get(b"/0/h/1", u64::MAX), Some((2, vec![])));
    assert_eq!(get(b"/0/h/1", 1), Some((1, b"hdr".to_vec())));
    assert_eq!(get(b"/0/h/1", 0), None);
    assert_eq!(get(b"/0/h/2", 9), None);
    assert_eq!(get(b"/0/t", 9), Some((1, vec![1, 0, 0, 0, 0, 0, 0, 0])));
    assert_eq!(get(b"/0/t/", 9), None);
}

#[test]
fn entries_come_back_through_every_codec_and_can_be_sought() {
    let lines = lines(400, 100);
    for compression in ALL {
        for bloom in [false, true] {
            let table = open(&build(&lines, compression, 1000, bloom), compression).unwrap();
            assert_eq!(all(&table).unwrap(), lines);
            assert_eq!(table.biggest(), lines.last().unwrap().0);
            let mut walk = table.walk().unwrap();
            for (at, (key, ..)) in lines.iter().enumerate().step_by(7).rev() {
                assert!(walk.seek(key).unwrap());
                assert_eq!(walk.key(), key);
                let (user_key, version) = key::split(key).unwrap();
                assert!(walk.seek(&internal(user_key, version + 1)).unwrap());
                assert_eq!(walk.key(), key);
                let next = walk.advance().unwrap().then(|| walk.key().to_vec());
                assert_eq!(next.as_ref(), lines.get(at + 1).map(|line| &line.0));
                assert_eq!(table.get(user_key, version).unwrap().unwrap().bytes, lines[at].4);
            }
            assert!(walk.seek(b"").unwrap() && walk.key() == lines[0].0);
            assert!(!walk.seek(&internal(b"/1", 1)).unwrap() && walk.key().is_empty());
            assert!(!walk.advance().unwrap());
        }
    }
}

#[test]
fn a_value_larger_than_every_buffer_comes_back_and_its_room_is_given_back() {
    let mut lines = lines(10, 100);
    for (at, size) in [(3, 9 << 20), (4, 300 << 10), (11, 20 << 20)] {
        lines[at].4 = (0..size).map(|at: u32| (at % 251) as u8).collect();
    }
    for compression in ALL {
        let table = open(&build(&lines, compression, 4096, true), compression).unwrap();
        assert!(all(&table).unwrap() == lines, "{compression:?}");
        let mut walk = table.walk().unwrap();
        while walk.advance().unwrap() {
            walk.load().unwrap();
            let value = walk.value().bytes.len();
            assert!(walk.held() <= 2 * (8 << 20) + 2 * value, "{compression:?} {} {value}", walk.held());
        }
    }
}

#[test]
fn a_walk_turns_to_another_table() {
    let (one, other) = (lines(40, 100), lines(90, 300).split_off(100));
    let tables = [&one, &other]
        .map(|lines| open(&build(lines, Compression::Snappy, 4096, true), Compression::Snappy).unwrap());
    let mut walk = tables[0].walk().unwrap();
    for (table, lines) in tables.iter().zip([&one, &other]).rev() {
        walk.turn_to(table).unwrap();
        for line in lines {
            assert!(walk.advance().unwrap());
            walk.load().unwrap();
            assert_eq!((walk.key(), walk.value().bytes), (&*line.0, &*line.4));
        }
        assert!(!walk.advance().unwrap());
    }
}

/// The entries of a damaged table: an error, or what was there.
fn error_or_same(bytes: &[u8], compression: Compression, expected: &[Line]) -> Option<Error> {
    match open(bytes, compression).and_then(|table| all(&table)) {
        Ok(lines) => {
            assert!(lines == expected, "other entries");
            None
        }
        Err(error) => Some(damage::<()>(Err(error))),
    }
}

#[test]
fn every_cut_and_every_flipped_byte_is_found() {
    let lines = lines(6, 20);
    let mut files = vec![(badger(), Compression::None)];
    files.extend(ALL.map(|compression| (build(&lines, compression, 150, true), compression)));
    for (bytes, compression) in files {
        let expected = all(&open(&bytes, compression).unwrap()).unwrap();
        for cut in 0..bytes.len() {
            assert!(error_or_same(&bytes[..cut], compression, &expected).is_some(), "{compression:?} {cut}");
        }
        for at in 0..bytes.len() {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                let found = error_or_same(&bytes, compression, &expected);
                // Codecs have bits without a meaning; everything else is under a checksum.
                assert!(found.is_some() || compression != Compression::None, "{at} {flip}");
            }
        }
    }
}

#[test]
fn damage_in_a_block_names_its_place_and_its_first_key() {
    let lines = lines(400, 100);
    let mut bytes = build(&lines, Compression::None, 1000, true);
    bytes[5000] ^= 1;
    let table = open(&bytes, Compression::None).unwrap();
    let error = damage(all(&table));
    let text = error.to_string();
    assert!(
        text.starts_with("000001.sst: expected a block with checksum ") && text.contains(" in block "),
        "{text}"
    );
    assert!(
        text.contains(&format!("at byte {}, which begins with key /0/h/000", error.offset().unwrap())),
        "{text}"
    );
    assert!(error.offset().unwrap() <= 5000);
}

#[test]
fn what_follows_a_damaged_block_can_still_be_read() {
    let lines = lines(100, 100);
    let mut bytes = build(&lines, Compression::None, 1000, true);
    bytes[50] ^= 1;
    let (table, none) = Table::open_leniently(blob(&bytes), Compression::None).unwrap();
    assert!(none.is_none());
    let mut walk = table.walk().unwrap();
    assert!(walk.advance().unwrap());
    damage(walk.load());
    let (mut more, mut found) = (walk.skip_block().unwrap(), Vec::new());
    while more {
        found.push(walk.key().to_vec());
        more = walk.advance().unwrap();
    }
    assert_eq!(found.last(), lines.last().map(|line| &line.0));
    assert!(found.len() > 150 && found.len() < 200);
    // The last block: its table opens, and ends where the block begins.
    let at = open(&build(&lines, Compression::None, 1000, true), Compression::None).unwrap();
    let last = at.index().unwrap().block(at.index().unwrap().blocks() - 1).unwrap().offset as usize;
    bytes[last + 30] ^= 1;
    let (table, some) = Table::open_leniently(blob(&bytes), Compression::None).unwrap();
    assert_eq!(some.unwrap().offset(), Some(last as u64));
    assert!(table.biggest() < at.biggest());
    damage(open(&bytes, Compression::None));
}

#[test]
fn blocks_with_right_checksums_and_wrong_contents_are_damage() {
    let (a, b, c) = (internal(b"a", 5), internal(b"b", 5), internal(b"c", 5));
    let key = |key: &[u8], value: &[u8]| [key, value].concat();
    let (first, value) = (key(&a, &[0, 0, 0]), [0, 0, 0]);
    let good = block(&[(0, 9, &first), (0, 9, &key(&b, &value))]);
    assert_eq!(
        all(&open(&craft(&[(a.clone(), good.clone())]), Compression::None).unwrap()).unwrap().len(),
        2
    );
    let cases: [(&str, Vec<u8>); 11] = [
        ("no entries", block(&[])),
        ("the base key with an overlap", block(&[(1, 9, &first)])),
        ("another base key", block(&[(0, 9, &key(&b, &value))])),
        ("a rest beyond its entry", block(&[(0, 9, &first), (0, 900, &key(&b, &value))])),
        ("an overlap beyond the base key", block(&[(0, 9, &first), (10, 9, &key(&b, &value))])),
        ("a key too short for a version", block(&[(0, 9, &first), (0, 7, &b"bbbbbbb\0\0\0"[..])])),
        ("an entry twice", block(&[(0, 9, &first), (0, 9, &first)])),
        ("descending versions of a key", block(&[(0, 9, &first), (0, 9, &key(&internal(b"a", 6), &value))])),
        ("no meta bits", block(&[(0, 9, &first), (0, 9, &b)])),
        ("an endless expiry", block(&[(0, 9, &first), (0, 9, &key(&b, &[0, 0, 0x80]))])),
        ("more entries than bytes", {
            let mut block = vec![0, 0, 0, 0];
            block.extend_from_slice(&u32::MAX.to_be_bytes());
            checksum::seal(&mut block);
            block
        }),
    ];
    for (what, block) in cases {
        let bytes = craft(&[(a.clone(), block)]);
        let error = damage(open(&bytes, Compression::None).and_then(|table| all(&table)));
        assert!(error.to_string().contains("block 0 at byte 0"), "{what}: {error}");
    }
    // Offsets of entries that cross, and lie outside.
    for start in [0_u32, 5, 1 << 20, u32::MAX] {
        let mut bytes = good[..good.len() - 4 - 6].to_vec();
        let len = bytes.len();
        bytes[len - 8..len - 4].copy_from_slice(&start.to_le_bytes());
        checksum::seal(&mut bytes);
        damage(open(&craft(&[(a.clone(), bytes)]), Compression::None).and_then(|table| all(&table)));
    }
    // A block whose last key is behind the next block's first.
    let late = block(&[(0, 9, &first), (0, 9, &key(&c, &value))]);
    let next = block(&[(0, 9, &key(&b, &value))]);
    let error =
        damage(open(&craft(&[(a, late), (b, next)]), Compression::None).and_then(|table| all(&table)));
    assert!(error.to_string().contains("expected a key behind c at version 5"), "{error}");
}

#[test]
fn files_that_are_no_tables_are_damage() {
    for bytes in [&b""[..], b"x", &[0; 8], &[0; 100], &[0xff; 100], &[0; 4096]] {
        damage(open(bytes, Compression::Snappy));
    }
}

/// A table whose index has `len` bytes, zeros but for what `end` says, so that next to nothing of it is on the disk.
fn with_index(len: u64, right: bool) -> Blob {
    let file = Scratch::system().file().unwrap();
    file.set_len(len).unwrap();
    let mut sum = checksum::Sum::new(b"", "it").unwrap();
    let zeros = vec![0; 1 << 20];
    (0..len).step_by(zeros.len()).for_each(|_| sum.update(&zeros));
    let mut end = u32::try_from(len).unwrap().to_be_bytes().to_vec();
    let mut message = Vec::new();
    if right {
        let said = sum.end("it").unwrap_err();
        let found = said.what().rsplit_once(' ').unwrap().1.to_owned();
        message.push(16);
        put_uvarint(&mut message, u64::from_str_radix(&found, 16).unwrap());
    }
    end.extend_from_slice(&message);
    end.extend_from_slice(&u32_of(message.len()).to_be_bytes());
    file.write_all_at(&end, len).unwrap();
    Blob::of(file, Path::new("000001.sst")).unwrap()
}

#[test]
fn a_long_index_is_proven_before_there_is_room_for_it() {
    for (len, right, code) in
        [(64 << 20, false, "damaged"), (129 << 20, true, "unsupported"), (8 << 20, true, "damaged")]
    {
        // How much memory it takes is measured in `tests/python/test_hostile.py`.
        let error = Table::open(with_index(len, right), Compression::None).unwrap_err();
        assert_eq!((error.code(), error.path()), (code, Some(Path::new("000001.sst"))), "{error}");
    }
}

#[test]
fn a_block_that_stands_for_gigabytes_is_refused_before_there_is_room() {
    let a = internal(b"a", 5);
    // 1 GiB of a snappy block in six bytes; and 3 GiB, more than Badger can make.
    for stored in [vec![0x80, 0x80, 0x80, 0x80, 0x04, 0], vec![0x80, 0x80, 0x80, 0x80, 0x0c, 0]] {
        damage(open(&craft(&[(a.clone(), stored)]), Compression::Snappy));
    }
    // The facts of the index say that all blocks together have no bytes.
    let zeros = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    damage(open(&craft(&[(a, zeros)]), Compression::Zstd));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_built_comes_back(
        entries in prop::collection::btree_map(
            (prop::collection::vec(any::<u8>(), 0..12), 0u64..5),
            (any::<u8>(), any::<u8>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..200)), 1..80),
        block_size in 1usize..600, codec in 0u32..3, bloom: bool,
    ) {
        let compression = Compression::from_id(codec)?;
        let sorted: BTreeMap<_, _> = entries.into_iter().map(|((key, version), value)| ((key, u64::MAX - version), value)).collect();
        let lines: Vec<Line> = sorted.into_iter().map(|((key, inverted), (meta, user_meta, expires_at, value))| {
            (internal(&key, u64::MAX - inverted), meta, user_meta, expires_at, value)
        }).collect();
        let table = open(&build(&lines, compression, block_size, bloom), compression)?;
        prop_assert_eq!(all(&table)?, lines.clone());
        for (key, .., value) in &lines {
            let (user_key, version) = key::split(key)?;
            let found = table.get(user_key, version)?.unwrap();
            prop_assert_eq!((found.version, &found.bytes), (version, value));
        }
    }

    #[test]
    fn any_bytes_give_a_table_or_damage(bytes in prop::collection::vec(any::<u8>(), 0..300), codec in 0u32..3) {
        let _ = open(&bytes, Compression::from_id(codec)?).and_then(|table| all(&table));
    }
}
