//! Copies the blocks of a node that has no Backup RPC, by the RPCs that every released node has.
//!
//! ```text
//!   plan      GetState, GetBlock   where the tip is, which blocks there are, whether the base is of this chain
//!   fetch     GetBlock …           upwards, many at a time, each checked by itself and against the one before
//!   rest      GetMetadata …        the marks, clamped to the tip that was fixed first
//!   compose   entries, frames      what a Backup RPC would have sent, so that the same recorder takes it
//! ```
//!
//! The tip is fixed first and blocks do not change below it, so that whatever the node does meanwhile the copy is of one moment: height + 1
//! is the version of everything that belongs to a block, tip + 1 that of all else. What the node prunes meanwhile is buried.

mod compose;
mod fetch;
mod plan;
mod rest;
mod whole;
mod window;

use super::Backup;
use super::record::Record;
use crate::base::progress::{Phase, Progress};
use crate::error::{Error, Kind, Result};
use crate::repo::manifest::STATE_DA_HEIGHTS;
use crate::rpc::Reader;
use compose::Composer;
use fetch::Fetcher;
use plan::Plan;

/// Items that may wait for the recording thread; their bytes are bounded by the fetcher.
const WAITING: usize = 32;

/// How the blocks are asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// By the documented RPCs: what a node starts from, not all of it as it was stored.
    Blocks,
    /// Byte for byte, by names that lead out of the metadata.
    Raw,
}

impl Way {
    /// As in the manifest.
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Blocks => "blocks",
            Way::Raw => "raw",
        }
    }

    /// The one of that name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Way::Blocks, Way::Raw].into_iter().find(|way| way.name() == name)
    }

    /// What no RPC of a released node gives: see `docs/reference/manifest.md`.
    pub(super) fn lacks(self) -> Vec<String> {
        let both = ["queue", "checkpoints", "execmeta", "go-header", "network", "other-metadata", "unknown"];
        let blocks = [STATE_DA_HEIGHTS].into_iter().filter(|_| self == Way::Blocks);
        both.into_iter().chain(blocks).map(str::to_owned).collect()
    }
}

/// Copies what `record` asks for.
pub(super) async fn copy(reads: Reader, mut record: Record, way: Way, progress: &Progress) -> Result<Backup> {
    let plan = Plan::make(&reads, record.question(), record.base(), way).await?;
    record.copying(plan.way, plan.tip.chain_id.clone(), &plan.notes);
    record.announce(plan.announced())?;
    progress.begin(Phase::Receiving, 0);
    progress.set_height(plan.first);
    let early = record.may_end_early();
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING);
    let mut composer = Composer::new(receiver, &plan, &record.scratch(), progress);
    let worker = tokio::task::spawn_blocking(move || record.run(&mut composer));
    let fetching = async {
        let mut fetcher = Fetcher::new(reads.clone(), &plan, sender.clone(), progress);
        fetcher.run(early).await
    };
    let fetched = tokio::select! {
        fetched = fetching => fetched,
        // The worker has ended before its time: it knows why.
        () = sender.closed() => Ok(()),
    };
    // Without the last word the worker gives up, and takes away what it wrote.
    drop(sender);
    let result = worker.await.unwrap_or_else(|error| Err(Error::io(format!("a worker has died: {error}"))));
    match (fetched, result) {
        (Err(error), Err(other)) if other.kind() == Kind::Cancelled => Err(error.at(reads.place())),
        (_, Err(error)) => Err(error),
        (Err(error), Ok(_)) => Err(error.at(reads.place())),
        (Ok(()), Ok(backup)) => Ok(backup),
    }
}
