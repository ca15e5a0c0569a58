//! What becomes of one entry.

use super::changes::{Action, Why};
use super::plan::{Cut, SyncPlan};
use super::{Options, Role};
use crate::entry::{Entry, OwnedEntry};
use crate::evnode::key::{Key, Mark, Part, SyncKey};
use crate::evnode::record::{Batch, Checkpoint, Data, ExecMeta, Included, SignedHeader, mark_le, snapshot};

/// What becomes of an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// It goes.
    Drop,
    /// It stays with this value.
    Replace(Vec<u8>),
}

impl Cut {
    /// Says what becomes of the next entry. They come as they came to the survey.
    pub fn judge(&mut self, entry: &Entry<'_>) -> Verdict {
        if self.added.iter().any(|added| added.key == entry.key) {
            return Verdict::Drop;
        }
        let height = self.facts.height;
        let key = Key::parse(entry.key);
        match key {
            Key::Data(of) => {
                self.look_into(of, entry);
                self.unless_outside(of, &key, Why::Above)
            }
            Key::Header(of) | Key::Signature(of) | Key::DaHeight(of, _) => {
                self.unless_outside(of, &key, Why::Above)
            }
            Key::State(of) => self.unless(of > height, &key, Why::Above),
            Key::Index(_) => match mark_le(entry.value) {
                Ok(of) => self.unless_outside(of, &key, Why::NamesAbove),
                Err(_) => Verdict::Keep,
            },
            Key::Mark(mark) => self.mark(mark, &key, entry.value),
            Key::Pending(_) => self.unless(!self.keeps_pending, &key, Why::Pending),
            Key::CacheSnapshot(_) => self.cache(&key, entry.value),
            Key::CacheEntry(..) => {
                let above = Included::decode(entry.value).is_ok_and(|included| included.height > height);
                self.unless(above, &key, Why::CacheAbove)
            }
            Key::Sync(part, name) => self.go_header(part, name, &key, entry.value),
            Key::Queued(_) | Key::QueuedByHash(_) | Key::OtherQueued(_) => self.queued(&key, entry),
            Key::SingleCheckpoint | Key::BasedCheckpoint => self.checkpoint(&key, entry.value),
            Key::ExecMeta(_) => {
                let above = ExecMeta::decode(entry.value).is_ok_and(|meta| meta.height > height);
                self.unless(above, &key, Why::Above)
            }
            _ => Verdict::Keep,
        }
    }

    /// The queue's entry for the transactions of this entry, if it is the data of a block that goes and they are wanted.
    pub fn requeued(&mut self, entry: &Entry<'_>) -> Option<OwnedEntry> {
        let Key::Data(of) = Key::parse(entry.key) else { return None };
        if !self.options.requeue || of <= self.facts.height {
            return None;
        }
        let data = Data::decode(entry.value).ok()?;
        let mut transactions = data.transactions().peekable();
        transactions.peek()?;
        let number = self.facts.queue.number_for(of, self.facts.data.highest?)?;
        let key = Key::Queued(number);
        self.changes.note(&key, Action::Added, Why::Requeued);
        let (key, value) = (key.to_bytes(), Batch::encode(transactions));
        Some(OwnedEntry { key, version: entry.version, value, ..OwnedEntry::default() })
    }

    /// Does it ever answer [`requeued`](Self::requeued) with something?
    pub fn requeues(&self) -> bool {
        self.options.requeue
    }

    fn unless(&mut self, goes: bool, key: &Key<'_>, why: Why) -> Verdict {
        if !goes {
            return Verdict::Keep;
        }
        self.changes.note(key, Action::Dropped, why);
        Verdict::Drop
    }

    /// Above the cut, or what pruning has left of blocks that count as pruned now.
    fn unless_outside(&mut self, of: u64, key: &Key<'_>, why: Why) -> Verdict {
        match self.pruned.filter(|pruned| of <= *pruned && of >= self.facts.base()) {
            Some(pruned) => self.unless(true, key, Why::PrunedMeanwhile(pruned)),
            None => self.unless(of > self.facts.height, key, why),
        }
    }

    fn look_into(&mut self, of: u64, entry: &Entry<'_>) {
        let removed = of > self.facts.height;
        if !removed && self.facts.queue.is_empty() {
            return;
        }
        if let Ok(data) = Data::decode(entry.value) {
            self.facts.queue.pass(&data, entry.version, removed);
            if removed {
                self.removed_transactions += data.transactions().count() as u64;
            }
        }
    }

    fn mark(&mut self, mark: Mark, key: &Key<'_>, value: &[u8]) -> Verdict {
        let Ok(from) = mark_le(value) else { return Verdict::Keep };
        let height = self.facts.height;
        let (to, why) = match mark {
            Mark::DaIncluded => (from.min(height), Why::Mark(from, from.min(height))),
            Mark::SubmittedHeader | Mark::SubmittedData => {
                let limit = self.submitted_up_to().unwrap_or(height);
                let to = from.min(height).min(limit);
                (to, if to < from.min(height) { Why::Resubmit(from, to) } else { Why::Mark(from, to) })
            }
            // The state after block H is there, or is made. At the tip of a quiet store the mark may be the tip's.
            Mark::PrunedStates if from >= height && (self.goes_on || self.makes_state()) => {
                match height.saturating_sub(1) {
                    0 => return self.unless(true, key, Why::KeepsState(from)),
                    to => (to, Why::KeepsState(from)),
                }
            }
            Mark::GenesisDa | Mark::PrunedBlocks | Mark::PrunedStates => return Verdict::Keep,
        };
        if to == from {
            return Verdict::Keep;
        }
        self.changes.note(key, Action::Rewritten, why);
        Verdict::Replace(to.to_le_bytes().to_vec())
    }

    fn makes_state(&self) -> bool {
        let key = Key::State(self.facts.height).to_bytes();
        self.added.iter().any(|added| added.key == key)
    }

    /// What an aggregator has submitted and DA is known to have. It must not need blocks that are pruned.
    fn submitted_up_to(&self) -> Option<u64> {
        let Options { role: Some(Role::Aggregator), .. } = self.options else { return None };
        let included = self.facts.marks.get(&Mark::DaIncluded).copied().unwrap_or_default();
        let pruned = self.pruned.unwrap_or_default().max(self.facts.base().saturating_sub(1));
        Some(included.min(self.facts.height).max(pruned))
    }

    fn cache(&mut self, key: &Key<'_>, value: &[u8]) -> Verdict {
        let height = self.facts.height;
        let Ok(records) = snapshot(value) else { return Verdict::Keep };
        let kept: Vec<u8> = records
            .filter(|record| record.height <= height)
            .flat_map(|record| [record.height.to_le_bytes(), record.da_height.to_le_bytes()].concat())
            .collect();
        if kept.len() == value.len() {
            return Verdict::Keep;
        }
        self.changes.note(key, Action::Rewritten, Why::CacheAbove);
        Verdict::Replace(kept)
    }

    fn go_header(&mut self, part: Part, name: SyncKey<'_>, key: &Key<'_>, value: &[u8]) -> Verdict {
        let height = self.facts.height;
        let [headers, data] = self.sync;
        let hash = match if part == Part::Header { headers } else { data } {
            SyncPlan::Stays => return Verdict::Keep,
            SyncPlan::Goes => return self.unless(true, key, Why::GoHeaderGone),
            SyncPlan::Ends(hash) => hash,
        };
        match name {
            SyncKey::Height(of) => self.unless(of > height, key, Why::Above),
            SyncKey::Hash(_) => {
                let of = match part {
                    Part::Header => SignedHeader::decode(value).ok().map(|signed| signed.header.height),
                    Part::Data => {
                        Data::decode(value).ok().and_then(|data| data.metadata).map(|meta| meta.height)
                    }
                };
                self.unless(of.is_some_and(|of| of > height), key, Why::Above)
            }
            SyncKey::Head => {
                let head = format!("\"{}\"", data_encoding::HEXUPPER.encode(&hash)).into_bytes();
                if head == value {
                    return Verdict::Keep;
                }
                self.changes.note(key, Action::Rewritten, Why::GoHeaderHead);
                Verdict::Replace(head)
            }
            SyncKey::Tail | SyncKey::Other(_) => Verdict::Keep,
        }
    }

    fn queued(&mut self, key: &Key<'_>, entry: &Entry<'_>) -> Verdict {
        if self.options.drop_queue {
            return self.unless(true, key, Why::QueueDropped);
        }
        if self.options.requeue && self.facts.queue.is_removed(entry) {
            return self.unless(true, key, Why::QueueRemoved);
        }
        let done = !self.options.deletes_exact && self.facts.queue.is_done(entry);
        self.unless(done, key, Why::QueueDone)
    }

    fn checkpoint(&mut self, key: &Key<'_>, value: &[u8]) -> Verdict {
        let Ok(checkpoint) = Checkpoint::decode(value) else { return Verdict::Keep };
        if !self.goes_on || checkpoint.da_height <= self.da_height {
            return Verdict::Keep;
        }
        if self.da_height == 0 {
            // An empty one would say no more.
            return self.unless(true, key, Why::NoPlace);
        }
        self.changes.note(key, Action::Rewritten, Why::Checkpoint(checkpoint.da_height, self.da_height));
        Verdict::Replace(Checkpoint { da_height: self.da_height, tx_index: 0 }.encode())
    }
}
