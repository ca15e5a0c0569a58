//! What chain of blocks is in a segment or a datastore, from the few entries that say it: the header and the state of one block, the tip,
//! the marks. Nothing is proven by it; that is [`chain_check`](super::chain_check).

use super::chain_summary::{ChainInfo, FamilyCount, marks_of};
use crate::base::progress::Progress;
use crate::entry::{Datastore, Entry, Need, OwnedEntry, Source};
use crate::error::Result;
use crate::evnode::generation::Marks;
use crate::evnode::hash::{self, Hash};
use crate::evnode::key::{Family, Key, Mark, Part, SyncKey, TIP};
use crate::evnode::record::{SignedHeader, State, mark_be, mark_le};
use std::collections::BTreeMap;

/// Names of one block in the index that are kept: releases before v1.0.0-rc.5 left two.
const MAX_NAMES: usize = 8;

/// Looks at entries, each key's newest version, in whatever order they come.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// The block that is looked at closely.
    at: u64,
    marks: Marks,
    heights: BTreeMap<Mark, (u64, u64)>,
    pruned_exec_meta: Option<u64>,
    tip: Option<(u64, u64)>,
    chain_id: Option<String>,
    initial_height: Option<u64>,
    header: Option<Hash>,
    names: Vec<Hash>,
    counts: [(u64, u64); Family::ALL.len()],
    any: bool,
}

impl Look {
    /// Looks closely at the block `at`: the newest one that is surely there.
    pub fn new(at: u64) -> Self {
        Self { at, ..Self::default() }
    }

    /// Takes an entry. Deletes say nothing.
    pub fn see(&mut self, entry: &Entry<'_>) {
        if entry.is_delete() {
            return;
        }
        let key = Key::parse(entry.key);
        self.any |= key.is_ev_nodes();
        if let Some((keys, bytes)) = self.counts.get_mut(key.family() as usize) {
            *keys += 1;
            *bytes += (entry.key.len() + entry.value.len()) as u64;
        }
        self.marks.see(&key);
        match key {
            Key::Tip => newest(&mut self.tip, entry),
            Key::Mark(mark) => {
                let mut height = self.heights.get(&mark).copied();
                newest(&mut height, entry);
                self.heights.extend(height.map(|height| (mark, height)));
            }
            Key::PrunedExecMeta => {
                self.pruned_exec_meta = mark_be(entry.value).ok().or(self.pruned_exec_meta);
            }
            Key::Header(height) if height == self.at => self.look_at_header(entry.value),
            Key::Index(name)
                if self.names.len() < MAX_NAMES && mark_le(entry.value).ok() == Some(self.at) =>
            {
                self.names.push(name);
            }
            Key::State(height) if height == self.at || self.initial_height.is_none() => {
                self.look_at_state(entry.value);
            }
            Key::NewestState => self.look_at_state(entry.value),
            _ => {}
        }
    }

    fn look_at_header(&mut self, value: &[u8]) {
        self.header = Some(hash::index(value));
        // What cannot be read is found by a check; here it only says nothing.
        if let Ok(SignedHeader { header, .. }) = SignedHeader::decode(value) {
            self.chain_id = Some(header.chain_id.to_owned());
            self.marks.legacy_headers |= !header.legacy.is_empty();
        }
    }

    fn look_at_state(&mut self, value: &[u8]) {
        if let Ok(state) = State::decode(value) {
            self.initial_height =
                Some(state.initial_height).filter(|height| *height > 0).or(self.initial_height);
            self.marks.next_proposer |= !state.next_proposer_address.is_empty();
            if self.chain_id.is_none() && !state.chain_id.is_empty() {
                self.chain_id = Some(state.chain_id.to_owned());
            }
        }
    }

    /// What chain it is, up to which block it is whole, and how many keys there were where all have been seen; `None`: there is none.
    pub fn finish(mut self, complete: Option<u64>, counted: bool) -> Option<ChainInfo> {
        if !self.any {
            return None;
        }
        self.marks.blob_index |= self.header.is_some_and(|header| self.names.contains(&header));
        let pruned = self.heights.get(&Mark::PrunedBlocks).map(|(_, height)| height.saturating_add(1));
        let families = Family::ALL.into_iter().zip(self.counts).filter(|(_, (keys, _))| *keys > 0);
        let families = families.map(|(family, (keys, bytes))| FamilyCount {
            family: family.name().to_owned(),
            keys,
            bytes,
        });
        let marks = self.heights.iter().map(|(mark, (_, height))| (*mark, *height));
        let mut info = ChainInfo {
            chain_id: self.chain_id,
            initial_height: self.initial_height,
            base: self.initial_height.max(pruned),
            tip: self.tip.map(|(_, height)| height),
            complete_height: complete.filter(|height| *height > 0),
            marks: marks_of(marks, self.pruned_exec_meta),
            families: counted.then(|| families.collect()),
            ..ChainInfo::default()
        };
        info.set_generation(self.marks.newest());
        Some(info)
    }
}

/// Keeps the height of the newest version.
fn newest(height: &mut Option<(u64, u64)>, entry: &Entry<'_>) {
    if let Ok(found) = mark_le(entry.value)
        && height.is_none_or(|(version, _)| version <= entry.version)
    {
        *height = Some((entry.version, found));
    }
}

/// A [`Source`] that is looked at while it passes.
pub struct Looking<S> {
    source: S,
    look: Look,
    /// The key of the entry that it stands on; `None` before the first.
    key: Option<Vec<u8>>,
}

impl<S: Source> Looking<S> {
    /// Looks at what comes out of `source`, closely at the block `at`.
    pub fn new(source: S, at: u64) -> Self {
        Self { source, look: Look::new(at), key: None }
    }

    /// What was seen; `None`: nothing passed.
    pub fn finish(self) -> Option<Look> {
        self.key.map(|_| self.look)
    }
}

impl<S: Source> Source for Looking<S> {
    fn advance(&mut self) -> Result<bool> {
        let more = self.source.advance()?;
        if more {
            let entry = self.source.entry();
            // A key's newest version comes first.
            if self.key.as_deref() != Some(entry.key) {
                let key = self.key.get_or_insert_default();
                key.clear();
                key.extend_from_slice(entry.key);
                self.look.see(&entry);
            }
        }
        Ok(more)
    }

    fn entry(&self) -> Entry<'_> {
        self.source.entry()
    }
}

/// What chain is in a datastore, from its tip and its marks; nothing of a running node's directory is copied. `count`: reads everything,
/// and counts the keys, where that needs no copy either (`whole`).
pub fn of_datastore(
    datastore: &dyn Datastore,
    count: bool,
    progress: &Progress,
) -> Result<Option<ChainInfo>> {
    let get = |keys: &[Key<'_>]| -> Result<Vec<OwnedEntry>> {
        let keys: Vec<_> = keys.iter().map(Key::to_bytes).collect();
        let snapshot = datastore.snapshot_for(&Need::keys(keys.clone()), progress)?;
        let found = keys.iter().map(|key| snapshot.get(key)).collect::<Result<Vec<_>>>()?;
        Ok(found.into_iter().flatten().filter(|entry| !entry.as_entry().is_delete()).collect())
    };
    let mut first: Vec<_> = Mark::ALL.into_iter().map(Key::Mark).collect();
    first.extend([Key::Tip, Key::PrunedExecMeta, Key::NewestState]);
    first.extend([
        Key::Pending(Part::Header),
        Key::CacheSnapshot(Part::Header),
        Key::Sync(Part::Header, SyncKey::Head),
    ]);
    let first = get(&first)?;
    let tip = first.iter().find(|entry| entry.key == TIP).and_then(|entry| mark_le(&entry.value).ok());
    let at = tip.unwrap_or_default();
    let block = get(&[Key::Header(at), Key::Data(at), Key::Signature(at), Key::State(at)])?;
    let header = block.iter().find(|entry| entry.key.starts_with(crate::evnode::key::HEADERS));
    let index = header.map_or(Ok(Vec::new()), |header| get(&[Key::Index(hash::index(&header.value))]))?;
    let mut look = Look::new(at);
    if count {
        let snapshot = datastore.snapshot_for(&Need::everything(), progress)?;
        count_all(&mut *snapshot.source(0)?, &mut look, progress)?;
    } else {
        first.iter().chain(&block).chain(&index).for_each(|entry| look.see(&entry.as_entry()));
    }
    // One snapshot is never torn: with all parts of the tip, everything below it is there. The first releases kept the newest state only.
    let state = first.iter().any(|entry| entry.key == Key::NewestState.to_bytes());
    Ok(look.finish(tip.filter(|_| block.len() + usize::from(state) >= 4), count))
}

fn count_all(source: &mut dyn Source, look: &mut Look, progress: &Progress) -> Result<()> {
    let mut key = Vec::new();
    let mut passed = 0_u64;
    while source.advance()? {
        let entry = source.entry();
        if entry.key == key && passed > 0 {
            continue;
        }
        key.clear();
        key.extend_from_slice(entry.key);
        passed += 1;
        if passed.is_multiple_of(1024) {
            progress.check()?;
        }
        look.see(&entry);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evnode::sample::Sample;

    fn look(sample: &Sample, at: u64) -> Option<ChainInfo> {
        let mut look = Look::new(at);
        sample.entries().for_each(|entry| look.see(&entry));
        look.finish(Some(at), true)
    }

    #[test]
    fn one_block_and_the_marks_say_what_chain_it_is() {
        let mut sample = Sample::with_blocks(30);
        sample.include(20);
        sample.prune(11);
        let info = look(&sample, 30).unwrap();
        assert_eq!((info.chain_id.as_deref(), info.generation), (Some("sample-1"), Some("F")));
        assert_eq!((info.initial_height, info.base, info.tip), (Some(1), Some(12), Some(30)));
        let marks: Vec<_> = info.marks.iter().map(|mark| (mark.name.as_str(), mark.height)).collect();
        assert_eq!(marks, [("d", 20), ("lst-prnd-b", 11)]);
        let headers = info.families.unwrap().into_iter().find(|count| count.family == "headers").unwrap();
        assert_eq!(headers.keys, 19);
    }

    #[test]
    fn what_passes_is_looked_at_as_it_is_now() {
        let tip = |version, meta| crate::entry::OwnedEntry {
            key: TIP.to_vec(),
            version,
            value: 7_u64.to_le_bytes().to_vec(),
            meta,
            ..Default::default()
        };
        let deleted = vec![tip(2, crate::entry::META_DELETE), tip(1, 0)];
        for (entries, chain) in [(vec![], None), (deleted, Some(false)), (vec![tip(3, 0)], Some(true))] {
            let count = entries.len();
            let mut looking = Looking::new(crate::entry::VecSource::new(entries), 7);
            assert_eq!(std::iter::from_fn(|| looking.advance().unwrap().then_some(())).count(), count);
            let look = looking.finish();
            assert_eq!(look.map(|look| look.finish(None, false).is_some()), chain);
        }
    }

    #[test]
    fn a_database_of_something_else_has_none() {
        let mut look = Look::new(0);
        look.see(&Entry { key: b"/app/x", version: 1, value: b"x", ..Entry::default() });
        assert_eq!(look.finish(Some(3), true), None);
    }
}
