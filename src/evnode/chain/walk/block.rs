//! Rules 3 to 14 and 20: one block, and the block before it.

use super::{Rows, Walk, time_of};
use crate::evnode::chain::finding::{Finding, Findings, Rule};
use crate::evnode::chain::intake::level;
use crate::evnode::chain::options::Signatures;
use crate::evnode::chain::row::{
    DataRow, HeaderRow, LEGACY, NO_KEY, Name, Names, OTHER_KEY, PRESENT, Short, StateRow, VALIDATORS, hex,
};
use crate::evnode::hash::Hash;
use crate::evnode::key::Key;
use crate::evnode::record::Timestamp;

impl Walk<'_> {
    pub(super) fn check_block(&mut self, rows: &Rows, before: &Rows, findings: &mut Findings) {
        if let Some(header) = rows.readable_header() {
            self.walked.blocks += 1;
            self.check_chain_id(header, findings);
            self.check_links(header, before.readable_header(), findings);
            self.check_signature(header, rows, findings);
            self.check_signer(header, rows, before, findings);
            self.check_proposer(header, before, findings);
            if let Some(data) = rows.readable_data() {
                self.check_data(header, data, findings);
            }
            if let Some(state) = rows.readable_state() {
                self.check_state(header, state, findings);
            }
            if let Some(state) = before.readable_state()
                && state.app_hash != header.app_hash
            {
                let expected = format!("the app hash of the state before, {}", state.app_hash.text());
                findings.add(header_finding(header, Rule::AppHash, expected, header.app_hash.text()));
            }
            self.check_given(header, rows.readable_state(), findings);
        }
        if let (Some(data), Some(last)) = (rows.readable_data(), before.readable_data()) {
            check_data_link(data, last, findings);
        }
    }

    /// Rule 3.
    fn check_chain_id(&self, header: &HeaderRow, findings: &mut Findings) {
        if !Names::same(header.chain, self.chain) {
            let (expected, found) = (self.chain_id(self.chain), self.chain_id(header.chain));
            findings.add(header_finding(header, Rule::ChainId, expected, found));
        }
    }

    /// Rules 6 and 8.
    fn check_links(&mut self, header: &HeaderRow, last: Option<&HeaderRow>, findings: &mut Findings) {
        if let Some(last) = last {
            if header.last_header_hash != Short::new(&last.hash) {
                let expected = format!("the hash of header {}, {}", last.height, hex(&last.hash));
                let mut finding =
                    header_finding(header, Rule::HeaderLink, expected, header.last_header_hash.text());
                let leaves = !is_signed(last) && is_signed(header);
                finding.level = level(self.forgiven || !leaves);
                finding.leaves_based = leaves && !self.checker.options.was_based;
                self.forgiven |= leaves;
                findings.add(finding);
            }
            if header.time < last.time {
                let expected = format!("a time of at least {}", last.time);
                findings.add(header_finding(header, Rule::Time, expected, header.time.to_string()));
            }
        }
        if let Some(genesis) = self.genesis_time.filter(|_| self.initial == Some(header.height))
            && genesis != Timestamp::from_nanos(header.time)
        {
            let found = Timestamp::from_nanos(header.time);
            let text = |time: Timestamp| format!("{}.{:09}", time.seconds, time.nanos);
            let expected = format!("the time of the genesis, {}", text(genesis));
            let mut finding = header_finding(header, Rule::Time, expected, text(found));
            finding.level = level(false);
            findings.add(finding);
        }
    }

    /// Rule 9, but for the signatures that the crew verifies.
    fn check_signature(&mut self, header: &HeaderRow, rows: &Rows, findings: &mut Findings) {
        let options = &self.checker.options;
        let height = header.height;
        if let Some(beside) = rows.signature.filter(|row| row.signature != header.signature) {
            let expected = format!("the signature in the header, {} bytes", header.signature.length());
            let found = format!("another one, {} bytes", beside.signature.length());
            let finding = Finding::error(Rule::Signature, expected, found);
            findings.add(finding.at(height).of(Key::Signature(height).to_bytes()));
        }
        if header.signature.length() == 0 {
            if options.signatures != Signatures::Optional {
                findings.add(header_finding(header, Rule::Signature, "a signature", "none"));
            }
            return;
        }
        if options.signatures == Signatures::Unverified {
            return;
        }
        if options.signatures == Signatures::OtherPayload || header.flags & OTHER_KEY != 0 {
            let (first, blocks) = self.unverifiable.unwrap_or((height, 0));
            self.unverifiable = Some((first, blocks + 1));
            return;
        }
        if header.flags & NO_KEY != 0 {
            findings.add(header_finding(header, Rule::Signature, "a signer's key", "none"));
        } else if header.signature.length() != 64 {
            let validators = header.flags & VALIDATORS != 0;
            findings.add(unsound(height, validators));
        }
    }

    /// Rule 10.
    fn check_signer(&self, header: &HeaderRow, rows: &Rows, before: &Rows, findings: &mut Findings) {
        if header.flags & NO_KEY != 0 {
            return;
        }
        // Nodes hold the address against the key from v1.2.0 on, whose states name the next proposer.
        let names_proposer = |state: Option<&StateRow>| state.is_some_and(|state| state.next_proposer != 0);
        let strict = names_proposer(rows.readable_state()) || names_proposer(before.readable_state());
        if !Names::same(header.signer, header.key_address) {
            let expected = format!("the address of the signer's key, {}", self.address(header.key_address));
            let mut finding = header_finding(header, Rule::Signer, expected, self.address(header.signer));
            finding.level = level(strict);
            findings.add(finding);
        } else if !Names::same(header.signer, header.proposer) {
            let expected = format!("the proposer {} as signer", self.address(header.proposer));
            findings.add(header_finding(header, Rule::Signer, expected, self.address(header.signer)));
        }
    }

    /// Rule 11.
    fn check_proposer(&self, header: &HeaderRow, before: &Rows, findings: &mut Findings) {
        let state = before.readable_state();
        let named = state.map(|state| state.next_proposer).filter(|name| *name != 0);
        let last = || before.readable_header().map(|last| last.proposer);
        let begins = self.initial == Some(header.height);
        let (expected, known) = match (named, self.genesis_proposer) {
            // Whatever the state before says: a node has it from the genesis.
            (_, Some(genesis)) if begins => (genesis, true),
            (Some(name), _) => (name, true),
            // Without the state nobody knows whether it named another one.
            (None, Some(genesis)) => (genesis, state.is_some()),
            (None, None) => match last() {
                Some(last) => (last, false),
                None => return,
            },
        };
        if !Names::same(expected, header.proposer) {
            let expected = format!("the proposer {}", self.address(expected));
            let mut finding = header_finding(header, Rule::Proposer, expected, self.address(header.proposer));
            finding.level = level(known);
            findings.add(finding);
        }
    }

    /// The state before the first block has its proposer from the genesis.
    pub(super) fn check_beginning(&self, rows: &Rows, findings: &mut Findings) {
        if self.initial.and_then(|initial| initial.checked_sub(1)) != Some(rows.height) {
            return;
        }
        let named = rows.readable_state().map(|state| state.next_proposer).filter(|name| *name != 0);
        if let (Some(found), Some(genesis)) = (named, self.genesis_proposer)
            && !Names::same(found, genesis)
        {
            let expected = format!("the proposer {}, as the genesis has it", self.address(genesis));
            let finding = Finding::error(Rule::Genesis, expected, self.address(found)).at(rows.height);
            findings.add(finding.of(Key::State(rows.height).to_bytes()));
        }
    }

    /// Rules 4 and 5.
    fn check_data(&self, header: &HeaderRow, data: &DataRow, findings: &mut Findings) {
        let height = header.height;
        let mut wrong = |expected: String, found: String, error: bool| {
            let mut finding = Finding::error(Rule::Metadata, expected, found).at(height);
            finding.level = level(error);
            findings.add(finding.of(Key::Data(height).to_bytes()));
        };
        if data.flags & PRESENT == 0 {
            let old = self.initial.is_none_or(|initial| initial == height) && header.flags & LEGACY != 0;
            wrong("metadata".to_owned(), "none".to_owned(), !old);
        } else if !Names::same(data.chain, header.chain) {
            wrong(self.chain_id(header.chain), self.chain_id(data.chain), true);
        } else if data.own_height != header.own_height {
            wrong(format!("height {height}"), data.own_height.to_string(), true);
        } else if data.time != header.time {
            wrong(format!("the header's time, {}", header.time), data.time.to_string(), true);
        }
        if header.data_hash != Short::new(&data.commitment) {
            let expected = format!("the commitment of the data, {}", hex(&data.commitment));
            findings.add(header_finding(header, Rule::Commitment, expected, header.data_hash.text()));
        }
    }

    /// Rules 12 and 13.
    fn check_state(&self, header: &HeaderRow, state: &StateRow, findings: &mut Findings) {
        let height = header.height;
        let mut wrong = |rule: Rule, expected: String, found: String| {
            findings.add(Finding::error(rule, expected, found).at(height).of(Key::State(height).to_bytes()));
        };
        if state.own_height != height {
            wrong(Rule::State, format!("a state after block {height}"), state.own_height.to_string());
        } else if !Names::same(state.chain, header.chain) {
            wrong(Rule::State, self.chain_id(header.chain), self.chain_id(state.chain));
        } else if state.flags & PRESENT == 0 || time_of(state) != Timestamp::from_nanos(header.time) {
            let found = format!("{}.{:09} s", state.seconds, state.nanos);
            wrong(Rule::State, format!("the header's time, {} ns", header.time), found);
        }
        if !state.last_header_hash.is_empty() && state.last_header_hash != Short::new(&header.hash) {
            let expected = format!("the hash of header {height}, {}", hex(&header.hash));
            wrong(Rule::StateHeader, expected, state.last_header_hash.text());
        }
    }

    /// Rule 20, and the hash that the operator trusts.
    fn check_given(&mut self, header: &HeaderRow, state: Option<&StateRow>, findings: &mut Findings) {
        let height = header.height;
        if let Some((_, hash)) = self.trusted.take_if(|(trusted, _)| *trusted == height)
            && hash != header.hash
        {
            let expected = format!("hash {}", hex(&hash));
            findings.add_whole(header_finding(header, Rule::Trusted, expected, hex(&header.hash)));
        }
        let Some(layer) = self.layer.take_if(|layer| layer.height == height) else {
            return;
        };
        let seconds = header.time / 1_000_000_000;
        if let Some(timestamp) = layer.timestamp.filter(|timestamp| *timestamp != seconds) {
            let expected = format!("the execution layer's time, {timestamp} s");
            findings.add_whole(header_finding(header, Rule::ExecutionLayer, expected, seconds.to_string()));
        }
        if let Some(root) = layer.state_root {
            let found = state.map_or_else(|| "no state".to_owned(), |state| state.app_hash.text());
            if state.is_none_or(|state| state.app_hash != Short::new(&root)) {
                let expected = format!("the execution layer's state root, {}", hex(&root));
                let finding = Finding::error(Rule::ExecutionLayer, expected, found).at(height);
                findings.add_whole(finding.of(Key::State(height).to_bytes()));
            }
        }
    }

    fn chain_id(&self, name: Name) -> String {
        match self.checker.names.name(name) {
            [] => "no chain id".to_owned(),
            id => format!("chain id {}", id.escape_ascii()),
        }
    }

    fn address(&self, name: Name) -> String {
        match self.checker.names.name(name) {
            [] => "none".to_owned(),
            address => hex(address),
        }
    }
}

/// A based sequencer's blocks have neither signature nor key.
fn is_signed(header: &HeaderRow) -> bool {
    header.signature.length() > 0 || header.flags & NO_KEY == 0
}

/// Rule 7.
fn check_data_link(data: &DataRow, last: &DataRow, findings: &mut Findings) {
    let linked = |hash: &Hash| data.last_data_hash == Short::new(hash);
    if data.flags & PRESENT == 0 || linked(&last.hash) {
        return;
    }
    let expected = format!("the hash of data {}, {}", last.height, hex(&last.hash));
    let mut finding = Finding::error(Rule::DataLink, expected, data.last_data_hash.text()).at(data.height);
    finding.level = level(!data.last_data_hash.is_empty());
    findings.add(finding.of(Key::Data(data.height).to_bytes()));
}

/// Rule 9: a signature that holds for neither payload.
pub(in crate::evnode::chain) fn unsound(height: u64, validators: bool) -> Finding {
    let found = if validators {
        "one that does not hold, and a validator hash: does the app sign bytes of its own?"
    } else {
        "one that does not hold"
    };
    let finding = Finding::error(Rule::Signature, "a signature over ev-node's default payload", found);
    finding.at(height).of(Key::Header(height).to_bytes())
}

fn header_finding(
    header: &HeaderRow,
    rule: Rule,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Finding {
    Finding::error(rule, expected, found).at(header.height).of(Key::Header(header.height).to_bytes())
}
