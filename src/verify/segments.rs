//! Segments: each by itself, together as a chain of segments, and the chain of blocks in them.

use super::{Options, Report, Rules, VerifiedSegment};
use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::Source;
use crate::error::{Kind, Result};
use crate::evnode::chain::ChainReport;
use crate::flow::chain::Chain;
use crate::flow::chain_check;
use crate::flow::checks::{self, Level};
use crate::flow::finding::{Finding, Level as Severity};
use crate::flow::segment::Segment;
use crate::format::Tally;
use crate::repo::manifest::Kind as SegmentKind;

/// How much memory sorting may take where a segment does not keep its order.
const SORT_MEMORY: usize = 64 << 20;

pub(super) fn check(options: &Options, rules: &Rules, progress: &Progress) -> Result<Report> {
    let mut chain = Chain::open(&options.paths, None)?;
    progress.begin(Phase::Verifying, chain.bytes());
    let mut findings = chain.findings().to_vec();
    findings.extend(chain.check(options.level, true, progress)?);
    // An increment alone has a gap before it, and stands for its part all the same.
    let alone = |finding: &Finding| finding.code == "gap" && chain.segments().len() == 1;
    let whole = findings.iter().all(|finding| finding.level < Severity::Error || alone(finding));
    for segment in chain.segments() {
        findings.extend(checks::keys(segment, options.level)?);
    }
    let mut report = report(options, &chain, findings, progress);
    if options.level == Level::Full {
        read_as_one(&chain, rules, whole, &mut report, progress)?;
    }
    Ok(report.judge(progress))
}

/// What only shows where everything is read in one order: reused versions, and the blocks.
fn read_as_one(
    chain: &Chain,
    rules: &Rules,
    whole: bool,
    report: &mut Report,
    progress: &Progress,
) -> Result<()> {
    let has_blocks = chain.segments().iter().any(Segment::has_blocks);
    if has_blocks && rules.are_wanted() {
        if !whole {
            let text =
                "expected segments without damage to check the blocks in, found some: they are not checked";
            report.findings.push(Finding::info("blocks-unchecked", text));
            return Ok(());
        }
        progress.begin(Phase::Verifying, chain.bytes());
        let file = match chain.segments() {
            [one] => Some(one.path()),
            _ => None,
        };
        match collected(blocks(chain, rules, progress))? {
            Ok(blocks) => report.take_chain(&blocks, file),
            Err(finding) => report.findings.push(finding),
        }
        return Ok(());
    }
    if whole && needs_merge(chain) {
        progress.begin(Phase::Verifying, chain.bytes());
        report.findings.extend(collected(merged(chain, progress))?.err());
    }
    if !has_blocks && whole && !is_part(chain) {
        report.findings.extend(rules.no_chain());
    }
    Ok(())
}

/// Only an increment: that it has no blocks says nothing of its chain.
fn is_part(chain: &Chain) -> bool {
    let first = chain.segments().first().and_then(Segment::manifest);
    first.is_some_and(|manifest| manifest.kind == SegmentKind::Inc)
}

fn blocks(chain: &Chain, rules: &Rules, progress: &Progress) -> Result<ChainReport> {
    chain_check::report(chain, chain.segments().len(), rules.options.clone(), SORT_MEMORY, progress)
}

/// What is wrong with the entries is a finding; what keeps them from being read is an error.
fn collected<T>(read: Result<T>) -> Result<std::result::Result<T, Finding>> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Mismatch) => {
            let code = if error.kind() == Kind::Mismatch { "reused" } else { "order" };
            Ok(Err(Finding::from_error(code, &error)))
        }
        Err(error) => Err(error),
    }
}

/// A single segment whose runs make one sorted reading has been checked as it was read; anything else shows reused versions only
/// where its parts meet.
fn needs_merge(chain: &Chain) -> bool {
    chain.segments().len() > 1
        || chain.segments().iter().any(|segment| segment.tally().is_none_or(|tally| !tally.is_one_reading()))
}

fn merged(chain: &Chain, progress: &Progress) -> Result<()> {
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
}

fn report(options: &Options, chain: &Chain, findings: Vec<Finding>, progress: &Progress) -> Report {
    let tallies = chain.segments().iter().map(|segment| segment.tally().map(Tally::entries));
    let newest = chain.newest();
    Report {
        ok: false,
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
        chain: None,
        elapsed_s: progress.state().elapsed_s,
        compared_heights: None,
        paths: options.paths.clone(),
        parts: chain.segments().iter().map(VerifiedSegment::of).collect(),
    }
}
