#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::cut::{Node, clean, run};
use super::proof::{into_badger, into_rocksdb, names, put, record};
use evbackup::backup::Since;
use evbackup::evnode::key::{Key, Mark};
use evbackup::evnode::sample::{Sample, Stage};
use evbackup::restore;
use std::path::{Path, PathBuf};

fn hash_at(sample: &Sample, height: u64) -> String {
    let header = sample.value(&Key::Header(height).to_bytes()).unwrap();
    let header = evbackup::evnode::record::SignedHeader::decode(header).unwrap().header;
    data_encoding::HEXLOWER.encode(&evbackup::evnode::hash::header(&header))
}

fn genesis_at(path: &Path, proposer: &[u8]) -> PathBuf {
    let json = format!(
        r#"{{"chain_id": "sample-1", "start_time": "2023-11-14T22:13:20.123456789Z", "initial_height": 1, "proposer_address": "{}"}}"#,
        data_encoding::BASE64.encode(proposer)
    );
    put(path, json.as_bytes());
    path.to_owned()
}

/// What is wrong with a chain, but was not asked for, is for verify to say.
#[test]
fn a_torn_chain_is_held_against_what_the_operator_knows_in_a_store_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut sample = Sample::with_blocks(60);
    // Written late: above the height that the stream is whole to.
    sample.include(50);
    sample.mark(Mark::SubmittedHeader, 55);
    sample.extend(1, |_, _| {});
    let node = Node::new(folder.path(), sample);
    node.backup(&path("bare.badger"), Since::Version(0));
    let torn = path("torn.badger");
    record(&std::fs::read(path("bare.badger")).unwrap(), 40, &torn);
    let paths = std::slice::from_ref(&torn);
    let own = genesis_at(&path("genesis.json"), &node.sample.proposer().address());
    let other = genesis_at(&path("other.json"), &[7; 32]);
    let known = |name: &str, trusted: (u64, u64), genesis: &Path| restore::Options {
        trusted: Some((trusted.0, hash_at(&node.sample, trusted.1))),
        genesis: Some(genesis.to_owned()),
        ..into_rocksdb(paths, &path(name))
    };
    for bad in [known("no", (30, 31), &own), known("no", (45, 45), &own), known("no", (30, 30), &other)] {
        for dry_run in [true, false] {
            let error = run(&restore::Options { dry_run, ..bad.clone() }).unwrap_err();
            assert!(["mismatch", "damaged"].contains(&error.code()), "{error}");
            assert!(!path("no").exists());
        }
    }
    let made = run(&known("store", (30, 30), &own)).unwrap();
    assert_eq!((made.cut_height, made.tip_height), (None, 40));
}

#[test]
fn a_chain_of_a_based_sequencer_and_one_that_left_it_are_held_against_what_the_operator_knows() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let genesis = genesis_at(&path("genesis.json"), &Sample::new(1).proposer().address());
    for (name, based, broken) in [("based", 30, None), ("once", 10, Some(11)), ("elsewhere", 10, Some(15))] {
        let mut sample = Sample::new(1);
        sample.extend(30, |stage, draft| match stage {
            Stage::Made if broken == Some(draft.height) => draft.last_header_hash = vec![7; 32],
            Stage::Signed if draft.height <= based => {
                draft.signature.clear();
                draft.signature_beside.clear();
                draft.signer_key.clear();
            }
            _ => {}
        });
        let home = tempfile::tempdir().unwrap();
        let node = Node::new(home.path(), sample);
        let dest = home.path().join("restored");
        let known = |trusted: (u64, u64), was_based| restore::Options {
            trusted: Some((trusted.0, hash_at(&node.sample, trusted.1))),
            genesis: Some(genesis.clone()),
            was_based,
            ..into_badger(std::slice::from_ref(&node.path), &dest)
        };
        for was_based in [false, true] {
            let error = run(&known((20, 21), was_based)).unwrap_err();
            assert!(["mismatch", "damaged"].contains(&error.code()), "{name}: {error}");
        }
        if broken.is_some() {
            let error = run(&known((20, 20), false)).unwrap_err();
            assert!(error.what().contains("header"), "{name}: {error}");
            let hints = error.hint().is_some_and(|hint| hint.contains("was_based"));
            assert_eq!(hints, name == "once", "{error:?}");
        }
        if name == "elsewhere" {
            // Signed on both sides: no chain has that from leaving its based sequencer.
            let error = run(&known((20, 20), true)).unwrap_err();
            assert!(error.what().contains("header"), "{error}");
            assert!(!error.hint().is_some_and(|hint| hint.contains("was_based")), "{error:?}");
            continue;
        }
        let made = run(&known((20, 20), broken.is_some())).unwrap();
        let told = made.notes.iter().any(|note| note.contains("not proven"));
        assert_eq!(told, broken.is_some(), "{name}: {:?}", made.notes);
    }
}

#[test]
fn what_the_operator_knows_is_held_against_the_blocks_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let node = Node::new(folder.path(), Sample::with_blocks(30));
    node.backup(&path("full.badger"), Since::Version(0));
    let hash = |height: u64| {
        let header = node.sample.value(&Key::Header(height).to_bytes()).unwrap();
        let header = evbackup::evnode::record::SignedHeader::decode(header).unwrap().header;
        data_encoding::HEXLOWER.encode(&evbackup::evnode::hash::header(&header))
    };
    let genesis = |chain: &str| {
        let proposer = data_encoding::BASE64.encode(&node.sample.proposer().address());
        format!(
            r#"{{"chain_id": "{chain}", "start_time": "2023-11-14T22:13:20.123456789Z", "initial_height": 1, "proposer_address": "{proposer}"}}"#
        )
    };
    put(&path("genesis.json"), genesis("sample-1").as_bytes());
    put(&path("other.json"), genesis("other").as_bytes());
    let before = names(folder.path());
    for (number, source) in [path("full.badger"), node.path.clone()].into_iter().enumerate() {
        for (cut, at) in [(true, Some(20)), (false, None)] {
            let dest = path(&format!("{number}{cut}"));
            let plain =
                restore::Options { at_height: at, ..into_badger(std::slice::from_ref(&source), &dest) };
            for bad in [
                restore::Options { trusted: Some((12, hash(13))), ..plain.clone() },
                restore::Options { trusted: Some((31, hash(30))), ..plain.clone() },
                restore::Options { genesis: Some(path("other.json")), ..plain.clone() },
            ] {
                for dry_run in [true, false] {
                    let error = run(&restore::Options { dry_run, ..bad.clone() }).unwrap_err();
                    assert_eq!(error.code(), "mismatch", "{error}");
                    assert!(!dest.exists());
                }
            }
            let odd = restore::Options { trusted: Some((12, "12".into())), ..plain.clone() };
            assert_eq!(run(&odd).unwrap_err().code(), "invalid-argument");
            let good = restore::Options {
                trusted: Some((12, hash(12))),
                genesis: Some(path("genesis.json")),
                ..plain
            };
            assert!(run(&restore::Options { dry_run: true, ..good.clone() }).unwrap().dry_run);
            assert!(!dest.exists());
            run(&good).unwrap();
            clean(&dest);
        }
    }
    assert!(names(folder.path()).len() == before.len() + 4, "nothing else was left");
}
