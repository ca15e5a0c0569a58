//! A stream that was taken under writes, made whole at the version that it is complete to.
//!
//! Badger keeps one version of a key. A key that was overwritten while the stream ran may be in it only at a version above the
//! complete one, and a store that shows its entries at the complete version would not show it at all, although it was there. So of
//! each such key the oldest version that is there stands in. It is from a moment later, at most the length of the backup; an increment
//! brings what follows. Where the chain has a version at or below the complete one, that one shows: Badger drops what follows it only
//! where compaction came in between.
//!
//! Keys that are written once, with their block, need no stand-in: above the complete height they are hidden for a reason. States, DA
//! heights and execution records are written again, at a restart or as things go on: those of heights up to the complete one stand in.
//! DA heights must: the mark `/0/m/d` that stands in is from later, and every DA height up to it has to be there with it.
//!
//! [`StandIns`] is for a store, which keeps every version: the stand-in is one more entry, at the complete version. A store that has taken
//! segments before may have an older version of the key, which then shows: who adds to one [asks](StandIns::is_stand_in), and leaves the
//! stand-in out. [`View`] gives one live
//! entry of each key, as it is: what is [cut](super::cut) or written into a directory.

use crate::entry::{Entry, OwnedEntry, Source};
use crate::error::Result;
use crate::evnode::key::{self, Key};
use crate::evnode::record::{ExecMeta, State};

/// A [`Source`] over a whole chain, with what stands in at its complete version.
pub struct StandIns<S> {
    source: S,
    complete: u64,
    height: u64,
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
    /// Watches `source`, which is complete up to a version and a height.
    pub fn new(source: S, complete: u64, height: u64) -> Self {
        let (key, shows, more) = (Vec::new(), false, false);
        Self { source, complete, height, key, shows, oldest: None, stand_in: None, more }
    }

    /// Does it stand on an entry of its own, and not on one of the source's?
    pub fn is_stand_in(&self) -> bool {
        self.stand_in.is_some()
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
        let hidden = !self.shows && !entry.is_delete() && stands_in(&entry, self.height);
        self.oldest = hidden.then(|| entry.to_owned());
    }
}

/// Is this of a key that is written again and again, of no block above `height`, and not the tip, which is known to the byte?
fn stands_in(entry: &Entry<'_>, height: u64) -> bool {
    let key = Key::parse(entry.key);
    let of = match key {
        Key::Tip => return false,
        // The newest state, of releases that kept one only: beside the tip of the complete height it cannot be of a later block.
        Key::NewestState => {
            State::decode(entry.value).ok().map_or(Some(0), |state| Some(state.last_block_height))
        }
        Key::State(_) | Key::DaHeight(..) => key.made_from(),
        Key::ExecMeta(_) => {
            key.made_from().or_else(|| ExecMeta::decode(entry.value).ok().map(|about| about.height))
        }
        _ => (!key::is_block_family(entry.key)).then_some(0),
    };
    of.is_some_and(|of| of <= height)
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

/// Picks what each key shows out of entries that pass in order: the newest that is not above the complete version, or what stands in
/// for it.
#[derive(Debug)]
pub struct Picker {
    complete: u64,
    height: u64,
    /// The key of the entries that pass.
    key: Vec<u8>,
    begun: bool,
    /// It is known what the key shows.
    decided: bool,
    /// Else the oldest version of it so far.
    oldest: Option<OwnedEntry>,
}

/// What an entry that passes brings to light.
#[derive(Debug)]
pub struct Picked {
    /// What stands in for the key before, whose last entry has passed.
    pub before: Option<OwnedEntry>,
    /// It is the newest of its key.
    pub newest: bool,
    /// It is what its key shows.
    pub shows: bool,
}

impl Picker {
    /// For a chain that is complete up to a version and a height.
    pub fn new(complete: u64, height: u64) -> Self {
        Self { complete, height, key: Vec::new(), begun: false, decided: false, oldest: None }
    }

    /// The next entry passes.
    pub fn pass(&mut self, entry: &Entry<'_>) -> Picked {
        let newest = !self.begun || entry.key != self.key;
        let before = if newest { self.oldest.take() } else { None };
        if newest {
            (self.begun, self.decided) = (true, false);
            self.key.clear();
            self.key.extend_from_slice(entry.key);
        }
        let decides = !self.decided && entry.version <= self.complete;
        if decides {
            self.decided = true;
            self.oldest = None;
        } else if !self.decided {
            let hidden = !entry.is_delete() && stands_in(entry, self.height);
            self.oldest = hidden.then(|| entry.to_owned());
        }
        Picked { before, newest, shows: decides && !entry.is_delete() }
    }

    /// What stands in for the last key.
    pub fn end(&mut self) -> Option<OwnedEntry> {
        self.oldest.take()
    }
}

/// A [`Source`] of one live entry for each key, as a [`Picker`] picks them.
pub struct View<S> {
    source: S,
    picker: Picker,
    /// What it stands on instead of the source's entry.
    stand_in: Option<OwnedEntry>,
    /// The source's entry has passed, and is what its key shows.
    ahead: bool,
    ended: bool,
}

impl<S: Source> View<S> {
    /// Looks at `source` as at a version, for a chain up to a height.
    pub fn new(source: S, complete: u64, height: u64) -> Self {
        Self { source, picker: Picker::new(complete, height), stand_in: None, ahead: false, ended: false }
    }
}

impl<S: Source> Source for View<S> {
    fn advance(&mut self) -> Result<bool> {
        if self.stand_in.take().is_some() && std::mem::take(&mut self.ahead) {
            return Ok(true);
        }
        while !self.ended && self.source.advance()? {
            let Picked { before, shows, .. } = self.picker.pass(&self.source.entry());
            self.stand_in = before;
            self.ahead = shows && self.stand_in.is_some();
            if shows || self.stand_in.is_some() {
                return Ok(true);
            }
        }
        self.ended = true;
        self.stand_in = self.picker.end();
        Ok(self.stand_in.is_some())
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
        drain(&mut StandIns::new(VecSource::new(entries), 10, 9))
    }

    fn viewed(entries: Vec<OwnedEntry>) -> Vec<(String, u64, u8)> {
        drain(&mut View::new(VecSource::new(entries), 10, 9))
    }

    fn drain(source: &mut dyn Source) -> Vec<(String, u64, u8)> {
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

    #[test]
    fn what_is_written_again_for_a_block_stands_in_up_to_the_complete_height() {
        let stands_in = |key: &[u8], value: &[u8], height| {
            super::stands_in(&Entry { key, value, ..Entry::default() }, height)
        };
        for key in ["/0/s/9", "/0/m/rhb/9/h", "/evm/execmeta/\0\0\0\0\0\0\0\u{9}"] {
            let key = key.as_bytes();
            assert!(stands_in(key, b"", 9) && !stands_in(key, b"", 8), "{}", key.escape_ascii());
        }
        for key in ["/0/h/9", "/0/i/AB", "/0/t", "/0/headerSync/9"] {
            assert!(!stands_in(key.as_bytes(), b"", 9), "{key}");
        }
        // The height of these stands in the value.
        let mangled = Key::exec_meta(47);
        assert!(stands_in(&mangled, &[8, 47], 47) && !stands_in(&mangled, &[8, 47], 46));
        assert!(!stands_in(&mangled, b"\xff", 47));
        let mut state = Vec::new();
        State { last_block_height: 9, ..State::default() }.encode(&mut state);
        assert!(
            stands_in(b"/0/s", &state, 9) && !stands_in(b"/0/s", &state, 8) && stands_in(b"/0/s", b"\xff", 8)
        );
    }

    #[test]
    fn a_view_has_one_live_entry_of_each_key_as_it_is() {
        let delete = |key, version| OwnedEntry { meta: META_DELETE, ..entry(key, version, 0) };
        let entries = vec![
            entry("/0/h/11", 11, 1),
            entry("/0/h/9", 9, 1),
            entry("/0/m/a", 12, 1),
            entry("/0/m/a", 11, 2),
            entry("/0/m/b", 12, 3),
            entry("/0/m/b", 9, 4),
            entry("/0/m/b", 8, 5),
            delete("/0/m/c", 10),
            entry("/0/m/c", 9, 6),
            delete("/0/m/d", 11),
            entry("/0/m/d", 9, 7),
            entry("/0/m/rhb/9/h", 13, 8),
            entry("/0/t", 11, 9),
            entry("/x", 99, 10),
        ];
        let expected = [
            ("/0/h/9", 9, 1),
            ("/0/m/a", 11, 2),
            ("/0/m/b", 9, 4),
            ("/0/m/d", 9, 7),
            ("/0/m/rhb/9/h", 13, 8),
            ("/x", 99, 10),
        ];
        assert_eq!(viewed(entries), expected.map(|(key, version, value)| (key.to_owned(), version, value)));
        assert_eq!(viewed(Vec::new()).len(), 0);
        assert_eq!(viewed(vec![delete("/x", 3)]).len(), 0);
    }
}
