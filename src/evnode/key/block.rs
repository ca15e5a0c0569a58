//! The keys that ev-node has for each height: which they are, and which it takes away together.
//!
//! | key                          | taken away by                                                                 |
//! |------------------------------|-------------------------------------------------------------------------------|
//! | `/0/h/<n>`, `/0/d/<n>`, `/0/c/<n>` | pruning of blocks, rollback                                             |
//! | `/0/i/<HASH>`                | the same; HASH is the SHA-256 of the value of `/0/h/<n>`                       |
//! | `/0/m/rhb/<n>/h`, `/0/m/rhb/<n>/d` | pruning of blocks                                                       |
//! | `/0/s/<n>`                   | pruning of states, rollback                                                   |
//! | `/evm/execmeta/<8 bytes>`    | pruning of execution records, with either of the two                          |
//!
//! Source: `PruneBlocks` and `Rollback` in `pkg/store/store.go`, `block/internal/pruner/pruner.go` and `execution/evm/store.go` of
//! ev-node v1.2.3.

use super::{Key, PRUNED_EXEC_META, Part};

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

/// Does the key belong to a block, so that tip and pruning marks say whether it should be there?
pub fn is_block_family(key: &[u8]) -> bool {
    BLOCK_FAMILIES.iter().any(|prefix| key.starts_with(prefix))
}

/// The key of the signed header at `height`.
pub fn header(height: u64) -> Vec<u8> {
    Key::Header(height).to_bytes()
}

/// The key of the state after `height`.
pub fn state(height: u64) -> Vec<u8> {
    Key::State(height).to_bytes()
}

/// The keys of a height that go with its block; its index entry, which only the header can name, aside.
pub fn block_keys(height: u64) -> [Vec<u8>; 3] {
    [Key::Signature(height), Key::Data(height), Key::Header(height)].map(|key| key.to_bytes())
}

/// Where the DA heights of a block are.
pub fn da_keys(height: u64) -> [Vec<u8>; 2] {
    [Key::DaHeight(height, Part::Data), Key::DaHeight(height, Part::Header)].map(|key| key.to_bytes())
}

/// What a mark says: the height of `value`; big-endian for execution records.
pub fn mark(key: &[u8], value: &[u8]) -> Option<u64> {
    let bytes = <[u8; 8]>::try_from(value).ok()?;
    Some(if key == PRUNED_EXEC_META { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
}

impl Key<'_> {
    /// The height of a header, data, signature or state.
    pub fn block_height(&self) -> Option<u64> {
        match self {
            Key::Header(height) | Key::Data(height) | Key::Signature(height) | Key::State(height) => {
                Some(*height)
            }
            _ => None,
        }
    }

    /// The height that [`block_keys`], [`da_keys`], [`state`] or [`Key::exec_meta`] made it from; `None` for other keys and for
    /// execution records whose height cannot be read from the key.
    pub fn made_from(&self) -> Option<u64> {
        match self {
            Key::DaHeight(height, _) => Some(*height),
            Key::ExecMeta(height) => (*height).try_into().ok().map(u64::from_be_bytes),
            key => key.block_height(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evnode::key::{PRUNED_BLOCKS, PRUNED_STATES, TIP};

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
    fn a_key_of_a_height_says_which() {
        for height in [0, 1, 9, 10, u64::MAX] {
            let keys = block_keys(height).into_iter().chain(da_keys(height)).chain([state(height)]);
            for key in keys {
                assert_eq!(Key::parse(&key).made_from(), Some(height), "{}", key.escape_ascii());
                assert!(is_block_family(&key));
            }
            assert_eq!(Key::State(height).block_height(), Some(height));
        }
        assert_eq!(Key::parse(&Key::exec_meta(7)).made_from(), Some(7));
        let mangled = Key::exec_meta(47);
        assert!(
            matches!(Key::parse(&mangled), Key::ExecMeta(_)) && Key::parse(&mangled).made_from().is_none()
        );
        for key in [&b"/0/h/"[..], b"/0/h/x", b"/0/h/99999999999999999999", b"/0/t", b"/0/i/AB", b"\xff"] {
            assert_eq!(Key::parse(key).made_from(), None);
        }
    }

    #[test]
    fn marks_have_their_own_order_of_bytes() {
        assert_eq!(mark(PRUNED_STATES, &7_u64.to_le_bytes()), Some(7));
        assert_eq!(mark(PRUNED_EXEC_META, &7_u64.to_be_bytes()), Some(7));
        assert_eq!(mark(PRUNED_STATES, b"7"), None);
    }
}
