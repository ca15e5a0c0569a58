//! Prove segments and datastores without restoring them: the reading half of a restore, with checkers in the place of a sink.

mod datastore;
pub mod live;
mod parts;
mod segments;

use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::error::{Error, Kind, Result};
pub use crate::evnode::chain::Signatures;
use crate::evnode::chain::{self, ExecutionLayer};
use crate::flow::chain_check::{self, genesis, hash};
pub use crate::flow::chain_summary::ChainSummary;
pub use crate::flow::checks::Level;
pub use crate::flow::finding::{Finding, Level as Severity};
use crate::flow::work;
pub use parts::VerifiedSegment;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What to check, and how far.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The segments, in any order; or a single datastore: a store, or a Badger directory that no node has open.
    pub paths: Vec<PathBuf>,
    /// How much is checked.
    pub level: Level,
    /// Check the blocks too; `None`: when ev-node's keys are found.
    pub chain: Option<bool>,
    /// A height and the hash, as hex, of the header that the operator knows to be there: the links lead down to it.
    pub trusted: Option<(u64, String)>,
    /// The chain's `genesis.json`.
    pub genesis: Option<PathBuf>,
    /// The chain has switched away from a based sequencer, which may have broken the link of headers once.
    pub was_based: bool,
    /// What is known of signatures.
    pub signatures: Signatures,
    /// What the execution layer says of one block.
    pub execution_layer: Option<El>,
}

/// One block of the execution layer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct El {
    /// Its number.
    pub height: u64,
    /// Its Unix seconds.
    pub timestamp: Option<u64>,
    /// The state root after it, 64 hex digits, with or without 0x.
    pub state_root: Option<String>,
}

impl El {
    fn understood(&self) -> Result<ExecutionLayer> {
        let state_root = self.state_root.as_deref().map(|root| hash("a state root", root)).transpose()?;
        Ok(ExecutionLayer { height: self.height, timestamp: self.timestamp, state_root })
    }
}

/// What was checked and what was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// No finding is an error.
    pub ok: bool,
    /// How much was checked.
    pub level: Level,
    /// What was found, in the order of the segments.
    pub findings: Vec<Finding>,
    /// The segments, oldest first.
    pub segments: Vec<PathBuf>,
    /// Bytes read of them.
    pub bytes: u64,
    /// Entries read of them; `None` when they were not all read.
    pub entries: Option<u64>,
    /// The highest version in them.
    pub last_version: u64,
    /// Up to which version they miss nothing; `None` when nothing says so.
    pub complete_version: Option<u64>,
    /// The newest height that the source announced, 0 without blocks.
    pub announced_height: u64,
    /// The tip inside the newest segment.
    pub tip_height: u64,
    /// The highest height that is whole.
    pub complete_height: u64,
    /// How sure the deletes are.
    pub deletes: &'static str,
    /// What came of the blocks; `None` when they were not checked.
    pub chain: Option<ChainSummary>,
    /// Seconds it took.
    pub elapsed_s: f64,
    /// What was given: the segments, or the datastore; nothing where it was a running node.
    pub paths: Vec<PathBuf>,
    /// How many heights of a running node were looked at; `None` where it was none.
    pub compared_heights: Option<u64>,
    /// What each segment claims, in their order.
    pub parts: Vec<VerifiedSegment>,
}

impl Report {
    /// Takes what came of the blocks in `file`, if they are all in one: the heights are now proven, no longer claimed.
    fn take_chain(&mut self, report: &chain::ChainReport, file: Option<&Path>) {
        let findings = chain_check::findings(report).into_iter();
        self.findings.extend(findings.map(|finding| match file {
            Some(file) => finding.in_file(file),
            None => finding,
        }));
        if report.tip.is_some() || report.blocks > 0 {
            self.tip_height = report.tip.unwrap_or(self.tip_height);
            self.complete_height = report.complete_height.unwrap_or_default();
        }
        self.chain = Some(report.into());
    }

    fn judge(mut self, progress: &Progress) -> Self {
        self.ok = self.findings.iter().all(|finding| finding.level < Severity::Error);
        self.elapsed_s = progress.state().elapsed_s;
        self
    }
}

/// Checks segments; see [`Options`]. What is wrong with them is in the report, an error only what kept them from being read.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::{base::progress::Progress, verify};
///
/// let options = verify::Options { paths: vec!["full.badger".into()], ..Default::default() };
/// let report = verify::run(options, Progress::new()).await?;
/// assert!(report.ok, "{:?}", report.findings);
/// # Ok(()) }
/// ```
pub async fn run(options: Options, progress: Progress) -> Result<Report> {
    work::blocking(progress, move |progress| check(&options, progress)).await
}

fn check(options: &Options, progress: &Progress) -> Result<Report> {
    if options.paths.is_empty() {
        return Err(Error::invalid("expected at least one segment, found none"));
    }
    let rules = Rules::of(options)?;
    if let [path] = options.paths.as_slice()
        && path.is_dir()
    {
        return datastore::check(path, options.level, &rules, progress);
    }
    segments::check(options, &rules, progress)
}

/// Which blocks are held against what.
struct Rules {
    /// Whether the blocks are checked; `None`: when there are any.
    wanted: Option<bool>,
    /// Something is given that they are held against.
    given: bool,
    options: chain::Options,
}

impl Rules {
    fn of(options: &Options) -> Result<Self> {
        let execution_layer = options.execution_layer.as_ref().map(El::understood).transpose()?;
        let trusted = options.trusted.as_ref();
        let trusted = trusted.map(|(height, hex)| Ok::<_, Error>((*height, hash("a trusted hash", hex)?)));
        let rules = chain::Options {
            was_based: options.was_based,
            signatures: options.signatures,
            genesis: options.genesis.as_deref().map(genesis).transpose()?,
            execution_layer,
            trusted: trusted.transpose()?,
            scratch: Some(Scratch::system()),
            ..chain::Options::default()
        };
        let given = rules.genesis.is_some() || rules.execution_layer.is_some() || rules.trusted.is_some();
        let asked = given || options.chain == Some(true);
        if asked && (options.chain == Some(false) || options.level == Level::Quick) {
            return Err(Error::invalid(
                "expected level \"full\" and the blocks, which genesis, trusted and the execution layer are held against, found them left out",
            ));
        }
        let wanted = if options.level == Level::Quick { Some(false) } else { options.chain };
        Ok(Self { wanted, given, options: rules })
    }

    fn are_wanted(&self) -> bool {
        self.wanted != Some(false)
    }

    /// The one finding where there are no blocks to check.
    fn no_chain(&self) -> Option<Finding> {
        let text = "expected ev-node's keys, found none: there is no chain to check";
        let level = match self.wanted {
            _ if self.given => Severity::Error,
            Some(true) => Severity::Warning,
            _ => Severity::Info,
        };
        self.are_wanted().then(|| Finding::new(level, "no-chain", Kind::Mismatch, text))
    }
}
