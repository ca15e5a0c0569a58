//! Each rule broken by a data set that was made for it: found with its number, its height, its key, and nothing else.

use super::*;
use crate::evnode::hash;
use crate::evnode::key::{Mark, Part, TIP};
use crate::evnode::record::SignedHeader;
use crate::evnode::sample::{Draft, Stage};

const BAD: u64 = 12;

/// A chain of 30 blocks, of which one was changed at a stage.
fn changed(stage: Stage, change: impl Fn(&mut Draft)) -> Sample {
    let mut sample = Sample::new(1);
    sample.extend(30, |at, draft| {
        if at == stage && draft.height == BAD {
            change(draft);
        }
    });
    sample
}

#[test]
fn a_right_chain_has_no_findings() {
    let mut sample = Sample::with_blocks(130);
    sample.include(100);
    let report = clean(&sample, defaults());
    assert_eq!((report.blocks, report.signatures), (130, 130));
    assert_eq!((report.chain_id.as_deref(), report.base, report.tip), (Some("sample-1"), Some(1), Some(130)));
    assert_eq!((report.complete_height, report.complete_version), (Some(130), Some(130)));
    assert_eq!(report.generation.map(crate::evnode::generation::Generation::name), Some("F"));
    assert_eq!(report.families[&crate::evnode::key::Family::Headers].keys, 130);
    clean(&Sample::new(1), defaults());
    clean(&Sample::new(7), defaults());
    let mut late = Sample::new(95);
    late.extend(20, |_, _| {});
    assert_eq!(clean(&late, defaults()).base, Some(95));
}

#[test]
fn rule_1_a_tip_that_is_missing_or_has_another_length() {
    let mut sample = Sample::with_blocks(30);
    sample.put(TIP.to_vec(), vec![30]);
    let finding = breaks(&sample, defaults(), 1, None, "/0/t");
    assert_eq!(finding.message(), "expected 8 bytes of a height at byte 0, found the end after 1");
    sample.remove(TIP);
    let finding = breaks(&sample, defaults(), 1, None, "/0/t");
    assert_eq!(finding.message(), "expected a tip, with blocks up to 30, found none");
}

#[test]
fn rule_1_a_part_of_a_block_that_is_missing() {
    for key in ["/0/h/12", "/0/d/12", "/0/c/12"] {
        let mut sample = Sample::with_blocks(30);
        sample.remove(key.as_bytes()).unwrap();
        breaks(&sample, defaults(), 1, BAD, key);
    }
    let mut sample = Sample::with_blocks(30);
    sample.remove(b"/0/d/30").unwrap();
    breaks(&sample, defaults(), 1, 30, "/0/d/30");
}

#[test]
fn rule_1_blocks_that_are_missing_altogether_are_one_finding_for_each_part() {
    let mut sample = Sample::with_blocks(30);
    for height in 9..=12 {
        for family in ["h", "d", "c", "s"] {
            sample.remove(format!("/0/{family}/{height}").as_bytes()).unwrap();
        }
    }
    let report = check(&sample, defaults());
    let runs: Vec<_> = report
        .findings
        .iter()
        .map(|one| {
            (one.level, one.rule, one.height, one.until, String::from_utf8(one.key.clone().unwrap()).unwrap())
        })
        .collect();
    let expected = ["/0/h/9", "/0/d/9", "/0/c/9"]
        .map(|key| (Level::Error, Rule::Present, Some(9), Some(12), key.to_owned()));
    assert_eq!(runs, expected);
    assert_eq!((report.count(Rule::Present, Level::Error), report.complete_height), (12, Some(8)));
}

#[test]
fn rule_2_what_cannot_be_read() {
    for key in ["/0/h/12", "/0/d/12"] {
        let mut sample = Sample::with_blocks(30);
        sample.put(key.into(), vec![0x0a, 200]);
        let finding = breaks(&sample, defaults(), 2, BAD, key);
        assert!(finding.message().contains("found the end"), "{}", finding.message());
    }
    // The signer's key is no key: a node does not read such a header, either.
    let sample = changed(Stage::Signed, |draft| draft.signer_key = vec![8, 9]);
    breaks(&sample, defaults(), 2, BAD, "/0/h/12");
}

#[test]
fn rule_2_a_header_of_another_height() {
    let sample = changed(Stage::Made, |draft| draft.header_height = 99);
    let finding = breaks(&sample, defaults(), 2, BAD, "/0/h/12");
    assert_eq!(finding.message(), "expected a header of height 12, found one of 99");
}

#[test]
fn rule_3_another_chain_id() {
    let sample = changed(Stage::Made, |draft| draft.chain_id = "other".to_owned());
    let finding = breaks(&sample, defaults(), 3, BAD, "/0/h/12");
    assert_eq!(finding.message(), "expected chain id sample-1, found chain id other");
}

#[test]
fn rule_4_metadata_of_another_block() {
    let wrong: [fn(&mut Draft); 4] = [
        |draft| draft.metadata_chain_id = Some("other".to_owned()),
        |draft| draft.metadata_height += 1,
        |draft| draft.metadata_time += 1,
        |draft| draft.metadata = false,
    ];
    for change in wrong {
        breaks(&changed(Stage::Made, change), defaults(), 4, BAD, "/0/d/12");
    }
}

#[test]
fn rule_5_data_that_the_header_does_not_commit_to() {
    let sample = changed(Stage::Made, |draft| draft.transactions.push(b"smuggled".to_vec()));
    breaks(&sample, defaults(), 5, BAD, "/0/h/12");
    let sample = changed(Stage::Made, |draft| draft.data_hash = Vec::new());
    assert_eq!(breaks(&sample, defaults(), 5, BAD, "/0/h/12").found, "nothing");
}

#[test]
fn rule_6_a_header_that_follows_another_one() {
    let sample = changed(Stage::Made, |draft| draft.last_header_hash = vec![7; 32]);
    let finding = breaks(&sample, defaults(), 6, BAD, "/0/h/12");
    let header = sample.value(b"/0/h/11").unwrap();
    let before = hash::header(&SignedHeader::decode(header).unwrap().header);
    assert!(finding.expected.ends_with(&data_encoding::HEXLOWER.encode(&before)));
    assert_eq!(finding.found, "07".repeat(32));
}

#[test]
fn rule_7_data_that_follow_other_data() {
    let sample = changed(Stage::Made, |draft| draft.last_data_hash = vec![7; 32]);
    breaks(&sample, defaults(), 7, BAD, "/0/d/12");
}

#[test]
fn rule_8_time_that_goes_back() {
    let sample = changed(Stage::Made, |draft| {
        for time in [&mut draft.time, &mut draft.metadata_time, &mut draft.state_time] {
            *time -= 2_000_000_000;
        }
    });
    breaks(&sample, defaults(), 8, BAD, "/0/h/12");
}

#[test]
fn rule_9_a_forged_signature() {
    let sample = changed(Stage::Signed, |draft| {
        draft.signature[3] ^= 1;
        draft.signature_beside[3] ^= 1;
    });
    let finding = breaks(&sample, defaults(), 9, BAD, "/0/h/12");
    assert_eq!(finding.found, "one that does not hold");
    let sample = changed(Stage::Signed, |draft| {
        draft.signature.pop();
        draft.signature_beside.pop();
    });
    breaks(&sample, defaults(), 9, BAD, "/0/h/12");
}

#[test]
fn what_is_found_is_in_the_order_of_heights_signatures_too() {
    let mut sample = Sample::new(1);
    sample.extend(30, |stage, draft| match (stage, draft.height) {
        (Stage::Signed, 7 | 22) => {
            draft.signature[3] ^= 1;
            draft.signature_beside[3] ^= 1;
        }
        (Stage::Made, BAD) => draft.last_data_hash = vec![7; 32],
        _ => {}
    });
    sample.put(b"/0/m/d".to_vec(), b"?".to_vec());
    let report = check(&sample, defaults());
    let found: Vec<_> = report.findings.iter().map(|one| (one.rule.number(), one.height)).collect();
    assert_eq!(found, [(19, None), (9, Some(7)), (7, Some(BAD)), (9, Some(22))]);
}

#[test]
fn rule_9_a_signature_that_is_not_the_header_s() {
    let sample = changed(Stage::Signed, |draft| draft.signature_beside[3] ^= 1);
    breaks(&sample, defaults(), 9, BAD, "/0/c/12");
}

#[test]
fn rule_9_no_signature_and_no_key() {
    let unsigned = |draft: &mut Draft| {
        draft.signature.clear();
        draft.signature_beside.clear();
        draft.signer_key.clear();
    };
    breaks(&changed(Stage::Signed, unsigned), defaults(), 9, BAD, "/0/h/12");
    let based = Options { signatures: Signatures::Optional, ..defaults() };
    clean(&changed(Stage::Signed, unsigned), based);
    breaks(&changed(Stage::Signed, |draft| draft.signer_key.clear()), defaults(), 9, BAD, "/0/h/12");
}

#[test]
fn rule_10_a_signer_who_is_not_the_proposer() {
    let other = crate::evnode::sample::Proposer::new(b"other");
    // Somebody else signs, and says so.
    let sample = changed(Stage::Made, |draft| {
        draft.signer = Some(other);
        draft.signer_key = other.public_key();
        draft.signer_address = other.address().to_vec();
    });
    breaks(&sample, defaults(), 10, BAD, "/0/h/12");
    // Somebody else signs under the proposer's address.
    let sample = changed(Stage::Made, |draft| {
        draft.signer = Some(other);
        draft.signer_key = other.public_key();
    });
    breaks(&sample, defaults(), 10, BAD, "/0/h/12");
}

#[test]
fn rule_11_a_proposer_whom_the_state_before_does_not_expect() {
    let other = crate::evnode::sample::Proposer::new(b"other");
    let sample = changed(Stage::Made, |draft| {
        draft.proposer = other.address().to_vec();
        draft.signer = Some(other);
        draft.signer_key = other.public_key();
        draft.signer_address = other.address().to_vec();
    });
    let finding = breaks(&sample, defaults(), 11, BAD, "/0/h/12");
    assert!(finding.expected.ends_with(&data_encoding::HEXLOWER.encode(&sample.proposer().address())));
}

#[test]
fn rule_12_a_state_of_another_block() {
    let wrong: [fn(&mut Draft); 3] = [
        |draft| draft.state_height += 1,
        |draft| draft.state_time += 1,
        |draft| draft.state_chain_id = Some("other".to_owned()),
    ];
    for change in wrong {
        breaks(&changed(Stage::State, change), defaults(), 12, BAD, "/0/s/12");
    }
    let mut sample = Sample::with_blocks(30);
    sample.put(b"/0/s/12".to_vec(), vec![0x0a, 200]);
    breaks(&sample, defaults(), 12, BAD, "/0/s/12");
}

#[test]
fn rule_12_the_state_of_the_tip_is_missing() {
    let mut sample = Sample::with_blocks(30);
    sample.remove(b"/0/s/30").unwrap();
    breaks(&sample, defaults(), 12, 30, "/0/s/30");
}

#[test]
fn rule_13_a_state_after_another_header() {
    let sample = changed(Stage::State, |draft| draft.state_header_hash = vec![7; 32]);
    breaks(&sample, defaults(), 13, BAD, "/0/s/12");
}

#[test]
fn rule_14_a_header_on_another_state() {
    let sample = changed(Stage::Made, |draft| draft.app_hash = vec![7; 32]);
    let finding = breaks(&sample, defaults(), 14, BAD, "/0/h/12");
    assert_eq!(finding.found, "07".repeat(32));
}

#[test]
fn rule_15_a_block_that_the_index_does_not_have() {
    let mut sample = Sample::with_blocks(30);
    sample.unindex(BAD);
    breaks(&sample, defaults(), 15, BAD, "/0/i/…");
    let mut sample = Sample::with_blocks(30);
    (20..=25).for_each(|height| sample.unindex(height));
    let finding = breaks(&sample, defaults(), 15, 20, "/0/i/…");
    assert_eq!(finding.until, Some(25));
    // An entry that names another height does not count.
    let mut sample = Sample::with_blocks(30);
    let name = hash::index(sample.value(b"/0/h/12").unwrap());
    sample.put(Key::Index(name).to_bytes(), 13u64.to_le_bytes().to_vec());
    breaks(&sample, defaults(), 15, BAD, "/0/i/…");
}

#[test]
fn rule_16_a_block_above_the_tip() {
    let mut sample = Sample::with_blocks(30);
    sample.put(TIP.to_vec(), 29u64.to_le_bytes().to_vec());
    sample.unindex(30);
    let finding = breaks(&sample, defaults(), 16, 30, "/0/h/30");
    assert_eq!(finding.message(), "expected nothing above the tip, 29, found header, data, signature, state");
    let mut sample = Sample::with_blocks(30);
    sample.put(b"/0/s/31".to_vec(), sample.value(b"/0/s/30").unwrap().to_vec());
    breaks(&sample, defaults(), 16, 31, "/0/s/31");
}

#[test]
fn rule_17_half_a_pending_block() {
    let mut sample = Sample::with_blocks(30);
    let header = sample.value(b"/0/h/30").unwrap().to_vec();
    sample.put(b"/0/m/pending_header".to_vec(), header);
    breaks(&sample, defaults(), 17, None, "/0/m/pending_data");
    let data = sample.value(b"/0/d/30").unwrap().to_vec();
    sample.put(b"/0/m/pending_data".to_vec(), data);
    clean(&sample, defaults());
    sample.remove(b"/0/m/pending_header");
    breaks(&sample, defaults(), 17, None, "/0/m/pending_header");
}

#[test]
fn rule_18_marks_above_the_tip() {
    for (mark, key) in [
        (Mark::DaIncluded, "/0/m/d"),
        (Mark::SubmittedHeader, "/0/m/last-submitted-header-height"),
        (Mark::SubmittedData, "/0/m/last-submitted-data-height"),
    ] {
        let mut sample = Sample::with_blocks(30);
        sample.include(30);
        sample.mark(mark, 31);
        breaks(&sample, defaults(), 18, 31, key);
    }
}

#[test]
fn rule_18_an_included_block_that_does_not_say_where() {
    let mut sample = Sample::with_blocks(30);
    sample.include(25);
    sample.remove(&Key::DaHeight(BAD, Part::Data).to_bytes()).unwrap();
    warns(&sample, defaults(), 18, BAD, "/0/m/rhb/12/d");
}

#[test]
fn rule_19_values_and_names_of_another_length() {
    for (key, value) in [
        ("/0/m/gdh", vec![1]),
        ("/0/m/d", vec![0; 9]),
        ("/0/m/cache/data-da-included/__snap", vec![0; 17]),
        ("/0/m/cache/header-da-included/AB", vec![0; 8]),
        ("/batches/800000000000000", Vec::new()),
        ("/batches/8000000000000000", vec![0x0a, 9]),
        ("/evm/last-pruned-execmeta-height", vec![1]),
        ("/single/checkpoint", vec![8]),
    ] {
        let mut sample = Sample::with_blocks(30);
        sample.put(key.into(), value);
        warns(&sample, defaults(), 19, None, key);
    }
    let mut sample = Sample::with_blocks(30);
    sample.put(b"/0/m/rhb/12/h".to_vec(), vec![1, 2]);
    warns(&sample, defaults(), 19, BAD, "/0/m/rhb/12/h");
    let mut sample = Sample::with_blocks(30);
    let key = Key::Index([9; 32]).to_bytes();
    sample.put(key.clone(), vec![1]);
    warns(&sample, defaults(), 19, None, std::str::from_utf8(&key).unwrap());
}

#[test]
fn rule_20_an_execution_layer_that_says_something_else() {
    let sample = Sample::with_blocks(30);
    let root = crate::base::checksum::sha256(&BAD.to_le_bytes());
    let layer = |timestamp, state_root| Options {
        execution_layer: Some(ExecutionLayer {
            height: BAD,
            timestamp: Some(timestamp),
            state_root: Some(state_root),
        }),
        ..defaults()
    };
    clean(&sample, layer(1_700_000_011, root));
    breaks(&sample, layer(1_700_000_012, root), 20, BAD, "/0/h/12");
    breaks(&sample, layer(1_700_000_011, [7; 32]), 20, BAD, "/0/s/12");
    let beyond = ExecutionLayer { height: 31, timestamp: None, state_root: None };
    breaks(&sample, Options { execution_layer: Some(beyond), ..defaults() }, 20, 31, "");
}
