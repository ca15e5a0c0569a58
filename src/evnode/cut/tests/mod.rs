//! Chains with everything in them, cut at every height, and one test for each row of the table.

use super::*;
use crate::entry::{Entry, OwnedEntry};
use crate::error::Result;
use crate::evnode::chain::{Checker, Options as Check, Signatures};
use crate::evnode::key::{Key, Mark, Part, TIP};
use crate::evnode::record::{Batch, Checkpoint, State};
use crate::evnode::sample::Sample;
use crate::evnode::wire::{put_bytes, put_number};
use std::collections::BTreeMap;

mod every;
mod go_header;
mod refusals;
mod rows;

/// What a cut leaves, by key.
struct Left {
    entries: BTreeMap<Vec<u8>, OwnedEntry>,
    changes: Vec<Change>,
    dangers: Vec<String>,
    next_steps: Vec<String>,
}

impl Left {
    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(|entry| entry.value.as_slice())
    }

    fn number(&self, key: &Key<'_>) -> Option<u64> {
        self.value(&key.to_bytes()).map(|value| u64::from_le_bytes(value.try_into().unwrap()))
    }

    fn has(&self, key: &Key<'_>) -> bool {
        self.entries.contains_key(&key.to_bytes())
    }

    /// Family and action of every change, and how many keys.
    fn brief(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.changes
            .iter()
            .map(|change| (change.family.name(), change.action.name(), change.entries))
            .collect()
    }

    /// The change of a family.
    fn why(&self, family: &str, action: &str) -> &str {
        let of = |change: &&Change| change.family.name() == family && change.action.name() == action;
        &self.changes.iter().find(of).unwrap().why
    }

    fn check(&self, signatures: Signatures) {
        let mut checker = Checker::new(Check { signatures, threads: 1, ..Check::default() });
        for entry in self.entries.values() {
            checker.feed(&entry.as_entry()).unwrap();
        }
        let report = checker.finish().unwrap();
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }
}

fn facts(sample: &Sample, height: u64) -> Facts {
    let mut survey = Survey::new(height).with_queue();
    sample.entries().for_each(|entry| survey.feed(&entry));
    survey.finish()
}

fn try_cut(sample: &Sample, height: u64, options: Options) -> Result<Left> {
    let mut cut = facts(sample, height).cut(options)?;
    let mut entries: BTreeMap<_, _> =
        cut.added().iter().map(|entry| (entry.key.clone(), entry.clone())).collect();
    for entry in sample.entries() {
        if let Some(requeued) = cut.requeued(&entry) {
            assert!(entries.insert(requeued.key.clone(), requeued).is_none());
        }
        let left = match cut.judge(&entry) {
            Verdict::Keep => entry.to_owned(),
            Verdict::Drop => continue,
            Verdict::Replace(value) => OwnedEntry { value, ..entry.to_owned() },
        };
        assert!(entries.insert(left.key.clone(), left).is_none());
    }
    let (changes, dangers, next_steps) = (cut.changes(), cut.dangers(), cut.next_steps());
    Ok(Left { entries, changes, dangers, next_steps })
}

#[track_caller]
fn cut(sample: &Sample, height: u64, options: Options) -> Left {
    try_cut(sample, height, options).unwrap()
}

fn exact() -> Options {
    Options { deletes_exact: true, ..Options::default() }
}

fn follower() -> Options {
    Options { role: Some(Role::Follower), ..exact() }
}

fn aggregator() -> Options {
    Options { role: Some(Role::Aggregator), ..exact() }
}

fn le(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn exec_meta(height: u64) -> Vec<u8> {
    let mut value = Vec::new();
    put_number(&mut value, 1, height);
    put_bytes(&mut value, 8, b"promoted");
    value
}

fn queue(number: u64, transactions: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let batch = Batch::encode(transactions.iter().map(|one| one.as_bytes()));
    (Key::Queued((1 << 63) + number).to_bytes(), batch)
}

fn checkpoint(da_height: u64, tx_index: u64) -> Vec<u8> {
    Checkpoint { da_height, tx_index }.encode()
}

/// The block after `sample`'s tip, as the one in production.
fn pend(sample: &mut Sample) {
    let mut longer = sample.clone();
    longer.extend(1, |_, _| {});
    let tip = u64::from_le_bytes(longer.value(TIP).unwrap().try_into().unwrap());
    for (part, key) in [(Part::Header, Key::Header(tip)), (Part::Data, Key::Data(tip))] {
        let value = longer.value(&key.to_bytes()).unwrap().to_vec();
        sample.put(Key::Pending(part).to_bytes(), value);
    }
}

/// A chain with all that a node of v1.2 has beside its blocks: pruned to 100, states to 120, on DA up to `included`.
fn rich(blocks: u64, included: u64) -> Sample {
    let mut sample = Sample::with_blocks(blocks);
    sample.include(included);
    sample.mark(Mark::GenesisDa, 101);
    sample.mark(Mark::SubmittedHeader, included + 50);
    sample.mark(Mark::SubmittedData, included + 40);
    sample.prune(100);
    for height in 1..=120 {
        sample.remove(&Key::State(height).to_bytes());
    }
    sample.mark(Mark::PrunedStates, 120);
    for (number, transaction) in (0..).zip(["waiting=1", "waiting=2"]) {
        let (key, value) = queue(number, &[transaction]);
        sample.put(key, value);
    }
    sample.put(Key::SingleCheckpoint.to_bytes(), checkpoint(100 + blocks, 2));
    for height in 90..=blocks + 1 {
        sample.put(Key::exec_meta(height), exec_meta(height));
    }
    sample.put(Key::PrunedExecMeta.to_bytes(), 89u64.to_be_bytes().to_vec());
    for part in [Part::Header, Part::Data] {
        let records = (included - 20..included).flat_map(|height| [le(height), le(100 + height)].concat());
        sample.put(Key::CacheSnapshot(part).to_bytes(), records.collect());
        // A hint for a block that is not there yet.
        sample.put(Key::DaHeight(blocks + 2, part).to_bytes(), le(7000));
    }
    sample.put(b"/0/m/mine".to_vec(), b"mine".to_vec());
    sample.put(b"/app/x".to_vec(), b"x".to_vec());
    pend(&mut sample);
    sample
}

fn entry<'a>(key: &'a [u8], value: &'a [u8]) -> Entry<'a> {
    Entry { key, version: 1, value, ..Entry::default() }
}
