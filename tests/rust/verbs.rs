#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests, and files made by hand"
)]
use evbackup::backup::{self, Backup, Origin, Output, Since};
use evbackup::base::progress::Progress;
use evbackup::error::{Error, Result};
use evbackup::flow::sample::{self, Shape};
use evbackup::rpc::{Address, Connect, Listen, Server};
use evbackup::{apply, digest, inspect, restore, serve, verify};
use std::path::{Path, PathBuf};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

async fn server(path: &Path) -> Server {
    serve::run(serve::Options {
        path: path.to_owned(),
        reading: evbackup::badger::ReadOptions::default(),
        listen: Listen::new("127.0.0.1:0"),
    })
    .await
    .unwrap()
}

fn at(server: &Server) -> Origin {
    let address = Address::parse(&server.address().to_string(), 7331).unwrap();
    Origin::Server(Box::new(Connect::new(address)))
}

async fn take(origin: &Origin, path: &Path, since: Since) -> Result<Backup> {
    let options =
        backup::Options { since, ..backup::Options::new(origin.clone(), Output::File(path.to_owned())) };
    backup::run(options, Progress::new()).await
}

async fn report(paths: &[PathBuf], level: verify::Level) -> verify::Report {
    let options = verify::Options { paths: paths.to_vec(), level, ..Default::default() };
    verify::run(options, Progress::new()).await.unwrap()
}

async fn rebuild(paths: &[PathBuf], dest: &Path) -> Result<restore::Restored> {
    let options = restore::Options {
        paths: paths.to_vec(),
        dest: dest.to_owned(),
        engine: Some("rocksdb".into()),
        ..Default::default()
    };
    restore::run(options, Progress::new()).await
}

async fn digest_of(paths: &[PathBuf], history: bool) -> String {
    digest::run(digest::Options { paths: paths.to_vec(), history, ..Default::default() }, Progress::new())
        .await
        .unwrap()
}

/// The main job: a chain over the wire, proven, restored, applied, and the same at every station.
#[test]
fn a_chain_over_the_wire_comes_back_whole() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        sample::create(&path("node"), 200, Shape::default()).unwrap();
        let server = server(&path("node")).await;
        let node = at(&server);
        let full = take(&node, &path("full.badger"), Since::Version(0)).await.unwrap();
        assert_eq!((full.kind, full.announced_height, full.complete_height), ("full", 200, 200));
        assert_eq!((full.complete_version, full.next_since, full.deletes), (200, 200, "exact"));

        sample::extend(&path("node"), 50, Shape::default()).unwrap();
        let inc = take(&node, &path("inc.badger"), Since::Segment(path("full.badger"))).await.unwrap();
        assert_eq!(
            (inc.kind, inc.since_version, inc.complete_version, inc.tip_height),
            ("inc", 200, 250, 250)
        );
        let again = take(&node, &path("inc2.badger"), Since::Segment(path("inc.badger"))).await.unwrap();
        assert_eq!((again.entries, again.complete_version, again.bytes), (0, 250, 0));

        let chain = [path("inc2.badger"), path("full.badger"), path("inc.badger")];
        for level in [verify::Level::Quick, verify::Level::Full] {
            let report = report(&chain, level).await;
            assert!(report.ok, "{:?}", report.findings);
            assert!(
                report.findings.iter().all(|finding| finding.code == "order-mended"),
                "{:?}",
                report.findings
            );
            assert_eq!(report.complete_version, Some(250));
        }
        let restored = rebuild(&chain, &path("restored")).await.unwrap();
        assert_eq!((restored.complete_version, restored.tip_height), (250, 250));
        let stations = [vec![path("node")], vec![path("restored")], chain.to_vec()];
        for history in [false, true] {
            let expected = digest_of(&stations[0], history).await;
            for station in &stations {
                assert_eq!(digest_of(station, history).await, expected, "{station:?}");
            }
        }

        rebuild(&chain[1..2], &path("older")).await.unwrap();
        let options = apply::Options { paths: chain.to_vec(), store: path("older") };
        let applied = apply::run(options, Progress::new()).await.unwrap();
        assert_eq!((applied.complete_version, applied.new_history), (250, false));
        assert_eq!(digest_of(&[path("older")], true).await, digest_of(&[path("node")], true).await);
        server.stop().await.unwrap();
    });
}

#[test]
fn a_store_on_this_machine_gives_the_same_segment_as_its_server() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        sample::create(&path("node"), 50, Shape::default()).unwrap();
        let server = server(&path("node")).await;
        let wired = take(&at(&server), &path("a.badger"), Since::Version(0)).await.unwrap();
        let local =
            take(&Origin::datastore(path("node")), &path("b.badger"), Since::Version(0)).await.unwrap();
        assert_eq!(wired.sha256, local.sha256);
        assert_eq!(std::fs::read(path("a.badger")).unwrap(), std::fs::read(path("b.badger")).unwrap());
        assert_eq!(
            std::fs::read(path("a.badger.keys")).unwrap(),
            std::fs::read(path("b.badger.keys")).unwrap()
        );
    });
}

#[test]
fn chains_with_holes_and_strangers_are_refused_by_name() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let node = Origin::datastore(path("node"));
        sample::create(&path("node"), 10, Shape::default()).unwrap();
        take(&node, &path("full"), Since::Version(0)).await.unwrap();
        let mut last = path("full");
        for number in 1..=3 {
            sample::extend(&path("node"), 5, Shape::default()).unwrap();
            let next = path(&format!("inc{number}"));
            take(&node, &next, Since::Segment(last)).await.unwrap();
            last = next;
        }
        sample::create(&path("other"), 12, Shape::default()).unwrap();
        let other = Origin::datastore(path("other"));
        take(&other, &path("other-full"), Since::Version(0)).await.unwrap();
        sample::extend(&path("other"), 5, Shape::default()).unwrap();
        take(&other, &path("other-inc"), Since::Segment(path("other-full"))).await.unwrap();

        let refused = |names: &'static [&'static str]| {
            let paths: Vec<_> = names.iter().map(|name| path(name)).collect();
            let dest = path("dest");
            async move {
                let verified = report(&paths, verify::Level::Quick).await;
                let error: Error = rebuild(&paths, &dest).await.unwrap_err();
                assert!(!dest.exists());
                let code = verified.findings.iter().find(|finding| finding.level == verify::Severity::Error);
                (code.map(|finding| finding.code), error.code())
            }
        };
        assert_eq!(refused(&["full", "inc1", "inc3"]).await, (Some("gap"), "missing"));
        assert_eq!(refused(&["inc1", "inc2"]).await, (Some("gap"), "missing"));
        assert_eq!(refused(&["full", "other-inc"]).await, (Some("foreign"), "mismatch"));
        assert_eq!(refused(&["full", "other-full"]).await, (Some("foreign"), "mismatch"));
        let foreign = take(&other, &path("x"), Since::Segment(path("full"))).await.unwrap_err();
        assert_eq!(foreign.code(), "mismatch");
        let options = backup::Options {
            since: Since::Segment(path("full")),
            on_mismatch_full: true,
            ..backup::Options::new(other.clone(), Output::File(path("x")))
        };
        let full = backup::run(options, Progress::new()).await.unwrap();
        assert_eq!(full.kind, "full");
        assert!(full.notes.iter().any(|note| note.contains("instead of an increment")), "{:?}", full.notes);
    });
}

#[test]
fn a_folder_continues_its_own_newest_chain() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("backups")).unwrap();
        sample::create(&path("node"), 10, Shape::default()).unwrap();
        let into = || backup::Options {
            since: Since::Auto,
            ..backup::Options::new(Origin::datastore(path("node")), Output::Folder(path("backups")))
        };
        let kinds = [("full", 10), ("inc", 15), ("inc", 20)];
        for (kind, tip) in kinds {
            let taken = backup::run(into(), Progress::new()).await.unwrap();
            assert_eq!((taken.kind, taken.tip_height), (kind, tip));
            assert!(taken.path.starts_with(path("backups")));
            sample::extend(&path("node"), 5, Shape::default()).unwrap();
        }
        let segments: Vec<_> =
            std::fs::read_dir(path("backups")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let segments: Vec<_> =
            segments.into_iter().filter(|path| path.extension().is_some_and(|e| e == "badger")).collect();
        assert_eq!(segments.len(), 3);
        assert!(report(&segments, verify::Level::Full).await.ok);
    });
}

#[test]
fn the_bare_segment_goes_into_a_stream_and_its_manifest_into_a_file() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        sample::create(&path("node"), 10, Shape::default()).unwrap();
        let pipe = std::fs::File::create(path("piped.badger")).unwrap();
        let writer: backup::SharedWriter = std::sync::Arc::new(std::sync::Mutex::new(Box::new(pipe)));
        let output = Output::Stream { writer, manifest: Some(path("piped.badger.json")) };
        let taken =
            backup::run(backup::Options::new(Origin::datastore(path("node")), output), Progress::new())
                .await
                .unwrap();
        assert_eq!(taken.path, Path::new("-"));
        let report = report(&[path("piped.badger")], verify::Level::Full).await;
        assert!(report.ok, "{:?}", report.findings);
        assert_eq!(report.entries, Some(taken.entries));
    });
}

#[test]
fn inspect_tells_a_segment_from_a_store() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        sample::create(&path("node"), 10, Shape::default()).unwrap();
        take(&Origin::datastore(path("node")), &path("full"), Since::Version(0)).await.unwrap();
        let look = async |name: &str| {
            inspect::run(path(name), true, evbackup::badger::ReadOptions::default(), Progress::new())
                .await
                .unwrap()
        };
        let inspect::Inspected::Datastore(store) = look("node").await else { panic!("a store") };
        assert_eq!((store.engine, store.tip_height, store.pinned_version), ("rocksdb", 10, 10));
        let inspect::Inspected::Segment(segment) = look("full").await else { panic!("a segment") };
        assert_eq!((segment.kind, segment.has_manifest, segment.complete_version), ("full", true, Some(10)));
        std::fs::remove_file(path("full.json")).unwrap();
        let inspect::Inspected::Segment(bare) = look("full").await else { panic!("a segment") };
        assert_eq!((bare.kind, bare.has_manifest, bare.entries), ("unknown", false, segment.entries));
    });
}

/// Nights without a block: increments of no bytes all look alike, and the chain goes on behind them.
#[test]
fn increments_without_news_keep_a_chain_usable() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let node = Origin::datastore(path("node"));
        sample::create(&path("node"), 10, Shape::default()).unwrap();
        let mut chain = vec![path("s0")];
        take(&node, &chain[0], Since::Version(0)).await.unwrap();
        for (number, blocks) in [0, 0, 5, 0, 0, 3].into_iter().enumerate() {
            if blocks > 0 {
                sample::extend(&path("node"), blocks, Shape::default()).unwrap();
            }
            let next = path(&format!("s{}", number + 1));
            let taken = take(&node, &next, Since::Segment(chain[number].clone())).await.unwrap();
            assert_eq!(taken.bytes > 0, blocks > 0);
            chain.push(next);
        }
        // One more without news, and one with, both behind s1, which s2 follows already.
        take(&node, &path("idle"), Since::Segment(path("s6"))).await.unwrap();
        let mut shuffled = chain.clone();
        shuffled.reverse();
        shuffled.push(path("idle"));
        let report = report(&shuffled, verify::Level::Full).await;
        assert!(report.ok, "{:?}", report.findings);
        assert_eq!(report.complete_version, Some(18));
        rebuild(&shuffled, &path("restored")).await.unwrap();
        assert_eq!(digest_of(&[path("restored")], true).await, digest_of(&[path("node")], true).await);

        // Night after night into a store, and each segment twice.
        rebuild(&chain[..1], &path("stepwise")).await.unwrap();
        for segment in &chain[1..] {
            for _ in 0..2 {
                let options = apply::Options { paths: vec![segment.clone()], store: path("stepwise") };
                apply::run(options, Progress::new()).await.unwrap();
            }
        }
        assert_eq!(digest_of(&[path("stepwise")], true).await, digest_of(&[path("node")], true).await);

        take(&node, &path("fork"), Since::Segment(path("s2"))).await.unwrap();
        shuffled.push(path("fork"));
        let error = rebuild(&shuffled, &path("forked")).await.unwrap_err();
        assert_eq!(error.code(), "mismatch");
        assert!(error.to_string().contains("found two"), "{error}");
    });
}

/// A base that lists no keys, as one that went through a pipe, has increments that list none either: a list that begins in the middle
/// would call everything before it gone.
#[test]
fn an_increment_of_a_base_without_keys_lists_none() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let node = Origin::datastore(path("node"));
        sample::create(&path("node"), 10, Shape::default()).unwrap();
        let pipe = std::fs::File::create(path("piped.badger")).unwrap();
        let writer: backup::SharedWriter = std::sync::Arc::new(std::sync::Mutex::new(Box::new(pipe)));
        let output = Output::Stream { writer, manifest: Some(path("piped.badger.json")) };
        backup::run(backup::Options::new(node.clone(), output), Progress::new()).await.unwrap();
        sample::extend(&path("node"), 5, Shape::default()).unwrap();
        take(&node, &path("inc.badger"), Since::Segment(path("piped.badger"))).await.unwrap();
        assert!(!path("inc.badger.keys").exists());
        let chain = [path("piped.badger"), path("inc.badger")];
        assert!(report(&chain, verify::Level::Full).await.ok);

        take(&node, &path("full.badger"), Since::Version(0)).await.unwrap();
        std::fs::remove_file(path("full.badger.keys")).unwrap();
        let error = take(&node, &path("inc2.badger"), Since::Segment(path("full.badger"))).await.unwrap_err();
        assert_eq!((error.code(), error.path()), ("missing", Some(&*path("full.badger.keys"))));
    });
}

/// `overwrite` must not cost the only base: an increment in its place would follow nothing.
#[test]
fn an_increment_does_not_take_the_place_of_its_base() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let node = Origin::datastore(path("node"));
        sample::create(&path("node"), 10, Shape::default()).unwrap();
        take(&node, &path("full.badger"), Since::Version(0)).await.unwrap();
        let options = backup::Options {
            since: Since::Segment(path("full.badger")),
            overwrite: true,
            ..backup::Options::new(node, Output::File(path("full.badger")))
        };
        let error = backup::run(options, Progress::new()).await.unwrap_err();
        assert_eq!(error.code(), "invalid-argument");
        assert!(report(&[path("full.badger")], verify::Level::Full).await.ok);
    });
}
