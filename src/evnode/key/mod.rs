//! The keys of ev-node's main store, `/0/…`, and of the components beside it.
//!
//! Heights are decimal without padding, so `/0/h/10` sorts before `/0/h/2`. Source: `pkg/store/keys.go` and `kv.go` of ev-node
//! v1.2.3; what only older releases wrote is marked with the last one that did.
//!
//! | key                                         | value                                                              |
//! |---------------------------------------------|--------------------------------------------------------------------|
//! | `/0/t`                                      | the tip, 8 bytes little-endian ("LE64")                            |
//! | `/0/h/<n>` `/0/d/<n>` `/0/c/<n>` `/0/s/<n>` | `SignedHeader`, `Data`, signature, `State` after block n           |
//! | `/0/s`                                      | `State`, the newest only (beta.2)                                  |
//! | `/0/i/<64 HEX>`                             | LE64: the height of a block                                        |
//! | `/0/m/…`                                    | metadata, see [`Mark`] and [`Key`]                                 |
//! | `/0/headerSync/…` `/0/dataSync/…`           | the stores of go-header (rc.1)                                     |
//! | `/batches/<16 or 64 hex>`                   | `Batch`: an entry of the sequencer's queue                         |
//! | `/single/checkpoint` `/based/checkpoint`    | `SequencerDACheckpoint`                                            |
//! | `/evm/execmeta/<height>`                    | `ExecMeta`; the height stands in the value, see [`Key::ExecMeta`]  |
//! | `/evm/last-pruned-execmeta-height`          | 8 bytes big-endian                                                 |
//! | `/libp2p/net/conngater/…`                   | P2P's block list                                                   |
//!
//! Any bytes are a key: what is in no row is [`Key::Unknown`]. A name that ev-node would not write, such as a padded height, is unknown
//! as well, so that every key is printed as it was read.

mod block;
mod family;
mod text;

#[cfg(test)]
mod tests;

pub use block::{BLOCK_FAMILIES, block_keys, da_keys, header, is_block_family, mark, state};
pub use family::Family;

/// The tip: the height of the newest block, 8 bytes little-endian.
pub const TIP: &[u8] = b"/0/t";
/// Blocks up to this height (8 bytes, little-endian) have been pruned.
pub const PRUNED_BLOCKS: &[u8] = b"/0/m/lst-prnd-b";
/// States up to this height (8 bytes, little-endian) have been pruned.
pub const PRUNED_STATES: &[u8] = b"/0/m/lst-prnd-s";
/// Execution records up to this height (8 bytes, big-endian) have been pruned.
pub const PRUNED_EXEC_META: &[u8] = b"/evm/last-pruned-execmeta-height";
/// The prefix of signed headers.
pub const HEADERS: &[u8] = b"/0/h/";
/// The prefix of the index by hash.
pub const INDEX: &[u8] = b"/0/i/";

/// The newest header and the newest data of go-header's stores, which releases up to v1.0.0-rc.1 kept.
pub const GO_HEADER_HEADS: [&[u8]; 2] = [b"/0/headerSync/head", b"/0/dataSync/head"];

/// A height as ev-node stores it; `None` when the value is not 8 bytes.
pub fn height(value: &[u8]) -> Option<u64> {
    <[u8; 8]>::try_from(value).ok().map(u64::from_le_bytes)
}

/// The header or the data of a block: some things are kept for each.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// Of the header.
    Header,
    /// Of the data.
    Data,
}

/// One number in the metadata, 8 bytes little-endian.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Mark {
    /// `d`: the DA-included height, the finality mark.
    DaIncluded,
    /// `gdh`: the DA height of the first included block.
    GenesisDa,
    /// `last-submitted-header-height`.
    SubmittedHeader,
    /// `last-submitted-data-height`.
    SubmittedData,
    /// `lst-prnd-b`: blocks are pruned up to here.
    PrunedBlocks,
    /// `lst-prnd-s`: states are pruned up to here.
    PrunedStates,
}

impl Mark {
    /// Every mark.
    pub const ALL: [Mark; 6] = [
        Mark::DaIncluded,
        Mark::GenesisDa,
        Mark::SubmittedHeader,
        Mark::SubmittedData,
        Mark::PrunedBlocks,
        Mark::PrunedStates,
    ];

    /// Its name below `/0/m/`.
    pub fn name(self) -> &'static str {
        match self {
            Mark::DaIncluded => "d",
            Mark::GenesisDa => "gdh",
            Mark::SubmittedHeader => "last-submitted-header-height",
            Mark::SubmittedData => "last-submitted-data-height",
            Mark::PrunedBlocks => "lst-prnd-b",
            Mark::PrunedStates => "lst-prnd-s",
        }
    }
}

/// One key, taken apart. Printing it gives the bytes back.
///
/// ```
/// use evbackup::evnode::key::{Family, Key};
///
/// assert_eq!(Key::parse(b"/0/h/42"), Key::Header(42));
/// assert_eq!(Key::parse(b"/0/h/042"), Key::Unknown(b"/0/h/042"));
/// assert_eq!(Key::Header(42).to_string(), "/0/h/42");
/// assert_eq!(Key::parse(b"/0/m/rhb/7/d").family(), Family::DaHeights);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Key<'a> {
    /// `/0/t`
    Tip,
    /// `/0/h/<n>`
    Header(u64),
    /// `/0/d/<n>`
    Data(u64),
    /// `/0/c/<n>`
    Signature(u64),
    /// `/0/s/<n>`
    State(u64),
    /// `/0/s`: of releases up to v1.0.0-beta.2.
    NewestState,
    /// `/0/i/<HASH>`
    Index([u8; 32]),
    /// `/0/m/…`: one number.
    Mark(Mark),
    /// `/0/m/rhb/<n>/h` and `/d`: at which DA height the block was included.
    DaHeight(u64, Part),
    /// `/0/m/pending_header` and `pending_data`: the block in production.
    Pending(Part),
    /// `/0/m/l`: the sequencer's last batch (v1.0.0-beta.2).
    LastBatch,
    /// `/0/m/cache/header-da-included/__snap`, and of data.
    CacheSnapshot(Part),
    /// `/0/m/cache/header-da-included/<hash>`, and of data (v1.0.0-rc.4). The name is text of ev-node's making.
    CacheEntry(Part, &'a [u8]),
    /// Any other metadata, with its name.
    OtherMetadata(&'a [u8]),
    /// `/0/headerSync/…` and `/0/dataSync/…`, with what follows the slash.
    Sync(Part, SyncKey<'a>),
    /// `/batches/<16 hex>`: the queue's entry with this number.
    Queued(u64),
    /// `/batches/<64 hex>`: an entry by the hash of its batch (v1.0.0-beta.11).
    QueuedByHash([u8; 32]),
    /// `/batches/…` with a name that no release wrote.
    OtherQueued(&'a [u8]),
    /// `/single/checkpoint`
    SingleCheckpoint,
    /// `/based/checkpoint`
    BasedCheckpoint,
    /// `/evm/execmeta/<8 bytes, big-endian>`, mangled: the bytes pass through Go's `path.Clean`, which drops a last 0x2f and makes one of
    /// several (`.` and `..` are treated alike). So 47 and 12079 have 7 and 6 bytes: the height must be taken from the value.
    ExecMeta(&'a [u8]),
    /// `/evm/last-pruned-execmeta-height`
    PrunedExecMeta,
    /// `/libp2p/net/conngater/…`, with what follows.
    ConnectionGater(&'a [u8]),
    /// Of a release before v1.0: `/0/b/…`, `/0/r/…`, `/0/ec/…`, `/1/…`.
    PreRelease(&'a [u8]),
    /// Anything else.
    Unknown(&'a [u8]),
}

/// A key of a go-header store.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SyncKey<'a> {
    /// `/<n>`: the hash of the block.
    Height(u64),
    /// `/<HASH>`: the header or the data.
    Hash([u8; 32]),
    /// `/head`: the newest one's hash as a JSON string.
    Head,
    /// `/tail`: the oldest one's.
    Tail,
    /// Anything else.
    Other(&'a [u8]),
}
