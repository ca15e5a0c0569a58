//! What is gathered from entries while they pass on their way into a segment.

use super::chain_look::Look;
use super::chain_summary::ChainInfo;
use super::sort::Sorter;
use crate::base::checksum::{content_hash, sha256_hex};
use crate::entry::{Entry, META_DELETE};
use crate::error::Result;
use crate::evnode::key::{self, Key};
use crate::format::{Piece, Tally, Tap};
use crate::repo::manifest::Pruned;

/// The newest entry of a key that is looked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its value, as hex.
    pub sha256: String,
    /// Its value, where it is a height or a pruning mark.
    pub height: Option<u64>,
    /// The entry is a delete.
    pub delete: bool,
}

/// A [`Tap`]: tallies, finds the few keys that decide what a segment is, and collects what its `.keys` file lists.
pub struct Watch {
    tally: Tally,
    wanted: Vec<(Vec<u8>, Option<Seen>)>,
    keys: Option<Sorter>,
    families: bool,
    last: (u32, Vec<u8>),
    highest: u64,
    touched: Option<(Sorter, u64)>,
    look: Look,
}

impl Watch {
    /// Looks for `wanted` keys. `keys` takes the newest entry of each key that is to be listed; with `families` those of the block
    /// families too.
    pub fn new(wanted: Vec<Vec<u8>>, keys: Option<Sorter>, families: bool) -> Self {
        let wanted = wanted.into_iter().map(|key| (key, None)).collect();
        Self {
            tally: Tally::new(),
            wanted,
            keys,
            families,
            last: (0, Vec::new()),
            highest: 0,
            touched: None,
            look: Look::default(),
        }
    }

    /// Looks closely at the block of this height, to say what chain it is.
    #[must_use]
    pub fn looking_at(mut self, height: u64) -> Self {
        self.look = Look::new(height);
        self
    }

    /// What chain of blocks passed, whole up to a height.
    pub fn chain(&self, complete: u64) -> Option<ChainInfo> {
        self.look.clone().finish(Some(complete), true)
    }

    /// Also takes the keys of heights up to `top` that pass, in the order of their coming.
    #[must_use]
    pub fn touching(mut self, top: u64, sorter: Sorter) -> Self {
        self.touched = Some((sorter, top));
        self
    }

    /// What the bytes hold.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The newest entry of a wanted key that passed.
    pub fn seen(&self, key: &[u8]) -> Option<&Seen> {
        self.wanted.iter().find(|(wanted, _)| wanted == key).and_then(|(_, seen)| seen.as_ref())
    }

    /// The collector of keys; it can be taken once.
    pub fn take_keys(&mut self) -> Option<Sorter> {
        self.keys.take()
    }

    /// The keys that [`touching`](Self::touching) took; they can be taken once.
    pub fn take_touched(&mut self) -> Option<Sorter> {
        self.touched.take().map(|(sorter, _)| sorter)
    }

    /// The highest height of a header, data, signature or state that passed and is no delete.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// How far the source has pruned, where its marks passed; else what is known from `before`.
    pub fn pruned(&self, before: Pruned) -> Pruned {
        let mark = |key: &[u8], before| {
            let seen = self.seen(key).filter(|seen| !seen.delete);
            seen.and_then(|seen| seen.height).unwrap_or(before)
        };
        Pruned {
            blocks: mark(key::PRUNED_BLOCKS, before.blocks),
            states: mark(key::PRUNED_STATES, before.states),
            execmeta: mark(key::PRUNED_EXEC_META, before.execmeta),
        }
    }

    fn touch(&mut self, entry: &Entry<'_>) -> Result<()> {
        if !key::is_block_family(entry.key) {
            return Ok(());
        }
        let key = Key::parse(entry.key);
        if !entry.is_delete()
            && let Some(height) = key.block_height()
        {
            self.highest = self.highest.max(height);
        }
        let Some((sorter, top)) = &mut self.touched else { return Ok(()) };
        // The keys of some execution records do not say their height.
        if key.made_from().map_or_else(|| matches!(key, Key::ExecMeta(_)), |height| height <= *top) {
            sorter.put(Entry { key: entry.key, ..Entry::default() })?;
        }
        Ok(())
    }

    fn look(&mut self, entry: &Entry<'_>) {
        for (wanted, seen) in &mut self.wanted {
            let newer = seen.as_ref().is_none_or(|seen| seen.version < entry.version);
            if wanted == entry.key && newer {
                *seen = Some(Seen {
                    version: entry.version,
                    sha256: sha256_hex(entry.value),
                    height: key::mark(entry.key, entry.value),
                    delete: entry.is_delete(),
                });
            }
        }
    }

    /// Within a run the newest version of a key comes first, and only that one counts.
    fn is_newest(&mut self, entry: &Entry<'_>, stream_id: u32) -> bool {
        if self.last.0 == stream_id && self.last.1 == entry.key && self.tally.entries() > 1 {
            return false;
        }
        self.last.0 = stream_id;
        self.last.1.clear();
        self.last.1.extend_from_slice(entry.key);
        true
    }

    fn collect(&mut self, entry: &Entry<'_>) -> Result<()> {
        let Some(keys) = &mut self.keys else { return Ok(()) };
        if !self.families && key::is_block_family(entry.key) {
            return Ok(());
        }
        let hash = hash(entry).to_le_bytes();
        keys.put(Entry {
            key: entry.key,
            version: entry.version,
            value: &hash,
            meta: entry.meta & META_DELETE,
            expires_at: entry.expires_at,
            ..Entry::default()
        })
    }
}

/// The content hash that a keys file has of an entry.
pub fn hash(entry: &Entry<'_>) -> u64 {
    content_hash(entry.meta, entry.user_meta, entry.expires_at, entry.value)
}

impl Tap for Watch {
    fn bytes(&mut self, bytes: &[u8]) {
        Tap::bytes(&mut self.tally, bytes);
    }

    fn frame(&mut self, end: u64) {
        self.tally.frame(end);
    }

    fn entry(&mut self, entry: &Entry<'_>, stream_id: u32, place: Piece) -> Result<()> {
        self.tally.entry(entry, stream_id, place)?;
        self.look(entry);
        self.touch(entry)?;
        if self.is_newest(entry, stream_id) {
            self.look.see(entry);
            self.collect(entry)?;
        }
        Ok(())
    }
}
