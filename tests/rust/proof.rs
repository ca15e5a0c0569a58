#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use evbackup::backup::{self, Backup, Origin, Output, Since};
use evbackup::badger::{Directory, ReadOptions};
use evbackup::base::progress::Progress;
use evbackup::entry::{Datastore, OwnedEntry, Source};
use evbackup::error::Result;
use evbackup::flow::digest::{Scope, digest as take_digest};
use evbackup::proto::evnode::BackupRequest;
use evbackup::rpc::{Address, Announced, Connect, Handler, Listen, Outlet, Server};
use evbackup::store::Store;
use evbackup::{digest, restore, serve};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// One runtime for all tests that only wait: starting threads for each of thousands of cases would be the longest part.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

pub(super) fn into_badger(paths: &[PathBuf], dest: &Path) -> restore::Options {
    restore::Options { engine: None, ..into_rocksdb(paths, dest) }
}

pub(super) fn into_rocksdb(paths: &[PathBuf], dest: &Path) -> restore::Options {
    restore::Options {
        paths: paths.to_vec(),
        dest: dest.to_owned(),
        engine: Some("rocksdb".into()),
        ..Default::default()
    }
}

pub(super) async fn restore_to(paths: &[PathBuf], dest: &Path) -> Result<restore::Restored> {
    restore::run(into_rocksdb(paths, dest), Progress::new()).await
}

pub(super) async fn digest_at(paths: &[PathBuf], now: u64, history: bool) -> Result<String> {
    let options = digest::Options { paths: paths.to_vec(), now: Some(now), history, ..Default::default() };
    digest::run(options, Progress::new()).await
}

/// Digest and count of a store, by its own snapshot.
pub(super) fn digest_of_store(path: &Path, now: u64, history: bool) -> (String, u64) {
    let store = unlocked(|| Store::open(path)).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut source = snapshot.source(0).unwrap();
    take_digest(&mut *source, Scope { at: u64::MAX, now, history }, &Progress::new()).unwrap()
}

/// Digest and count of a Badger directory that no node has, and its id.
pub(super) fn digest_of_directory(path: &Path, now: u64, history: bool) -> (String, u64) {
    let options = ReadOptions { offline: true, ..ReadOptions::default() };
    let directory = unlocked(|| Directory::open(path, options.clone())).unwrap();
    let snapshot = directory.snapshot().unwrap();
    let mut source = snapshot.everything().unwrap();
    take_digest(&mut *source, Scope { at: u64::MAX, now, history }, &Progress::new()).unwrap()
}

/// Reads a source to its end.
pub(super) fn drain(source: &mut dyn Source) -> Result<Vec<OwnedEntry>> {
    let mut entries = Vec::new();
    while source.advance()? {
        entries.push(source.entry().to_owned());
    }
    Ok(entries)
}

/// Names in a folder.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A server of the proposal's RPC that sends one segment as it is, as a node would.
struct Replay {
    bytes: bytes::Bytes,
    height: u64,
    last_version: u64,
}

impl Handler for Replay {
    fn backup(&self, _: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
        outlet.begin(Announced { current_height: self.height, ..Announced::default() })?;
        outlet.chunk(self.bytes.clone())?;
        outlet.end(self.last_version)
    }
}

pub(super) async fn replay(bytes: Vec<u8>, height: u64) -> Server {
    let mut reader = evbackup::format::Reader::with_tap(bytes.as_slice(), evbackup::format::Tally::new());
    while reader.advance().unwrap() {}
    let last_version = reader.tap().last_version();
    replay_with(bytes, height, last_version).await
}

pub(super) async fn replay_with(bytes: Vec<u8>, height: u64, last_version: u64) -> Server {
    let handler = Arc::new(Replay { bytes: bytes.into(), height, last_version });
    evbackup::rpc::listen(Listen::new("127.0.0.1:0"), handler).await.unwrap()
}

pub(super) async fn serve_store(path: &Path) -> Server {
    serve_listen(path, Listen::new("127.0.0.1:0")).await
}

pub(super) async fn serve_listen(path: &Path, listen: Listen) -> Server {
    serve::run(serve::Options {
        path: path.to_owned(),
        reading: evbackup::badger::ReadOptions::default(),
        listen,
    })
    .await
    .unwrap()
}

pub(super) fn at(server: &Server) -> Origin {
    at_address(&server.address().to_string())
}

pub(super) fn at_address(address: &str) -> Origin {
    Origin::Server(Box::new(Connect::new(Address::parse(address, 7331).unwrap())))
}

pub(super) fn to_file(origin: &Origin, path: &Path) -> backup::Options {
    backup::Options::new(origin.clone(), Output::File(path.to_owned()))
}

pub(super) async fn take(origin: &Origin, path: &Path, since: Since) -> Result<Backup> {
    backup::run(backup::Options { since, ..to_file(origin, path) }, Progress::new()).await
}

/// Makes `path` with its manifest out of a bare segment, byte for byte: what a backup of a node that sends it writes.
pub(super) fn record(bytes: &[u8], height: u64, path: &Path) -> Backup {
    block_on(async {
        let server = replay(bytes.to_vec(), height).await;
        let taken = take(&at(&server), path, Since::Version(0)).await.unwrap();
        server.stop().await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), bytes);
        taken
    })
}

/// Numbers that differ in every run; a failure prints its seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self::seeded(u64::from(now.subsec_nanos()) | 1)
    }

    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 when that is 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }
}

/// Puts bytes where they are, without ceremony: what damage does.
#[expect(clippy::disallowed_methods, reason = "damage is neither private nor durable")]
pub(super) fn put(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// A folder in memory where there is one: tens of thousands of small files, each changed in place, would wait for a disk.
pub(super) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Tries again while something is locked: a child that another test forks holds this process's locks until it has become
/// another program.
pub(super) fn unlocked<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = std::time::Instant::now();
    loop {
        match work() {
            Err(error) if error.code() == "locked" && begun.elapsed().as_secs() < 5 => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            result => return result,
        }
    }
}
