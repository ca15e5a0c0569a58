//! A stream that was taken under writes, made whole at the version that it is complete to.
//!
//! Badger keeps one version of a key. A key that was overwritten while the stream ran may be in it only at a version above the
//! complete one, and a store that shows its entries at the complete version would not show it at all, although it was there. So of
//! each such key outside the block families the oldest version that is there stands in, at the complete version. It is from a moment
//! later, at most the length of the backup; the entry itself stays where it is, and an increment brings what follows. Where the chain
//! has a version at or below the complete one, that one shows: Badger drops what follows it only where compaction came in between.
//!
//! Keys of the block families need no stand-in: they are written once, with their block, and above the complete height they are hidden
//! for a reason.

use crate::entry::{Entry, OwnedEntry, Source};
use crate::error::Result;
use crate::evnode::key;

/// A [`Source`] over a whole chain, with what stands in at its complete version.
pub struct StandIns<S> {
    source: S,
    complete: u64,
    /// The key of the entries that pass; empty before the first.
    key: Vec<u8>,
    /// One of them shows at the complete version.
    shows: bool,
    /// Else the oldest of them so far.
    oldest: Option<OwnedEntry>,
    /// What it stands on instead of the source's entry, which comes next.
    stand_in: Option<OwnedEntry>,
    more: bool,
}

impl<S: Source> StandIns<S> {
    /// Watches `source`, which is complete up to a version.
    pub fn new(source: S, complete: u64) -> Self {
        Self { source, complete, key: Vec::new(), shows: false, oldest: None, stand_in: None, more: false }
    }

    /// Notes the entry that the source stands on.
    fn note(&mut self) {
        let entry = self.source.entry();
        if entry.key != self.key {
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            self.shows = false;
        }
        self.shows |= entry.version <= self.complete;
        let hidden = !self.shows && !entry.is_delete() && is_rewritten(entry.key);
        self.oldest = hidden.then(|| entry.to_owned());
    }
}

/// Is this a key that is written again and again, and not the tip, which is known to the byte?
fn is_rewritten(key: &[u8]) -> bool {
    !key::is_block_family(key) && key != key::TIP
}

impl<S: Source> Source for StandIns<S> {
    fn advance(&mut self) -> Result<bool> {
        if self.stand_in.take().is_none() {
            self.more = self.source.advance()?;
            if !self.more || self.source.entry().key != self.key {
                self.stand_in =
                    self.oldest.take().map(|oldest| OwnedEntry { version: self.complete, ..oldest });
            }
            if self.stand_in.is_some() {
                return Ok(true);
            }
        }
        if self.more {
            self.note();
        }
        Ok(self.more)
    }

    fn entry(&self) -> Entry<'_> {
        self.stand_in.as_ref().map_or_else(|| self.source.entry(), OwnedEntry::as_entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{META_DELETE, VecSource};

    fn entry(key: &str, version: u64, value: u8) -> OwnedEntry {
        OwnedEntry { key: key.into(), version, value: vec![value], ..OwnedEntry::default() }
    }

    fn settled(entries: Vec<OwnedEntry>) -> Vec<(String, u64, u8)> {
        let mut source = StandIns::new(VecSource::new(entries), 10);
        let mut all = Vec::new();
        while source.advance().unwrap() {
            let entry = source.entry();
            let value = entry.value.first().copied().unwrap_or_default();
            all.push((String::from_utf8(entry.key.to_vec()).unwrap(), entry.version, value));
        }
        all
    }

    #[test]
    fn the_oldest_version_of_a_key_that_would_not_show_stands_in() {
        let entries = vec![
            entry("/0/m/a", 12, 1),
            entry("/0/m/a", 11, 2),
            entry("/0/m/b", 12, 3),
            entry("/0/m/b", 9, 4),
            entry("/0/m/c", 10, 5),
            entry("/x", 99, 6),
        ];
        let expected = [
            ("/0/m/a", 12, 1),
            ("/0/m/a", 11, 2),
            ("/0/m/a", 10, 2),
            ("/0/m/b", 12, 3),
            ("/0/m/b", 9, 4),
            ("/0/m/c", 10, 5),
            ("/x", 99, 6),
            ("/x", 10, 6),
        ];
        assert_eq!(settled(entries), expected.map(|(key, version, value)| (key.to_owned(), version, value)));
    }

    #[test]
    fn blocks_the_tip_and_deletes_have_no_stand_in() {
        let delete = OwnedEntry { meta: META_DELETE, ..entry("/0/m/x", 11, 0) };
        let entries = vec![entry("/0/h/11", 11, 1), delete, entry("/0/t", 11, 1)];
        assert_eq!(settled(entries).len(), 3);
        assert_eq!(settled(Vec::new()).len(), 0);
    }
}
