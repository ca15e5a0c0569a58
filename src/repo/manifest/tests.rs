use super::*;

/// A manifest of a segment of these bytes, without keys.
pub(crate) fn sample(segment: &[u8]) -> Manifest {
    let bytes = segment.len() as u64;
    let crc32c = format!("{:08x}", crate::base::checksum::crc32c(0, segment));
    Manifest {
        format: FORMAT,
        segment: "full.badger".into(),
        kind: Kind::Full,
        via: "rpc".into(),
        encoding: vec![],
        bytes,
        sha256: sha256_hex(segment),
        entries: 3,
        frames: 1,
        since_version: 0,
        last_version: 9,
        complete_version: 8,
        next_since: 7,
        pinned: false,
        store_id: None,
        parent: None,
        deletes: Deletes::Derived,
        exact: false,
        listed: 0,
        lacks: vec![],
        chain_id: Some("test-1".into()),
        blocks: None,
        announced_height: 2,
        tip_height: 3,
        complete_height: 2,
        complete_hash: Some("ab".repeat(32)),
        block_version: Some(8),
        highest_height: 3,
        included_height: 0,
        pruned: Pruned::default(),
        reuses_versions: false,
        source: "http://node:7331".into(),
        layout: "F".into(),
        started_at: "2026-11-22T10:00:00Z".into(),
        elapsed_s: 1.5,
        tool: "evbackup 0.1.0".into(),
        run_id: "r".into(),
        notes: vec!["note".into()],
        keys: None,
        runs: Some(vec![Run { id: 1, first: "2f30".into(), last: "2f3074".into(), entries: 3 }]),
        index: if bytes == 0 { vec![] } else { vec![IndexBlock { offset: 0, bytes, crc32c, entries: 3 }] },
        pieces: Some(vec![Piece { run: 1, offset: 0, bytes }]),
    }
}

#[test]
fn comes_back_and_is_written_the_same_again() {
    let mut manifest = sample(b"segment");
    let bytes = manifest.encode().unwrap();
    assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
    assert_eq!(Manifest::decode(&bytes).unwrap().encode().unwrap(), bytes);
    let text = String::from_utf8(bytes).unwrap();
    assert!(
        text.starts_with("{\n  \"format\": 1,\n  \"segment\": \"full.badger\",\n  \"kind\": \"full\""),
        "{text}"
    );
    manifest.parent = Some(Parent { sha256: "cd".repeat(32), complete_version: 7, run_id: None });
    (manifest.kind, manifest.since_version) = (Kind::Inc, 6);
    (manifest.runs, manifest.pieces, manifest.store_id) = (None, None, Some("00ff".into()));
    manifest.keys = Some(Keys { bytes: 1, sha256: "ef".repeat(32), entries: 1, all: true });
    assert_eq!(Manifest::decode(&manifest.encode().unwrap()).unwrap(), manifest);
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let bytes = sample(b"segment").encode().unwrap();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert_eq!(Manifest::decode(&damaged).unwrap_err().code(), "damaged", "bit {bit} of byte {at}");
        }
        assert_eq!(Manifest::decode(&bytes[..at]).unwrap_err().code(), "damaged");
    }
    let mut longer = bytes.clone();
    longer.push(b'\n');
    assert_eq!(Manifest::decode(&longer).unwrap_err().code(), "damaged");
}

/// The file with other fields, sealed as it should be.
fn sealed(change: impl FnOnce(String) -> String) -> Vec<u8> {
    let text = String::from_utf8(sample(b"segment").encode().unwrap()).unwrap();
    let at = text.find("  \"manifest_sha256\"").unwrap();
    let mut bytes = change(text[..at].to_owned()).into_bytes();
    let sha256 = sha256_hex(&bytes);
    bytes.extend_from_slice(format!("  \"manifest_sha256\": \"{sha256}\"\n}}\n").as_bytes());
    bytes
}

#[test]
fn unknown_fields_are_ignored_and_later_formats_refused() {
    let more = sealed(|text| text.replace("\"via\":", "\"new\": [{}],\n  \"via\":"));
    assert_eq!(Manifest::decode(&more).unwrap(), sample(b"segment"));
    let later = sealed(|text| text.replace("\"format\": 1", "\"format\": 2"));
    let error = Manifest::decode(&later).unwrap_err();
    assert_eq!(error.what(), "expected a manifest of format 1 or lower, found 2");
    assert_eq!(Manifest::decode(b"{\"format\": 3, \"seal\": 0}").unwrap_err().code(), "unsupported");
    let less = sealed(|text| text.replace("  \"via\": \"rpc\",\n", ""));
    let error = Manifest::decode(&less).unwrap_err();
    assert!(
        error.what().starts_with("expected the fields of a manifest, found missing field `via`"),
        "{error}"
    );
    let twice = sealed(|text| text.replace("\"via\":", "\"via\": \"a\",\n  \"via\":"));
    assert_eq!(Manifest::decode(&twice).unwrap_err().code(), "damaged");
    let negative = sealed(|text| text.replace("\"frames\": 1", "\"frames\": -1"));
    assert_eq!(Manifest::decode(&negative).unwrap_err().code(), "damaged");
    let deep =
        sealed(|text| text.replace("\"via\":", &format!("\"x\": {},\n  \"via\":", "[".repeat(10_000))));
    assert_eq!(Manifest::decode(&deep).unwrap_err().code(), "damaged");
}

#[test]
fn lists_that_are_too_long_are_left_out() {
    let mut manifest = sample(b"segment");
    manifest.pieces = Some(vec![Piece { run: 1, offset: 0, bytes: 0 }; MAX_LISTED + 1]);
    let read = Manifest::decode(&manifest.encode().unwrap()).unwrap();
    assert_eq!((read.pieces, read.runs.is_some()), (None, true));
    manifest.pieces = Some(vec![]);
    manifest.runs =
        Some(vec![Run { id: 1, first: "00".repeat(MAX_LISTED_DIGITS), last: "ff".into(), entries: 3 }]);
    let read = Manifest::decode(&manifest.encode().unwrap()).unwrap();
    assert_eq!((read.pieces, read.runs), (None, None));
    assert_eq!(Manifest::decode(&vec![b' '; MAX_BYTES + 1]).unwrap_err().code(), "damaged");
}

#[test]
fn a_chain_is_as_sure_of_its_deletes_as_its_weakest_segment() {
    use Deletes::{Derived, Exact, Unknown};
    assert_eq!(Deletes::weakest([Exact, Derived]), Derived);
    assert_eq!(Deletes::weakest([Derived, Unknown, Exact]), Unknown);
    assert_eq!(Deletes::weakest([]), Exact);
    for one in [Unknown, Derived, Exact] {
        assert_eq!(Deletes::from_name(one.name()), Some(one));
        assert_eq!(serde_json::to_string(&one).unwrap(), format!("\"{}\"", one.name()));
    }
    assert_eq!(serde_json::to_string(&Kind::Inc).unwrap(), format!("\"{}\"", Kind::Inc.name()));
}

#[test]
fn sources_lose_their_credentials_only() {
    for (given, kept) in [
        ("http://node:7331", "http://node:7331"),
        ("http://u:p@n@ode:1/a@b#f", "http://ode:1/a@b"),
        ("/data/evm", "/data/evm"),
        ("unix://", "unix://"),
    ] {
        assert_eq!(without_credentials(given), kept);
        assert!(!has_credentials(kept));
    }
}
