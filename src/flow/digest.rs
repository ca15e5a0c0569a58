//! The logical digest: one number for what a datastore says, whatever engine or file says it.
//!
//! SHA-256 over entries in key order, each as below; integers are big-endian. By default these are the live newest entries: for each
//! key the newest version that is not above `at`, left out when it is a delete or has expired at `now`. With `history` it is
//! every entry, deletes included, and the meta byte keeps `0x0d` of its bits.
//!
//! | bytes | field                        |
//! |-------|------------------------------|
//! | 4     | k                            |
//! | k     | key                          |
//! | 8     | version                      |
//! | 1     | meta & `0x08`                |
//! | 1     | user meta                    |
//! | 8     | expiry, Unix seconds         |
//! | 4     | v                            |
//! | v     | value                        |
//!
//! Equal for a chain of segments, a Badger directory and a store that hold the same data, and what `interop digest` computes
//! from a Badger directory with Badger itself.

use crate::base::checksum::Sha256;
use crate::base::progress::Progress;
use crate::entry::{Entry, INTERNAL_PREFIX, META_KEPT, META_MERGE, Source};
use crate::error::{Error, Result};

/// What the digest is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Versions above this do not count.
    pub at: u64,
    /// Unix seconds at which expiry is judged.
    pub now: u64,
    /// Every entry instead of the live newest ones.
    pub history: bool,
}

/// The digest of a source, as lower-case hex, and how many entries it covers.
pub fn digest(source: &mut dyn Source, scope: Scope, progress: &Progress) -> Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut live = Live::new(scope);
    let mut covered = 0u64;
    let mut passed = 0u64;
    while source.advance()? {
        let entry = source.entry();
        passed += (entry.key.len() + entry.value.len()) as u64;
        if passed > 1 << 20 {
            progress.check()?;
            progress.add(passed, 0);
            passed = 0;
        }
        if live.counts(&entry) {
            let mask = if scope.history { META_KEPT } else { META_MERGE };
            feed(&mut hasher, &entry, mask)?;
            covered += 1;
        }
    }
    progress.add(passed, covered);
    Ok((hasher.hex(), covered))
}

/// Picks the newest live version of each key out of a source in order.
struct Live {
    scope: Scope,
    key: Vec<u8>,
    begun: bool,
}

impl Live {
    fn new(scope: Scope) -> Self {
        Self { scope, key: Vec::new(), begun: false }
    }

    fn counts(&mut self, entry: &Entry<'_>) -> bool {
        if entry.version > self.scope.at || entry.key.starts_with(INTERNAL_PREFIX) {
            return false;
        }
        if self.scope.history {
            return true;
        }
        if self.begun && self.key == entry.key {
            return false;
        }
        self.begun = true;
        self.key.clear();
        self.key.extend_from_slice(entry.key);
        !entry.is_delete() && !entry.is_expired(self.scope.now)
    }
}

fn feed(hasher: &mut Sha256, entry: &Entry<'_>, mask: u8) -> Result<()> {
    let length = |bytes: &[u8]| {
        u32::try_from(bytes.len())
            .map_err(|_| Error::unsupported(format!("cannot digest {} bytes as one field", bytes.len())))
    };
    hasher.update(&length(entry.key)?.to_be_bytes());
    hasher.update(entry.key);
    hasher.update(&entry.version.to_be_bytes());
    hasher.update(&[entry.meta & mask, entry.user_meta]);
    hasher.update(&entry.expires_at.to_be_bytes());
    hasher.update(&length(entry.value)?.to_be_bytes());
    hasher.update(entry.value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{META_DELETE, OwnedEntry, VecSource};

    fn scope() -> Scope {
        Scope { at: u64::MAX, now: 100, history: false }
    }

    fn of(entries: &[OwnedEntry], scope: Scope) -> String {
        digest(&mut VecSource::new(entries.to_vec()), scope, &Progress::new()).unwrap().0
    }

    fn entry(key: &[u8], version: u64, value: &[u8]) -> OwnedEntry {
        OwnedEntry { key: key.to_vec(), version, value: value.to_vec(), ..OwnedEntry::default() }
    }

    #[test]
    fn is_that_of_the_bytes_in_the_drawing() {
        let mut hasher = Sha256::new();
        hasher.update(b"\0\0\0\x01k\0\0\0\0\0\0\0\x07\x08\x03\0\0\0\0\0\0\x01\0\0\0\0\x02vv");
        let expected = hasher.hex();
        let one = OwnedEntry { meta: 0x0e, user_meta: 3, expires_at: 256, ..entry(b"k", 7, b"vv") };
        assert_eq!(of(&[one], scope()), expected);
    }

    #[test]
    fn older_versions_deletes_and_the_expired_do_not_count() {
        let plain = of(&[entry(b"a", 2, b"x")], scope());
        let gone = OwnedEntry { meta: META_DELETE, ..entry(b"b", 9, b"") };
        let expired = OwnedEntry { expires_at: 100, ..entry(b"c", 9, b"y") };
        let all = [entry(b"a", 2, b"x"), entry(b"a", 1, b"w"), gone, entry(b"b", 1, b"z"), expired];
        assert_eq!(of(&all, scope()), plain);
        assert_ne!(of(&all, Scope { history: true, ..scope() }), plain);
        assert_ne!(of(&all, Scope { now: 99, ..scope() }), plain);
        assert_ne!(of(&all, Scope { at: 1, ..scope() }), plain);
    }
}
