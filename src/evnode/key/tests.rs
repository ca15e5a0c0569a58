//! Every key told and printed again, and what ev-node would not write.

use super::text::{EXEC_META, EXEC_META_BARE};
use super::*;
use proptest::prelude::*;

#[test]
fn a_height_has_eight_bytes() {
    assert_eq!(height(&[1, 0, 0, 0, 0, 0, 0, 0]), Some(1));
    assert_eq!(height(&[1]), None);
}

#[test]
fn every_key_of_the_table_is_told_and_printed_again() {
    let upper = "AD95EA6FE2E9B127770C6D5E1AC362F3F5405863F6F18DF9B1403C39A6156E4A";
    let lower = upper.to_lowercase();
    let mut hash = [0; 32];
    data_encoding::HEXUPPER.decode_mut(upper.as_bytes(), &mut hash).unwrap();
    let table = [
        ("/0/t", Key::Tip, "tip"),
        ("/0/h/0", Key::Header(0), "headers"),
        ("/0/h/18446744073709551615", Key::Header(u64::MAX), "headers"),
        ("/0/d/10", Key::Data(10), "data"),
        ("/0/c/9", Key::Signature(9), "signatures"),
        ("/0/s/100", Key::State(100), "states"),
        ("/0/s", Key::NewestState, "states"),
        (&format!("/0/i/{upper}"), Key::Index(hash), "index"),
        ("/0/m/d", Key::Mark(Mark::DaIncluded), "metadata"),
        ("/0/m/gdh", Key::Mark(Mark::GenesisDa), "metadata"),
        ("/0/m/last-submitted-header-height", Key::Mark(Mark::SubmittedHeader), "metadata"),
        ("/0/m/last-submitted-data-height", Key::Mark(Mark::SubmittedData), "metadata"),
        ("/0/m/lst-prnd-b", Key::Mark(Mark::PrunedBlocks), "metadata"),
        ("/0/m/lst-prnd-s", Key::Mark(Mark::PrunedStates), "metadata"),
        ("/0/m/l", Key::LastBatch, "metadata"),
        ("/0/m/rhb/12/h", Key::DaHeight(12, Part::Header), "da-heights"),
        ("/0/m/rhb/12/d", Key::DaHeight(12, Part::Data), "da-heights"),
        ("/0/m/pending_header", Key::Pending(Part::Header), "metadata"),
        ("/0/m/pending_data", Key::Pending(Part::Data), "metadata"),
        ("/0/m/cache/header-da-included/__snap", Key::CacheSnapshot(Part::Header), "cache"),
        ("/0/m/cache/data-da-included/__snap", Key::CacheSnapshot(Part::Data), "cache"),
        ("/0/m/cache/data-da-included/AB", Key::CacheEntry(Part::Data, b"AB"), "cache"),
        ("/0/m/mine", Key::OtherMetadata(b"mine"), "metadata"),
        ("/0/headerSync/7", Key::Sync(Part::Header, SyncKey::Height(7)), "go-header"),
        (&format!("/0/dataSync/{upper}"), Key::Sync(Part::Data, SyncKey::Hash(hash)), "go-header"),
        ("/0/headerSync/head", Key::Sync(Part::Header, SyncKey::Head), "go-header"),
        ("/0/dataSync/tail", Key::Sync(Part::Data, SyncKey::Tail), "go-header"),
        ("/batches/8000000000000000", Key::Queued(1 << 63), "queue"),
        (&format!("/batches/{lower}"), Key::QueuedByHash(hash), "queue"),
        ("/batches/x", Key::OtherQueued(b"x"), "queue"),
        ("/single/checkpoint", Key::SingleCheckpoint, "checkpoints"),
        ("/based/checkpoint", Key::BasedCheckpoint, "checkpoints"),
        ("/evm/last-pruned-execmeta-height", Key::PrunedExecMeta, "execmeta"),
        ("/libp2p/net/conngater/peer/x", Key::ConnectionGater(b"peer/x"), "network"),
        ("/0/ec/1", Key::PreRelease(b"/0/ec/1"), "pre-release"),
        ("/1/x", Key::PreRelease(b"/1/x"), "pre-release"),
    ];
    for (text, key, family) in table {
        assert_eq!(Key::parse(text.as_bytes()), key);
        assert_eq!((key.to_string().as_str(), key.family().name()), (text, family));
    }
}

#[test]
fn what_ev_node_would_not_write_is_unknown_or_other() {
    for key in
        ["/0/h/", "/0/h/01", "/0/h/1x", "/0/h/18446744073709551616", "/0/h/+1", "/0/h", "/0/x", "", "/"]
    {
        assert_eq!(Key::parse(key.as_bytes()), Key::Unknown(key.as_bytes()), "{key}");
    }
    let lower = format!("/0/i/{}", "ab".repeat(32));
    assert_eq!(Key::parse(lower.as_bytes()).family(), Family::Unknown);
    for name in ["rhb/1", "rhb/1/x", "rhb/01/h", "rhb//h", "pending_header/x"] {
        assert_eq!(Key::parse(format!("/0/m/{name}").as_bytes()), Key::OtherMetadata(name.as_bytes()));
    }
}

#[test]
fn execution_records_have_the_keys_that_path_clean_leaves() {
    let raw = |height: u64| Key::exec_meta(height).split_off(EXEC_META.len());
    assert_eq!(raw(1), 1u64.to_be_bytes());
    assert_eq!(raw(47), [0; 7]);
    assert_eq!(raw(303), [0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(raw(12079), [0; 6]);
    assert_eq!(Key::exec_meta(0x2f2f_2f2f_2f2f_2f2f), EXEC_META_BARE);
    assert_eq!(raw(0x2f00), [0, 0, 0, 0, 0, 0, b'/', 0]);
    assert_eq!(raw(0x2f2f_0000_0000_0001), [0, 0, 0, 0, 0, 1]);
    assert_eq!(raw(0x0000_2f2f_0000_0001), [0, 0, b'/', 0, 0, 0, 1]);
    // "." and ".." are elements, too: 12078 ends in "/.", 3092014 in "/..".
    assert_eq!(raw(0x2f2e), [0; 6]);
    assert_eq!(Key::exec_meta(0x2f_2e2e), EXEC_META_BARE);
    for height in [1, 47, 303, 12079, u64::MAX, 0x2f2f_2f2f_2f2f_2f2f] {
        let key = Key::exec_meta(height);
        assert!(matches!(Key::parse(&key), Key::ExecMeta(_)));
        assert_eq!(Key::parse(&key).to_bytes(), key);
    }
    assert_eq!(
        Key::parse(&Key::exec_meta(1)).to_string(),
        "/evm/execmeta/\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_printed_as_they_were_read(
        prefix in prop::sample::select(vec![
            "", "/0/", "/0/h/", "/0/s", "/0/i/", "/0/m/", "/0/m/rhb/", "/0/m/cache/data-da-included/", "/0/headerSync/",
            "/batches/", "/evm/execmeta", "/evm/execmeta/", "/libp2p/net/conngater/", "/1/",
        ]),
        rest in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'0'), Just(b'A'), any::<u8>()], 0..20),
    ) {
        let key = [prefix.as_bytes(), &rest].concat();
        prop_assert_eq!(Key::parse(&key).to_bytes(), key);
    }

    #[test]
    fn heights_come_back(height: u64) {
        for key in [Key::Header(height), Key::State(height), Key::DaHeight(height, Part::Data), Key::Queued(height)] {
            let bytes = key.to_bytes();
            prop_assert_eq!(Key::parse(&bytes), key);
        }
    }
}
