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

pub use super::family::Family;
use super::path::clean;
use std::fmt;

/// The tip: the height of the newest block, 8 bytes little-endian.
pub const TIP: &[u8] = b"/0/t";
/// Blocks up to this height (8 bytes, little-endian) have been pruned.
pub const PRUNED_BLOCKS: &[u8] = b"/0/m/lst-prnd-b";

/// The newest header and the newest data of go-header's stores, which releases up to v1.0.0-rc.1 kept.
pub const GO_HEADER_HEADS: [&[u8]; 2] = [b"/0/headerSync/head", b"/0/dataSync/head"];

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
    Key::Header(height).to_bytes()
}

/// Does the key belong to a block, so that tip and pruning marks say whether it should be there?
pub fn is_block_family(key: &[u8]) -> bool {
    BLOCK_FAMILIES.iter().any(|prefix| key.starts_with(prefix))
}

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

const HEADER: &[u8] = b"/0/h/";
const DATA: &[u8] = b"/0/d/";
const SIGNATURE: &[u8] = b"/0/c/";
const STATE: &[u8] = b"/0/s/";
const NEWEST_STATE: &[u8] = b"/0/s";
const INDEX: &[u8] = b"/0/i/";
const METADATA: &[u8] = b"/0/m/";
const HEADER_SYNC: &[u8] = b"/0/headerSync/";
const DATA_SYNC: &[u8] = b"/0/dataSync/";
const QUEUE: &[u8] = b"/batches/";
const SINGLE_CHECKPOINT: &[u8] = b"/single/checkpoint";
const BASED_CHECKPOINT: &[u8] = b"/based/checkpoint";
const EXEC_META: &[u8] = b"/evm/execmeta/";
/// What is left where nothing of the height is.
const EXEC_META_BARE: &[u8] = b"/evm/execmeta";
const PRUNED_EXEC_META: &[u8] = b"/evm/last-pruned-execmeta-height";
const CONNECTION_GATER: &[u8] = b"/libp2p/net/conngater/";
const PRE_RELEASE: [&[u8]; 4] = [b"/0/b/", b"/0/r/", b"/0/ec/", b"/1/"];
const RHB: &[u8] = b"rhb/";
const HEADER_CACHE: &[u8] = b"cache/header-da-included/";
const DATA_CACHE: &[u8] = b"cache/data-da-included/";
const SNAPSHOT: &[u8] = b"__snap";

impl<'a> Key<'a> {
    /// Takes a key apart; there is no wrong one.
    pub fn parse(key: &'a [u8]) -> Self {
        let main = key.strip_prefix(b"/0/").and_then(Self::main);
        main.or_else(|| Self::beside(key)).unwrap_or_else(|| {
            let old = PRE_RELEASE.iter().any(|prefix| key.starts_with(prefix));
            if old { Key::PreRelease(key) } else { Key::Unknown(key) }
        })
    }

    /// Of the main store, after `/0/`.
    fn main(name: &'a [u8]) -> Option<Self> {
        match name {
            b"t" => Some(Key::Tip),
            b"s" => Some(Key::NewestState),
            [b'h', b'/', digits @ ..] => number(digits).map(Key::Header),
            [b'd', b'/', digits @ ..] => number(digits).map(Key::Data),
            [b'c', b'/', digits @ ..] => number(digits).map(Key::Signature),
            [b's', b'/', digits @ ..] => number(digits).map(Key::State),
            [b'i', b'/', digits @ ..] => hash(digits, Case::Upper).map(Key::Index),
            [b'm', b'/', name @ ..] => Some(Self::metadata(name)),
            _ => {
                let header = name.strip_prefix(b"headerSync/").map(|name| (Part::Header, name));
                let both = header.or_else(|| name.strip_prefix(b"dataSync/").map(|name| (Part::Data, name)));
                both.map(|(part, name)| Key::Sync(part, SyncKey::parse(name)))
            }
        }
    }

    fn metadata(name: &'a [u8]) -> Self {
        if let Some(da) = name.strip_prefix(RHB) {
            let split = da.iter().position(|byte| *byte == b'/').and_then(|at| da.split_at_checked(at));
            if let Some((digits, part)) = split
                && let Some(height) = number(digits)
            {
                match part {
                    b"/h" => return Key::DaHeight(height, Part::Header),
                    b"/d" => return Key::DaHeight(height, Part::Data),
                    _ => {}
                }
            }
            return Key::OtherMetadata(name);
        }
        for (part, prefix) in [(Part::Header, HEADER_CACHE), (Part::Data, DATA_CACHE)] {
            match name.strip_prefix(prefix) {
                Some(SNAPSHOT) => return Key::CacheSnapshot(part),
                Some(hash) => return Key::CacheEntry(part, hash),
                None => {}
            }
        }
        match name {
            b"pending_header" => Key::Pending(Part::Header),
            b"pending_data" => Key::Pending(Part::Data),
            b"l" => Key::LastBatch,
            _ => Mark::ALL
                .into_iter()
                .find(|mark| mark.name().as_bytes() == name)
                .map_or(Key::OtherMetadata(name), Key::Mark),
        }
    }

    /// Of the other components.
    fn beside(key: &'a [u8]) -> Option<Self> {
        match key {
            SINGLE_CHECKPOINT => return Some(Key::SingleCheckpoint),
            BASED_CHECKPOINT => return Some(Key::BasedCheckpoint),
            PRUNED_EXEC_META => return Some(Key::PrunedExecMeta),
            EXEC_META_BARE => return Some(Key::ExecMeta(b"")),
            _ => {}
        }
        if let Some(name) = key.strip_prefix(QUEUE) {
            let sequence = hex16(name).map(Key::Queued);
            let by_hash = || hash(name, Case::Lower).map(Key::QueuedByHash);
            return Some(sequence.or_else(by_hash).unwrap_or(Key::OtherQueued(name)));
        }
        if let Some(height) = key.strip_prefix(EXEC_META) {
            return (!height.is_empty() && height.len() <= 8).then_some(Key::ExecMeta(height));
        }
        key.strip_prefix(CONNECTION_GATER).map(Key::ConnectionGater)
    }

    /// The key's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Key::Tip => TIP.to_vec(),
            Key::Header(height) => decimal(HEADER, *height),
            Key::Data(height) => decimal(DATA, *height),
            Key::Signature(height) => decimal(SIGNATURE, *height),
            Key::State(height) => decimal(STATE, *height),
            Key::NewestState => NEWEST_STATE.to_vec(),
            Key::Index(hash) => join(INDEX, data_encoding::HEXUPPER.encode(hash).as_bytes()),
            Key::Mark(mark) => join(METADATA, mark.name().as_bytes()),
            Key::DaHeight(height, part) => {
                let name = if *part == Part::Header { "h" } else { "d" };
                join(METADATA, format!("rhb/{height}/{name}").as_bytes())
            }
            Key::Pending(Part::Header) => join(METADATA, b"pending_header"),
            Key::Pending(Part::Data) => join(METADATA, b"pending_data"),
            Key::LastBatch => join(METADATA, b"l"),
            Key::CacheSnapshot(part) => join(METADATA, &join(cache(*part), SNAPSHOT)),
            Key::CacheEntry(part, name) => join(METADATA, &join(cache(*part), name)),
            Key::OtherMetadata(name) => join(METADATA, name),
            Key::Sync(Part::Header, name) => join(HEADER_SYNC, &name.to_bytes()),
            Key::Sync(Part::Data, name) => join(DATA_SYNC, &name.to_bytes()),
            Key::Queued(sequence) => join(QUEUE, format!("{sequence:016x}").as_bytes()),
            Key::QueuedByHash(hash) => join(QUEUE, data_encoding::HEXLOWER.encode(hash).as_bytes()),
            Key::OtherQueued(name) => join(QUEUE, name),
            Key::SingleCheckpoint => SINGLE_CHECKPOINT.to_vec(),
            Key::BasedCheckpoint => BASED_CHECKPOINT.to_vec(),
            Key::ExecMeta(b"") => EXEC_META_BARE.to_vec(),
            Key::ExecMeta(height) => join(EXEC_META, height),
            Key::PrunedExecMeta => PRUNED_EXEC_META.to_vec(),
            Key::ConnectionGater(rest) => join(CONNECTION_GATER, rest),
            Key::PreRelease(key) | Key::Unknown(key) => key.to_vec(),
        }
    }

    /// What it is counted under.
    pub fn family(&self) -> Family {
        match self {
            Key::Tip => Family::Tip,
            Key::Header(_) => Family::Headers,
            Key::Data(_) => Family::Data,
            Key::Signature(_) => Family::Signatures,
            Key::State(_) | Key::NewestState => Family::States,
            Key::Index(_) => Family::Index,
            Key::DaHeight(..) => Family::DaHeights,
            Key::CacheSnapshot(_) | Key::CacheEntry(..) => Family::Cache,
            Key::Mark(_) | Key::Pending(_) | Key::LastBatch | Key::OtherMetadata(_) => Family::Metadata,
            Key::Sync(..) => Family::GoHeader,
            Key::Queued(_) | Key::QueuedByHash(_) | Key::OtherQueued(_) => Family::Queue,
            Key::SingleCheckpoint | Key::BasedCheckpoint => Family::Checkpoints,
            Key::ExecMeta(_) | Key::PrunedExecMeta => Family::ExecMeta,
            Key::ConnectionGater(_) => Family::Network,
            Key::PreRelease(_) => Family::PreRelease,
            Key::Unknown(_) => Family::Unknown,
        }
    }

    /// The height in the key, where there is one. Not that of [`Key::ExecMeta`], whose key does not say.
    pub fn height(&self) -> Option<u64> {
        match self {
            Key::Header(height)
            | Key::Data(height)
            | Key::Signature(height)
            | Key::State(height)
            | Key::DaHeight(height, _)
            | Key::Sync(_, SyncKey::Height(height)) => Some(*height),
            _ => None,
        }
    }

    /// The key of the EVM's execution record at `height`, mangled as Go's `path.Clean` does.
    pub fn exec_meta(height: u64) -> Vec<u8> {
        clean(&join(EXEC_META, &height.to_be_bytes()))
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_bytes().escape_ascii())
    }
}

impl<'a> SyncKey<'a> {
    fn parse(name: &'a [u8]) -> Self {
        match name {
            b"head" => SyncKey::Head,
            b"tail" => SyncKey::Tail,
            _ => number(name)
                .map(SyncKey::Height)
                .or_else(|| hash(name, Case::Upper).map(SyncKey::Hash))
                .unwrap_or(SyncKey::Other(name)),
        }
    }

    fn to_bytes(self) -> Vec<u8> {
        match self {
            SyncKey::Height(height) => height.to_string().into_bytes(),
            SyncKey::Hash(hash) => data_encoding::HEXUPPER.encode(&hash).into_bytes(),
            SyncKey::Head => b"head".to_vec(),
            SyncKey::Tail => b"tail".to_vec(),
            SyncKey::Other(name) => name.to_vec(),
        }
    }
}

fn cache(part: Part) -> &'static [u8] {
    match part {
        Part::Header => HEADER_CACHE,
        Part::Data => DATA_CACHE,
    }
}

fn join(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [prefix, rest].concat()
}

fn decimal(prefix: &[u8], height: u64) -> Vec<u8> {
    join(prefix, height.to_string().as_bytes())
}

/// A number as Go's `strconv` writes it: decimal, no sign, no padding.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 || (digits.len() > 1 && digits.first() == Some(&b'0')) {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Case {
    Upper,
    Lower,
}

fn hash(digits: &[u8], case: Case) -> Option<[u8; 32]> {
    let encoding = if case == Case::Upper { &data_encoding::HEXUPPER } else { &data_encoding::HEXLOWER };
    let mut hash = [0; 32];
    (digits.len() == 64).then_some(())?;
    encoding.decode_mut(digits, &mut hash).ok()?;
    Some(hash)
}

fn hex16(digits: &[u8]) -> Option<u64> {
    let mut number = [0; 8];
    (digits.len() == 16).then_some(())?;
    data_encoding::HEXLOWER.decode_mut(digits, &mut number).ok()?;
    Some(u64::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn every_key_of_the_table_is_told_and_printed_again() {
        let upper = "AD95EA6FE2E9B127770C6D5E1AC362F3F5405863F6F18DF9B1403C39A6156E4A";
        let lower = upper.to_lowercase();
        let mut hash = [0; 32];
        data_encoding::HEXUPPER.decode_mut(upper.as_bytes(), &mut hash).unwrap();
        let table = [
            ("/0/t", Key::Tip, "tip"),
            ("/0/h/0", Key::Header(0), "headers"),
            ("/0/h/18446744073709551615", Key::Header(u64::MAX), "headers"),
            ("/0/d/10", Key::Data(10), "data"),
            ("/0/c/9", Key::Signature(9), "signatures"),
            ("/0/s/100", Key::State(100), "states"),
            ("/0/s", Key::NewestState, "states"),
            (&format!("/0/i/{upper}"), Key::Index(hash), "index"),
            ("/0/m/d", Key::Mark(Mark::DaIncluded), "metadata"),
            ("/0/m/gdh", Key::Mark(Mark::GenesisDa), "metadata"),
            ("/0/m/last-submitted-header-height", Key::Mark(Mark::SubmittedHeader), "metadata"),
            ("/0/m/last-submitted-data-height", Key::Mark(Mark::SubmittedData), "metadata"),
            ("/0/m/lst-prnd-b", Key::Mark(Mark::PrunedBlocks), "metadata"),
            ("/0/m/lst-prnd-s", Key::Mark(Mark::PrunedStates), "metadata"),
            ("/0/m/l", Key::LastBatch, "metadata"),
            ("/0/m/rhb/12/h", Key::DaHeight(12, Part::Header), "da-heights"),
            ("/0/m/rhb/12/d", Key::DaHeight(12, Part::Data), "da-heights"),
            ("/0/m/pending_header", Key::Pending(Part::Header), "metadata"),
            ("/0/m/pending_data", Key::Pending(Part::Data), "metadata"),
            ("/0/m/cache/header-da-included/__snap", Key::CacheSnapshot(Part::Header), "cache"),
            ("/0/m/cache/data-da-included/__snap", Key::CacheSnapshot(Part::Data), "cache"),
            ("/0/m/cache/data-da-included/AB", Key::CacheEntry(Part::Data, b"AB"), "cache"),
            ("/0/m/mine", Key::OtherMetadata(b"mine"), "metadata"),
            ("/0/headerSync/7", Key::Sync(Part::Header, SyncKey::Height(7)), "go-header"),
            (&format!("/0/dataSync/{upper}"), Key::Sync(Part::Data, SyncKey::Hash(hash)), "go-header"),
            ("/0/headerSync/head", Key::Sync(Part::Header, SyncKey::Head), "go-header"),
            ("/0/dataSync/tail", Key::Sync(Part::Data, SyncKey::Tail), "go-header"),
            ("/batches/8000000000000000", Key::Queued(1 << 63), "queue"),
            (&format!("/batches/{lower}"), Key::QueuedByHash(hash), "queue"),
            ("/batches/x", Key::OtherQueued(b"x"), "queue"),
            ("/single/checkpoint", Key::SingleCheckpoint, "checkpoints"),
            ("/based/checkpoint", Key::BasedCheckpoint, "checkpoints"),
            ("/evm/last-pruned-execmeta-height", Key::PrunedExecMeta, "execmeta"),
            ("/libp2p/net/conngater/peer/x", Key::ConnectionGater(b"peer/x"), "network"),
            ("/0/ec/1", Key::PreRelease(b"/0/ec/1"), "pre-release"),
            ("/1/x", Key::PreRelease(b"/1/x"), "pre-release"),
        ];
        for (text, key, family) in table {
            assert_eq!(Key::parse(text.as_bytes()), key);
            assert_eq!((key.to_string().as_str(), key.family().name()), (text, family));
        }
    }

    #[test]
    fn what_ev_node_would_not_write_is_unknown_or_other() {
        for key in
            ["/0/h/", "/0/h/01", "/0/h/1x", "/0/h/18446744073709551616", "/0/h/+1", "/0/h", "/0/x", "", "/"]
        {
            assert_eq!(Key::parse(key.as_bytes()), Key::Unknown(key.as_bytes()), "{key}");
        }
        let lower = format!("/0/i/{}", "ab".repeat(32));
        assert_eq!(Key::parse(lower.as_bytes()).family(), Family::Unknown);
        for name in ["rhb/1", "rhb/1/x", "rhb/01/h", "rhb//h", "pending_header/x"] {
            assert_eq!(Key::parse(format!("/0/m/{name}").as_bytes()), Key::OtherMetadata(name.as_bytes()));
        }
    }

    #[test]
    fn execution_records_have_the_keys_that_path_clean_leaves() {
        let raw = |height: u64| Key::exec_meta(height).split_off(EXEC_META.len());
        assert_eq!(raw(1), 1u64.to_be_bytes());
        assert_eq!(raw(47), [0; 7]);
        assert_eq!(raw(303), [0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(raw(12079), [0; 6]);
        assert_eq!(Key::exec_meta(0x2f2f_2f2f_2f2f_2f2f), EXEC_META_BARE);
        assert_eq!(raw(0x2f2f_0000_0000_0001), [0, 0, 0, 0, 0, 1]);
        assert_eq!(raw(0x0000_2f2f_0000_0001), [0, 0, b'/', 0, 0, 0, 1]);
        // "." and ".." are elements, too: 12078 ends in "/.", 3092014 in "/..".
        assert_eq!(raw(0x2f2e), [0; 6]);
        assert_eq!(Key::exec_meta(0x2f_2e2e), EXEC_META_BARE);
        for height in [1, 47, 303, 12079, u64::MAX, 0x2f2f_2f2f_2f2f_2f2f] {
            let key = Key::exec_meta(height);
            assert!(matches!(Key::parse(&key), Key::ExecMeta(_)));
            assert_eq!(Key::parse(&key).to_bytes(), key);
        }
        assert_eq!(
            Key::parse(&Key::exec_meta(1)).to_string(),
            "/evm/execmeta/\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_printed_as_they_were_read(
            prefix in prop::sample::select(vec![
                "", "/0/", "/0/h/", "/0/s", "/0/i/", "/0/m/", "/0/m/rhb/", "/0/m/cache/data-da-included/", "/0/headerSync/",
                "/batches/", "/evm/execmeta", "/evm/execmeta/", "/libp2p/net/conngater/", "/1/",
            ]),
            rest in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'0'), Just(b'A'), any::<u8>()], 0..20),
        ) {
            let key = [prefix.as_bytes(), &rest].concat();
            prop_assert_eq!(Key::parse(&key).to_bytes(), key);
        }

        #[test]
        fn heights_come_back(height: u64) {
            for key in [Key::Header(height), Key::State(height), Key::DaHeight(height, Part::Data), Key::Queued(height)] {
                let bytes = key.to_bytes();
                prop_assert_eq!(Key::parse(&bytes), key);
            }
        }
    }
}
