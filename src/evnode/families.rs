//! The keys that ev-node has for each height: which they are, and which it takes away together.
//!
//! | key                          | taken away by                                                                 |
//! |------------------------------|-------------------------------------------------------------------------------|
//! | `/0/h/<n>`, `/0/d/<n>`, `/0/c/<n>` | pruning of blocks, rollback                                             |
//! | `/0/i/<HASH>`                | the same; HASH is the SHA-256 of the value of `/0/h/<n>`, upper-case hex       |
//! | `/0/m/rhb/<n>/h`, `/0/m/rhb/<n>/d` | pruning of blocks                                                       |
//! | `/0/s/<n>`                   | pruning of states, rollback                                                   |
//! | `/evm/execmeta/<8 bytes>`    | pruning of execution records, with either of the two                          |
//!
//! Source: `PruneBlocks` and `Rollback` in `pkg/store/store.go`, `block/internal/pruner/pruner.go` and `execution/evm/store.go` of
//! ev-node v1.2.3. Any bytes give a height or none.

/// States up to this height (8 bytes, little-endian) have been pruned.
pub const PRUNED_STATES: &[u8] = b"/0/m/lst-prnd-s";
/// Execution records up to this height (8 bytes, big-endian) have been pruned.
pub const PRUNED_EXECMETA: &[u8] = b"/evm/last-pruned-execmeta-height";
/// The prefix of signed headers.
pub const HEADERS: &[u8] = b"/0/h/";
/// The prefix of the index by hash.
pub const INDEX: &[u8] = b"/0/i/";

const DA_HEIGHTS: &[u8] = b"/0/m/rhb/";
const EXECMETA: &[u8] = b"/evm/execmeta/";

/// The keys of a height that go with its block.
pub fn block_keys(height: u64) -> [Vec<u8>; 3] {
    ["c", "d", "h"].map(|family| format!("/0/{family}/{height}").into_bytes())
}

/// Where the DA heights of a block are.
pub fn da_keys(height: u64) -> [Vec<u8>; 2] {
    ["d", "h"].map(|kind| format!("/0/m/rhb/{height}/{kind}").into_bytes())
}

/// The key of the state after a height.
pub fn state_key(height: u64) -> Vec<u8> {
    format!("/0/s/{height}").into_bytes()
}

/// The key of the execution record of a height. Its raw bytes pass through Go's `path.Clean`, which takes some of them away.
pub fn execmeta_key(height: u64) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = vec![b"evm", b"execmeta"];
    let raw = height.to_be_bytes();
    for part in raw.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    kept.iter().flat_map(|part| b"/".iter().chain(*part)).copied().collect()
}

/// The index entry of the block with this header, whose SHA-256 is given in lower-case hex.
pub fn index_key(header_sha256: &str) -> Vec<u8> {
    [INDEX, header_sha256.to_ascii_uppercase().as_bytes()].concat()
}

/// The height that a key of [`block_keys`], [`da_keys`], [`state_key`] or [`execmeta_key`] belongs to; `None` for other keys and for
/// execution records whose height cannot be read from the key.
pub fn height_of(key: &[u8]) -> Option<u64> {
    if let Some(rest) = key.strip_prefix(DA_HEIGHTS) {
        return decimal(rest.split(|byte| *byte == b'/').next().unwrap_or_default());
    }
    let execmeta = || key.strip_prefix(EXECMETA)?.try_into().ok().map(u64::from_be_bytes);
    block_height(key).or_else(execmeta)
}

/// The height of a header, data, signature or state.
pub fn block_height(key: &[u8]) -> Option<u64> {
    let rest = key.strip_prefix(b"/0/")?;
    [&b"h/"[..], b"d/", b"c/", b"s/"].iter().find_map(|family| rest.strip_prefix(*family)).and_then(decimal)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Is it an execution record?
pub fn is_execmeta(key: &[u8]) -> bool {
    key.starts_with(EXECMETA)
}

/// What a pruning mark says: the height of `value`; big-endian for execution records.
pub fn mark(key: &[u8], value: &[u8]) -> Option<u64> {
    let bytes = <[u8; 8]>::try_from(value).ok()?;
    Some(if key == PRUNED_EXECMETA { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evnode::key::is_block_family;

    #[test]
    fn execution_records_have_the_keys_that_go_makes_of_them() {
        let of = |height| execmeta_key(height).strip_prefix(EXECMETA).map(<[u8]>::to_vec);
        assert_eq!(of(1), Some(vec![0, 0, 0, 0, 0, 0, 0, 1]));
        assert_eq!(of(47), Some(vec![0; 7]));
        assert_eq!(of(303), Some(vec![0, 0, 0, 0, 0, 0, 1]));
        assert_eq!(of(12_079), Some(vec![0; 6]));
        assert_eq!(of(0x2f00), Some(vec![0, 0, 0, 0, 0, 0, b'/', 0]));
        // "/." and "/.." at the end.
        assert_eq!(of(0x2f2e), Some(vec![0; 6]));
        assert_eq!(execmeta_key(0x002f_2e2e), b"/evm/execmeta");
    }

    #[test]
    fn a_key_of_a_height_says_which() {
        for height in [0, 1, 9, 10, u64::MAX] {
            let keys = block_keys(height).into_iter().chain(da_keys(height)).chain([state_key(height)]);
            for key in keys {
                assert_eq!(height_of(&key), Some(height), "{}", key.escape_ascii());
                assert!(is_block_family(&key));
            }
        }
        assert_eq!(height_of(&execmeta_key(7)), Some(7));
        assert!(height_of(&execmeta_key(47)).is_none() && is_execmeta(&execmeta_key(47)));
        for key in [&b"/0/h/"[..], b"/0/h/x", b"/0/h/99999999999999999999", b"/0/t", b"/0/i/AB", b"\xff"] {
            assert_eq!(height_of(key), None);
        }
    }

    #[test]
    fn marks_have_their_own_order_of_bytes() {
        assert_eq!(mark(PRUNED_STATES, &7_u64.to_le_bytes()), Some(7));
        assert_eq!(mark(PRUNED_EXECMETA, &7_u64.to_be_bytes()), Some(7));
        assert_eq!(mark(PRUNED_STATES, b"7"), None);
        assert_eq!(index_key("0aff"), b"/0/i/0AFF");
    }
}
