//! What a cut has changed, family by family, and why.

use crate::evnode::key::{Family, Key};
use std::collections::BTreeMap;

/// So many keys of one kind of change are named; more are counted.
const NAMED: usize = 100;

/// What was done.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Left out.
    Dropped,
    /// Has another value.
    Rewritten,
    /// Was not there.
    Added,
}

impl Action {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Action::Dropped => "dropped",
            Action::Rewritten => "rewritten",
            Action::Added => "added",
        }
    }
}

/// Why.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Why {
    Above,
    NamesAbove,
    Tip(Option<u64>),
    Rebuilt,
    DaHeight(u64),
    KeepsState(u64),
    Mark(u64, u64),
    Resubmit(u64, u64),
    Pending,
    CacheAbove,
    GoHeaderHead,
    GoHeaderGone,
    Checkpoint(u64, u64),
    NoCheckpoint(u64),
    NoPlace,
    QueueDropped,
    QueueDone,
    QueueRemoved,
    Requeued,
    PrunedMeanwhile(u64),
}

impl Why {
    fn text(self, height: u64) -> String {
        match self {
            Why::Above => format!("above height {height}"),
            Why::NamesAbove => format!("names a block above height {height}"),
            Why::Tip(None) => format!("the tip is {height}"),
            Why::Tip(Some(from)) => format!("the tip was {from} and is {height}"),
            Why::Rebuilt => {
                format!("it was pruned: rebuilt from blocks {height} and {}", height.saturating_add(1))
            }
            Why::DaHeight(to) => {
                format!("it did not say where the node stood on DA: its DA height is {to}")
            }
            Why::KeepsState(from) => format!("was {from}: the state after block {height} is there"),
            Why::Mark(from, to) => format!("was {from} and is {to}: no mark is above height {height}"),
            Why::Resubmit(from, to) => {
                format!(
                    "was {from} and is {to}: an aggregator submits again what is not known to be included on DA"
                )
            }
            Why::Pending => format!("the block in production is not {}", height.saturating_add(1)),
            Why::CacheAbove => format!("records of blocks above height {height}"),
            Why::GoHeaderHead => format!("names block {height}"),
            Why::GoHeaderGone => format!("block {height} is not in it: the node fetches it again"),
            Why::Checkpoint(from, to) => {
                format!("the DA height was {from} and is {to}, that of the state after block {height}")
            }
            Why::NoCheckpoint(to) => {
                format!(
                    "the backup could not copy it: DA height {to} of the state after block {height}, from its first transaction"
                )
            }
            Why::NoPlace => {
                format!("where the sequencer stood on DA after block {height} is not known")
            }
            Why::QueueDropped => "drop_queue was asked for".to_owned(),
            Why::QueueDone => {
                "all their transactions stand in later blocks: their deletes were lost".to_owned()
            }
            Why::QueueRemoved => {
                "all their transactions stand in removed blocks, which are queued again".to_owned()
            }
            Why::Requeued => {
                "requeue was asked for: the transactions of removed blocks, oldest first".to_owned()
            }
            Why::PrunedMeanwhile(to) => format!("blocks up to {to} were pruned while the stream ran"),
        }
    }
}

/// One kind of change of one family of keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The family.
    pub family: Family,
    /// What was done.
    pub action: Action,
    /// To how many keys.
    pub entries: u64,
    /// Their names, of the first hundred. Of what is merely above the cut none: there may be millions.
    pub keys: Vec<String>,
    /// Why.
    pub why: String,
}

/// Collects changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    all: BTreeMap<(Family, Action, Why), (u64, Vec<String>)>,
}

impl Changes {
    pub(super) fn note(&mut self, key: &Key<'_>, action: Action, why: Why) {
        let (count, keys) = self.all.entry((key.family(), action, why)).or_default();
        *count += 1;
        if !matches!(why, Why::Above | Why::NamesAbove) && keys.len() < NAMED {
            keys.push(key.to_string());
        }
    }

    /// Was anything changed for this reason?
    pub(super) fn any(&self, is: impl Fn(Why) -> bool) -> bool {
        self.all.keys().any(|(_, _, why)| is(*why))
    }

    pub(super) fn list(&self, height: u64) -> Vec<Change> {
        let change =
            |((family, action, why), (entries, keys)): (&(Family, Action, Why), &(u64, Vec<String>))| {
                Change {
                    family: *family,
                    action: *action,
                    entries: *entries,
                    keys: keys.clone(),
                    why: why.text(height),
                }
            };
        self.all.iter().map(change).collect()
    }
}
