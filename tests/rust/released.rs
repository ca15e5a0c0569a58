#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

mod changes;
mod copies;
mod live;
mod node;
mod troubles;

use super::proof::{at_address, drain, to_file};
use evbackup::backup::{self, Backup, Since, Via};
use evbackup::base::progress::Progress;
use evbackup::base::scratch::Scratch;
use evbackup::entry::OwnedEntry;
use evbackup::error::Result;
use evbackup::evnode::chain::{ChainReport, Checker, Options};
use evbackup::evnode::key::{Key, Part};
use evbackup::evnode::sample::Sample;
use evbackup::flow::chain::Chain;
use evbackup::repo::manifest::Manifest;
use evbackup::repo::pair;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options for a backup of the node at an address, which gives up soon.
fn options(address: SocketAddr, path: &Path, since: Since) -> backup::Options {
    let mut options = backup::Options { since, ..to_file(&at_address(&address.to_string()), path) };
    if let backup::Origin::Server(connect) = &mut options.origin {
        connect.idle_timeout = Duration::from_secs(6);
    }
    options
}

async fn copy(address: SocketAddr, path: &Path, since: Since) -> Result<Backup> {
    backup::run(options(address, path, since), Progress::new()).await
}

async fn copy_raw(address: SocketAddr, path: &Path, since: Since) -> Result<Backup> {
    let options = backup::Options { via: Via::Blocks, raw: true, ..options(address, path, since) };
    backup::run(options, Progress::new()).await
}

fn manifest(path: &Path) -> Manifest {
    pair::load(path).unwrap().unwrap()
}

fn entries(chain: &[PathBuf]) -> Vec<OwnedEntry> {
    let chain = Chain::open(chain, None).unwrap();
    chain.refuse().unwrap();
    drain(&mut *chain.source(&Scratch::system(), 1 << 20, &Progress::new()).unwrap()).unwrap()
}

/// What is live in a chain, by key.
fn live(chain: &[PathBuf]) -> BTreeMap<String, Vec<u8>> {
    let mut live = BTreeMap::new();
    let mut last = None;
    for entry in entries(chain) {
        if last.as_ref() != Some(&entry.key) && !entry.as_entry().is_delete() {
            live.insert(entry.key.escape_ascii().to_string(), entry.value);
        }
        last = Some(entry.key);
    }
    live
}

/// What a node holds, by key.
fn held(sample: &Sample) -> BTreeMap<String, Vec<u8>> {
    sample.entries().map(|entry| (entry.key.escape_ascii().to_string(), entry.value.to_vec())).collect()
}

/// Are they the same? Else the keys in which they are not.
fn expect_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    let keys = found.keys().chain(expected.keys());
    let differing: std::collections::BTreeSet<_> =
        keys.filter(|key| found.get(*key) != expected.get(*key)).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

/// The same but for what is not known of states below the tip.
fn without_da_heights(mut entries: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    for (key, value) in &mut entries {
        if key.starts_with("/0/s/") {
            let mut state = evbackup::evnode::record::State::decode(value).unwrap();
            state.da_height = 0;
            let mut encoded = Vec::new();
            state.encode(&mut encoded);
            *value = encoded;
        }
    }
    entries.remove("/single/checkpoint");
    entries
}

/// What ev-node's rules say of a chain of segments.
fn judged(chain: &[PathBuf]) -> ChainReport {
    let mut checker = Checker::new(Options::default());
    for entry in entries(chain) {
        checker.feed(&entry.as_entry()).unwrap();
    }
    checker.finish().unwrap()
}

fn expect_sound(chain: &[PathBuf], height: u64) {
    let report = judged(chain);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.complete_height, Some(height));
}

fn da_height(height: u64, part: Part) -> String {
    Key::DaHeight(height, part).to_string()
}
