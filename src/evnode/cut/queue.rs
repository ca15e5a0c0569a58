//! The sequencer's queue: which of its transactions stand in blocks.

use crate::base::checksum::sha256;
use crate::entry::Entry;
use crate::evnode::record::{Batch, Data};
use std::collections::HashMap;

/// So many transactions of a queue are remembered, in some 40 MB. A longer queue is kept as it is.
const MOST: usize = 1 << 19;
/// The number of the first entry that a node ever makes; work that is put back counts down from it.
const FIRST: u64 = 1 << 63;

/// Where a transaction of the queue was found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Found {
    /// The newest version of a block that stays and has it; 0: none.
    kept: u64,
    /// A block that goes has it.
    removed: bool,
}

/// What is known of the queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    lowest: Option<u64>,
    transactions: HashMap<[u8; 16], Found>,
    pub(super) too_many: bool,
}

impl Queue {
    /// There is an entry with this number.
    pub(super) fn number(&mut self, number: u64) {
        self.lowest = Some(self.lowest.map_or(number, |lowest| lowest.min(number)));
    }

    /// Has any entry a number?
    pub(super) fn has_numbers(&self) -> bool {
        self.lowest.is_some()
    }

    /// Is there no transaction to look for?
    pub(super) fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Remembers the transactions of an entry.
    pub(super) fn take(&mut self, entry: &Entry<'_>) {
        let Ok(batch) = Batch::decode(entry.value) else { return };
        for transaction in batch.transactions() {
            if self.transactions.len() >= MOST {
                self.too_many = true;
                self.transactions = HashMap::new();
            }
            if self.too_many {
                return;
            }
            self.transactions.entry(print(transaction)).or_default();
        }
    }

    /// A block passes.
    pub(super) fn pass(&mut self, data: &Data<'_>, version: u64, removed: bool) {
        if self.transactions.is_empty() {
            return;
        }
        for transaction in data.transactions() {
            if let Some(found) = self.transactions.get_mut(&print(transaction)) {
                found.removed |= removed;
                if !removed {
                    found.kept = found.kept.max(version);
                }
            }
        }
    }

    /// Do all transactions of this entry stand in blocks that stay and came after it?
    pub(super) fn is_done(&self, entry: &Entry<'_>) -> bool {
        self.all(entry, |found| found.kept > entry.version)
    }

    /// Do all of them stand in blocks that go?
    pub(super) fn is_removed(&self, entry: &Entry<'_>) -> bool {
        self.all(entry, |found| found.removed)
    }

    fn all(&self, entry: &Entry<'_>, holds: impl Fn(&Found) -> bool) -> bool {
        let Ok(batch) = Batch::decode(entry.value) else { return false };
        let mut transactions = batch.transactions().peekable();
        let any = transactions.peek().is_some();
        any && transactions.all(|one| self.transactions.get(&print(one)).is_some_and(&holds))
    }

    /// The number for the transactions of a block, if `top` is the highest block: below all entries, and the oldest block first.
    pub(super) fn number_for(&self, height: u64, top: u64) -> Option<u64> {
        let lowest = self.lowest.map_or(FIRST, |lowest| lowest.min(FIRST));
        lowest.checked_sub(top.checked_sub(height)?.checked_add(1)?)
    }
}

/// What tells transactions apart: half of a SHA-256.
fn print(transaction: &[u8]) -> [u8; 16] {
    sha256(transaction).first_chunk().copied().unwrap_or_default()
}
