//! The wider door for hashes: which block a header hash names.
//!
//! A node's index knows a block by the SHA-256 of its stored header (v1.0.0-beta.9 and later), and what people hold is mostly the header hash,
//! which the next block names. So every header is looked at once, when such a hash is first asked for: 8 bytes of its hash and its height go
//! into a file without a name, in sorted runs. Later questions look at new blocks only. A match is proven by the header itself, so
//! that what was rolled back meanwhile is no answer.
//!
//! | bytes | field                                   |
//! |-------|-----------------------------------------|
//! | 8     | the beginning of the hash, big-endian   |
//! | 8     | the height, big-endian                  |

use super::{ENOUGH, Heights, Node};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::error::{Error, Result};
use crate::evnode::hash::{self, Hash};
use crate::evnode::key::Key;
use crate::evnode::record::SignedHeader;
use std::collections::BTreeSet;
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records in memory before they become a run: some 10 MiB.
const RUN: usize = 1 << 17;
const RECORD: u64 = 16;
/// Headers that are read at once.
const HEADERS: u64 = 512;

/// The beginnings of hashes, and the heights of their headers.
pub(super) struct Door {
    scratch: Scratch,
    file: Option<File>,
    /// How many records each run in the file has, in their order.
    runs: Vec<u64>,
    recent: BTreeSet<(u64, u64)>,
    /// Headers below this height were looked at.
    next: u64,
    /// The last one.
    last: Option<Hash>,
}

impl Door {
    pub(super) fn new(scratch: Scratch) -> Self {
        Self { scratch, file: None, runs: Vec::new(), recent: BTreeSet::new(), next: 0, last: None }
    }

    /// The height of the block whose header has this hash. Looks at the headers that are new, some at a time, so that several who ask share the
    /// work and none holds up the others.
    pub(super) fn find(
        door: &Mutex<Self>,
        wanted: &Hash,
        node: &Node,
        progress: &Progress,
    ) -> Result<Option<u64>> {
        let heights = node.heights(progress)?;
        loop {
            progress.check()?;
            if lock(door).extend(heights, node, progress)? {
                break;
            }
        }
        let candidates = lock(door).candidates(wanted)?;
        for height in candidates.into_iter().filter(|height| *height <= heights.last) {
            if header_hash(node, height, progress)? == Some(*wanted) {
                return Ok(Some(height));
            }
        }
        Ok(None)
    }

    /// Looks at some more headers; true when there are none.
    fn extend(&mut self, heights: Heights, node: &Node, progress: &Progress) -> Result<bool> {
        if heights.last == 0 || self.next > heights.last {
            return Ok(true);
        }
        if let (Some(last), Some(before)) = (self.last, self.next.checked_sub(1))
            && before >= heights.first
            && header_hash(node, before, progress)? != Some(last)
        {
            // They were rolled back and written anew.
            *self = Self::new(self.scratch.clone());
        }
        let from = self.next.max(heights.first);
        let wanted: Vec<u64> = (from..=heights.last.min(from.saturating_add(HEADERS - 1))).collect();
        let keys: Vec<_> = wanted.iter().map(|height| Key::Header(*height).to_bytes()).collect();
        let found = node.values.values(&keys, ENOUGH, progress)?;
        for (height, value) in wanted.into_iter().zip(found) {
            self.next = height.saturating_add(1);
            // What is missing or damaged has no hash: verify tells of it.
            let Some(hash) = value.as_deref().and_then(hash_of) else { continue };
            self.recent.insert((beginning(&hash), height));
            self.last = Some(hash);
        }
        if self.recent.len() >= RUN {
            self.keep()?;
        }
        Ok(self.next > heights.last)
    }

    /// Writes the recent records behind the runs.
    fn keep(&mut self) -> Result<()> {
        let folder = self.scratch.folder();
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(self.scratch.file()?),
        };
        let records: Vec<u8> = self
            .recent
            .iter()
            .flat_map(|(begins, height)| [begins.to_be_bytes(), height.to_be_bytes()].concat())
            .collect();
        let at = self.runs.iter().sum::<u64>() * RECORD;
        file.write_all_at(&records, at)
            .map_err(|error| Error::from_io(error, "write a temporary file in it", folder))?;
        self.runs.push(self.recent.len() as u64);
        self.recent.clear();
        Ok(())
    }

    /// The heights of the headers whose hashes begin as this one does.
    fn candidates(&self, wanted: &Hash) -> Result<Vec<u64>> {
        let begins = beginning(wanted);
        let recent = self.recent.range(RangeInclusive::new((begins, 0), (begins, u64::MAX)));
        let mut found: Vec<u64> = recent.map(|(_, height)| *height).collect();
        let Some(file) = &self.file else { return Ok(found) };
        let mut base = 0;
        for run in &self.runs {
            let (mut low, mut high) = (0, *run);
            while low < high {
                let middle = low + (high - low) / 2;
                if self.record(file, base + middle)?.0 < begins {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            while low < *run {
                let (other, height) = self.record(file, base + low)?;
                if other != begins {
                    break;
                }
                found.push(height);
                low += 1;
            }
            base += run;
        }
        Ok(found)
    }

    fn record(&self, file: &File, number: u64) -> Result<(u64, u64)> {
        let (mut begins, mut height) = ([0; 8], [0; 8]);
        file.read_exact_at(&mut begins, number * RECORD)
            .and_then(|()| file.read_exact_at(&mut height, number * RECORD + 8))
            .map_err(|error| Error::from_io(error, "read a temporary file in it", self.scratch.folder()))?;
        Ok((u64::from_be_bytes(begins), u64::from_be_bytes(height)))
    }
}

fn lock(door: &Mutex<Door>) -> MutexGuard<'_, Door> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}

fn beginning(hash: &Hash) -> u64 {
    hash.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn hash_of(header: &[u8]) -> Option<Hash> {
    Some(hash::header(&SignedHeader::decode(header).ok()?.header))
}

fn header_hash(node: &Node, height: u64, progress: &Progress) -> Result<Option<Hash>> {
    let [header] = node.get(&[Key::Header(height).to_bytes()], progress)?;
    Ok(header.as_deref().and_then(hash_of))
}
