#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::golden::folder;
use super::proof::{drain, in_memory, into_badger, names, put, unlocked};
use evbackup::backup::{Origin, Since};
use evbackup::badger::{Directory, Pauses, ReadOptions, Step};
use evbackup::base::checksum::sha256_hex;
use evbackup::base::durable::private_dir;
use evbackup::base::progress::Progress;
use evbackup::entry::{Datastore, META_DELETE, META_DISCARD_EARLIER, META_KEPT, OwnedEntry};
use evbackup::error::{Kind, Result};
use evbackup::flow::sample::{self, Shape};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Whose directory a child without privileges tries to read.
const CHILD: &str = "EVBACKUP_TEST_UNREADABLE";

fn open(path: &Path, offline: bool) -> Result<Directory> {
    unlocked(|| Directory::open(path, ReadOptions { offline, ..ReadOptions::default() }))
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An entry as the papers have it. An expired one goes without its value: Badger's stream leaves that out.
fn described(entry: &OwnedEntry, now: u64) -> Value {
    let value = if entry.as_entry().is_expired(now) { &[] } else { entry.value.as_slice() };
    serde_json::json!({
        "key": data_encoding::HEXLOWER.encode(&entry.key), "version": entry.version, "meta": entry.meta & META_KEPT,
        "user_meta": entry.user_meta, "expires_at": entry.expires_at, "value_sha256": sha256_hex(value),
    })
}

fn from_paper(line: &Value, now: u64) -> Value {
    let expires_at = line["expires_at"].as_u64().unwrap();
    let expired = expires_at != 0 && expires_at <= now;
    let value = if expired { sha256_hex(b"").into() } else { line["value_sha256"].clone() };
    serde_json::json!({
        "key": line["key"], "version": line["version"],
        "meta": line["meta"].as_u64().unwrap() & u64::from(META_KEPT),
        "user_meta": line["user_meta"], "expires_at": expires_at, "value_sha256": value,
    })
}

/// Without the tombstones that `DB.Backup` makes up behind an entry that discards those before it.
fn without_made_up(lines: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for line in lines {
        let made_up = line["meta"] == u64::from(META_DELETE)
            && kept.last().is_some_and(|last| {
                last["key"] == line["key"]
                    && last["meta"].as_u64().unwrap() & u64::from(META_DISCARD_EARLIER) != 0
                    && last["version"].as_u64() == line["version"].as_u64().map(|version| version + 1)
            });
        if !made_up {
            kept.push(line);
        }
    }
    kept
}

fn read(path: &Path, offline: bool) -> Result<(u64, Vec<OwnedEntry>, Vec<OwnedEntry>)> {
    let directory = open(path, offline)?;
    let snapshot = directory.snapshot()?;
    let all = drain(&mut *snapshot.everything()?)?;
    let backup = drain(&mut *snapshot.source(0)?)?;
    Ok((snapshot.pinned_version(), all, backup))
}

/// Each golden directory, at rest and as if a node had it open: to the entry what Badger says, or the refusal that the paper demands.
#[test]
fn golden_directories_are_read_to_the_entry() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut read_whole = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let case = entry.unwrap().path();
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("badger-") {
            continue;
        }
        let paper: Value = serde_json::from_slice(&std::fs::read(case.join("paper.json")).unwrap()).unwrap();
        let refused = paper["refused"].as_str();
        for offline in [true, false] {
            let found = read(&case.join("db"), offline);
            if let Some(code) = refused {
                let error = found.err().unwrap_or_else(|| panic!("{name}: read, and not refused"));
                assert_eq!(error.code(), code, "{name}: {error}");
                assert!(
                    error.path().is_some_and(|path| path.starts_with(case.join("db"))),
                    "{name}: {error}"
                );
                continue;
            }
            let (version, all, backup) = found.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            let badger = &paper["badger"];
            assert_eq!(version, badger["view"]["max_version"].as_u64().unwrap(), "{name}");
            let expected: Vec<_> = lines(&case.join(badger["entries_file"].as_str().unwrap()))
                .iter()
                .filter(|line| line["dangling"] != true)
                .map(|line| from_paper(line, now))
                .collect();
            let found: Vec<_> = all.iter().map(|entry| described(entry, now)).collect();
            assert!(found == expected, "{name}: {} entries, expected {}", found.len(), expected.len());
            if badger["dangling"].as_u64().unwrap_or_default() == 0 {
                let expected = lines(&case.join(badger["backup_file"].as_str().unwrap()));
                let expected = without_made_up(expected.iter().map(|line| from_paper(line, now)).collect());
                let found: Vec<_> = backup.iter().map(|entry| described(entry, now)).collect();
                assert!(found == expected, "{name}: {} entries, expected {}", found.len(), expected.len());
            }
            read_whole += 1;
        }
    }
    assert!(read_whole >= 60, "read only {read_whole} of them");
}

/// A directory of some MB, and an empty folder for copies.
fn scene() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = in_memory();
    let path = |name: &str| folder.path().join(name);
    let (node, full, db) = (path("node"), path("full.badger"), path("db"));
    sample::create(&node, 1500, Shape { data_bytes: 2000 }).unwrap();
    super::proof::block_on(super::proof::take(&Origin::datastore(node), &full, Since::Version(0))).unwrap();
    let restored = into_badger(&[full], &db);
    unlocked(|| super::proof::block_on(evbackup::restore::run(restored.clone(), Progress::new()))).unwrap();
    let staging = path("staging");
    private_dir(&staging).unwrap();
    (folder, db, staging)
}

fn staged(db: &Path, staging: &Path, pauses: Pauses) -> Result<()> {
    let options = ReadOptions { staging: Some(staging.to_owned()), pauses, ..ReadOptions::default() };
    let directory = Directory::open(db, options)?;
    let snapshot = directory.snapshot()?;
    // While it is there, and if the process is killed now, nothing has a name.
    assert!(names(staging).iter().all(|name| name == "filler"));
    drain(&mut *snapshot.source(0)?).map(drop)
}

#[expect(clippy::print_stderr, reason = "a test that is not run says so")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn mounted(at: &Path, arguments: &[&str]) -> Option<Mounted> {
    let mut mount = Command::new("mount");
    mount.args(arguments).arg(at).stderr(Stdio::null());
    let mounted = mount.status().is_ok_and(|status| status.success()).then(|| Mounted(at.to_owned()));
    if mounted.is_none() {
        skipped("only root can mount a file system");
    }
    mounted
}

#[test]
fn copies_have_no_names_and_are_gone_afterwards() {
    let (_folder, db, staging) = scene();
    let seen = staging.clone();
    let pauses = Pauses::new(move |_: Step| assert!(names(&seen).is_empty()));
    staged(&db, &staging, pauses).unwrap();
    assert!(names(&staging).is_empty());
}

#[test]
fn a_staging_disk_that_is_too_small_is_known_before_and_one_that_fills_up_is_said() {
    let (_folder, db, staging) = scene();
    let Some(small) = mounted(&staging, &["-t", "tmpfs", "-o", "size=512k", "tmpfs"]) else { return };
    let looked = std::sync::Arc::new(Mutex::new(false));
    let copying = looked.clone();
    let pauses = Pauses::new(move |step: Step| *copying.lock().unwrap() |= step == Step::Table);
    let error = staged(&db, &staging, pauses).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::NoSpace, Some(&*staging)), "{error}");
    assert!(!*looked.lock().unwrap(), "something was copied");
    assert!(names(&staging).is_empty());
    drop(small);
    let Some(_filled) = mounted(&staging, &["-t", "tmpfs", "-o", "size=64m", "tmpfs"]) else { return };
    let filler = staging.join("filler");
    let pauses = Pauses::new(move |step: Step| {
        if step == Step::Table && !filler.exists() {
            put(&filler, &vec![1; (64 << 20) - (256 << 10)]);
        }
    });
    let error = staged(&db, &staging, pauses).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::NoSpace, Some(&*staging)), "{error}");
    assert!(error.errno() == Some(28) && error.hint().is_some(), "{error}");
    assert_eq!(names(&staging), ["filler"]);
}

#[test]
fn a_directory_on_an_overlay_is_read() {
    let (folder, db, staging) = scene();
    let path = |name: &str| folder.path().join(name);
    for name in ["upper", "work", "merged"] {
        private_dir(&path(name)).unwrap();
    }
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        db.display(),
        path("upper").display(),
        path("work").display()
    );
    let Some(_merged) = mounted(&path("merged"), &["-t", "overlay", "-o", &layers, "overlay"]) else {
        return;
    };
    staged(&path("merged"), &staging, Pauses::default()).unwrap();
}

/// The other half of the next test: what it is run as may not read the MANIFEST.
#[test]
fn child_that_may_not_read() {
    let Some(db) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    let error = Directory::open(&db, ReadOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Denied, Some(&*db.join("MANIFEST"))), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("node's own user")), "{error:?}");
}

#[test]
fn a_manifest_that_may_not_be_read_is_denied_with_a_hint() {
    let (_folder, db, _) = scene();
    // As root without its privileges, to whom another user's file is closed.
    let owned = Command::new("chown").arg("65534").arg(db.join("MANIFEST")).stderr(Stdio::null()).status();
    if !owned.is_ok_and(|status| status.success()) {
        return skipped("only root can give a file to somebody else");
    }
    let child = Command::new("setpriv")
        .args(["--bounding-set", "-all", "--inh-caps", "-all"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "live::child_that_may_not_read", "--nocapture"])
        .env(CHILD, &db)
        .output();
    let Ok(child) = child else { return skipped("there is no setpriv") };
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}
