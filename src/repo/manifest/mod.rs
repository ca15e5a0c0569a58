//! The manifest: the JSON file beside a segment that says what it is and proves it.
//!
//! The last line but one is `  "manifest_sha256": "<64 hex digits>"`, and the digest covers every byte of the file before that
//! line, the comma and the line break included. So a flipped digit anywhere is found, and fields that this version does
//! not know are ignored but proven. A file that was formatted anew is no longer proven: it is refused.
//!
//! Any bytes give a manifest that does not contradict itself, or an error; memory stays within a few times the file, which
//! may have [`MAX_BYTES`].

mod check;

use crate::base::checksum::sha256_hex;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The format that is written, and the highest that is read.
pub const FORMAT: u32 = 1;
/// The longest manifest: an index of 16 MiB blocks over some 6 TB needs that much.
pub const MAX_BYTES: usize = 64 << 20;
/// The most runs or pieces that are listed. A reader holds them all, so a segment that has more is read another way.
pub const MAX_LISTED: usize = 65_536;
/// The most hex digits in all keys of `runs` together, for the same reason.
const MAX_LISTED_DIGITS: usize = 16 << 20;

/// Everything or what changed?
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Everything up to its complete version.
    Full,
    /// What changed since a version.
    Inc,
}

impl Kind {
    /// As in JSON and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Full => "full",
            Kind::Inc => "inc",
        }
    }
}

/// How sure it is that every delete is in the segment; the order is that of strength.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deletes {
    /// Some may be missing.
    Unknown,
    /// Those of blocks follow from ev-node's rules; others may be missing.
    Derived,
    /// All are there.
    Exact,
}

impl Deletes {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Deletes::Unknown => "unknown",
            Deletes::Derived => "derived",
            Deletes::Exact => "exact",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Deletes::Unknown, Deletes::Derived, Deletes::Exact].into_iter().find(|one| one.name() == name)
    }

    /// What a chain of these can promise; a chain of none promises everything.
    #[must_use]
    pub fn weakest(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().min().unwrap_or(Deletes::Exact)
    }
}

/// The segment that an increment continues.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Parent {
    /// The digest of its bytes.
    pub sha256: String,
    /// Its complete version.
    pub complete_version: u64,
    /// The run that wrote it: increments without news all have the same bytes, and this tells them apart.
    #[serde(default)]
    pub run_id: Option<String>,
}

impl Parent {
    /// Is `manifest` that of the parent?
    pub fn is(&self, manifest: &Manifest) -> bool {
        self.fits(&manifest.sha256, manifest.complete_version, Some(&manifest.run_id))
    }

    /// The same where only some of it is known.
    pub fn fits(&self, sha256: &str, complete_version: u64, run_id: Option<&str>) -> bool {
        let same_run = match (&self.run_id, run_id) {
            (Some(one), Some(other)) => one == other,
            _ => self.complete_version == complete_version,
        };
        same_run && self.sha256 == sha256
    }
}

/// One sorted run within the segment: a `stream_id`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Run {
    /// The `stream_id`.
    pub id: u32,
    /// Its first key, hex.
    pub first: String,
    /// Its last key, hex.
    pub last: String,
    /// How many entries it has.
    pub entries: u64,
}

/// A stretch of whole frames, with its checksum.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IndexBlock {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// CRC-32C of its bytes, 8 hex digits.
    pub crc32c: String,
    /// How many entries it has.
    pub entries: u64,
}

/// A stretch of a frame that belongs to one run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Piece {
    /// The run.
    pub run: u32,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// The keys file beside the segment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Keys {
    /// How long it is.
    pub bytes: u64,
    /// The digest of its bytes.
    pub sha256: String,
    /// How many keys it lists.
    pub entries: u64,
    /// All live keys, or those outside the block families?
    pub all: bool,
}

/// How far ev-node had pruned, by its own marks; 0: nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pruned {
    /// Blocks up to this height.
    pub blocks: u64,
    /// States up to this height.
    pub states: u64,
    /// Execution records up to this height.
    pub execmeta: u64,
}

/// One of ev-node's marks: how far it has come with something.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct MarkAt {
    /// What ev-node calls it.
    pub name: String,
    /// The height it is at.
    pub height: u64,
}

/// Live keys of one family.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct FamilyCount {
    /// Its name.
    pub family: String,
    /// How many.
    pub keys: u64,
    /// Bytes of them and their values.
    pub bytes: u64,
}

/// What is in the blocks' datastore, as the entries said that passed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Blocks {
    /// The newest generation of releases that has left a mark.
    pub generation: Option<String>,
    /// The height of the first block that there ever was.
    pub initial_height: Option<u64>,
    /// The first block that was not pruned.
    pub base: Option<u64>,
    /// ev-node's marks in the segment.
    pub marks: Vec<MarkAt>,
    /// Live keys in the segment, by family.
    pub families: Vec<FamilyCount>,
}

/// Of [`Manifest::lacks`]: what states below the node's tip say of where it stood on DA.
pub const STATE_DA_HEIGHTS: &str = "state-da-heights";

/// What is in the manifest. [`encode`](Manifest::encode) and [`decode`](Manifest::decode) check that it does not contradict itself.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The segment's file name when it was written.
    pub segment: String,
    /// Everything or what changed.
    pub kind: Kind,
    /// How it came: `"rpc"`, `"blocks"`, `"raw"`, `"store"`, `"badger"`.
    pub via: String,
    /// Compression and encryption over the plain bytes, outermost last. Digests and offsets are of the plain bytes.
    pub encoding: Vec<String>,
    /// The segment's length.
    pub bytes: u64,
    /// The segment's SHA-256.
    pub sha256: String,
    /// How many entries it has.
    pub entries: u64,
    /// How many frames it has.
    pub frames: u64,
    /// Entries at or below this version were left out.
    pub since_version: u64,
    /// The highest version in it.
    pub last_version: u64,
    /// The highest version up to which it surely misses nothing.
    pub complete_version: u64,
    /// What the next increment asks for.
    pub next_since: u64,
    /// Was everything read at one version?
    pub pinned: bool,
    /// Which history of versions it belongs to, hex, where that is known.
    pub store_id: Option<String>,
    /// What it continues.
    pub parent: Option<Parent>,
    /// How sure it is that every delete is in it.
    pub deletes: Deletes,
    /// Was it compared with all keys of its base?
    pub exact: bool,
    /// How many live keys the source listed.
    pub listed: u64,
    /// What is known to be missing, such as [`STATE_DA_HEIGHTS`].
    pub lacks: Vec<String>,
    /// The chain id in its blocks.
    pub chain_id: Option<String>,
    /// What is in its blocks' datastore; `None`: no keys of ev-node's.
    #[serde(default)]
    pub blocks: Option<Blocks>,
    /// The tip that the source announced first; 0: no blocks.
    pub announced_height: u64,
    /// The tip inside the segment, which may be torn; 0: none.
    pub tip_height: u64,
    /// The highest height that is whole; 0: none.
    pub complete_height: u64,
    /// SHA-256 of the value of `/0/h/<complete_height>`.
    pub complete_hash: Option<String>,
    /// The version of `/0/h/<complete_height>`.
    #[serde(default)]
    pub block_version: Option<u64>,
    /// The highest height of a block's key in the chain so far; 0: none.
    #[serde(default)]
    pub highest_height: u64,
    /// Up to here the DA heights of blocks that were copied one by one are final; 0: none are, or a stream brought them.
    #[serde(default)]
    pub included_height: u64,
    /// How far the source had pruned.
    #[serde(default)]
    pub pruned: Pruned,
    /// May the source give out a version twice?
    #[serde(default)]
    pub reuses_versions: bool,
    /// Where it came from, without credentials.
    pub source: String,
    /// The message layout of the RPC (`"F"`, `"T"`), empty without one.
    pub layout: String,
    /// When the backup began, RFC 3339 in UTC.
    pub started_at: String,
    /// How long it took.
    pub elapsed_s: f64,
    /// What wrote it.
    pub tool: String,
    /// Which run wrote it.
    pub run_id: String,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// The keys file beside it.
    pub keys: Option<Keys>,
    /// The sorted runs; `None` when there are too many to list.
    pub runs: Option<Vec<Run>>,
    /// All of the segment in blocks.
    pub index: Vec<IndexBlock>,
    /// Where each run's bytes are; `None` when there are too many to list.
    pub pieces: Option<Vec<Piece>>,
}

#[derive(Deserialize)]
struct Probe {
    format: u32,
}

const SEAL: &[u8] = b"  \"manifest_sha256\": \"";
const END: &[u8] = b"\"\n}\n";
const DIGITS: usize = 64;

impl Manifest {
    /// The bytes of the file: the same for equal manifests. `runs` and `pieces` beyond [`MAX_LISTED`] are left out.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let manifest = self.within_limits();
        manifest
            .check()
            .map_err(|error| Error::invalid(format!("cannot write this manifest: {}", error.what())))?;
        let mut bytes = serde_json::to_vec_pretty(manifest.as_ref())
            .map_err(|error| Error::invalid(format!("cannot write this manifest: {error}")))?;
        bytes.truncate(bytes.len().saturating_sub(b"\n}".len()));
        bytes.extend_from_slice(b",\n");
        let sha256 = sha256_hex(&bytes);
        bytes.extend_from_slice(SEAL);
        bytes.extend_from_slice(sha256.as_bytes());
        bytes.extend_from_slice(END);
        if bytes.len() > MAX_BYTES {
            let what = format!("expected a manifest of at most {MAX_BYTES} bytes, found {}", bytes.len());
            return Err(Error::unsupported(what));
        }
        Ok(bytes)
    }

    /// Proves and reads the bytes of a file.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            return Err(too_long(bytes.len() as u64));
        }
        let Some((covered, digest)) = split_seal(bytes) else {
            // A later format may be sealed in another way.
            return match serde_json::from_slice::<Probe>(bytes) {
                Ok(Probe { format }) if format > FORMAT => Err(later(format)),
                _ => Err(Error::damaged(
                    "expected a manifest that ends in its manifest_sha256, found another end",
                )),
            };
        };
        let found = sha256_hex(covered);
        if digest != found.as_bytes() {
            let expected = String::from_utf8_lossy(digest);
            return Err(Error::damaged(format!("expected a manifest of SHA-256 {expected}, found {found}")));
        }
        let broken = |error: serde_json::Error| {
            Error::damaged(format!("expected the fields of a manifest, found {error}")).caused_by(error)
        };
        let Probe { format } = serde_json::from_slice(bytes).map_err(broken)?;
        if format > FORMAT {
            return Err(later(format));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(broken)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn within_limits(&self) -> Cow<'_, Self> {
        let digits = |runs: &Vec<Run>| runs.iter().map(|run| run.first.len() + run.last.len()).sum::<usize>();
        let long_runs = |runs: &Vec<Run>| runs.len() > MAX_LISTED || digits(runs) > MAX_LISTED_DIGITS;
        let (runs, pieces) = (self.runs.as_ref(), self.pieces.as_ref());
        let keep_runs = !runs.is_some_and(long_runs);
        // Pieces name runs, so they go with them.
        let keep_pieces = keep_runs && pieces.is_none_or(|pieces| pieces.len() <= MAX_LISTED);
        if keep_runs && keep_pieces {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self {
            runs: keep_runs.then(|| self.runs.clone()).flatten(),
            pieces: keep_pieces.then(|| self.pieces.clone()).flatten(),
            ..self.clone()
        })
    }

    /// When the backup began.
    pub fn started(&self) -> Result<jiff::Timestamp> {
        self.started_at.parse().map_err(|error: jiff::Error| {
            Error::damaged(format!("expected a time in started_at, found {}", self.started_at))
                .caused_by(error)
        })
    }
}

fn split_seal(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (covered, seal) =
        bytes.split_at_checked(bytes.len().checked_sub(SEAL.len() + DIGITS + END.len())?)?;
    let (digest, end) = seal.strip_prefix(SEAL)?.split_at_checked(DIGITS)?;
    (covered.ends_with(b",\n") && end == END).then_some((covered, digest))
}

fn later(format: u32) -> Error {
    Error::unsupported(format!("expected a manifest of format {FORMAT} or lower, found {format}"))
        .with_hint("a later version of evbackup wrote it: use that one")
}

/// The refusal of a file that is longer than any manifest.
pub(super) fn too_long(bytes: u64) -> Error {
    Error::damaged(format!("expected a manifest of at most {MAX_BYTES} bytes, found {bytes}"))
}

/// The part of a URL that may hold a user and a password: between the scheme and the first slash.
fn authority(source: &str) -> Option<(usize, &str)> {
    let begin = source.find("://")? + "://".len();
    let rest = source.get(begin..)?;
    Some((begin, rest.split(['/', '?', '#']).next().unwrap_or_default()))
}

fn has_credentials(source: &str) -> bool {
    authority(source).is_some_and(|(_, authority)| authority.contains('@') || source.contains('?'))
}

/// A source as a manifest may name it: a URL without user, password, query and fragment; a path as it is.
///
/// ```
/// use evbackup::repo::manifest::without_credentials;
/// assert_eq!(without_credentials("https://me:secret@node:7331/?token=x"), "https://node:7331/");
/// assert_eq!(without_credentials("/var/lib/a@b"), "/var/lib/a@b");
/// ```
pub fn without_credentials(source: &str) -> String {
    let Some((begin, authority)) = authority(source) else {
        return source.to_owned();
    };
    let scheme = source.get(..begin).unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = source.get(begin + authority.len()..).unwrap_or_default();
    format!("{scheme}{host}{}", path.split(['?', '#']).next().unwrap_or_default())
}

#[cfg(test)]
pub(super) mod tests;
