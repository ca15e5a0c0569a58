//! What the messages mean: both layouts read, ours written.
//!
//! | final message         | layout | `since` | `last_version` |
//! |-----------------------|--------|---------|----------------|
//! | f5 = 1                | T      | f3      | f4             |
//! | no f5, f4 = 1         | F      | f2      | f3             |
//! | no f5, no f4          | not final |      |                |
//! | anything else         | damage |         |                |
//!
//! Any bytes give a message or an error; memory stays below [`MAX_MESSAGE`].

use crate::error::{Error, Result};
use crate::proto::any_layout::{AnyMetadata, AnyRequest, AnyResponse, any_response};
use bytes::Bytes;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// The longest message that is taken, before and after decompression. Chunks of the node are 128 KiB, ours at most 1 MiB; a
/// server that sends a whole Badger frame of about 100 MiB at once is still understood.
pub(crate) const MAX_MESSAGE: usize = 256 << 20;

/// The full path of the RPC.
pub(crate) const BACKUP: &str = "/evnode.v1.StoreService/Backup";

/// Which of the proposal's layouts a server speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Layout {
    /// The final one, with `since_version` alone.
    F,
    /// The first one, with a target height.
    T,
}

impl Layout {
    /// `"F"` or `"T"`, as the manifest has it.
    pub fn name(self) -> &'static str {
        match self {
            Layout::F => "F",
            Layout::T => "T",
        }
    }
}

/// What an increment is based on, for servers that can prove it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Base {
    /// The store whose versions `since` counts.
    pub store_id: Vec<u8>,
    /// A block that the base holds.
    pub height: u64,
    /// SHA-256 of the stored `/0/h/<height>`.
    pub hash: Vec<u8>,
    /// The base's last version.
    pub version: u64,
    /// The version of that `/0/h/<height>`; 0 when it is not known.
    pub block_version: u64,
}

/// A live key outside the block families.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listed {
    /// The key.
    pub key: Bytes,
    /// The version of its newest entry; 0 when the server does not say.
    pub version: u64,
}

/// What a server says before the first byte.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Announced {
    /// The node's tip, read before the snapshot.
    pub current_height: u64,
    /// Every entry is read at this version; without one (Badger's own RPC) the stream may be torn.
    pub pinned_version: Option<u64>,
    /// Which history of versions the datastore belongs to; empty when the server does not say.
    pub store_id: Vec<u8>,
    /// About how many bytes will come; 0 when unknown.
    pub estimated_bytes: u64,
    /// The tip inside the snapshot.
    pub tip_height: Option<u64>,
    /// How sure it is that deletes are in the stream: `exact`, `derived`, `unknown`; empty when the server does not say.
    pub deletes: String,
    /// What is left out where that is not what was asked: less, so that versions that were given out twice are not missed. Only a
    /// sender says so; a receiver learns it from [`Final::since`].
    pub since: Option<u64>,
    /// The datastore may give out a version twice, and lists its live keys for an increment.
    pub reuses_versions: bool,
}

/// What a server says after the last byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Final {
    /// In which layout it said so.
    pub layout: Layout,
    /// What the stream leaves out. This decides, not what was asked; it is never above that.
    pub since: u64,
    /// The highest version in the stream.
    pub last_version: u64,
    /// The node's tip, as announced.
    pub current_height: u64,
    /// See [`Announced::pinned_version`].
    pub pinned_version: Option<u64>,
    /// See [`Announced::store_id`].
    pub store_id: Vec<u8>,
    /// SHA-256 of all chunk bytes, for whoever writes them to compare; empty when the server does not say.
    pub sha256: Vec<u8>,
    /// See [`Announced::tip_height`].
    pub tip_height: Option<u64>,
    /// See [`Announced::deletes`].
    pub deletes: Option<String>,
    /// How many older versions are not in the stream because their values are damaged.
    pub left_out: u64,
}

/// One thing that a stream brings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The next bytes of the backup stream.
    Chunk(Bytes),
    /// Some of the live keys outside the block families.
    Listed(Vec<Listed>),
    /// All of it has come.
    End(Final),
}

/// A request in layout F, which a server of layout T takes for a target height.
pub(crate) fn ask_f(since: u64, base: Option<&Base>) -> AnyRequest {
    let request = AnyRequest { f1: since, ..AnyRequest::default() };
    match base {
        None => request,
        Some(base) => AnyRequest {
            base_store_id: base.store_id.clone(),
            base_height: base.height,
            base_hash: base.hash.clone(),
            base_version: base.version,
            base_block_version: base.block_version,
            ..request
        },
    }
}

/// The same request in layout T.
pub(crate) fn ask_t(request: AnyRequest) -> AnyRequest {
    AnyRequest { f1: 0, f2: request.f1, ..request }
}

/// What the first metadata message says.
pub(crate) fn announced(message: AnyMetadata) -> Announced {
    Announced {
        current_height: message.f1,
        pinned_version: message.pinned_version,
        store_id: message.store_id,
        estimated_bytes: message.estimated_bytes,
        tip_height: message.tip_height,
        deletes: message.deletes,
        since: None,
        reuses_versions: message.reuses_versions,
    }
}

/// The keys that a metadata message lists.
pub(crate) fn listed(message: &mut AnyMetadata) -> Result<Vec<Listed>> {
    let keys = std::mem::take(&mut message.listed);
    let versions = std::mem::take(&mut message.listed_versions);
    if !versions.is_empty() && versions.len() != keys.len() {
        let (keys, versions) = (keys.len(), versions.len());
        return Err(Error::damaged(format!("expected {keys} versions of listed keys, found {versions}")));
    }
    let versions = versions.into_iter().chain(std::iter::repeat(0));
    Ok(keys.into_iter().zip(versions).map(|(key, version)| Listed { key, version }).collect())
}

/// What a metadata message says if it is the final one.
pub(crate) fn final_of(message: &AnyMetadata) -> Result<Option<Final>> {
    let (layout, since, last_version) = match (message.f4, message.f5) {
        (0, 0) => return Ok(None),
        (last, 1) => (Layout::T, message.f3, last),
        (1, 0) => (Layout::F, message.f2, message.f3),
        (f4, f5) => {
            return Err(Error::damaged(format!(
                "expected a final message of layout F or T, found {f4} in field 4 and {f5} in field 5"
            )));
        }
    };
    Ok(Some(Final {
        layout,
        since,
        last_version,
        current_height: message.f1,
        pinned_version: message.pinned_version,
        store_id: message.store_id.clone(),
        sha256: message.sha256.clone(),
        tip_height: message.tip_height,
        deletes: (!message.deletes.is_empty()).then(|| message.deletes.clone()),
        left_out: message.left_out,
    }))
}

/// A message as it was read. Damage is a value, so that it cannot be mistaken for a status that the server sent.
#[derive(Debug)]
pub(crate) enum Read {
    Metadata(Box<AnyMetadata>),
    Chunk(Bytes),
    /// An empty chunk, or something that a later server may send besides: it says that the stream lives.
    Nothing,
    Damaged(String),
}

/// Sends [`AnyRequest`], yields [`Read`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AnyCodec;

impl Codec for AnyCodec {
    type Encode = AnyRequest;
    type Decode = Read;
    type Encoder = ProstEncoder<AnyRequest>;
    type Decoder = ReadDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        ReadDecoder
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadDecoder;

impl Decoder for ReadDecoder {
    type Item = Read;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Read>, Status> {
        Ok(Some(read(buf)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

fn read(buf: impl bytes::Buf) -> Read {
    match AnyResponse::decode(buf) {
        Ok(AnyResponse { response: Some(any_response::Response::Chunk(bytes)) }) if !bytes.is_empty() => {
            Read::Chunk(bytes)
        }
        Ok(AnyResponse { response: Some(any_response::Response::Metadata(message)) }) => {
            Read::Metadata(Box::new(message))
        }
        Ok(AnyResponse { response: _ }) => Read::Nothing,
        Err(error) => Read::Damaged(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(f: [u64; 5]) -> AnyMetadata {
        let [f1, f2, f3, f4, f5] = f;
        AnyMetadata { f1, f2, f3, f4, f5, ..AnyMetadata::default() }
    }

    #[test]
    fn the_final_message_tells_the_layouts_apart() {
        let f = final_of(&metadata([9, 3, 77, 1, 0])).unwrap().unwrap();
        assert_eq!((f.layout, f.since, f.last_version, f.current_height), (Layout::F, 3, 77, 9));
        let t = final_of(&metadata([9, 8, 3, 77, 1])).unwrap().unwrap();
        assert_eq!((t.layout, t.since, t.last_version, t.current_height), (Layout::T, 3, 77, 9));
        // An empty stream of layout T, and one whose last version is 1.
        assert_eq!(final_of(&metadata([9, 0, 0, 0, 1])).unwrap().unwrap().layout, Layout::T);
        assert_eq!(final_of(&metadata([9, 0, 0, 1, 1])).unwrap().unwrap().last_version, 1);
        assert_eq!(final_of(&metadata([9, 3, 4, 0, 0])).unwrap(), None);
        for f in [[9, 0, 0, 2, 0], [9, 0, 0, 0, 2], [9, 0, 0, 1, u64::MAX]] {
            assert_eq!(final_of(&metadata(f)).unwrap_err().code(), "damaged", "{f:?}");
        }
    }

    #[test]
    fn a_request_is_asked_in_either_layout() {
        let base = Base { store_id: vec![1], height: 2, hash: vec![3], version: 4, block_version: 5 };
        let f = ask_f(7, Some(&base));
        assert_eq!((f.f1, f.f2, f.base_height, f.base_version, f.base_block_version), (7, 0, 2, 4, 5));
        let t = ask_t(f);
        assert_eq!((t.f1, t.f2, t.base_hash), (0, 7, vec![3]));
        assert_eq!(ask_f(0, None).encode_to_vec(), b"");
    }

    #[test]
    fn listed_keys_have_versions_or_none_has() {
        let keys = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let of = |versions: &[u64]| {
            listed(&mut AnyMetadata {
                listed: keys.clone(),
                listed_versions: versions.to_vec(),
                ..AnyMetadata::default()
            })
        };
        let versions =
            |found: Result<Vec<Listed>>| found.unwrap().iter().map(|one| one.version).collect::<Vec<_>>();
        assert_eq!(versions(of(&[])), [0, 0]);
        assert_eq!(versions(of(&[7, 8])), [7, 8]);
        assert_eq!(of(&[7]).unwrap_err().code(), "damaged");
    }

    #[test]
    fn every_cut_and_flip_of_a_message_is_a_value() {
        let message =
            AnyMetadata { listed: vec![Bytes::from_static(b"/0/m/x")], ..metadata([1, 2, 3, 1, 0]) };
        let response = AnyResponse { response: Some(any_response::Response::Metadata(message)) };
        let bytes = response.encode_to_vec();
        for at in 0..bytes.len() {
            drop(read(&bytes[..at]));
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                drop(read(&bytes[..]));
            }
        }
    }

    #[test]
    fn hostile_messages_are_damage() {
        let nested = [0x0b_u8].repeat(10_000);
        for bytes in
            [&nested[..], &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], &[0xff; 11], &[0x10, 1]]
        {
            assert!(matches!(read(bytes), Read::Damaged(_)), "{bytes:x?}");
        }
        assert!(matches!(read(&[][..]), Read::Nothing));
        assert!(matches!(read(&[0x9a, 0x01, 0x01, 0x00][..]), Read::Nothing));
    }
}
