#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

mod node;

use crate::proof::{Random, at, block_on, digest_at, restore_to, take};
use evbackup::backup::{self, Backup, Origin, Since};
use evbackup::base::progress::Progress;
use evbackup::error::Result;
use evbackup::evnode::key;
use evbackup::flow::serving;
use evbackup::proto::evnode::BackupRequest;
use evbackup::rpc::{self, Handler, Listen, Outlet, Server};
use evbackup::{apply, verify};
use node::{Node, set};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

struct Beside(Mutex<Node>);

impl Handler for Beside {
    fn backup(&self, request: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
        let node = self.0.lock().unwrap().clone();
        let base = serving::base(request);
        let progress = outlet.progress();
        serving::answer(&node, request.since_version, base.as_ref(), outlet, &progress)
    }
}

/// A node, a server of ours beside it, and a folder.
struct Bench {
    beside: Arc<Beside>,
    server: Server,
    folder: tempfile::TempDir,
}

impl Bench {
    async fn new(blocks: u64) -> Self {
        let mut node = Node::new();
        (0..blocks).for_each(|_| node.block());
        let beside = Arc::new(Beside(Mutex::new(node)));
        let handler: Arc<dyn Handler> = Arc::clone(&beside) as _;
        let server = rpc::listen(Listen::new("127.0.0.1:0"), handler).await.unwrap();
        Self { beside, server, folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn node<T>(&self, work: impl FnOnce(&mut Node) -> T) -> T {
        work(&mut self.beside.0.lock().unwrap())
    }

    fn origin(&self) -> Origin {
        at(&self.server)
    }

    async fn full(&self, name: &str) -> Backup {
        take(&self.origin(), &self.path(name), Since::Version(0)).await.unwrap()
    }

    async fn inc(&self, name: &str, base: &str) -> Result<Backup> {
        take(&self.origin(), &self.path(name), Since::Segment(self.path(base))).await
    }

    /// The chain says what the node holds: read as it is, proven, and restored.
    async fn same(&self, names: &[&str]) {
        let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        let expected = self.node(|node| node.digest());
        assert_eq!(digest_at(&paths, 0, false).await.unwrap(), expected);
        let options =
            verify::Options { paths: paths.clone(), chain: Some(false), ..verify::Options::default() };
        let report = verify::run(options, Progress::new()).await.unwrap();
        assert!(report.ok && report.deletes == "exact", "{:?}", report.findings);
        let store = tempfile::tempdir().unwrap();
        restore_to(&paths, &store.path().join("whole")).await.unwrap();
        restore_to(&paths[..1], &store.path().join("stepwise")).await.unwrap();
        for path in &paths[1..] {
            let options = apply::Options { paths: vec![path.clone()], store: store.path().join("stepwise") };
            apply::run(options, Progress::new()).await.unwrap();
        }
        for name in ["whole", "stepwise"] {
            assert_eq!(digest_at(&[store.path().join(name)], 0, false).await.unwrap(), expected, "{name}");
        }
    }
}

fn manifest(path: &Path) -> evbackup::repo::manifest::Manifest {
    evbackup::repo::pair::load(path).unwrap().unwrap()
}

#[test]
fn deletes_that_compaction_purged_are_in_the_increment() {
    block_on(async {
        let bench = Bench::new(20).await;
        bench.node(|node| node.commit(vec![set("/0/m/extra", "x"), set("/single/checkpoint", "y")]));
        bench.full("full").await;
        bench.node(|node| {
            node.commit(vec![(b"/0/m/extra".to_vec(), None)]);
            (0..5).for_each(|_| node.block());
            node.compact();
        });
        let inc = bench.inc("inc", "full").await.unwrap();
        assert_eq!((inc.kind, inc.deletes, inc.complete_height), ("inc", "exact", 25));
        assert!(inc.bytes < 10_000, "{} bytes", inc.bytes);
        bench.same(&["full", "inc"]).await;
        let again = bench.inc("again", "inc").await.unwrap();
        assert!(again.entries <= 12, "the newest block and what came behind it: {again:?}");
        bench.same(&["full", "inc", "again"]).await;
    });
}

#[test]
fn pruned_blocks_states_and_records_go_with_all_their_keys() {
    block_on(async {
        let bench = Bench::new(60).await;
        bench.full("full").await;
        bench.node(|node| {
            (0..10).for_each(|_| node.block());
            node.prune_blocks(50);
            node.compact();
        });
        let inc = bench.inc("one", "full").await.unwrap();
        assert_eq!(inc.deletes, "exact");
        assert_eq!(manifest(&bench.path("one")).pruned.blocks, 50);
        bench.same(&["full", "one"]).await;
        bench.node(|node| {
            node.block();
            node.prune_states(60);
            node.compact();
        });
        bench.inc("two", "one").await.unwrap();
        bench.same(&["full", "one", "two"]).await;
        // The base's own block goes, so that nothing but the margin speaks for the versions.
        bench.node(|node| {
            (0..10).for_each(|_| node.block());
            node.prune_blocks(75);
            node.compact();
        });
        bench.inc("three", "two").await.unwrap();
        bench.same(&["full", "one", "two", "three"]).await;
    });
}

#[test]
fn a_counter_that_fell_is_found_by_what_it_gave_out_again() {
    block_on(async {
        let bench = Bench::new(20).await;
        // The newest versions are those of deletes.
        bench.node(|node| {
            node.commit(vec![set("/batches/ff", "x")]);
            (0..5).for_each(|_| node.commit(vec![(b"/batches/ff".to_vec(), None)]));
        });
        let full = bench.full("full").await;
        bench.node(|node| {
            node.compact();
            node.restart();
            assert!(node.next < full.last_version);
        });
        let error = bench.inc("inc", "full").await.unwrap_err();
        assert_eq!(error.code(), "mismatch", "the highest version has fallen: {error}");
        // A key that is new at a version that the base is complete to.
        bench.node(|node| {
            node.commit(vec![set("/0/m/new", "x")]);
            (0..5).for_each(|_| node.block());
        });
        let error = bench.inc("inc", "full").await.unwrap_err();
        assert_eq!(error.code(), "mismatch");
        assert!(error.to_string().contains("/0/m/new is new at version"), "{error}");
        let options = backup::Options {
            since: Since::Segment(bench.path("full")),
            on_mismatch_full: true,
            ..crate::proof::to_file(&bench.origin(), &bench.path("other"))
        };
        assert_eq!(backup::run(options, Progress::new()).await.unwrap().kind, "full");
        bench.same(&["other"]).await;
    });
}

#[test]
fn a_delete_that_no_version_speaks_for_is_no_increment() {
    block_on(async {
        let bench = Bench::new(20).await;
        bench.node(|node| node.commit(vec![set("/batches/ff", "x")]));
        let full = bench.full("full").await;
        bench.node(|node| {
            node.commit(vec![(b"/batches/ff".to_vec(), None)]);
            node.compact();
            node.restart();
            assert_eq!(node.highest(), full.last_version);
        });
        let error = bench.inc("inc", "full").await.unwrap_err();
        assert_eq!(error.code(), "mismatch");
        assert!(
            error.to_string().contains("/batches/ff is gone, but the source's versions end at"),
            "{error}"
        );
    });
}

#[test]
fn deletes_of_the_stores_of_go_header_are_not_called_exact() {
    block_on(async {
        let bench = Bench::new(20).await;
        bench.node(|node| node.commit(vec![set("/0/headerSync/head", "\"AB\"")]));
        bench.full("full").await;
        bench.node(Node::block);
        assert_eq!(bench.inc("one", "full").await.unwrap().deletes, "derived");
        bench.node(|node| node.commit(vec![(b"/0/headerSync/head".to_vec(), None)]));
        assert_eq!(bench.inc("two", "one").await.unwrap().deletes, "exact");
    });
}

#[test]
fn versions_given_out_again_above_the_bases_block_are_sent_though_nobody_asked() {
    block_on(async {
        let bench = Bench::new(20).await;
        bench.node(|node| {
            node.commit(vec![set("/batches/ff", "x")]);
            (0..5).for_each(|_| node.commit(vec![(b"/batches/ff".to_vec(), None)]));
        });
        let full = bench.full("full").await;
        bench.node(|node| {
            node.compact();
            node.restart();
            // Below the base's last version: only a lower since finds them.
            (0..2).for_each(|_| node.commit(vec![set("/0/m/pending_header", "another")]));
            (0..3).for_each(|_| node.block());
        });
        let inc = bench.inc("inc", "full").await.unwrap();
        assert!(inc.since_version < full.next_since);
        bench.same(&["full", "inc"]).await;
    });
}

#[test]
fn what_is_not_the_base_any_more_is_a_mismatch() {
    block_on(async {
        let bench = Bench::new(20).await;
        bench.full("full").await;
        let kept = bench.node(|node| node.clone());
        let refused = async |change: &dyn Fn(&mut Node)| {
            bench.node(|node| {
                *node = kept.clone();
                change(node);
            });
            let error = bench.inc("inc", "full").await.unwrap_err();
            assert_eq!(error.code(), "mismatch", "{error}");
            assert!(!bench.path("inc").exists());
            error.to_string()
        };
        assert!(refused(&|node| node.id = vec![8; 16]).await.contains("found one of store"));
        assert!(refused(&|node| node.id.clear()).await.contains("without an id"));
        assert!(refused(&|node| node.roll_back(18)).await.contains("found one at height 20"));
        let same_again = |node: &mut Node| {
            node.roll_back(18);
            (0..4).for_each(|_| node.block());
        };
        assert!(refused(&same_again).await.contains("rolled back and written again"));
        let another = |node: &mut Node| {
            node.salt = 1;
            same_again(node);
        };
        assert!(refused(&another).await.contains("it is of another chain"));
        let lost = |node: &mut Node| drop(node.entries.remove(&key::header(20)));
        assert!(refused(&lost).await.contains("though it was not pruned"));
        // A key changed far below the margin: its version says so.
        let changed = |node: &mut Node| {
            node.next = 60_000;
            node.block();
            node.entries.get_mut(&b"/0/m/quiet"[..]).unwrap()[0].version += 1;
        };
        bench.node(|node| {
            *node = kept.clone();
            node.commit(vec![set("/0/m/quiet", "x"), set("/0/m/other", "y")]);
            node.next = 30_000;
            (0..3).for_each(|_| node.block());
        });
        std::fs::remove_file(bench.path("full")).unwrap();
        std::fs::remove_file(bench.path("full.json")).unwrap();
        bench.full("full").await;
        bench.node(changed);
        let error = bench.inc("inc", "full").await.unwrap_err();
        assert!(error.to_string().contains("key /0/m/quiet at version"), "{error}");
    });
}

#[test]
fn a_bare_version_promises_no_deletes_and_keeps_a_margin() {
    block_on(async {
        let bench = Bench::new(20).await;
        bench.node(|node| {
            node.next = 30_000;
            (0..3).for_each(|_| node.block());
        });
        let full = bench.full("full").await;
        bench.node(|node| (0..3).for_each(|_| node.block()));
        let inc = take(&bench.origin(), &bench.path("inc"), Since::Version(full.next_since)).await.unwrap();
        assert_eq!((inc.since_version, inc.deletes), (full.next_since - serving::MARGIN, "unknown"));
        let paths = [bench.path("full"), bench.path("inc")];
        assert_eq!(digest_at(&paths, 0, false).await.unwrap(), bench.node(|node| node.digest()));
    });
}

#[test]
fn a_database_that_is_not_ev_nodes_is_compared_with_all_keys_of_its_base() {
    block_on(async {
        let bench = Bench::new(0).await;
        bench.node(|node| (0..50).for_each(|at| node.commit(vec![set(format!("key {at}"), "x")])));
        bench.full("full").await;
        bench.node(|node| {
            node.commit(vec![(b"key 7".to_vec(), None), set("key 8", "y")]);
            node.compact();
        });
        let inc = bench.inc("inc", "full").await.unwrap();
        assert_eq!((inc.entries, inc.deletes), (2, "exact"));
        bench.same(&["full", "inc"]).await;
        // All of its keys go: a list of none is a list.
        let options = backup::Options {
            since: Since::Segment(bench.path("inc")),
            exact: Some(false),
            ..crate::proof::to_file(&bench.origin(), &bench.path("last"))
        };
        bench.node(|node| {
            node.next = 70;
            for at in 0..50 {
                node.commit(vec![(format!("key {at}").into_bytes(), None)]);
            }
            let newest = node.entries.remove(&b"key 9"[..]);
            node.compact();
            node.entries.extend(newest.map(|entries| (b"key 9".to_vec(), entries)));
        });
        backup::run(options, Progress::new()).await.unwrap();
        bench.same(&["full", "inc", "last"]).await;
    });
}

/// Whatever a node does between two backups, the chain says what it holds, or a full backup is asked for.
#[test]
fn chains_over_anything_that_a_node_does() {
    block_on(async {
        let mut random = Random::new();
        let (mut increments, mut mismatches) = (0, 0);
        for round in 0..8 {
            let bench = Bench::new(15).await;
            let mut chain = vec!["s0".to_owned()];
            bench.full("s0").await;
            for step in 1..14 {
                bench.node(|node| {
                    for _ in 0..random.below(5) {
                        // A node prunes in one of two ways, as it is configured.
                        do_something(node, round % 2 == 0, &mut random);
                    }
                });
                let name = format!("s{step}");
                let base = chain.last().unwrap().clone();
                match bench.inc(&name, &base).await {
                    Ok(_) => {
                        increments += 1;
                        chain.push(name);
                    }
                    Err(error) => {
                        assert_eq!(error.code(), "mismatch", "round {round}, step {step}: {error}");
                        mismatches += 1;
                        bench.full(&name).await;
                        chain = vec![name];
                    }
                }
                let names: Vec<_> = chain.iter().map(String::as_str).collect();
                let expected = bench.node(|node| node.digest());
                let paths: Vec<_> = names.iter().map(|name| bench.path(name)).collect();
                let found = digest_at(&paths, 0, false).await.unwrap();
                assert_eq!(found, expected, "round {round}, step {step}, {names:?}");
            }
            let names: Vec<_> = chain.iter().map(String::as_str).collect();
            bench.same(&names).await;
        }
        assert!(increments > mismatches, "{increments} increments, {mismatches} mismatches");
    });
}

fn do_something(node: &mut Node, blocks: bool, random: &mut Random) {
    match random.below(12) {
        0..=4 => (0..random.below(6)).for_each(|_| node.block()),
        5 => node.compact(),
        6 => node.restart(),
        7 => {
            node.compact();
            node.restart();
        }
        8 | 9 if blocks => node.prune_blocks(node.tip.saturating_sub(3 + random.below(8) as u64)),
        8 | 9 => node.prune_states(node.tip.saturating_sub(2 + random.below(8) as u64)),
        10 => {
            let key = format!("/0/m/key {}", random.below(6));
            let value = (random.below(2) == 0).then(|| random.below(3).to_le_bytes().to_vec());
            node.commit(vec![(key.into_bytes(), value)]);
        }
        _ if random.below(4) == 0 => {
            let floor = node.mark(key::PRUNED_BLOCKS) + 1;
            let to = node.tip.saturating_sub(1 + random.below(3) as u64).max(floor);
            if to < node.tip {
                node.roll_back(to);
                node.salt += random.below(2) as u64;
            }
        }
        _ => node.block(),
    }
}
