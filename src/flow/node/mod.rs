//! What people and tools ask a node for: blocks, states and metadata, out of whatever answers for single keys.
//!
//! ```text
//!   a store, a Badger directory (held)  ─┐
//!   the same, opened (crate::open)      ─┼─ Values ─▶ Node ─▶ blocks for people; refusals say which heights there are
//!   segments (segments)                 ─┘            └─────▶ rpc::Reads: a node's own answers, word for word (answers)
//! ```
//!
//! A block is given as the bytes that are stored: whoever wants its fields decodes them, and nothing is lost on the way. Above the tip nothing
//! is believed, since releases up to v1.0.0-rc.4 keep a block there that nobody has signed.

mod answers;
mod door;
pub mod held;
pub mod segments;

use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Datastore, Need, Snapshot};
use crate::error::{Error, Result};
use crate::evnode::hash::{self, Hash};
use crate::evnode::key::{self, Key, Mark, Part};
use crate::evnode::path;
use crate::evnode::record::{Data, SignedHeader, State};
use door::Door;
use std::sync::{Mutex, PoisonError};

/// Blocks that are read at once, if they are small.
const BATCH: u64 = 64;
/// Once so many bytes were read, the rest of a batch waits.
const ENOUGH: usize = 4 << 20;

/// What answers for single keys.
pub trait Values: Send + Sync {
    /// The newest live values of `keys`, in their order and all of one state. Once `enough` bytes were read the rest may be left out, so
    /// that fewer values come than keys were given, but never none.
    fn values(&self, keys: &[Vec<u8>], enough: usize, progress: &Progress) -> Result<Vec<Option<Vec<u8>>>>;

    /// The height up to which blocks are whole, where that is known better than by the tip.
    fn complete_height(&self) -> Option<u64>;

    /// Whether the blocks may begin above the first one that is not pruned, as those of an increment do.
    fn begins_anywhere(&self) -> bool;
}

/// [`Values::values`] of a datastore.
pub fn read(
    datastore: &dyn Datastore,
    keys: &[Vec<u8>],
    enough: usize,
    progress: &Progress,
) -> Result<Vec<Option<Vec<u8>>>> {
    let need = Need { enough: Some(enough), ..Need::keys(keys.to_vec()) };
    pick(&*datastore.snapshot_for(&need, progress)?, keys, enough, progress)
}

/// [`Values::values`] of a snapshot that was taken for these keys.
pub fn pick(
    snapshot: &dyn Snapshot,
    keys: &[Vec<u8>],
    enough: usize,
    progress: &Progress,
) -> Result<Vec<Option<Vec<u8>>>> {
    let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0_usize);
    for key in keys {
        if bytes >= enough && !found.is_empty() {
            break;
        }
        progress.check()?;
        let entry = snapshot.get(key)?;
        bytes = bytes.saturating_add(entry.as_ref().map_or(0, |entry| entry.value.len()));
        found.push(entry.filter(|entry| !entry.as_entry().is_delete()).map(|entry| entry.value));
    }
    Ok(found)
}

/// The heights that there are blocks of; none where `last` is 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Heights {
    /// The lowest.
    pub first: u64,
    /// The highest.
    pub last: u64,
}

/// A block as it is stored.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Block {
    /// Its height.
    pub height: u64,
    /// The value of `/0/h/<height>`.
    pub header: Vec<u8>,
    /// The value of `/0/d/<height>`.
    pub data: Vec<u8>,
    /// Where its header was included on DA, if it is known to have been.
    pub header_da_height: Option<u64>,
    /// Where its data was.
    pub data_da_height: Option<u64>,
}

impl Block {
    /// Its header with the signature.
    pub fn signed_header(&self) -> Result<SignedHeader<'_>> {
        SignedHeader::decode(&self.header).map_err(|error| of_block(&error, "header", self.height))
    }

    /// Its transactions.
    pub fn transactions(&self) -> Result<Data<'_>> {
        Data::decode(&self.data).map_err(|error| of_block(&error, "data", self.height))
    }

    /// The hash of its header, which the next block names.
    pub fn hash(&self) -> Result<Hash> {
        Ok(hash::header(&self.signed_header()?.header))
    }

    /// The name that it has in the index from v1.0.0-beta.9 on: the SHA-256 of the stored header.
    pub fn index_hash(&self) -> Hash {
        hash::index(&self.header)
    }
}

fn of_block(error: &Error, what: &str, height: u64) -> Error {
    Error::damaged(format!("{} in the {what} of block {height}", error.what()))
        .with_hint("run evbackup verify to see what else is damaged")
}

/// What a datastore says of one height.
#[derive(Debug, Default)]
struct Stored {
    tip: u64,
    pruned: u64,
    header: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
    header_da_height: Option<u64>,
    data_da_height: Option<u64>,
}

/// Answers for a chain. See the module.
///
/// ```
/// use evbackup::base::{progress::Progress, scratch::Scratch};
/// use evbackup::flow::node::{Node, held::Held};
/// # use evbackup::{entry::Sink, evnode::sample::Sample, store::{Loader, LoadOptions, NewAbout}};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("store");
/// # let mut loader = Loader::create(&path, LoadOptions::default())?;
/// # Sample::with_blocks(3).entries().try_for_each(|entry| loader.put(entry))?;
/// # loader.finish_with(NewAbout { pinned_version: 3, ..NewAbout::default() })?;
///
/// let node = Node::new(Held::open(&path, &Default::default())?, Scratch::system());
/// let block = node.block(2, &Progress::new())?;
/// assert_eq!(block.signed_header()?.header.height, 2);
/// assert_eq!(node.block_of(&block.hash()?, &Progress::new())?, block);
/// # Ok::<(), evbackup::error::Error>(())
/// ```
pub struct Node {
    values: Box<dyn Values>,
    door: Mutex<Door>,
    /// The lowest block that was found, and where the marks said to look from.
    lowest: Mutex<Option<(u64, u64)>>,
}

impl Node {
    /// Over `values`; what the hashes of many headers take goes into `scratch`.
    pub fn new(values: impl Values + 'static, scratch: Scratch) -> Self {
        Self { values: Box::new(values), door: Mutex::new(Door::new(scratch)), lowest: Mutex::default() }
    }

    /// The height of the newest block, 0 when there is none.
    pub fn height(&self, progress: &Progress) -> Result<u64> {
        let [tip] = self.get(&[Key::Tip.to_bytes()], progress)?;
        self.tip(tip.as_deref())
    }

    /// Of which heights there are blocks, by the tip and the pruning mark.
    pub fn heights(&self, progress: &Progress) -> Result<Heights> {
        let [tip, pruned] =
            self.get(&[Key::Tip.to_bytes(), Key::Mark(Mark::PrunedBlocks).to_bytes()], progress)?;
        let (last, pruned) = (self.tip(tip.as_deref())?, mark(pruned.as_deref()));
        if last == 0 {
            return Ok(Heights::default());
        }
        let initial = if pruned > 0 { 0 } else { self.initial_height(last, progress)? };
        let mut first = initial.max(pruned.saturating_add(1));
        if self.values.begins_anywhere() {
            first = self.lowest(first, last, progress)?.unwrap_or(first);
        }
        Ok(Heights { first, last })
    }

    /// The lowest block from `first` to `last`: there, or somewhere above, and from it on all are there.
    fn lowest(&self, first: u64, last: u64, progress: &Progress) -> Result<Option<u64>> {
        let mut kept = self.lowest.lock().unwrap_or_else(PoisonError::into_inner);
        let there = |height: u64| -> Result<bool> {
            progress.check()?;
            let [header] = self.get(&[Key::Header(height).to_bytes()], progress)?;
            Ok(header.is_some())
        };
        if let Some((_, lowest)) = kept.filter(|(from, lowest)| *from == first && *lowest <= last)
            && there(lowest)?
            && (lowest <= first || !there(lowest - 1)?)
        {
            return Ok(Some(lowest));
        }
        let lowest = if there(first)? {
            first
        } else if first < last && there(last)? {
            let (mut missing, mut found) = (first, last);
            while found - missing > 1 {
                let middle = missing + (found - missing) / 2;
                if there(middle)? {
                    found = middle;
                } else {
                    missing = middle;
                }
            }
            found
        } else {
            return Ok(None);
        };
        *kept = Some((first, lowest));
        Ok(Some(lowest))
    }

    /// The height of the first block that there ever was; 1 where no state says so.
    fn initial_height(&self, tip: u64, progress: &Progress) -> Result<u64> {
        let [state] = self.get(&[Key::State(tip).to_bytes()], progress)?;
        Ok(state.and_then(|state| Some(State::decode(&state).ok()?.initial_height)).unwrap_or(1).max(1))
    }

    /// The chain's name, as the newest block has it; `None` when there is no block.
    pub fn chain_id(&self, progress: &Progress) -> Result<Option<String>> {
        let tip = self.height(progress)?;
        if tip == 0 {
            return Ok(None);
        }
        Ok(Some(self.block(tip, progress)?.signed_header()?.header.chain_id.to_owned()))
    }

    /// The block at a height. One that is out of range, was pruned or is missing is an error that says which there are.
    pub fn block(&self, height: u64, progress: &Progress) -> Result<Block> {
        let Stored { tip, pruned, header, data, header_da_height, data_da_height } =
            self.stored(height, progress)?;
        match (header, data) {
            (Some(header), Some(data)) if height <= tip => {
                Ok(Block { height, header, data, header_da_height, data_da_height })
            }
            _ => Err(self.lacks(height, pruned, progress)),
        }
    }

    /// The block with a hash: that of its header, or its name in the index.
    pub fn block_of(&self, hash: &[u8], progress: &Progress) -> Result<Block> {
        let Ok(wanted) = Hash::try_from(hash) else {
            let what = format!("expected a hash of 32 bytes, found {} bytes", hash.len());
            return Err(Error::invalid(what));
        };
        match self.height_of(&wanted, progress)? {
            Some(height) => self.block(height, progress),
            None => Err(Error::missing(format!(
                "expected a block with the hash {}, found none",
                data_encoding::HEXLOWER.encode(hash)
            ))),
        }
    }

    /// The blocks from `from` up to, but without, `stop`: as many as about 4 MiB hold, and at least one where any is asked for.
    pub fn blocks(&self, from: u64, stop: u64, progress: &Progress) -> Result<Vec<Block>> {
        let heights: Vec<u64> = (from..stop.min(from.saturating_add(BATCH))).collect();
        let mut keys = vec![Key::Tip.to_bytes(), Key::Mark(Mark::PrunedBlocks).to_bytes()];
        keys.extend(heights.iter().flat_map(|height| block_keys(*height)));
        let mut found = self.values.values(&keys, ENOUGH, progress)?.into_iter();
        let (tip, pruned) = (found.next().flatten(), found.next().flatten());
        let (tip, pruned) = (self.tip(tip.as_deref())?, mark(pruned.as_deref()));
        let mut blocks = Vec::with_capacity(heights.len());
        for height in heights {
            let parts: Vec<_> = found.by_ref().take(4).collect();
            // The rest did not fit.
            let Ok([header_da, data_da, header, data]) = <[_; 4]>::try_from(parts) else { break };
            match (header, data) {
                (Some(header), Some(data)) if height <= tip => blocks.push(Block {
                    height,
                    header,
                    data,
                    header_da_height: header_da.as_deref().and_then(key::height),
                    data_da_height: data_da.as_deref().and_then(key::height),
                }),
                _ if blocks.is_empty() => return Err(self.lacks(height, pruned, progress)),
                // What is whole comes first.
                _ => break,
            }
        }
        if blocks.is_empty() && from < stop {
            blocks.push(self.block(from, progress)?);
        }
        Ok(blocks)
    }

    /// The value of the state after the block at a height.
    pub fn state(&self, height: u64, progress: &Progress) -> Result<Vec<u8>> {
        let keys = [Key::Tip, Key::Mark(Mark::PrunedStates), Key::State(height)].map(|key| key.to_bytes());
        let [tip, pruned, state] = self.get(&keys, progress)?;
        let tip = self.tip(tip.as_deref())?;
        if let Some(state) = state.filter(|_| height <= tip) {
            return Ok(state);
        }
        if height == tip
            && let Some(state) = self.newest_state(tip, progress)?
        {
            return Ok(state);
        }
        let pruned = mark(pruned.as_deref());
        Err(if height > tip {
            Error::invalid(format!("expected a height up to {tip}, found {height}"))
        } else if height <= pruned {
            Error::missing(format!(
                "expected a state from {} to {tip}, found {height}, which was pruned",
                pruned.saturating_add(1)
            ))
        } else {
            Error::missing(format!("expected the state after block {height}, found none"))
        })
    }

    /// The only state that releases up to v1.0.0-beta.2 kept, if it is that of the tip: later ones leave it as it was.
    fn newest_state(&self, tip: u64, progress: &Progress) -> Result<Option<Vec<u8>>> {
        let [state] = self.get(&[Key::NewestState.to_bytes()], progress)?;
        Ok(state.filter(|state| State::decode(state).map_or(true, |state| state.last_block_height == tip)))
    }

    /// What the node keeps under a name; `None` when there is nothing.
    pub fn metadata(&self, name: &str, progress: &Progress) -> Result<Option<Vec<u8>>> {
        let [value] = self.get(&[path::metadata(name)], progress)?;
        Ok(value)
    }

    /// Which block has this hash? The index knows it by one of its names, [`Door`] by the other.
    fn height_of(&self, wanted: &Hash, progress: &Progress) -> Result<Option<u64>> {
        let name = Key::Index(*wanted);
        let [index] = self.get(&[name.to_bytes()], progress)?;
        if let Some(value) = index {
            let height = key::height(&value).ok_or_else(|| {
                let what = format!("expected a height of 8 bytes at {name}, found {}", value.len());
                Error::damaged(what)
            })?;
            return Ok(Some(height));
        }
        Door::find(&self.door, wanted, self, progress)
    }

    /// What is stored for a height, whether it is above the tip or not.
    fn stored(&self, height: u64, progress: &Progress) -> Result<Stored> {
        let [header_da, data_da, header, data] = block_keys(height);
        let keys =
            [Key::Tip.to_bytes(), Key::Mark(Mark::PrunedBlocks).to_bytes(), header_da, data_da, header, data];
        let [tip, pruned, header_da, data_da, header, data] = self.get(&keys, progress)?;
        Ok(Stored {
            tip: self.tip(tip.as_deref())?,
            pruned: mark(pruned.as_deref()),
            header,
            data,
            header_da_height: header_da.as_deref().and_then(key::height),
            data_da_height: data_da.as_deref().and_then(key::height),
        })
    }

    /// The values of all these keys.
    fn get<const N: usize>(&self, keys: &[Vec<u8>; N], progress: &Progress) -> Result<[Option<Vec<u8>>; N]> {
        let found = self.values.values(keys, usize::MAX, progress)?;
        let found = <[_; N]>::try_from(found);
        found.map_err(|found| Error::io(format!("expected {N} values, found {}", found.len())))
    }

    fn tip(&self, value: Option<&[u8]>) -> Result<u64> {
        if let Some(height) = self.values.complete_height() {
            return Ok(height);
        }
        let Some(value) = value else { return Ok(0) };
        key::height(value).ok_or_else(|| {
            Error::damaged(format!("expected a height of 8 bytes at /0/t, found {}", value.len()))
        })
    }

    /// Why there is no block at a height.
    fn lacks(&self, height: u64, pruned: u64, progress: &Progress) -> Error {
        let Heights { first, last } = match self.heights(progress) {
            Ok(heights) => heights,
            Err(error) => return error,
        };
        if last == 0 {
            return Error::missing("expected blocks of ev-node, found none");
        }
        let was_pruned = (1..=pruned).contains(&height);
        // What is below the first block of an increment is in the segment before it.
        let elsewhere = (1..first).contains(&height) && self.values.begins_anywhere();
        if !was_pruned && !elsewhere && (height < first || height > last) {
            return Error::invalid(format!("expected a height from {first} to {last}, found {height}"));
        }
        if was_pruned {
            return Error::missing(format!(
                "expected a block from {first} to {last}, found {height}, which was pruned"
            ));
        }
        Error::missing(format!("expected block {height} among those from {first} to {last}, found none"))
            .with_hint("of increments, open the whole chain; else run evbackup verify")
    }
}

/// Where a block is: its DA heights, its header, its data. The large one comes last.
fn block_keys(height: u64) -> [Vec<u8>; 4] {
    [
        Key::DaHeight(height, Part::Header),
        Key::DaHeight(height, Part::Data),
        Key::Header(height),
        Key::Data(height),
    ]
    .map(|key| key.to_bytes())
}

/// A pruning mark; 0 where there is none.
fn mark(value: Option<&[u8]>) -> u64 {
    value.and_then(key::height).unwrap_or(0)
}

#[cfg(test)]
mod tests;
