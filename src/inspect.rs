//! What a segment or a datastore is, without reading all of it where a manifest tells.

use crate::badger::{self, Directory};
use crate::base::progress::{Phase, Progress};
use crate::entry::{Datastore as _, Need};
use crate::error::Result;
use crate::evnode::chain::{Options, Signatures};
use crate::flow::chain::Chain;
use crate::flow::chain_summary::{ChainInfo, ChainSummary};
use crate::flow::checks::{self, Level};
use crate::flow::datastore::{self, Engine, ReadOptions};
use crate::flow::finding::{Finding, Level as Severity};
use crate::flow::hasher::hex;
use crate::flow::segment::Segment;
use crate::flow::{chain_check, chain_look, work};
use crate::store::Store;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One or the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Inspected {
    /// A segment.
    Segment(Box<SegmentInfo>),
    /// A datastore.
    Datastore(Box<DatastoreInfo>),
}

/// What a segment's manifest says; without one, what its bytes say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SegmentInfo {
    /// The segment.
    pub path: PathBuf,
    /// A manifest lies beside it.
    pub has_manifest: bool,
    /// `"full"`, `"inc"`, or `"unknown"` without a manifest.
    pub kind: &'static str,
    /// Its length.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
    /// Its frames.
    pub frames: u64,
    /// Its sorted runs; `None` where they are not known.
    pub runs: Option<usize>,
    /// Versions up to this one are left out.
    pub since_version: u64,
    /// The highest version.
    pub last_version: u64,
    /// Up to this version it misses nothing; `None` where nobody says so.
    pub complete_version: Option<u64>,
    /// What the next increment asks for; `None` where nobody says so.
    pub next_since: Option<u64>,
    /// Read at one version.
    pub pinned: bool,
    /// The history of versions it belongs to.
    pub store_id: Option<String>,
    /// The digest of the segment that it follows.
    pub parent: Option<String>,
    /// The run that wrote it: increments without news share a digest, and this tells them apart.
    pub run_id: Option<String>,
    /// The run that wrote the segment that it follows.
    pub parent_run_id: Option<String>,
    /// How sure its deletes are.
    pub deletes: &'static str,
    /// Live keys listed beside it.
    pub listed: u64,
    /// The tip that the source announced.
    pub announced_height: u64,
    /// The tip in it.
    pub tip_height: u64,
    /// The highest height that is whole.
    pub complete_height: u64,
    /// What chain of blocks is in it; `None`: no keys of ev-node's, or a manifest that does not say.
    pub chain: Option<ChainInfo>,
    /// SHA-256, as hex.
    pub sha256: Option<String>,
    /// Where it came from.
    pub source: Option<String>,
    /// When, RFC 3339.
    pub started_at: Option<String>,
    /// What wrote it.
    pub tool: Option<String>,
    /// What its maker noted.
    pub notes: Vec<String>,
    /// What is wrong with it, as far as it was looked at.
    pub findings: Vec<Finding>,
}

/// What a datastore says of itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatastoreInfo {
    /// Its directory.
    pub path: PathBuf,
    /// What keeps it.
    pub engine: &'static str,
    /// Which history of versions it belongs to.
    pub store_id: String,
    /// Entries above this version are not shown.
    pub pinned_version: u64,
    /// The highest version in it.
    pub last_version: u64,
    /// Entries, all versions.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Bytes on the disk.
    pub disk_bytes: u64,
    /// Tables that a Badger directory lists; `None` for a store.
    pub tables: Option<u64>,
    /// How sure its deletes are.
    pub deletes: String,
    /// The tip in it, 0 without blocks.
    pub tip_height: u64,
    /// What chain of blocks is in it; `None`: no keys of ev-node's.
    pub chain: Option<ChainInfo>,
    /// What was applied to it, oldest first.
    pub applied: Vec<AppliedInfo>,
}

/// One segment that a store took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AppliedInfo {
    /// SHA-256, as hex.
    pub sha256: String,
    /// The store id of its source; empty when it had none.
    pub store_id: String,
    /// Up to this version it missed nothing.
    pub complete_version: u64,
}

/// Looks at `path`. `count`: counts the keys of a datastore by family, which reads all of it.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::{base::progress::Progress, inspect::{self, Inspected}};
///
/// if let Inspected::Segment(segment) = inspect::run("full.badger".into(), true, Default::default(), Progress::new()).await? {
///     println!("{} entries up to version {}", segment.entries, segment.last_version);
/// }
/// # Ok(()) }
/// ```
pub async fn run(path: PathBuf, count: bool, reading: ReadOptions, progress: Progress) -> Result<Inspected> {
    work::blocking(progress, move |progress| {
        if path.is_dir() {
            Ok(Inspected::Datastore(Box::new(datastore_info(&path, count, &reading, progress)?)))
        } else {
            Ok(Inspected::Segment(Box::new(segment_info(&path, progress)?)))
        }
    })
    .await
}

/// Memory for sorting where a segment without a manifest does not keep its order.
const SORT_MEMORY: usize = 64 << 20;

fn segment_info(path: &Path, progress: &Progress) -> Result<SegmentInfo> {
    let mut segment = Segment::open(path)?;
    progress.begin(Phase::Verifying, segment.bytes());
    let mut findings = Vec::new();
    let chain = if let Some(manifest) = segment.manifest() {
        ChainInfo::of_manifest(manifest)
    } else {
        findings = checks::segment(&mut segment, Level::Full, false, progress)?;
        findings.retain(|finding| finding.level == Severity::Error);
        if findings.is_empty() && segment.has_blocks() { read_chain(path, progress)? } else { None }
    };
    let read = chain.as_ref().filter(|_| segment.manifest().is_none());
    let height = |of: fn(&ChainInfo) -> Option<u64>| read.and_then(of).unwrap_or_default();
    let (tip_height, complete_height) = (height(|info| info.tip), height(|info| info.complete_height));
    let manifest = segment.manifest();
    let tally = segment.tally();
    let of_tally = |count: fn(&crate::format::Tally) -> u64| tally.map_or(0, count);
    Ok(SegmentInfo {
        path: path.to_owned(),
        has_manifest: manifest.is_some(),
        kind: manifest.map_or("unknown", |manifest| manifest.kind.name()),
        bytes: segment.bytes(),
        entries: manifest
            .map_or_else(|| of_tally(crate::format::Tally::entries), |manifest| manifest.entries),
        frames: manifest.map_or_else(|| of_tally(crate::format::Tally::frames), |manifest| manifest.frames),
        runs: match manifest {
            Some(manifest) => manifest.runs.as_ref().map(Vec::len),
            None => tally.and_then(crate::format::Tally::layout).map(|layout| layout.runs.len()),
        },
        since_version: manifest.map_or(0, |manifest| manifest.since_version),
        last_version: segment.last_version(),
        complete_version: manifest.map(|manifest| manifest.complete_version),
        next_since: manifest.map(|manifest| manifest.next_since),
        pinned: manifest.is_some_and(|manifest| manifest.pinned),
        store_id: manifest.and_then(|manifest| manifest.store_id.clone()),
        parent: manifest.and_then(|manifest| manifest.parent.as_ref()).map(|parent| parent.sha256.clone()),
        run_id: manifest.map(|manifest| manifest.run_id.clone()),
        parent_run_id: manifest.and_then(|manifest| manifest.parent.as_ref()?.run_id.clone()),
        deletes: segment.deletes().name(),
        listed: manifest.map_or(0, |manifest| manifest.listed),
        announced_height: manifest.map_or(0, |manifest| manifest.announced_height),
        tip_height: manifest.map_or(tip_height, |manifest| manifest.tip_height),
        complete_height: manifest.map_or(complete_height, |manifest| manifest.complete_height),
        chain,
        sha256: manifest.map(|manifest| manifest.sha256.clone()),
        source: manifest.map(|manifest| manifest.source.clone()),
        started_at: manifest.map(|manifest| manifest.started_at.clone()),
        tool: manifest.map(|manifest| manifest.tool.clone()),
        notes: manifest.map_or_else(Vec::new, |manifest| manifest.notes.clone()),
        findings,
    })
}

/// What chain is in a segment of which no manifest tells.
fn read_chain(path: &Path, progress: &Progress) -> Result<Option<ChainInfo>> {
    let chain = Chain::open(&[path.to_owned()], None)?;
    let options = Options { signatures: Signatures::Unverified, ..Options::default() };
    let report = chain_check::report(&chain, 1, options, SORT_MEMORY, progress)?;
    Ok(Some(ChainSummary::from(&report).info))
}

/// What the datastore at `path` says of itself; `count` as for [`run`].
pub fn datastore_info(
    path: &Path,
    count: bool,
    reading: &ReadOptions,
    progress: &Progress,
) -> Result<DatastoreInfo> {
    if datastore::expect(path)? == Engine::Badger {
        return directory_info(path, count, reading, progress);
    }
    let store = Store::open(path)?;
    let chain = chain_look::of_datastore(&store, count, progress)?;
    let about = store.about().clone();
    let tip_height = store.snapshot()?.tip()?;
    let applied = about.applied.iter().map(|applied| AppliedInfo {
        sha256: hex(&applied.sha256),
        store_id: hex(&applied.source),
        complete_version: applied.complete_version,
    });
    Ok(DatastoreInfo {
        path: path.to_owned(),
        engine: Engine::RocksDb.name(),
        store_id: hex(&about.store_id),
        pinned_version: about.pinned_version,
        last_version: about.last_version,
        entries: about.entries,
        bytes: about.bytes,
        disk_bytes: store.disk_bytes(),
        tables: None,
        deletes: about.deletes.clone(),
        tip_height,
        chain,
        applied: applied.collect(),
    })
}

fn directory_info(
    path: &Path,
    count: bool,
    reading: &ReadOptions,
    progress: &Progress,
) -> Result<DatastoreInfo> {
    let directory = Directory::open(path, reading.clone())?;
    // Of a running node's directory that would copy everything.
    let chain = chain_look::of_datastore(&directory, count && reading.offline, progress)?;
    let snapshot = directory.snapshot_for(&Need::keys(Vec::new()), progress)?;
    let counts = badger::count(path, progress)?;
    Ok(DatastoreInfo {
        path: path.to_owned(),
        engine: Engine::Badger.name(),
        store_id: hex(directory.id()),
        pinned_version: snapshot.pinned_version(),
        last_version: snapshot.pinned_version(),
        entries: counts.entries,
        bytes: counts.bytes,
        disk_bytes: counts.disk_bytes,
        tables: Some(counts.tables),
        deletes: snapshot.deletes().to_owned(),
        tip_height: snapshot.tip()?,
        chain,
        applied: Vec::new(),
    })
}
