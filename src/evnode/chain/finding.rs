//! What the checker has found, as data.

use std::collections::BTreeMap;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Worth knowing.
    Info,
    /// A promise that nobody made or that cannot be checked.
    Warning,
    /// Something is wrong: a node would refuse it, or do something else than it should.
    Error,
}

/// A rule of the chain, with the stable name of what breaks it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// 1: the tip, and every block's header, data and signature are there.
    Present,
    /// 2: they can be read and are those of their height.
    Readable,
    /// 3: one chain id everywhere.
    ChainId,
    /// 4: the data's metadata is the header's.
    Metadata,
    /// 5: the header's data hash is the data's commitment.
    Commitment,
    /// 6: the header names the header before.
    HeaderLink,
    /// 7: the data name the data before.
    DataLink,
    /// 8: time does not go back.
    Time,
    /// 9: the signature is there and true.
    Signature,
    /// 10: the signer is the proposer.
    Signer,
    /// 11: the proposer is the one expected.
    Proposer,
    /// 12: the state is there and of its block.
    State,
    /// 13: the state names its header.
    StateHeader,
    /// 14: the header names the state before.
    AppHash,
    /// 15: the index finds the block.
    Index,
    /// 16: nothing is above the tip.
    AboveTip,
    /// 17: the pending block is whole.
    Pending,
    /// 18: DA marks are not above the tip, included blocks say where.
    DaMarks,
    /// 19: values have their lengths.
    Lengths,
    /// 20: the execution layer agrees.
    ExecutionLayer,
    /// The hash that the operator trusts.
    Trusted,
    /// The genesis is this chain's.
    Genesis,
    /// The database is of v0.x.
    PreRelease,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 23] = [
        Rule::Present,
        Rule::Readable,
        Rule::ChainId,
        Rule::Metadata,
        Rule::Commitment,
        Rule::HeaderLink,
        Rule::DataLink,
        Rule::Time,
        Rule::Signature,
        Rule::Signer,
        Rule::Proposer,
        Rule::State,
        Rule::StateHeader,
        Rule::AppHash,
        Rule::Index,
        Rule::AboveTip,
        Rule::Pending,
        Rule::DaMarks,
        Rule::Lengths,
        Rule::ExecutionLayer,
        Rule::Trusted,
        Rule::Genesis,
        Rule::PreRelease,
    ];

    /// Its number in the list of rules; 0 for what is no rule of a chain.
    pub fn number(self) -> u8 {
        match self {
            Rule::Trusted | Rule::Genesis | Rule::PreRelease => 0,
            rule => {
                Rule::ALL.iter().position(|other| *other == rule).map_or(0, |at| (at + 1).to_le_bytes()[0])
            }
        }
    }

    /// The stable name of what breaks it.
    pub fn code(self) -> &'static str {
        match self {
            Rule::Present => "block-missing",
            Rule::Readable => "block-unreadable",
            Rule::ChainId => "chain-id",
            Rule::Metadata => "block-metadata",
            Rule::Commitment => "data-commitment",
            Rule::HeaderLink => "header-link",
            Rule::DataLink => "data-link",
            Rule::Time => "block-time",
            Rule::Signature => "block-signature",
            Rule::Signer => "block-signer",
            Rule::Proposer => "block-proposer",
            Rule::State => "block-state",
            Rule::StateHeader => "state-header",
            Rule::AppHash => "app-hash",
            Rule::Index => "block-index",
            Rule::AboveTip => "above-tip",
            Rule::Pending => "pending-block",
            Rule::DaMarks => "da-marks",
            Rule::Lengths => "value-length",
            Rule::ExecutionLayer => "execution-layer",
            Rule::Trusted => "trusted-hash",
            Rule::Genesis => "genesis",
            Rule::PreRelease => "pre-release",
        }
    }
}

/// One thing that the checker has found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was broken.
    pub rule: Rule,
    /// The block.
    pub height: Option<u64>,
    /// The last block, when the same holds from `height` up to it.
    pub until: Option<u64>,
    /// The key of the value that is wrong, or that is not there.
    pub key: Option<Vec<u8>>,
    /// What should be there.
    pub expected: String,
    /// What is.
    pub found: String,
    /// It is a broken link between an unsigned block and a signed one, which `was_based` would have forgiven.
    pub leaves_based: bool,
}

impl Finding {
    pub(super) fn new(
        level: Level,
        rule: Rule,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self { level, rule, height: None, until: None, key: None, expected, found, leaves_based: false }
    }

    pub(super) fn error(rule: Rule, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Error, rule, expected, found)
    }

    pub(super) fn warning(rule: Rule, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(Level::Warning, rule, expected, found)
    }

    pub(super) fn at(mut self, height: u64) -> Self {
        self.height = Some(height);
        self
    }

    pub(super) fn up_to(mut self, height: u64) -> Self {
        self.until = Some(height).filter(|until| Some(*until) != self.height);
        self
    }

    pub(super) fn of(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The last block it is about.
    fn end(&self) -> Option<u64> {
        self.until.or(self.height)
    }

    /// Expected and found in one sentence.
    pub fn message(&self) -> String {
        format!("expected {}, found {}", self.expected, self.found)
    }
}

/// Of one rule and level, so many findings are kept with their words. The others are counted.
const KEPT: usize = 100;

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    /// How many of each rule and level are kept.
    words: BTreeMap<(Rule, Level), usize>,
    counts: BTreeMap<(Rule, Level), u64>,
    /// The latest of each rule and level, which a run may extend.
    latest: BTreeMap<(Rule, Level, &'static str), usize>,
    /// Heights above this may be torn.
    torn_above: Option<u64>,
    /// The heights that are, lowest and highest.
    torn: Option<(u64, u64)>,
}

impl Findings {
    /// What is found above `torn_above` is a torn head.
    pub(super) fn new(torn_above: Option<u64>) -> Self {
        Self { torn_above, ..Self::default() }
    }

    /// Is it above the height up to which everything must be there? Then it is noted as torn.
    pub(super) fn is_torn(&mut self, height: u64) -> bool {
        let torn = self.torn_above.is_some_and(|above| height > above);
        if torn {
            self.torn = match self.torn {
                Some((low, high)) => Some((low.min(height), high.max(height))),
                None => Some((height, height)),
            };
        }
        torn
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if finding.height.is_some_and(|height| self.is_torn(height)) {
            return;
        }
        self.count(finding.rule, finding.level, 1);
        let words = self.words.entry((finding.rule, finding.level)).or_default();
        if *words < KEPT {
            *words += 1;
            self.kept.push(finding);
        }
    }

    /// What is added from now on is found late, of heights that have been passed: as much of it is kept again, until the lowest are known.
    pub(super) fn begin_late(&mut self) {
        self.words.clear();
        self.latest.clear();
    }

    /// Adds a finding that is the same for block after block as one with a beginning and an end. `what` tells several of one rule apart.
    pub(super) fn add_run(&mut self, what: &'static str, finding: Finding) {
        let (Some(height), Some(end)) = (finding.height, finding.end()) else {
            return self.add(finding);
        };
        if self.is_torn(height) {
            self.is_torn(end);
            return;
        }
        let slot = (finding.rule, finding.level, what);
        if let Some(last) = self.latest.get(&slot).and_then(|at| self.kept.get_mut(*at))
            && last.end().and_then(|end| end.checked_add(1)) == Some(height)
        {
            last.until = Some(end);
            let blocks = (end - height).saturating_add(1);
            self.count(finding.rule, finding.level, blocks);
            return;
        }
        let (rule, level, before) = (finding.rule, finding.level, self.kept.len());
        self.add(finding);
        self.count(rule, level, end - height);
        if self.kept.len() > before {
            self.latest.insert(slot, before);
        }
    }

    /// Adds a finding that no tear explains.
    pub(super) fn add_whole(&mut self, finding: Finding) {
        let torn_above = self.torn_above.take();
        self.add(finding);
        self.torn_above = torn_above;
    }

    /// Counts findings of which nothing else is known.
    pub(super) fn count(&mut self, rule: Rule, level: Level, more: u64) {
        if more > 0 {
            let count = self.counts.entry((rule, level)).or_default();
            *count = count.saturating_add(more);
        }
    }

    /// Everything in the order of heights, what is of none first.
    pub(super) fn finish(mut self) -> Found {
        self.kept.sort_by_key(|finding| finding.height);
        let mut words = BTreeMap::<_, usize>::new();
        self.kept.retain(|finding| {
            let words = words.entry((finding.rule, finding.level)).or_default();
            *words += 1;
            *words <= KEPT
        });
        Found { findings: self.kept, counts: self.counts, torn: self.torn }
    }
}

/// All that was found.
pub(super) struct Found {
    pub(super) findings: Vec<Finding>,
    /// How many there were; a run counts its blocks.
    pub(super) counts: BTreeMap<(Rule, Level), u64>,
    /// The torn heights, lowest and highest.
    pub(super) torn: Option<(u64, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_have_their_numbers_and_names_of_their_own() {
        assert_eq!(
            (Rule::Present.number(), Rule::ExecutionLayer.number(), Rule::Trusted.number()),
            (1, 20, 0)
        );
        let mut codes = Rule::ALL.map(Rule::code).to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Rule::ALL.len());
    }

    #[test]
    fn neighbours_make_one_finding_and_many_are_counted() {
        let mut findings = Findings::new(Some(5000));
        let missing = |height| Finding::error(Rule::Present, "a header", "none").at(height);
        findings.add_run("h", missing(3).up_to(5));
        findings.add_run("d", missing(6));
        findings.add_run("h", missing(6));
        findings.add_run("h", missing(8));
        findings.add_run("h", missing(5001));
        for height in 1000..2000 {
            findings.add(Finding::error(Rule::Time, "a", "b").at(height));
        }
        findings.add(Finding::error(Rule::Time, "a", "b").at(6000));
        let Found { findings: kept, counts, torn } = findings.finish();
        let runs: Vec<_> =
            kept.iter().filter(|one| one.rule == Rule::Present).map(|one| (one.height, one.until)).collect();
        assert_eq!(runs, [(Some(3), Some(6)), (Some(6), None), (Some(8), None)]);
        assert_eq!(counts[&(Rule::Present, Level::Error)], 6);
        assert_eq!((counts[&(Rule::Time, Level::Error)], kept.len()), (1000, 103));
        assert_eq!(torn, Some((5001, 6000)));
    }

    #[test]
    fn of_what_is_found_late_the_lowest_heights_are_told() {
        let mut findings = Findings::default();
        let wrong = |height| Finding::error(Rule::Signature, "a", "b").at(height);
        (100..300).for_each(|height| findings.add(wrong(height)));
        findings.begin_late();
        (5..7).for_each(|height| findings.add(wrong(height)));
        (400..600).for_each(|height| findings.add(wrong(height)));
        let Found { findings: kept, counts, .. } = findings.finish();
        let heights: Vec<_> = kept.iter().filter_map(|one| one.height).collect();
        assert_eq!(heights, (5..7).chain(100..198).collect::<Vec<_>>());
        assert_eq!(counts[&(Rule::Signature, Level::Error)], 402);
    }
}
