//! Internal keys: the user key and, behind it, the version in 8 bytes, inverted so that newer versions come first.
//!
//! Order is by user key, then by those 8 bytes; never by the whole, where a longer user key could slip in between (`y.CompareKeys`).

use crate::error::{Error, Result};
use std::cmp::Ordering;

/// Bytes of the version.
pub(super) const SUFFIX: usize = 8;

/// Appends the internal key.
pub(super) fn put(to: &mut Vec<u8>, key: &[u8], version: u64) {
    to.extend_from_slice(key);
    to.extend_from_slice(&(u64::MAX - version).to_be_bytes());
}

/// The user key and the version of an internal key.
pub(super) fn split(internal: &[u8]) -> Result<(&[u8], u64)> {
    match internal.split_last_chunk::<SUFFIX>() {
        Some((key, suffix)) => Ok((key, u64::MAX - u64::from_be_bytes(*suffix))),
        None => Err(Error::damaged(format!(
            "expected a key with a version of {SUFFIX} bytes, found {} bytes",
            internal.len()
        ))),
    }
}

/// The order of internal keys; what is too short to hold a version counts as a version alone.
pub(super) fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let parts = |internal: &'_ [u8]| internal.len().saturating_sub(SUFFIX);
    let (one_key, one_version) = one.split_at(parts(one));
    let (other_key, other_version) = other.split_at(parts(other));
    one_key.cmp(other_key).then_with(|| one_version.cmp(other_version))
}

/// A key and its version for a person; a long key is cut.
pub(super) fn shown(internal: &[u8]) -> String {
    const MOST: usize = 100;
    let Ok((key, version)) = split(internal) else { return internal.escape_ascii().to_string() };
    match key.get(..MOST).filter(|_| key.len() > MOST) {
        Some(begin) => format!("{}… ({} bytes) at version {version}", begin.escape_ascii(), key.len()),
        None => format!("{} at version {version}", key.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internal(key: &[u8], version: u64) -> Vec<u8> {
        let mut internal = Vec::new();
        put(&mut internal, key, version);
        internal
    }

    #[test]
    fn is_the_one_that_badger_writes() {
        // Made by Badger v4.5.1.
        assert_eq!(internal(b"/0/t", 5), b"/0/t\xff\xff\xff\xff\xff\xff\xff\xfa");
        assert_eq!(split(&internal(b"/0/t", 5)).unwrap(), (&b"/0/t"[..], 5));
        assert_eq!(split(b"1234567").unwrap_err().code(), "damaged");
    }

    #[test]
    fn a_person_sees_key_and_version_and_not_all_of_a_long_key() {
        assert_eq!(shown(&internal(b"/0/t\0", 5)), "/0/t\\x00 at version 5");
        let long = shown(&internal("k".repeat(65_000).as_bytes(), 1));
        assert_eq!(long, format!("{}… (65000 bytes) at version 1", "k".repeat(100)));
        assert_eq!(shown(b"short"), "short");
    }

    #[test]
    fn newer_versions_come_first_and_longer_keys_never_between_them() {
        let sorted = [
            internal(b"", 3),
            internal(b"a", u64::MAX),
            internal(b"a", 2),
            internal(b"a", 0),
            internal(b"a\0", 9),
            internal(b"a\xff\xff\xff\xff\xff\xff\xff\xff\xff", 1),
            internal(b"b", 1),
        ];
        for (at, one) in sorted.iter().enumerate() {
            for (other_at, other) in sorted.iter().enumerate() {
                assert_eq!(compare(one, other), at.cmp(&other_at), "{one:?} {other:?}");
            }
        }
    }
}
