//! Chains that do not fit into a buffer, heights that no chain has, and any bytes at all.

use super::*;
use crate::base::scratch::Scratch;
use crate::entry::OwnedEntry;
use crate::evnode::hash;
use crate::evnode::record::{Data, Header, SignedHeader, Signer, State, Timestamp};
use crate::evnode::sample::{CHAIN_ID, GENESIS_TIME, Stage};
use crate::evnode::wire::{put_bytes, put_message, put_number};
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[test]
fn a_chain_that_is_spilled_is_checked_like_a_short_one() {
    // More rows than fit into the buffers of any lane; every power of ten up to 10,000 lies in it.
    let mut sample = Sample::new(1);
    sample.extend(12_345, |stage, draft| {
        if stage == Stage::Made && draft.height == 10_000 {
            draft.last_header_hash = vec![7; 32];
        }
        if stage == Stage::Signed && draft.height == 9_999 {
            draft.signature[0] ^= 1;
            draft.signature_beside[0] ^= 1;
        }
    });
    sample.unindex(777);
    sample.remove(b"/0/s/1000").unwrap();
    let report = check(&sample, Options { threads: 2, ..defaults() });
    let expected = [
        (Level::Error, 15, Some(777)),
        (Level::Warning, 12, Some(1000)),
        (Level::Error, 9, Some(9_999)),
        (Level::Error, 6, Some(10_000)),
    ];
    assert_eq!(brief(&report), expected);
    assert_eq!((report.blocks, report.signatures, report.complete_height), (12_345, 12_345, Some(776)));
}

#[test]
fn heights_that_no_chain_has_take_neither_time_nor_memory() {
    let mut sample = Sample::with_blocks(5);
    for family in ["h", "d", "c", "s"] {
        let value = sample.value(format!("/0/{family}/5").as_bytes()).unwrap().to_vec();
        sample.put(format!("/0/{family}/{}", u64::MAX).into_bytes(), value);
    }
    sample.put(b"/0/t".to_vec(), u64::MAX.to_le_bytes().to_vec());
    sample.put(Key::Index([1; 32]).to_bytes(), (u64::MAX - 1).to_le_bytes().to_vec());
    let report = check(&sample, defaults());
    assert!(report.findings.iter().any(|one| one.height == Some(6) && one.until == Some(u64::MAX - 1)));
    for head in [Head::Unknown, Head::Announced(u64::MAX), Head::Announced(0)] {
        check(&sample, Options { head, ..defaults() });
    }
}

#[test]
fn headers_of_any_size_are_verified() {
    let mut sample = Sample::new(1);
    sample.extend(20, |stage, draft| {
        if stage == Stage::Made && draft.height == 12 {
            draft.validator_hash = vec![1; 3 << 20];
        }
        if stage == Stage::Signed && draft.height == 12 {
            draft.signature[0] ^= 1;
            draft.signature_beside[0] ^= 1;
        }
    });
    let report = check(&sample, defaults());
    assert_eq!((brief(&report), report.signatures), (vec![(Level::Error, 9, Some(12))], 20));
}

const LONG: u64 = 10_000_000;

/// Heights up to `count` in the order of their decimal digits, which is that of their keys.
fn by_digits(count: u64) -> impl Iterator<Item = u64> {
    let next = move |height: &u64| {
        let mut next = *height;
        if next * 10 <= count {
            return Some(next * 10);
        }
        while next % 10 == 9 || next == count {
            next /= 10;
        }
        (next > 0 || *height < 9).then_some(next + 1)
    };
    std::iter::successors((count > 0).then_some(1), next).take(usize::try_from(count).unwrap())
}

/// The entries of a chain, made one at a time in the order of their keys; what they say of each other is in files.
struct Long {
    proposer: crate::evnode::sample::Proposer,
    /// The hashes of header and data of each height.
    hashes: File,
    /// The names of all blocks and their heights, by their first byte.
    names: Vec<(File, u64)>,
}

impl Long {
    fn new() -> Self {
        let file = || Scratch::system().file().unwrap();
        let names = (0..=255).map(|_| (file(), 0)).collect();
        let mut this = Self { proposer: Sample::new(1).proposer(), hashes: file(), names };
        let mut pending = vec![Vec::new(); 256];
        let mut last = [[0; 32]; 2];
        for height in 1..=LONG {
            let data = Self::data(height, &last[1]);
            let header = this.header(height, &last[0], &data);
            let signed = SignedHeader::decode(&header).unwrap();
            last = [hash::header(&signed.header), hash::data(&Data::decode(&data).unwrap())];
            this.hashes.write_all_at(&last.concat(), height * 64).unwrap();
            let name = hash::index(&header);
            let waiting: &mut Vec<u8> = &mut pending[usize::from(name[0])];
            waiting.extend_from_slice(&name);
            waiting.extend_from_slice(&height.to_le_bytes());
            if waiting.len() >= 1 << 16 || height == LONG {
                for ((file, end), waiting) in this.names.iter_mut().zip(&mut pending) {
                    file.write_all_at(waiting, *end).unwrap();
                    *end += waiting.len() as u64;
                    waiting.clear();
                }
            }
        }
        this
    }

    fn hashes(&self, height: u64) -> [[u8; 32]; 2] {
        let mut both = [0; 64];
        if height > 0 {
            self.hashes.read_exact_at(&mut both, height * 64).unwrap();
        }
        [both[..32].try_into().unwrap(), both[32..].try_into().unwrap()]
    }

    fn time(height: u64) -> u64 {
        GENESIS_TIME + height * 1_000_000_000
    }

    fn data(height: u64, last: &[u8]) -> Vec<u8> {
        let (mut metadata, mut data) = (Vec::new(), Vec::new());
        put_bytes(&mut metadata, 1, CHAIN_ID.as_bytes());
        put_number(&mut metadata, 2, height);
        put_number(&mut metadata, 3, Self::time(height));
        put_bytes(&mut metadata, 4, if height == 1 { &[] } else { last });
        put_message(&mut data, 1, &metadata);
        put_message(&mut data, 2, &height.to_le_bytes());
        data
    }

    fn header(&self, height: u64, last: &[u8], data: &[u8]) -> Vec<u8> {
        let (address, key) = (self.proposer.address(), self.proposer.public_key());
        let commitment = hash::commitment(&Data::decode(data).unwrap());
        let header = Header {
            height,
            time: Self::time(height),
            last_header_hash: if height == 1 { &[] } else { last },
            data_hash: &commitment,
            app_hash: &[3; 32],
            proposer_address: &address,
            chain_id: CHAIN_ID,
            ..Header::default()
        };
        let mut blob = Vec::new();
        let signer = Signer { address: &address, public_key: &key };
        SignedHeader { header, signature: &[6; 64], signer }.encode(&mut blob);
        blob
    }

    fn state(&self, height: u64, hash: &[u8]) -> Vec<u8> {
        let state = State {
            chain_id: CHAIN_ID,
            initial_height: 1,
            last_block_height: height,
            last_block_time: Some(Timestamp::from_nanos(Self::time(height))),
            da_height: height,
            app_hash: &[3; 32],
            last_header_hash: hash,
            next_proposer_address: &self.proposer.address(),
            ..State::default()
        };
        let mut value = Vec::new();
        state.encode(&mut value);
        value
    }

    fn each(&self, mut take: impl FnMut(Key<'_>, u64, &[u8])) {
        by_digits(LONG).for_each(|height| take(Key::Signature(height), height, &[6; 64]));
        for height in by_digits(LONG) {
            take(Key::Data(height), height, &Self::data(height, &self.hashes(height - 1)[1]));
        }
        for height in by_digits(LONG) {
            let [header, data] = self.hashes(height - 1);
            take(Key::Header(height), height, &self.header(height, &header, &Self::data(height, &data)));
        }
        for (file, end) in &self.names {
            let mut bytes = vec![0; usize::try_from(*end).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let mut names: Vec<&[u8]> = bytes.chunks(40).collect();
            names.sort_unstable();
            for name in names {
                let height = u64::from_le_bytes(name[32..].try_into().unwrap());
                take(Key::Index(name[..32].try_into().unwrap()), height, &name[32..]);
            }
        }
        for height in by_digits(LONG) {
            take(Key::State(height), height, &self.state(height, &self.hashes(height)[0]));
        }
        take(Key::Tip, LONG, &LONG.to_le_bytes());
    }
}

/// Bytes of this process that are in no file.
fn anonymous() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn digits_order_heights_as_their_keys() {
    for count in [1, 9, 10, 11, 99, 100, 123, 1000, 2345] {
        let mut expected: Vec<String> = (1..=count).map(|height: u64| height.to_string()).collect();
        expected.sort();
        let found: Vec<String> = by_digits(count).map(|height| height.to_string()).collect();
        assert_eq!(found, expected, "{count}");
    }
}

/// Everything but the signatures, of which memory holds as many for ten blocks as for ten million.
#[test]
#[ignore = "takes minutes, and 8 GB of temporary files"]
fn ten_million_blocks_are_checked_in_256_mib() {
    let long = Long::new();
    let (idle, ended) = (anonymous(), Arc::new(AtomicBool::new(false)));
    let watching = Arc::clone(&ended);
    let watch = std::thread::spawn(move || {
        let mut peak = 0;
        while !watching.load(Relaxed) {
            peak = peak.max(anonymous());
            std::thread::sleep(Duration::from_millis(20));
        }
        peak
    });
    let began = Instant::now();
    let mut checker = Checker::new(Options { signatures: Signatures::Unverified, ..defaults() });
    long.each(|key, version, value| {
        checker.feed(&Entry { key: &key.to_bytes(), version, value, ..Entry::default() }).unwrap();
    });
    let report = checker.finish().unwrap();
    ended.store(true, Relaxed);
    let grown = watch.join().unwrap().saturating_sub(idle);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.blocks, report.complete_height), (LONG, Some(LONG)));
    let seen = format!("{} MiB above idle, {:.0} s", grown >> 20, began.elapsed().as_secs_f64());
    assert!(grown < 256 << 20, "{seen}");
    #[expect(clippy::print_stderr, reason = "a figure that is asked for by name")]
    {
        eprintln!("{LONG} blocks: {seen}");
    }
}

/// Keys that mean something, and values that may.
fn entries() -> impl Strategy<Value = Vec<OwnedEntry>> {
    let sample = Sample::with_blocks(4);
    let keys: Vec<_> = sample.owned().into_iter().map(|entry| entry.key).collect();
    let values: Vec<_> = sample.owned().into_iter().map(|entry| entry.value).collect();
    let more = [
        "/0/m/d",
        "/0/m/pending_data",
        "/0/s",
        "/0/h/0",
        "/0/h/18446744073709551615",
        "/0/m/rhb/3/d",
        "/0/m/lst-prnd-b",
    ];
    let keys: Vec<_> = keys.into_iter().chain(more.map(|key| key.as_bytes().to_vec())).collect();
    let value = prop_oneof![
        4 => prop::sample::select(values),
        1 => any::<u64>().prop_map(|height| height.to_le_bytes().to_vec()),
        1 => (0u64..6).prop_map(|height| height.to_le_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    prop::collection::btree_map(prop::sample::select(keys), value, 0..40).prop_map(|map| {
        map.into_iter()
            .map(|(key, value)| OwnedEntry { key, value, version: 1, ..OwnedEntry::default() })
            .collect()
    })
}

proptest! {
    #[test]
    fn any_mixture_gives_a_report(entries in entries(), begins in 0u8..3, announced in prop::option::of(0u64..6)) {
        let head = announced.map_or(Head::Unknown, Head::Announced);
        let begins = [Begins::Whole, Begins::Part, Begins::Unknown][usize::from(begins)];
        let mut checker = Checker::new(Options { head, begins, threads: 1, ..defaults() });
        for entry in &entries {
            checker.feed(&entry.as_entry())?;
        }
        checker.finish()?;
    }
}
