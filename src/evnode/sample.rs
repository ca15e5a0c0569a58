//! Chains as ev-node v1.2 writes them, block by block, linked and signed: for tests, benchmarks and demonstrations.
//!
//! What a block shall be can be changed before it is hashed, before it is stored, and in its state, so that a chain is wrong in exactly
//! one point: whatever follows is made from what was changed.

use super::hash::{self, Hash};
use super::key::{Family, Key, Mark, Part, TIP};
use super::record::{Data, Header, Legacy, SignedHeader, Signer, State, Timestamp};
use super::wire::{put_bytes, put_message, put_number};
use crate::base::checksum::sha256;
use crate::entry::{Entry, OwnedEntry};
use crate::error::Result;
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use std::collections::BTreeMap;

/// A key that signs blocks.
#[derive(Clone, Copy)]
pub struct Proposer {
    key: SigningKey,
    public: [u8; 32],
}

impl Proposer {
    /// The key of a seed.
    pub fn new(seed: &[u8]) -> Self {
        let key = SigningKey::from(sha256(seed));
        Self { key, public: VerificationKeyBytes::from(&key).into() }
    }

    /// Its address.
    pub fn address(&self) -> Hash {
        hash::address(&self.public)
    }

    /// Its public key as libp2p marshals it.
    pub fn public_key(&self) -> Vec<u8> {
        [&[0x08, 0x01, 0x12, 0x20], &self.public[..]].concat()
    }

    /// Signs.
    pub fn sign(&self, payload: &[u8]) -> Vec<u8> {
        self.key.sign(payload).to_bytes().to_vec()
    }
}

impl std::fmt::Debug for Proposer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Proposer").field(&self.address()).finish()
    }
}

/// When a block can still be changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Nothing is hashed yet but the data.
    Made,
    /// Hash and signature are there; the index goes by what is stored.
    Signed,
    /// The state after it.
    State,
}

/// A block in the making.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Its keys' height.
    pub height: u64,
    /// In header, metadata and state.
    pub chain_id: String,
    /// In the metadata, when it differs.
    pub metadata_chain_id: Option<String>,
    /// In the state, when it differs.
    pub state_chain_id: Option<String>,
    /// In the header.
    pub header_height: u64,
    /// In the metadata.
    pub metadata_height: u64,
    /// Unix nanoseconds.
    pub time: u64,
    /// In the metadata.
    pub metadata_time: u64,
    /// Are there any metadata?
    pub metadata: bool,
    /// Transactions.
    pub transactions: Vec<Vec<u8>>,
    /// Field 4 of the header.
    pub last_header_hash: Vec<u8>,
    /// Field 4 of the metadata.
    pub last_data_hash: Vec<u8>,
    /// The commitment of the data.
    pub data_hash: Vec<u8>,
    /// The app's state before the block.
    pub app_hash: Vec<u8>,
    /// Who shall have made it.
    pub proposer: Vec<u8>,
    /// Field 7 of the header: makes it one of releases up to v1.0.0-beta.8.
    pub consensus_hash: Vec<u8>,
    /// Field 11 of the header.
    pub validator_hash: Vec<u8>,
    /// Who signs.
    pub signer: Option<Proposer>,
    /// Sign the legacy encoding.
    pub signs_legacy: bool,
    /// The signer's address.
    pub signer_address: Vec<u8>,
    /// The signer's key.
    pub signer_key: Vec<u8>,
    /// In the header.
    pub signature: Vec<u8>,
    /// Beside the header.
    pub signature_beside: Vec<u8>,
    /// Of the state.
    pub state_height: u64,
    /// Of the state.
    pub state_time: u64,
    /// The app's state after the block.
    pub state_app_hash: Vec<u8>,
    /// Of the state.
    pub state_header_hash: Vec<u8>,
    /// Of the state.
    pub next_proposer: Vec<u8>,
    /// Index by the header's hash, as up to v1.0.0-beta.8.
    pub old_index: bool,
}

impl Draft {
    fn header(&self) -> Header<'_> {
        Header {
            height: self.header_height,
            time: self.time,
            last_header_hash: &self.last_header_hash,
            data_hash: &self.data_hash,
            app_hash: &self.app_hash,
            proposer_address: &self.proposer,
            validator_hash: &self.validator_hash,
            chain_id: &self.chain_id,
            legacy: Legacy { consensus_hash: &self.consensus_hash, ..Legacy::default() },
            ..Header::default()
        }
    }

    fn data(&self) -> Vec<u8> {
        let mut data = Vec::new();
        if self.metadata {
            let mut metadata = Vec::new();
            put_bytes(&mut metadata, 1, self.metadata_chain_id.as_ref().unwrap_or(&self.chain_id).as_bytes());
            put_number(&mut metadata, 2, self.metadata_height);
            put_number(&mut metadata, 3, self.metadata_time);
            put_bytes(&mut metadata, 4, &self.last_data_hash);
            put_message(&mut data, 1, &metadata);
        }
        for transaction in &self.transactions {
            put_message(&mut data, 2, transaction);
        }
        data
    }

    /// Makes the header commit to the transactions as they are now.
    pub fn commit(&mut self) {
        self.data_hash =
            Data::decode(&self.data()).map(|data| hash::commitment(&data).to_vec()).unwrap_or_default();
    }

    fn blob(&self) -> Vec<u8> {
        let signer = Signer { address: &self.signer_address, public_key: &self.signer_key };
        let mut blob = Vec::new();
        SignedHeader { header: self.header(), signature: &self.signature, signer }.encode(&mut blob);
        blob
    }

    fn sign(&mut self) {
        let mut payload = Vec::new();
        if self.signs_legacy {
            self.header().encode_legacy(&mut payload);
        } else {
            self.header().encode(&mut payload);
        }
        self.signature = self.signer.map(|signer| signer.sign(&payload)).unwrap_or_default();
        self.signature_beside.clone_from(&self.signature);
    }

    fn state(&self, initial_height: u64) -> Vec<u8> {
        let state = State {
            chain_id: self.state_chain_id.as_ref().unwrap_or(&self.chain_id),
            initial_height,
            last_block_height: self.state_height,
            last_block_time: Some(Timestamp::from_nanos(self.state_time)),
            da_height: 100 + self.height,
            app_hash: &self.state_app_hash,
            last_header_hash: &self.state_header_hash,
            next_proposer_address: &self.next_proposer,
            ..State::default()
        };
        let mut value = Vec::new();
        state.encode(&mut value);
        value
    }
}

/// A chain that grows, and the entries of its datastore.
///
/// ```
/// use evbackup::evnode::chain::{Checker, Options};
/// use evbackup::evnode::sample::Sample;
///
/// let sample = Sample::with_blocks(12);
/// let mut checker = Checker::new(Options::default());
/// sample.entries().try_for_each(|entry| checker.feed(&entry))?;
/// let report = checker.finish()?;
/// assert!(report.ok() && report.findings.is_empty());
/// assert_eq!((report.blocks, report.complete_height), (12, Some(12)));
/// # Ok::<(), evbackup::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sample {
    entries: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    proposer: Proposer,
    initial_height: u64,
    next: u64,
    last_header_hash: Vec<u8>,
    last_data_hash: Vec<u8>,
    last_app_hash: Vec<u8>,
    next_proposer: Vec<u8>,
}

/// The time of the first block.
pub const GENESIS_TIME: u64 = 1_700_000_000_123_456_789;
/// The chain's name.
pub const CHAIN_ID: &str = "sample-1";

impl Sample {
    /// A chain without blocks, that will begin at this height.
    pub fn new(initial_height: u64) -> Self {
        let proposer = Proposer::new(b"evbackup sample");
        let mut sample = Self {
            entries: BTreeMap::new(),
            proposer,
            initial_height,
            next: initial_height,
            last_header_hash: Vec::new(),
            last_data_hash: Vec::new(),
            last_app_hash: b"genesis-root".to_vec(),
            next_proposer: proposer.address().to_vec(),
        };
        let before = initial_height.saturating_sub(1);
        let genesis = Draft {
            chain_id: CHAIN_ID.to_owned(),
            state_height: before,
            state_time: GENESIS_TIME,
            state_app_hash: sample.last_app_hash.clone(),
            next_proposer: sample.next_proposer.clone(),
            ..Draft::default()
        };
        sample.put(Key::State(before).to_bytes(), genesis.state(initial_height));
        sample
    }

    /// A chain with blocks 1 to `blocks`.
    pub fn with_blocks(blocks: u64) -> Self {
        let mut sample = Self::new(1);
        sample.extend(blocks, |_, _| {});
        sample
    }

    /// A chain that goes on after a block of which these are the header, the data and the state; its entries are none of this one's.
    pub fn after(header: &[u8], data: &[u8], state: &[u8]) -> Result<Self> {
        let mut sample = Self::new(1);
        sample.entries.clear();
        let (header, data, state) =
            (SignedHeader::decode(header)?, Data::decode(data)?, State::decode(state)?);
        sample.initial_height = state.initial_height;
        sample.next = header.header.height.saturating_add(1);
        sample.last_header_hash = hash::header(&header.header).to_vec();
        sample.last_data_hash = hash::data(&data).to_vec();
        sample.last_app_hash = state.app_hash.to_vec();
        sample.next_proposer = state.next_proposer_address.to_vec();
        Ok(sample)
    }

    /// Who makes the blocks.
    pub fn proposer(&self) -> Proposer {
        self.proposer
    }

    /// Adds blocks; `change` sees each at every stage.
    pub fn extend(&mut self, blocks: u64, mut change: impl FnMut(Stage, &mut Draft)) {
        for _ in 0..blocks {
            self.block(&mut change);
        }
    }

    fn block(&mut self, change: &mut impl FnMut(Stage, &mut Draft)) {
        let height = self.next;
        let time = GENESIS_TIME + (height - self.initial_height) * 1_000_000_000;
        let transactions = (1..=height % 3).map(|number| format!("k{height}-{number}=v").into_bytes());
        let mut draft = Draft {
            height,
            header_height: height,
            metadata_height: height,
            state_height: height,
            chain_id: CHAIN_ID.to_owned(),
            time,
            metadata_time: time,
            state_time: time,
            metadata: true,
            transactions: transactions.collect(),
            last_header_hash: std::mem::take(&mut self.last_header_hash),
            last_data_hash: std::mem::take(&mut self.last_data_hash),
            app_hash: std::mem::take(&mut self.last_app_hash),
            proposer: self.next_proposer.clone(),
            signer: Some(self.proposer),
            signer_address: self.proposer.address().to_vec(),
            signer_key: self.proposer.public_key(),
            ..Draft::default()
        };
        draft.commit();
        change(Stage::Made, &mut draft);
        draft.sign();
        let header_hash = hash::header(&draft.header());
        change(Stage::Signed, &mut draft);
        draft.state_app_hash = sha256(&height.to_le_bytes()).to_vec();
        draft.state_header_hash = header_hash.to_vec();
        draft.next_proposer.clone_from(&self.next_proposer);
        change(Stage::State, &mut draft);
        self.store(&draft, &header_hash);
        self.next += 1;
        self.last_header_hash = header_hash.to_vec();
        let data = draft.data();
        self.last_data_hash = Data::decode(&data).map(|data| hash::data(&data).to_vec()).unwrap_or_default();
        self.last_app_hash = draft.state_app_hash;
        self.next_proposer = draft.next_proposer;
    }

    fn store(&mut self, draft: &Draft, header_hash: &Hash) {
        let height = draft.height;
        let blob = draft.blob();
        let index = if draft.old_index { *header_hash } else { hash::index(&blob) };
        self.put(Key::Index(index).to_bytes(), height.to_le_bytes().to_vec());
        self.put(Key::Header(height).to_bytes(), blob);
        self.put(Key::Data(height).to_bytes(), draft.data());
        self.put(Key::Signature(height).to_bytes(), draft.signature_beside.clone());
        self.put(Key::State(height).to_bytes(), draft.state(self.initial_height));
        self.put(TIP.to_vec(), height.to_le_bytes().to_vec());
    }

    /// The version that is written at present: one for each block, 1 before the first.
    fn version(&self) -> u64 {
        self.next - self.initial_height + 1
    }

    /// Puts an entry, whatever it is.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.entries.insert(key, (self.version(), value));
    }

    /// Takes the entries that are there; the chain goes on without them.
    pub fn take(&mut self) -> Vec<OwnedEntry> {
        let entries = std::mem::take(&mut self.entries).into_iter();
        entries
            .map(|(key, (version, value))| OwnedEntry { key, version, value, ..OwnedEntry::default() })
            .collect()
    }

    /// Sets a mark of the metadata.
    pub fn mark(&mut self, mark: Mark, height: u64) {
        self.put(Key::Mark(mark).to_bytes(), height.to_le_bytes().to_vec());
    }

    /// Notes the blocks up to `height` as included on DA.
    pub fn include(&mut self, height: u64) {
        for block in self.initial_height..=height {
            for part in [Part::Header, Part::Data] {
                self.put(Key::DaHeight(block, part).to_bytes(), (100 + block).to_le_bytes().to_vec());
            }
        }
        self.mark(Mark::DaIncluded, height);
    }

    /// Removes an entry; its value.
    pub fn remove(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// Removes the index entries that stand for `height`.
    pub fn unindex(&mut self, height: u64) {
        let value = height.to_le_bytes();
        self.entries
            .retain(|key, (_, found)| Key::parse(key).family() != Family::Index || found[..] != value);
    }

    /// A value.
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(|(_, value)| value.as_slice())
    }

    /// Removes what pruning removes up to `height`, and sets its mark.
    pub fn prune(&mut self, height: u64) {
        for block in self.initial_height..=height {
            for key in [
                Key::Header(block),
                Key::Data(block),
                Key::Signature(block),
                Key::DaHeight(block, Part::Header),
                Key::DaHeight(block, Part::Data),
            ] {
                self.remove(&key.to_bytes());
            }
            self.unindex(block);
        }
        self.mark(Mark::PrunedBlocks, height);
    }

    /// The entries in the order of keys.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries.iter().map(|(key, (version, value))| Entry {
            key,
            version: *version,
            value,
            ..Entry::default()
        })
    }

    /// The same, owned.
    pub fn owned(&self) -> Vec<OwnedEntry> {
        self.entries().map(|entry| entry.to_owned()).collect()
    }
}
