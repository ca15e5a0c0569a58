//! Prove segments without restoring them: the reading half of a restore, with checkers in the place of a sink.

use crate::badger::{self, Damage, Part};
use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::{Need, Source};
use crate::error::{Error, Kind, Result};
use crate::flow::chain::Chain;
use crate::flow::checks;
pub use crate::flow::checks::Level;
use crate::flow::datastore::{self, Engine, ReadOptions};
pub use crate::flow::finding::{Finding, Level as Severity};
use crate::flow::work;
use crate::repo::manifest::Deletes;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How much memory sorting may take where a segment does not keep its order.
const SORT_MEMORY: usize = 64 << 20;
/// Most findings in one directory: what is all rubbish need not say so a million times.
const MAX_FINDINGS: usize = 10_000;

/// What to check, and how far.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The segments, in any order; or a single Badger directory that no node has open.
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
    if let [path] = options.paths.as_slice()
        && path.is_dir()
    {
        return directory(options, path, progress);
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

/// Everything that is wrong with a Badger directory.
fn directory(options: &Options, path: &Path, progress: &Progress) -> Result<Report> {
    if datastore::expect(path)? != Engine::Badger {
        return Err(Error::unsupported("cannot check a store yet")
            .at_path(path)
            .with_hint("take its digest, which reads all of it: evbackup digest"));
    }
    progress.begin(Phase::Verifying, 0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut findings = Vec::new();
    let mut more = 0u64;
    let checked = badger::check(path, now, &Scratch::system(), progress, &mut |damage| {
        if findings.len() < MAX_FINDINGS {
            findings.push(finding(&damage));
        } else {
            more += 1;
        }
    })?;
    if more > 0 {
        findings.push(
            Finding::damage("more", format!("expected no more damage, found {more} times more"))
                .in_file(path),
        );
    }
    if checked.dropped > 0 {
        let text = format!(
            "{} superseded versions whose values are gone: normal where a node collects garbage",
            checked.dropped
        );
        findings.push(Finding::info("dropped", text).in_file(path));
    }
    let ok = findings.iter().all(|finding| finding.level < Severity::Error);
    let tip_height = if ok { tip(path, progress)? } else { 0 };
    Ok(Report {
        ok,
        level: options.level,
        findings,
        segments: Vec::new(),
        bytes: checked.bytes,
        entries: Some(checked.entries),
        last_version: checked.max_version,
        complete_version: Some(checked.max_version).filter(|_| ok),
        announced_height: tip_height,
        tip_height,
        complete_height: tip_height,
        deletes: Deletes::Exact.name(),
        elapsed_s: progress.state().elapsed_s,
    })
}

fn tip(path: &Path, progress: &Progress) -> Result<u64> {
    let reading = ReadOptions { offline: true, ..ReadOptions::default() };
    let datastore = datastore::open(path, &reading)?;
    datastore.snapshot_for(&Need::keys(Vec::new()), progress)?.tip()
}

fn finding(damage: &Damage) -> Finding {
    let code = match damage.part {
        Part::Registry => "badger-registry",
        Part::Manifest => "badger-manifest",
        Part::Table => "badger-table",
        Part::Level => "badger-level",
        Part::Log => "badger-log",
        Part::ValueLog => "badger-value-log",
        Part::Value => "badger-value",
    };
    let mut finding = Finding::from_error(code, &damage.error);
    if damage.harmless {
        finding.level = Severity::Info;
    }
    match &damage.key {
        Some(key) => finding.with_key(key),
        None => finding,
    }
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
