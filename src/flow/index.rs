//! The index entries of blocks that are gone.
//!
//! ev-node deletes a block together with `/0/i/<SHA-256 of its header>`, in one batch. Badger may have purged both deletes before an
//! increment is taken. That the block is gone follows from the pruning marks ([`gone`](super::gone)), but its index entry can be named
//! only by who has the block: an older segment of the chain, or the store that the chain is applied to. Headers sort before the index,
//! so one pass is enough: the headers that are deleted are remembered by their hashes, and when the index passes, what belongs to
//! them gets the tombstone that Badger has dropped.

use super::sort::Sorter;
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Entry, META_DELETE, OwnedEntry, Source};
use crate::error::Result;
use crate::evnode::hash;
use crate::evnode::key::{HEADERS, INDEX, Key};

/// Memory for the hashes of deleted headers.
const MEMORY: usize = 8 << 20;

/// Remembers deleted headers, and knows the tombstones of their index entries.
pub struct Deleted {
    sorter: Option<Sorter>,
    any: bool,
    graves: Option<Box<dyn Source>>,
    stands: bool,
    /// The header that passes, and the version at which it is deleted, if its newest entry is a delete.
    header: Vec<u8>,
    since: Option<u64>,
}

impl Deleted {
    /// None seen yet.
    pub fn new(scratch: &Scratch, progress: &Progress) -> Self {
        Self {
            sorter: Some(Sorter::new(scratch, MEMORY, progress)),
            any: false,
            graves: None,
            stands: false,
            header: Vec::new(),
            since: None,
        }
    }

    /// An entry passes, in the order of a source; true when it is the newest of a header and a delete.
    pub fn pass(&mut self, entry: &Entry<'_>) -> Result<bool> {
        if !entry.key.starts_with(HEADERS) {
            return Ok(false);
        }
        if entry.key != self.header {
            self.header.clear();
            self.header.extend_from_slice(entry.key);
            self.since = entry.is_delete().then_some(entry.version);
            return Ok(self.since.is_some());
        }
        if let Some(version) = self.since.filter(|_| !entry.is_delete()) {
            self.bury(entry.value, version)?;
        }
        Ok(false)
    }

    /// The block with this header is deleted at `version`.
    pub fn bury(&mut self, header: &[u8], version: u64) -> Result<()> {
        self.any = true;
        let key = Key::Index(hash::index(header)).to_bytes();
        let grave = Entry { key: &key, version, meta: META_DELETE, ..Entry::default() };
        self.sorter.as_mut().map_or(Ok(()), |sorter| sorter.put(grave))
    }

    /// The next tombstone, if its key is not above `key`; `None` for the end of all entries.
    pub fn next_up_to(&mut self, key: Option<&[u8]>) -> Result<Option<Entry<'_>>> {
        // Until the index begins, there may be more headers.
        if !self.any || key.is_some_and(|key| key < INDEX) {
            return Ok(None);
        }
        if let Some(sorter) = self.sorter.take() {
            let mut graves = sorter.finish()?;
            self.stands = graves.advance()?;
            self.graves = Some(graves);
        }
        let grave = self.graves.as_ref().filter(|_| self.stands).map(|graves| graves.entry());
        Ok(grave.filter(|grave| key.is_none_or(|key| grave.key <= key)))
    }

    /// Goes on from the one that [`next_up_to`](Self::next_up_to) gave.
    pub fn step(&mut self) -> Result<()> {
        self.stands = match &mut self.graves {
            Some(graves) => graves.advance()?,
            None => false,
        };
        Ok(())
    }
}

/// A whole chain in order, with the tombstones of index entries that it lacks.
pub struct WithoutOrphans<S> {
    source: S,
    deleted: Deleted,
    /// The key that passes; empty before the first.
    key: Vec<u8>,
    grave: Option<OwnedEntry>,
}

impl<S: Source> WithoutOrphans<S> {
    /// Watches `source`.
    pub fn new(source: S, scratch: &Scratch, progress: &Progress) -> Self {
        Self { source, deleted: Deleted::new(scratch, progress), key: Vec::new(), grave: None }
    }

    /// The tombstone for the entry that the source stands on, if it is the first of a key that has to go.
    fn grave(&mut self) -> Result<Option<OwnedEntry>> {
        let entry = self.source.entry();
        if !entry.key.starts_with(INDEX) || entry.key == self.key {
            return Ok(None);
        }
        self.key.clear();
        self.key.extend_from_slice(entry.key);
        let mut found = None;
        while let Some(grave) = self.deleted.next_up_to(Some(entry.key))? {
            // Where it was deleted by an entry of its own, or has come again since, that stands.
            if grave.key == entry.key && !entry.is_delete() && entry.version < grave.version {
                found = Some(grave.to_owned());
            }
            self.deleted.step()?;
        }
        Ok(found)
    }
}

impl<S: Source> Source for WithoutOrphans<S> {
    fn advance(&mut self) -> Result<bool> {
        if self.grave.take().is_some() {
            return Ok(true);
        }
        if !self.source.advance()? {
            return Ok(false);
        }
        self.deleted.pass(&self.source.entry())?;
        self.grave = self.grave()?;
        Ok(true)
    }

    fn entry(&self) -> Entry<'_> {
        self.grave.as_ref().map_or_else(|| self.source.entry(), OwnedEntry::as_entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::VecSource;

    fn put(key: &[u8], version: u64, value: &[u8]) -> OwnedEntry {
        OwnedEntry { key: key.to_vec(), version, value: value.to_vec(), ..OwnedEntry::default() }
    }

    fn delete(key: &[u8], version: u64) -> OwnedEntry {
        OwnedEntry { meta: META_DELETE, ..put(key, version, b"") }
    }

    fn index(header: &[u8]) -> Vec<u8> {
        Key::Index(hash::index(header)).to_bytes()
    }

    fn through(mut entries: Vec<OwnedEntry>) -> Vec<OwnedEntry> {
        entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
        let mut source = WithoutOrphans::new(VecSource::new(entries), &Scratch::system(), &Progress::new());
        let mut found = Vec::new();
        while source.advance().unwrap() {
            found.push(source.entry().to_owned());
        }
        assert!(found.is_sorted_by(|one, other| one.as_entry().order(&other.as_entry()).is_lt()));
        found
    }

    #[test]
    fn the_index_entry_goes_with_its_block() {
        let kept = [put(b"/0/h/2", 2, b"two"), put(&index(b"two"), 2, b"2"), put(b"/0/t", 2, b"2")];
        let gone = [put(b"/0/h/1", 1, b"one"), delete(b"/0/h/1", 9), put(&index(b"one"), 1, b"1")];
        let found = through([&kept[..], &gone].concat());
        assert_eq!(found.len(), 7);
        assert!(found.contains(&delete(&index(b"one"), 9)));
    }

    #[test]
    fn what_the_chain_says_of_an_index_entry_itself_stands() {
        let block = [put(b"/0/h/1", 1, b"one"), delete(b"/0/h/1", 9)];
        for own in [delete(&index(b"one"), 9), delete(&index(b"one"), 8), put(&index(b"one"), 10, b"1")] {
            let entries = [&block[..], &[put(&index(b"one"), 1, b"1"), own]].concat();
            assert_eq!(through(entries).len(), 4);
        }
        // One of an earlier release, under another hash, was not deleted either.
        assert_eq!(through([&block[..], &[put(b"/0/i/00", 1, b"1")]].concat()).len(), 3);
    }

    #[test]
    fn a_header_that_was_written_again_keeps_what_belongs_to_it() {
        let entries = vec![
            put(b"/0/h/1", 1, b"old"),
            delete(b"/0/h/1", 5),
            put(b"/0/h/1", 7, b"new"),
            put(&index(b"new"), 7, b"1"),
        ];
        assert_eq!(through(entries).len(), 4);
    }
}
