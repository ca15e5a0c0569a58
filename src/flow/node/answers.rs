//! The read RPCs as a node answers them, to the code and the end of the text: its clients look at both.
//!
//! | asked for                                         | answer                                                       |
//! |---------------------------------------------------|--------------------------------------------------------------|
//! | block 0                                           | the newest; `NotFound` when there is none                    |
//! | a block above the tip, pruned, of an unknown hash | `Internal`, `… datastore: key not found`                     |
//! | a block of neither height nor hash                | `InvalidArgument`                                            |
//! | DA heights                                        | of `rhb/<n>/h` and `/d`, 0 when they are not there           |
//! | the state                                         | at the tip, without `last_header_hash`; else `NotFound`      |
//! | metadata                                          | the value, which may be empty; else `NotFound`               |
//! | the genesis DA height                             | `gdh`; `NotFound` when it is not 8 bytes                     |
//! | the stores for peers                              | headers, then data; without head and tail when there is none |
//!
//! Source: `pkg/rpc/server/server.go`, `pkg/store/store.go` and `store_adapter.go` of ev-node v1.2.2. Two things are ours: a header hash is
//! taken as well as the index hash, and a block above the tip is never given, which releases up to v1.0.0-rc.4 do.

use super::{Block, Heights, Node, Stored};
use crate::base::progress::Progress;
use crate::error::{Error, Kind};
use crate::evnode::hash::{self, Hash};
use crate::evnode::key::{self, Key, Mark};
use crate::evnode::record::{self, Data, SignedHeader};
use crate::proto::Timestamp;
use crate::proto::evnode::get_block_request::Identifier;
use crate::proto::evnode::{self, GetBlockResponse, P2pStoreEntry, P2pStoreSnapshot, State};
use crate::rpc::{Reads, Refusal};
use bytes::Bytes;

/// `ds.ErrNotFound`.
const NOT_FOUND: &str = "datastore: key not found";
/// The seconds of Go's zero time, which a state without a time has there.
const NO_TIME: i64 = -62_135_596_800;

impl Reads for Node {
    fn block(&self, which: Option<&Identifier>, progress: &Progress) -> Result<GetBlockResponse, Refusal> {
        let height = match which {
            None => {
                return Err(Refusal::Invalid("invalid or unsupported identifier type provided".to_owned()));
            }
            Some(Identifier::Height(0)) => match self.height(progress).map_err(no_height)? {
                0 => {
                    let what = "store is empty, no latest block available";
                    return Err(Refusal::NotFound(what.to_owned()));
                }
                tip => tip,
            },
            Some(Identifier::Height(height)) => *height,
            Some(Identifier::Hash(hash)) => self.indexed(hash, progress)?,
        };
        let Stored { tip, header, data, header_da_height, data_da_height, .. } =
            self.stored(height, progress).map_err(no_height)?;
        let Some(header) = header.filter(|_| height <= tip) else {
            return Err(no_block(&format!("load block header: {NOT_FOUND}")));
        };
        SignedHeader::decode(&header)
            .map_err(|error| no_block(&format!("unmarshal block header: {}", error.what())))?;
        let Some(data) = data else {
            return Err(no_block(&format!("failed to load block data: {NOT_FOUND}")));
        };
        Data::decode(&data)
            .map_err(|error| no_block(&format!("failed to unmarshal block data: {}", error.what())))?;
        let block = evnode::Block { header: Some(header.into()), data: Some(data.into()) };
        Ok(GetBlockResponse {
            block: Some(block),
            header_da_height: header_da_height.unwrap_or(0),
            data_da_height: data_da_height.unwrap_or(0),
        })
    }

    fn state(&self, progress: &Progress) -> Result<State, Refusal> {
        let no_tip = |text: &str| Refusal::NotFound(format!("failed to get current height: {text}"));
        let tip = self.height(progress).map_err(|error| told(error, no_tip))?;
        let no_state = |text: &str| Refusal::NotFound(format!("failed to retrieve state: {text}"));
        let stored = self.get(&[Key::State(tip).to_bytes()], progress).and_then(|[state]| match state {
            Some(state) => Ok(Some(state)),
            None => self.newest_state(tip, progress),
        });
        let Some(state) = stored.map_err(|error| told(error, no_state))? else {
            return Err(no_state(NOT_FOUND));
        };
        let state = record::State::decode(&state).map_err(|error| {
            Refusal::NotFound(format!("failed to unmarshal state from protobuf: {}", error.what()))
        })?;
        let none = record::Timestamp { seconds: NO_TIME, nanos: 0 };
        let time = state.last_block_time.unwrap_or(none);
        Ok(State {
            version: Some(evnode::Version { block: state.version.block, app: state.version.app }),
            chain_id: state.chain_id.to_owned(),
            initial_height: state.initial_height,
            last_block_height: state.last_block_height,
            last_block_time: Some(Timestamp { seconds: time.seconds, nanos: time.nanos }),
            da_height: state.da_height,
            app_hash: state.app_hash.to_vec(),
            last_header_hash: Vec::new(),
            next_proposer_address: state.next_proposer_address.to_vec(),
        })
    }

    fn metadata(&self, name: &str, progress: &Progress) -> Result<Bytes, Refusal> {
        let none = |text: &str| Refusal::NotFound(format!("failed to get metadata for key '{name}': {text}"));
        let value = Node::metadata(self, name, progress).map_err(|error| told(error, none))?;
        value.map(Bytes::from).ok_or_else(|| none(NOT_FOUND))
    }

    fn genesis_da_height(&self, progress: &Progress) -> Result<u64, Refusal> {
        let value = Reads::metadata(self, Mark::GenesisDa.name(), progress)?;
        key::height(&value).ok_or_else(|| Refusal::NotFound("invalid metadata value".to_owned()))
    }

    fn p2p_stores(&self, progress: &Progress) -> Result<Vec<P2pStoreSnapshot>, Refusal> {
        let ends = || -> Result<_, Error> {
            let Heights { first, last } = self.heights(progress)?;
            if last == 0 {
                return Ok((last, None, None));
            }
            let tail = self.lowest(first, last, progress)?.map(|lowest| self.at(lowest, progress));
            Ok((last, self.at(last, progress)?, tail.transpose()?.flatten()))
        };
        let unread = |text: &str| Refusal::Internal(format!("failed to read stores: {text}"));
        let (last, head, tail) = ends().map_err(|error| told(error, unread))?;
        let store = |label: &str, entry: fn(&Block) -> Result<P2pStoreEntry, Error>| -> Result<_, Refusal> {
            let end = |block: &Option<Block>, end: &str| {
                let read = block.as_ref().map(entry).transpose();
                read.map_err(|error| {
                    Refusal::Internal(format!("failed to read {label} {end}: {}", error.what()))
                })
            };
            Ok(P2pStoreSnapshot {
                label: label.to_owned(),
                height: last,
                head: end(&head, "head")?,
                tail: end(&tail, "tail")?,
            })
        };
        Ok(vec![store("Header Store", header_entry)?, store("Data Store", data_entry)?])
    }
}

impl Node {
    /// The height of the block with this hash.
    fn indexed(&self, hash: &[u8], progress: &Progress) -> Result<u64, Refusal> {
        let undecoded = |text: &str| {
            no_block(&format!("failed to load height from index failed to decode height: {text}"))
        };
        let found = match Hash::try_from(hash) {
            Ok(hash) => self.height_of(&hash, progress).map_err(|error| told(error, undecoded))?,
            // No index entry has such a name.
            Err(_) => None,
        };
        found.ok_or_else(|| {
            no_block(&format!(
                "failed to load height from index failed to get height for hash {}: {NOT_FOUND}",
                data_encoding::HEXUPPER.encode(hash.get(..hash.len().min(32)).unwrap_or_default())
            ))
        })
    }

    /// The block at a height, if it is there.
    fn at(&self, height: u64, progress: &Progress) -> Result<Option<Block>, Error> {
        match Node::block(self, height, progress) {
            Ok(block) => Ok(Some(block)),
            Err(error) if matches!(error.kind(), Kind::Missing | Kind::Invalid) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Damage in a node's words; what keeps us from reading at all is an error of ours.
fn told(error: Error, words: impl FnOnce(&str) -> Refusal) -> Refusal {
    if error.kind() == Kind::Damaged { words(error.what()) } else { Refusal::Error(error) }
}

fn no_height(error: Error) -> Refusal {
    told(error, |text| Refusal::Internal(format!("failed to get latest height: {text}")))
}

fn no_block(text: &str) -> Refusal {
    Refusal::Internal(format!("failed to retrieve block data: {text}"))
}

/// A header in the store for peers: by its header hash.
fn header_entry(block: &Block) -> Result<P2pStoreEntry, Error> {
    let header = block.signed_header()?.header;
    Ok(entry(block.height, hash::header(&header), Some(header.time)))
}

/// The data of a block there: by the data hash.
fn data_entry(block: &Block) -> Result<P2pStoreEntry, Error> {
    let data = block.transactions()?;
    Ok(entry(block.height, hash::data(&data), data.metadata.map(|metadata| metadata.time)))
}

fn entry(height: u64, hash: Hash, nanos: Option<u64>) -> P2pStoreEntry {
    let time = nanos.map(record::Timestamp::from_nanos);
    let time = time.map(|time| Timestamp { seconds: time.seconds, nanos: time.nanos });
    P2pStoreEntry { height, hash: hash.to_vec(), time }
}
