//! Prove segments without restoring them: the reading half of a restore, with checkers in the place of a sink.

use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::Source;
use crate::error::{Error, Kind, Result};
use crate::flow::chain::Chain;
use crate::flow::checks;
pub use crate::flow::checks::Level;
pub use crate::flow::finding::{Finding, Level as Severity};
use crate::flow::work;
use serde::Serialize;
use std::path::PathBuf;

/// How much memory sorting may take where a segment does not keep its order.
const SORT_MEMORY: usize = 64 << 20;

/// What to check, and how far.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The segments, in any order.
    pub paths: Vec<PathBuf>,
    /// How much is checked.
    pub level: Level,
    /// Check the blocks too; `None`: when ev-node's keys are found.
    pub chain: Option<bool>,
    /// A height and a hash that the links must lead to.
    pub trusted: Option<(u64, String)>,
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
    /// Seconds it took.
    pub elapsed_s: f64,
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
    if options.chain == Some(true) || options.trusted.is_some() {
        return Err(Error::unsupported("cannot check blocks yet").with_hint("leave chain and trusted out"));
    }
    let mut chain = Chain::open(&options.paths, None)?;
    progress.begin(Phase::Verifying, chain.bytes());
    let mut findings = chain.findings().to_vec();
    findings.extend(chain.check(options.level, true, progress)?);
    for segment in chain.segments() {
        findings.extend(checks::keys(segment, options.level)?);
    }
    let whole = findings.iter().all(|finding| finding.level < Severity::Error);
    if options.level == Level::Full && whole && needs_merge(&chain) {
        findings.extend(merged(&chain, progress)?);
    }
    Ok(report(options, &chain, findings, progress))
}

/// A single segment whose runs make one sorted reading has been checked as it was read; anything else shows reused versions only
/// where its parts meet.
fn needs_merge(chain: &Chain) -> bool {
    chain.segments().len() > 1
        || chain.segments().iter().any(|segment| segment.tally().is_none_or(|tally| !tally.is_one_reading()))
}

fn merged(chain: &Chain, progress: &Progress) -> Result<Option<Finding>> {
    progress.begin(Phase::Verifying, chain.bytes());
    let read = || -> Result<()> {
        let mut source = chain.source(&Scratch::system(), SORT_MEMORY, progress)?;
        let mut passed = 0;
        while source.advance()? {
            let entry = source.entry();
            passed += (entry.key.len() + entry.value.len()) as u64;
            if passed >= 1 << 20 {
                progress.check()?;
                progress.add(passed, 0);
                passed = 0;
            }
        }
        Ok(())
    };
    match read() {
        Ok(()) => Ok(None),
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Mismatch) => {
            let code = if error.kind() == Kind::Mismatch { "reused" } else { "order" };
            Ok(Some(Finding::from_error(code, &error)))
        }
        Err(error) => Err(error),
    }
}

fn report(options: &Options, chain: &Chain, findings: Vec<Finding>, progress: &Progress) -> Report {
    let tallies = chain.segments().iter().map(|segment| segment.tally().map(crate::format::Tally::entries));
    let newest = chain.newest();
    Report {
        ok: findings.iter().all(|finding| finding.level < Severity::Error),
        level: options.level,
        findings,
        segments: chain.segments().iter().map(|segment| segment.path().to_owned()).collect(),
        bytes: chain.bytes(),
        entries: tallies.sum(),
        last_version: chain.last_version(),
        complete_version: chain.complete_version(),
        announced_height: newest.map_or(0, |manifest| manifest.announced_height),
        tip_height: newest.map_or(0, |manifest| manifest.tip_height),
        complete_height: newest.map_or(0, |manifest| manifest.complete_height),
        deletes: chain.deletes().name(),
        elapsed_s: progress.state().elapsed_s,
    }
}
