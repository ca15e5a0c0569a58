//! Chains that are right, and chains that break one rule each.

use super::*;
use crate::entry::Entry;
use crate::evnode::key::Key;
use crate::evnode::sample::Sample;

mod heads;
mod levels;
mod rules;
mod size;

/// Checks the entries of a sample.
fn check(sample: &Sample, options: Options) -> ChainReport {
    let mut checker = Checker::new(options);
    for entry in sample.entries() {
        checker.feed(&entry).unwrap();
    }
    checker.finish().unwrap()
}

/// Level, rule number and height of each finding.
fn brief(report: &ChainReport) -> Vec<(Level, u8, Option<u64>)> {
    report.findings.iter().map(|one| (one.level, one.rule.number(), one.height)).collect()
}

/// The sample breaks this one rule, as an error at this height and key, and nothing else.
#[track_caller]
fn breaks(sample: &Sample, options: Options, rule: u8, height: impl Into<Option<u64>>, key: &str) -> Finding {
    one(sample, options, Level::Error, rule, height.into(), key)
}

#[track_caller]
fn warns(sample: &Sample, options: Options, rule: u8, height: impl Into<Option<u64>>, key: &str) -> Finding {
    one(sample, options, Level::Warning, rule, height.into(), key)
}

#[track_caller]
fn one(sample: &Sample, options: Options, level: Level, rule: u8, height: Option<u64>, key: &str) -> Finding {
    let report = check(sample, options);
    assert_eq!(brief(&report), [(level, rule, height)], "{:#?}", report.findings);
    let finding = report.findings[0].clone();
    let found = finding.key.as_deref().map(|key| Key::parse(key).to_string()).unwrap_or_default();
    assert!(found == key || (key.ends_with('…') && found.starts_with(key.trim_end_matches('…'))), "{found}");
    assert!(!finding.expected.is_empty() && !finding.found.is_empty());
    finding
}

#[track_caller]
fn clean(sample: &Sample, options: Options) -> ChainReport {
    let report = check(sample, options);
    assert!(report.findings.is_empty() && report.torn.is_none(), "{:#?} {:?}", report.findings, report.torn);
    report
}

fn defaults() -> Options {
    Options::default()
}
