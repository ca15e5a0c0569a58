#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

/// The verbs' futures dropped at random moments.
mod cancel;
/// The verbs killed at random moments.
mod kill;

use super::proof::{
    at_address, block_on, digest_of_directory, digest_of_store, into_rocksdb, serve_listen, take, to_file,
};
use evbackup::backup::{self, Output, Since};
use evbackup::base::progress::Progress;
use evbackup::error::Result;
use evbackup::flow::datastore::Engine;
use evbackup::flow::sample::{self, Shape};
use evbackup::rpc::{Listen, Server};
use evbackup::{apply, restore, verify};
use std::path::{Path, PathBuf};

/// Some MB: long enough to be hit in every phase, short enough to be hit hundreds of times.
const BLOCKS: u64 = 700;
/// Where the chain of one segment is cut; one of two at twice that.
const CUT_AT: u64 = 300;
const SHAPE: Shape = Shape { data_bytes: 2_000 };

/// What is done over and over, by a child that is killed and by the parent that follows it. Everything is in one folder: what is
/// read in `in`, what is made in `out`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verb {
    Backup,
    BackupOver,
    BackupFolder,
    Restore,
    RestoreKeep,
    RestoreRemove,
    Directory,
    DirectoryKeep,
    DirectoryRemove,
    Cut,
    Apply,
}

const VERBS: [Verb; 11] = [
    Verb::Backup,
    Verb::BackupOver,
    Verb::BackupFolder,
    Verb::Restore,
    Verb::RestoreKeep,
    Verb::RestoreRemove,
    Verb::Directory,
    Verb::DirectoryKeep,
    Verb::DirectoryRemove,
    Verb::Cut,
    Verb::Apply,
];

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Backup => "backup",
            Verb::BackupOver => "backup overwrite",
            Verb::BackupFolder => "backup folder auto",
            Verb::Restore => "restore",
            Verb::RestoreKeep => "restore overwrite keep",
            Verb::RestoreRemove => "restore overwrite remove",
            Verb::Directory => "directory",
            Verb::DirectoryKeep => "directory overwrite keep",
            Verb::DirectoryRemove => "directory overwrite remove",
            Verb::Cut => "restore at a height",
            Verb::Apply => "apply",
        }
    }

    fn named(name: &str) -> Self {
        VERBS.into_iter().find(|verb| verb.name() == name).unwrap()
    }
}

fn segment(folder: &Path) -> PathBuf {
    folder.join("out/a.badger")
}

fn store(folder: &Path) -> PathBuf {
    folder.join("out/db")
}

/// Runs a verb once: from the server at `address`, or from the segments `paths`.
async fn run(verb: Verb, folder: &Path, address: &str, paths: &[PathBuf], progress: Progress) -> Result<()> {
    let restored = |overwrite, keep_replaced| restore::Options {
        overwrite,
        keep_replaced,
        ..into_rocksdb(paths, &store(folder))
    };
    // With all versions, so that its digest is that of the store which the segments came from.
    let directory = |overwrite, keep_replaced| restore::Options {
        engine: None,
        history: true,
        ..restored(overwrite, keep_replaced)
    };
    let origin = || at_address(address);
    match verb {
        Verb::Backup | Verb::BackupOver => {
            let overwrite = verb == Verb::BackupOver;
            let options = backup::Options { overwrite, ..to_file(&origin(), &segment(folder)) };
            backup::run(options, progress).await.map(drop)
        }
        Verb::BackupFolder => {
            let output = Output::Folder(folder.join("out"));
            let options = backup::Options { since: Since::Auto, ..backup::Options::new(origin(), output) };
            backup::run(options, progress).await.map(drop)
        }
        Verb::Restore => restore::run(restored(false, true), progress).await.map(drop),
        Verb::RestoreKeep => restore::run(restored(true, true), progress).await.map(drop),
        Verb::RestoreRemove => restore::run(restored(true, false), progress).await.map(drop),
        Verb::Directory => restore::run(directory(false, true), progress).await.map(drop),
        Verb::DirectoryKeep => restore::run(directory(true, true), progress).await.map(drop),
        Verb::DirectoryRemove => restore::run(directory(true, false), progress).await.map(drop),
        // Of each chain at a height of its own.
        Verb::Cut => {
            let at_height = Some(CUT_AT * paths.len() as u64);
            restore::run(restore::Options { at_height, ..restored(true, false) }, progress).await.map(drop)
        }
        Verb::Apply => {
            let options = apply::Options { paths: paths.to_vec(), store: store(folder) };
            apply::run(options, progress).await.map(drop)
        }
    }
}

/// Two states of one datastore, each served and each as a chain of segments: what the verbs go from and to.
struct Scene {
    folder: tempfile::TempDir,
    servers: Vec<Server>,
    /// SHA-256 of a full segment of each state.
    sha256: Vec<String>,
    /// The chain that makes each state.
    chains: Vec<Vec<PathBuf>>,
    /// History digests of each state.
    digests: Vec<String>,
}

impl Scene {
    /// `states` of them, each some blocks further.
    fn new(states: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["in", "out"] {
            evbackup::base::durable::private_dir(&path(name)).unwrap();
        }
        let node = path("in/node");
        sample::create(&node, BLOCKS, SHAPE).unwrap();
        let (mut sha256, mut chains, mut digests) = (Vec::new(), Vec::<Vec<PathBuf>>::new(), Vec::new());
        for state in 0..states {
            if state > 0 {
                sample::extend(&node, 40, SHAPE).unwrap();
            }
            let link = path(&format!("in/{state}.badger"));
            let mut chain = chains.last().cloned().unwrap_or_default();
            let since = chain.last().map_or(Since::Version(0), |last| Since::Segment(last.clone()));
            block_on(take(&backup::Origin::datastore(node.clone()), &link, since)).unwrap();
            chain.push(link);
            chains.push(chain);
            digests.push(digest_of_store(&node, 0, true).0);
        }
        let mut servers = Vec::new();
        for (state, chain) in chains.iter().enumerate().take(2) {
            // Served from stores of their own, so that none is locked while it grows.
            let served = path(&format!("in/served{state}"));
            block_on(restore::run(into_rocksdb(chain, &served), Progress::new())).unwrap();
            let full = path(&format!("in/full{state}"));
            let taken =
                block_on(take(&backup::Origin::datastore(served.clone()), &full, Since::Version(0))).unwrap();
            sha256.push(taken.sha256);
            let listen = Listen { max_backups: 64, ..Listen::new("127.0.0.1:0") };
            servers.push(block_on(serve_listen(&served, listen)));
        }
        Self { folder, servers, sha256, chains, digests }
    }

    /// The same, where each state is its chain cut at a height.
    fn cut() -> Self {
        let mut scene = Self::new(2);
        for (state, chain) in scene.chains.iter().enumerate() {
            let dest = scene.path().join(format!("in/cut{state}"));
            let at_height = Some(CUT_AT * chain.len() as u64);
            let options = restore::Options { at_height, ..into_rocksdb(chain, &dest) };
            block_on(restore::run(options, Progress::new())).unwrap();
            scene.digests[state] = digest_of_store(&dest, 0, true).0;
        }
        scene
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn address(&self, state: usize) -> String {
        self.servers[state].address().to_string()
    }

    fn left_in_out(&self) -> Vec<String> {
        let mut names = super::proof::names(&self.path().join("out"));
        let store = store(self.path());
        names.extend(if store.exists() { super::proof::names(&store) } else { Vec::new() });
        names.into_iter().filter(|name| name.contains(".part") || name.contains(".next")).collect()
    }

    /// Which state the segment is of, proven whole; `None` when there is none.
    fn segment_state(&self) -> Option<usize> {
        let path = segment(self.path());
        if !path.exists() {
            return None;
        }
        let report = report(vec![path.clone()]);
        assert!(report.ok && report.findings.is_empty(), "{:?}", report.findings);
        let manifest = evbackup::repo::pair::load(&path).unwrap().unwrap();
        Some(self.sha256.iter().position(|sha256| *sha256 == manifest.sha256).unwrap())
    }

    /// Which state a store is of, all of it; `None` when there is none.
    fn store_state(&self, path: &Path) -> Option<usize> {
        if !path.exists() {
            return None;
        }
        let (digest, _) = match Engine::of(path).expect("neither a store nor a directory") {
            Engine::RocksDb => digest_of_store(path, 0, true),
            Engine::Badger => digest_of_directory(path, 0, true),
        };
        Some(
            self.digests
                .iter()
                .position(|other| *other == digest)
                .expect("a store in no state that was ever made"),
        )
    }
}

fn report(paths: Vec<PathBuf>) -> verify::Report {
    block_on(verify::run(verify::Options { paths, ..Default::default() }, Progress::new())).unwrap()
}

fn remove_segment(folder: &Path) {
    let segment = segment(folder);
    for path in
        [evbackup::repo::pair::manifest_path(&segment), evbackup::repo::pair::keys_path(&segment), segment]
    {
        evbackup::base::durable::remove_file(&path).unwrap();
    }
}
