//! The backup's side: which heights it has, and its blocks at some of them.

use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Datastore, META_DELETE, Need, Snapshot, Source};
use crate::error::{Error, Result};
use crate::evnode::block::{Block, Contents};
use crate::evnode::key::{self, Key, Mark};
use crate::evnode::record::SignedHeader;
use crate::flow::chain::Chain;
use crate::flow::datastore::{self, ReadOptions};
use crate::repo::manifest::Deletes;
use std::collections::BTreeMap;
use std::path::PathBuf;

const SORT_MEMORY: usize = 64 << 20;

/// The blocks that a backup has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Range {
    pub(super) base: u64,
    pub(super) top: u64,
    /// The chain's name, where its manifest or a header says it.
    pub(super) chain_id: Option<String>,
}

/// Segments of a chain, or a datastore.
pub(super) enum Held {
    Chain(Chain),
    Datastore(PathBuf, Box<dyn Datastore>, u64),
}

/// What the backup has at a height: of many, so that only what is compared is kept.
type Blocks = BTreeMap<u64, Result<Block>>;

impl Held {
    /// Opens what is there; `None` where nothing is given.
    pub(super) fn open(paths: &[PathBuf], progress: &Progress) -> Result<Option<Self>> {
        match paths {
            [] => Ok(None),
            [path] if path.is_dir() => {
                let datastore = datastore::open(path, &ReadOptions::default())?;
                let pinned = datastore.snapshot_for(&Need::keys(Vec::new()), progress)?.pinned_version();
                Ok(Some(Self::Datastore(path.clone(), datastore, pinned)))
            }
            _ => {
                let chain = Chain::open(paths, None)?;
                chain.refuse()?;
                Ok(Some(Self::Chain(chain)))
            }
        }
    }

    /// From the first block that was not pruned to the highest one that is whole.
    pub(super) fn range(&self, progress: &Progress) -> Result<Range> {
        let range = match self {
            Self::Datastore(_, datastore, _) => {
                let marks =
                    datastore.snapshot_for(&Need::keys(vec![key::PRUNED_BLOCKS.to_vec()]), progress)?;
                let (pruned, top) = (mark(&*marks)?, marks.tip()?);
                let newest = Key::Header(top).to_bytes();
                let header =
                    live(&*datastore.snapshot_for(&Need::keys(vec![newest.clone()]), progress)?, &newest)?;
                Range { base: after(pruned), top, chain_id: header.as_deref().and_then(named) }
            }
            Self::Chain(chain) => match chain.newest().filter(|newest| newest.complete_height > 0) {
                Some(newest) => Range {
                    base: after(newest.pruned.blocks),
                    top: newest.complete_height,
                    chain_id: newest.chain_id.clone(),
                },
                None => scanned(chain, progress)?,
            },
        };
        if range.top == 0 {
            return Err(Error::invalid("expected a backup with blocks to compare with, found none"));
        }
        Ok(range)
    }

    /// Its blocks at `heights`, each as far as it is right; those that it has not are left out.
    pub(super) fn blocks(&mut self, heights: &[u64], progress: &Progress) -> Result<Blocks> {
        match self {
            Self::Datastore(_, datastore, _) => {
                let wanted = heights.iter().flat_map(|height| keys(*height)).collect();
                let snapshot = datastore.snapshot_for(&Need::keys(wanted), progress)?;
                let mut blocks = Blocks::new();
                for height in heights {
                    progress.check()?;
                    let [header, data] = keys(*height).map(|key| live(&*snapshot, &key));
                    if let (Some(header), Some(data)) = (header?, data?) {
                        blocks.insert(*height, Block::read(*height, &header, &data).map(small));
                    }
                }
                Ok(blocks)
            }
            Self::Chain(chain) => collect(chain, heights, progress),
        }
    }

    pub(super) fn segments(&self) -> Vec<PathBuf> {
        match self {
            Self::Chain(chain) => chain.segments().iter().map(|segment| segment.path().to_owned()).collect(),
            Self::Datastore(path, ..) => vec![path.clone()],
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        if let Self::Chain(chain) = self { chain.bytes() } else { 0 }
    }

    pub(super) fn last_version(&self) -> u64 {
        match self {
            Self::Chain(chain) => chain.last_version(),
            Self::Datastore(_, _, pinned) => *pinned,
        }
    }

    pub(super) fn complete_version(&self) -> Option<u64> {
        match self {
            Self::Chain(chain) => chain.complete_version(),
            Self::Datastore(_, _, pinned) => Some(*pinned),
        }
    }

    pub(super) fn deletes(&self) -> Deletes {
        if let Self::Chain(chain) = self { chain.deletes() } else { Deletes::Exact }
    }
}

fn keys(height: u64) -> [Vec<u8>; 2] {
    [Key::Header(height).to_bytes(), Key::Data(height).to_bytes()]
}

fn live(snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(snapshot.get(key)?.filter(|entry| entry.meta & META_DELETE == 0).map(|entry| entry.value))
}

fn mark(snapshot: &dyn Snapshot) -> Result<u64> {
    Ok(live(snapshot, key::PRUNED_BLOCKS)?.and_then(|value| key::height(&value)).unwrap_or(0))
}

/// Each key of a chain once, with its newest entry.
fn newest(chain: &Chain, progress: &Progress, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
    let mut source = chain.source(&Scratch::system(), SORT_MEMORY, progress)?;
    let (mut last, mut passed) = (Vec::new(), 0);
    while source.advance()? {
        let entry = source.entry();
        passed += (entry.key.len() + entry.value.len()) as u64;
        if passed >= 1 << 20 {
            progress.check()?;
            progress.add(passed, 0);
            passed = 0;
        }
        if entry.key == last {
            continue;
        }
        last.clear();
        last.extend_from_slice(entry.key);
        if !entry.is_delete() {
            each(entry.key, entry.value);
        }
    }
    Ok(())
}

fn after(pruned: u64) -> u64 {
    pruned.saturating_add(1)
}

/// The chain's name in a header.
fn named(header: &[u8]) -> Option<String> {
    SignedHeader::decode(header).ok().map(|signed| signed.header.chain_id.to_owned())
}

/// What a chain holds whose manifest does not say it. It may be torn: it is whole up to where the first of its families ends.
fn scanned(chain: &Chain, progress: &Progress) -> Result<Range> {
    let (mut pruned, mut chain_id, mut tops) = (0, None, [None::<u64>; 4]);
    newest(chain, progress, &mut |key, value| {
        let (at, height) = match Key::parse(key) {
            Key::Tip => (0, key::height(value)),
            Key::Header(height) => {
                chain_id = chain_id.take().or_else(|| named(value));
                (1, Some(height))
            }
            Key::Data(height) => (2, Some(height)),
            Key::Signature(height) => (3, Some(height)),
            Key::Mark(Mark::PrunedBlocks) => return pruned = key::height(value).unwrap_or(0),
            _ => return,
        };
        if let Some(top) = tops.get_mut(at) {
            *top = (*top).max(height);
        }
    })?;
    Ok(Range { base: after(pruned), top: tops.into_iter().flatten().min().unwrap_or(0), chain_id })
}

fn collect(chain: &Chain, heights: &[u64], progress: &Progress) -> Result<Blocks> {
    let (mut contents, mut blocks) = (BTreeMap::new(), Blocks::new());
    newest(chain, progress, &mut |key, value| {
        let key = Key::parse(key);
        let wanted = key.block_height().filter(|height| heights.binary_search(height).is_ok());
        let Some(height) = wanted else { return };
        match key {
            // Keys of data come before those of headers.
            Key::Data(_) => drop(contents.insert(height, Contents::read(height, value))),
            Key::Header(_) => {
                if let Some(data) = contents.remove(&height) {
                    let block = data.and_then(|data| Block::with(height, value, &data));
                    blocks.insert(height, block.map(small));
                }
            }
            _ => {}
        }
    })?;
    Ok(blocks)
}

/// Without the app's state, which may be large and is not compared: the header hash covers it.
fn small(block: Block) -> Block {
    Block { app_hash: Vec::new(), ..block }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_backup_and_a_folder_without_one_is_an_error() {
        assert!(Held::open(&[], &Progress::new()).is_ok_and(|held| held.is_none()));
        assert!(Held::open(&["/".into()], &Progress::new()).is_err());
    }
}
