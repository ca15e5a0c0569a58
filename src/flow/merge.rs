//! Many sources, one order.

use super::sort;
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Discards, Entry, Source};
use crate::error::{Error, Result};

/// Most sources that are merged at once. Each holds half a MiB of its file; more are merged in passes.
pub const MAX_OPEN: usize = 32;

/// A source and where its entries come from, for errors.
pub struct Named<'a> {
    /// What a person calls it: the file.
    pub name: String,
    /// The entries.
    pub source: Box<dyn Source + 'a>,
}

impl<'a> Named<'a> {
    /// A source with its name.
    pub fn new(name: impl Into<String>, source: Box<dyn Source + 'a>) -> Self {
        Self { name: name.into(), source }
    }
}

/// The entries of many sources in one order, each key and version once.
///
/// The same key and version from two sources must be equal but for the pointer bit: otherwise version numbers were reused, and no
/// order between the two would be right.
pub struct Merge<'a> {
    sources: Vec<Named<'a>>,
    /// Indexes of the sources that stand on an entry; a binary heap, the smallest entry first.
    heap: Vec<usize>,
    begun: bool,
    discards: Discards,
}

impl<'a> Merge<'a> {
    /// Merges these, however many: all of them stay open.
    pub fn new(sources: Vec<Named<'a>>) -> Self {
        Self { heap: Vec::with_capacity(sources.len()), sources, begun: false, discards: Discards::default() }
    }

    /// Merges these with at most [`MAX_OPEN`] of them open, the rest in passes through nameless files.
    pub fn in_passes(
        mut sources: Vec<Named<'a>>,
        scratch: &Scratch,
        progress: &Progress,
    ) -> Result<Box<dyn Source + 'a>> {
        while sources.len() > MAX_OPEN {
            let rest = sources.split_off(MAX_OPEN.min(sources.len() - MAX_OPEN + 1));
            let names = (sources.first(), sources.last());
            let name = match names {
                (Some(first), Some(last)) => format!("{} … {}", first.name, last.name),
                _ => String::new(),
            };
            let mut merged = Merge::new(sources);
            let spill = sort::spill(&mut merged, scratch, progress)?;
            sources = rest;
            sources.push(Named::new(name, Box::new(spill)));
        }
        Ok(match (sources.len(), sources.pop()) {
            (1, Some(only)) => only.source,
            (_, last) => {
                sources.extend(last);
                Box::new(Self::new(sources))
            }
        })
    }

    fn entry_of(&self, index: usize) -> Entry<'_> {
        self.sources.get(index).map_or_else(Entry::default, |named| named.source.entry())
    }

    fn at(&self, place: usize) -> Option<usize> {
        self.heap.get(place).copied()
    }

    fn before(&self, one: usize, other: usize) -> bool {
        self.entry_of(one).order(&self.entry_of(other)).is_lt()
    }

    /// Lets the entry at `place` of the heap sink to where it belongs.
    fn sink(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if let (Some(one), Some(other)) = (self.at(child), self.at(least))
                    && self.before(one, other)
                {
                    least = child;
                }
            }
            if least == place {
                return;
            }
            self.heap.swap(place, least);
            place = least;
        }
    }

    /// Advances the source at `place` of the heap, and mends the heap from there.
    fn step(&mut self, place: usize) -> Result<()> {
        let Some(index) = self.at(place) else { return Ok(()) };
        let more = match self.sources.get_mut(index) {
            Some(named) => named.source.advance()?,
            None => false,
        };
        if !more {
            self.heap.swap_remove(place);
        }
        self.sink(place);
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        for index in 0..self.sources.len() {
            if let Some(named) = self.sources.get_mut(index)
                && named.source.advance()?
            {
                self.heap.push(index);
            }
        }
        for place in (0..self.heap.len() / 2).rev() {
            self.sink(place);
        }
        self.begun = true;
        Ok(())
    }

    /// Steps every other source that stands on the same key and version as the first.
    fn drop_doubles(&mut self) -> Result<()> {
        while let Some(first) = self.at(0) {
            let entry = self.entry_of(first);
            let double =
                (1..=2).find(|place| self.at(*place).is_some_and(|i| self.entry_of(i).order(&entry).is_eq()));
            let Some((place, other)) = double.and_then(|place| Some((place, self.at(place)?))) else {
                return Ok(());
            };
            let twin = self.entry_of(other);
            // As with Badger's own loader, what comes later stands: the tombstone.
            let expired = entry.same_but_expired(&twin);
            let keeps = expired && twin.value.is_empty();
            let place = if entry.same_content(&twin) || self.discards.explain(&entry) || keeps {
                place
            } else if self.discards.explain(&twin) || expired {
                0
            } else {
                return Err(self.reused(first, other));
            };
            self.step(place)?;
        }
        Ok(())
    }

    fn reused(&self, one: usize, other: usize) -> Error {
        let name = |index: usize| self.sources.get(index).map_or("", |named| named.name.as_str());
        let entry = self.entry_of(one);
        Error::mismatch(format!(
            "expected one value for key {} at version {}, found two: in {} and in {}; the source has reused its versions",
            entry.key.escape_ascii(),
            entry.version,
            name(one),
            name(other)
        ))
        .with_hint("take a full backup: the increments no longer belong to this chain")
    }
}

impl Source for Merge<'_> {
    fn advance(&mut self) -> Result<bool> {
        if self.begun {
            if let Some(first) = self.at(0) {
                let mut discards = std::mem::take(&mut self.discards);
                discards.pass(&self.entry_of(first));
                self.discards = discards;
            }
            self.step(0)?;
        } else {
            self.begin()?;
        }
        self.drop_doubles()?;
        Ok(!self.heap.is_empty())
    }

    fn entry(&self) -> Entry<'_> {
        self.at(0).map_or_else(Entry::default, |index| self.entry_of(index))
    }
}

/// Fails where a source does not keep the order that every sink relies on.
pub struct Ordered<S> {
    source: S,
    key: Vec<u8>,
    version: u64,
    begun: bool,
}

impl<S: Source> Ordered<S> {
    /// Watches `source`.
    pub fn new(source: S) -> Self {
        Self { source, key: Vec::new(), version: 0, begun: false }
    }
}

impl<S: Source> Source for Ordered<S> {
    fn advance(&mut self) -> Result<bool> {
        if !self.source.advance()? {
            return Ok(false);
        }
        let entry = self.source.entry();
        let before = Entry { key: &self.key, version: self.version, ..Entry::default() };
        if self.begun && !before.order(&entry).is_lt() {
            return Err(Error::damaged(format!(
                "expected a key after {} at version {}, found {} at version {}",
                self.key.escape_ascii(),
                self.version,
                entry.key.escape_ascii(),
                entry.version
            )));
        }
        self.begun = true;
        self.version = entry.version;
        self.key.clear();
        self.key.extend_from_slice(entry.key);
        Ok(true)
    }

    fn entry(&self) -> Entry<'_> {
        self.source.entry()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{META_DELETE, META_DISCARD_EARLIER, OwnedEntry, VecSource};
    use proptest::prelude::*;

    fn entry(key: u8, version: u64, value: u8) -> OwnedEntry {
        OwnedEntry { key: vec![key], version, value: vec![value], ..OwnedEntry::default() }
    }

    fn named(entries: Vec<OwnedEntry>) -> Named<'static> {
        Named::new("test", Box::new(VecSource::new(entries)))
    }

    fn all(source: &mut dyn Source) -> Result<Vec<OwnedEntry>> {
        let mut entries = Vec::new();
        while source.advance()? {
            entries.push(source.entry().to_owned());
        }
        Ok(entries)
    }

    proptest! {
        /// However entries are dealt out to sources, and however many sources there are, they come back in order, each once.
        #[test]
        fn merges_what_a_sort_would_give(
            sources in prop::collection::vec(prop::collection::vec((0u8..20, 0u64..6), 0..30), 0..80)
        ) {
            let mut expected: Vec<_> = sources.iter().flatten().map(|(k, v)| entry(*k, *v, 0)).collect();
            expected.sort_by(|a, b| a.as_entry().order(&b.as_entry()));
            expected.dedup();
            let sources = sources.into_iter().map(|dealt| {
                let mut dealt: Vec<_> = dealt.into_iter().map(|(k, v)| entry(k, v, 0)).collect();
                dealt.sort_by(|a, b| a.as_entry().order(&b.as_entry()));
                dealt.dedup();
                named(dealt)
            }).collect();
            let mut merged = Merge::in_passes(sources, &Scratch::system(), &Progress::new())?;
            prop_assert_eq!(all(&mut merged)?, expected);
        }
    }

    #[test]
    fn two_values_for_one_version_are_refused_with_both_names() {
        let sources = vec![
            Named::new("full.badger", Box::new(VecSource::new(vec![entry(b'k', 7, 1)])) as Box<dyn Source>),
            Named::new("inc.badger", Box::new(VecSource::new(vec![entry(b'k', 7, 2)]))),
        ];
        let error = all(&mut Merge::new(sources)).unwrap_err();
        assert_eq!(error.code(), "mismatch");
        assert!(
            error.to_string().contains("full.badger") && error.to_string().contains("inc.badger"),
            "{error}"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn badgers_synthetic_tombstone_takes_the_place_of_what_was_discarded() {
        let discarding = OwnedEntry { meta: META_DISCARD_EARLIER, ..entry(b'k', 8, 2) };
        let tombstone = OwnedEntry { value: Vec::new(), meta: META_DELETE, ..entry(b'k', 7, 0) };
        let base = vec![entry(b'k', 7, 1)];
        for turned in [false, true] {
            let mut sources = vec![named(base.clone()), named(vec![discarding.clone(), tombstone.clone()])];
            if turned {
                sources.reverse();
            }
            assert_eq!(all(&mut Merge::new(sources)).unwrap(), [discarding.clone(), tombstone.clone()]);
        }
        // Without the entry that discards, the same tombstone means that the version was reused.
        let sources = vec![named(base), named(vec![tombstone])];
        assert_eq!(all(&mut Merge::new(sources)).unwrap_err().code(), "mismatch");
    }

    #[test]
    fn an_entry_that_expired_between_two_backups_keeps_its_value() {
        let before = OwnedEntry { expires_at: 9, ..entry(b'k', 7, 1) };
        let after = OwnedEntry { value: Vec::new(), ..before.clone() };
        for turned in [false, true] {
            let mut sources = vec![named(vec![before.clone()]), named(vec![after.clone()])];
            if turned {
                sources.reverse();
            }
            assert_eq!(all(&mut Merge::new(sources)).unwrap(), std::slice::from_ref(&before));
        }
    }

    #[test]
    fn a_source_out_of_order_is_damage() {
        let mut source = Ordered::new(VecSource::new(vec![entry(b'b', 1, 0), entry(b'a', 1, 0)]));
        let text = all(&mut source).unwrap_err().to_string();
        assert_eq!(text, "expected a key after b at version 1, found a at version 1");
        let mut twice = Ordered::new(VecSource::new(vec![entry(b'b', 1, 0), entry(b'b', 1, 0)]));
        assert!(all(&mut twice).is_err());
    }
}
