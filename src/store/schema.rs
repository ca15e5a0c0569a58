//! How entries and versions lie in RocksDB: three spaces in one column family, told apart by the first byte of a key.
//!
//! ```text
//! entries   'e' │ key, every 00 as 00 FF │ 00 01 │ !version u64 be  →  meta u8 │ user meta u8 │ expires at varint │ value
//! versions  'v' │ version u64 be │ key                              →  nothing
//! about     '~' │ name                                              →  see `about.rs`
//! ```
//!
//! Under RocksDB's plain bytewise comparator the entries stand in the order of [`Entry::order`]: the escape keeps the order of
//! keys of different lengths (00 01 is below 00 FF and below every other byte), and the inverted version puts the newest
//! first. The versions are the entries' index by version: an increment walks a range of it instead of everything. The about
//! space sorts last, so that one pass writes all three in order, and a small increment is one file.
//!
//! Bad input: every decoder takes any bytes and answers with a value or an error.

use crate::entry::{Entry, META_KEPT};
use crate::error::{Error, Result};

/// The first byte of the entries space.
pub(super) const ENTRIES: u8 = b'e';
/// The first byte of the versions space.
pub(super) const VERSIONS: u8 = b'v';
/// The first byte of the about space.
pub(super) const ABOUT: u8 = b'~';

const ESCAPED_ZERO: [u8; 2] = [0x00, 0xFF];
const END_OF_KEY: [u8; 2] = [0x00, 0x01];

/// The entry key of `key` at `version`, into `out`.
pub(super) fn entry_key(key: &[u8], version: u64, out: &mut Vec<u8>) {
    entry_prefix(key, out);
    out.extend_from_slice(&END_OF_KEY);
    out.extend_from_slice(&(!version).to_be_bytes());
}

/// What the entry keys of all keys that begin with `prefix` begin with, into `out`.
pub(super) fn entry_prefix(prefix: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(ENTRIES);
    let mut rest = prefix;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        let (before, from) = rest.split_at(zero);
        out.extend_from_slice(before);
        out.extend_from_slice(&ESCAPED_ZERO);
        rest = from.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// Splits an entry key: the key goes into `key`, the version is returned.
pub(super) fn split_entry_key(stored: &[u8], key: &mut Vec<u8>) -> Result<u64> {
    key.clear();
    let (escaped, version) = stored.split_last_chunk::<8>().ok_or_else(|| bad_key("a version"))?;
    let (space, escaped) = escaped.split_first().ok_or_else(|| bad_key("the entries space"))?;
    let mut rest = escaped.strip_suffix(&END_OF_KEY).ok_or_else(|| bad_key("00 01 after the key"))?;
    if *space != ENTRIES {
        return Err(bad_key("the entries space"));
    }
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        let (before, from) = rest.split_at(zero);
        key.extend_from_slice(before);
        key.push(0);
        rest = from.strip_prefix(&ESCAPED_ZERO).ok_or_else(|| bad_key("FF after a 00 in the key"))?;
    }
    key.extend_from_slice(rest);
    Ok(!u64::from_be_bytes(*version))
}

/// The version key of `key` at `version`, into `out`.
pub(super) fn version_key(version: u64, key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSIONS);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(key);
}

/// Splits a version key.
pub(super) fn split_version_key(stored: &[u8]) -> Result<(u64, &[u8])> {
    match stored.split_first() {
        Some((&VERSIONS, rest)) => {
            let (version, key) = rest.split_first_chunk::<8>().ok_or_else(|| bad_key("a version"))?;
            Ok((u64::from_be_bytes(*version), key))
        }
        _ => Err(bad_key("the versions space")),
    }
}

/// Where the versions space begins that is above `since`; `None` when nothing can be.
pub(super) fn versions_above(since: u64) -> Option<Vec<u8>> {
    let mut key = vec![VERSIONS];
    key.extend_from_slice(&since.checked_add(1)?.to_be_bytes());
    Some(key)
}

/// The first key behind all keys that begin with `prefix`, which begins with the byte of a space.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut bound = prefix.to_vec();
    while let Some(last) = bound.pop() {
        if let Some(next) = last.checked_add(1) {
            bound.push(next);
            break;
        }
    }
    bound
}

fn bad_key(expected: &str) -> Error {
    Error::damaged(format!("expected {expected} in a stored key, found none"))
}

/// What stands before the value of a stored entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Head {
    /// See [`Entry::meta`].
    pub(super) meta: u8,
    /// See [`Entry::user_meta`].
    pub(super) user_meta: u8,
    /// See [`Entry::expires_at`].
    pub(super) expires_at: u64,
    /// Where the value begins in the stored bytes.
    pub(super) value_at: usize,
}

/// Appends the stored value of `entry` to `out`. Meta bits that belong to the directory it came from are left out.
pub(super) fn entry_value(entry: &Entry<'_>, out: &mut Vec<u8>) {
    out.reserve(entry.value.len() + 12);
    out.push(entry.meta & META_KEPT);
    out.push(entry.user_meta);
    let mut rest = entry.expires_at;
    while rest >= 0x80 {
        out.push((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7F) as u8);
    out.extend_from_slice(entry.value);
}

/// Reads what stands before the value.
pub(super) fn split_entry_value(stored: &[u8]) -> Result<Head> {
    let bad = || Error::damaged("expected meta bits and an expiry before a stored value, found neither");
    let ([meta, user_meta], rest) = stored.split_first_chunk::<2>().ok_or_else(bad)?;
    let mut expires_at = 0_u64;
    for (at, byte) in rest.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7F);
        let shift = 7 * u32::try_from(at).unwrap_or(u32::MAX);
        let shifted = bits.checked_shl(shift).ok_or_else(bad)?;
        if shifted >> shift != bits {
            return Err(bad());
        }
        expires_at |= shifted;
        if byte & 0x80 == 0 {
            return Ok(Head { meta: *meta, user_meta: *user_meta, expires_at, value_at: at + 3 });
        }
    }
    Err(bad())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Keys of few byte values, so that zeros, prefixes and equal keys are common.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0_u8), Just(1), Just(0xFE), Just(0xFF), any::<u8>()];
        proptest::collection::vec(byte, 0..8)
    }

    fn stored(key: &[u8], version: u64) -> Vec<u8> {
        let mut out = Vec::new();
        entry_key(key, version, &mut out);
        out
    }

    #[test]
    fn an_entry_key_looks_as_drawn() {
        assert_eq!(stored(b"a\0b", 1), b"ea\x00\xFFb\x00\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE");
        let mut version = Vec::new();
        version_key(0x0102, b"a\0", &mut version);
        assert_eq!(version, b"v\0\0\0\0\0\0\x01\x02a\0");
    }

    #[test]
    fn an_entry_value_looks_as_drawn() {
        let entry = Entry { meta: 0xC7, user_meta: 9, expires_at: 300, value: b"xy", ..Entry::default() };
        let mut out = Vec::new();
        entry_value(&entry, &mut out);
        assert_eq!(out, [0x05, 9, 0xAC, 0x02, b'x', b'y']);
        let head = split_entry_value(&out).unwrap();
        assert_eq!(head, Head { meta: 0x05, user_meta: 9, expires_at: 300, value_at: 4 });
    }

    #[test]
    fn an_expiry_that_does_not_end_or_does_not_fit_is_damage() {
        for bytes in
            [&[0, 0][..], &[0], &[], &[0, 0, 0x80], &[0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]]
        {
            assert_eq!(split_entry_value(bytes).unwrap_err().code(), "damaged", "{bytes:?}");
        }
    }

    #[test]
    fn behind_carries() {
        assert_eq!(behind(b"ea\xFF\xFF"), b"eb");
        assert_eq!(behind(b"e"), b"f");
    }

    proptest! {
        #[test]
        fn stored_order_is_entry_order(a in key(), b in key(), v in 0_u64..4, w in 0_u64..4) {
            let one = Entry { key: &a, version: v, ..Entry::default() };
            let other = Entry { key: &b, version: w, ..Entry::default() };
            prop_assert_eq!(stored(&a, v).cmp(&stored(&b, w)), one.order(&other));
        }

        #[test]
        fn what_was_put_in_comes_out(k in key(), version: u64, user_meta: u8, expires_at: u64, value: Vec<u8>) {
            let mut key = Vec::new();
            prop_assert_eq!(split_entry_key(&stored(&k, version), &mut key).unwrap(), version);
            prop_assert_eq!(&key, &k);
            let mut out = Vec::new();
            version_key(version, &k, &mut out);
            prop_assert_eq!(split_version_key(&out).unwrap(), (version, &k[..]));
            let entry = Entry { user_meta, expires_at, value: &value, ..Entry::default() };
            out.clear();
            entry_value(&entry, &mut out);
            let head = split_entry_value(&out).unwrap();
            prop_assert_eq!((head.user_meta, head.expires_at, &out[head.value_at..]), (user_meta, expires_at, &value[..]));
        }

        #[test]
        fn a_prefix_takes_its_keys_and_no_others(prefix in key(), k in key(), version: u64) {
            let mut from = Vec::new();
            entry_prefix(&prefix, &mut from);
            let stored = stored(&k, version);
            prop_assert_eq!(stored >= from && stored < behind(&from), k.starts_with(&prefix));
        }

        #[test]
        fn any_bytes_are_a_key_or_an_error(bytes: Vec<u8>) {
            let mut key = Vec::new();
            if let Ok(version) = split_entry_key(&bytes, &mut key) {
                prop_assert_eq!(stored(&key, version), bytes.clone());
            }
            let _ = split_version_key(&bytes);
            let _ = split_entry_value(&bytes);
        }
    }
}
