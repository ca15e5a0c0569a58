//! The hashes that link blocks. All are SHA-256, over encodings of [`record`](super::record).
//!
//! | hash            | over                                                                                                    |
//! |-----------------|---------------------------------------------------------------------------------------------------------|
//! | header hash     | the header as today's node writes it; with any legacy field, its legacy encoding (`Header.computeHash`) |
//! | data commitment | `00` ‖ Data with the transactions only (`Data.DACommitment`): the header's data hash                    |
//! | data hash       | `00` ‖ Data (`Data.Hash`): the next block's last data hash                                              |
//! | index hash      | the stored header blob, from v1.0.0-beta.9 on; before that the header hash                              |
//! | address         | the raw public key (`types.KeyAddress`)                                                                 |

use super::record::{Data, Header};
use crate::base::checksum::{Sha256, sha256};

/// 32 bytes of SHA-256.
pub type Hash = [u8; 32];

/// The commitment of a block without transactions: SHA-256 of one zero byte.
pub const EMPTY_COMMITMENT: Hash = [
    0x6e, 0x34, 0x0b, 0x9c, 0xff, 0xb3, 0x7a, 0x98, 0x9c, 0xa5, 0x44, 0xe6, 0xbb, 0x78, 0x0a, 0x2c, 0x78,
    0x90, 0x1d, 0x3f, 0xb3, 0x37, 0x38, 0x76, 0x85, 0x11, 0xa3, 0x06, 0x17, 0xaf, 0xa0, 0x1d,
];

/// The hash of a header, of whatever generation.
pub fn header(header: &Header<'_>) -> Hash {
    header_in(header, &mut Vec::with_capacity(320))
}

/// The same with a buffer to encode in.
pub(super) fn header_in(header: &Header<'_>, encoded: &mut Vec<u8>) -> Hash {
    encoded.clear();
    if header.legacy.is_empty() {
        header.encode(encoded);
    } else {
        header.encode_legacy(encoded);
    }
    sha256(encoded)
}

/// What the header says of the data.
pub fn commitment(data: &Data<'_>) -> Hash {
    leaf(data, false)
}

/// What the next block says of the data.
pub fn data(data: &Data<'_>) -> Hash {
    leaf(data, true)
}

/// The name of a block in the index.
pub fn index(header_blob: &[u8]) -> Hash {
    sha256(header_blob)
}

/// Whose key it is.
pub fn address(raw_key: &[u8]) -> Hash {
    sha256(raw_key)
}

/// [`commitment`] and [`data`], with one walk over the transactions and a buffer to encode in.
pub(super) fn both(data: &Data<'_>, buffer: &mut Vec<u8>) -> (Hash, Hash) {
    let mut full = Sha256::new();
    full.update(&[0]);
    let mut bare = full.clone();
    let empty = data.digest_both(&mut full, &mut bare, buffer);
    (if empty { EMPTY_COMMITMENT } else { bare.bytes() }, full.bytes())
}

fn leaf(data: &Data<'_>, with_metadata: bool) -> Hash {
    let mut sha256 = Sha256::new();
    sha256.update(&[0]);
    data.digest(&mut sha256, with_metadata);
    sha256.bytes()
}
