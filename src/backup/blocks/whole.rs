//! One block asked for in either way, and checked by itself.

use super::Way;
use crate::error::{Kind, Result};
use crate::evnode::block::Block;
use crate::evnode::hash::Hash;
use crate::evnode::key::{self, Key};
use crate::rpc::{DAMAGED_HINT, Found, Reader};
use bytes::Bytes;

/// A reply that holds one number is not longer.
const NUMBER: usize = 1 << 10;

/// A block and what else was asked for with it.
pub(super) struct Whole {
    pub(super) block: Block,
    pub(super) header: Bytes,
    pub(super) data: Bytes,
    pub(super) signature: Bytes,
    pub(super) index: Option<Hash>,
    pub(super) state: Option<Bytes>,
    /// The state before it, where that is known already.
    pub(super) before: Option<Bytes>,
    pub(super) da_heights: [u64; 2],
}

impl Whole {
    /// The bytes that it takes.
    pub(super) fn len(&self) -> usize {
        self.header.len() + self.data.len() + self.state.as_ref().map_or(0, Bytes::len)
    }
}

/// Asks for a block, whatever it takes, and checks it by itself.
pub(super) async fn fetch(reads: Reader, way: Way, height: u64, limit: usize) -> Result<Found<Box<Whole>>> {
    let whole = match way {
        Way::Blocks => by_block(&reads, height, limit).await,
        // Header, data and state have a reply each.
        Way::Raw => by_names(&reads, height, limit / 2).await,
    };
    whole.map_err(|error| if error.kind() == Kind::Damaged { error.with_hint(DAMAGED_HINT) } else { error })
}

async fn by_block(reads: &Reader, height: u64, limit: usize) -> Result<Found<Box<Whole>>> {
    let found = match reads.block(height, limit).await? {
        Found::Here(found) => found,
        Found::Nowhere => return Ok(Found::Nowhere),
        Found::TooLong => return Ok(Found::TooLong),
    };
    let block = Block::read(height, &found.header, &found.data)?;
    Ok(Found::Here(Box::new(Whole {
        signature: block.signature.clone().into(),
        index: Some(block.index),
        block,
        header: found.header,
        data: found.data,
        state: None,
        before: None,
        da_heights: [found.header_da_height, found.data_da_height],
    })))
}

/// A value as it is stored, by a name that leads out of the metadata.
async fn stored(reads: &Reader, key: Key<'_>, limit: usize) -> Result<Found<Bytes>> {
    let key = key.to_bytes();
    let path = key.strip_prefix(b"/0/").unwrap_or(&key);
    reads.metadata(&format!("../{}", String::from_utf8_lossy(path)), limit).await
}

async fn by_names(reads: &Reader, height: u64, limit: usize) -> Result<Found<Box<Whole>>> {
    let (header, data, signature, state, da_heights) = tokio::try_join!(
        stored(reads, Key::Header(height), limit),
        stored(reads, Key::Data(height), limit),
        stored(reads, Key::Signature(height), limit),
        stored(reads, Key::State(height), limit),
        da_heights(reads.clone(), height),
    )?;
    let parts = match (header, data, signature, state) {
        (Found::TooLong, ..) | (_, Found::TooLong, ..) | (_, _, Found::TooLong, _) | (.., Found::TooLong) => {
            return Ok(Found::TooLong);
        }
        (Found::Here(header), Found::Here(data), Found::Here(signature), state) => {
            let state = if let Found::Here(state) = state { Some(state) } else { None };
            (header, data, signature, state)
        }
        _ => return Ok(Found::Nowhere),
    };
    let (header, data, signature, state) = parts;
    let block = Block::read(height, &header, &data)?;
    // Today's index goes by what is stored, that of old releases by the hash.
    let mut index = None;
    for name in [block.index, block.hash] {
        if let Found::Here(value) = stored(reads, Key::Index(name), limit).await?
            && value[..] == height.to_le_bytes()
        {
            index = Some(name);
            break;
        }
    }
    // The first block of a chain has the state of the genesis before it, and no hash of a header.
    let genesis = height.checked_sub(1).filter(|_| block.last_header_hash.is_empty());
    let before = match genesis {
        Some(genesis) => stored(reads, Key::State(genesis), limit).await?,
        None => Found::Nowhere,
    };
    let before = if let Found::Here(state) = before { Some(state) } else { None };
    Ok(Found::Here(Box::new(Whole { block, header, data, signature, index, state, before, da_heights })))
}

/// Where header and data of a block were included on DA; 0 where the node does not say.
pub(super) async fn da_heights(reads: Reader, height: u64) -> Result<[u64; 2]> {
    let (header, data) = tokio::try_join!(da_height(&reads, height, "h"), da_height(&reads, height, "d"))?;
    Ok([header, data])
}

async fn da_height(reads: &Reader, height: u64, part: &str) -> Result<u64> {
    let found = reads.metadata(&format!("rhb/{height}/{part}"), NUMBER).await?;
    let Found::Here(value) = found else { return Ok(0) };
    Ok(key::height(&value).unwrap_or(0))
}
