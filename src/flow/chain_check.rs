//! The blocks of segments and datastores, held against ev-node's rules: what restore reads, with the chain checker in the place of a sink.
//!
//! The checker ([`evnode::chain`](crate::evnode::chain)) is fed entries in key order, newest version first, and must be told what they are
//! at both ends. That is what the manifests know ([`ends`]): a segment that was read at one version is exact, one of Badger's own stream
//! may be torn above the height that it is complete to, and an increment alone begins where it begins.

use super::ahead;
use super::chain::Chain;
use super::finding::{Finding, Level};
use super::segment::Segment;
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::Source;
use crate::error::{Error, Kind, Result};
use crate::evnode::chain::{self, Begins, ChainReport, Checker, Genesis, Head, Options, Rule};
use crate::evnode::hash::Hash;
use crate::evnode::key::Key;
use crate::repo::manifest::{Kind as SegmentKind, Manifest};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The highest block up to which entries are whole.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Complete {
    /// The block.
    pub height: u64,
    /// Up to this version nothing is missing.
    pub version: u64,
}

/// Up to where the first `count` segments of a chain are whole, as their manifests say: where a restore of them can cut. `None` where they
/// do not say, and then only [`report`] tells; a height of 0: there are no blocks.
pub fn complete(chain: &Chain, count: usize) -> Option<Complete> {
    let mut all = Complete::default();
    for segment in chain.segments().iter().take(count) {
        let manifest = segment.manifest()?;
        // An increment since a bare version may end before the segment that it was put behind.
        all.height = all.height.max(manifest.complete_height);
        all.version = all.version.max(manifest.complete_version);
    }
    Some(all)
}

/// Reads the first `count` segments of a chain as one, and checks their blocks; `given` as to their ends is overruled by [`ends`].
///
/// Memory is bounded: `memory` for sorting where a segment does not keep its order, and what the checker takes, some 70 MiB.
pub fn report(
    chain: &Chain,
    count: usize,
    given: Options,
    memory: usize,
    progress: &Progress,
) -> Result<ChainReport> {
    let options = ends(chain, count, given);
    let scratch = options.scratch.clone().unwrap_or_else(Scratch::system);
    let mut source = chain.source_of(count, &scratch, memory, progress)?;
    feed(&mut *source, options, progress)
}

/// Checks the blocks of everything that `source` yields, in its order.
pub fn feed(source: &mut dyn Source, mut options: Options, progress: &Progress) -> Result<ChainReport> {
    options.progress.get_or_insert_with(|| progress.clone());
    let mut checker = Checker::new(options);
    let (mut bytes, mut entries) = (0, 0);
    ahead::each(source, |entry| {
        checker.feed(entry)?;
        bytes += (entry.key.len() + entry.value.len()) as u64;
        entries += 1;
        if bytes >= 1 << 20 || entries >= 1 << 12 {
            progress.check()?;
            progress.add(bytes, entries);
            (bytes, entries) = (0, 0);
        }
        Ok(())
    })?;
    progress.add(bytes, entries);
    checker.finish()
}

/// What the first `count` segments are at both ends.
pub fn ends(chain: &Chain, count: usize, given: Options) -> Options {
    let segments = chain.segments().get(..count).unwrap_or(chain.segments());
    let begins = match segments.first().map(Segment::manifest) {
        Some(Some(manifest)) if manifest.kind == SegmentKind::Full => Begins::Whole,
        Some(Some(_)) => Begins::Part,
        Some(None) => Begins::Unknown,
        None => Begins::Whole,
    };
    let head = segments.last().map(|segment| segment.manifest().map_or(Head::Unknown, head_of));
    Options { begins, head: head.unwrap_or_default(), ..given }
}

fn head_of(newest: &Manifest) -> Head {
    match (newest.pinned, newest.complete_height) {
        (true, _) => Head::Exact,
        (false, 0) => Head::Unknown,
        (false, height) => Head::Announced(height),
    }
}

/// The longest `genesis.json` that is read; ev-node's own have some 200 bytes.
const MAX_GENESIS: u64 = 1 << 20;

/// Reads a chain's `genesis.json`.
pub fn genesis(path: &Path) -> Result<Genesis> {
    let file = File::open(path).map_err(|error| Error::from_io(error, "open it", path))?;
    let mut json = Vec::new();
    let read = file.take(MAX_GENESIS + 1).read_to_end(&mut json);
    let read = read.map_err(|error| Error::from_io(error, "read it", path))?;
    if read as u64 > MAX_GENESIS {
        let what = format!("expected an ev-node genesis of at most {MAX_GENESIS} bytes, found a longer file");
        return Err(Error::damaged(what).at_path(path));
    }
    Genesis::from_json(&json).map_err(|error| error.at_path(path))
}

/// 32 bytes that somebody gives as hex, with or without 0x.
pub fn hash(what: &str, hex: &str) -> Result<Hash> {
    let digits = hex.strip_prefix("0x").unwrap_or(hex);
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        let found = hex.escape_debug();
        Error::invalid(format!("expected {what} of 64 hex digits, found \"{found}\""))
    })
}

/// What a report found, as findings of ours. Those of a torn head are one, which is no damage.
pub fn findings(report: &ChainReport) -> Vec<Finding> {
    let mut findings: Vec<_> = report.findings.iter().map(|found| finding(found, report)).collect();
    for ((rule, level), count) in &report.counts {
        let told = report.findings.iter().filter(|one| (one.rule, one.level) == (*rule, *level));
        let told = told.map(blocks_of).fold(0, u64::saturating_add);
        if let Some(more) = count.checked_sub(told).filter(|more| *more > 0) {
            let text = format!("expected no more of this, found {more} more");
            let mut finding = Finding::new(level_of(*level), rule.code(), kind_of(*rule), text);
            finding.rule = number_of(*rule);
            findings.push(finding);
        }
    }
    if let Some((low, high)) = report.torn {
        let what =
            if low == high { format!("block {low} was") } else { format!("blocks {low} to {high} were") };
        let text = format!("{what} still being written when the stream passed: a restore leaves that out");
        let mut finding = Finding::info("torn-head", text);
        (finding.height, finding.until) = (Some(low), Some(high).filter(|high| *high != low));
        findings.push(finding);
    }
    findings
}

/// How many blocks it is about.
fn blocks_of(finding: &chain::Finding) -> u64 {
    match (finding.height, finding.until) {
        (Some(from), Some(to)) => to.saturating_sub(from).saturating_add(1),
        _ => 1,
    }
}

fn finding(found: &chain::Finding, report: &ChainReport) -> Finding {
    let mut place = match (found.height, found.until) {
        (Some(from), Some(to)) => format!("blocks {from} to {to}"),
        (Some(height), None) => format!("block {height}"),
        _ => String::new(),
    };
    if let Some(key) = &found.key {
        let key = Key::parse(key);
        place = if place.is_empty() { key.to_string() } else { format!("{place} ({key})") };
    }
    let separator = if place.is_empty() { "" } else { ": " };
    let text = format!("{place}{separator}{}", found.message());
    let mut finding = Finding::new(level_of(found.level), found.rule.code(), kind_of(found.rule), text);
    (finding.height, finding.until, finding.rule) = (found.height, found.until, number_of(found.rule));
    finding.hint = hint_of(found, report).map(str::to_owned);
    match &found.key {
        Some(key) => finding.with_key(key),
        None => finding,
    }
}

fn level_of(level: chain::Level) -> Level {
    match level {
        chain::Level::Info => Level::Info,
        chain::Level::Warning => Level::Warning,
        chain::Level::Error => Level::Error,
    }
}

fn number_of(rule: Rule) -> Option<u8> {
    Some(rule.number()).filter(|number| *number > 0)
}

/// Two chains, or a chain and what it is held against, that do not belong together; else damage.
fn kind_of(rule: Rule) -> Kind {
    match rule {
        Rule::ChainId | Rule::Genesis | Rule::Trusted | Rule::ExecutionLayer => Kind::Mismatch,
        Rule::PreRelease => Kind::Unsupported,
        _ => Kind::Damaged,
    }
}

fn hint_of(found: &chain::Finding, report: &ChainReport) -> Option<&'static str> {
    let most = || report.count(Rule::Signature, chain::Level::Error) > report.blocks / 2;
    match found.rule {
        Rule::Genesis => Some("is it the genesis.json of this chain?"),
        Rule::Trusted => {
            Some("is it the hash of this chain's header, and does the backup reach that height?")
        }
        Rule::HeaderLink if found.leaves_based => {
            Some("of a chain that has left its based sequencer one link may be broken: say was_based=True")
        }
        Rule::ExecutionLayer => Some("cut the chain at the height of the execution layer's copy"),
        Rule::PreRelease => Some("its bytes can be copied and restored; its blocks cannot be checked or cut"),
        // Of a few blocks it would lead away from what is wrong with them.
        Rule::Signature if found.level == chain::Level::Error && most() => {
            Some("does the app sign bytes of its own (signatures=\"other-payload\") or none (\"optional\")?")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evnode::chain::Signatures;
    use crate::evnode::sample::{Sample, Stage};

    fn told(forged: impl Fn(u64) -> bool, signatures: Signatures) -> Vec<Finding> {
        let mut sample = Sample::new(1);
        sample.extend(30, |stage, draft| {
            if stage == Stage::Signed && forged(draft.height) {
                draft.signature[3] ^= 1;
                draft.signature_beside[3] ^= 1;
            }
        });
        let mut checker = Checker::new(Options { signatures, ..Options::default() });
        sample.entries().try_for_each(|entry| checker.feed(&entry)).unwrap();
        findings(&checker.finish().unwrap())
    }

    #[test]
    fn only_where_most_signatures_are_wrong_the_app_may_be_why() {
        let one = told(|height| height == 12, Signatures::Required);
        assert_eq!((one.len(), &one[0].hint), (1, &None));
        let all = told(|_| true, Signatures::Required);
        assert_eq!(all.len(), 30);
        assert!(all.iter().all(|found| found.hint.as_ref().unwrap().contains("other-payload")));
        let said = told(|_| true, Signatures::OtherPayload);
        assert_eq!((said.len(), &said[0].hint), (1, &None));
    }
}
