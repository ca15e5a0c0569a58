//! What a segment turned out to be, as its manifest says it.

use super::blocks::Way;
use super::session::Question;
use super::{Options, Origin};
use crate::error::{Error, Result};
use crate::evnode::generation::Generation;
use crate::evnode::key;
use crate::flow::chain_summary::note_of;
use crate::flow::gone::Standing;
use crate::flow::hasher::hex;
use crate::flow::increment::Base;
use crate::flow::intake::{Proven, Recorded};
use crate::repo::manifest::{Blocks, Deletes, FORMAT, IndexBlock, Keys, Kind, Manifest, Parent, Piece, Run};
use crate::rpc::{Announced, Final};
use std::path::Path;

/// Everything that is known of a backup once its last byte is written.
pub(super) struct Facts<'a> {
    pub(super) options: &'a Options,
    pub(super) path: &'a Path,
    pub(super) base: Option<&'a Base>,
    pub(super) question: &'a Question,
    pub(super) announced: &'a Announced,
    pub(super) end: &'a Final,
    pub(super) recorded: &'a Recorded,
    pub(super) keys: Option<Keys>,
    pub(super) standing: Standing,
    pub(super) sure: bool,
    pub(super) copied: Option<Copied<'a>>,
    pub(super) notes: &'a [String],
    pub(super) started: jiff::Timestamp,
    pub(super) elapsed_s: f64,
}

/// What is known of blocks that were copied one by one.
pub(super) struct Copied<'a> {
    pub(super) way: Way,
    pub(super) chain_id: &'a str,
    pub(super) proven: &'a Proven,
}

/// Up to where a segment misses nothing, and the block that shows it.
struct Complete {
    version: u64,
    height: u64,
    hash: Option<String>,
    block_version: Option<u64>,
}

/// The manifest.
pub(super) fn describe(facts: &Facts<'_>) -> Result<Manifest> {
    let tally = facts.recorded.watch.tally();
    let complete = complete(facts);
    let (chain_id, blocks) = chain(facts, complete.height);
    let layout = tally.layout();
    let increment = facts.base.is_some() || facts.question.since > 0;
    let deletes = deletes(facts, increment);
    let since = if facts.question.exact { 0 } else { facts.end.since };
    let (runs, pieces) = layout.map_or((None, None), |layout| {
        let runs = layout.runs.into_iter().map(|run| Run {
            id: run.id,
            first: hex(&run.first),
            last: hex(&run.last),
            entries: run.entries,
        });
        let pieces = layout.pieces.into_iter().map(|(run, piece)| Piece {
            run,
            offset: piece.offset,
            bytes: piece.bytes,
        });
        (Some(runs.collect()), Some(pieces.collect()))
    });
    let index = tally.index().into_iter().map(|block| IndexBlock {
        offset: block.offset,
        bytes: block.bytes,
        crc32c: format!("{:08x}", block.crc32c),
        entries: block.entries,
    });
    Ok(Manifest {
        format: FORMAT,
        segment: segment_name(facts.path),
        kind: if increment { Kind::Inc } else { Kind::Full },
        via: match (&facts.options.origin, &facts.copied) {
            (_, Some(copied)) => copied.way.name(),
            (Origin::Server(_), None) => "rpc",
            (Origin::Datastore(..), None) if facts.announced.reuses_versions => "badger",
            (Origin::Datastore(..), None) => "store",
        }
        .to_owned(),
        encoding: Vec::new(),
        bytes: facts.recorded.bytes,
        sha256: facts.recorded.sha256.clone(),
        entries: tally.entries(),
        frames: tally.frames(),
        since_version: since,
        last_version: last_version(facts),
        complete_version: complete.version,
        next_since: complete.version,
        pinned: facts.end.pinned_version.is_some(),
        store_id: (!facts.announced.store_id.is_empty()).then(|| hex(&facts.announced.store_id)),
        parent: facts.base.map(|base| Parent {
            sha256: base.manifest.sha256.clone(),
            complete_version: base.manifest.complete_version,
            run_id: Some(base.manifest.run_id.clone()),
        }),
        deletes,
        exact: facts.question.exact,
        listed: facts.keys.as_ref().map_or(0, |keys| keys.entries),
        lacks: facts.copied.as_ref().map(|copied| copied.way.lacks()).unwrap_or_default(),
        chain_id: facts.copied.as_ref().map(|copied| copied.chain_id.to_owned()).or(chain_id),
        announced_height: facts.announced.current_height,
        tip_height: tip(facts),
        complete_height: complete.height,
        complete_hash: complete.hash,
        block_version: complete.block_version,
        highest_height: facts.standing.highest,
        included_height: facts.copied.as_ref().map_or(0, |copied| copied.proven.included),
        pruned: facts.standing.pruned,
        reuses_versions: facts.announced.reuses_versions,
        source: facts.options.origin.name(),
        layout: match facts.options.origin {
            Origin::Server(_) if facts.copied.is_some() => String::new(),
            Origin::Server(_) => facts.end.layout.name().to_owned(),
            Origin::Datastore(..) => String::new(),
        },
        started_at: facts.started.to_string(),
        elapsed_s: facts.elapsed_s,
        tool: concat!("evbackup ", env!("CARGO_PKG_VERSION")).to_owned(),
        run_id: facts.options.run_id.clone().map_or_else(run_id, Ok)?,
        notes: notes(facts, deletes, blocks.as_ref()),
        blocks,
        keys: facts.keys.clone(),
        runs,
        index: index.collect(),
        pieces,
    })
}

/// What chain it is. What an increment does not say, its base does.
fn chain(facts: &Facts<'_>, complete: u64) -> (Option<String>, Option<Blocks>) {
    let base = facts.base.map(|base| &base.manifest);
    let known = base.and_then(|base| base.blocks.clone()).unwrap_or_default();
    let base_id = base.and_then(|base| base.chain_id.clone());
    let Some(found) = facts.recorded.watch.chain(complete) else {
        let nothing_new = Blocks { marks: Vec::new(), families: Vec::new(), ..known };
        return (base_id, base.and_then(|base| base.blocks.as_ref()).map(|_| nothing_new));
    };
    let initial_height = found.initial_height.or(known.initial_height);
    let pruned = Some(facts.standing.pruned.blocks).filter(|height| *height > 0);
    let blocks = Blocks {
        generation: found.generation.map(str::to_owned).max(known.generation),
        initial_height,
        base: initial_height.max(pruned.map(|height| height.saturating_add(1))),
        marks: found.marks,
        families: found.families.unwrap_or_default(),
    };
    (found.chain_id.or(base_id), Some(blocks))
}

fn segment_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.filter(|name| name != "-").unwrap_or_else(|| "stdout.badger".to_owned())
}

/// With a pinned version that is it. Badger's own stream misses nothing up to the version of the block that was announced before it
/// began (`docs/concepts/increments.md`): every range was read after that block was committed.
fn complete(facts: &Facts<'_>) -> Complete {
    if let Some(Copied { proven, .. }) = &facts.copied {
        return Complete {
            version: proven.block_version,
            height: proven.height,
            hash: Some(proven.hash.clone()),
            block_version: Some(proven.block_version),
        };
    }
    let watch = &facts.recorded.watch;
    let height = facts.announced.current_height;
    let block =
        (height > 0).then(|| watch.seen(&key::header(height))).flatten().filter(|block| !block.delete);
    let block = block.map(|block| (block.sha256.clone(), Some(block.version)));
    if let Some(version) = facts.end.pinned_version {
        let base = facts.base.map(|base| &base.manifest).filter(|base| base.complete_height == height);
        let known = base.and_then(|base| Some((base.complete_hash.clone()?, base.block_version)));
        let (hash, block_version) = block.or(known).unzip();
        let height = if hash.is_some() { height } else { 0 };
        return Complete { version, height, hash, block_version: block_version.flatten() };
    }
    match (block, facts.base) {
        (Some((hash, version)), _) => Complete {
            version: version.unwrap_or(facts.end.since),
            height,
            hash: Some(hash),
            block_version: version,
        },
        (None, Some(base)) => Complete {
            version: base.manifest.complete_version,
            height: base.manifest.complete_height,
            hash: base.manifest.complete_hash.clone(),
            block_version: base.manifest.block_version,
        },
        (None, None) => Complete { version: facts.end.since, height: 0, hash: None, block_version: None },
    }
}

/// The highest version up to here in the chain: an increment without news keeps that of its base.
fn last_version(facts: &Facts<'_>) -> u64 {
    let base = facts.base.map_or(facts.end.since, |base| base.manifest.last_version);
    match facts.end.pinned_version {
        Some(pinned) => pinned.max(facts.recorded.watch.tally().last_version()),
        None if facts.recorded.watch.tally().entries() > 0 => facts.recorded.watch.tally().last_version(),
        None => base,
    }
}

fn tip(facts: &Facts<'_>) -> u64 {
    let seen = facts.recorded.watch.seen(key::TIP).filter(|tip| !tip.delete).and_then(|tip| tip.height);
    let base = facts.base.map_or(0, |base| base.manifest.tip_height);
    seen.or(facts.end.tip_height).unwrap_or(base)
}

fn deletes(facts: &Facts<'_>, increment: bool) -> Deletes {
    let rules = if facts.sure { Deletes::Exact } else { Deletes::Derived };
    if let Some(said) = facts.end.deletes.as_deref().filter(|said| !said.is_empty()) {
        return Deletes::from_name(said).unwrap_or(Deletes::Unknown).min(rules);
    }
    // A full stream holds no key that is gone, so there is none to lose. An increment from Badger's own RPC lacks what compaction
    // has purged, unless everything was compared; what belongs to blocks follows from tip and marks.
    match facts.base {
        _ if !increment || facts.question.exact => Deletes::Exact,
        Some(base) if base.manifest.complete_height > 0 => Deletes::Derived,
        _ => Deletes::Unknown,
    }
}

fn notes(facts: &Facts<'_>, deletes: Deletes, blocks: Option<&Blocks>) -> Vec<String> {
    let mut notes = facts.notes.to_vec();
    if facts.end.left_out > 0 {
        notes.push(format!(
            "older versions that are not in it, because something damaged stands where their values were: {}; no newest one is missing",
            facts.end.left_out
        ));
    }
    if facts.recorded.watch.tally().entries() > 0 {
        let generation = blocks.and_then(|blocks| blocks.generation.as_deref());
        notes.extend(note_of(blocks.is_some(), generation.and_then(Generation::from_name)));
    }
    if deletes == Deletes::Unknown {
        notes.push(
            "deletes that the source's compaction has purged are not in it: keys may come back on a restore; \
             exact=True, or `evbackup serve` beside the node, leaves none out"
                .to_owned(),
        );
    }
    notes
}

fn run_id() -> Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| Error::io(format!("cannot get random bytes: {error}")))?;
    Ok(hex(&bytes))
}
