#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::proof::{
    Random, at, block_on, digest_of_store, into_badger, into_rocksdb, names, put, replay, restore_to,
    serve_listen, serve_store, take, to_file, unlocked,
};
use evbackup::backup::{self, Origin, Since};
use evbackup::base::durable::{private_dir, remove_file, remove_tree};
use evbackup::base::progress::{Phase, Progress};
use evbackup::error::{Error, Kind, Result};
use evbackup::flow::sample::{self, Shape};
use evbackup::repo::pair::{keys_path, manifest_path};
use evbackup::rpc::Listen;
use evbackup::{restore, verify};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A node, a full segment of it, and room beside.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(blocks: u64) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        sample::create(&this.path("node"), blocks, Shape { data_bytes: 2_000 }).unwrap();
        private_dir(&this.path("in")).unwrap();
        private_dir(&this.path("out")).unwrap();
        block_on(take(
            &Origin::datastore(this.path("node")),
            &this.path("in/full.badger"),
            Since::Version(0),
        ))
        .unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn full(&self) -> Vec<PathBuf> {
        vec![self.path("in/full.badger")]
    }

    fn out(&self) -> Vec<String> {
        names(&self.path("out"))
    }
}

/// Restores over what is there, if anything may be.
fn restore_over(paths: &[PathBuf], dest: &Path) -> Result<restore::Restored> {
    let options = restore::Options { overwrite: true, ..into_rocksdb(paths, dest) };
    unlocked(|| block_on(restore::run(options.clone(), Progress::new())))
}

fn is_whole(segment: &Path) -> bool {
    let options = verify::Options { paths: vec![segment.to_owned()], ..Default::default() };
    block_on(verify::run(options, Progress::new())).unwrap().ok
}

#[expect(clippy::print_stderr, reason = "a test that is not run says so")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// A small file system in memory, unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn of(at: PathBuf, size: &str) -> Option<Self> {
        private_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at).stderr(Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success()).then_some(Self(at));
        if mounted.is_none() {
            skipped("only root can mount a small file system");
        }
        mounted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn home() -> Option<PathBuf> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    (home.is_dir() && home != Path::new("/")).then(|| home.canonicalize().unwrap())
}

#[test]
fn what_must_not_be_replaced_is_refused_and_untouched() {
    let scene = Scene::new(20);
    let paths = scene.full();
    put(&scene.path("file"), b"precious");
    private_dir(&scene.path("other")).unwrap();
    put(&scene.path("other/file"), b"precious");
    private_dir(&scene.path("empty")).unwrap();
    symlink(scene.path("other"), scene.path("link")).unwrap();
    let mounted = Mounted::of(scene.path("mounted"), "1m");
    let mut targets = vec![
        (scene.path("file"), "found a file"),
        (scene.path("other"), "found a directory with something else"),
        (scene.path("link"), "found a symbolic link"),
        (scene.path("in"), "found the one that the segments are in"),
        (PathBuf::from("/"), "found the root of the file system"),
        (PathBuf::from("/proc/self/../.."), "found the root of the file system"),
    ];
    targets.extend(mounted.as_ref().map(|mounted| (mounted.0.clone(), "found a mount point")));
    targets.extend(home().map(|home| (home, "found a home directory")));
    let before = names(scene.folder.path());
    for (dest, expected) in targets {
        // The machine's own folders change as they like, and one of them lists its processes.
        let parent = dest.parent().filter(|parent| parent.starts_with(scene.folder.path()));
        let around = parent.map(names);
        for overwrite in [false, true] {
            let options = restore::Options { overwrite, ..into_rocksdb(&paths, &dest) };
            let error = block_on(restore::run(options, Progress::new())).unwrap_err();
            assert_eq!((error.kind(), error.path()), (Kind::Exists, Some(&*dest)), "{error}");
            assert!(error.what().ends_with(expected), "{}: {error}", dest.display());
            assert!(error.hint().is_some(), "{error}");
        }
        assert_eq!(parent.map(names), around, "{}", dest.display());
    }
    assert_eq!(names(scene.folder.path()), before);
    assert_eq!(std::fs::read(scene.path("file")).unwrap(), b"precious");
    assert_eq!(std::fs::read(scene.path("other/file")).unwrap(), b"precious");

    // A datastore is replaced, but only when that was said.
    let (digest, _) = digest_of_store(&scene.path("node"), 0, true);
    let error = block_on(restore_to(&paths, &scene.path("node"))).unwrap_err();
    assert_eq!(error.kind(), Kind::Exists);
    assert_eq!(digest_of_store(&scene.path("node"), 0, true).0, digest);
    let restored = restore_over(&paths, &scene.path("node")).unwrap();
    assert_eq!(digest_of_store(&restored.replaced.unwrap(), 0, true).0, digest);
    // And what is not there is made; a folder around it is not.
    assert_eq!(block_on(restore_to(&paths, &scene.path("no/where"))).unwrap_err().kind(), Kind::Missing);
}

#[test]
fn a_backup_does_not_replace_what_is_there() {
    let scene = Scene::new(20);
    let node = Origin::datastore(scene.path("node"));
    let target = scene.path("out/a.badger");
    let refused = |options: backup::Options| {
        let error = block_on(backup::run(options, Progress::new())).unwrap_err();
        assert_eq!(error.kind(), Kind::Exists, "{error}");
    };
    for path in [target.clone(), manifest_path(&target)] {
        put(&path, b"precious");
        refused(to_file(&node, &target));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        assert_eq!(scene.out().len(), 1, "{:?}", scene.out());
        remove_file(&path).unwrap();
    }
    private_dir(&target).unwrap();
    for overwrite in [false, true] {
        refused(backup::Options { overwrite, ..to_file(&node, &target) });
        assert_eq!(scene.out(), ["a.badger"]);
    }
    let error = block_on(take(&node, &scene.path("no/where"), Since::Version(0))).unwrap_err();
    assert_eq!(error.kind(), Kind::Missing, "{error}");
}

fn is_no_space(error: &Error) {
    assert_eq!((error.kind(), error.errno()), (Kind::NoSpace, Some(28)), "{error}");
    assert!(error.path().is_some(), "{error}");
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let scene = Scene::new(2000);
    let bytes = std::fs::read(&scene.full()[0]).unwrap();
    assert!(bytes.len() > 4 << 20);
    let Some(disk) = Mounted::of(scene.path("disk"), "3m") else { return };
    let target = disk.0.join("a.badger");
    // Said before, where the source says how much will come; caught when it happens, where it does not.
    let error =
        block_on(take(&Origin::datastore(scene.path("node")), &target, Since::Version(0))).unwrap_err();
    is_no_space(&error);
    assert_eq!(names(&disk.0), Vec::<String>::new());
    let server = block_on(replay(bytes, 2000));
    let error = block_on(take(&at(&server), &target, Since::Version(0))).unwrap_err();
    is_no_space(&error);
    assert_eq!(names(&disk.0), Vec::<String>::new());
    let error = block_on(restore_to(&scene.full(), &disk.0.join("db"))).unwrap_err();
    is_no_space(&error);
    assert_eq!(names(&disk.0), Vec::<String>::new());
}

/// The room is there when the restore is planned and gone while it writes.
#[test]
fn a_disk_that_fills_while_a_restore_writes_leaves_nothing() {
    let scene = Scene::new(3000);
    let Some(disk) = Mounted::of(scene.path("disk"), "90m") else { return };
    let (dest, filler) = (disk.0.join("db"), disk.0.join("filler"));
    for into in [into_rocksdb, into_badger] {
        fill_while(&scene, &disk, &dest, &filler, into);
    }
}

fn fill_while(
    scene: &Scene,
    disk: &Mounted,
    dest: &Path,
    filler: &Path,
    into: fn(&[PathBuf], &Path) -> restore::Options,
) {
    let mut hits = 0;
    for attempt in 0..400 {
        let progress = Progress::new();
        let watched = progress.clone();
        let result = std::thread::scope(|threads| {
            let work = threads.spawn(|| block_on(restore::run(into(&scene.full(), dest), progress)));
            while watched.state().phase != Phase::Writing && !work.is_finished() {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros(200 * (attempt % 16)));
            let room = evbackup::base::durable::free_space(&disk.0).unwrap();
            let file = std::fs::File::options().write(true).create_new(true).open(filler).unwrap();
            // Fails where the restore has taken some of the room meanwhile; the next attempt comes at another moment.
            let _ = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, room);
            work.join().unwrap()
        });
        remove_file(filler).unwrap();
        match result {
            Ok(_) => remove_tree(dest).unwrap(),
            Err(error) => {
                is_no_space(&error);
                hits += 1;
            }
        }
        assert_eq!(names(&disk.0), Vec::<String>::new());
        if hits == 3 {
            return;
        }
    }
    assert!(hits > 0, "the disk was never full in time");
}

#[test]
fn what_appears_while_we_work_stays() {
    let scene = Scene::new(1000);
    let target = scene.path("out/a.badger");
    let dest = scene.path("out/db");
    let listen = Listen { max_rate: Some(1 << 20), ..Listen::new("127.0.0.1:0") };
    let server = block_on(serve_listen(&scene.path("node"), listen));
    let appear: [(&Path, bool); 4] =
        [(&target, false), (&manifest_path(&target), false), (&dest, true), (&dest, false)];
    for (path, folder) in appear {
        let restores = path == dest;
        let progress = Progress::new();
        let begun = Instant::now();
        let error = std::thread::scope(|threads| {
            let work = threads.spawn(|| {
                if restores {
                    block_on(restore::run(into_rocksdb(&scene.full(), &dest), progress)).map(drop)
                } else {
                    block_on(backup::run(to_file(&at(&server), &target), progress)).map(drop)
                }
            });
            while !scene.out().iter().any(|name| name.contains(".part")) && begun.elapsed().as_secs() < 20 {
                std::thread::yield_now();
            }
            if folder {
                private_dir(path).unwrap();
            } else {
                put(path, b"precious");
            }
            work.join().unwrap().unwrap_err()
        });
        assert_eq!(error.kind(), Kind::Exists, "{error}");
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(scene.out(), [name]);
        if folder {
            std::fs::remove_dir(path).unwrap();
        } else {
            assert_eq!(std::fs::read(path).unwrap(), b"precious");
            remove_file(path).unwrap();
        }
    }
}

/// Several at once to one target, once the first has not won already.
fn at_once(work: impl Fn() -> Result<()> + Sync) -> Vec<Result<()>> {
    let barrier = std::sync::Barrier::new(4);
    std::thread::scope(|threads| {
        let run = || {
            threads.spawn(|| {
                barrier.wait();
                work()
            })
        };
        let runs: Vec<_> = (0..4).map(|_| run()).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

#[test]
fn of_many_to_one_target_one_wins() {
    let scene = Scene::new(100);
    let (target, dest) = (scene.path("out/a.badger"), scene.path("out/db"));
    let listen = Listen { max_backups: 16, ..Listen::new("127.0.0.1:0") };
    let server = block_on(serve_listen(&scene.path("node"), listen));
    let (digest, _) = digest_of_store(&scene.path("node"), 0, true);
    for overwrite in [false, true] {
        for _ in 0..8 {
            let back_up = || {
                let options = backup::Options { overwrite, ..to_file(&at(&server), &target) };
                block_on(backup::run(options, Progress::new())).map(drop)
            };
            let restore = || {
                let options = restore::Options {
                    overwrite,
                    keep_replaced: false,
                    ..into_rocksdb(&scene.full(), &dest)
                };
                block_on(restore::run(options, Progress::new())).map(drop)
            };
            for results in [at_once(back_up), at_once(restore)] {
                let won = results.iter().filter(|result| result.is_ok()).count();
                assert!(won == 1 || (overwrite && won > 0), "{results:?}");
                for error in results.into_iter().filter_map(Result::err) {
                    assert!(matches!(error.kind(), Kind::Exists | Kind::Locked), "{error:?}");
                }
            }
            assert_eq!(scene.out(), ["a.badger", "a.badger.json", "a.badger.keys", "db"]);
            assert!(is_whole(&target));
            assert_eq!(digest_of_store(&dest, 0, true).0, digest);
            if !overwrite {
                for path in [keys_path(&target), manifest_path(&target), target.clone()] {
                    remove_file(&path).unwrap();
                }
                remove_tree(&dest).unwrap();
            }
        }
    }
}

const DENIED: &str = "EVBACKUP_TEST_DENIED";

/// No test by itself: what the test below runs as another user.
#[test]
fn child() {
    let Ok(told) = std::env::var(DENIED) else { return };
    let (folder, address) = told.split_once(' ').unwrap();
    let folder = Path::new(folder);
    let said = |result: Result<()>| result.map_or_else(|error| error.code(), |()| "ok");
    let options = backup::Options {
        overwrite: true,
        ..to_file(&super::proof::at_address(address), &folder.join("out/a.badger"))
    };
    let backup = said(block_on(backup::run(options, Progress::new())).map(drop));
    let restored = said(restore_over(&[folder.join("in/full.badger")], &folder.join("out/db")).map(drop));
    #[expect(clippy::print_stdout, reason = "for the parent")]
    {
        println!("@{backup} {restored}");
    }
}

/// As a user who may not write, may write, and may no longer write while the backup runs.
#[test]
fn lost_permission_is_denied_and_costs_nothing() {
    const NOBODY: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can become another user");
    }
    let scene = Scene::new(300);
    let set =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let out = scene.path("out");
    set(scene.folder.path(), 0o755);
    for name in ["in", "in/full.badger", "in/full.badger.json", "in/full.badger.keys"] {
        chown(scene.path(name), Some(NOBODY), None).unwrap();
    }
    let listen = Listen { max_rate: Some(200_000), max_backups: 16, ..Listen::new("127.0.0.1:0") };
    let slow = block_on(serve_listen(&scene.path("node"), listen));
    let quick = block_on(serve_store(&scene.path("node")));
    // The test program may be where only its owner can go.
    let program = scene.path("program");
    // Not copied by us: a child that another test starts meanwhile would hold it open for writing.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    set(&program, 0o755);
    let start = |address: String| {
        let mut child = Command::new(&program);
        child.args(["faults::child", "--exact", "--nocapture", "--test-threads=1"]);
        child.env(DENIED, format!("{} {address}", scene.folder.path().display())).env_remove("HOME");
        child.env("TMPDIR", scene.folder.path()).uid(NOBODY).gid(NOBODY);
        child.current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let said = |child: std::process::Child| {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        text.split_once('@').map(|(_, said)| said.lines().next().unwrap().to_owned()).ok_or(error).unwrap()
    };
    // Not its folder.
    set(&out, 0o755);
    assert_eq!(said(start(quick.address().to_string())), "denied denied");
    assert_eq!(scene.out(), Vec::<String>::new());
    // Its folder.
    chown(&out, Some(NOBODY), None).unwrap();
    assert_eq!(said(start(quick.address().to_string())), "ok ok");
    let before = scene.out();
    let segment = std::fs::read(out.join("a.badger")).unwrap();
    let (digest, _) = digest_of_store(&out.join("db"), 0, true);
    // No longer, while the backup runs.
    let child = start(slow.address().to_string());
    let begun = Instant::now();
    while !scene.out().iter().any(|name| name == "a.badger.part") {
        assert!(begun.elapsed().as_secs() < 20, "the backup does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    set(&out, 0o555);
    assert_eq!(said(child), "denied denied");
    set(&out, 0o755);
    assert_eq!(std::fs::read(out.join("a.badger")).unwrap(), segment);
    assert!(is_whole(&out.join("a.badger")));
    assert_eq!(digest_of_store(&out.join("db"), 0, true).0, digest);
    // What could not be removed then, the next run removes.
    assert_eq!(said(start(quick.address().to_string())), "ok ok");
    let after: Vec<_> = scene.out().into_iter().filter(|name| !name.starts_with("db.replaced-")).collect();
    assert_eq!(after, before);
}

/// Random bytes where a server should be: an error, soon, and nothing made.
#[test]
fn rubbish_for_a_stream_leaves_nothing() {
    let scene = Scene::new(5);
    let mut random = Random::new();
    for length in [1usize, 7, 8, 9, 100, 70_000] {
        let rubbish: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0] | 1).collect();
        let server = block_on(super::proof::replay_with(rubbish, 5, 1));
        let error = block_on(take(&at(&server), &scene.path("out/a.badger"), Since::Version(0))).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert_eq!(scene.out(), Vec::<String>::new());
    }
}
