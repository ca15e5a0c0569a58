//! Rules 17 to 19, and the tip: what stands beside the blocks.

use super::finding::{Finding, Findings, Level, Rule};
use super::options::Head;
use super::row::{Name, Names};
use crate::entry::Entry;
use crate::error::Error;
use crate::evnode::key::{Key, Mark, Part, TIP};
use crate::evnode::record::{
    Batch, Checkpoint, Data, ExecMeta, Included, SignedHeader, mark_be, mark_le, snapshot,
};
use crate::evnode::wire::shown;
use std::collections::BTreeMap;

/// Wrong values that are kept with their words; more are counted.
const KEPT: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) tip: Option<u64>,
    tip_wrong: Option<Finding>,
    pub(super) marks: BTreeMap<Mark, u64>,
    pub(super) pruned_exec_meta: Option<u64>,
    pending: BTreeMap<Part, Pending>,
    wrong: Vec<Finding>,
    more_wrong: u64,
}

/// The header or the data of the block in production.
#[derive(Debug)]
enum Pending {
    Of { height: u64, chain: Name },
    Broken(Finding),
}

/// The finding that an error is: its text says expected and found.
pub(super) fn from_error(level: Level, rule: Rule, error: &str) -> Finding {
    let text = error.strip_prefix("expected ").unwrap_or(error);
    let (expected, found) = text.split_once(", found ").unwrap_or((text, "something else"));
    Finding::new(level, rule, expected, found)
}

impl Metadata {
    /// Takes a key that is neither of a block nor of the index.
    pub(super) fn take(&mut self, key: &Key<'_>, entry: &Entry<'_>, names: &mut Names) {
        let value = entry.value;
        let read = match key {
            Key::Tip => {
                match mark_le(value) {
                    Ok(tip) => self.tip = Some(tip),
                    Err(error) => {
                        let finding = from_error(Level::Error, Rule::Present, error.what());
                        self.tip_wrong = Some(finding.of(TIP));
                    }
                }
                Ok(())
            }
            Key::Mark(mark) => mark_le(value).map(|height| {
                self.marks.insert(*mark, height);
            }),
            Key::PrunedExecMeta => mark_be(value).map(|height| self.pruned_exec_meta = Some(height)),
            Key::Pending(part) => {
                let pending = pending(*part, value, names).unwrap_or_else(|error| {
                    Pending::Broken(from_error(Level::Warning, Rule::Pending, error.what()).of(entry.key))
                });
                self.pending.insert(*part, pending);
                Ok(())
            }
            Key::CacheSnapshot(_) => snapshot(value).map(|_| ()),
            Key::CacheEntry(..) => Included::decode(value).map(|_| ()),
            Key::Queued(_) | Key::QueuedByHash(_) => Batch::decode(value).map(|_| ()),
            Key::OtherQueued(name) => {
                Err(Error::damaged(format!("expected a name of 16 or 64 hex digits, found {}", shown(name))))
            }
            Key::SingleCheckpoint | Key::BasedCheckpoint => Checkpoint::decode(value).map(|_| ()),
            Key::ExecMeta(_) => ExecMeta::decode(value).map(|_| ()),
            _ => Ok(()),
        };
        if let Err(error) = read {
            self.wrong(entry.key, None, &error);
        }
    }

    /// A value or a name has not the form it must have.
    pub(super) fn wrong(&mut self, key: &[u8], height: Option<u64>, error: &Error) {
        if self.wrong.len() >= KEPT {
            self.more_wrong += 1;
            return;
        }
        let finding = from_error(Level::Warning, Rule::Lengths, error.what()).of(key);
        self.wrong.push(match height {
            Some(height) => finding.at(height),
            None => finding,
        });
    }

    /// Was a block being produced when this was written? Such a node keeps no block above the tip.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Holds everything against the tip, or against the highest block where there is none.
    pub(super) fn check(
        &mut self,
        top: Option<u64>,
        chain: Name,
        names: &Names,
        (part, head): (bool, Head),
        findings: &mut Findings,
    ) {
        self.check_tip(top, part, head, findings);
        self.check_pending(top, chain, names, findings);
        for mark in [Mark::DaIncluded, Mark::SubmittedHeader, Mark::SubmittedData] {
            if let (Some(height), Some(top)) = (self.marks.get(&mark), top)
                && *height > top
            {
                let expected = format!("{} of at most the tip, {top}", mark.name());
                let finding = Finding::error(Rule::DaMarks, expected, height.to_string()).at(*height);
                findings.add(finding.of(Key::Mark(mark).to_bytes()));
            }
        }
        for finding in self.wrong.drain(..) {
            findings.add(finding);
        }
        findings.count(Rule::Lengths, Level::Warning, self.more_wrong);
    }

    fn check_tip(&mut self, top: Option<u64>, part: bool, head: Head, findings: &mut Findings) {
        if let Some(finding) = self.tip_wrong.take() {
            findings.add(finding);
        } else if let (None, Some(top), false) = (self.tip, top, part) {
            let expected = format!("a tip, with blocks up to {top}");
            findings.add(Finding::error(Rule::Present, expected, "none").of(TIP));
        }
        if let (Head::Announced(announced), Some(tip)) = (head, self.tip)
            && tip < announced
        {
            let expected = format!("a tip of at least {announced}, as announced");
            findings.add(Finding::error(Rule::Present, expected, tip.to_string()).of(TIP));
        }
        if let (Some(pruned), Some(top)) = (self.marks.get(&Mark::PrunedBlocks), top)
            && *pruned >= top
            && top > 0
        {
            let expected = format!("blocks pruned below the tip, {top}");
            let finding = Finding::error(Rule::Present, expected, format!("blocks pruned up to {pruned}"));
            findings.add(finding.of(Key::Mark(Mark::PrunedBlocks).to_bytes()));
        }
    }

    fn check_pending(&mut self, top: Option<u64>, chain: Name, names: &Names, findings: &mut Findings) {
        for (part, other) in [(Part::Header, Part::Data), (Part::Data, Part::Header)] {
            let key = || Key::Pending(part).to_bytes();
            match self.pending.get(&part) {
                None => {
                    if self.pending.contains_key(&other) {
                        let expected = format!("both or none of it and {}", Key::Pending(other));
                        findings.add(Finding::error(Rule::Pending, expected, "only the other").of(key()));
                    }
                }
                Some(Pending::Broken(finding)) => findings.add(finding.clone()),
                Some(Pending::Of { height, chain: found }) => {
                    if let Some(top) = top
                        && *height > top.saturating_add(1)
                    {
                        let expected = format!("a height of at most tip + 1, {}", top.saturating_add(1));
                        let finding = Finding::warning(Rule::Pending, expected, height.to_string());
                        findings.add(finding.at(*height).of(key()));
                    }
                    if chain != 0 && !Names::same(*found, chain) {
                        let name = |number| format!("chain id {}", names.name(number).escape_ascii());
                        let finding = Finding::warning(Rule::Pending, name(chain), name(*found));
                        findings.add(finding.at(*height).of(key()));
                    }
                }
            }
        }
    }
}

fn pending(part: Part, value: &[u8], names: &mut Names) -> crate::error::Result<Pending> {
    match part {
        Part::Header => {
            let header = SignedHeader::decode(value)?.header;
            Ok(Pending::Of { height: header.height, chain: names.number(header.chain_id.as_bytes()) })
        }
        Part::Data => {
            let metadata = Data::decode(value)?.metadata.unwrap_or_default();
            Ok(Pending::Of { height: metadata.height, chain: names.number(metadata.chain_id.as_bytes()) })
        }
    }
}
