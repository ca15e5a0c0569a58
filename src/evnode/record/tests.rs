//! What Go's decoder tolerates and refuses, and records that the vectors do not hold.

use super::*;
use proptest::prelude::*;

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

#[test]
fn fields_come_in_any_order_the_last_counts_and_messages_add_up() {
    let header = [field(12, b"one"), vec![0x10, 1], field(12, b"two"), field(4, b"hash")].concat();
    let more = [field(1, &[0x10, 7]), vec![0x10, 2]].concat();
    let blob = [field(3, &field(1, b"who")), field(1, &header), field(2, b"sig"), field(1, &more)].concat();
    let signed = SignedHeader::decode(&blob).unwrap();
    let expected = Header {
        version: Version { block: 0, app: 7 },
        height: 2,
        chain_id: "two",
        last_header_hash: b"hash",
        ..Header::default()
    };
    // A signer without a key is none.
    assert_eq!(signed, SignedHeader { header: expected, signature: b"sig", signer: Signer::default() });
}

#[test]
fn unknown_fields_and_unexpected_types_are_passed() {
    // Field 2 as bytes, field 12 as a varint, field 30.
    let header = [field(2, b"x"), vec![0x60, 9], vec![0x10, 5], field(6, b"data"), vec![0xf0, 1, 1]].concat();
    let expected = Header { height: 5, data_hash: b"data", ..Header::default() };
    assert_eq!(Header::decode(&header).unwrap(), expected);
}

#[test]
fn what_go_refuses_is_refused() {
    let text = |error: crate::error::Error| error.to_string();
    let refused = |header: Vec<u8>| text(Header::decode(&header).unwrap_err());
    assert_eq!(refused(field(12, &[0xff])), "expected a chain id in UTF-8, found \\xff");
    let long = [&[0x2a, 0x81, 0x08][..], &[0; 1025]].concat();
    assert_eq!(refused(long), "expected at most 1024 bytes of header field 5, found 1025");
    let none = SignedHeader::decode(&field(2, b"sig")).unwrap_err();
    assert_eq!(text(none), "expected a header in the signed header, found none");
    assert_eq!(refused(vec![0x10]), "expected a varint of a field at byte 1, found the end");
}

#[test]
fn legacy_fields_are_kept_wherever_they_stand() {
    let header = Header {
        height: 1,
        legacy: Legacy { last_commit_hash: b"5", consensus_hash: b"7", last_results_hash: b"9" },
        ..Header::default()
    };
    let mut today = Vec::new();
    header.encode(&mut today);
    assert!(today.ends_with(b"\x2a\x015\x3a\x017\x4a\x019"));
    let mut legacy = Vec::new();
    header.encode_legacy(&mut legacy);
    assert_eq!(legacy, b"\x0a\x00\x10\x01\x18\x00\x2a\x015\x3a\x017\x4a\x019");
    assert_eq!(Header::decode(&today).unwrap(), header);
    assert_eq!(Header::decode(&legacy).unwrap(), header);
}

#[test]
fn data_without_metadata_is_not_data_with_empty_metadata() {
    let empty = Data::decode(b"").unwrap();
    assert_eq!((empty.metadata, empty.transactions().count()), (None, 0));
    let stored = [field(2, b""), field(1, b""), field(2, b"tx"), field(9, b"unknown")].concat();
    let data = Data::decode(&stored).unwrap();
    assert_eq!(data.metadata, Some(Metadata::default()));
    assert_eq!(data.transactions().collect::<Vec<_>>(), [&b""[..], b"tx"]);
    let mut again = Vec::new();
    data.encode(&mut again);
    assert_eq!(again, [field(1, b""), field(2, b""), field(2, b"tx")].concat());
}

#[test]
fn times_before_1970_and_broken_ones_are_read() {
    let seconds = [&[0x08][..], &[0xff; 9], &[1]].concat();
    let stored = [field(5, &seconds), field(7, b"old")].concat();
    let state = State::decode(&stored).unwrap();
    assert_eq!(state.last_block_time, Some(Timestamp { seconds: -1, nanos: 0 }));
    assert_eq!(state.last_block_time.and_then(Timestamp::to_nanos), None);
    assert_eq!(state.last_results_hash, b"old");
    assert_eq!(State::decode(b"").unwrap(), State::default());
    assert_eq!(Timestamp::from_nanos(u64::MAX).to_nanos(), Some(u64::MAX));
}

#[test]
fn the_queue_checkpoints_and_execution_records_are_read() {
    let batch = Batch::encode([&b"a"[..], b"", b"c"]);
    assert_eq!(Batch::decode(&batch).unwrap().transactions().collect::<Vec<_>>(), [&b"a"[..], b"", b"c"]);
    let checkpoint = Checkpoint { da_height: 300, tx_index: 2 };
    assert_eq!(checkpoint.encode(), [0x08, 0xac, 2, 0x10, 2]);
    assert_eq!(Checkpoint::decode(&checkpoint.encode()).unwrap(), checkpoint);
    let meta =
        [vec![8, 47], field(5, b"root"), vec![0x38, 9], field(8, b"promoted"), vec![0x48, 10]].concat();
    let expected = ExecMeta {
        height: 47,
        state_root: b"root",
        timestamp: 9,
        stage: "promoted",
        updated_at: 10,
        ..ExecMeta::default()
    };
    assert_eq!(ExecMeta::decode(&meta).unwrap(), expected);
    let raft =
        [vec![8, 1, 0x10, 2, 0x18, 3], field(4, b"hash"), vec![0x28, 5], field(6, b"h"), field(7, b"d")];
    let raft = raft.concat();
    let state = RaftBlockState::decode(&raft).unwrap();
    assert_eq!((state.height, state.submitted_header, state.submitted_data, state.timestamp), (1, 2, 3, 5));
    assert_eq!((state.hash, state.header, state.data), (&b"hash"[..], &b"h"[..], &b"d"[..]));
}

#[test]
fn marks_and_caches_have_their_lengths() {
    let nine = 9u64.to_le_bytes();
    assert_eq!(mark_le(&nine).unwrap(), 9);
    assert_eq!(mark_be(&9u64.to_be_bytes()).unwrap(), 9);
    assert_eq!(
        mark_le(&nine[..7]).unwrap_err().to_string(),
        "expected 8 bytes of a height at byte 0, found the end after 7"
    );
    assert!(mark_be(&[0; 9]).unwrap_err().to_string().contains("1 byte more"));
    let pair = [nine, 300u64.to_le_bytes()].concat();
    let record = Included { height: 9, da_height: 300 };
    assert_eq!(snapshot(&pair).unwrap().collect::<Vec<_>>(), [record]);
    assert_eq!(snapshot(b"").unwrap().count(), 0);
    assert!(snapshot(&pair[..15]).is_err());
    assert_eq!(Included::decode(&pair).unwrap(), Included { height: 300, da_height: 9 });
    assert!(Included::decode(&nine).is_err());
    let hash = format!("\"{}\"", "AB".repeat(32));
    assert_eq!(sync_pointer(hash.as_bytes()).unwrap(), [0xab; 32]);
    assert!(sync_pointer(b"\"AB\"").is_err() && sync_pointer(&hash.as_bytes()[1..]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SignedHeader::decode(&bytes);
        let _ = Header::decode(&bytes);
        let _ = Data::decode(&bytes).map(|data| data.transactions().count());
        let _ = State::decode(&bytes);
        let _ = Batch::decode(&bytes).map(|batch| batch.transactions().count());
        let _ = (Checkpoint::decode(&bytes), ExecMeta::decode(&bytes), RaftBlockState::decode(&bytes));
        let _ = (mark_le(&bytes), mark_be(&bytes), Included::decode(&bytes), sync_pointer(&bytes));
    }

    #[test]
    fn a_header_comes_back_from_both_forms(
        numbers: [u64; 4],
        hashes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 8),
        chain_id: String,
    ) {
        let header = Header {
            version: Version { block: numbers[0], app: numbers[1] },
            height: numbers[2],
            time: numbers[3],
            last_header_hash: &hashes[0],
            data_hash: &hashes[1],
            app_hash: &hashes[2],
            proposer_address: &hashes[3],
            validator_hash: &hashes[4],
            chain_id: &chain_id,
            legacy: Legacy {
                last_commit_hash: &hashes[5],
                consensus_hash: &hashes[6],
                last_results_hash: &hashes[7],
            },
        };
        let (mut today, mut legacy) = (Vec::new(), Vec::new());
        header.encode(&mut today);
        header.encode_legacy(&mut legacy);
        prop_assert_eq!(Header::decode(&today).unwrap(), header);
        let read = Header::decode(&legacy).unwrap();
        if !hashes[6].is_empty() {
            prop_assert_eq!(read, header);
        }
        let hash = crate::evnode::hash::header(&header);
        let expected = if header.legacy.is_empty() { &today } else { &legacy };
        prop_assert_eq!(hash, crate::base::checksum::sha256(expected));
    }
}
