//! The keys of ev-node's main store, `/0/…`, and of the components beside it.
//!
//! Heights are decimal without padding. Source: `pkg/store/keys.go` and `kv.go` of ev-node v1.2.3.

/// The tip: the height of the newest block, 8 bytes little-endian.
pub const TIP: &[u8] = b"/0/t";
/// Blocks up to this height (8 bytes, little-endian) have been pruned.
pub const PRUNED_BLOCKS: &[u8] = b"/0/m/lst-prnd-b";

/// Prefixes of the keys that belong to one block by rule: headers, data, signatures, states, the index by hash, DA heights, EVM
/// execution records, and the header and data stores of releases up to v1.0.0-rc.1.
pub const BLOCK_FAMILIES: &[&[u8]] = &[
    b"/0/h/",
    b"/0/d/",
    b"/0/c/",
    b"/0/s/",
    b"/0/i/",
    b"/0/m/rhb/",
    b"/evm/execmeta/",
    b"/0/headerSync/",
    b"/0/dataSync/",
];

/// The key of the signed header at `height`.
pub fn header(height: u64) -> Vec<u8> {
    format!("/0/h/{height}").into_bytes()
}

/// Does the key belong to a block, so that tip and pruning marks say whether it should be there?
pub fn is_block_family(key: &[u8]) -> bool {
    BLOCK_FAMILIES.iter().any(|prefix| key.starts_with(prefix))
}

/// A height as ev-node stores it; `None` when the value is not 8 bytes.
pub fn height(value: &[u8]) -> Option<u64> {
    <[u8; 8]>::try_from(value).ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_families_are_told_from_the_rest() {
        for key in [&header(7)[..], b"/0/i/AB", b"/0/m/rhb/7/h", b"/evm/execmeta/\0\0\0\0\0\0\0\x01"] {
            assert!(is_block_family(key));
        }
        for key in [TIP, PRUNED_BLOCKS, b"/batches/8000000000000000", b"/0/m/d", b"/single/checkpoint"] {
            assert!(!is_block_family(key));
        }
    }

    #[test]
    fn a_height_has_eight_bytes() {
        assert_eq!(height(&[1, 0, 0, 0, 0, 0, 0, 0]), Some(1));
        assert_eq!(height(&[1]), None);
    }
}
