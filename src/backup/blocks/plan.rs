//! What there is to copy: fixed before the first block is.

use super::Way;
use super::rest::Metadata;
use crate::backup::session::Question;
use crate::base::checksum::{Sha256, sha256_hex};
use crate::error::{Error, Result};
use crate::evnode::block::{Block, Seal};
use crate::evnode::key::{self, Mark};
use crate::evnode::record::{State, Timestamp, Version};
use crate::flow::increment::Base;
use crate::rpc::{Announced, Found, MAX_REPLY, ReadBlock, ReadState, Reader};

/// What to copy from where to where.
pub(super) struct Plan {
    /// How: not always as it was asked for.
    pub(super) way: Way,
    /// The state after the tip.
    pub(super) state: ReadState,
    /// The tip.
    pub(super) tip: Block,
    /// The height of the chain's first block.
    pub(super) initial: u64,
    /// The first block to copy; above the tip when there is nothing new.
    pub(super) first: u64,
    /// The one before it, where it is known.
    pub(super) last: Option<Block>,
    /// The metadata when the copy began.
    pub(super) metadata: Metadata,
    /// Up to here the base has the final DA heights; with those above it was too early. None without a base.
    pub(super) included: Option<u64>,
    /// At least up to here the copy is pruned.
    pub(super) pruned: u64,
    /// Versions up to this one are left out.
    pub(super) since: u64,
    store_id: Vec<u8>,
    /// What the operator should know.
    pub(super) notes: Vec<String>,
}

impl Plan {
    /// Looks at the node, and holds the base against it.
    pub(super) async fn make(
        reads: &Reader,
        question: &Question,
        base: Option<&Base>,
        way: Way,
    ) -> Result<Self> {
        let place = |error: Error| error.at(reads.place());
        let state = standing(reads).await?;
        let tip_height = state.last_block_height;
        let tip = tip(reads, &state).await.map_err(place)?;
        let mut notes = Vec::new();
        let way = if way == Way::Raw { probed(reads, tip_height, base, &mut notes).await? } else { way };
        let metadata = Metadata::read(reads).await?;
        let initial = state.initial_height.max(1);
        let mut plan = Self {
            way,
            state,
            tip,
            initial,
            first: initial,
            last: None,
            metadata,
            included: None,
            pruned: 0,
            since: question.since,
            store_id: Vec::new(),
            notes,
        };
        match base {
            Some(base) if question.exact => return Err(base_needs_no_exact(base)),
            Some(base) => plan.go_on(reads, base).await?,
            None if question.since > 0 => plan.begin_at(reads, question.since).await?,
            None => {
                plan.begin(reads).await?;
                let first =
                    read(reads, plan.first).await?.ok_or_else(|| vanished(plan.first)).map_err(place)?;
                plan.store_id =
                    store_id(way, &plan.tip.chain_id, &checked(plan.first, &first).map_err(place)?);
            }
        }
        Ok(plan)
    }

    /// What a server would say before the first byte.
    pub(super) fn announced(&self) -> Announced {
        let height = self.tip.height;
        Announced {
            current_height: height,
            pinned_version: Some(version_at(height)),
            store_id: self.store_id.clone(),
            tip_height: Some(height),
            deletes: "exact".to_owned(),
            ..Announced::default()
        }
    }

    /// The id that the copy goes by.
    pub(super) fn store_id(&self) -> &[u8] {
        &self.store_id
    }

    /// The state after the tip, as the node stores it.
    pub(super) fn tip_state(&self) -> Vec<u8> {
        let state = &self.state;
        let (seconds, nanos) = state.last_block_time;
        let state = State {
            version: Version { block: state.version.0, app: state.version.1 },
            chain_id: &state.chain_id,
            initial_height: state.initial_height,
            last_block_height: state.last_block_height,
            last_block_time: Some(Timestamp { seconds, nanos }),
            da_height: state.da_height,
            app_hash: &state.app_hash,
            last_header_hash: &self.tip.hash,
            next_proposer_address: &state.next_proposer_address,
            ..State::default()
        };
        let mut value = Vec::new();
        state.encode(&mut value);
        value
    }

    /// The state after a block, rebuilt from it and the one after it. Where the node stood on DA then is not known: 0 is too low, so that
    /// a node looks again at what it has seen.
    pub(super) fn state_between(&self, block: &Block, next: &Block) -> Vec<u8> {
        self.rebuilt(block.height, block.time, &block.hash, next)
    }

    /// The state before the first block of the chain.
    pub(super) fn state_before(&self, first: &Block) -> Vec<u8> {
        // The first block has the time of the genesis.
        self.rebuilt(first.height.saturating_sub(1), first.time, &[], first)
    }

    fn rebuilt(&self, height: u64, time: u64, hash: &[u8], next: &Block) -> Vec<u8> {
        let names_proposer = !self.state.next_proposer_address.is_empty();
        let state = State {
            version: Version { block: self.state.version.0, app: self.state.version.1 },
            chain_id: &next.chain_id,
            initial_height: self.state.initial_height,
            last_block_height: height,
            last_block_time: Some(Timestamp::from_nanos(time)),
            app_hash: &next.app_hash,
            last_header_hash: hash,
            next_proposer_address: if names_proposer { &next.proposer } else { &[] },
            ..State::default()
        };
        let mut value = Vec::new();
        state.encode(&mut value);
        value
    }

    /// Does nobody sign the blocks?
    pub(super) fn is_based(&self) -> bool {
        self.tip.seal == Seal::None
    }

    /// Everything, from the first block that the node has.
    async fn begin(&mut self, reads: &Reader) -> Result<()> {
        let pruned = self.metadata.mark(Mark::PrunedBlocks);
        self.first = self.initial.max(pruned.saturating_add(1));
        let tip = self.tip.height;
        if self.first > tip {
            let what = format!("expected blocks that are not pruned up to {tip}, found the mark at {pruned}");
            return Err(Error::damaged(what).at(reads.place()));
        }
        if read(reads, self.first).await?.is_some() {
            self.pruned = pruned;
            return Ok(());
        }
        let (mut missing, mut there) = (self.first, tip);
        while there - missing > 1 {
            let middle = missing + (there - missing) / 2;
            if read(reads, middle).await?.is_some() {
                there = middle;
            } else {
                missing = middle;
            }
        }
        self.notes.push(format!(
            "the node has no block below {there}, though its pruning mark is {pruned}: the backup begins there"
        ));
        self.first = there;
        // So that peers, and the node itself, do not look for what is not there.
        self.pruned = there.saturating_sub(1);
        Ok(())
    }

    /// What follows a bare version: nothing proves that it was this chain's.
    async fn begin_at(&mut self, reads: &Reader, since: u64) -> Result<()> {
        let next = version_at(self.tip.height);
        if since > next {
            let what = format!("expected a version up to {next}, found {since}");
            return Err(Error::mismatch(what).with_hint(FULL_HINT).at(reads.place()));
        }
        // Its block has the version before.
        self.first = since.max(self.initial);
        if let Some(height) = self.first.checked_sub(1).filter(|height| *height >= self.initial)
            && let Some(block) = read(reads, height).await?
        {
            self.last = Some(checked(height, &block).map_err(|error| error.at(reads.place()))?);
        }
        Ok(())
    }

    /// What follows the base, whose newest block the node must still have.
    async fn go_on(&mut self, reads: &Reader, base: &Base) -> Result<()> {
        let manifest = &base.manifest;
        let (height, tip) = (manifest.complete_height, self.tip.height);
        if manifest.via != self.way.name() {
            let what = format!("it was taken via {}, this one is via {}", manifest.via, self.way.name());
            return Err(base.mismatch(what));
        }
        if tip < height {
            return Err(base.mismatch(format!("the node's tip fell from {height} to {tip}")));
        }
        let Some(block) = read(reads, height).await? else {
            return Err(base.mismatch(format!("the node has block {height} no more")));
        };
        let (found, expected) = (sha256_hex(&block.header), manifest.complete_hash.as_deref().unwrap_or("?"));
        if found != expected {
            return Err(base.mismatch(format!(
                "block {height} is another one: expected SHA-256 {expected}, found {found}"
            )));
        }
        let id = manifest.store_id.as_deref().unwrap_or_default();
        self.store_id = data_encoding::HEXLOWER.decode(id.as_bytes()).unwrap_or_default();
        self.last = Some(checked(height, &block).map_err(|error| error.at(reads.place()))?);
        self.first = height.saturating_add(1);
        self.included = Some(manifest.included_height);
        self.pruned = manifest.pruned.blocks;
        Ok(())
    }
}

const FULL_HINT: &str = "take a full backup";

fn base_needs_no_exact(base: &Base) -> Error {
    Error::invalid("expected no exact where blocks are copied, found it")
        .at_path(&base.path)
        .with_hint("leave exact out: what such a backup holds is all asked for again, or cannot change")
}

/// The version of everything of a block.
pub(super) fn version_at(height: u64) -> u64 {
    height.saturating_add(1)
}

/// The id of what is copied: it goes by the chain and where the copy begins, and chains only with its kind.
fn store_id(way: Way, chain_id: &str, first: &Block) -> Vec<u8> {
    let mut sha256 = Sha256::new();
    for part in
        [b"evbackup ".as_slice(), way.name().as_bytes(), b"\0", chain_id.as_bytes(), b"\0", &first.hash]
    {
        sha256.update(part);
    }
    sha256.bytes().get(..16).unwrap_or_default().to_vec()
}

/// The state at the tip.
async fn standing(reads: &Reader) -> Result<ReadState> {
    let state = reads.state().await?.filter(|state| state.last_block_height >= state.initial_height.max(1));
    match state {
        Some(state) if state.last_block_height < u64::MAX => Ok(state),
        Some(_) => Err(Error::damaged("expected the height of a block, found the highest number there is")),
        None => Err(Error::unavailable("expected a node with blocks, found one without")
            .with_hint("wait until it has made or synced its first block")),
    }
    .map_err(|error| error.at(reads.place()))
}

/// The tip, which the state must be of.
async fn tip(reads: &Reader, state: &ReadState) -> Result<Block> {
    let height = state.last_block_height;
    let block = read(reads, height).await?.ok_or_else(|| vanished(height))?;
    let block = checked(height, &block)?;
    let time = Timestamp { seconds: state.last_block_time.0, nanos: state.last_block_time.1 };
    if time != Timestamp::from_nanos(block.time) || state.chain_id != block.chain_id {
        let text = |chain: &str, time: Timestamp| {
            format!("chain {}, time {}.{:09}", chain.escape_debug(), time.seconds, time.nanos)
        };
        return Err(Error::damaged(format!(
            "block {height}: expected that of the state, {}, found {}",
            text(&state.chain_id, time),
            text(&block.chain_id, Timestamp::from_nanos(block.time))
        )));
    }
    Ok(block)
}

/// Do names lead out of the metadata? Then `../t` is the tip.
async fn probed(reads: &Reader, tip: u64, base: Option<&Base>, notes: &mut Vec<String>) -> Result<Way> {
    let found = match reads.metadata("../t", MAX_REPLY).await? {
        Found::Here(value) => key::height(&value),
        _ => None,
    };
    // The node may have gone on.
    let now = reads.state().await?.map_or(tip, |state| state.last_block_height);
    if found.is_some_and(|found| (tip..=now.max(tip)).contains(&found)) {
        return Ok(Way::Raw);
    }
    let what = "the node gives no bytes as they are stored";
    if let Some(base) = base {
        return Err(base.mismatch(what));
    }
    notes.push(format!("{what}: its blocks were copied by the documented RPCs instead"));
    Ok(Way::Blocks)
}

/// The block at a height, however large.
async fn read(reads: &Reader, height: u64) -> Result<Option<ReadBlock>> {
    Ok(match reads.block(height, MAX_REPLY).await? {
        Found::Here(block) => Some(block),
        Found::Nowhere | Found::TooLong => None,
    })
}

fn checked(height: u64, block: &ReadBlock) -> Result<Block> {
    Block::read(height, &block.header, &block.data).map_err(|error| error.with_hint(crate::rpc::DAMAGED_HINT))
}

fn vanished(height: u64) -> Error {
    Error::mismatch(format!("expected block {height}, which was there a moment ago, found none"))
        .with_hint("the node is being rolled back or pruned: try again")
}
