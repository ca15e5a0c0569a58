use super::Feature;
use super::mutate::varint;
use crate::golden::cases;
use crate::proof::{block_on, drain, record, take};
use bytes::Bytes;
use evbackup::backup::{Origin, Since};
use evbackup::base::checksum::{crc32c, sha256_hex};
use evbackup::base::progress::Progress;
use evbackup::entry::{OwnedEntry, Sink, Source};
use evbackup::error::{Kind, Result};
use evbackup::flow::{sample, serving};
use evbackup::format::{Input, Layout, Reader, Tally, Writer};
use evbackup::proto::evnode::BackupRequest;
use evbackup::repo::keys::{KeysReader, KeysWriter};
use evbackup::repo::manifest::Manifest;
use evbackup::repo::pair::manifest_path;
use evbackup::rpc::{Announced, Listed, Outlet};
use evbackup::store::Store;
use prost::Message;
use std::io::Read;
use std::sync::{Arc, LazyLock};

/// How many bits a number has: how features count.
fn size(count: usize) -> char {
    char::from(b'a' + u8::try_from(usize::BITS - count.leading_zeros()).unwrap())
}

/// An input that gives its bytes in small pieces of changing length, and can jump.
#[derive(Clone)]
struct Pieces {
    bytes: Arc<[u8]>,
    at: usize,
    length: usize,
}

impl Pieces {
    fn next(&mut self, most: usize) -> &[u8] {
        self.length = self.length % 13 + 1;
        let end = (self.at + self.length.min(most)).min(self.bytes.len());
        let start = self.at.min(end);
        self.at = end;
        &self.bytes[start..end]
    }
}

impl Input for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let piece = self.next(buffer.len());
        buffer[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }

    fn jump(&mut self, offset: u64) -> Result<()> {
        self.at = usize::try_from(offset).unwrap();
        Ok(())
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Input::read(self, buffer).map_err(std::io::Error::other)
    }
}

type Outcome = (Vec<(u32, OwnedEntry)>, Option<(Kind, String, Option<u64>)>);

fn read(input: impl Input) -> (Outcome, Tally) {
    let mut reader = Reader::with_tap(input, Tally::new());
    let mut entries = Vec::new();
    let error = loop {
        match reader.advance() {
            Ok(true) => entries.push((reader.stream_id(), reader.entry().to_owned())),
            Ok(false) => break None,
            Err(error) => break Some((error.kind(), error.to_string(), error.offset())),
        }
    };
    ((entries, error), reader.into_parts().1)
}

/// Any bytes as a stream: entries or an error at a byte that there is, however the bytes come; where the runs are known, reading by
/// them gives the same entries.
pub(super) fn stream(data: &[u8]) -> Feature {
    let ((entries, error), tally) = read(data);
    let pieces = Pieces { bytes: data.into(), at: 0, length: data.len() % 7 };
    let (again, split) = read(pieces.clone());
    assert_eq!((&entries, &error), (&again.0, &again.1));
    assert_eq!(
        (tally.entries(), tally.frames(), tally.bytes()),
        (split.entries(), split.frames(), split.bytes())
    );
    assert_eq!(tally.index(), split.index());
    assert_eq!(tally.entries(), entries.len() as u64);
    let held: usize = entries.iter().map(|(_, entry)| entry.key.len() + entry.value.len()).sum();
    assert!(held <= data.len(), "{held} bytes out of {}", data.len());
    if let Some((kind, text, offset)) = &error {
        assert!(matches!(kind, Kind::Damaged | Kind::Unsupported), "{text}");
        assert!(offset.is_some_and(|offset| offset <= data.len() as u64), "{text}");
    } else {
        assert_eq!(tally.bytes(), data.len() as u64);
        if let Some(layout) = tally.layout() {
            by_runs(&layout, &entries, &pieces);
        }
        written_again(&entries);
    }
    format!(
        "{}{}{}{}{:?}",
        size(entries.len()),
        size(usize::try_from(tally.frames()).unwrap()),
        tally.unsorted().is_some_and(|place| place.double),
        tally.layout().map_or(0, |layout| layout.runs.len().min(9)),
        error.map(|(_, text, _)| text)
    )
}

/// Each run read by its pieces is sorted, and all that was sent under its id.
fn by_runs(layout: &Layout, entries: &[(u32, OwnedEntry)], input: &Pieces) {
    for run in &layout.runs {
        let pieces = layout.pieces.iter().filter(|(id, _)| *id == run.id).map(|(_, piece)| *piece).collect();
        let found = drain(&mut Reader::pieces(input.clone(), pieces)).unwrap();
        let sent: Vec<_> =
            entries.iter().filter(|(id, _)| *id == run.id).map(|(_, entry)| entry.clone()).collect();
        assert_eq!(found, sent);
        assert!(found.is_sorted_by(|one, other| one.as_entry().order(&other.as_entry()).is_lt()));
    }
}

/// What was read can be written, and reads the same.
fn written_again(entries: &[(u32, OwnedEntry)]) {
    let mut stream = Vec::new();
    let mut writer = Box::new(Writer::new(1, |frame: &mut Vec<u8>| {
        stream.append(frame);
        Ok(())
    }));
    let kept = |entry: &OwnedEntry| OwnedEntry { meta: entry.meta & !0xc2, ..entry.clone() };
    for (_, entry) in entries {
        writer.put(entry.as_entry()).unwrap();
    }
    writer.finish().unwrap();
    let (again, _) = read(stream.as_slice());
    assert!(again.1.is_none(), "{:?}", again.1);
    assert!(again.0.iter().map(|(_, entry)| kept(entry)).eq(entries.iter().map(|(_, entry)| kept(entry))));
}

pub(super) fn stream_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (folder, paper) in cases() {
        for segment in paper["segments"].as_array().unwrap() {
            let bytes = std::fs::read(folder.join(segment["file"].as_str().unwrap())).unwrap();
            // The longer ones say nothing that the shorter ones do not.
            if bytes.len() < 2_000 {
                seeds.push(bytes);
            }
        }
    }
    let framed = |body: &[u8]| [&(body.len() as u64).to_le_bytes(), body].concat();
    seeds.extend([(1u64 << 63).to_le_bytes().to_vec(), framed(&[0x0a; 10]), framed(&[0xff; 12])]);
    // Nested groups, and fields that nobody knows.
    seeds.push(framed(&[[0x5b].repeat(200), [0x5c].repeat(200)].concat()));
    seeds.push(framed(
        &[&[0x52][..], &varint(3), b"abc", &[0x59, 1, 2, 3, 4, 5, 6, 7, 8, 0x5d, 1, 2, 3, 4]].concat(),
    ));
    seeds
}

/// Any bytes as a manifest, and the same with a seal that fits, so that what lies behind the digest is reached.
pub(super) fn manifest(data: &[u8]) -> Feature {
    let features = [one_manifest(data), sealed(data).map_or_else(String::new, |data| one_manifest(&data))];
    features.concat()
}

fn one_manifest(data: &[u8]) -> Feature {
    match Manifest::decode(data) {
        Ok(manifest) => {
            let again = Manifest::decode(&manifest.encode().unwrap()).unwrap();
            assert_eq!(again, manifest);
            assert!(manifest.started().is_ok());
            format!(
                "{:?}{:?}{}{}{:?}",
                manifest.kind,
                manifest.deletes,
                manifest.pinned,
                size(manifest.index.len()),
                manifest.keys.map(|keys| keys.all)
            )
        }
        Err(error) => {
            assert!(matches!(error.kind(), Kind::Damaged | Kind::Unsupported), "{error}");
            // Without what it quotes.
            error.to_string().split(", found").next().unwrap().chars().take(80).collect()
        }
    }
}

fn sealed(data: &[u8]) -> Option<Vec<u8>> {
    const SEAL: &[u8] = b"  \"manifest_sha256\": \"";
    let at = data.windows(SEAL.len()).rposition(|window| window == SEAL)?;
    let covered = &data[..at];
    Some([covered, SEAL, sha256_hex(covered).as_bytes(), b"\"\n}\n"].concat())
}

pub(super) fn manifest_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let bytes = std::fs::read(crate::golden::folder().join("purged/full.badger")).unwrap();
    record(&bytes, 12, &path("node"));
    sample::create(&path("store"), 3, sample::Shape::default()).unwrap();
    let store = Origin::datastore(path("store"));
    block_on(take(&store, &path("full"), Since::Version(0))).unwrap();
    block_on(take(&store, &path("inc"), Since::Segment(path("full")))).unwrap();
    ["node", "full", "inc"].map(|name| std::fs::read(manifest_path(&path(name))).unwrap()).into()
}

/// Any bytes as a keys file, and the same with a checksum that fits.
pub(super) fn keys(data: &[u8]) -> Feature {
    let mut fitting = data.to_vec();
    if let Some(at) = data.len().checked_sub(4) {
        let crc = crc32c(0, &data[..at]);
        fitting[at..].copy_from_slice(&crc.to_le_bytes());
    }
    [one_keys(data), one_keys(&fitting)].concat()
}

type Keys = (Vec<(Vec<u8>, u64, u64)>, Option<(Kind, String, Option<u64>)>);

fn read_keys(from: impl Read) -> Keys {
    let mut keys = Vec::new();
    let go = || -> Result<()> {
        let mut reader = KeysReader::new(from, "k")?;
        while reader.advance()? {
            keys.push((reader.key().to_vec(), reader.version(), reader.hash()));
        }
        Ok(())
    };
    let error = go().err().map(|error| (error.kind(), error.to_string(), error.offset()));
    (keys, error)
}

fn one_keys(data: &[u8]) -> Feature {
    let (keys, error) = read_keys(data);
    let split = read_keys(Pieces { bytes: data.into(), at: 0, length: data.len() % 5 });
    assert_eq!((&keys, &error), (&split.0, &split.1));
    assert!(keys.is_sorted_by(|one, other| one.0 < other.0));
    match &error {
        None => {
            let mut writer = KeysWriter::new(Vec::new(), "k");
            for (key, version, hash) in &keys {
                writer.put(key, *version, *hash).unwrap();
            }
            let again = read_keys(writer.finish(true).unwrap().0.as_slice());
            assert_eq!((again.0, again.1), (keys.clone(), None));
        }
        Some((kind, text, offset)) => {
            assert!(matches!(kind, Kind::Damaged | Kind::Unsupported), "{text}");
            assert!(offset.is_none_or(|offset| offset <= data.len() as u64), "{text}");
        }
    }
    format!("{}{:?}", size(keys.len()), error.map(|(_, text, _)| text))
}

pub(super) fn keys_seeds() -> Vec<Vec<u8>> {
    let written = |keys: &[(&[u8], u64, u64)]| {
        let mut writer = KeysWriter::new(Vec::new(), "k");
        for (key, version, hash) in keys {
            writer.put(key, *version, *hash).unwrap();
        }
        writer.finish(true).unwrap().0
    };
    vec![
        written(&[]),
        written(&[(b"/0/t", 7, 42)]),
        written(&[(b"a", 1, 1), (b"ab", u64::MAX, u64::MAX), (b"abc", 3, 0), (&[0xff; 300], 4, 4)]),
    ]
}

/// A small store, to ask.
static STORE: LazyLock<(tempfile::TempDir, Store)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    sample::create(&folder.path().join("store"), 20, sample::Shape::default()).unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    (folder, store)
});

#[derive(Default)]
struct Collected {
    began: bool,
    bytes: Vec<u8>,
    end: Option<u64>,
}

impl Outlet for Collected {
    fn begin(&mut self, _: Announced) -> Result<()> {
        assert!(!std::mem::replace(&mut self.began, true));
        Ok(())
    }

    fn chunk(&mut self, bytes: Bytes) -> Result<()> {
        assert!(self.began && self.end.is_none());
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    fn listed(&mut self, _: Vec<Listed>) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, last_version: u64) -> Result<()> {
        assert!(self.end.replace(last_version).is_none());
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress::new()
    }
}

/// Any bytes as a request to the server: a whole answer above what was asked, or a mismatch before the first byte.
pub(super) fn request(data: &[u8]) -> Feature {
    let Ok(request) = BackupRequest::decode(data) else { return "not a request".to_owned() };
    assert_eq!(BackupRequest::decode(request.encode_to_vec().as_slice()).as_ref(), Ok(&request));
    let mut outlet = Collected::default();
    let base = serving::base(&request);
    let answered =
        serving::answer(&STORE.1, request.since_version, base.as_ref(), &mut outlet, &Progress::new());
    match answered {
        Ok(()) => {
            assert_eq!(outlet.end, Some(20));
            let (found, _) = read(outlet.bytes.as_slice());
            assert!(found.1.is_none());
            assert!(
                found.0.iter().all(|(_, entry)| entry.version > request.since_version && entry.version <= 20)
            );
            format!("{}{}", size(found.0.len()), base.is_some())
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Mismatch, "{error}");
            assert!(!outlet.began && outlet.bytes.is_empty());
            error.to_string().chars().take(60).collect()
        }
    }
}

pub(super) fn request_seeds() -> Vec<Vec<u8>> {
    use evbackup::entry::Datastore;
    let snapshot = STORE.1.snapshot().unwrap();
    let header = snapshot.get(b"/0/h/10").unwrap().unwrap();
    let hash = data_encoding::HEXLOWER.decode(sha256_hex(&header.value).as_bytes()).unwrap();
    let id = STORE.1.id().to_vec();
    let request = |since_version, base_store_id: Vec<u8>, base_height, base_hash: Vec<u8>, base_version| {
        let request = BackupRequest {
            since_version,
            base_store_id,
            base_height,
            base_hash,
            base_version,
            base_block_version: 0,
            ..BackupRequest::default()
        };
        request.encode_to_vec()
    };
    vec![
        request(0, Vec::new(), 0, Vec::new(), 0),
        request(10, id.clone(), 10, hash.clone(), 10),
        request(20, id.clone(), 20, hash, 20),
        request(21, Vec::new(), 0, Vec::new(), 0),
        request(5, id, 30, vec![1; 32], 5),
    ]
}
