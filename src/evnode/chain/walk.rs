//! The pass over all heights: which records are there, and what it means for those of one block. What a block is to its neighbours is in
//! [`block`].

mod block;

pub(super) use block::unsound;

use super::finding::{Finding, Findings, Level, Rule};
use super::intake::Checker;
use super::metadata::from_error;
use super::options::{Begins, ExecutionLayer};
use super::row::{BROKEN, DataRow, HeaderRow, IncludedRow, Name, SignatureRow, StateRow, hex};
use super::spool::Reader;
use crate::error::Result;
use crate::evnode::hash::Hash;
use crate::evnode::key::{Family, Key, Mark, Part};
use crate::evnode::record::Timestamp;
use std::collections::BTreeSet;

/// What the pass has learnt.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Headers compared.
    pub(super) blocks: u64,
    /// The highest height up to which everything is whole, and its header's version.
    pub(super) complete: Option<(u64, u64)>,
}

pub(super) struct Walk<'a> {
    checker: &'a Checker,
    /// The first block that must be there.
    base: u64,
    /// The last one; none when there are no blocks.
    top: Option<u64>,
    initial: Option<u64>,
    chain: Name,
    genesis_proposer: Option<Name>,
    genesis_time: Option<Timestamp>,
    /// States are there from here on.
    states_from: u64,
    /// Nothing above it need be whole.
    last: u64,
    unindexed: BTreeSet<u64>,
    walked: Walked,
    whole: bool,
    /// The one link that may be broken, behind a based sequencer's blocks, was; or none may be.
    forgiven: bool,
    unverifiable: Option<(u64, u64)>,
    /// What is still to be seen of what the caller knows: the trusted block, and the execution layer's.
    trusted: Option<(u64, Hash)>,
    layer: Option<ExecutionLayer>,
}

/// Everything of one height.
#[derive(Clone, Copy, Debug, Default)]
struct Rows {
    height: u64,
    header: Option<HeaderRow>,
    data: Option<DataRow>,
    signature: Option<SignatureRow>,
    state: Option<StateRow>,
    /// DA heights of header and data.
    included: [bool; 2],
}

impl Rows {
    fn readable_header(&self) -> Option<&HeaderRow> {
        self.header.as_ref().filter(|row| row.flags & BROKEN == 0 && row.own_height == row.height)
    }

    fn readable_data(&self) -> Option<&DataRow> {
        self.data.as_ref().filter(|row| row.flags & BROKEN == 0)
    }

    fn readable_state(&self) -> Option<&StateRow> {
        self.state.as_ref().filter(|row| row.flags & BROKEN == 0)
    }
}

/// The rows of all families, height by height.
struct Readers<'a> {
    headers: Reader<'a, HeaderRow>,
    data: Reader<'a, DataRow>,
    signatures: Reader<'a, SignatureRow>,
    states: Reader<'a, StateRow>,
    included: Reader<'a, IncludedRow>,
}

impl<'a> Readers<'a> {
    fn new(checker: &'a Checker) -> Result<Self> {
        Ok(Self {
            headers: checker.headers.read()?,
            data: checker.data.read()?,
            signatures: checker.signatures.read()?,
            states: checker.states.read()?,
            included: checker.included.read()?,
        })
    }

    /// Everything of the lowest height that is left.
    fn next(&mut self) -> Result<Option<Rows>> {
        let heights = [
            self.headers.height(),
            self.data.height(),
            self.signatures.height(),
            self.states.height(),
            self.included.height(),
        ];
        let Some(height) = heights.into_iter().flatten().min() else {
            return Ok(None);
        };
        let mut rows = Rows {
            height,
            header: self.headers.take(height)?,
            data: self.data.take(height)?,
            signature: self.signatures.take(height)?,
            state: self.states.take(height)?,
            included: [false; 2],
        };
        while let Some(row) = self.included.take(height)? {
            if let Some(part) = rows.included.get_mut(usize::from(row.part)) {
                *part = true;
            }
        }
        Ok(Some(rows))
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        checker: &'a mut Checker,
        range: Option<(u64, u64)>,
        initial: Option<u64>,
        chain: Name,
        last: Option<u64>,
        unindexed: BTreeSet<u64>,
    ) -> Self {
        let genesis = checker.options.genesis.clone();
        let genesis_proposer =
            genesis.as_ref().map(|genesis| checker.names.number(&genesis.proposer_address));
        // One that names nobody says nothing.
        let genesis_proposer = genesis_proposer.filter(|name| *name != 0);
        let (base, top) = range.map_or((1, None), |(base, top)| (base, Some(top)));
        let pruned = checker.metadata.marks.get(&Mark::PrunedStates).copied().unwrap_or_default();
        let top_or_none = top.unwrap_or_default();
        Self {
            base,
            top,
            initial,
            chain,
            genesis_proposer,
            genesis_time: genesis.map(|genesis| genesis.start_time),
            states_from: base.max(pruned.saturating_add(1)),
            last: last.map_or(top_or_none, |last| last.min(top_or_none)),
            unindexed,
            walked: Walked::default(),
            whole: true,
            forgiven: !checker.options.was_based,
            unverifiable: None,
            trusted: checker.options.trusted,
            layer: checker.options.execution_layer,
            checker,
        }
    }

    /// Goes through all heights.
    pub(super) fn run(mut self, findings: &mut Findings) -> Result<Walked> {
        let mut readers = Readers::new(self.checker)?;
        let mut before = Rows::default();
        // None behind the highest height that there can be.
        let mut next = Some(self.base);
        let mut passed = 0_u32;
        while let Some(mut rows) = readers.next()? {
            let height = rows.height;
            passed = passed.wrapping_add(1);
            if passed.is_multiple_of(4096) {
                self.checker.options.check()?;
            }
            self.check_readable(&rows, findings);
            self.check_beginning(&rows, findings);
            if self.top.is_none_or(|top| height > top) {
                if let Some(top) = self.top {
                    self.gap(next, top, findings);
                    next = None;
                }
                self.check_above(&rows, findings);
                continue;
            }
            if height < self.base {
                // Of what is pruned the state alone counts: the block after it names it.
                before = Rows { height, state: rows.state, ..Rows::default() };
                if self.initial.and_then(|initial| initial.checked_sub(1)) == Some(height) {
                    self.genesis_time = self.genesis_time.or_else(|| before.readable_state().map(time_of));
                }
                continue;
            }
            if let Some(end) = height.checked_sub(1) {
                self.gap(next, end, findings);
            }
            if Some(height) == self.top && rows.state.is_none() {
                rows.state = self.newest_state(height);
            }
            if before.height.checked_add(1) != Some(height) {
                before = Rows::default();
            }
            self.check_present(&rows, findings);
            self.check_block(&rows, &before, findings);
            before = rows;
            next = height.checked_add(1);
        }
        if let Some(top) = self.top {
            self.gap(next, top, findings);
        }
        self.check_once(findings);
        Ok(self.walked)
    }

    /// Of releases that kept only the newest state, that one counts for the tip.
    fn newest_state(&self, height: u64) -> Option<StateRow> {
        let only = self.checker.states.top().is_none();
        self.checker.newest_state.filter(|_| only).map(|state| StateRow { height, ..state })
    }

    /// Heights of which there is nothing at all.
    fn gap(&mut self, from: Option<u64>, to: u64, findings: &mut Findings) {
        let Some(from) = from.filter(|from| *from <= to) else {
            return;
        };
        self.whole = false;
        for (what, key) in
            [("header", Key::Header(from)), ("data", Key::Data(from)), ("signature", Key::Signature(from))]
        {
            missing(what, &key, (from, to), findings);
        }
    }

    /// Rule 2, whatever the height.
    fn check_readable(&self, rows: &Rows, findings: &mut Findings) {
        let height = rows.height;
        if height < self.base && self.top.is_some() {
            return;
        }
        let broken = |flags: u8| flags & BROKEN != 0;
        let families = [
            (
                Family::Headers,
                Key::Header(height),
                Rule::Readable,
                rows.header.is_some_and(|row| broken(row.flags)),
            ),
            (Family::Data, Key::Data(height), Rule::Readable, rows.data.is_some_and(|row| broken(row.flags))),
            (
                Family::States,
                Key::State(height),
                Rule::State,
                rows.state.is_some_and(|row| broken(row.flags)),
            ),
        ];
        for (family, key, rule, broken) in families {
            if broken {
                let why = self.checker.broken.get(&(family, height));
                let why = why.map_or("expected a record, found one that cannot be read", String::as_str);
                findings.add(from_error(Level::Error, rule, why).at(height).of(key.to_bytes()));
            }
        }
        if let Some(row) = rows.header.filter(|row| !broken(row.flags) && row.own_height != height) {
            let (expected, found) =
                (format!("a header of height {height}"), format!("one of {}", row.own_height));
            let finding = Finding::error(Rule::Readable, expected, found).at(height);
            findings.add(finding.of(Key::Header(height).to_bytes()));
        }
    }

    /// Rules 1, 12 and 18: what must be there is.
    fn check_present(&mut self, rows: &Rows, findings: &mut Findings) {
        let height = rows.height;
        let parts = [
            ("header", Key::Header(height), rows.header.is_some()),
            ("data", Key::Data(height), rows.data.is_some()),
            ("signature", Key::Signature(height), rows.signature.is_some()),
        ];
        for (what, key, there) in parts {
            if !there {
                missing(what, &key, (height, height), findings);
            }
        }
        // Pruning leaves the newest one, whatever its mark says.
        let expected = height >= self.states_from || height == self.last;
        let state_missing = rows.state.is_none() && expected && self.has_states(height);
        if state_missing {
            let level = if height == self.last { Level::Error } else { Level::Warning };
            let finding = Finding::new(level, Rule::State, "a state", "none").at(height);
            findings.add_run("state", finding.of(Key::State(height).to_bytes()));
        }
        self.whole &= rows.readable_header().is_some() && rows.readable_data().is_some();
        self.whole &= rows.signature.is_some() && !self.unindexed.contains(&height);
        self.whole &=
            !(state_missing && height >= self.last) && rows.state.is_none_or(|row| row.flags & BROKEN == 0);
        if self.whole && height <= self.last {
            let version = rows.header.map_or(0, |row| row.version);
            self.walked.complete = Some((height, version));
        }
        let included = self.checker.metadata.marks.get(&Mark::DaIncluded).copied().unwrap_or_default();
        if height <= included && self.checker.options.begins != Begins::Part {
            for (part, there) in [Part::Header, Part::Data].into_iter().zip(rows.included) {
                if !there {
                    let what = if part == Part::Header { "header" } else { "data" };
                    let finding =
                        Finding::warning(Rule::DaMarks, format!("a DA height of the {what}"), "none");
                    findings.add_run(what, finding.at(height).of(Key::DaHeight(height, part).to_bytes()));
                }
            }
        }
    }

    /// Are there states of single heights, or should there be one at this height?
    fn has_states(&self, height: u64) -> bool {
        height == self.last || self.checker.states.top().is_some()
    }

    /// Rule 16.
    fn check_above(&mut self, rows: &Rows, findings: &mut Findings) {
        let height = rows.height;
        let there = [
            ("header", Key::Header(height), rows.header.is_some()),
            ("data", Key::Data(height), rows.data.is_some()),
            ("signature", Key::Signature(height), rows.signature.is_some()),
            ("state", Key::State(height), rows.state.is_some()),
        ];
        let names: Vec<_> = there.iter().filter(|(_, _, there)| *there).map(|(name, _, _)| *name).collect();
        let Some((_, key, _)) = there.iter().find(|(_, _, there)| *there) else {
            // DA heights are written as hints before their block.
            return;
        };
        let Some(top) = self.top else {
            // A chain without blocks has the state that it begins with.
            return;
        };
        let is_next = top.checked_add(1) == Some(height);
        let unsigned = rows.signature.is_some_and(|row| row.signature.length() == 0);
        if is_next && unsigned && rows.state.is_none() && !self.checker.metadata.has_pending() {
            let expected = format!("nothing above the tip, {top}");
            let found = "a pending block as releases up to v1.0.0-rc.4 keep it";
            let finding = Finding::new(Level::Info, Rule::AboveTip, expected, found).at(height);
            findings.add_whole(finding.of(key.to_bytes()));
            return;
        }
        let finding =
            Finding::error(Rule::AboveTip, format!("nothing above the tip, {top}"), names.join(", "));
        findings.add_run("above", finding.at(height).of(key.to_bytes()));
    }

    /// What is said once, or of one block only.
    fn check_once(&mut self, findings: &mut Findings) {
        if let Some((first, blocks)) = self.unverifiable {
            let expected = "signatures over ev-node's default payload by Ed25519 keys";
            let found = format!("{blocks} that cannot be verified, the first here");
            findings.add(Finding::warning(Rule::Signature, expected, found).at(first));
        }
        let top = self.top.unwrap_or_default();
        let found = |height: u64| {
            if self.top.is_none() {
                "no blocks".to_owned()
            } else if height < self.base || height > top {
                format!("blocks {} to {top}", self.base)
            } else {
                "no header that can be read".to_owned()
            }
        };
        if let Some((height, hash)) = self.trusted {
            let expected = format!("block {height} with hash {}", hex(&hash));
            findings.add_whole(Finding::error(Rule::Trusted, expected, found(height)).at(height));
        }
        if let Some(layer) = self.layer {
            let expected = format!("block {} of the execution layer", layer.height);
            let finding = Finding::error(Rule::ExecutionLayer, expected, found(layer.height));
            findings.add_whole(finding.at(layer.height));
        }
    }
}

fn time_of(state: &StateRow) -> Timestamp {
    Timestamp { seconds: state.seconds, nanos: state.nanos }
}

fn missing(what: &'static str, key: &Key<'_>, (from, to): (u64, u64), findings: &mut Findings) {
    let finding = Finding::error(Rule::Present, format!("a {what}").replace("a data", "data"), "none");
    findings.add_run(what, finding.at(from).up_to(to).of(key.to_bytes()));
}
