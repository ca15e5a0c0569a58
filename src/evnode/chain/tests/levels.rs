//! Exceptions: what is a warning or nothing at all, and what an option changes.

use super::*;
use crate::evnode::generation::Generation;
use crate::evnode::hash;
use crate::evnode::key::{Mark, PRUNED_BLOCKS};
use crate::evnode::record::{SignedHeader, State, Timestamp};
use crate::evnode::sample::{GENESIS_TIME, Proposer, Stage};

fn genesis(sample: &Sample) -> Genesis {
    Genesis {
        chain_id: "sample-1".to_owned(),
        start_time: Timestamp::from_nanos(GENESIS_TIME),
        initial_height: 1,
        proposer_address: sample.proposer().address().to_vec(),
        da_start_height: 0,
    }
}

#[test]
fn a_pruned_chain_is_whole_from_its_base_on() {
    let mut sample = Sample::with_blocks(30);
    sample.include(20);
    sample.prune(11);
    let report = clean(&sample, defaults());
    assert_eq!((report.base, report.blocks, report.complete_height), (Some(12), 19, Some(30)));
    // Pruned states: the link to them is not there, and nothing is said.
    for height in 1..=15 {
        sample.remove(format!("/0/s/{height}").as_bytes());
    }
    sample.mark(Mark::PrunedStates, 15);
    clean(&sample, defaults());
    // What pruning has left is not looked at.
    sample.put(b"/0/d/3".to_vec(), b"\xff".to_vec());
    clean(&sample, defaults());
    sample.put(PRUNED_BLOCKS.to_vec(), 30u64.to_le_bytes().to_vec());
    breaks(&sample, defaults(), 1, None, "/0/m/lst-prnd-b");
}

#[test]
fn index_entries_of_blocks_that_are_gone_are_warnings() {
    let mut sample = Sample::with_blocks(30);
    sample.prune(11);
    sample.put(Key::Index([9; 32]).to_bytes(), 5u64.to_le_bytes().to_vec());
    warns(&sample, defaults(), 15, 5, "/0/i/0909…");
    let mut sample = Sample::with_blocks(30);
    sample.put(Key::Index([9; 32]).to_bytes(), 500u64.to_le_bytes().to_vec());
    warns(&sample, defaults(), 15, 500, "/0/i/0909…");
    // A second name of a block that is there is what producers up to rc.4 left behind.
    let mut sample = Sample::with_blocks(30);
    sample.put(Key::Index([9; 32]).to_bytes(), 5u64.to_le_bytes().to_vec());
    clean(&sample, defaults());
}

#[test]
fn gaps_among_states_are_warnings_below_the_tip() {
    let mut sample = Sample::with_blocks(30);
    for height in 12..=14 {
        sample.remove(format!("/0/s/{height}").as_bytes()).unwrap();
    }
    let finding = warns(&sample, defaults(), 12, 12, "/0/s/12");
    assert_eq!(finding.until, Some(14));
}

#[test]
fn data_synced_from_da_by_old_releases_have_no_link() {
    let mut sample = Sample::new(1);
    sample.extend(30, |stage, draft| {
        if stage == Stage::Made && draft.height == 12 {
            draft.last_data_hash.clear();
        }
    });
    warns(&sample, defaults(), 7, 12, "/0/d/12");
}

#[test]
fn a_first_block_at_another_time_than_the_genesis_is_a_warning() {
    let mut sample = Sample::with_blocks(30);
    let mut genesis = genesis(&sample);
    clean(&sample, Options { genesis: Some(genesis.clone()), ..defaults() });
    genesis.start_time.seconds -= 1;
    warns(&sample, Options { genesis: Some(genesis), ..defaults() }, 8, 1, "/0/h/1");
    // Without a genesis, the state before the first block says it.
    sample = Sample::new(1);
    sample.extend(30, |stage, draft| {
        if stage == Stage::Made && draft.height == 1 {
            for time in [&mut draft.time, &mut draft.metadata_time, &mut draft.state_time] {
                *time += 1;
            }
        }
    });
    warns(&sample, defaults(), 8, 1, "/0/h/1");
}

#[test]
fn a_genesis_of_another_chain_is_told_once() {
    let sample = Sample::with_blocks(130);
    let genesis = Genesis { chain_id: "other".to_owned(), initial_height: 7, ..genesis(&sample) };
    let report = check(&sample, Options { genesis: Some(genesis), ..defaults() });
    assert_eq!(brief(&report), [(Level::Error, 0, None)]);
    assert_eq!(report.findings[0].rule, Rule::Genesis);
    let message = report.findings[0].message();
    assert_eq!(message, "expected chain id other, as the genesis has it, found chain id sample-1");
    assert_eq!((report.chain_id.as_deref(), report.base), (Some("sample-1"), Some(1)));
}

#[test]
fn many_findings_of_one_rule_are_counted() {
    let mut sample = Sample::with_blocks(130);
    sample.extend(131, |stage, draft| {
        if stage == Stage::Made {
            draft.chain_id = "other".to_owned();
        }
    });
    let genesis = genesis(&sample);
    let report = check(&sample, Options { genesis: Some(genesis), ..defaults() });
    assert_eq!(report.count(Rule::ChainId, Level::Error), 131);
    assert_eq!(report.findings.iter().filter(|one| one.rule == Rule::ChainId).count(), 100);
    assert_eq!(report.findings[0].message(), "expected chain id sample-1, found chain id other");
}

#[test]
fn a_chain_that_left_its_based_sequencer_may_break_one_link() {
    let chain = |unsigned: &[u64], breaks: &[u64]| {
        let mut sample = Sample::new(1);
        sample.extend(30, |stage, draft| match stage {
            Stage::Made if breaks.contains(&draft.height) => draft.last_header_hash = vec![7; 32],
            Stage::Signed if unsigned.contains(&draft.height) => {
                draft.signature.clear();
                draft.signature_beside.clear();
                draft.signer_key.clear();
            }
            _ => {}
        });
        sample
    };
    let optional = Options { signatures: Signatures::Optional, ..defaults() };
    let was_based = Options { was_based: true, ..optional.clone() };
    let unsigned: Vec<u64> = (1..12).collect();
    let finding = warns(&chain(&unsigned, &[12]), was_based.clone(), 6, 12, "/0/h/12");
    assert!(!finding.leaves_based);
    let finding = breaks(&chain(&unsigned, &[12]), optional.clone(), 6, 12, "/0/h/12");
    assert!(finding.leaves_based);
    // Between two signed blocks, or two unsigned ones, no link is broken for that.
    for elsewhere in [15, 9] {
        for options in [&optional, &was_based] {
            let finding = breaks(
                &chain(&unsigned, &[elsewhere]),
                options.clone(),
                6,
                elsewhere,
                &format!("/0/h/{elsewhere}"),
            );
            assert!(!finding.leaves_based);
        }
    }
    let report = check(&chain(&unsigned, &[12, 15]), was_based.clone());
    assert_eq!(brief(&report), [(Level::Warning, 6, Some(12)), (Level::Error, 6, Some(15))]);
    let again: Vec<u64> = (1..12).chain([20]).collect();
    let report = check(&chain(&again, &[9, 12, 21]), was_based);
    let expected = [(Level::Error, 6, Some(9)), (Level::Warning, 6, Some(12)), (Level::Error, 6, Some(21))];
    assert_eq!(brief(&report), expected);
}

#[test]
fn a_chain_without_blocks_has_none_that_is_trusted() {
    let report = check(&Sample::new(1), Options { trusted: Some((5, [0; 32])), ..defaults() });
    let trusted = report.findings.iter().find(|finding| finding.rule == Rule::Trusted).unwrap();
    assert!(trusted.message().ends_with(", found no blocks"), "{}", trusted.message());
}

#[test]
fn what_cannot_be_verified_is_said_once() {
    let other = Options { signatures: Signatures::OtherPayload, ..defaults() };
    let mut sample = Sample::new(1);
    sample.extend(30, |stage, draft| {
        if stage == Stage::Signed {
            draft.signature = vec![draft.height.to_le_bytes()[0]; 64];
            draft.signature_beside.clone_from(&draft.signature);
        }
    });
    let finding = warns(&sample, other.clone(), 9, 1, "");
    assert!(finding.found.starts_with("30 that cannot be verified"), "{}", finding.found);
    let report = check(&sample, defaults());
    assert_eq!(report.count(Rule::Signature, Level::Error), 30);
    clean(&sample, Options { signatures: Signatures::Unverified, ..defaults() });
    // A key of another kind, whose address is right.
    let key = [&[8, 2, 0x12, 3][..], b"key"].concat();
    let mut sample = Sample::new(1);
    sample.extend(30, |stage, draft| {
        if draft.height == 12 && stage == Stage::Made {
            draft.signer_key.clone_from(&key);
            draft.signer_address = hash::address(b"key").to_vec();
            draft.proposer.clone_from(&draft.signer_address);
        }
        if draft.height == 11 && stage == Stage::State {
            draft.next_proposer = hash::address(b"key").to_vec();
        }
        if draft.height == 12 && stage == Stage::State {
            draft.next_proposer = Proposer::new(b"evbackup sample").address().to_vec();
        }
    });
    warns(&sample, defaults(), 9, 12, "");
}

#[test]
fn headers_with_a_validator_hash_and_signatures_that_do_not_hold_get_a_word_more() {
    let mut sample = Sample::new(1);
    sample.extend(30, |stage, draft| {
        if stage == Stage::Made {
            draft.validator_hash = vec![1; 32];
        }
        if stage == Stage::Signed && draft.height == 12 {
            draft.signature[0] ^= 1;
            draft.signature_beside[0] ^= 1;
        }
    });
    let finding = breaks(&sample, defaults(), 9, 12, "/0/h/12");
    assert!(finding.found.contains("does the app sign bytes of its own?"));
}

/// Blocks as releases up to v1.0.0-beta.8 wrote them.
fn old(blocks: u64) -> Sample {
    let mut sample = Sample::new(1);
    sample.extend(blocks, |stage, draft| match stage {
        Stage::Made => {
            draft.consensus_hash = vec![0; 32];
            draft.signs_legacy = true;
            draft.old_index = true;
            draft.metadata = draft.height > 1;
        }
        Stage::Signed => {}
        Stage::State => {
            draft.state_header_hash.clear();
            draft.next_proposer.clear();
        }
    });
    sample
}

#[test]
fn old_chains_have_their_exceptions() {
    let sample = Sample::new(1);
    let mut first = old(0);
    assert_eq!(first.entries().count(), sample.entries().count());
    first = Sample::new(1);
    let proposer = first.proposer().address().to_vec();
    first.extend(30, |stage, draft| match stage {
        Stage::Made => {
            draft.consensus_hash = vec![0; 32];
            draft.signs_legacy = true;
            draft.old_index = true;
            draft.metadata = draft.height > 1;
            draft.proposer.clone_from(&proposer);
        }
        Stage::Signed => {}
        Stage::State => {
            draft.state_header_hash.clear();
            draft.next_proposer.clear();
        }
    });
    // The state of the genesis is one of today; without a next proposer the genesis file counts.
    warns(&first, defaults(), 4, 1, "/0/d/1");
    let known = Options { genesis: Some(genesis(&first)), ..defaults() };
    warns(&first, known, 4, 1, "/0/d/1");
    let mut other = genesis(&first);
    other.proposer_address = vec![1];
    let report = check(&first, Options { genesis: Some(other), ..defaults() });
    assert_eq!(report.count(Rule::Proposer, Level::Error), 30);
    assert_eq!(report.count(Rule::Genesis, Level::Error), 1);
}

#[test]
fn a_chain_that_another_proposer_began_is_not_the_genesis_s() {
    let named = |sample: &Sample, address: &[u8]| {
        let genesis = Genesis { proposer_address: address.to_vec(), ..genesis(sample) };
        Options { genesis: Some(genesis), ..defaults() }
    };
    let sample = Sample::with_blocks(30);
    let report = check(&sample, named(&sample, &[7; 32]));
    assert_eq!(brief(&report), [(Level::Error, 0, Some(0)), (Level::Error, 11, Some(1))]);
    assert!(report.findings[0].message().starts_with("expected the proposer 0707"), "{:?}", report.findings);
    clean(&sample, named(&sample, &[]));
    // A state that names nobody hides nothing.
    let mut silent = sample.clone();
    let state = State::decode(sample.value(b"/0/s/0").unwrap()).unwrap();
    let mut value = Vec::new();
    State { next_proposer_address: &[], ..state }.encode(&mut value);
    silent.put(b"/0/s/0".to_vec(), value);
    breaks(&silent, named(&sample, &[7; 32]), 11, 1, "/0/h/1");
    clean(&silent, named(&sample, &sample.proposer().address()));
    // Later ones may be named by the app.
    let other = Proposer::new(b"other");
    let mut rotated = Sample::new(1);
    rotated.extend(30, |stage, draft| {
        if stage == Stage::State && draft.height == 11 {
            draft.next_proposer = other.address().to_vec();
        }
        if stage == Stage::Made && draft.height >= 12 {
            draft.signer = Some(other);
            draft.signer_key = other.public_key();
            draft.signer_address = other.address().to_vec();
        }
    });
    clean(&rotated, named(&rotated, &rotated.proposer().address()));
    // Of a pruned chain the first block is gone: what is left of its beginning is the state before it.
    let mut pruned = sample.clone();
    pruned.prune(11);
    breaks(&pruned, named(&sample, &[7; 32]), 0, 0, "/0/s/0");
    pruned.remove(b"/0/s/0");
    clean(&pruned, named(&sample, &[7; 32]));
}

#[test]
fn a_genesis_that_begins_elsewhere_is_told_and_hides_no_block() {
    let sample = Sample::with_blocks(30);
    let genesis = Genesis { initial_height: 7, ..genesis(&sample) };
    let options = Options { genesis: Some(genesis), ..defaults() };
    let finding = breaks(&sample, options.clone(), 0, None, "");
    assert_eq!(
        finding.message(),
        "expected the initial height 7, as the genesis has it, found 1 in the states"
    );
    let mut gone = sample;
    gone.remove(b"/0/d/3");
    let report = check(&gone, options);
    assert_eq!(brief(&report), [(Level::Error, 0, None), (Level::Error, 1, Some(3))]);
    assert_eq!((report.base, report.initial_height), (Some(1), Some(1)));
}

#[test]
fn a_pruning_mark_at_the_tip_does_not_hide_that_its_state_is_missing() {
    let mut sample = Sample::with_blocks(30);
    sample.mark(Mark::PrunedStates, 30);
    clean(&sample, defaults());
    sample.remove(b"/0/s/30");
    breaks(&sample, defaults(), 12, 30, "/0/s/30");
}

#[test]
fn an_address_that_is_not_the_key_s_was_not_enforced_before_v1_2() {
    let other = Proposer::new(b"other");
    let mut sample = Sample::new(1);
    let proposer = sample.proposer().address().to_vec();
    sample.extend(30, |stage, draft| match stage {
        Stage::Made => {
            draft.proposer.clone_from(&proposer);
            if draft.height == 12 {
                draft.signer = Some(other);
                draft.signer_key = other.public_key();
            }
        }
        Stage::Signed => {}
        Stage::State => draft.next_proposer.clear(),
    });
    warns(&sample, defaults(), 10, 12, "/0/h/12");
}

#[test]
fn a_proposer_that_nobody_expects_is_a_warning_where_the_state_is_pruned() {
    let other = Proposer::new(b"other");
    let mut sample = Sample::new(1);
    sample.extend(30, |stage, draft| {
        if stage == Stage::State && draft.height == 11 {
            draft.next_proposer = other.address().to_vec();
        }
        if stage == Stage::Made && draft.height >= 12 {
            draft.signer = Some(other);
            draft.signer_key = other.public_key();
            draft.signer_address = other.address().to_vec();
        }
    });
    clean(&sample, defaults());
    for height in 0..=11 {
        sample.remove(format!("/0/s/{height}").as_bytes()).unwrap();
    }
    sample.mark(Mark::PrunedStates, 11);
    warns(&sample, defaults(), 11, 12, "/0/h/12");
}

#[test]
fn the_newest_state_of_the_first_releases_counts_for_the_tip() {
    let mut sample = Sample::with_blocks(30);
    let newest = sample.value(b"/0/s/30").unwrap().to_vec();
    for height in 0..=30 {
        sample.remove(format!("/0/s/{height}").as_bytes()).unwrap();
    }
    breaks(&sample, defaults(), 12, 30, "/0/s/30");
    sample.put(b"/0/s".to_vec(), newest);
    let report = clean(&sample, defaults());
    assert_eq!(report.complete_height, Some(30));
    let stale = old(0).value(b"/0/s/0").unwrap().to_vec();
    sample.put(b"/0/s".to_vec(), stale);
    let report = check(&sample, defaults());
    assert!(brief(&report).contains(&(Level::Error, 12, Some(30))), "{:?}", report.findings);
}

#[test]
fn one_legacy_pending_block_above_the_tip_is_worth_knowing() {
    let legacy = || {
        let mut sample = Sample::with_blocks(30);
        sample.put(b"/0/t".to_vec(), 29u64.to_le_bytes().to_vec());
        sample.put(b"/0/c/30".to_vec(), Vec::new());
        sample.remove(b"/0/s/30").unwrap();
        sample.unindex(30);
        sample
    };
    let report = check(&legacy(), defaults());
    assert_eq!(brief(&report), [(Level::Info, 16, Some(30))]);
    assert!(report.ok());
    for head in [Head::Unknown, Head::Announced(29)] {
        let report = check(&legacy(), Options { head, ..defaults() });
        assert_eq!(brief(&report), [(Level::Info, 16, Some(30))]);
    }
    // Releases that keep the pending block in the metadata leave none.
    let mut sample = legacy();
    for part in ["header", "data"] {
        let value = sample.value(format!("/0/{}/30", &part[..1]).as_bytes()).unwrap().to_vec();
        sample.put(format!("/0/m/pending_{part}").into_bytes(), value);
    }
    breaks(&sample, defaults(), 16, 30, "/0/h/30");
}

#[test]
fn a_pending_block_of_another_chain_or_too_high_is_a_warning() {
    let mut sample = Sample::with_blocks(30);
    for (name, family) in [("pending_header", "h"), ("pending_data", "d")] {
        let value = sample.value(format!("/0/{family}/30").as_bytes()).unwrap().to_vec();
        sample.put(format!("/0/m/{name}").into_bytes(), value);
    }
    clean(&sample, defaults());
    let mut higher = Sample::with_blocks(28);
    for key in ["/0/m/pending_header", "/0/m/pending_data"] {
        higher.put(key.into(), sample.value(key.as_bytes()).unwrap().to_vec());
    }
    let report = check(&higher, defaults());
    assert_eq!(brief(&report), [(Level::Warning, 17, Some(30)), (Level::Warning, 17, Some(30))]);
    sample.put(b"/0/m/pending_header".to_vec(), b"\xff".to_vec());
    warns(&sample, defaults(), 17, None, "/0/m/pending_header");
}

#[test]
fn a_trusted_hash_proves_or_refutes() {
    let sample = Sample::with_blocks(30);
    let hash = hash::header(&SignedHeader::decode(sample.value(b"/0/h/12").unwrap()).unwrap().header);
    let trusted = |height, hash| Options { trusted: Some((height, hash)), ..defaults() };
    clean(&sample, trusted(12, hash));
    breaks(&sample, trusted(13, hash), 0, 13, "/0/h/13");
    breaks(&sample, trusted(31, hash), 0, 31, "");
    // A block of which nothing can be read proves nothing.
    for value in [None, Some(b"\xff".to_vec())] {
        let mut sample = Sample::with_blocks(30);
        match value {
            None => drop(sample.remove(b"/0/h/12")),
            Some(value) => sample.put(b"/0/h/12".to_vec(), value),
        }
        let report = check(&sample, trusted(12, hash));
        let told = |one: &Finding| one.rule == Rule::Trusted && one.height == Some(12);
        assert_eq!(report.findings.iter().filter(|one| told(one)).count(), 1, "{:?}", report.findings);
        let layer = ExecutionLayer { height: 12, timestamp: Some(1), state_root: None };
        let report = check(&sample, Options { execution_layer: Some(layer), ..defaults() });
        assert_eq!(report.count(Rule::ExecutionLayer, Level::Error), 1, "{:?}", report.findings);
    }
}

#[test]
fn a_database_of_v0_is_told() {
    let mut sample = Sample::with_blocks(3);
    sample.put(b"/0/b/1".to_vec(), b"block".to_vec());
    let report = check(&sample, defaults());
    assert_eq!(brief(&report), [(Level::Error, 0, None)]);
    let mut checker = Checker::new(defaults());
    for key in [&b"/0/ec/1"[..], b"/1/x"] {
        checker.feed(&Entry { key, version: 1, value: b"x", ..Entry::default() }).unwrap();
    }
    let report = checker.finish().unwrap();
    assert_eq!((report.generation, report.ok()), (Some(Generation::PreRelease), false));
}

#[test]
fn a_database_of_something_else_has_no_chain() {
    let mut checker = Checker::new(defaults());
    for key in [&b"/1/x"[..], b"/app/x", b"k"] {
        checker.feed(&Entry { key, version: 1, value: b"x", ..Entry::default() }).unwrap();
    }
    let report = checker.finish().unwrap();
    assert!(!report.has_chain() && report.ok() && report.base.is_none() && report.chain_id.is_none());
}
