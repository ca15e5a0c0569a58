//! What is not cut, and why.

use super::*;
use crate::evnode::generation::Generation;
use crate::evnode::sample::Stage;

#[track_caller]
fn refused(sample: &Sample, height: u64, options: Options, code: &str, words: &str) {
    let error = try_cut(sample, height, options).err().unwrap();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.hint().is_some());
}

/// Blocks of releases up to v1.0.0-beta.8.
fn old() -> Sample {
    let mut sample = Sample::new(1);
    sample.extend(30, |stage, draft| match stage {
        Stage::Made => {
            draft.consensus_hash = vec![0; 32];
            draft.signs_legacy = true;
            draft.old_index = true;
        }
        Stage::Signed => {}
        Stage::State => {
            draft.state_header_hash.clear();
            draft.next_proposer.clear();
        }
    });
    // The state before the first block is one of today.
    sample.remove(b"/0/s/0");
    sample
}

#[test]
fn old_generations_are_refused_by_name() {
    let sample = old();
    assert_eq!(facts(&sample, 12).generation(), Some(Generation::B));
    refused(&sample, 12, exact(), "unsupported", "found a database of v1.0.0-beta.3 to beta.8");
    let mut first = sample.clone();
    let newest = first.value(b"/0/s/30").unwrap().to_vec();
    for height in 1..=30 {
        first.remove(&Key::State(height).to_bytes());
    }
    first.put(b"/0/s".to_vec(), newest);
    refused(&first, 12, exact(), "unsupported", "found a database of v1.0.0-beta.1 to beta.2");
    let mut v0 = Sample::new(1);
    v0.remove(b"/0/s/0");
    v0.put(b"/0/b/1".to_vec(), b"block".to_vec());
    refused(&v0, 1, exact(), "unsupported", "found a database of v0.x");
    let mut other = Sample::new(1);
    other.remove(b"/0/s/0");
    other.put(b"/app/x".to_vec(), b"x".to_vec());
    refused(&other, 1, exact(), "unsupported", "found none");
    assert!(!facts(&other, 1).has_chain());
}

#[test]
fn a_thin_store_without_a_mark_has_its_own_blocks_only() {
    let mut sample = Sample::with_blocks(30);
    for height in 1..=9 {
        for key in [Key::Header(height), Key::Data(height), Key::Signature(height), Key::State(height)] {
            sample.remove(&key.to_bytes());
        }
    }
    assert_eq!(facts(&sample, 12).range(Head::Exact), Some((10, 30)));
}

/// Upgrades leave everything in place: what counts is what the node was last.
#[test]
fn a_chain_that_lived_through_upgrades_is_cut() {
    let mut sample = Sample::new(1);
    sample.extend(30, |stage, draft| {
        if draft.height > 15 {
            return;
        }
        match stage {
            Stage::Made => {
                draft.consensus_hash = vec![0; 32];
                draft.signs_legacy = true;
                draft.old_index = true;
            }
            Stage::Signed => {}
            Stage::State => draft.state_header_hash.clear(),
        }
    });
    for height in [10, 15, 16, 20] {
        cut(&sample, height, exact()).check(Signatures::Required);
    }
}

#[test]
fn an_aggregator_below_what_is_public_is_refused_unless_forced() {
    let mut sample = Sample::with_blocks(30);
    sample.include(20);
    refused(
        &sample,
        19,
        aggregator(),
        "mismatch",
        "at least 20, up to which blocks are public on DA, found 19",
    );
    refused(&sample, 19, exact(), "invalid-argument", "at least 20");
    for options in [follower(), Options { force: true, ..aggregator() }, Options { force: true, ..exact() }] {
        cut(&sample, 19, options);
    }
    cut(&sample, 20, aggregator());
}

#[test]
fn a_block_that_is_not_whole_is_no_end() {
    for (key, words) in [
        ("/0/h/12", "found no header at key /0/h/12"),
        ("/0/d/12", "found no data at key /0/d/12"),
        ("/0/c/12", "found no signature at key /0/c/12"),
    ] {
        let mut sample = Sample::with_blocks(30);
        sample.remove(key.as_bytes()).unwrap();
        refused(&sample, 12, exact(), "damaged", words);
        cut(&sample, 13, exact());
    }
    for (key, words) in [
        ("/0/h/12", "a header that cannot be read"),
        ("/0/d/12", "data that cannot be read"),
        ("/0/s/12", "found one that cannot be read"),
    ] {
        let mut sample = Sample::with_blocks(30);
        sample.put(key.into(), b"\xff".to_vec());
        refused(&sample, 12, exact(), "damaged", words);
    }
}

#[test]
fn a_state_that_cannot_be_rebuilt_is_missing() {
    let mut sample = Sample::with_blocks(30);
    for key in ["/0/s/12", "/0/h/13"] {
        sample.remove(key.as_bytes()).unwrap();
    }
    refused(
        &sample,
        12,
        exact(),
        "missing",
        "or block 13 to rebuild it from, found neither: the state is not there",
    );
    sample.mark(Mark::PrunedStates, 12);
    refused(&sample, 12, exact(), "missing", "the state is pruned");
}

#[test]
fn the_range_is_what_was_not_pruned_and_is_whole() {
    let mut sample = Sample::with_blocks(30);
    assert_eq!(facts(&sample, 1).range(Head::Exact), Some((1, 30)));
    sample.prune(8);
    assert_eq!(facts(&sample, 1).range(Head::Exact), Some((9, 30)));
    assert_eq!(facts(&sample, 1).range(Head::Complete(20)), Some((9, 20)));
    assert_eq!(facts(&sample, 1).range(Head::Complete(5)), None);
    sample.remove(b"/0/d/30");
    assert_eq!(facts(&sample, 1).range(Head::Unknown), Some((9, 29)));
    // The index ends as the other families do.
    for height in 28..=30 {
        sample.unindex(height);
    }
    let torn = facts(&sample, 1);
    assert_eq!((torn.range(Head::Unknown), torn.end()), (Some((9, 27)), Some(27)));
    assert!(torn.passes(27) && !torn.passes(30) && torn.is_of_evnode());
    // The state before the first block is no end, as the checker has it.
    for height in 1..=30 {
        sample.remove(Key::State(height).to_bytes().as_slice());
    }
    assert_eq!((sample.value(b"/0/s/0").is_some(), facts(&sample, 1).end()), (true, Some(27)));
    let later = Sample::new(50);
    assert_eq!(facts(&later, 1).range(Head::Exact), None);
    let mut later = Sample::new(50);
    later.extend(3, |_, _| {});
    assert_eq!(facts(&later, 1).range(Head::Exact), Some((50, 52)));
    cut(&later, 51, exact()).check(Signatures::Required);
}
