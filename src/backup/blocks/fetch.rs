//! Asks for the blocks, upwards and many at a time, and holds each against the one before it.
//!
//! How many is bounded by bytes: a call takes room for the longest reply that it will accept, and its block keeps it until it is recorded.
//! Replies are expected to be short at first; one that says to be longer is refused before it is kept, asked for again alone, and the
//! calls after it take more room each.

use super::Way;
use super::plan::Plan;
use super::rest::{End, Metadata};
use super::whole::{Whole, da_heights, fetch};
use super::window::Window;
use crate::base::checksum::{sha256, sha256_hex};
use crate::base::progress::Progress;
use crate::error::{Error, Kind, Result};
use crate::evnode::block::{Block, Seal};
use crate::evnode::hash::Hash;
use crate::evnode::key::{Mark, Part};
use crate::evnode::record::State;
use crate::rpc::{DAMAGED_HINT, Found, MAX_REPLY, Reader};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest replies that are waited for together, and what one of them may have, in MiB.
const LANES: [u32; 3] = [1, 8, 32];
/// Room for all replies that are on their way or wait to be recorded, in MiB.
const ROOM: u32 = 96;
/// Calls at a time; a node takes a hundred streams on one connection.
const CALLS: usize = 64;
/// The same for blocks that take several calls each.
const RAW_BLOCKS: usize = 10;
/// After so many replies that would have fitted in less, they are given less.
const CALM: u32 = 64;
/// Replies above the last lane that are held at once: one that is recorded, one that is held against it.
const LARGE: usize = 2;

/// What goes to the recording thread.
pub(super) enum Item {
    /// The next block.
    Block(Box<Copied>),
    /// Where a block of an earlier segment, or one that was copied too early, was included on DA.
    DaHeight(u64, Part, u64),
    /// The end.
    Rest(Rest),
}

/// Everything of a block.
pub(super) struct Copied {
    pub(super) height: u64,
    pub(super) header: Bytes,
    pub(super) data: Bytes,
    pub(super) signature: Bytes,
    /// Its name in the index; none where the node has none.
    pub(super) index: Option<Hash>,
    /// The state after it; none where the node has none.
    pub(super) state: Option<Bytes>,
    /// The state before it, if it is the first of the chain.
    pub(super) before: Option<Bytes>,
    /// Where header and data were included on DA; 0: not known.
    pub(super) da_heights: [u64; 2],
    _room: OwnedSemaphorePermit,
}

/// What is known at the end.
pub(super) struct Rest {
    /// The height that the copy ends at.
    pub(super) height: u64,
    /// SHA-256 of the stored header there.
    pub(super) hash: Hash,
    /// The entries that belong to no block; none where there is nothing new.
    pub(super) entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Blocks of the copy up to here were pruned meanwhile.
    pub(super) pruned: u64,
    /// Up to here DA heights are final.
    pub(super) included: u64,
    /// What the operator should know.
    pub(super) notes: Vec<String>,
}

/// The recording thread has ended.
struct Gone;

type Sent = Result<(), Gone>;

/// How much room a call takes.
struct Lanes {
    at: usize,
    calm: u32,
}

impl Lanes {
    fn room(&self) -> u32 {
        LANES.get(self.at).copied().unwrap_or(ROOM)
    }

    /// Learns from the length of a reply.
    fn was(&mut self, bytes: usize) {
        let fits = LANES.iter().position(|room| bytes < bytes_of(*room)).unwrap_or(LANES.len() - 1);
        if fits >= self.at {
            (self.at, self.calm) = (fits, 0);
            return;
        }
        self.calm += 1;
        if self.calm >= CALM {
            (self.at, self.calm) = (self.at.saturating_sub(1), 0);
        }
    }
}

fn bytes_of(mib: u32) -> usize {
    (mib as usize) << 20
}

/// Copies what a plan says.
pub(super) struct Fetcher<'a> {
    reads: Reader,
    plan: &'a Plan,
    sender: Sender<Item>,
    progress: &'a Progress,
    room: Arc<Semaphore>,
    large: Arc<Semaphore>,
    lanes: Lanes,
    window: Window<(u64, OwnedSemaphorePermit), Found<Box<Whole>>>,
    /// The next height to ask for.
    next: u64,
    /// The newest block, which waits for the one after it: that one says what state it left.
    held: Option<(Box<Whole>, OwnedSemaphorePermit)>,
    /// The newest block that was handed on.
    sent: Option<(u64, Hash)>,
    pruned: u64,
    unsigned: u64,
    unverifiable: u64,
    unindexed: u64,
    /// The block that does not name the one before it, behind a based sequencer's.
    unlinked: Option<u64>,
    /// Where the node stood on DA after the newest block that was handed on; 0: not known.
    da_height: u64,
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(reads: Reader, plan: &'a Plan, sender: Sender<Item>, progress: &'a Progress) -> Self {
        Self {
            reads,
            plan,
            sender,
            progress,
            room: Arc::new(Semaphore::new(ROOM as usize)),
            large: Arc::new(Semaphore::new(LARGE)),
            lanes: Lanes { at: 0, calm: 0 },
            window: Window::new(),
            next: plan.first,
            held: None,
            sent: None,
            pruned: plan.pruned,
            unsigned: 0,
            unverifiable: 0,
            unindexed: 0,
            unlinked: None,
            da_height: 0,
        }
    }

    /// Copies. Where the node is gone for good half-way, what was copied of it is whole up to a height: with `early` it ends there.
    pub(super) async fn run(&mut self, early: bool) -> Result<()> {
        match self.copy_all().await {
            Err(error) if early && error.kind() == Kind::Unavailable => {
                let sent = self.sent.filter(|(height, _)| *height > self.pruned);
                let Some((height, hash)) = sent else { return Err(error) };
                self.end_early(height, hash, &error).await;
                Ok(())
            }
            result => result,
        }
    }

    async fn copy_all(&mut self) -> Result<()> {
        let tip = self.plan.tip.height;
        let mut height = self.plan.first;
        while height <= tip {
            let Some((whole, room)) = self.take().await? else {
                height = self.passed_by_pruning(height).await?;
                continue;
            };
            if self.accept(whole, room).await?.is_err() {
                return Ok(());
            }
            self.progress.set_height(height);
            height += 1;
        }
        // Whoever does not listen any more knows why.
        let _ = self.finish().await?;
        Ok(())
    }

    /// The next block; `None` where the node has none.
    async fn take(&mut self) -> Result<Option<(Box<Whole>, OwnedSemaphorePermit)>> {
        self.fill().await?;
        let Some(((height, room), answer)) = self.window.next().await else {
            return Err(Error::io("expected a call on its way, found none"));
        };
        let found = match answer? {
            Found::Here(whole) => Some((whole, room)),
            Found::Nowhere => None,
            Found::TooLong => {
                drop(room);
                let room = acquire(&self.large, 1).await?;
                match fetch(self.reads.clone(), self.plan.way, height, MAX_REPLY).await? {
                    Found::Here(whole) => Some((whole, room)),
                    _ => None,
                }
            }
        };
        if let Some((whole, _)) = &found {
            self.lanes.was(whole.len());
        }
        Ok(found)
    }

    async fn fill(&mut self) -> Result<()> {
        let most = if self.plan.way == Way::Raw { RAW_BLOCKS } else { CALLS };
        while self.next <= self.plan.tip.height && self.window.len() < most {
            let room = if self.window.len() == 0 {
                acquire(&self.room, self.lanes.room()).await?
            } else {
                match Arc::clone(&self.room).try_acquire_many_owned(self.lanes.room()) {
                    Ok(room) => room,
                    Err(_) => break,
                }
            };
            let limit = bytes_of(self.lanes.room());
            let call = fetch(self.reads.clone(), self.plan.way, self.next, limit);
            self.window.begin((self.next, room), call);
            self.next += 1;
        }
        Ok(())
    }

    /// Holds a block against the one before it, and hands that one on.
    async fn accept(&mut self, whole: Box<Whole>, room: OwnedSemaphorePermit) -> Result<Sent> {
        let block = &whole.block;
        let linked = match self.last() {
            None => self.begins(block).map(|()| false),
            Some(last) if self.unlinked.is_none() => block.follows_or_leaves_based(last),
            Some(last) => block.follows(last).map(|()| false),
        };
        match linked {
            Ok(true) => self.unlinked = Some(block.height),
            Ok(false) => {}
            Err(error) => return Err(self.why_unlinked(error).await),
        }
        self.unsigned += u64::from(block.seal == Seal::None);
        self.unverifiable += u64::from(block.seal == Seal::Unverifiable);
        self.unindexed += u64::from(whole.index.is_none());
        let Some((held, held_room)) = self.held.take() else {
            self.held = Some((whole, room));
            return Ok(Ok(()));
        };
        let state = match (self.plan.way, &held.state) {
            (Way::Blocks, _) => Some(Bytes::from(self.plan.state_between(&held.block, block))),
            (Way::Raw, state) => state.clone(),
        };
        self.held = Some((whole, room));
        Ok(self.hand_on(held, held_room, state).await)
    }

    /// A block that does not follow the one before it: was the node rolled back between the two?
    async fn why_unlinked(&self, error: Error) -> Error {
        let tip = &self.plan.tip;
        match self.reads.block(tip.height, MAX_REPLY).await {
            Ok(Found::Here(now)) if sha256(&now.header) == tip.index => error.with_hint(DAMAGED_HINT),
            Ok(_) => rolled_back(error.what().to_owned()),
            Err(other) => other,
        }
    }

    /// The block before the next one, where it is known.
    fn last(&self) -> Option<&Block> {
        match &self.held {
            Some((held, _)) => Some(&held.block),
            None if self.sent.is_none() && self.next_is_first() => self.plan.last.as_ref(),
            None => None,
        }
    }

    fn next_is_first(&self) -> bool {
        self.pruned == self.plan.pruned
    }

    /// A block without one before it.
    fn begins(&self, block: &Block) -> Result<()> {
        if block.chain_id != self.plan.tip.chain_id {
            return Err(Error::damaged(format!(
                "block {}: expected chain id {}, found {}",
                block.height,
                self.plan.tip.chain_id.escape_debug(),
                block.chain_id.escape_debug()
            )));
        }
        if block.height == self.plan.initial && !block.last_header_hash.is_empty() {
            let height = block.height;
            return Err(Error::damaged(format!(
                "block {height}: expected the chain's first block, without a last header hash, found one with it"
            )));
        }
        Ok(())
    }

    async fn hand_on(&mut self, whole: Box<Whole>, room: OwnedSemaphorePermit, state: Option<Bytes>) -> Sent {
        let height = whole.block.height;
        let stood = state.as_ref().and_then(|state| State::decode(state).ok());
        self.da_height = stood.map_or(0, |state| state.da_height);
        let known = whole.before.clone();
        let rebuilt = || Bytes::from(self.plan.state_before(&whole.block));
        let before = (height == self.plan.initial).then(|| known.unwrap_or_else(rebuilt));
        self.sent = Some((height, whole.block.index));
        self.send(Item::Block(Box::new(Copied {
            height,
            header: whole.header,
            data: whole.data,
            signature: whole.signature,
            index: whole.index,
            state,
            before,
            da_heights: whole.da_heights,
            _room: room,
        })))
        .await
    }

    async fn send(&self, item: Item) -> Sent {
        self.sender.send(item).await.map_err(|_| Gone)
    }

    /// The node has no block at a height: has it pruned it meanwhile? The height to go on at.
    async fn passed_by_pruning(&mut self, height: u64) -> Result<u64> {
        let mark = Metadata::read(&self.reads).await?.mark(Mark::PrunedBlocks);
        let tip = self.plan.tip.height;
        if mark < height {
            self.expect_tip().await?;
            let what =
                format!("block {height}: expected it at the node, found none, though it is not pruned");
            return Err(Error::damaged(what)
                .with_hint("the node's datastore has a gap: back up another node, or this one's directory"));
        }
        if mark >= tip {
            return Err(pruned_too_fast(mark, tip));
        }
        self.window.clear();
        self.held = None;
        self.pruned = mark;
        self.next = mark.saturating_add(1);
        Ok(self.next)
    }

    /// Does the node still have the tip that the copy ends at? The tip that it has now.
    async fn expect_tip(&self) -> Result<u64> {
        let tip = self.plan.tip.height;
        let state = self.reads.state().await?.unwrap_or_default();
        let now = state.last_block_height;
        if now == tip && state.app_hash != self.plan.state.app_hash {
            return Err(rolled_back(format!(
                "state {tip}: expected the app hash that it had, found another"
            )));
        }
        if now >= tip {
            return Ok(now);
        }
        Err(rolled_back(format!("expected a tip of at least {tip}, as before, found {now}")))
    }

    async fn finish(&mut self) -> Result<Sent> {
        let tip = self.plan.tip.height;
        let metadata = Metadata::read(&self.reads).await?;
        self.check_after_tip().await?;
        let Some((mut held, room)) = self.held.take() else {
            // Nothing is new.
            let included = self.plan.included.unwrap_or(0);
            return Ok(self.send_rest(tip, self.plan.tip.index, Vec::new(), included).await);
        };
        if held.block.index != self.plan.tip.index {
            return Err(rolled_back(format!(
                "block {tip}: expected the one that was the tip, found another"
            )));
        }
        let pruned = metadata.mark(Mark::PrunedBlocks).max(self.pruned);
        if pruned >= tip {
            return Err(pruned_too_fast(pruned, tip));
        }
        self.pruned = pruned;
        let included = metadata.mark(Mark::DaIncluded).min(tip);
        let da_heights = std::mem::take(&mut held.da_heights);
        let again = tip > self.plan.metadata.mark(Mark::DaIncluded) && included == tip;
        if !again && self.send_da_heights(tip, da_heights).await.is_err() {
            return Ok(Err(Gone));
        }
        if self.read_da_heights(included).await?.is_err() {
            return Ok(Err(Gone));
        }
        let state = match (self.plan.way, held.state.take()) {
            (Way::Raw, Some(state)) => state,
            _ => Bytes::from(self.plan.tip_state()),
        };
        if self.hand_on(held, room, Some(state)).await.is_err() {
            return Ok(Err(Gone));
        }
        let end = self.end(tip, self.plan.state.da_height);
        Ok(self.send_rest(tip, self.plan.tip.index, metadata.cut(&end), included).await)
    }

    fn end(&self, height: u64, da_height: u64) -> End {
        End { height, pruned: self.pruned, da_height, based: self.plan.is_based() }
    }

    /// The block after the tip, if there is one by now, says whether the node's word on the state was true.
    async fn check_after_tip(&mut self) -> Result<()> {
        let tip = &self.plan.tip;
        let height = tip.height.saturating_add(1);
        // Old releases have an unsigned block above the tip.
        if self.expect_tip().await? < height {
            return Ok(());
        }
        let Found::Here(next) = self.reads.block(height, MAX_REPLY).await? else {
            return Ok(());
        };
        let next = Block::read(height, &next.header, &next.data)?;
        let linked = match self.unlinked {
            None => next.follows_or_leaves_based(tip),
            Some(_) => next.follows(tip).map(|()| false),
        };
        if linked.map_err(|error| rolled_back(error.what().to_owned()))? {
            self.unlinked = Some(height);
        }
        let tip = &self.plan.tip;
        if next.app_hash == self.plan.state.app_hash {
            return Ok(());
        }
        Err(Error::damaged(format!(
            "state {}: expected the app hash of block {height} (SHA-256 {}), found another (SHA-256 {})",
            tip.height,
            sha256_hex(&next.app_hash),
            sha256_hex(&self.plan.state.app_hash)
        ))
        .with_hint(DAMAGED_HINT))
    }

    /// DA heights of blocks that were copied before they were final: of the base, and of this copy since it began.
    async fn read_da_heights(&mut self, included: u64) -> Result<Sent> {
        let (first, began) = (self.plan.first, self.plan.metadata.mark(Mark::DaIncluded));
        let known = self.plan.included.unwrap_or(u64::MAX).max(self.pruned);
        let of_base = known.saturating_add(1)..first.min(included.saturating_add(1));
        let of_copy = first.max(began.saturating_add(1)).max(self.pruned.saturating_add(1))..=included;
        let mut heights = of_base.chain(of_copy);
        let mut window = Window::<u64, [u64; 2]>::new();
        loop {
            while window.len() < CALLS / 2
                && let Some(height) = heights.next()
            {
                window.begin(height, da_heights(self.reads.clone(), height));
            }
            let Some((height, found)) = window.next().await else { return Ok(Ok(())) };
            if self.send_da_heights(height, found?).await.is_err() {
                return Ok(Err(Gone));
            }
        }
    }

    async fn send_da_heights(&self, height: u64, da_heights: [u64; 2]) -> Sent {
        for (part, da_height) in [Part::Header, Part::Data].into_iter().zip(da_heights) {
            if da_height > 0 {
                self.send(Item::DaHeight(height, part, da_height)).await?;
            }
        }
        Ok(())
    }

    async fn end_early(&mut self, height: u64, hash: Hash, error: &Error) {
        let tip = self.plan.tip.height;
        let entries = self.plan.metadata.cut(&self.end(height, self.da_height));
        let began = self.plan.metadata.mark(Mark::DaIncluded).min(height);
        let included = self.plan.included.unwrap_or(began);
        let note = format!(
            "cut short at height {height} of {tip}, up to which it is whole: {}; an increment goes on from there",
            error.what()
        );
        let mut rest = self.rest(height, hash, entries, included);
        rest.notes.push(note);
        let _ = self.send(Item::Rest(rest)).await;
    }

    async fn send_rest(&self, height: u64, hash: Hash, entries: Entries, included: u64) -> Sent {
        self.send(Item::Rest(self.rest(height, hash, entries, included))).await
    }

    fn rest(&self, height: u64, hash: Hash, entries: Entries, included: u64) -> Rest {
        let mut notes = Vec::new();
        for (count, what) in [
            (self.unsigned, "without a signature, as a based sequencer makes them"),
            (
                self.unverifiable,
                "whose signature evbackup cannot verify: the app signs bytes, or has a key, of its own",
            ),
            (self.unindexed, "that the node's index does not have"),
        ] {
            if count > 0 {
                notes.push(format!("{count} blocks {what}"));
            }
        }
        notes.extend(self.unlinked.map(|height| {
            format!(
                "block {height} does not name the one before it, as a chain that has left its based sequencer may have it: verify it with was_based=True"
            )
        }));
        let pruned = if self.pruned >= self.plan.first { self.pruned } else { 0 };
        if pruned > 0 {
            notes.push(format!("the node pruned its blocks up to {pruned} meanwhile: they are not in it"));
        }
        Rest { height, hash, entries, pruned, included, notes }
    }
}

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn rolled_back(what: String) -> Error {
    Error::mismatch(what).with_hint("the node was rolled back meanwhile: take a full backup")
}

fn pruned_too_fast(mark: u64, tip: u64) -> Error {
    Error::incomplete(format!(
        "expected blocks up to {tip}, found that the node has pruned up to {mark} meanwhile"
    ))
    .with_hint(
        "the node prunes faster than its blocks can be copied: let it keep more, or back up its directory",
    )
}

async fn acquire(room: &Arc<Semaphore>, permits: u32) -> Result<OwnedSemaphorePermit> {
    let permit = Arc::clone(room).acquire_many_owned(permits).await;
    permit.map_err(|_| Error::io("expected room for a reply, found none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_at_once_and_shrinks_slowly() {
        let mut lanes = Lanes { at: 0, calm: 0 };
        assert_eq!(lanes.room(), 1);
        lanes.was(3 << 20);
        assert_eq!(lanes.room(), 8);
        lanes.was(200 << 20);
        assert_eq!(lanes.room(), 32);
        for _ in 0..CALM {
            assert_eq!(lanes.room(), 32);
            lanes.was(100);
        }
        assert_eq!(lanes.room(), 8);
        for _ in 1..CALM {
            lanes.was(100);
        }
        lanes.was(5 << 20);
        for _ in 1..CALM {
            lanes.was(100);
            assert_eq!(lanes.room(), 8);
        }
        lanes.was(100);
        assert_eq!(lanes.room(), 1);
    }
}
