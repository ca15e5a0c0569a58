//! What a survey has learnt, and over which heights a cut is possible.

use super::queue::Queue;
use crate::error::Error;
use crate::evnode::generation::{Generation, Marks};
use crate::evnode::hash::Hash;
use crate::evnode::key::Mark;
use crate::evnode::record::Version;
use std::collections::BTreeMap;

/// How sure the upper end of the entries is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Head {
    /// One state of a datastore: it is whole up to its tip.
    #[default]
    Exact,
    /// A stream that is whole up to this height.
    Complete(u64),
    /// A stream of which nobody knows. It is whole where the first of its families ends.
    Unknown,
}

/// The heights of one family.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) lowest: Option<u64>,
    pub(super) highest: Option<u64>,
}

impl Span {
    pub(super) fn see(&mut self, height: u64) {
        self.lowest = Some(self.lowest.map_or(height, |lowest| lowest.min(height)));
        self.highest = Some(self.highest.map_or(height, |highest| highest.max(height)));
    }

    /// Is there anything above `height`?
    pub(super) fn passes(&self, height: u64) -> bool {
        self.highest.is_some_and(|highest| highest > height)
    }
}

/// A header, as far as the cut needs it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Block {
    /// Of the entry.
    pub(super) version: u64,
    /// The header's hash.
    pub(super) hash: Hash,
    pub(super) time: u64,
    pub(super) app_hash: Vec<u8>,
    pub(super) proposer: Vec<u8>,
    pub(super) chain_id: String,
}

/// A state, as far as the cut needs it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct After {
    pub(super) height: u64,
    pub(super) version: Version,
    pub(super) da_height: u64,
    pub(super) app_hash: Vec<u8>,
    pub(super) names_proposer: bool,
}

/// Something of a record that may be unreadable: then the reason.
pub(super) type Read<T> = Option<Result<T, String>>;

/// What is known of one go-header store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sync {
    /// The heights in it.
    pub(super) heights: Span,
    /// What it has for H is H's hash.
    pub(super) names_block: bool,
    /// The header or data with that hash is there.
    pub(super) has_block: bool,
}

/// What a survey has learnt of the entries, for a cut at one height.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub(super) height: u64,
    pub(super) tip: Option<u64>,
    pub(super) headers: Span,
    pub(super) data: Span,
    pub(super) signatures: Span,
    pub(super) states: Span,
    /// What the index names.
    pub(super) index: Span,
    /// Block H and the one after it.
    pub(super) block: Read<Block>,
    pub(super) next: Read<Block>,
    pub(super) has_data: Read<Hash>,
    /// How long the signature of block H is; 0: nobody has signed it, the sequencer is a based one.
    pub(super) signature: Option<usize>,
    /// The same of the block after it.
    pub(super) next_signature: Option<usize>,
    /// The state at H, the nearest one below it, and any.
    pub(super) state: Read<After>,
    /// The value of that state where it does not say where the node stood on DA.
    pub(super) silent: Option<Vec<u8>>,
    /// The highest DA height of any state up to H; 0: none says one.
    pub(super) da_floor: u64,
    pub(super) below: Option<After>,
    pub(super) any_state: Option<After>,
    pub(super) initial_height: Option<u64>,
    pub(super) marks: BTreeMap<Mark, u64>,
    /// The heights of the pending header and data; 0 where they cannot be read.
    pub(super) pending: [Option<u64>; 2],
    pub(super) sync: [Sync; 2],
    pub(super) checkpoints: bool,
    pub(super) seen: Marks,
    pub(super) queue: Queue,
    pub(super) blocks_of_evnode: bool,
    /// Only some of the entries were seen.
    pub(super) of_some: bool,
    /// Where the values that were asked for are.
    pub(super) same_time: Option<u64>,
    pub(super) same_root: Option<u64>,
}

impl Facts {
    /// The first block that there ever was, as far as anything says it.
    pub fn first_height(&self) -> u64 {
        self.initial_height.or(self.headers.lowest).unwrap_or(1).max(1)
    }

    /// The first block that must be there.
    pub(super) fn base(&self) -> u64 {
        let first = self.first_height();
        self.marks.get(&Mark::PrunedBlocks).map_or(first, |pruned| first.max(pruned.saturating_add(1)))
    }

    /// The heights at which this can be cut, lowest and highest; `None` where there are no blocks.
    pub fn range(&self, head: Head) -> Option<(u64, u64)> {
        let highest = self.headers.highest?;
        let top = match head {
            Head::Exact => self.tip.unwrap_or(highest),
            Head::Complete(height) => height,
            Head::Unknown => self.end().unwrap_or(highest),
        };
        let top = top.min(highest);
        // A thin store may have no mark.
        let lowest = self.headers.lowest.filter(|_| !self.of_some);
        let base = self.base().max(lowest.unwrap_or(0));
        (base <= top).then_some((base, top))
    }

    /// As if the tip were another.
    #[must_use]
    pub fn with_tip(self, height: u64) -> Self {
        Self { tip: Some(height), ..self }
    }

    /// Where the first family of blocks ends, as the chain checker has it; a family of which there is nothing is no end.
    pub fn end(&self) -> Option<u64> {
        let spans = [self.headers, self.data, self.signatures, self.index];
        let ends = spans.into_iter().map(|span| span.highest).chain([self.tip]);
        // The state that the chain begins with, which pruning leaves, is none of a block.
        let of_blocks = |height: &u64| *height >= self.initial_height.unwrap_or(0).max(1);
        ends.chain([self.states.highest.filter(of_blocks)]).flatten().min()
    }

    /// The height of the survey.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// What `/0/t` says.
    pub fn tip(&self) -> Option<u64> {
        self.tip
    }

    /// Are there keys of ev-node's, be it without blocks?
    pub fn is_of_evnode(&self) -> bool {
        self.blocks_of_evnode || self.generation() == Some(Generation::PreRelease)
    }

    /// Are there keys of ev-node's main store?
    pub fn has_chain(&self) -> bool {
        self.blocks_of_evnode
    }

    /// The newest release that has left a mark.
    pub fn generation(&self) -> Option<Generation> {
        self.seen.newest()
    }

    /// The chain's name, as block H has it.
    pub fn chain_id(&self) -> Option<&str> {
        self.block().map(|block| block.chain_id.as_str())
    }

    /// The hash of header H.
    pub fn hash(&self) -> Option<Hash> {
        self.block().map(|block| block.hash)
    }

    /// The version of header H.
    pub fn version(&self) -> Option<u64> {
        self.block().map(|block| block.version)
    }

    /// The time of block H, Unix nanoseconds.
    pub fn time(&self) -> Option<u64> {
        self.block().map(|block| block.time)
    }

    /// The app's state after block H: what its state says, or where that was pruned, the block after it.
    pub fn app_hash(&self) -> Option<&[u8]> {
        let state = self.state.as_ref().and_then(|state| state.as_ref().ok()).map(|state| &*state.app_hash);
        state.or_else(|| self.next.as_ref()?.as_ref().ok().map(|next| &*next.app_hash))
    }

    /// A block whose time has the seconds that were asked for.
    pub fn same_time(&self) -> Option<u64> {
        self.same_time
    }

    /// A block after which the app's state has the root that was asked for.
    pub fn same_root(&self) -> Option<u64> {
        self.same_root
    }

    /// Is anything of a block above H?
    pub fn goes_on(&self) -> bool {
        self.passes(self.height)
    }

    /// Does the index name a block above `height`?
    pub fn names_above(&self, height: u64) -> bool {
        self.index.passes(height)
    }

    /// Is all that is above H the next block in the making, as releases up to v1.0.0-rc.4 keep it? Its signature is empty, and nothing names it.
    pub fn ends_in_the_making(&self) -> bool {
        let next = self.height.saturating_add(1);
        let kept = [self.headers, self.data, self.signatures].iter().all(|span| !span.passes(next));
        let named = self.index.passes(self.height)
            || self.states.passes(self.height)
            || self.tip.is_some_and(|tip| tip > self.height);
        kept && !named && self.next_signature == Some(0) && self.pending == [None; 2]
    }

    /// Is anything of a block above `height`?
    pub fn passes(&self, height: u64) -> bool {
        let spans = [self.headers, self.data, self.signatures, self.states];
        self.tip.is_some_and(|tip| tip > height) || spans.iter().any(|span| span.passes(height))
    }

    fn block(&self) -> Option<&Block> {
        self.block.as_ref().and_then(|block| block.as_ref().ok())
    }
}

/// Why `height` cannot be had, with what can.
pub fn out_of_range(height: u64, ranges: &[(u64, u64)]) -> Error {
    let ranges: Vec<String> = joined(ranges)
        .into_iter()
        .map(|(low, high)| if low == high { low.to_string() } else { format!("{low} to {high}") })
        .collect();
    match ranges.as_slice() {
        [] => Error::missing(format!("expected a chain that is whole at height {height}, found none"))
            .with_hint("verify says what is missing"),
        ranges => Error::invalid(format!("expected a height within {}, found {height}", ranges.join(", ")))
            .with_hint(
                "what is above comes with a later increment; what is below was pruned before the backup",
            ),
    }
}

/// Ranges that touch are one.
fn joined(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (low, high) in sorted {
        match joined.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => joined.push((low, high)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_had_is_printed() {
        let text = |ranges: &[(u64, u64)]| out_of_range(7, ranges).to_string();
        assert_eq!(text(&[(10, 20), (15, 30)]), "expected a height within 10 to 30, found 7");
        assert_eq!(text(&[(40, 40), (10, 20), (21, 22)]), "expected a height within 10 to 22, 40, found 7");
        assert!(text(&[]).ends_with("found none"));
        assert_eq!(out_of_range(7, &[(8, 9)]).code(), "invalid-argument");
    }
}
