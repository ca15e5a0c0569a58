//! One block by itself, and whether it follows another: what can be proven of a block that somebody sends, before all of its chain is
//! there. The [`chain`](super::chain) checker judges whole datastores; the rules are the same, by their numbers there.

use super::hash::{self, Hash};
use super::record::{Data, SignedHeader};
use super::signature::{self, PublicKey};
use crate::base::checksum::hex;
use crate::error::{Error, Result};

/// What is known of who made a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seal {
    /// The proposer's signature holds.
    Holds,
    /// Nobody signed it, as in a chain with a based sequencer.
    None,
    /// It is signed with a key, or over bytes, that evbackup does not verify: so does an app with a payload of its own, which says so by a
    /// validator hash; or nothing ties the key to the proposer but the signer's own word, with which releases before v1.2.0 are content.
    Unverifiable,
}

/// What is kept of a block that was found to be right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// The height.
    pub height: u64,
    /// The chain's name.
    pub chain_id: String,
    /// Unix nanoseconds.
    pub time: u64,
    /// The header hash.
    pub hash: Hash,
    /// The data hash.
    pub data_hash: Hash,
    /// The name that today's index has for it: SHA-256 of the header as it is stored.
    pub index: Hash,
    /// The hash of the header before; empty in the first block.
    pub last_header_hash: Vec<u8>,
    /// The hash of the data before; empty in the first block, and in old ones.
    pub last_data_hash: Vec<u8>,
    /// The app's state before the block.
    pub app_hash: Vec<u8>,
    /// Who made it.
    pub proposer: Vec<u8>,
    /// The signature, as it stands in the header.
    pub signature: Vec<u8>,
    /// Whether it is true.
    pub seal: Seal,
}

/// What is kept of a block's data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contents {
    commitment: Hash,
    hash: Hash,
    metadata: Option<Said>,
}

/// What the data says of its block.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Said {
    chain_id: String,
    height: u64,
    time: u64,
    last_data_hash: Vec<u8>,
}

impl Contents {
    /// Reads the value of `/0/d/<n>`.
    pub fn read(height: u64, data_blob: &[u8]) -> Result<Self> {
        let data = Data::decode(data_blob).map_err(|error| unreadable(height, "the data", &error))?;
        let metadata = data.metadata.map(|metadata| Said {
            chain_id: metadata.chain_id.to_owned(),
            height: metadata.height,
            time: metadata.time,
            last_data_hash: metadata.last_data_hash.to_vec(),
        });
        Ok(Self { commitment: hash::commitment(&data), hash: hash::data(&data), metadata })
    }
}

impl Block {
    /// Reads the block of a height out of the values of `/0/h/<n>` and `/0/d/<n>`, and checks it by itself: rules 2, 4, 5, 9 and 10.
    ///
    /// ```
    /// use evbackup::evnode::block::{Block, Seal};
    /// use evbackup::evnode::sample::Sample;
    ///
    /// let sample = Sample::with_blocks(2);
    /// let value = |key: &[u8]| sample.value(key).unwrap_or_default();
    /// let first = Block::read(1, value(b"/0/h/1"), value(b"/0/d/1"))?;
    /// let second = Block::read(2, value(b"/0/h/2"), value(b"/0/d/2"))?;
    /// assert_eq!(second.seal, Seal::Holds);
    /// second.follows(&first)?;
    /// assert!(Block::read(2, value(b"/0/h/2"), value(b"/0/d/1")).is_err());
    /// # Ok::<(), evbackup::error::Error>(())
    /// ```
    pub fn read(height: u64, header_blob: &[u8], data_blob: &[u8]) -> Result<Self> {
        Self::with(height, header_blob, &Contents::read(height, data_blob)?)
    }

    /// The same where the data was read before.
    pub fn with(height: u64, header_blob: &[u8], data: &Contents) -> Result<Self> {
        let signed =
            SignedHeader::decode(header_blob).map_err(|error| unreadable(height, "the header", &error))?;
        let header = &signed.header;
        if header.height != height {
            return Err(wrong(height, "a header of that height", &format!("one of {}", header.height)));
        }
        if header.data_hash != data.commitment {
            let expected = format!("data with the commitment {}", digits(header.data_hash));
            return Err(wrong(height, &expected, &digits(&data.commitment)));
        }
        let mut last_data_hash = Vec::new();
        if let Some(metadata) = &data.metadata {
            let said = (metadata.chain_id.as_str(), metadata.height, metadata.time);
            let expected = (header.chain_id, header.height, header.time);
            if said != expected {
                let text = |(chain, height, time): (&str, u64, u64)| {
                    format!("chain {}, height {height}, time {time}", chain.escape_debug())
                };
                return Err(wrong(height, &format!("data of {}", text(expected)), &text(said)));
            }
            last_data_hash.clone_from(&metadata.last_data_hash);
        } else if !header.last_header_hash.is_empty() {
            // Only the first block of old chains has none.
            return Err(wrong(height, "data with metadata", "data without"));
        }
        Ok(Self {
            height,
            chain_id: header.chain_id.to_owned(),
            time: header.time,
            hash: hash::header(header),
            data_hash: data.hash,
            index: hash::index(header_blob),
            last_header_hash: header.last_header_hash.to_vec(),
            last_data_hash,
            app_hash: header.app_hash.to_vec(),
            proposer: header.proposer_address.to_vec(),
            signature: signed.signature.to_vec(),
            seal: seal(&signed)?,
        })
    }

    /// Is it the block after `last`? Rules 3, 6, 7 and 8.
    pub fn follows(&self, last: &Self) -> Result<()> {
        self.goes_on(last, true)
    }

    /// The same, but that it may be the first signed block behind those of a based sequencer: such a one may name another block before it,
    /// and upstream takes it all the same. Says whether it does.
    pub fn follows_or_leaves_based(&self, last: &Self) -> Result<bool> {
        let leaves = self.last_header_hash != last.hash && last.seal == Seal::None && self.seal != Seal::None;
        self.goes_on(last, !leaves).map(|()| leaves)
    }

    fn goes_on(&self, last: &Self, linked: bool) -> Result<()> {
        let height = self.height;
        if last.height.checked_add(1) != Some(height) {
            return Err(wrong(height, &format!("the block after {}", last.height), "another"));
        }
        if self.chain_id != last.chain_id {
            let text = |id: &str| format!("chain id {}", id.escape_debug());
            return Err(wrong(height, &text(&last.chain_id), &text(&self.chain_id)));
        }
        if linked && self.last_header_hash != last.hash {
            let expected =
                format!("the hash of header {}, {}, as its last one", last.height, digits(&last.hash));
            return Err(wrong(height, &expected, &digits(&self.last_header_hash)));
        }
        // Empty in blocks that were synced from DA before v1.0.0-beta.7.
        if !self.last_data_hash.is_empty() && self.last_data_hash != last.data_hash {
            let expected =
                format!("the hash of data {}, {}, as its last one", last.height, digits(&last.data_hash));
            return Err(wrong(height, &expected, &digits(&self.last_data_hash)));
        }
        if self.time < last.time {
            return Err(wrong(height, &format!("a time of at least {}", last.time), &self.time.to_string()));
        }
        Ok(())
    }
}

/// Rules 9 and 10. A signature proves the proposer only where the key is the proposer's.
fn seal(signed: &SignedHeader<'_>) -> Result<Seal> {
    let (header, height) = (&signed.header, signed.header.height);
    if signed.signature.is_empty() && signed.signer.public_key.is_empty() {
        return Ok(Seal::None);
    }
    let key = PublicKey::parse(signed.signer.public_key)
        .map_err(|error| Error::damaged(format!("block {height}: the signer: {}", error.what())))?;
    let address = hash::address(key.raw());
    if header.proposer_address != address {
        // Releases before v1.2.0 did not hold the key against the address, and an app's validators are its own.
        if signed.signer.address == header.proposer_address || !header.validator_hash.is_empty() {
            return Ok(Seal::Unverifiable);
        }
        let expected = format!("a signer with the proposer's address {}", digits(header.proposer_address));
        return Err(wrong(height, &expected, &digits(&address)));
    }
    match key {
        PublicKey::Other(..) => Ok(Seal::Unverifiable),
        PublicKey::Ed25519(key) if signature::verify(header, &key, signed.signature) => Ok(Seal::Holds),
        PublicKey::Ed25519(_) if !header.validator_hash.is_empty() => Ok(Seal::Unverifiable),
        PublicKey::Ed25519(_) => Err(wrong(height, "a signature that holds", "one that does not")),
    }
}

fn unreadable(height: u64, what: &str, error: &Error) -> Error {
    Error::damaged(format!("block {height}: {what}: {}", error.what()))
}

fn wrong(height: u64, expected: &str, found: &str) -> Error {
    Error::damaged(format!("block {height}: expected {expected}, found {found}"))
}

/// Hex of a hash, or of the first bytes of what should have been one.
fn digits(bytes: &[u8]) -> String {
    match bytes.get(..64) {
        Some(first) => format!("{}… ({} bytes)", hex(first), bytes.len()),
        None if bytes.is_empty() => "none".to_owned(),
        None => hex(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evnode::sample::{Sample, Stage};

    fn block(sample: &Sample, height: u64) -> Result<Block> {
        let value =
            |family: char| sample.value(format!("/0/{family}/{height}").as_bytes()).unwrap_or_default();
        Block::read(height, value('h'), value('d'))
    }

    #[test]
    fn every_bit_of_a_block_is_proven_by_itself_or_by_its_neighbours() {
        let sample = Sample::with_blocks(4);
        let [before, after] = [block(&sample, 2).unwrap(), block(&sample, 4).unwrap()];
        let (header, data) = (sample.value(b"/0/h/3").unwrap(), sample.value(b"/0/d/3").unwrap());
        let good = Block::read(3, header, data).unwrap();
        good.follows(&before).unwrap();
        after.follows(&good).unwrap();
        let accepted = |header: &[u8], data: &[u8]| {
            Block::read(3, header, data)
                .is_ok_and(|block| block.follows(&before).is_ok() && after.follows(&block).is_ok())
        };
        for at in 0..header.len() {
            for bit in 0..8 {
                let mut damaged = header.to_vec();
                damaged[at] ^= 1 << bit;
                // What Go tolerates, too: an address that is not the key's, or a field of another number.
                let same = SignedHeader::decode(&damaged).is_ok_and(|found| {
                    let signed = SignedHeader::decode(header).unwrap();
                    found.header == signed.header && found.signature == signed.signature
                });
                assert!(same || !accepted(&damaged, data), "bit {bit} of byte {at} of the header");
            }
        }
        for at in 0..data.len() {
            for bit in 0..8 {
                let mut damaged = data.to_vec();
                damaged[at] ^= 1 << bit;
                assert!(!accepted(header, &damaged), "bit {bit} of byte {at} of the data");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_height() {
        let said = |change: fn(Stage, &mut crate::evnode::sample::Draft)| {
            let mut sample = Sample::with_blocks(1);
            sample.extend(1, change);
            let last = block(&sample, 1).unwrap();
            block(&sample, 2).and_then(|second| second.follows(&last)).unwrap_err().to_string()
        };
        let other = said(|stage, draft| {
            if stage == Stage::Made {
                draft.last_header_hash = vec![7; 32];
            }
        });
        assert!(other.starts_with("block 2: expected the hash of header 1, "), "{other}");
        let forged = said(|stage, draft| {
            if stage == Stage::Signed {
                draft.signature[3] ^= 1;
            }
        });
        assert_eq!(forged, "block 2: expected a signature that holds, found one that does not");
        let unsigned = said(|stage, draft| {
            if stage == Stage::Signed {
                draft.signature.clear();
            }
        });
        assert_eq!(unsigned, forged);
        let late = said(|stage, draft| {
            if stage == Stage::Made {
                (draft.time, draft.metadata_time) = (1, 1);
            }
        });
        assert!(late.starts_with("block 2: expected a time of at least "), "{late}");
    }

    #[test]
    fn a_key_that_is_not_the_proposer_s_proves_nothing_where_old_nodes_and_apps_have_one() {
        let other = crate::evnode::sample::Proposer::new(b"other");
        let made = |validators: bool, address: &[u8]| {
            let mut sample = Sample::new(1);
            sample.extend(1, |stage, draft| {
                if stage == Stage::Made {
                    (draft.signer, draft.signer_key) = (Some(other), other.public_key());
                    draft.signer_address = address.to_vec();
                    draft.validator_hash = if validators { vec![7; 32] } else { Vec::new() };
                }
            });
            block(&sample, 1).map(|block| block.seal)
        };
        let own = Sample::new(1).proposer().address();
        assert_eq!(made(false, &own).unwrap(), Seal::Unverifiable);
        assert_eq!(made(true, &other.address()).unwrap(), Seal::Unverifiable);
        let error = made(false, &other.address()).unwrap_err();
        assert!(error.to_string().contains("a signer with the proposer's address"), "{error}");
    }

    #[test]
    fn a_based_sequencer_signs_nothing() {
        let mut sample = Sample::new(1);
        sample.extend(1, |stage, draft| {
            if stage == Stage::Signed {
                (draft.signature, draft.signer_key) = (Vec::new(), Vec::new());
            }
        });
        assert_eq!(block(&sample, 1).unwrap().seal, Seal::None);
    }
}
