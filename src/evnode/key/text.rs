//! Keys as bytes: taken apart and put together.

use super::{Family, HEADERS, INDEX, Key, Mark, PRUNED_EXEC_META, Part, SyncKey, TIP};
use crate::evnode::path::clean;
use std::fmt;

const DATA: &[u8] = b"/0/d/";
const SIGNATURE: &[u8] = b"/0/c/";
const STATE: &[u8] = b"/0/s/";
const NEWEST_STATE: &[u8] = b"/0/s";
const METADATA: &[u8] = b"/0/m/";
const HEADER_SYNC: &[u8] = b"/0/headerSync/";
const DATA_SYNC: &[u8] = b"/0/dataSync/";
const QUEUE: &[u8] = b"/batches/";
const SINGLE_CHECKPOINT: &[u8] = b"/single/checkpoint";
const BASED_CHECKPOINT: &[u8] = b"/based/checkpoint";
pub(super) const EXEC_META: &[u8] = b"/evm/execmeta/";
/// What is left where nothing of the height is.
pub(super) const EXEC_META_BARE: &[u8] = b"/evm/execmeta";
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
            Key::Header(height) => decimal(HEADERS, *height),
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

    /// Is it ev-node's own, of whatever release? A database without such keys holds no chain. `/1/…` alone proves nothing: others may use it.
    pub fn is_ev_nodes(&self) -> bool {
        match self {
            Key::PreRelease(key) => key.starts_with(b"/0/"),
            key => key.family().is_main_store(),
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
