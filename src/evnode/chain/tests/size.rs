//! Chains that do not fit into a buffer, heights that no chain has, and any bytes at all.

use super::*;
use crate::entry::OwnedEntry;
use crate::evnode::sample::Stage;
use proptest::prelude::*;

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
