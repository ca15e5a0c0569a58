//! Torn heads are told from damage, and increments stand for their part only.

use super::*;
use crate::entry::{META_DELETE, OwnedEntry};
use crate::evnode::key::{Mark, TIP};
use crate::evnode::sample::Stage;

fn with(head: Head) -> Options {
    Options { head, ..defaults() }
}

/// 30 blocks of which some parts were read before the last ones were written.
fn torn() -> Sample {
    let mut sample = Sample::with_blocks(30);
    for key in ["/0/d/29", "/0/d/30", "/0/c/30", "/0/s/30"] {
        sample.remove(key.as_bytes()).unwrap();
    }
    sample.put(TIP.to_vec(), 28u64.to_le_bytes().to_vec());
    sample.mark(Mark::SubmittedHeader, 29);
    sample.unindex(29);
    sample
}

#[test]
fn above_the_announced_height_a_stream_may_be_torn() {
    for head in [Head::Announced(28), Head::Announced(20), Head::Unknown] {
        let report = check(&torn(), with(head));
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        assert_eq!(report.torn, Some((29, 30)));
        let announced = if head == Head::Announced(20) { 20 } else { 28 };
        assert_eq!((report.complete_height, report.complete_version), (Some(announced), Some(announced)));
    }
    let report = check(&torn(), with(Head::Exact));
    assert!(!report.ok() && report.torn.is_none());
}

#[test]
fn forged_signatures_above_the_tip_or_the_announced_height_are_told_by_that() {
    let forged = || {
        let mut sample = Sample::new(1);
        sample.extend(30, |stage, draft| {
            if stage == Stage::Signed && draft.height == 30 {
                draft.signature[3] ^= 1;
                draft.signature_beside[3] ^= 1;
            }
        });
        sample
    };
    breaks(&forged(), defaults(), 9, 30, "/0/h/30");
    let report = check(&forged(), with(Head::Announced(29)));
    assert_eq!((report.findings.len(), report.torn), (0, Some((30, 30))));
    let mut sample = forged();
    sample.put(TIP.to_vec(), 29u64.to_le_bytes().to_vec());
    sample.unindex(30);
    breaks(&sample, defaults(), 16, 30, "/0/h/30");
}

#[test]
fn the_state_that_a_chain_begins_with_is_no_tear() {
    let mut sample = Sample::new(1);
    sample.extend(30, |stage, draft| {
        if stage == Stage::Signed && draft.height == 12 {
            draft.signature[3] ^= 1;
            draft.signature_beside[3] ^= 1;
        }
    });
    for height in 1..=30 {
        sample.remove(Key::State(height).to_bytes().as_slice()).unwrap();
    }
    assert!(sample.value(b"/0/s/0").is_some());
    let report = check(&sample, with(Head::Unknown));
    let states = [(Level::Warning, 12, Some(1)), (Level::Error, 9, Some(12)), (Level::Error, 12, Some(30))];
    assert_eq!(brief(&report), states);
    assert_eq!((report.torn, report.complete_height), (None, Some(29)));
}

#[test]
fn what_the_caller_knows_is_held_against_torn_blocks_too() {
    let torn = || {
        let mut sample = torn();
        sample.put(TIP.to_vec(), 30u64.to_le_bytes().to_vec());
        sample
    };
    let trusted = Options { trusted: Some((29, [7; 32])), ..with(Head::Announced(28)) };
    let report = check(&torn(), trusted);
    assert_eq!(brief(&report), [(Level::Error, 0, Some(29))]);
    let layer = |height, timestamp, state_root| {
        let layer = ExecutionLayer { height, timestamp, state_root };
        Options { execution_layer: Some(layer), ..with(Head::Announced(28)) }
    };
    for (height, timestamp, root) in [(29, Some(1), None), (30, None, Some([7; 32]))] {
        let report = check(&torn(), layer(height, timestamp, root));
        assert_eq!(brief(&report), [(Level::Error, 20, Some(height))]);
        assert_eq!(report.torn, Some((29, 30)));
    }
    let mut sample = torn();
    sample.remove(b"/0/h/30");
    sample.put(b"/0/c/30".to_vec(), vec![7; 64]);
    let report = check(&sample, Options { trusted: Some((30, [7; 32])), ..with(Head::Announced(28)) });
    assert_eq!(brief(&report), [(Level::Error, 0, Some(30))]);
}

#[test]
fn what_is_missing_below_the_announced_height_is_damage() {
    let mut sample = torn();
    sample.remove(b"/0/d/20").unwrap();
    for head in [Head::Announced(28), Head::Unknown] {
        let report = check(&sample, with(head));
        assert_eq!(brief(&report), [(Level::Error, 1, Some(20))]);
        assert_eq!((report.torn, report.complete_height), (Some((29, 30)), Some(19)));
    }
    let report = check(&torn(), with(Head::Announced(29)));
    assert!(!report.ok());
}

#[test]
fn the_state_of_the_announced_height_must_be_there() {
    let mut sample = torn();
    sample.remove(b"/0/s/28").unwrap();
    let report = check(&sample, with(Head::Announced(28)));
    assert_eq!(brief(&report), [(Level::Error, 12, Some(28))]);
    assert_eq!(report.complete_height, Some(27));
}

#[test]
fn a_tip_below_the_announced_height_is_an_error() {
    let sample = Sample::with_blocks(30);
    breaks(&sample, with(Head::Announced(31)), 1, None, "/0/t");
    clean(&sample, with(Head::Announced(30)));
}

#[test]
fn a_family_of_which_there_is_nothing_is_no_tear() {
    let mut sample = Sample::with_blocks(30);
    for height in 1..=30 {
        sample.remove(format!("/0/d/{height}").as_bytes()).unwrap();
    }
    let finding = breaks(&sample, with(Head::Unknown), 1, 1, "/0/d/1");
    assert_eq!(finding.until, Some(30));
}

#[test]
fn an_increment_stands_for_its_part() {
    let mut sample = Sample::with_blocks(30);
    for height in 0..=20 {
        for family in ["h", "d", "c", "s"] {
            sample.remove(format!("/0/{family}/{height}").as_bytes());
        }
        sample.unindex(height);
    }
    sample.mark(Mark::DaIncluded, 25);
    let part = Options { begins: Begins::Part, ..defaults() };
    let report = clean(&sample, part.clone());
    assert_eq!((report.base, report.blocks, report.complete_height), (Some(21), 10, Some(30)));
    assert!(!check(&sample, defaults()).ok());
    sample.remove(b"/0/h/25").unwrap();
    breaks(&sample, part.clone(), 1, 25, "/0/h/25");
    // One without blocks.
    let mut empty = Sample::new(1);
    empty.remove(b"/0/s/0");
    empty.mark(Mark::SubmittedData, 3);
    clean(&empty, part);
}

#[test]
fn what_nobody_calls_an_increment_is_taken_for_one_with_a_warning() {
    let mut sample = Sample::with_blocks(30);
    let unknown = Options { begins: Begins::Unknown, ..defaults() };
    assert_eq!(clean(&sample, unknown.clone()).base, Some(1));
    for height in 0..=20 {
        for family in ["h", "d", "c", "s"] {
            sample.remove(format!("/0/{family}/{height}").as_bytes());
        }
        sample.unindex(height);
    }
    let finding = warns(&sample, unknown, 1, 1, "");
    assert_eq!((finding.until, check(&sample, defaults()).ok()), (Some(20), false));
}

#[test]
fn only_the_newest_version_of_a_key_counts_and_a_delete_is_nothing() {
    let sample = Sample::with_blocks(30);
    let mut checker = Checker::new(defaults());
    for entry in sample.entries() {
        checker.feed(&entry).unwrap();
        let older = OwnedEntry { version: 0, value: b"\xff".to_vec(), ..entry.to_owned() };
        checker.feed(&older.as_entry()).unwrap();
    }
    assert!(checker.finish().unwrap().findings.is_empty());
    let mut checker = Checker::new(defaults());
    for entry in sample.entries() {
        let gone = Entry { version: 99, meta: META_DELETE, value: b"", ..entry };
        if entry.key == b"/0/d/12" {
            checker.feed(&gone).unwrap();
        }
        checker.feed(&entry).unwrap();
    }
    assert_eq!(brief(&checker.finish().unwrap()), [(Level::Error, 1, Some(12))]);
}

#[test]
fn keys_out_of_order_are_refused() {
    let mut checker = Checker::new(defaults());
    let entry = |key| Entry { key, version: 1, value: b"", ..Entry::default() };
    checker.feed(&entry(b"/0/h/2")).unwrap();
    let error = checker.feed(&entry(b"/0/h/10")).unwrap_err();
    assert_eq!(error.to_string(), "expected entries in the order of keys, found /0/h/10 behind /0/h/2");
}
