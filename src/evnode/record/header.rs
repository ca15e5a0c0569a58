//! Headers and who signed them.
//!
//! | message      | fields                                                                                              |
//! |--------------|-----------------------------------------------------------------------------------------------------|
//! | Version      | 1 block, 2 app                                                                                      |
//! | Header       | 1 Version, 2 height, 3 time (Unix ns), 4 last header hash, 6 data hash, 8 app hash, 10 proposer     |
//! |              | address, 11 validator hash, 12 chain id; up to v1.0.0-beta.8 also 5 last commit hash, 7 consensus   |
//! |              | hash, 9 last results hash                                                                           |
//! | Signer       | 1 address, 2 public key as libp2p marshals it                                                       |
//! | SignedHeader | 1 Header, 2 signature, 3 Signer                                                                     |

use crate::base::cursor::put_uvarint;
use crate::error::{Error, Result};
use crate::evnode::wire::{Fields, Value, put_bytes, put_message, put_number, text};

/// Go refuses a header with a longer legacy field (`maxLegacyHashSize`).
const MAX_LEGACY: usize = 1024;
/// What the legacy encoding writes where there is no consensus hash (`EnsureDefaults`).
const NO_CONSENSUS_HASH: [u8; 32] = [0; 32];

/// The rules that a block follows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Version {
    /// Of blocks.
    pub block: u64,
    /// Of the app.
    pub app: u64,
}

impl Version {
    pub(super) fn decode(message: &[u8], into: &mut Self) -> Result<()> {
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Varint(block)) => into.block = block,
                (2, Value::Varint(app)) => into.app = app,
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let mut message = Vec::new();
        put_number(&mut message, 1, self.block);
        put_number(&mut message, 2, self.app);
        message
    }
}

/// What headers had up to v1.0.0-beta.8. Today's node keeps it, because hashes and signatures of that time cover it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Legacy<'a> {
    /// Field 5.
    pub last_commit_hash: &'a [u8],
    /// Field 7.
    pub consensus_hash: &'a [u8],
    /// Field 9.
    pub last_results_hash: &'a [u8],
}

impl Legacy<'_> {
    /// Nothing in any of them? Then the header counts as one of today.
    pub fn is_empty(&self) -> bool {
        self.last_commit_hash.is_empty()
            && self.consensus_hash.is_empty()
            && self.last_results_hash.is_empty()
    }
}

/// A block's header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Header<'a> {
    /// The rules it follows; 0/0 in chains that ev-node itself started.
    pub version: Version,
    /// The height.
    pub height: u64,
    /// Unix nanoseconds.
    pub time: u64,
    /// The hash of the header before; empty in the first block.
    pub last_header_hash: &'a [u8],
    /// The commitment to the block's transactions.
    pub data_hash: &'a [u8],
    /// The app's state *before* the block, of any length.
    pub app_hash: &'a [u8],
    /// Who made the block.
    pub proposer_address: &'a [u8],
    /// Opaque; empty unless an app sets it.
    pub validator_hash: &'a [u8],
    /// The chain's name.
    pub chain_id: &'a str,
    /// Fields that are no more.
    pub legacy: Legacy<'a>,
}

impl<'a> Header<'a> {
    /// Reads a header.
    pub fn decode(message: &'a [u8]) -> Result<Self> {
        let mut header = Self::default();
        header.merge(message)?;
        Ok(header)
    }

    /// A message that comes twice adds to the first, as in Go.
    fn merge(&mut self, message: &'a [u8]) -> Result<()> {
        let mut fields = Fields::new(message);
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, Value::Bytes(version)) => Version::decode(version, &mut self.version)?,
                (2, Value::Varint(height)) => self.height = height,
                (3, Value::Varint(time)) => self.time = time,
                (4, Value::Bytes(hash)) => self.last_header_hash = hash,
                (5, Value::Bytes(hash)) => self.legacy.last_commit_hash = legacy(field, hash)?,
                (6, Value::Bytes(hash)) => self.data_hash = hash,
                (7, Value::Bytes(hash)) => self.legacy.consensus_hash = legacy(field, hash)?,
                (8, Value::Bytes(hash)) => self.app_hash = hash,
                (9, Value::Bytes(hash)) => self.legacy.last_results_hash = legacy(field, hash)?,
                (10, Value::Bytes(address)) => self.proposer_address = address,
                (11, Value::Bytes(hash)) => self.validator_hash = hash,
                (12, Value::Bytes(id)) => self.chain_id = text(id, "a chain id")?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends the form that today's node writes: legacy fields, if any, behind all others.
    pub fn encode(&self, to: &mut Vec<u8>) {
        put_message(to, 1, &self.version.encode());
        put_number(to, 2, self.height);
        put_number(to, 3, self.time);
        put_bytes(to, 4, self.last_header_hash);
        put_bytes(to, 6, self.data_hash);
        put_bytes(to, 8, self.app_hash);
        put_bytes(to, 10, self.proposer_address);
        put_bytes(to, 11, self.validator_hash);
        put_bytes(to, 12, self.chain_id.as_bytes());
        put_bytes(to, 5, self.legacy.last_commit_hash);
        put_bytes(to, 7, self.legacy.consensus_hash);
        put_bytes(to, 9, self.legacy.last_results_hash);
    }

    /// Appends the form of releases up to v1.0.0-beta.8 (`marshalLegacyHeader`): legacy fields in their places, height and time even when
    /// they are zero, and a consensus hash of zeros where there is none.
    pub fn encode_legacy(&self, to: &mut Vec<u8>) {
        let consensus_hash = match self.legacy.consensus_hash {
            [] => &NO_CONSENSUS_HASH[..],
            hash => hash,
        };
        put_message(to, 1, &self.version.encode());
        to.push(2 << 3);
        put_uvarint(to, self.height);
        to.push(3 << 3);
        put_uvarint(to, self.time);
        put_bytes(to, 4, self.last_header_hash);
        put_bytes(to, 5, self.legacy.last_commit_hash);
        put_bytes(to, 6, self.data_hash);
        put_bytes(to, 7, consensus_hash);
        put_bytes(to, 8, self.app_hash);
        put_bytes(to, 9, self.legacy.last_results_hash);
        put_bytes(to, 10, self.proposer_address);
        put_bytes(to, 11, self.validator_hash);
        put_bytes(to, 12, self.chain_id.as_bytes());
    }
}

fn legacy(field: u64, hash: &[u8]) -> Result<&[u8]> {
    if hash.len() > MAX_LEGACY {
        let found =
            format!("expected at most {MAX_LEGACY} bytes of header field {field}, found {}", hash.len());
        return Err(Error::damaged(found));
    }
    Ok(hash)
}

/// Who signed a header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Signer<'a> {
    /// SHA-256 of the raw public key.
    pub address: &'a [u8],
    /// The public key as libp2p marshals it; empty when nobody signed.
    pub public_key: &'a [u8],
}

/// A header with its signature, as it is stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SignedHeader<'a> {
    /// The header.
    pub header: Header<'a>,
    /// Over one of the header's encodings, or over what the app says; empty when nobody signed.
    pub signature: &'a [u8],
    /// Who made it.
    pub signer: Signer<'a>,
}

impl<'a> SignedHeader<'a> {
    /// Reads the value of `/0/h/<n>`.
    pub fn decode(message: &'a [u8]) -> Result<Self> {
        let mut this = Self::default();
        let mut found = false;
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(header)) => {
                    this.header.merge(header)?;
                    found = true;
                }
                (2, Value::Bytes(signature)) => this.signature = signature,
                (3, Value::Bytes(signer)) => {
                    let mut fields = Fields::new(signer);
                    while let Some(field) = fields.next()? {
                        match field {
                            (1, Value::Bytes(address)) => this.signer.address = address,
                            (2, Value::Bytes(key)) => this.signer.public_key = key,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if !found {
            return Err(Error::damaged("expected a header in the signed header, found none"));
        }
        if this.signer.public_key.is_empty() {
            // As in Go: who has no key is nobody.
            this.signer = Signer::default();
        }
        Ok(this)
    }

    /// Appends the form that today's node writes.
    pub fn encode(&self, to: &mut Vec<u8>) {
        let mut part = Vec::new();
        self.header.encode(&mut part);
        put_message(to, 1, &part);
        put_bytes(to, 2, self.signature);
        part.clear();
        if !self.signer.public_key.is_empty() {
            put_bytes(&mut part, 1, self.signer.address);
            put_bytes(&mut part, 2, self.signer.public_key);
        }
        put_message(to, 3, &part);
    }
}
