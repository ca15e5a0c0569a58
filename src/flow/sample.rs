//! A small chain as ev-node writes it, in a store: for the demo, the examples and the tests.
//!
//! Blocks are real ones ([`evnode::sample`](crate::evnode::sample)), linked and signed by a key that everybody knows. Each is one version:
//! header, data (one transaction of so many bytes), signature, the index by hash, state and tip. The sequencer's queue beside it gains an
//! entry with each block and loses the one before, so that there are deletes.

use super::target::parent;
use crate::base::checksum::sha256;
use crate::base::durable::{PartDir, require_space};
use crate::base::progress::Progress;
use crate::entry::{Datastore as _, META_DELETE, OwnedEntry, Sink};
use crate::error::{Error, Result};
use crate::evnode::key::Key;
use crate::evnode::sample::{Draft, Sample, Stage};
use crate::store::{Increment, LoadOptions, Loader, NewAbout, Store, Written};
use std::path::Path;

/// What the blocks are like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes of transactions in each block.
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
    put_blocks(&mut Sample::new(1), blocks, shape, &mut |entry| loader.put(entry.as_entry()))?;
    let written = loader.finish_with(about(blocks))?;
    part.commit()?;
    Ok(written)
}

/// Adds `blocks` blocks to a store that [`create`] made, in one step.
pub fn extend(path: &Path, blocks: u64, shape: Shape) -> Result<Written> {
    let mut store = Store::open_for_writing(path)?;
    let (tip, mut sample) = {
        let snapshot = store.snapshot()?;
        let tip = snapshot.tip()?;
        let value = |key: Key<'_>| Ok::<_, Error>(snapshot.get(&key.to_bytes())?.map(|entry| entry.value));
        let last = (value(Key::Header(tip))?, value(Key::Data(tip))?, value(Key::State(tip))?);
        let (Some(header), Some(data), Some(state)) = last else {
            return Err(Error::invalid("expected a store with sample blocks, found none").at_path(path));
        };
        (tip, Sample::after(&header, &data, &state).map_err(|error| error.at_path(path))?)
    };
    let mut increment =
        Increment::begin(&mut store, LoadOptions { progress: Progress::new(), ..LoadOptions::default() })?;
    put_blocks(&mut sample, blocks, shape, &mut |entry| increment.put(entry.as_entry()))?;
    increment.finish_with(about(tip + blocks))
}

fn about(tip: u64) -> NewAbout {
    NewAbout { pinned_version: tip, deletes: "exact".to_owned(), applied: Vec::new(), store_id: None }
}

/// Gives the entries of the next `blocks` blocks in the order of a source.
fn put_blocks(
    sample: &mut Sample,
    blocks: u64,
    shape: Shape,
    put: &mut dyn FnMut(&OwnedEntry) -> Result<()>,
) -> Result<()> {
    let mut entries = Vec::new();
    for _ in 0..blocks {
        let mut height = 0;
        sample.extend(1, |stage, draft| {
            height = draft.height;
            if stage == Stage::Made {
                fill(draft, shape);
            }
        });
        entries.extend(sample.take());
        queue(height, &mut entries);
    }
    entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    entries.iter().try_for_each(put)
}

fn fill(draft: &mut Draft, shape: Shape) {
    draft.transactions = vec![noise(draft.height, shape.data_bytes)];
    draft.commit();
}

/// The queue's entry for the next block comes, the last one goes.
fn queue(height: u64, entries: &mut Vec<OwnedEntry>) {
    let queued = |height: u64| Key::Queued((1 << 63) + height).to_bytes();
    let mut put = |key: Vec<u8>, value: Vec<u8>, meta: u8| {
        entries.push(OwnedEntry { key, version: height, value, meta, ..OwnedEntry::default() });
    };
    // A `Batch` of one transaction: field 1, its length, its bytes.
    put(queued(height), [&[0x0a, 100], &noise(!height, 100)[..]].concat(), 0);
    if height > 1 {
        put(queued(height - 1), Vec::new(), META_DELETE);
    }
}

/// Bytes that no codec makes smaller and that are the same each time: a SHA-256 chain.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = Vec::with_capacity(bytes + 32);
    let mut state = sha256(&seed.to_le_bytes());
    while noise.len() < bytes {
        noise.extend_from_slice(&state);
        state = sha256(&state);
    }
    noise.truncate(bytes);
    noise
}
