//! Who signed a block, and whether it is true.
//!
//! The signer's key is libp2p's protobuf `PublicKey`: 1 type (0 RSA, 1 Ed25519, 2 secp256k1, 3 ECDSA), 2 data. Every signer of ev-node
//! makes Ed25519 keys, `08 01 12 20` and 32 bytes. What is signed is, unless the app has it otherwise, the header as today's node writes it,
//! or the legacy encoding: whoever verifies tries one, then the other (`SignedHeader.ValidateBasicWithData`).
//!
//! Signatures are checked in batches, which costs about half of checking one by one, since all blocks have one key. Batches follow ZIP 215:
//! they accept what Go accepts, and besides encodings of points that only the owner of the key could have made.

use super::record::Header;
use super::wire::{Fields, Value};
use crate::error::{Error, Result};
use ed25519_zebra::batch::{Item, Verifier};
use ed25519_zebra::{Signature, VerificationKeyBytes};
use rand_core::{Infallible, TryCryptoRng, TryRng};

/// A public key as libp2p marshals it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PublicKey<'a> {
    /// What every signer of ev-node has.
    Ed25519([u8; 32]),
    /// Of a kind that libp2p knows and that we do not verify, with its raw bytes.
    Other(&'static str, &'a [u8]),
}

impl<'a> PublicKey<'a> {
    /// Reads libp2p's form.
    pub fn parse(message: &'a [u8]) -> Result<Self> {
        let (mut kind, mut data): (u64, &[u8]) = (0, b"");
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Varint(number)) => kind = number,
                (2, Value::Bytes(bytes)) => data = bytes,
                _ => {}
            }
        }
        match kind {
            0 => Ok(Self::Other("RSA", data)),
            1 => <[u8; 32]>::try_from(data).map(Self::Ed25519).map_err(|_| {
                Error::damaged(format!("expected an Ed25519 key of 32 bytes, found {}", data.len()))
            }),
            2 => Ok(Self::Other("secp256k1", data)),
            3 => Ok(Self::Other("ECDSA", data)),
            _ => Err(Error::damaged(format!("expected a key type of libp2p (0 to 3), found {kind}"))),
        }
    }

    /// Its raw bytes, of which the address is made.
    pub fn raw(&self) -> &[u8] {
        match self {
            Self::Ed25519(key) => key,
            Self::Other(_, data) => data,
        }
    }
}

/// Does the signature hold for any of ev-node's two payloads?
pub fn verify(header: &Header<'_>, key: &[u8; 32], signature: &[u8]) -> bool {
    let Ok(signature) = <[u8; 64]>::try_from(signature) else {
        return false;
    };
    let mut payload = Vec::new();
    header.encode(&mut payload);
    if item(key, &signature, &payload).verify_single().is_ok() {
        return true;
    }
    payload.clear();
    header.encode_legacy(&mut payload);
    item(key, &signature, &payload).verify_single().is_ok()
}

fn item(key: &[u8; 32], signature: &[u8; 64], payload: &[u8]) -> Item {
    Item::from((VerificationKeyBytes::from(*key), Signature::from_bytes(signature), payload))
}

/// Which of a header's two encodings was signed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Payload {
    #[default]
    Today,
    Legacy,
}

impl Payload {
    fn other(self) -> Self {
        match self {
            Self::Today => Self::Legacy,
            Self::Legacy => Self::Today,
        }
    }
}

/// Signatures that are verified together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    signed: Vec<Signed>,
    /// The headers as today's node writes them, one behind the other.
    headers: Vec<u8>,
}

#[derive(Debug)]
struct Signed {
    height: u64,
    key: [u8; 32],
    signature: [u8; 64],
    /// Where its header ends in [`Batch::headers`].
    end: usize,
}

/// A signature that holds for neither payload.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Forged {
    pub(super) height: u64,
    /// The header has a validator hash, as those of apps have that sign bytes of their own.
    pub(super) validators: bool,
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) forged: Vec<Forged>,
    /// The payload to try first in the next one.
    pub(super) payload: Payload,
}

impl Batch {
    /// Takes a signature and the header as today's node writes it.
    pub(super) fn push(&mut self, height: u64, header: &[u8], key: [u8; 32], signature: [u8; 64]) {
        self.headers.extend_from_slice(header);
        self.signed.push(Signed { height, key, signature, end: self.headers.len() });
    }

    pub(super) fn len(&self) -> usize {
        self.signed.len()
    }

    /// Bytes held for them.
    pub(super) fn bytes(&self) -> usize {
        self.headers.capacity() + self.signed.capacity() * size_of::<Signed>()
    }

    /// Verifies all of them at once, and one by one only if that fails.
    pub(super) fn verify(&self, first: Payload, coefficients: &mut Coefficients) -> Verdict {
        let mut all = Verifier::new();
        for item in self.items(first) {
            all.queue(item);
        }
        if all.verify(&mut *coefficients).is_ok() {
            return Verdict { forged: Vec::new(), payload: first };
        }
        let mut forged = Vec::new();
        let mut second = 0;
        let both = self.items(first).zip(self.items(first.other()));
        for ((one, other), (signed, header)) in both.zip(self.headers()) {
            if one.verify_single().is_ok() {
                continue;
            }
            if other.verify_single().is_ok() {
                second += 1;
            } else {
                // What we have encoded can be decoded.
                let validators = Header::decode(header).is_ok_and(|header| !header.validator_hash.is_empty());
                forged.push(Forged { height: signed.height, validators });
            }
        }
        let payload = if second * 2 > self.signed.len() { first.other() } else { first };
        Verdict { forged, payload }
    }

    fn headers(&self) -> impl Iterator<Item = (&Signed, &[u8])> {
        let mut start = 0;
        self.signed.iter().map(move |signed| {
            let header = self.headers.get(start..signed.end).unwrap_or_default();
            start = signed.end;
            (signed, header)
        })
    }

    fn items(&self, payload: Payload) -> impl Iterator<Item = Item> + '_ {
        let mut legacy = Vec::new();
        self.headers().map(move |(signed, today)| {
            if payload == Payload::Today {
                return item(&signed.key, &signed.signature, today);
            }
            legacy.clear();
            // What we have encoded can be decoded.
            if let Ok(header) = Header::decode(today) {
                header.encode_legacy(&mut legacy);
            }
            item(&signed.key, &signed.signature, &legacy)
        })
    }
}

/// Numbers that nobody can foresee, without which a batch could be made to pass: SHA-256 of a random seed and a counter.
#[derive(Debug)]
pub(super) struct Coefficients {
    seed: [u8; 32],
    counter: u64,
    /// What is left of the last block.
    left: Option<[u8; 16]>,
}

impl Coefficients {
    pub(super) fn new() -> Result<Self> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| Error::io(format!("cannot get random numbers: {error}")).caused_by(error))?;
        Ok(Self { seed, counter: 0, left: None })
    }

    fn block(&mut self) -> [u8; 32] {
        self.counter += 1;
        let mut block = crate::base::checksum::Sha256::new();
        block.update(&self.seed);
        block.update(&self.counter.to_le_bytes());
        block.bytes()
    }
}

impl TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut number = [0; 4];
        self.try_fill_bytes(&mut number)?;
        Ok(u32::from_le_bytes(number))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut number = [0; 8];
        self.try_fill_bytes(&mut number)?;
        Ok(u64::from_le_bytes(number))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        for part in to.chunks_mut(16) {
            let half = self.left.take().unwrap_or_else(|| {
                let block = self.block();
                let (one, other) = block.split_at(16);
                self.left = other.try_into().ok();
                one.try_into().unwrap_or_default()
            });
            part.iter_mut().zip::<[u8; 16]>(half).for_each(|(to, byte)| *to = byte);
        }
        Ok(())
    }
}

impl TryCryptoRng for Coefficients {}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_zebra::SigningKey;

    fn header(height: u64) -> Header<'static> {
        Header { height, time: 7, chain_id: "x", ..Header::default() }
    }

    fn batch(heights: u64, payload: impl Fn(u64) -> Payload, spoil: &[u64]) -> Batch {
        let key = SigningKey::from([7; 32]);
        let public: [u8; 32] = VerificationKeyBytes::from(&key).into();
        let mut batch = Batch::default();
        for height in 1..=heights {
            let mut bytes = Vec::new();
            match payload(height) {
                Payload::Today => header(height).encode(&mut bytes),
                Payload::Legacy => header(height).encode_legacy(&mut bytes),
            }
            let mut signature = key.sign(&bytes).to_bytes();
            if spoil.contains(&height) {
                signature[5] ^= 1;
            }
            assert_eq!(verify(&header(height), &public, &signature), !spoil.contains(&height));
            let mut bytes = Vec::new();
            header(height).encode(&mut bytes);
            batch.push(height, &bytes, public, signature);
        }
        batch
    }

    fn heights(verdict: &Verdict) -> Vec<u64> {
        verdict.forged.iter().map(|forged| forged.height).collect()
    }

    #[test]
    fn a_batch_names_exactly_the_forged_ones() {
        let mut coefficients = Coefficients::new().unwrap();
        let mut forged = |batch: &Batch| heights(&batch.verify(Payload::Today, &mut coefficients));
        assert!(forged(&batch(20, |_| Payload::Today, &[])).is_empty());
        assert_eq!(forged(&batch(20, |_| Payload::Today, &[3, 20])), [3, 20]);
        assert!(forged(&Batch::default()).is_empty());
    }

    #[test]
    fn legacy_payloads_are_found_and_tried_first_from_then_on() {
        let mut coefficients = Coefficients::new().unwrap();
        let old = batch(20, |_| Payload::Legacy, &[4]);
        let verdict = old.verify(Payload::Today, &mut coefficients);
        assert_eq!((heights(&verdict), verdict.payload), (vec![4], Payload::Legacy));
        assert_eq!(heights(&old.verify(Payload::Legacy, &mut coefficients)), [4]);
        let mixed = |height| if height % 3 == 0 { Payload::Legacy } else { Payload::Today };
        let verdict = batch(20, mixed, &[]).verify(Payload::Today, &mut coefficients);
        assert!(verdict.forged.is_empty() && verdict.payload == Payload::Today);
    }

    #[test]
    fn keys_of_libp2p_are_told() {
        let key = |kind: u8, data: &[u8]| [&[8, kind, 0x12, data.len().to_le_bytes()[0]], data].concat();
        assert_eq!(PublicKey::parse(&key(1, &[9; 32])).unwrap(), PublicKey::Ed25519([9; 32]));
        assert_eq!(PublicKey::parse(&key(2, &[9; 33])).unwrap(), PublicKey::Other("secp256k1", &[9; 33]));
        assert_eq!(PublicKey::parse(&key(0, b"k")).unwrap().raw(), b"k");
        let text = |key: &[u8]| PublicKey::parse(key).unwrap_err().to_string();
        assert_eq!(text(&key(1, &[9; 31])), "expected an Ed25519 key of 32 bytes, found 31");
        assert_eq!(text(&key(4, &[])), "expected a key type of libp2p (0 to 3), found 4");
    }

    #[test]
    fn coefficients_differ() {
        let mut one = Coefficients::new().unwrap();
        let mut bytes = [[0; 16]; 3];
        for bytes in &mut bytes {
            one.try_fill_bytes(bytes).unwrap();
        }
        assert!(bytes[0] != bytes[1] && bytes[1] != bytes[2] && bytes[0] != [0; 16]);
        assert_ne!(one.try_next_u64().unwrap(), Coefficients::new().unwrap().try_next_u64().unwrap());
    }
}
