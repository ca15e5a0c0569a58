//! The Bloom filter over the user keys of a table (`y/bloom.go`).
//!
//! | bytes | field                                                                   |
//! |-------|-------------------------------------------------------------------------|
//! | n     | bits, the lowest of each byte first                                     |
//! | 1     | how many of them each key sets                                          |
//!
//! A wrong filter makes Badger miss keys that are there; none at all only costs time.

/// What Badger's false positive rate of 0.01 asks for: `ceil(-ln 0.01 / ln 2)`.
const BITS_PER_KEY: usize = 7;
/// `trunc(7 × 0.69)`.
const PROBES: u8 = 4;
/// More is a format of the future: everything may be in it.
const MAX_PROBES: u8 = 30;
const MIN_BITS: usize = 64;

/// The hash of a user key, as `LevelDB` has it.
pub(in crate::badger) fn hash(key: &[u8]) -> u32 {
    const SEED: u32 = 0xbc9f_1d34;
    const FACTOR: u32 = 0xc6a4_a793;
    // Badger multiplies the length as 32 bits, too.
    let length = u32::try_from(key.len() & 0xffff_ffff).unwrap_or_default();
    let mut hash = SEED ^ length.wrapping_mul(FACTOR);
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_add(u32::from_le_bytes(*word)).wrapping_mul(FACTOR);
        hash ^= hash >> 16;
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash = hash.wrapping_add(u32::from(*byte) << (8 * at));
        }
        hash = hash.wrapping_mul(FACTOR);
        hash ^= hash >> 24;
    }
    hash
}

/// The filter of a table with these hashes, one for each entry.
pub(in crate::badger) fn build(hashes: &[u32]) -> Vec<u8> {
    let bytes = hashes.len().saturating_mul(BITS_PER_KEY).max(MIN_BITS).div_ceil(8);
    let mut filter = vec![0; bytes + 1];
    if let Some((probes, bits)) = filter.split_last_mut() {
        *probes = PROBES;
        for hash in hashes {
            for (byte, bit) in positions(*hash, PROBES, bits.len()) {
                if let Some(byte) = bits.get_mut(byte) {
                    *byte |= bit;
                }
            }
        }
    }
    filter
}

/// May a key of this hash be in the table?
pub(in crate::badger) fn may_contain(filter: &[u8], hash: u32) -> bool {
    match filter.split_last() {
        Some((probes, _)) if *probes > MAX_PROBES => true,
        Some((probes, bits)) if !bits.is_empty() => positions(hash, *probes, bits.len())
            .all(|(byte, bit)| bits.get(byte).is_some_and(|byte| byte & bit != 0)),
        _ => false,
    }
}

/// Byte and bit of each probe.
fn positions(mut hash: u32, probes: u8, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let step = hash.rotate_right(17);
    let bits = u32::try_from(bytes.saturating_mul(8)).unwrap_or(u32::MAX).max(1);
    (0..probes).map(move |_| {
        let position = hash % bits;
        hash = hash.wrapping_add(step);
        (usize::try_from(position / 8).unwrap_or(usize::MAX), 1 << (position % 8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_are_those_of_badger() {
        for (key, expected) in [
            (&b""[..], 0xbc9f_1d34),
            (b"a", 0x286e_9db0),
            (b"ab", 0x39ac_a330),
            (b"abc", 0x855d_012f),
            (b"abcd", 0xb9c8_3353),
            (b"/0/h/1", 0xc196_38f1),
            (b"/0/t", 0xeb09_f2ec),
        ] {
            assert_eq!(hash(key), expected, "{key:?}");
        }
    }

    #[test]
    fn a_filter_is_the_one_that_badger_builds() {
        let filter = build(&[hash(b"/0/h/1"), hash(b"/0/t")]);
        assert_eq!(filter, [0x80, 0, 4, 0, 0, 0x10, 0x13, 0x11, 4]);
        assert!(may_contain(&filter, hash(b"/0/t")) && !may_contain(&filter, hash(b"a")));
    }

    #[test]
    fn a_filter_that_is_none_answers_as_badger_does() {
        assert!(!may_contain(&[], 7) && !may_contain(&[4], 7));
        assert!(may_contain(&[0, 31], 7), "a format of the future");
        assert!(may_contain(&[0, 0], 7), "no probes, no contradiction");
    }

    proptest! {
        #[test]
        fn every_key_that_went_in_may_be_in_it(keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..300)) {
            let hashes: Vec<_> = keys.iter().map(|key| hash(key)).collect();
            let filter = build(&hashes);
            prop_assert!(hashes.iter().all(|hash| may_contain(&filter, *hash)));
        }

        #[test]
        fn any_bytes_give_an_answer(filter: Vec<u8>, hash: u32) {
            let _ = may_contain(&filter, hash);
        }
    }
}
