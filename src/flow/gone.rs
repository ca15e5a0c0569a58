//! Which keys of the block families are gone since a base, by ev-node's own rules.
//!
//! A source does not list these keys: there are some seven for each block. But ev-node takes them away by height only, and says in its
//! marks how far it has come, so what the base had and the source has no more follows from the two.

use super::sort::Sorter;
use crate::entry::{Entry, META_DELETE, Source};
use crate::error::{Error, Result};
use crate::evnode::key::{self, Key, block_keys, da_keys};
use crate::repo::manifest::Pruned;

/// More heights than this are not buried one by one: a full backup is smaller by then.
const MOST: u64 = 10_000_000;

/// How far a chain goes, as one segment or the source shows it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// The tip.
    pub tip: u64,
    /// The highest height of a header, data, signature or state; a torn stream, and releases up to v1.0.0-rc.4, have some above the
    /// tip.
    pub highest: u64,
    /// How far it was pruned.
    pub pruned: Pruned,
}

/// Heights `from <= n <= to` of the three families that go for their own reasons.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Gone {
    blocks: (u64, u64),
    states: (u64, u64),
    execmeta: (u64, u64),
    /// Blocks and states above the tip.
    above: (u64, u64),
    /// Is that all of it? Where the node changed from one kind of pruning to the other, the marks do not say which states are left.
    pub sure: bool,
}

impl Gone {
    /// What `before` had and `after` has no more.
    pub fn between(before: &Standing, after: &Standing) -> Self {
        let top = before.highest;
        let range = |low: u64, high: u64| (low.saturating_add(1), high.min(top));
        let (old, new) = (before.pruned, after.pruned);
        // States are pruned from the higher of the two marks on, as it is then.
        let moved = new.states > old.states && new.blocks > old.blocks.max(old.states);
        Self {
            blocks: range(old.blocks, new.blocks),
            states: range(old.states.max(new.blocks), new.states),
            execmeta: range(old.execmeta, new.execmeta),
            above: range(after.tip, if after.tip == 0 { 0 } else { top }),
            sure: !moved,
        }
    }

    fn heights(&self) -> u64 {
        let count = |(from, to): (u64, u64)| to.saturating_add(1).saturating_sub(from);
        [self.blocks, self.states, self.execmeta, self.above]
            .into_iter()
            .map(count)
            .fold(0, u64::saturating_add)
    }

    /// Nothing?
    pub fn is_empty(&self) -> bool {
        self.heights() == 0
    }

    /// Their keys, sorted.
    pub fn keys(&self, mut sorter: Sorter) -> Result<Box<dyn Source>> {
        let heights = self.heights();
        if heights > MOST {
            return Err(Error::mismatch(format!(
                "expected at most {MOST} heights pruned since the base, found {heights}"
            ))
            .with_hint("take a full backup, which is smaller, or pass on_mismatch=\"full\""));
        }
        let mut put = |key: Vec<u8>| sorter.put(Entry { key: &key, meta: META_DELETE, ..Entry::default() });
        for height in self.blocks.0..=self.blocks.1 {
            block_keys(height).into_iter().chain(da_keys(height)).try_for_each(&mut put)?;
        }
        for height in self.states.0..=self.states.1 {
            put(key::state(height))?;
        }
        for height in self.execmeta.0..=self.execmeta.1 {
            put(Key::exec_meta(height))?;
        }
        for height in self.above.0..=self.above.1 {
            block_keys(height).into_iter().chain([key::state(height)]).try_for_each(&mut put)?;
        }
        sorter.finish()
    }
}

/// The keys of `gone` that `touched` has not: the stream itself says what became of those.
pub struct Untouched<'a> {
    gone: Box<dyn Source + 'a>,
    touched: Box<dyn Source + 'a>,
    stands: Option<bool>,
}

impl<'a> Untouched<'a> {
    /// Both in key order.
    pub fn new(gone: Box<dyn Source + 'a>, touched: Box<dyn Source + 'a>) -> Self {
        Self { gone, touched, stands: None }
    }
}

impl Source for Untouched<'_> {
    fn advance(&mut self) -> Result<bool> {
        while self.gone.advance()? {
            let mut stands = match self.stands {
                Some(stands) => stands,
                None => self.touched.advance()?,
            };
            while stands && self.touched.entry().key < self.gone.entry().key {
                stands = self.touched.advance()?;
            }
            self.stands = Some(stands);
            if !stands || self.touched.entry().key != self.gone.entry().key {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn entry(&self) -> Entry<'_> {
        self.gone.entry()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::progress::Progress;
    use crate::base::scratch::Scratch;
    use crate::entry::{OwnedEntry, VecSource};

    fn at(tip: u64, blocks: u64, states: u64, execmeta: u64) -> Standing {
        Standing { tip, highest: tip, pruned: Pruned { blocks, states, execmeta } }
    }

    fn keys(gone: &Gone) -> Vec<String> {
        let sorter = Sorter::new(&Scratch::system(), 1 << 20, &Progress::new());
        let mut source = gone.keys(sorter).unwrap();
        let mut keys = Vec::new();
        while source.advance().unwrap() {
            keys.push(source.entry().key.escape_ascii().to_string());
        }
        keys
    }

    #[test]
    fn pruned_blocks_go_with_what_belongs_to_them_and_their_states_stay() {
        let gone = Gone::between(&at(20, 8, 0, 8), &at(30, 10, 0, 9));
        assert_eq!(
            keys(&gone),
            [
                "/0/c/10",
                "/0/c/9",
                "/0/d/10",
                "/0/d/9",
                "/0/h/10",
                "/0/h/9",
                "/0/m/rhb/10/d",
                "/0/m/rhb/10/h",
                "/0/m/rhb/9/d",
                "/0/m/rhb/9/h",
                "/evm/execmeta/\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\t"
            ]
        );
        assert!(gone.sure && Gone::between(&at(20, 8, 0, 8), &at(30, 8, 0, 8)).is_empty());
    }

    #[test]
    fn states_go_from_the_higher_mark_on() {
        assert_eq!(keys(&Gone::between(&at(20, 0, 4, 0), &at(30, 0, 6, 0))), ["/0/s/5", "/0/s/6"]);
        // Blocks were pruned up to 5 before, so the states up to 5 are still there.
        assert_eq!(keys(&Gone::between(&at(20, 5, 0, 0), &at(30, 5, 6, 0))), ["/0/s/6"]);
        // Both moved: which of the states up to 7 are left depends on which came first.
        assert!(!Gone::between(&at(20, 5, 0, 0), &at(30, 7, 9, 0)).sure);
        assert!(Gone::between(&at(20, 5, 8, 0), &at(30, 7, 9, 0)).sure);
    }

    #[test]
    fn nothing_is_buried_that_the_base_cannot_have() {
        let gone = Gone::between(&at(3, 0, 0, 0), &at(1 << 40, 1 << 39, 1 << 39, 1 << 39));
        assert_eq!(gone.heights(), 6);
        let before = Standing { highest: u64::MAX, ..at(3, 0, 0, 0) };
        let gone = Gone::between(&before, &at(3, u64::MAX, 0, 0));
        let sorter = Sorter::new(&Scratch::system(), 1 << 20, &Progress::new());
        assert_eq!(gone.keys(sorter).map(drop).unwrap_err().code(), "mismatch");
    }

    #[test]
    fn what_stands_above_the_tip_was_rolled_back() {
        let before = Standing { highest: 8, ..at(7, 0, 0, 0) };
        assert_eq!(keys(&Gone::between(&before, &at(7, 0, 0, 0))), ["/0/c/8", "/0/d/8", "/0/h/8", "/0/s/8"]);
        assert!(Gone::between(&before, &at(0, 0, 0, 0)).is_empty(), "a source without a tip says nothing");
    }

    #[test]
    fn what_the_stream_touches_is_left_to_it() {
        let source = |keys: &[&str]| {
            let entry = |key: &&str| OwnedEntry { key: key.as_bytes().to_vec(), ..OwnedEntry::default() };
            Box::new(VecSource::new(keys.iter().map(entry).collect()))
        };
        let left = |gone: &[&str], touched: &[&str]| {
            let mut left = Untouched::new(source(gone), source(touched));
            let mut keys = Vec::new();
            while left.advance().unwrap() {
                keys.push(String::from_utf8(left.entry().key.to_vec()).unwrap());
            }
            keys
        };
        assert_eq!(left(&["a", "c", "e"], &["b", "c", "d", "f"]), ["a", "e"]);
        assert_eq!(left(&["a", "b"], &[]), ["a", "b"]);
        assert!(left(&["a", "b"], &["a", "b"]).is_empty());
    }
}
