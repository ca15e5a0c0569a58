//! What a store says of itself: which history it is, how far it is complete, what it was made from.
//!
//! In the about space (`schema.rs`), integers big-endian:
//!
//! ```text
//! '~' "applied" │ number u64  →  complete version u64 │ sha256 32 │ source store id, what is left
//! '~' "state"                 →  the fields below, in this order
//! ```
//!
//! | bytes | field                                                                |
//! |-------|----------------------------------------------------------------------|
//! | 4     | format                                                               |
//! | 16    | store id                                                             |
//! | 8     | pinned version                                                       |
//! | 8     | last version                                                         |
//! | 8     | entries                                                              |
//! | 8     | bytes                                                                |
//! | 8     | generation                                                           |
//! | 8     | compacted to                                                         |
//! | 8     | how many were applied                                                |
//! | n     | deletes, UTF-8                                                       |

use super::fault::fault;
use super::schema::ABOUT;
use crate::error::{Error, Result};
use rocksdb::{DB, ReadOptions};
use std::path::Path;

/// The format this crate writes, and the highest it reads.
pub const FORMAT: u32 = 1;

/// What a store says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct About {
    /// The number of its format.
    pub format: u32,
    /// Which history of versions it is: random.
    pub store_id: [u8; 16],
    /// The version every read is pinned to: the complete version of what was applied.
    pub pinned_version: u64,
    /// The highest version that is in it, which may be above the pinned one.
    pub last_version: u64,
    /// How sure it is that deletes are in it: `"exact"`, `"derived"` or `"unknown"`.
    pub deletes: String,
    /// How many entries are in it, all versions counted.
    pub entries: u64,
    /// How many bytes their keys and values have.
    pub bytes: u64,
    /// How often it was changed; never falls.
    pub generation: u64,
    /// Up to which version entries that a newer one supersedes were dropped; 0: none.
    pub compacted_to: u64,
    /// What it was made from, in the order it was applied.
    pub applied: Vec<Applied>,
}

/// One segment that is in a store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// The id of the datastore that the segment came from; empty when it did not say.
    pub source: Vec<u8>,
    /// The segment's digest; zeros when nothing was digested.
    pub sha256: [u8; 32],
    /// The version up to which the segment surely misses nothing.
    pub complete_version: u64,
}

impl About {
    /// A new store's, still empty.
    pub(super) fn new(store_id: [u8; 16]) -> Self {
        Self {
            format: FORMAT,
            store_id,
            pinned_version: 0,
            last_version: 0,
            deletes: "unknown".into(),
            entries: 0,
            bytes: 0,
            generation: 0,
            compacted_to: 0,
            applied: Vec::new(),
        }
    }

    /// Does it follow no chain of segments, because it was cut at a height? Then what it was made from is noted as nothing.
    pub fn is_cut(&self) -> bool {
        self.applied.last() == Some(&Applied::default())
    }

    /// Its records in key order: those applied from the number `applied_from` on, and the state.
    pub(super) fn records(&self, applied_from: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut records = Vec::new();
        for (number, applied) in (0_u64..).zip(&self.applied).skip(applied_from) {
            let mut key = applied_prefix();
            key.extend_from_slice(&number.to_be_bytes());
            let mut value = applied.complete_version.to_be_bytes().to_vec();
            value.extend_from_slice(&applied.sha256);
            value.extend_from_slice(&applied.source);
            records.push((key, value));
        }
        records.push((state_key(), self.state()));
        records
    }

    fn state(&self) -> Vec<u8> {
        let mut out = self.format.to_be_bytes().to_vec();
        out.extend_from_slice(&self.store_id);
        let applied = self.applied.len() as u64;
        let (pinned, last) = (self.pinned_version, self.last_version);
        for number in [pinned, last, self.entries, self.bytes, self.generation, self.compacted_to, applied] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(self.deletes.as_bytes());
        out
    }

    /// Reads a state record; also how many were applied, which stand in records of their own.
    fn from_state(stored: &[u8]) -> Result<(Self, u64)> {
        let at = &mut &*stored;
        let format = u32::from_be_bytes(take(at, "a format number")?);
        check_format(format)?;
        let mut about = Self::new(take(at, "a store id")?);
        about.pinned_version = u64::from_be_bytes(take(at, "a pinned version")?);
        about.last_version = u64::from_be_bytes(take(at, "a last version")?);
        about.entries = u64::from_be_bytes(take(at, "a count of entries")?);
        about.bytes = u64::from_be_bytes(take(at, "a count of bytes")?);
        about.generation = u64::from_be_bytes(take(at, "a generation")?);
        about.compacted_to = u64::from_be_bytes(take(at, "a compacted version")?);
        let applied = u64::from_be_bytes(take(at, "a count of what was applied")?);
        about.deletes = String::from_utf8_lossy(at).into_owned();
        Ok((about, applied))
    }

    /// Reads it from an open database, and checks that it is whole.
    pub(super) fn load(db: &DB, path: &Path) -> Result<Self> {
        let state = db.get_pinned(state_key()).map_err(|error| fault(error, path))?;
        let state = state.ok_or_else(|| {
            Error::damaged("expected the store's own state in it, found none").at_path(path)
        })?;
        let (mut about, count) = Self::from_state(&state).map_err(|error| error.at_path(path))?;
        let mut range = ReadOptions::default();
        range.set_iterate_lower_bound(applied_prefix());
        range.set_iterate_upper_bound(state_key());
        let mut records = db.raw_iterator_opt(range);
        records.seek_to_first();
        while let Some(mut value) = records.value() {
            let at = &mut value;
            let complete_version = u64::from_be_bytes(take(at, "a complete version")?);
            let sha256 = take(at, "a digest")?;
            about.applied.push(Applied { source: at.to_vec(), sha256, complete_version });
            records.next();
        }
        records.status().map_err(|error| fault(error, path))?;
        if about.applied.len() as u64 != count {
            let found = about.applied.len();
            let what = format!("expected {count} records of what was applied to the store, found {found}");
            return Err(Error::damaged(what).at_path(path));
        }
        Ok(about)
    }
}

/// Refuses what a newer evbackup wrote.
pub(super) fn check_format(format: u32) -> Result<()> {
    if format <= FORMAT {
        return Ok(());
    }
    let what = format!("expected a store of format {FORMAT} or lower, found format {format}");
    Err(Error::unsupported(what).with_hint("a newer evbackup wrote it: upgrade this one"))
}

fn state_key() -> Vec<u8> {
    [&[ABOUT][..], b"state"].concat()
}

fn applied_prefix() -> Vec<u8> {
    [&[ABOUT][..], b"applied"].concat()
}

fn take<const N: usize>(at: &mut &[u8], what: &str) -> Result<[u8; N]> {
    let (taken, rest) = at
        .split_first_chunk::<N>()
        .ok_or_else(|| Error::damaged(format!("expected {what} in the store's own state, found its end")))?;
    *at = rest;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        let applied = Applied { source: b"from".to_vec(), sha256: [3; 32], complete_version: 9 };
        About {
            pinned_version: 9,
            last_version: 11,
            deletes: "derived".into(),
            entries: 4,
            bytes: 5,
            generation: 6,
            compacted_to: 7,
            applied: vec![applied],
            ..About::new([1; 16])
        }
    }

    #[test]
    fn a_state_comes_out_as_it_went_in() {
        let about = about();
        let (mut read, count) = About::from_state(&about.state()).unwrap();
        assert_eq!(count, 1);
        read.applied.clone_from(&about.applied);
        assert_eq!(read, about);
    }

    #[test]
    fn a_cut_state_is_an_error_and_never_a_panic() {
        let state = about().state();
        for length in 0..state.len() - "derived".len() {
            assert_eq!(About::from_state(&state[..length]).unwrap_err().code(), "damaged", "{length}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_before_anything_else_is_read() {
        let newer = (FORMAT + 1).to_be_bytes();
        let error = About::from_state(&newer).unwrap_err();
        assert_eq!(error.to_string(), "expected a store of format 1 or lower, found format 2");
    }
}
