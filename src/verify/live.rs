//! A running node held against a backup: at some heights, the lowest and the highest that both have among them, and by the RPCs that every
//! released node answers.
//!
//! | compared at each height       | finding           |
//! |-------------------------------|-------------------|
//! | chain id, once                | `live-chain-id`   |
//! | the block is there            | `live-missing`    |
//! | it is right by itself         | `live-block`      |
//! | somebody has signed it        | `live-unsigned`, `live-unverified` |
//! | header hash                   | `live-header`     |
//! | data hash                     | `live-data`       |
//! | signature                     | `live-signature`  |
//! | link to the block before      | `live-link`       |

mod backup;

use super::{Finding, Level, Report, Severity};
use crate::base::progress::{Phase, Progress};
use crate::error::{Error, Kind, Result};
use crate::evnode::block::{Block, Seal};
use crate::evnode::chain::Signatures;
use crate::evnode::hash::Hash;
use crate::evnode::key::{self, Key, Mark};
use crate::flow::chain_check::hash;
use crate::flow::hasher::hex;
use crate::flow::work;
use crate::repo::manifest::Deletes;
use crate::rpc::{self, Connect, Found, MAX_REPLY, Reader};
use backup::{Held, Range};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// Blocks that are waited for together.
const CALLS: usize = 8;
/// The longest reply of which several are waited for together; longer ones come alone.
const TOGETHER: usize = 12 << 20;
/// The heights that are compared where nobody says how many.
pub const SAMPLE: usize = 100;
/// More heights than this are not compared one by one: that is what a backup and `verify` are for.
const MOST: usize = 100_000;

/// Which node to hold against what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node.
    pub connect: Box<Connect>,
    /// The segments of a chain, or one datastore; none: the node is held against itself.
    pub against: Vec<PathBuf>,
    /// How many heights to compare.
    pub sample: usize,
    /// A height and the hash that the node's header must have there.
    pub trusted: Option<(u64, String)>,
    /// What is known of its signatures.
    pub signatures: Signatures,
}

/// Compares; see [`Options`]. What differs is in the report, an error only what kept it from being seen.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::{base::progress::Progress, rpc::Connect, verify::live};
///
/// let connect = Box::new(Connect::new("node:7331".parse()?));
/// let against = vec!["full.badger".into()];
/// let options = live::Options { connect, against, sample: live::SAMPLE, trusted: None, signatures: Default::default() };
/// let report = live::run(options, Progress::new()).await?;
/// assert!(report.ok, "{:?}", report.findings);
/// # Ok(()) }
/// ```
pub async fn run(options: Options, progress: Progress) -> Result<Report> {
    if options.sample > MOST {
        let what = format!("expected at most {MOST} heights to compare, found {}", options.sample);
        return Err(Error::invalid(what).with_hint("take a backup and verify it: that looks at every block"));
    }
    if options.sample == 0 && options.trusted.is_none() {
        return Err(Error::invalid(
            "expected at least one height to compare, or a trusted hash, found neither",
        ));
    }
    let trusted = options.trusted.as_ref();
    let trusted = trusted.map(|(height, hex)| Ok::<_, Error>((*height, hash("a trusted hash", hex)?)));
    let trusted = trusted.transpose()?;
    progress.begin(Phase::Preparing, 0);
    let reads = rpc::connect(&options.connect).await?.reader();
    let node = Standing::of(&reads).await?;
    let opened = options.against.clone();
    let (held, range) = work::blocking(progress.clone(), move |progress| {
        let held = Held::open(&opened, progress)?;
        let range = held.as_ref().map(|held| held.range(progress)).transpose()?;
        Ok((held, range))
    })
    .await?;
    let mut comparison = Comparison::new(&node, range.as_ref(), options.signatures);
    let known = range.as_ref().and_then(|range| range.chain_id.as_deref());
    if comparison.is_of_another_chain(known) {
        return Ok(comparison.report(held.as_ref(), &progress));
    }
    let heights = comparison.heights(options.sample, trusted.as_ref());
    progress.begin(Phase::Verifying, 0);
    let wanted = heights.clone();
    let (held, blocks) = work::blocking(progress.clone(), move |progress| match held {
        Some(mut held) => {
            let blocks = held.blocks(&wanted, progress)?;
            Ok((Some(held), Some(blocks)))
        }
        None => Ok((None, None)),
    })
    .await?;
    // Old manifests do not say which chain it is: the first block that can be read does.
    let named = blocks.as_ref().filter(|_| known.is_none());
    let first = named.and_then(|blocks| blocks.values().flatten().next());
    if comparison.is_of_another_chain(first.map(|block| block.chain_id.as_str())) {
        return Ok(comparison.report(held.as_ref(), &progress));
    }
    comparison.run(&reads, &heights, blocks, trusted.as_ref(), &progress).await?;
    Ok(comparison.report(held.as_ref(), &progress))
}

/// What the node says of itself.
struct Standing {
    chain_id: String,
    /// The lowest block that it has.
    base: u64,
    tip: u64,
}

impl Standing {
    async fn of(reads: &Reader) -> Result<Self> {
        let state = reads.state().await?.filter(|state| state.last_block_height > 0).ok_or_else(|| {
            Error::unavailable("expected a node with blocks, found one without").at(reads.place())
        })?;
        let mark = Key::Mark(Mark::PrunedBlocks).to_string();
        let mark = reads.metadata(mark.trim_start_matches("/0/m/"), MAX_REPLY).await?;
        let pruned = match mark {
            Found::Here(value) => key::height(&value).unwrap_or(0),
            _ => 0,
        };
        let base = state.initial_height.max(1).max(pruned.saturating_add(1));
        Ok(Self { chain_id: state.chain_id, base, tip: state.last_block_height })
    }
}

/// A block as one side has it; none where it has none.
type Side = Option<Result<Block>>;

struct Comparison<'a> {
    node: &'a Standing,
    range: Option<&'a Range>,
    signatures: Signatures,
    findings: Vec<Finding>,
    compared: u64,
    asked: u64,
    /// The lowest block whose signature cannot be verified, and how many there are.
    unverified: Option<(u64, u64)>,
    /// A block behind a based sequencer's does not name the one before it.
    unlinked: bool,
}

impl<'a> Comparison<'a> {
    fn new(node: &'a Standing, range: Option<&'a Range>, signatures: Signatures) -> Self {
        let (findings, unverified) = (Vec::new(), None);
        Self { node, range, signatures, findings, compared: 0, asked: 0, unverified, unlinked: false }
    }

    /// Then nothing else is compared.
    fn is_of_another_chain(&mut self, known: Option<&str>) -> bool {
        let Some(expected) = known.filter(|expected| *expected != self.node.chain_id) else { return false };
        let what = format!(
            "expected chain id {}, found {}: the node is of another chain, and nothing else was compared",
            expected.escape_debug(),
            self.node.chain_id.escape_debug()
        );
        self.findings.push(Finding::new(Severity::Error, "live-chain-id", Kind::Mismatch, what));
        true
    }

    fn add(&mut self, mut finding: Finding, height: u64) {
        finding.height = Some(height);
        self.findings.push(finding);
    }

    fn differs(&mut self, code: &'static str, height: u64, expected: &str, found: &str) {
        let what = format!("block {height}: expected {expected}, found {found}");
        self.add(Finding::new(Severity::Error, code, Kind::Mismatch, what), height);
    }

    /// The heights to compare: spread over what both have, its ends among them.
    fn heights(&mut self, sample: usize, trusted: Option<&(u64, Hash)>) -> Vec<u64> {
        if let Some(range) = self.range.filter(|range| self.node.tip < range.top) {
            let (expected, found) = (range.top, self.node.tip);
            let what = format!("expected a tip of at least {expected}, as in the backup, found {found}");
            self.add(Finding::warning("live-behind", what), found);
        }
        let (low, high) = match self.range {
            Some(range) => (self.node.base.max(range.base), self.node.tip.min(range.top)),
            None => (self.node.base, self.node.tip),
        };
        let mut heights = spread(low, high, sample);
        if heights.is_empty() {
            let what = "expected heights that both have, found none: nothing was compared";
            self.add(Finding::new(Severity::Error, "live-apart", Kind::Mismatch, what), self.node.tip);
        }
        heights.extend(trusted.map(|(height, _)| *height));
        heights.sort_unstable();
        heights.dedup();
        heights
    }

    async fn run(
        &mut self,
        reads: &Reader,
        heights: &[u64],
        held: Option<BTreeMap<u64, Result<Block>>>,
        trusted: Option<&(u64, Hash)>,
        progress: &Progress,
    ) -> Result<()> {
        let compares = held.is_some();
        let mut held = held.unwrap_or_default();
        let mut waiting = heights.iter().copied();
        let mut calls = JoinSet::new();
        let alone = Arc::new(Mutex::new(()));
        loop {
            while calls.len() < CALLS
                && let Some(height) = waiting.next()
            {
                let (reads, base, alone) = (reads.clone(), self.node.base, Arc::clone(&alone));
                calls.spawn(async move { (height, asked(&reads, height, base, &alone).await) });
            }
            let Some(called) = calls.join_next().await else { break };
            let (height, answer) =
                called.map_err(|error| Error::io(format!("a task has died: {error}")).caused_by(error))?;
            let (block, before) = answer?;
            progress.set_height(height);
            progress.add(0, 1);
            self.asked += 1;
            if let Some((_, hash)) = trusted.filter(|(trusted, _)| *trusted == height) {
                self.trust(height, hash, block.as_ref());
            }
            let in_both = self.range.is_none_or(|range| (range.base..=range.top).contains(&height));
            let backup = compares.then(|| held.remove(&height)).filter(|_| in_both);
            self.compare(height, block, &before, backup);
        }
        if let Some((first, blocks)) = self.unverified.filter(|_| self.signatures != Signatures::Unverified) {
            let what = format!(
                "block {first}: expected signatures over ev-node's default payload by the proposer's key, found {blocks} blocks whose signatures \
                 cannot be verified, the first here"
            );
            self.add(Finding::warning("live-unverified", what), first);
        }
        self.findings.sort_by_key(|finding| finding.height);
        Ok(())
    }

    fn trust(&mut self, height: u64, hash: &Hash, block: Option<&Result<Block>>) {
        let found = match block {
            Some(Ok(block)) if block.hash == *hash => return,
            Some(Ok(block)) => hex(&block.hash),
            Some(Err(_)) => return,
            None => "no block".to_owned(),
        };
        self.differs("live-trusted", height, &format!("the trusted hash {}", hex(hash)), &found);
    }

    /// Who made it, as far as that is known.
    fn sealed(&mut self, block: &Block) {
        let height = block.height;
        match block.seal {
            Seal::None if self.signatures != Signatures::Optional => {
                let what = format!("block {height}: expected a signature, found none");
                let hint =
                    "a based sequencer signs nothing: say signatures=\"optional\" if the chain has one";
                let mut finding = Finding::new(Severity::Error, "live-unsigned", Kind::Damaged, what);
                finding.hint = Some(hint.to_owned());
                self.add(finding, height);
            }
            Seal::Unverifiable => {
                let (first, blocks) = self.unverified.unwrap_or((height, 0));
                self.unverified = Some((first.min(height), blocks + 1));
            }
            Seal::Holds | Seal::None => {}
        }
    }

    /// Does it follow the one before it?
    fn linked(&mut self, block: &Block, before: &Block) {
        let height = block.height;
        let forgives = self.signatures == Signatures::Optional && !self.unlinked;
        let found = match block.follows_or_leaves_based(before) {
            Ok(true) if forgives => {
                self.unlinked = true;
                let what = format!(
                    "block {height}: expected the hash of header {}, found another, as a chain that has left its based sequencer may have it once",
                    before.height
                );
                Finding::warning("live-link", what)
            }
            Ok(false) => return,
            Ok(true) | Err(_) => match block.follows(before) {
                Err(error) => Finding::from_error("live-link", &error),
                Ok(()) => return,
            },
        };
        self.add(found, height);
    }

    /// One height: the node's block and the one before it, and the backup's where one is compared with.
    fn compare(&mut self, height: u64, block: Side, before: &Side, backup: Option<Side>) {
        let block = match block {
            None => return self.differs("live-missing", height, "it at the node", "none"),
            Some(Err(error)) => {
                return self.add(Finding::from_error("live-block", &error), height);
            }
            Some(Ok(block)) => block,
        };
        self.sealed(&block);
        if let Some(Ok(before)) = before {
            self.linked(&block, before);
        }
        let backup = match backup {
            None => return self.compared = self.compared.max(height),
            Some(None) => return self.differs("live-backup", height, "it in the backup", "none"),
            Some(Some(Err(error))) => {
                return self.add(Finding::from_error("live-backup", &error), height);
            }
            Some(Some(Ok(backup))) => backup,
        };
        for (code, what, expected, found) in [
            ("live-header", "header hash", &backup.hash[..], &block.hash[..]),
            ("live-data", "data hash", &backup.data_hash[..], &block.data_hash[..]),
            ("live-signature", "signature", &backup.signature[..], &block.signature[..]),
        ] {
            if expected != found {
                self.differs(
                    code,
                    height,
                    &format!("{what} {} as in the backup", hex(expected)),
                    &hex(found),
                );
                return;
            }
        }
        self.compared = self.compared.max(height);
    }

    fn report(self, held: Option<&Held>, progress: &Progress) -> Report {
        let top = self.range.map_or(self.node.tip, |range| range.top);
        Report {
            ok: self.findings.iter().all(|finding| finding.level < Severity::Error),
            level: Level::Quick,
            findings: self.findings,
            segments: held.map(Held::segments).unwrap_or_default(),
            bytes: held.map_or(0, Held::bytes),
            entries: None,
            last_version: held.map_or(0, Held::last_version),
            complete_version: held.and_then(Held::complete_version),
            announced_height: self.node.tip,
            tip_height: top,
            complete_height: self.compared,
            deletes: held.map_or(Deletes::Exact, Held::deletes).name(),
            chain: None,
            elapsed_s: progress.state().elapsed_s,
            paths: Vec::new(),
            compared_heights: Some(self.asked),
            parts: Vec::new(),
        }
    }
}

/// A block of the node's and the one before it, where there should be one.
async fn asked(reads: &Reader, height: u64, base: u64, alone: &Mutex<()>) -> Result<(Side, Side)> {
    let block = one(reads, height, alone).await?;
    let before = match height.checked_sub(1).filter(|before| *before >= base && block.is_some()) {
        Some(before) => one(reads, before, alone).await?,
        None => None,
    };
    Ok((block, before))
}

async fn one(reads: &Reader, height: u64, alone: &Mutex<()>) -> Result<Side> {
    let read = |found: rpc::ReadBlock| Block::read(height, &found.header, &found.data);
    match reads.block(height, TOGETHER).await? {
        Found::Here(found) => return Ok(Some(read(found))),
        Found::Nowhere => return Ok(None),
        Found::TooLong => {}
    }
    let _alone = alone.lock().await;
    Ok(match reads.block(height, MAX_REPLY).await? {
        Found::Here(found) => Some(read(found)),
        Found::Nowhere | Found::TooLong => None,
    })
}

/// `count` heights of a range, evenly, both ends among them.
fn spread(low: u64, high: u64, count: usize) -> Vec<u64> {
    if low > high {
        return Vec::new();
    }
    let last = (count.max(2) - 1) as u64;
    let width = u128::from(high - low);
    let mut heights: Vec<u64> = (0..=last)
        .map(|at| low + u64::try_from(width * u128::from(at) / u128::from(last)).unwrap_or(0))
        .collect();
    heights.dedup();
    heights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_are_spread_with_both_ends() {
        assert_eq!(spread(5, 4, 10), [0; 0]);
        assert_eq!(spread(5, 5, 10), [5]);
        assert_eq!(spread(1, 3, 100), [1, 2, 3]);
        assert_eq!(spread(1, 101, 5), [1, 26, 51, 76, 101]);
        assert_eq!(spread(1, u64::MAX, 0), [1, u64::MAX]);
    }
}
