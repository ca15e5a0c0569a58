//! A directory in memory of which one file is any bytes.

use super::Feature;
use super::mutate::varint;
use crate::badger::{NOW, directories};
use crate::proof::{in_memory, put, unlocked};
use evbackup::badger::{Damage, check};
use evbackup::base::checksum::crc32c;
use evbackup::base::progress::Progress;
use evbackup::base::scratch::Scratch;
use evbackup::error::Kind;
use std::path::Path;

/// No table; table 1 at level 0, not compressed, with snappy, with zstd.
const MANIFESTS: [&[u8]; 4] = [
    b"Bdgr\0\0\0\x08\0\0\0\0\0\0\0\0",
    b"Bdgr\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\x04\x21\x54\x19\x16\x0a\x02\x08\x01",
    b"Bdgr\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\x06\xed\xc5\x1a\xfe\x0a\x04\x08\x01\x30\x01",
    b"Bdgr\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\x06\xfe\x95\xe9\x0a\x0a\x04\x08\x01\x30\x02",
];
const LOG_HEADER: usize = 20;

/// What is wrong with a directory of these files, coarsely.
fn look(files: &[(&str, &[u8])]) -> Feature {
    let place = in_memory();
    for (name, bytes) in files {
        put(&place.path().join(name), bytes);
    }
    let mut found: Vec<Damage> = Vec::new();
    let scratch = Scratch::new(place.path());
    let looked = unlocked(|| {
        found.clear();
        check(
            place.path(),
            NOW,
            &scratch,
            &Progress::new(),
            &mut |damage| found.push(damage),
            Some(&mut |_| Ok(())),
        )
    });
    for damage in &found {
        let error = &damage.error;
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        let path = error.path().unwrap_or_else(|| panic!("no file: {error}"));
        let end = std::fs::metadata(path).map_or(u64::from(u32::MAX), |about| about.len());
        assert!(error.offset().is_none_or(|offset| offset <= end), "{error}");
    }
    match looked {
        Ok(checked) => {
            let words =
                found.iter().map(|damage| format!("{:?} {}", damage.part, damage.error.what())).take(3);
            let entries = 64 - checked.entries.leading_zeros();
            format!("{} {}", "e".repeat(entries as usize), words.collect::<Vec<_>>().join(" "))
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            error.what().to_owned()
        }
    }
}

/// Any bytes as `MANIFEST`, and the same with checksums that fit.
pub(super) fn manifest(data: &[u8]) -> Feature {
    let mut fitting = data.to_vec();
    let mut at = 8;
    while let Some([a, b, c, d]) = fitting.get(at..at + 4).and_then(|len| <[u8; 4]>::try_from(len).ok()) {
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(body) = fitting.get(at + 8..(at + 8).saturating_add(len)) else { break };
        let crc = crc32c(0, body);
        fitting[at + 4..at + 8].copy_from_slice(&crc.to_be_bytes());
        at += 8 + len;
    }
    [look(&[("MANIFEST", data)]), look(&[("MANIFEST", &fitting)])].concat()
}

/// The golden files with this ending, of directories with less than a few KiB.
fn seeds(ending: &str) -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (directory, _) in directories() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.to_str().unwrap().ends_with(ending) && path.metadata().unwrap().len() < 3_000 {
                seeds.push(std::fs::read(path).unwrap());
            }
        }
    }
    assert!(!seeds.is_empty());
    seeds
}

pub(super) fn manifest_seeds() -> Vec<Vec<u8>> {
    let mut seeds = seeds("MANIFEST");
    seeds.extend(MANIFESTS.map(<[u8]>::to_vec));
    seeds
}

/// The checksum of some bytes as tables have it, with its length behind it.
fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![0x10];
    message.extend(varint(u64::from(crc32c(0, bytes))));
    let len = u32::try_from(message.len()).unwrap();
    message.extend_from_slice(&len.to_be_bytes());
    message
}

/// A table of these stored blocks and this index, with a checksum that fits.
fn table_of(blocks: &[u8], index: &[u8]) -> Vec<u8> {
    let len = u32::try_from(index.len()).unwrap().to_be_bytes();
    [blocks, index, &len, &seal(index)].concat()
}

/// An index of one block with this key: as our builder writes it.
fn index_of(key: &[u8], len: usize) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    let mut index = number(24).to_vec();
    for half in [18u16, 36, 4, 0, 8, 20, 24, 28, 32, 0, 20, 0] {
        index.extend_from_slice(&half.to_le_bytes());
    }
    // The blocks, the highest version, a filter that is not there, and the counts; the vtable of blocks; one block.
    for word in [44, 0xff, 0, 0, 1, 1 << 20, 0, 0] {
        index.extend_from_slice(&number(word));
    }
    for half in [10u16, 16, 4, 8, 12, 0] {
        index.extend_from_slice(&half.to_le_bytes());
    }
    for word in [1, 4, 20, 12, 0, len, key.len()] {
        index.extend_from_slice(&number(word));
    }
    index.extend_from_slice(key);
    index
}

/// The first byte says what the rest is: a table; an index, with a checksum that fits; a stored block; a block, with a checksum that fits.
pub(super) fn table(data: &[u8]) -> Feature {
    let (kind, rest) = data.split_first().unwrap_or((&0, &[]));
    let codec = usize::from(kind / 4) % 3;
    let key = |block: &[u8]| {
        let len = block.get(2..4).map_or(0, |len| usize::from(u16::from_le_bytes([len[0], len[1]])));
        block.get(4..4 + len).unwrap_or(b"key-of-8").to_vec()
    };
    let file = match kind % 4 {
        0 => rest.to_vec(),
        1 => table_of(&[7; 100], rest),
        2 => table_of(rest, &index_of(&key(rest), rest.len())),
        _ => {
            let block = [rest, &seal(rest)].concat();
            table_of(&block, &index_of(&key(&block), block.len()))
        }
    };
    let manifest = MANIFESTS[if kind % 4 == 3 { 1 } else { codec + 1 }];
    look(&[("MANIFEST", manifest), ("000001.sst", &file)])
}

/// The index of a table, if it is one.
fn index_in(table: &[u8]) -> Option<&[u8]> {
    let (rest, len) = table.split_last_chunk::<4>()?;
    let rest = rest.get(..rest.len().checked_sub(u32::from_be_bytes(*len) as usize)?)?;
    let (rest, len) = rest.split_last_chunk::<4>()?;
    rest.get(rest.len().checked_sub(u32::from_be_bytes(*len) as usize)?..)
}

pub(super) fn table_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for table in self::seeds(".sst") {
        for codec in 0..3 {
            seeds.push([&[4 * codec][..], &table].concat());
        }
        if let Some(index) = index_in(&table) {
            seeds.push([&[1][..], index].concat());
        }
        // The block that Badger's vector has, without its checksum.
        if table.len() == 224 {
            seeds.push([&[3][..], &table[..72]].concat());
            seeds.push([&[2][..], &table[..82]].concat());
        }
    }
    seeds
}

/// The bytes with a log's header before them, and checksums that fit where they look like records; how long the first one is.
fn records(data: &[u8]) -> (Vec<u8>, usize) {
    let mut log = vec![0; LOG_HEADER];
    log.extend_from_slice(data);
    let (mut at, mut first) = (LOG_HEADER, 0);
    while let Some(len) = record(&log[at..]) {
        let crc = crc32c(0, &log[at..at + len]);
        log[at + len..at + len + 4].copy_from_slice(&crc.to_be_bytes());
        if first == 0 {
            first = len + 4;
        }
        at += len + 4;
    }
    (log, first)
}

/// How long the record at the front is without its checksum, if it is there.
fn record(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut fields) = (2, [0; 3]);
    for field in &mut fields {
        for shift in (0..).step_by(7) {
            let byte = *bytes.get(at)?;
            *field |= u64::from(byte & 0x7f).checked_shl(shift)?;
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    let len = usize::try_from(fields[0].checked_add(fields[1])?).ok()?.checked_add(at)?;
    (len.checked_add(4)? <= bytes.len()).then_some(len)
}

/// Any bytes as the log of a memtable, behind its header; and the same with checksums that fit.
pub(super) fn log(data: &[u8]) -> Feature {
    let plain = [&[0; LOG_HEADER][..], data].concat();
    [plain, records(data).0].map(|log| look(&[("MANIFEST", MANIFESTS[0]), ("00001.mem", &log)])).concat()
}

pub(super) fn log_seeds() -> Vec<Vec<u8>> {
    seeds(".mem")
        .into_iter()
        .filter(|log| log.len() > LOG_HEADER)
        .map(|log| log[LOG_HEADER..].to_vec())
        .collect()
}

/// Any bytes as a value log, behind its header, with checksums that fit, and a table with a pointer to the first record.
pub(super) fn value_log(data: &[u8]) -> Feature {
    let (log, len) = records(data);
    let len = if len == 0 { data.len() } else { len };
    let mut block = b"\0\0\x0b\0/vl".to_vec();
    block.extend_from_slice(&(u64::MAX - 7).to_be_bytes());
    block.extend_from_slice(&[2, 0, 0, 1, 0, 0, 0]);
    block.extend_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
    block.extend_from_slice(&20_u32.to_le_bytes());
    block.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
    block.extend(seal(&block));
    let table = table_of(&block, &index_of(&block[4..15], block.len()));
    let plain = [&[0; LOG_HEADER][..], data].concat();
    let of = |log: &[u8]| look(&[("MANIFEST", MANIFESTS[1]), ("000001.sst", &table), ("000001.vlog", log)]);
    [of(&plain), of(&log)].concat()
}

pub(super) fn value_log_seeds() -> Vec<Vec<u8>> {
    let mut key = b"/vl".to_vec();
    key.extend_from_slice(&(u64::MAX - 7).to_be_bytes());
    let record = [&[0, 0, 11, 5, 0][..], &key, b"value", &[0; 4]].concat();
    let large = [&[0, 9, 11, 0x88, 0x27, 7][..], &key, &[1; 5000], &[0; 4]].concat();
    vec![record.clone(), [&large[..], &record, &[0; 30]].concat(), Vec::new()]
}

/// The files that the targets make by hand are what they claim to be.
#[test]
fn what_is_made_by_hand_is_sound() {
    assert_eq!(value_log(&value_log_seeds()[0]).split(' ').next(), Some("e"));
    let block = table_seeds().into_iter().find(|seed| seed[0] == 3).unwrap();
    assert_eq!(table(&block).trim(), "ee", "three entries and no damage");
    let sound = |features: &str| !features.contains("expected");
    assert!(sound(&table(&block)) && sound(&log(&log_seeds()[0])));
    assert!(MANIFESTS[..1].iter().all(|bytes| sound(&manifest(bytes))));
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").exists());
}
