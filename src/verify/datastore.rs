//! Datastores: their files, their entries, and the chain of blocks in them.

use super::{Report, Rules};
use crate::badger::{self, Damage, Part};
use crate::base::durable::DirLock;
use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::{Datastore as _, Entry, Need};
use crate::error::{Error, Kind, Result};
use crate::evnode::chain::{Checker, Head, Options};
use crate::evnode::key::Key;
use crate::flow::checks::Level;
use crate::flow::datastore::{self, Engine, ReadOptions};
use crate::flow::finding::{Finding, Level as Severity};
use crate::repo::manifest::Deletes;
use crate::store::{About, Store};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Most findings in one directory: what is all rubbish need not say so a million times.
const MAX_FINDINGS: usize = 10_000;

/// Everything that is wrong with a store, or with a Badger directory that no node has open.
pub(super) fn check(path: &Path, level: Level, rules: &Rules, progress: &Progress) -> Result<Report> {
    progress.begin(Phase::Verifying, 0);
    let mut found = Found { path, findings: Vec::new(), more: 0 };
    let mut blocks = Blocks::new(rules, progress);
    let engine = datastore::expect(path)?;
    // To the end: a node that starts before the tip was read would cost the report.
    let _lock = (engine == Engine::Badger).then(|| DirLock::shared(path)).transpose()?;
    let read = match engine {
        Engine::Badger => directory(path, level, &mut found, &mut blocks, progress)?,
        Engine::RocksDb => store(path, &mut found, &mut blocks, progress)?,
    };
    let mut report = Report {
        ok: false,
        level,
        findings: found.finish(),
        segments: Vec::new(),
        bytes: read.bytes,
        entries: read.entries,
        last_version: read.last_version,
        complete_version: read.complete_version,
        announced_height: 0,
        tip_height: 0,
        complete_height: 0,
        deletes: read.deletes.name(),
        chain: None,
        elapsed_s: 0.0,
        compared_heights: None,
        paths: vec![path.to_owned()],
        parts: Vec::new(),
    };
    let whole = report.findings.iter().all(|finding| finding.level < Severity::Error);
    if !whole {
        report.complete_version = None;
    }
    blocks.finish(whole, path, level, &mut report)?;
    if whole && report.chain.is_none() {
        report.tip_height = tip(path, progress)?;
        report.complete_height = report.tip_height;
    }
    report.announced_height = report.tip_height;
    Ok(report.judge(progress))
}

/// The tip, where the blocks have not told it.
fn tip(path: &Path, progress: &Progress) -> Result<u64> {
    let reading = ReadOptions { offline: true, ..ReadOptions::default() };
    let datastore = datastore::open(path, &reading)?;
    datastore.snapshot_for(&Need::keys(Vec::new()), progress)?.tip()
}

/// What reading it gave.
struct Read {
    bytes: u64,
    entries: Option<u64>,
    last_version: u64,
    complete_version: Option<u64>,
    deletes: Deletes,
}

fn directory(
    path: &Path,
    level: Level,
    found: &mut Found<'_>,
    blocks: &mut Blocks<'_>,
    progress: &Progress,
) -> Result<Read> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut see = |entry: &Entry<'_>| blocks.see(entry);
    let see: Option<badger::See<'_>> = if level == Level::Full { Some(&mut see) } else { None };
    let mut tell = |damage: Damage| found.add(finding(&damage));
    let checked = badger::check(path, now, &Scratch::system(), progress, &mut tell, see)?;
    if checked.dropped > 0 {
        let text = format!(
            "{} superseded versions whose values are gone: normal where a node collects garbage",
            checked.dropped
        );
        found.add(Finding::info("dropped", text));
    }
    Ok(Read {
        bytes: checked.bytes,
        entries: Some(checked.entries),
        last_version: checked.max_version,
        complete_version: Some(checked.max_version),
        deletes: Deletes::Exact,
    })
}

fn store(path: &Path, found: &mut Found<'_>, blocks: &mut Blocks<'_>, progress: &Progress) -> Result<Read> {
    let store = match Store::open(path) {
        Ok(store) => store,
        Err(error) if error.kind() == Kind::Damaged => {
            found.add(Finding::from_error("store", &error));
            return Ok(Read {
                bytes: 0,
                entries: None,
                last_version: 0,
                complete_version: None,
                deletes: Deletes::Unknown,
            });
        }
        Err(error) => return Err(error),
    };
    let About { last_version, pinned_version, .. } = *store.about();
    let deletes = Deletes::from_name(&store.about().deletes).unwrap_or(Deletes::Unknown);
    if last_version > pinned_version {
        // What is above is of a stream that was torn, and some of what shows stands in from a later moment.
        blocks.may_be_torn_above(store.snapshot()?.tip()?);
    }
    let mut tell = |error: Error| found.add(Finding::from_error("store", &error));
    let checked = store.check(progress, &mut tell, &mut |entry| blocks.see(entry))?;
    if deletes != Deletes::Exact {
        let text = format!("a key that was deleted may be in it: its deletes are {}", deletes.name());
        found.add(Finding::warning("deletes", text));
    }
    Ok(Read {
        bytes: checked.bytes,
        entries: Some(checked.entries),
        last_version,
        complete_version: Some(pinned_version),
        deletes,
    })
}

/// What was found, up to a limit.
struct Found<'a> {
    path: &'a Path,
    findings: Vec<Finding>,
    more: u64,
}

impl Found<'_> {
    fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding.in_file(self.path));
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<Finding> {
        if self.more > 0 {
            let text = format!("expected no more damage, found {} times more", self.more);
            self.findings.push(Finding::damage("more", text).in_file(self.path));
        }
        self.findings
    }
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

/// The checker of blocks, which looks on while a datastore is read. It takes entries from the first one on: only at the end it is known
/// whether any of them is ev-node's.
struct Blocks<'a> {
    rules: &'a Rules,
    progress: &'a Progress,
    checker: Option<Checker>,
    any: bool,
}

impl<'a> Blocks<'a> {
    fn new(rules: &'a Rules, progress: &'a Progress) -> Self {
        let mut this = Self { rules, progress, checker: None, any: false };
        this.checker = rules.are_wanted().then(|| this.checker_of(Head::Exact));
        this
    }

    fn checker_of(&self, head: Head) -> Checker {
        let progress = Some(self.progress.clone());
        Checker::new(Options { head, progress, ..self.rules.options.clone() })
    }

    /// To be said before the first entry.
    fn may_be_torn_above(&mut self, height: u64) {
        if self.checker.is_some() {
            self.checker = Some(self.checker_of(Head::Announced(height)));
        }
    }

    fn see(&mut self, entry: &Entry<'_>) -> Result<()> {
        let Some(checker) = &mut self.checker else { return Ok(()) };
        self.any = self.any || Key::parse(entry.key).is_ev_nodes();
        checker.feed(entry)
    }

    fn finish(self, whole: bool, path: &Path, level: Level, report: &mut Report) -> Result<()> {
        let Some(checker) = self.checker.filter(|_| level == Level::Full) else { return Ok(()) };
        match (self.any, whole) {
            (true, true) => report.take_chain(&checker.finish()?, Some(path)),
            (true, false) => {
                let text = "expected a datastore without damage to check the blocks in, found some: they are not checked";
                report.findings.push(Finding::info("blocks-unchecked", text).in_file(path));
            }
            (false, true) => {
                report.findings.extend(self.rules.no_chain().map(|finding| finding.in_file(path)));
            }
            (false, false) => {}
        }
        Ok(())
    }
}
