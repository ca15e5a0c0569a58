//! A small chain of linked blocks in the shape of ev-node's keys, for the demo, the examples and the tests.
//!
//! Each block is one version: header (height, the SHA-256 of the header before it, the SHA-256 of its data), data, signature, the index
//! by hash, state and tip. The sequencer's queue beside it gains an entry with each block and loses the one before, so that there
//! are deletes. The records are not ev-node's protobufs: nothing here looks into them.

use super::target::parent;
use crate::base::checksum::{Sha256, sha256_hex};
use crate::base::durable::{PartDir, require_space};
use crate::base::progress::Progress;
use crate::entry::{META_DELETE, OwnedEntry, Sink};
use crate::error::{Error, Result};
use crate::evnode::key;
use crate::store::{Increment, LoadOptions, Loader, NewAbout, Store, Written};
use std::path::Path;

/// What the blocks are like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of data in each block.
    pub data_bytes: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { data_bytes: 400 }
    }
}

/// Makes a store with blocks 1 to `blocks`, where nothing is yet.
///
/// ```
/// use evbackup::flow::sample::{Shape, create, extend};
/// use evbackup::{entry::Datastore, store::Store};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("store");
/// create(&path, 10, Shape::default())?;
/// extend(&path, 5, Shape::default())?;
/// assert_eq!(Store::open(&path)?.snapshot()?.tip()?, 15);
/// # Ok::<(), evbackup::error::Error>(())
/// ```
pub fn create(path: &Path, blocks: u64, shape: Shape) -> Result<Written> {
    require_space(parent(path), blocks.saturating_mul(shape.data_bytes as u64))?;
    let part = PartDir::create(path)?;
    let mut loader = Loader::create(part.path(), LoadOptions::default())?;
    put_blocks(1, blocks, &[0; 32], shape, &mut |entry| loader.put(entry.as_entry()))?;
    let written = loader.finish_with(about(blocks))?;
    part.commit()?;
    Ok(written)
}

/// Adds `blocks` blocks to a store that [`create`] made, in one step.
pub fn extend(path: &Path, blocks: u64, shape: Shape) -> Result<Written> {
    let mut store = Store::open_for_writing(path)?;
    let (tip, last) = {
        let snapshot = crate::entry::Datastore::snapshot(&store)?;
        let tip = snapshot.tip()?;
        (tip, snapshot.get(&key::header(tip))?)
    };
    let last =
        last.ok_or_else(|| Error::invalid("expected a store with sample blocks, found none").at_path(path))?;
    let mut hash = Sha256::new();
    hash.update(&last.value);
    let mut increment =
        Increment::begin(&mut store, LoadOptions { progress: Progress::new(), ..LoadOptions::default() })?;
    put_blocks(tip + 1, tip + blocks, &hash.bytes(), shape, &mut |entry| increment.put(entry.as_entry()))?;
    increment.finish_with(about(tip + blocks))
}

fn about(tip: u64) -> NewAbout {
    NewAbout { pinned_version: tip, deletes: "exact".to_owned(), applied: Vec::new(), store_id: None }
}

/// Gives the entries of blocks `from` to `to` in the order of a source.
fn put_blocks(
    from: u64,
    to: u64,
    before: &[u8; 32],
    shape: Shape,
    put: &mut dyn FnMut(&OwnedEntry) -> Result<()>,
) -> Result<()> {
    let mut entries = Vec::new();
    let mut before = *before;
    for height in from..=to {
        before = block(height, &before, shape, &mut entries);
    }
    entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    entries.iter().try_for_each(put)
}

/// Appends the entries of one block; the hash of its header.
fn block(height: u64, before: &[u8; 32], shape: Shape, entries: &mut Vec<OwnedEntry>) -> [u8; 32] {
    let mut put = |key: Vec<u8>, value: Vec<u8>, meta: u8| {
        entries.push(OwnedEntry { key, version: height, value, meta, ..OwnedEntry::default() });
    };
    let data = noise(height, shape.data_bytes);
    let mut data_hash = Sha256::new();
    data_hash.update(&data);
    let header = [&height.to_le_bytes()[..], before, &data_hash.bytes()].concat();
    let mut hash = Sha256::new();
    hash.update(&header);
    let index = format!("/0/i/{}", sha256_hex(&header).to_uppercase());
    put(index.into_bytes(), height.to_le_bytes().to_vec(), 0);
    put(key::header(height), header, 0);
    put(format!("/0/d/{height}").into_bytes(), data, 0);
    put(format!("/0/c/{height}").into_bytes(), noise(!height, 64), 0);
    put(format!("/0/s/{height}").into_bytes(), hash.bytes().to_vec(), 0);
    put(key::TIP.to_vec(), height.to_le_bytes().to_vec(), 0);
    let queued = |height: u64| format!("/batches/{:016x}", (1u64 << 63) + height).into_bytes();
    put(queued(height), noise(height, 100), 0);
    if height > 1 {
        put(queued(height - 1), Vec::new(), META_DELETE);
    }
    hash.bytes()
}

/// Bytes that no codec makes smaller and that are the same each time: a SHA-256 chain.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = Vec::with_capacity(bytes + 32);
    let mut state = seed.to_le_bytes().to_vec();
    while noise.len() < bytes {
        let mut hash = Sha256::new();
        hash.update(&state);
        state = hash.bytes().to_vec();
        noise.extend_from_slice(&state);
    }
    noise.truncate(bytes);
    noise
}
