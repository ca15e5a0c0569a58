//! What ev-node v1.2.3's own code has written, byte for byte.

use super::hash::{self, EMPTY_COMMITMENT};
use super::key::Key;
use super::record::{Data, Header, Legacy, Metadata, SignedHeader, Signer, State, Timestamp, Version};
use super::signature::{self, PublicKey};
use crate::base::checksum::sha256;
use data_encoding::HEXLOWER;
use ed25519_zebra::{SigningKey, VerificationKeyBytes};

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER.decode(text.replace(char::is_whitespace, "").as_bytes()).unwrap()
}

const PUBLIC: &str = "749701d6279fa10aac34703046873a4d3ff76280a9e8a88f421688c79ba0c1d4";
const ADDRESS: &str = "22c6b405b7653b0e8cfb7b1f09c893bcb3e8aa71d99890bafa16576fee47b659";
const GENESIS_TIME: u64 = 1_700_000_000_123_456_789;

struct Vector {
    payload: &'static str,
    header_hash: &'static str,
    signature: &'static str,
    index: &'static str,
    data: &'static str,
    data_hash: &'static str,
    commitment: &'static str,
}

const BLOCKS: [Vector; 3] = [
    Vector {
        payload: "0a00100118959a97ece39fe7cb1732206e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d
                  420c67656e657369732d726f6f74522022c6b405b7653b0e8cfb7b1f09c893bcb3e8aa71d99890bafa16576fee47b659
                  62057665632d31",
        header_hash: "ba686e569c119e6384cb2c157462ac11252cc10cdec9957429a0ffa6fd630c1a",
        signature: "1b25b78b5689930f3df75ea653fb4f7b9e829d006abf6e79d9ae4800f4a18e64
                    3117bb98d2f725bd044f4d820407f8c1b92c2a7f688541c413c9ee9c5dd36903",
        index: "EC8516F28EE421121B23EF05E7940A60758C6094018A59E94117672076AE768B",
        data: "0a130a057665632d31100118959a97ece39fe7cb17",
        data_hash: "e8baee46b7d3113108e0846500cd9654594b7b294e9a7e18ef420ac0daa8bdf8",
        commitment: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    },
    Vector {
        payload: "0a0010021895ae82c9e79fe7cb172220ba686e569c119e6384cb2c157462ac11252cc10cdec9957429a0ffa6fd630c1a
                  32203034bf3697ae97343c632fc780f1a71ad5034c06543ca6da1b012a85b729c56b4206726f6f742d31
                  522022c6b405b7653b0e8cfb7b1f09c893bcb3e8aa71d99890bafa16576fee47b65962057665632d31",
        header_hash: "78e18473dcfaff0da9ae9fa5a404942ae43a2b7358c9fd3096fb73177dd41ada",
        signature: "120190136500aff74653c7f36676ea1a853c9a732adb960060ef0fe4b50736e7
                    5c807bc10839bec9ab4fce18123d38311ae72a7c3e3dd91705cad7b23877420b",
        index: "B5438FAB41737528729798A525C3181969C733E72736A65F0FB8493122D55F78",
        data: "0a350a057665632d3110021895ae82c9e79fe7cb172220e8baee46b7d3113108e0846500cd9654594b7b294e9a7e18ef
               420ac0daa8bdf812056b313d763112056b323d7632",
        data_hash: "2fdcae6ec97941179492085b37b8816c76b50f971742f050aa7eb1a4d79ccc75",
        commitment: "3034bf3697ae97343c632fc780f1a71ad5034c06543ca6da1b012a85b729c56b",
    },
    Vector {
        payload: "0a0010031895c2eda5eb9fe7cb17222078e18473dcfaff0da9ae9fa5a404942ae43a2b7358c9fd3096fb73177dd41ada
                  32206e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d4206726f6f742d32
                  522022c6b405b7653b0e8cfb7b1f09c893bcb3e8aa71d99890bafa16576fee47b65962057665632d31",
        header_hash: "36f0f8dc10ad90eb9a3acdd954cb70e785a38ffd07da199dc48e70fb090a1bd2",
        signature: "4bc3639738679963b8b84081c6670ac560d16fe7578e0c43cdc057b25a3a66b5
                    cc649c60526c4712bb957b0acb6a11fc39925c605f386c3a4508846693db1608",
        index: "AD95EA6FE2E9B127770C6D5E1AC362F3F5405863F6F18DF9B1403C39A6156E4A",
        data: "0a350a057665632d3110031895c2eda5eb9fe7cb1722202fdcae6ec97941179492085b37b8816c76b50f971742f050aa7e
               b1a4d79ccc75",
        data_hash: "5f128ecc34fb14fd1b6a9dade140b9c23866d0a44d0475033abc313ec05d211e",
        commitment: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    },
];

const STATE: &str = "0a0012057665632d31180120022a0b0881e2cfaa0610959aef3a30664206726f6f742d324a2078e18473dcfaff0da9ae9f
    a5a404942ae43a2b7358c9fd3096fb73177dd41ada522022c6b405b7653b0e8cfb7b1f09c893bcb3e8aa71d99890bafa16576fee47b659";

fn marshalled_key() -> Vec<u8> {
    hex(&format!("08011220{PUBLIC}"))
}

/// The blob that was stored for a block of the vectors.
fn blob(vector: &Vector) -> Vec<u8> {
    let payload = hex(vector.payload);
    let length = u8::try_from(payload.len()).unwrap();
    let length = if length < 0x80 { vec![length] } else { vec![length, 1] };
    let tail = hex(&format!("1a480a20{ADDRESS}122408011220{PUBLIC}"));
    [&[0x0a], &length[..], &payload, &[0x12, 0x40], &hex(vector.signature), &tail].concat()
}

#[test]
fn the_key_of_the_seed_and_its_address() {
    let seed = sha256(b"evbackup test vector seed");
    assert_eq!(HEXLOWER.encode(&seed), "56d79988fed47d9a68c5cd58b5c405cb3c9d2234f39d042c532887b03b9c6181");
    let public: [u8; 32] = VerificationKeyBytes::from(&SigningKey::from(seed)).into();
    assert_eq!(HEXLOWER.encode(&public), PUBLIC);
    assert_eq!(HEXLOWER.encode(&hash::address(&public)), ADDRESS);
    assert_eq!(PublicKey::parse(&marshalled_key()).unwrap(), PublicKey::Ed25519(public));
}

#[test]
fn blocks_are_decoded_hashed_verified_and_encoded_again() {
    let key = SigningKey::from(sha256(b"evbackup test vector seed"));
    let mut last = (Vec::new(), Vec::new());
    for (height, vector) in (1..).zip(&BLOCKS) {
        let blob = blob(vector);
        let signed = SignedHeader::decode(&blob).unwrap();
        let mut again = Vec::new();
        signed.encode(&mut again);
        assert_eq!(again, blob);
        again.clear();
        signed.header.encode(&mut again);
        assert_eq!(again, hex(vector.payload));
        assert_eq!(key.sign(&again).to_bytes()[..], hex(vector.signature));
        let header = signed.header;
        assert_eq!((header.height, header.chain_id, header.last_header_hash), (height, "vec-1", &last.0[..]));
        assert_eq!(header.time, GENESIS_TIME + (height - 1) * 1_000_000_000);
        assert_eq!(header.proposer_address, hex(ADDRESS));
        let app_hash = if height == 1 { "genesis-root".to_owned() } else { format!("root-{}", height - 1) };
        assert_eq!(header.app_hash, app_hash.as_bytes());
        assert_eq!(HEXLOWER.encode(&hash::header(&header)), vector.header_hash);
        assert_eq!(Key::Index(hash::index(&blob)).to_string(), format!("/0/i/{}", vector.index));
        assert_eq!(
            (signed.signer.address, signed.signer.public_key),
            (&hex(ADDRESS)[..], &marshalled_key()[..])
        );
        let public = hex(PUBLIC).try_into().unwrap();
        assert!(signature::verify(&header, &public, signed.signature));
        let forged = Header { time: header.time + 1, ..header };
        assert!(!signature::verify(&forged, &public, signed.signature));

        let stored = hex(vector.data);
        let data = Data::decode(&stored).unwrap();
        again.clear();
        data.encode(&mut again);
        assert_eq!(again, stored);
        let metadata = Metadata { chain_id: "vec-1", height, time: header.time, last_data_hash: &last.1 };
        assert_eq!(data.metadata, Some(metadata));
        let transactions: Vec<_> = data.transactions().collect();
        assert_eq!(transactions, if height == 2 { vec![&b"k1=v1"[..], b"k2=v2"] } else { vec![] });
        assert_eq!(HEXLOWER.encode(&hash::commitment(&data)), vector.commitment);
        assert_eq!(header.data_hash, hex(vector.commitment));
        assert_eq!(HEXLOWER.encode(&hash::data(&data)), vector.data_hash);
        last = (hash::header(&header).to_vec(), hash::data(&data).to_vec());
    }
    assert_eq!(HEXLOWER.encode(&EMPTY_COMMITMENT), BLOCKS[0].commitment);
}

#[test]
fn a_state_is_decoded_and_encoded_again() {
    let stored = hex(STATE);
    let state = State::decode(&stored).unwrap();
    let time = Timestamp { seconds: 1_700_000_001, nanos: 123_456_789 };
    assert_eq!(time.to_nanos(), Some(GENESIS_TIME + 1_000_000_000));
    assert_eq!(Timestamp::from_nanos(GENESIS_TIME + 1_000_000_000), time);
    let expected = State {
        chain_id: "vec-1",
        initial_height: 1,
        last_block_height: 2,
        last_block_time: Some(time),
        da_height: 102,
        app_hash: b"root-2",
        last_header_hash: &hex(BLOCKS[1].header_hash),
        next_proposer_address: &hex(ADDRESS),
        ..State::default()
    };
    assert_eq!(state, expected);
    let mut again = Vec::new();
    state.encode(&mut again);
    assert_eq!(again, stored);
}

#[test]
fn an_unsigned_header_keeps_its_empty_signer() {
    let stored = hex("0a0c0a00100118055201016201781a00");
    let signed = SignedHeader::decode(&stored).unwrap();
    let header = Header { height: 1, time: 5, chain_id: "x", proposer_address: &[1], ..Header::default() };
    assert_eq!(signed, SignedHeader { header, signature: b"", signer: Signer::default() });
    let mut again = Vec::new();
    signed.encode(&mut again);
    assert_eq!(again, stored);
}

#[test]
fn a_legacy_header_keeps_its_hash_in_both_forms() {
    let (zeros, address) = ([0; 32], hex(ADDRESS));
    let header = Header {
        version: Version { block: 1, app: 2 },
        height: 42,
        time: 123_456_789,
        last_header_hash: &zeros,
        data_hash: &zeros,
        app_hash: &[9],
        proposer_address: &address,
        chain_id: "vec-legacy",
        legacy: Legacy { consensus_hash: &zeros, ..Legacy::default() },
        ..Header::default()
    };
    let mut today = Vec::new();
    header.encode(&mut today);
    let zeros = "00".repeat(32);
    assert!(today.ends_with(&hex(&format!("620a7665632d6c65676163793a20{zeros}"))));
    let known = "bc697282dfe94b8e90647015feb0585bb39f1b8190f377ae64d70e5e0e930dd9";
    assert_eq!(HEXLOWER.encode(&sha256(&today)), known);
    let mut legacy = Vec::new();
    header.encode_legacy(&mut legacy);
    let numeric = format!(
        "0a0408011002102a18959aef3a2220{zeros}3220{zeros}3a20{zeros}4201095220{ADDRESS}620a7665632d6c6567616379"
    );
    assert_eq!(HEXLOWER.encode(&legacy), numeric);
    let known = "b654c04d0b172e2ca5f79155cbcac82565051671600667ffff5264f061bd13cc";
    assert_eq!(HEXLOWER.encode(&sha256(&legacy)), known);
    for form in [&today, &legacy] {
        let read = Header::decode(form).unwrap();
        assert_eq!(read, header);
        assert_eq!(HEXLOWER.encode(&hash::header(&read)), known);
    }
}
