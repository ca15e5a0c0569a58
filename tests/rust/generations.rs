#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::golden::cases;
use data_encoding::HEXLOWER;
use evbackup::entry::{OwnedEntry, Source};
use evbackup::evnode::chain::{ChainReport, Checker, Genesis, Level, Options, Rule};
use evbackup::evnode::generation::Generation;
use evbackup::evnode::hash;
use evbackup::evnode::record::{Data, SignedHeader, Timestamp};
use evbackup::format::{Reader, Tally};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What must come of the blocks that a published ev-node has written: the generation, and how often which rule is broken at which level.
type Expected = (&'static str, Generation, &'static [(Rule, Level, u64)]);

const EXPECTED: [Expected; 12] = [
    ("evnode-a", Generation::A, &[]),
    ("evnode-a-follower", Generation::A, &[]),
    ("evnode-b", Generation::B, &[]),
    ("evnode-b-follower", Generation::B, &[]),
    ("evnode-c", Generation::C, &[]),
    ("evnode-c-follower", Generation::C, &[]),
    ("evnode-c1", Generation::C, &[]),
    ("evnode-c1-follower", Generation::C, &[]),
    ("evnode-e", Generation::E, &[]),
    ("evnode-e-follower", Generation::E, &[]),
    ("evnode-f", Generation::F, &[]),
    ("evnode-f-follower", Generation::F, &[]),
];

/// The entries of a segment as a store has them: keys ascending, versions of a key descending.
fn entries(folder: &Path) -> Vec<OwnedEntry> {
    let bytes = std::fs::read(folder.join("full.badger")).unwrap();
    let mut reader = Reader::with_tap(bytes.as_slice(), Tally::new());
    let mut entries = Vec::new();
    while reader.advance().unwrap() {
        entries.push(reader.entry().to_owned());
    }
    entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    entries
}

fn checked(entries: &[OwnedEntry], options: Options) -> ChainReport {
    let mut checker = Checker::new(options);
    for entry in entries {
        checker.feed(&entry.as_entry()).unwrap();
    }
    checker.finish().unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// The genesis that the blocks were made from. Its time is the first block's, whichever producer made it.
fn genesis(written: &Value) -> Genesis {
    let nanos = written["blocks"][0]["time"].as_u64().unwrap();
    Genesis {
        chain_id: text(written, "chain_id").to_owned(),
        start_time: Timestamp {
            seconds: (nanos / 1_000_000_000).try_into().unwrap(),
            nanos: (nanos % 1_000_000_000).try_into().unwrap(),
        },
        initial_height: 1,
        proposer_address: HEXLOWER.decode(text(written, "proposer").as_bytes()).unwrap(),
        da_start_height: 0,
    }
}

/// The cases that a published ev-node has written, with its own paper.
fn written() -> Vec<(String, std::path::PathBuf, Value)> {
    let cases: Vec<_> = cases()
        .into_iter()
        .filter(|(_, paper)| paper["written_by"].is_object())
        .map(|(folder, paper)| (text(&paper, "case").to_owned(), folder, paper["written_by"].clone()))
        .collect();
    assert_eq!(
        cases.iter().map(|(case, ..)| case.as_str()).collect::<Vec<_>>(),
        EXPECTED.map(|(case, ..)| case)
    );
    cases
}

#[test]
fn chains_of_every_published_generation_are_sound() {
    for ((case, folder, paper), (_, generation, broken)) in written().into_iter().zip(EXPECTED) {
        let entries = entries(&folder);
        for genesis in [None, Some(genesis(&paper))] {
            let report = checked(&entries, Options { genesis, ..Options::default() });
            let broken: BTreeMap<_, _> =
                broken.iter().map(|(rule, level, count)| ((*rule, *level), *count)).collect();
            assert_eq!(report.counts, broken, "{case}: {:#?}", report.findings);
            assert_eq!(report.generation, Some(generation), "{case}");
            assert_eq!(report.chain_id.as_deref(), Some("generation"), "{case}");
            assert_eq!(report.complete_height, report.tip, "{case}");
            assert!(report.signatures >= report.tip.unwrap(), "{case}: {report:?}");
        }
    }
}

#[test]
fn their_hashes_are_those_that_the_published_code_says() {
    let mut blocks = 0;
    for (case, folder, paper) in written() {
        let entries = entries(&folder);
        let newest = |key: String| entries.iter().find(|entry| entry.key == key.as_bytes());
        for block in paper["blocks"].as_array().unwrap() {
            let height = &block["height"];
            // A follower was stopped before it had all of them.
            let (Some(header), Some(data)) =
                (newest(format!("/0/h/{height}")), newest(format!("/0/d/{height}")))
            else {
                assert!(case.ends_with("-follower"), "{case}: {height}");
                continue;
            };
            let header = SignedHeader::decode(&header.value).unwrap().header;
            let data = Data::decode(&data.value).unwrap();
            let found = [hash::header(&header), hash::commitment(&data)].map(|hash| HEXLOWER.encode(&hash));
            let expected = ["header_hash", "data_commitment"].map(|name| text(block, name));
            assert_eq!(found.each_ref().map(String::as_str), expected, "{case}: {height}");
            assert_eq!(HEXLOWER.encode(header.app_hash), text(block, "app_hash"), "{case}: {height}");
            assert_eq!(data.transactions().count(), usize::try_from(block["txs"].as_u64().unwrap()).unwrap());
            if !case.ends_with("-follower") {
                assert_eq!(HEXLOWER.encode(&hash::data(&data)), text(block, "data_hash"), "{case}: {height}");
            }
            blocks += 1;
        }
    }
    assert!(blocks > 150, "only {blocks} blocks were compared");
}

#[test]
fn one_flipped_bit_of_a_block_is_found_in_every_generation() {
    for (case, folder, _) in written() {
        let sound = entries(&folder);
        let clean = checked(&sound, Options::default()).counts;
        // The newest state, which is all that generation A has, shows in no header yet.
        let families: &[&str] =
            if case.starts_with("evnode-a") { &["h", "d", "c"] } else { &["h", "d", "c", "s"] };
        for family in families {
            let key = format!("/0/{family}/5");
            let mut entries = sound.clone();
            let entry = entries.iter_mut().find(|entry| entry.key == key.as_bytes()).unwrap();
            let at = entry.value.len() / 2;
            entry.value[at] ^= 1;
            let report = checked(&entries, Options::default());
            assert!(report.counts != clean, "{case}: {key}");
        }
    }
}
