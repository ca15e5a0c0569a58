//! A chain of segments or a datastore, cut at a height: which part of it is read, the first look at it, and what is left as a source.
//!
//! What becomes of each key is [`evnode::cut`](crate::evnode::cut)'s rule, which needs to have seen all entries before it judges the first.
//! So the source is opened twice. Memory does not grow with it: the facts have a fixed size, and what is requeued is sorted outside memory.

use super::chain::Chain;
use super::sort::Sorter;
use super::torn::{Picker, View};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Entry, OwnedEntry, Source};
use crate::error::Result;
use crate::evnode::cut::{Cut, Facts, Head, Survey, Verdict, out_of_range};
use std::collections::VecDeque;

/// Queue entries come behind this; everything of blocks comes before.
const QUEUE: &[u8] = b"/batches/";
/// Memory to sort what is requeued.
const MEMORY: usize = 8 << 20;

/// What a first look has found, and how to look again.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// What was learnt.
    pub facts: Facts,
    /// Entries are looked at as at this version.
    pub version: u64,
    /// The chain goes on above its complete version, in blocks.
    pub torn: bool,
}

/// Looks at all entries of `source`, which is complete up to `complete`. `survey` makes a survey for the height.
///
/// Where nothing of a block is above that height, no block is torn: then what was written since, such as DA marks, counts as well, and the
/// view is that of the newest entries.
pub fn survey(
    source: &mut dyn Source,
    complete: u64,
    height: u64,
    survey: impl Fn() -> Survey,
    progress: &Progress,
) -> Result<Surveyed> {
    let mut newest = survey();
    let mut at = (complete < u64::MAX).then(&survey);
    let mut versions = Picker::new(complete, height);
    let (mut passed, mut differs) = (0, false);
    while source.advance()? {
        let entry = source.entry();
        passed += (entry.key.len() + entry.value.len()) as u64;
        if passed >= 1 << 20 {
            progress.check()?;
            progress.add(passed, 0);
            passed = 0;
        }
        differs |= entry.version > complete;
        let found = versions.pass(&entry);
        if found.newest && !entry.is_delete() {
            newest.feed(&entry);
        }
        let Some(at) = &mut at else { continue };
        if let Some(before) = found.before {
            at.feed(&before.as_entry());
        }
        if found.shows {
            at.feed(&entry);
        }
    }
    progress.add(passed, 0);
    let newest = newest.finish();
    match at {
        Some(mut at) if differs && newest.goes_on() => {
            if let Some(last) = versions.end() {
                at.feed(&last.as_entry());
            }
            Ok(Surveyed { facts: at.finish(), version: complete, torn: true })
        }
        _ => Ok(Surveyed { facts: newest, version: u64::MAX, torn: false }),
    }
}

/// Leaves out of a chain what is not needed for a height: the shortest prefix that is complete there stays. Without a height it is the
/// one that the chain is complete to, where a manifest says it.
pub fn shorten(chain: &mut Chain, height: Option<u64>) -> (Option<u64>, Head) {
    let prefixes = chain.prefixes();
    let last = prefixes.last().copied().flatten().map(|(complete, _)| complete).filter(|last| *last > 0);
    let Some(height) = height else {
        return (last, last.map_or(Head::Unknown, Head::Complete));
    };
    let whole = |prefix: &Option<(u64, u64)>| prefix.filter(|(complete, _)| *complete >= height);
    let first = (1..).zip(&prefixes).find_map(|(count, prefix)| Some((count, whole(prefix)?.0)));
    if let Some((count, complete)) = first {
        chain.keep_first(count);
        return (Some(height), Head::Complete(complete));
    }
    // What segments without a manifest hold only they themselves say.
    (Some(height), last.map_or(Head::Unknown, Head::Complete))
}

/// Refuses a height that cannot be had, with what can: the union over all prefixes of the chain, if it is one.
pub fn refuse_range(facts: &Facts, head: Head, prefixes: &[Option<(u64, u64)>]) -> Result<()> {
    let own = facts.range(head);
    let height = facts.height();
    if own.is_some_and(|(low, high)| (low..=high).contains(&height)) {
        return Ok(());
    }
    let first = facts.first_height();
    let others = prefixes.iter().flatten().filter(|(complete, _)| *complete > 0);
    let others = others.map(|(complete, pruned)| (first.max(pruned.saturating_add(1)), *complete));
    let ranges: Vec<_> = own.into_iter().chain(others).filter(|(low, high)| low <= high).collect();
    Err(out_of_range(height, &ranges))
}

/// What is left of a source after a cut.
pub struct CutSource<S> {
    view: View<S>,
    cut: Cut,
    added: VecDeque<OwnedEntry>,
    /// The view stands on an entry that comes next, perhaps with another value.
    ready: bool,
    replaced: Option<OwnedEntry>,
    ended: bool,
    sorter: Option<Sorter>,
    requeued: Option<Box<dyn Source>>,
    stands: Stands,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Stands {
    Nowhere,
    View,
    Added,
    Requeued,
}

impl<S: Source> CutSource<S> {
    /// Cuts `source`, which is looked at as `version` shows it.
    pub fn new(source: S, version: u64, cut: Cut, scratch: &Scratch, progress: &Progress) -> Self {
        Self {
            view: View::new(source, version, cut.height()),
            added: cut.added().iter().cloned().collect(),
            ready: false,
            replaced: None,
            ended: false,
            sorter: cut.requeues().then(|| Sorter::new(scratch, MEMORY, progress)),
            requeued: None,
            stands: Stands::Nowhere,
            cut,
        }
    }

    /// The cut, which knows what it has changed.
    pub fn cut(&self) -> &Cut {
        &self.cut
    }

    /// Leaves the entry that was given behind.
    fn leave(&mut self) -> Result<()> {
        match self.stands {
            Stands::Nowhere => {}
            Stands::View => self.ready = false,
            Stands::Added => drop(self.added.pop_front()),
            Stands::Requeued => {
                if let Some(requeued) = &mut self.requeued
                    && !requeued.advance()?
                {
                    self.requeued = None;
                }
            }
        }
        Ok(())
    }

    /// Goes to the next entry of the view that stays.
    fn judge(&mut self) -> Result<()> {
        while !self.ready && !self.ended {
            self.replaced = None;
            if !self.view.advance()? {
                self.ended = true;
                return Ok(());
            }
            let entry = self.view.entry();
            if let Some(sorter) = &mut self.sorter
                && let Some(requeued) = self.cut.requeued(&entry)
            {
                sorter.put(requeued.as_entry())?;
            }
            match self.cut.judge(&entry) {
                Verdict::Keep => self.ready = true,
                Verdict::Drop => {}
                Verdict::Replace(value) => {
                    self.replaced = Some(OwnedEntry { value, ..Entry { value: &[], ..entry }.to_owned() });
                    self.ready = true;
                }
            }
        }
        Ok(())
    }

    /// Once all blocks have passed, what was requeued is there.
    fn requeue(&mut self) -> Result<()> {
        if !self.ended && self.view.entry().key < QUEUE {
            return Ok(());
        }
        if let Some(sorter) = self.sorter.take() {
            let mut requeued = sorter.finish()?;
            self.requeued = if requeued.advance()? { Some(requeued) } else { None };
        }
        Ok(())
    }
}

impl<S: Source> Source for CutSource<S> {
    fn advance(&mut self) -> Result<bool> {
        self.leave()?;
        self.judge()?;
        self.requeue()?;
        let view = self.ready.then(|| (self.view.entry().key, Stands::View));
        let added = self.added.front().map(|entry| (entry.key.as_slice(), Stands::Added));
        let requeued = self.requeued.as_ref().map(|requeued| (requeued.entry().key, Stands::Requeued));
        let first = [view, added, requeued].into_iter().flatten().min_by_key(|(key, _)| *key);
        self.stands = first.map_or(Stands::Nowhere, |(_, stands)| stands);
        Ok(self.stands != Stands::Nowhere)
    }

    fn entry(&self) -> Entry<'_> {
        match self.stands {
            Stands::Nowhere => Entry::default(),
            Stands::View => self.replaced.as_ref().map_or_else(|| self.view.entry(), OwnedEntry::as_entry),
            Stands::Added => self.added.front().map_or_else(Entry::default, OwnedEntry::as_entry),
            Stands::Requeued => self.requeued.as_ref().map_or_else(Entry::default, |source| source.entry()),
        }
    }
}
