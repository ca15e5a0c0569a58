#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use evbackup::base::checksum::{crc32c, sha256_hex};
use evbackup::base::durable::{DirLock, PartDir, PartFile, Replace, private_dir, require_space, write_file};
use evbackup::error::Result;
use evbackup::repo::keys::{KeysReader, KeysWriter};
use evbackup::repo::manifest::{Deletes, FORMAT, IndexBlock, Kind, Manifest, Pruned};
use evbackup::repo::pair;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Tells this binary, started by one of its own tests, what to do over and over until it is killed, and where.
const WORK: &str = "EVBACKUP_TEST_WORK";
const WHERE: &str = "EVBACKUP_TEST_WHERE";
const KILLS: u32 = 150;

/// The generation, as text, some number of times: any two generations differ in length or content.
fn content(generation: u64) -> Vec<u8> {
    let line = format!("{generation:020}\n");
    line.repeat(1 + usize::try_from(generation % 700).unwrap()).into_bytes()
}

fn generation_of(content: &[u8]) -> u64 {
    std::str::from_utf8(&content[..20]).unwrap().parse().unwrap()
}

fn manifest(content: &[u8]) -> Manifest {
    let bytes = content.len() as u64;
    let crc = format!("{:08x}", crc32c(0, content));
    Manifest {
        format: FORMAT,
        segment: "a.badger".into(),
        kind: Kind::Full,
        via: "rpc".into(),
        encoding: vec![],
        bytes,
        sha256: sha256_hex(content),
        entries: 1,
        frames: 1,
        since_version: 0,
        last_version: 1,
        complete_version: 1,
        next_since: 1,
        pinned: true,
        store_id: None,
        parent: None,
        deletes: Deletes::Exact,
        exact: false,
        listed: 0,
        lacks: vec![],
        chain_id: None,
        blocks: None,
        announced_height: 0,
        tip_height: 0,
        complete_height: 0,
        complete_hash: None,
        block_version: None,
        highest_height: 0,
        included_height: 0,
        pruned: Pruned::default(),
        reuses_versions: false,
        source: "test".into(),
        layout: "F".into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        elapsed_s: 0.0,
        tool: "test".into(),
        run_id: String::new(),
        notes: vec![],
        keys: None,
        runs: None,
        index: vec![IndexBlock { offset: 0, bytes, crc32c: crc, entries: 1 }],
        pieces: None,
    }
}

fn write_pair(segment: &Path, generation: u64, replace: Replace) -> Result<()> {
    let mut part = pair::begin(segment, replace)?;
    let content = content(generation);
    part.append(&content)?;
    let mut manifest = manifest(&content);
    let mut keys = None;
    if !generation.is_multiple_of(3) {
        let mut writer = KeysWriter::new(pair::begin_keys(&part)?, pair::keys_path(segment));
        for key in 0..generation % 50 {
            writer.put(&key.to_be_bytes(), generation, key)?;
        }
        let (file, about) = writer.finish(true)?;
        (keys, manifest.keys) = (Some(file), Some(about));
    }
    pair::commit(part, keys, &manifest, replace)
}

/// Reads a pair and proves that its parts are of one generation, which is returned.
fn read_pair(segment: &Path) -> Result<u64> {
    let mut pair = pair::open(segment)?;
    let mut bytes = Vec::new();
    pair.segment.read_to_end(&mut bytes).unwrap();
    let generation = generation_of(&bytes);
    assert_eq!(bytes, content(generation), "a segment that no run has written");
    let manifest = pair.manifest.expect("a segment without its manifest");
    assert_eq!(manifest.sha256, sha256_hex(&bytes), "a manifest of another segment");
    assert_eq!(manifest.keys.is_some(), !generation.is_multiple_of(3));
    if let Some(expected) = &manifest.keys {
        let keys = pair.keys.expect("a pair without its keys");
        let mut reader = KeysReader::new(keys, pair::keys_path(segment))?.expecting(expected);
        while reader.advance()? {
            assert_eq!(reader.version(), generation, "keys of another segment");
        }
    }
    Ok(generation)
}

fn build_dir(dest: &Path, generation: u64) -> Result<PartDir> {
    let part = PartDir::create(dest)?;
    private_dir(&part.path().join("sub"))?;
    for name in ["a", "sub/b", "sub/c"] {
        write_file(&part.path().join(name), &content(generation), Replace::Never)?;
    }
    Ok(part)
}

fn read_dir(dir: &Path) -> u64 {
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let generation = generation_of(&read("a"));
    for name in ["a", "sub/b", "sub/c"] {
        assert_eq!(read(name), content(generation), "a directory of two generations");
    }
    generation
}

/// No test by itself: what the child processes of the tests below run until they are killed.
#[test]
fn child() {
    let (Ok(work), Ok(at)) = (std::env::var(WORK), std::env::var(WHERE)) else { return };
    // The worst one: whatever is private must be so by our own doing.
    rustix::process::umask(rustix::fs::Mode::empty());
    let at = PathBuf::from(at);
    match work.as_str() {
        "pairs" => loop {
            let generation = read_pair(&at).map_or(1, |generation| generation + 1);
            write_pair(&at, generation, Replace::Always).unwrap();
        },
        "dirs" => loop {
            let generation = read_dir(&at) + 1;
            let old = DirLock::exclusive(&at).unwrap();
            let part = build_dir(&at, generation).unwrap();
            part.swap(&old, generation.is_multiple_of(2)).unwrap();
        },
        other => panic!("no such work: {other}"),
    }
}

fn start(work: &str, at: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["durable::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(WORK, work)
        .env(WHERE, at)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills it, unless it has failed by itself.
fn kill(mut child: Child) {
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), None, "{}", String::from_utf8_lossy(&output.stderr));
}

/// Pseudo-random milliseconds: a new row of numbers in every run.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self(u64::from(now.subsec_nanos()) | 1)
    }

    fn next(&mut self, most: u64) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_micros((self.0 >> 33) % (most * 1000))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_run_killed_at_any_moment_leaves_the_old_pair_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let segment = folder.path().join("a.badger");
    write_pair(&segment, 1, Replace::Never).unwrap();
    let (mut last, mut moments, mut swaps_finished) = (1, Moments::new(), 0);
    // On a busy machine it takes more kills until one of them has hit something.
    for round in 0..10 * KILLS {
        if round >= KILLS && swaps_finished > 0 {
            break;
        }
        let child = start("pairs", &segment);
        let until = Instant::now() + Duration::from_millis(5) + moments.next(30);
        // Readers beside a living run see one or the other too.
        while Instant::now() < until {
            let seen = read_pair(&segment).unwrap();
            assert!(seen >= last, "from {last} back to {seen}");
            last = seen;
        }
        kill(child);
        swaps_finished += u32::from(folder.path().join("a.badger.json.next").exists());
        for name in names(folder.path()) {
            let mode = folder.path().join(&name).metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{name}");
        }
        // The next run comes first every other time, a reader the others.
        if round.is_multiple_of(2) {
            let seen = read_pair(&segment).unwrap();
            assert!(seen >= last, "from {last} back to {seen}");
            last = seen;
        } else {
            last += 1_000_000;
            write_pair(&segment, last, Replace::Always).unwrap();
            assert_eq!(read_pair(&segment).unwrap(), last);
            let expected = ["a.badger", "a.badger.json", "a.badger.keys"];
            assert_eq!(names(folder.path()), expected[..if last.is_multiple_of(3) { 2 } else { 3 }]);
        }
    }
    assert!(swaps_finished > 0, "no kill between the steps: the test proves nothing");
}

#[test]
fn a_run_killed_at_any_moment_leaves_the_old_directory_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let dest = folder.path().join("db");
    build_dir(&dest, 1).unwrap().commit().unwrap();
    let (mut last, mut moments) = (1, Moments::new());
    for round in 0..10 * KILLS {
        if round >= KILLS && last > 1 {
            break;
        }
        let child = start("dirs", &dest);
        std::thread::sleep(Duration::from_millis(5) + moments.next(30));
        kill(child);
        let seen = read_dir(&dest);
        assert!(seen >= last, "from {last} back to {seen}");
        last = seen;
        for name in names(folder.path()) {
            let path = folder.path().join(&name);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{name}");
            if name.starts_with("db.replaced-") {
                // Old data is never half there.
                read_dir(&path);
                evbackup::base::durable::remove_tree(&path).unwrap();
            }
        }
        // The next run works, and clears what was left.
        drop(PartDir::create(&dest).unwrap());
        assert_eq!(names(folder.path()), ["db"]);
    }
    assert!(last > 1);
}

#[test]
fn of_many_runs_that_may_not_replace_one_wins() {
    for _ in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let segment = folder.path().join("a.badger");
        let results: Vec<_> = std::thread::scope(|scope| {
            let segment = &segment;
            let run = |generation: u64| scope.spawn(move || write_pair(segment, generation, Replace::Never));
            let runs: Vec<_> = (1..=4).map(run).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        let won: Vec<_> = (1_u64..).zip(&results).filter(|(_, result)| result.is_ok()).collect();
        assert_eq!(won.len(), 1);
        assert_eq!(read_pair(&segment).unwrap(), won[0].0);
        for error in results.into_iter().filter_map(Result::err) {
            assert!(["locked", "exists"].contains(&error.code()), "{error}");
        }
        assert!(names(folder.path()).iter().all(|name| !name.contains(".part") && !name.contains(".next")));
    }
}

#[test]
fn runs_that_replace_each_other_never_show_a_reader_half_a_pair() {
    let folder = tempfile::tempdir().unwrap();
    let segment = folder.path().join("a.badger");
    write_pair(&segment, 1, Replace::Never).unwrap();
    let stop = AtomicBool::new(false);
    let (written, read) = std::thread::scope(|scope| {
        let (segment, stop) = (&segment, &stop);
        let write = |first: u64| {
            scope.spawn(move || {
                let (mut written, mut generation) = (0, first);
                while !stop.load(Relaxed) {
                    match write_pair(segment, generation, Replace::Always) {
                        Ok(()) => written += 1,
                        Err(error) => assert_eq!(error.code(), "locked", "{error}"),
                    }
                    generation += 1;
                }
                written
            })
        };
        let look = || {
            scope.spawn(move || {
                let mut read = 0;
                while !stop.load(Relaxed) {
                    read_pair(segment).unwrap();
                    read += 1;
                }
                read
            })
        };
        let writers: Vec<_> = (1..4).map(|number| write(number * 1_000_000)).collect();
        let readers = [look(), look()];
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Relaxed);
        let sum = |threads: Vec<std::thread::ScopedJoinHandle<'_, u64>>| {
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
        };
        (sum(writers), sum(readers.into()))
    });
    assert!(written > 0 && read > 0);
}

/// A mounted file system of our own, unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn tiny(at: PathBuf) -> Option<Self> {
        private_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&at).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_before_and_when_it_happens_and_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::tiny(folder.path().join("disk")) else {
        #[expect(clippy::print_stderr, reason = "a test that is not run says so")]
        {
            eprintln!("skipped: only root can mount a small file system");
        }
        return;
    };
    let segment = mounted.0.join("a.badger");
    write_pair(&segment, 1, Replace::Never).unwrap();
    assert_eq!(require_space(&segment, 1 << 20).unwrap_err().code(), "no-space");
    let mut part = PartFile::create(&segment).unwrap();
    let error = part.append(&vec![7; 1 << 20]).unwrap_err();
    assert_eq!((error.code(), error.errno()), ("no-space", Some(28)));
    assert_eq!(error.path(), Some(part.path()));
    // What was written is unknown now, so it cannot be committed, whatever a second try would say.
    assert_eq!(part.commit(Replace::Always).unwrap_err().code(), "io");
    assert_eq!(names(&mounted.0), ["a.badger", "a.badger.json", "a.badger.keys"]);
    assert_eq!(read_pair(&segment).unwrap(), 1);
}

#[test]
fn a_folder_that_may_not_be_written_is_denied() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("closed");
    private_dir(&at).unwrap();
    std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o500)).unwrap();
    match PartFile::create(&at.join("a")) {
        Err(error) => assert_eq!((error.code(), error.errno()), ("denied", Some(13))),
        // Root may write anywhere.
        Ok(_) => assert!(rustix::process::geteuid().is_root()),
    }
    std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o700)).unwrap();
}
