//! From facts and options to a cut, or to why there can be none.

use super::changes::{Action, Change, Changes, Why};
use super::facts::{Block, Facts};
use super::{Options, Role, advice};
use crate::entry::OwnedEntry;
use crate::error::{Error, Result};
use crate::evnode::generation::Generation;
use crate::evnode::key::{Key, Mark};
use crate::evnode::record::{Checkpoint, State, Timestamp};

/// What becomes of one go-header store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SyncPlan {
    /// Nothing in it is above the cut.
    Stays,
    /// It is cut, and its head has this hash.
    Ends([u8; 32]),
    /// It goes.
    Goes,
}

/// A cut at a height: judges entries, and says what is to be added and what it has changed.
///
/// ```
/// use evbackup::evnode::cut::{Options, Survey, Verdict};
/// use evbackup::evnode::sample::Sample;
///
/// let sample = Sample::with_blocks(12);
/// let mut survey = Survey::new(7);
/// sample.entries().for_each(|entry| survey.feed(&entry));
/// let mut cut = survey.finish().cut(Options::default())?;
/// let kept = sample.entries().filter(|entry| cut.judge(entry) == Verdict::Keep).count();
/// // Of each of 7 blocks five, the state before the first; and the new tip is added.
/// assert_eq!((kept, cut.added().len()), (7 * 5 + 1, 1));
/// assert!(cut.changes().iter().any(|change| change.family.name() == "tip"));
/// # Ok::<(), evbackup::error::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cut {
    pub(super) facts: Facts,
    pub(super) options: Options,
    /// Anything of a block is above.
    pub(super) goes_on: bool,
    /// What is not in the source like this, in the order of keys.
    pub(super) added: Vec<OwnedEntry>,
    /// Where the node stands on DA after the block; 0: not known.
    pub(super) da_height: u64,
    /// Only the first block on DA says it.
    pub(super) da_guessed: bool,
    pub(super) keeps_pending: bool,
    pub(super) sync: [SyncPlan; 2],
    /// Blocks up to here were pruned while the stream ran.
    pub(super) pruned: Option<u64>,
    pub(super) changes: Changes,
    /// Transactions of blocks that go.
    pub(super) removed_transactions: u64,
}

impl Facts {
    /// Makes a cut of it. Whether the height is within the [range](Facts::range) is asked before.
    pub fn cut(self, options: Options) -> Result<Cut> {
        self.refuse_generation()?;
        let block = self.whole_block()?;
        let goes_on = self.goes_on() || options.torn;
        let (da_height, da_guessed) = self.da_height(&options);
        let mends = goes_on || options.lacks_checkpoint;
        let made = self.state_after(&block, da_height, mends)?;
        self.refuse_public(&options)?;
        if options.requeue && !self.has_numbered_queue() {
            return Err(Error::unsupported(
                "expected a database of v1.0.0-rc.1 or later to requeue, found an older one",
            )
            .with_hint("leave requeue out"));
        }
        let after = |pending: Option<u64>| pending == self.height.checked_add(1);
        let not_above =
            |pending: Option<u64>| pending.is_none_or(|height| height <= self.height.saturating_add(1));
        let keeps_pending = if goes_on {
            self.pending.into_iter().all(after)
        } else {
            self.pending.into_iter().all(not_above)
        };
        let mut cut = Cut {
            goes_on,
            added: Vec::new(),
            da_height: if made.is_some() { da_height } else { self.stated_da_height() },
            da_guessed: da_guessed && made.is_some(),
            keeps_pending,
            sync: self.sync_plans(&block),
            pruned: self.pruned_meanwhile(&options),
            changes: Changes::default(),
            removed_transactions: 0,
            options,
            facts: self,
        };
        cut.add_all(&block, made);
        Ok(cut)
    }

    /// Refuses what is of no release whose chains are cut, by name.
    pub fn refuse_generation(&self) -> Result<()> {
        let expected = "expected blocks of v1.0.0-beta.9 or later to cut at a height";
        let hint = "restore it whole: leave at_height out";
        match self.generation() {
            Some(Generation::C | Generation::D | Generation::E | Generation::F) => Ok(()),
            Some(old) => {
                Err(Error::unsupported(format!("{expected}, found a database of {}", old.tags()))
                    .with_hint(hint))
            }
            None => Err(Error::unsupported(format!("{expected}, found none")).with_hint(hint)),
        }
    }

    /// Block H, if all of it is there.
    fn whole_block(&self) -> Result<Block> {
        let height = self.height;
        let damaged = |found: &str, key: Key<'_>| {
            Error::damaged(format!("expected block {height} to cut at, found {found} at key {key}"))
                .with_hint("verify says what else is wrong; another height may do")
        };
        let block = match &self.block {
            Some(Ok(block)) => block.clone(),
            Some(Err(why)) => {
                return Err(damaged(&format!("a header that cannot be read ({why})"), Key::Header(height)));
            }
            None => return Err(damaged("no header", Key::Header(height))),
        };
        match &self.has_data {
            Some(Ok(_)) => {}
            Some(Err(why)) => {
                return Err(damaged(&format!("data that cannot be read ({why})"), Key::Data(height)));
            }
            None => return Err(damaged("no data", Key::Data(height))),
        }
        if self.signature.is_none() {
            return Err(damaged("no signature", Key::Signature(height)));
        }
        Ok(block)
    }

    /// Where the node stands on DA after block H where no state at H says it, and whether the first block on DA is all that does. Too low
    /// means that DA is read again, too high that blocks are missed, and 0 that a sequencer reads nothing of it.
    fn da_height(&self, options: &Options) -> (u64, bool) {
        let first = self.marks.get(&Mark::GenesisDa).copied().unwrap_or_default();
        match [self.da_floor, options.da_start_height, first] {
            [0, 0, first] => (first, first > 0),
            [0, start, _] => (start, false),
            [floor, ..] => (floor, false),
        }
    }

    /// What the state at H says.
    fn stated_da_height(&self) -> u64 {
        self.state.as_ref().and_then(|state| state.as_ref().ok()).map_or(0, |state| state.da_height)
    }

    /// The state after block H where it must be made anew: it is not there, or it does not say where the node stood on DA and `mends` is asked.
    fn state_after(
        &self,
        block: &Block,
        da_height: u64,
        mends: bool,
    ) -> Result<Option<(Vec<u8>, Action, Why)>> {
        let height = self.height;
        match &self.state {
            Some(Ok(_)) => {
                let silent = self.silent.as_ref().filter(|_| mends && da_height > 0);
                let Some(silent) = silent else { return Ok(None) };
                let mut value = Vec::new();
                State { da_height, ..State::decode(silent)? }.encode(&mut value);
                return Ok(Some((value, Action::Rewritten, Why::DaHeight(da_height))));
            }
            Some(Err(why)) => {
                let key = Key::State(height);
                return Err(Error::damaged(format!("expected the state after block {height}, found one that cannot be read ({why}) at key {key}"))
                    .with_hint("another height may do"));
            }
            None => {}
        }
        let Some(Ok(next)) = &self.next else {
            let pruned = self.marks.get(&Mark::PrunedStates).copied().unwrap_or_default();
            let why = if pruned >= height { "pruned" } else { "not there" };
            return Err(Error::missing(format!(
                "expected the state after block {height}, or block {} to rebuild it from, found neither: the state is {why}",
                height.saturating_add(1)
            ))
            .with_hint("cut at another height"));
        };
        let like = self.below.as_ref().or(self.any_state.as_ref());
        let names_proposer = like.is_none_or(|like| like.names_proposer);
        let state = State {
            version: like.map(|like| like.version).unwrap_or_default(),
            chain_id: &block.chain_id,
            initial_height: self.initial_height.unwrap_or(1),
            last_block_height: height,
            last_block_time: Some(Timestamp::from_nanos(block.time)),
            da_height,
            app_hash: &next.app_hash,
            last_header_hash: &block.hash,
            next_proposer_address: if names_proposer { &next.proposer } else { &[] },
            ..State::default()
        };
        let mut value = Vec::new();
        state.encode(&mut value);
        Ok(Some((value, Action::Added, Why::Rebuilt)))
    }

    /// Blocks that are public on DA are not made anew by an aggregator.
    fn refuse_public(&self, options: &Options) -> Result<()> {
        let included = self.marks.get(&Mark::DaIncluded).copied().unwrap_or_default();
        if included <= self.height || options.force || options.role == Some(Role::Follower) {
            return Ok(());
        }
        let what = format!(
            "expected a height of at least {included}, up to which blocks are public on DA, found {}",
            self.height
        );
        Err(match options.role {
            Some(_) => Error::mismatch(what).with_hint(
                "an aggregator that starts below makes rival blocks: restore a follower, or say force=True if the chain is to be forked",
            ),
            None => Error::invalid(what).with_hint(
                "say role=\"follower\" if the node will take its blocks from DA and peers; an aggregator would make rival blocks",
            ),
        })
    }

    fn has_numbered_queue(&self) -> bool {
        self.queue.has_numbers() || !matches!(self.generation(), Some(Generation::C))
    }

    fn sync_plans(&self, block: &Block) -> [SyncPlan; 2] {
        let data = self.has_data.as_ref().and_then(|hash| hash.as_ref().ok()).copied();
        let hashes = [Some(block.hash), data];
        let mut plans = [SyncPlan::Stays; 2];
        for ((plan, sync), hash) in plans.iter_mut().zip(&self.sync).zip(hashes) {
            if sync.heights.passes(self.height) {
                let ends = hash.filter(|_| sync.names_block && sync.has_block);
                *plan = ends.map_or(SyncPlan::Goes, SyncPlan::Ends);
            }
        }
        plans
    }

    /// A stream that was read while the node pruned may have the old mark and no longer the blocks.
    fn pruned_meanwhile(&self, options: &Options) -> Option<u64> {
        let spans = [self.headers, self.data, self.signatures];
        let first = spans.iter().filter_map(|span| span.lowest).max()?;
        (options.torn && first > self.base() && first <= self.height).then(|| first - 1)
    }
}

impl Cut {
    /// What is to be put among the entries: the tip, and what must be made anew.
    fn add_all(&mut self, block: &Block, state: Option<(Vec<u8>, Action, Why)>) {
        let height = self.facts.height;
        let mut add = |key: Key<'_>, value: Vec<u8>, action: Action, why: Why| {
            self.changes.note(&key, action, why);
            let (key, version) = (key.to_bytes(), block.version);
            self.added.push(OwnedEntry { key, version, value, ..OwnedEntry::default() });
        };
        if self.facts.tip != Some(height) {
            let action = if self.facts.tip.is_some() { Action::Rewritten } else { Action::Added };
            add(Key::Tip, height.to_le_bytes().to_vec(), action, Why::Tip(self.facts.tip));
        }
        if let Some((state, action, why)) = state {
            add(Key::State(height), state, action, why);
        }
        if let Some(pruned) = self.pruned {
            let mark = Mark::PrunedBlocks;
            let action = if self.facts.marks.contains_key(&mark) { Action::Rewritten } else { Action::Added };
            add(Key::Mark(mark), pruned.to_le_bytes().to_vec(), action, Why::PrunedMeanwhile(pruned));
        }
        let lacks = self.options.lacks_checkpoint && !self.facts.checkpoints && self.da_height > 0;
        if lacks && self.options.role == Some(Role::Aggregator) {
            let value = Checkpoint { da_height: self.da_height, tx_index: 0 }.encode();
            let key =
                if self.facts.signature == Some(0) { Key::BasedCheckpoint } else { Key::SingleCheckpoint };
            add(key, value, Action::Added, Why::NoCheckpoint(self.da_height));
        }
        self.added.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    }

    /// What is to be put among the entries, in the order of keys. The source's entries of these keys are dropped.
    pub fn added(&self) -> &[OwnedEntry] {
        &self.added
    }

    /// The height.
    pub fn height(&self) -> u64 {
        self.facts.height
    }

    /// What was learnt before.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What was changed so far, and why.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.list(self.facts.height)
    }

    /// What may go wrong with what was made, in words.
    pub fn dangers(&self) -> Vec<String> {
        advice::dangers(self)
    }

    /// What is to be done before the node starts, in words.
    pub fn next_steps(&self) -> Vec<String> {
        advice::next_steps(self)
    }
}
