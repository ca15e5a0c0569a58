#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::proof::{Random, put};
use evbackup::badger::{Directory, Pauses, ReadOptions, Step};
use evbackup::entry::{Datastore, Sink, Snapshot, pour};
use evbackup::error::Result;
use evbackup::format::Writer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Snapshots of each way to write.
const SNAPSHOTS: usize = 14;
/// New directories, at the most, where Badger itself loses values.
const DIRECTORIES: u64 = 10;

/// The program of `tests/interop`, which runs a real Badger; none where Go is missing, which is an error with `EVBACKUP_REQUIRE_GO=1`.
fn program() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            if Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
            {
                assert!(
                    std::env::var("EVBACKUP_REQUIRE_GO").as_deref() != Ok("1"),
                    "go is missing: the tests against a real Badger need Go 1.24 or newer"
                );
                return None;
            }
            let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/build.sh");
            assert!(Command::new(script).arg(&out).status().unwrap().success());
            Some(out)
        })
        .as_deref()
}

/// A process that commits, flushes and compacts all the time; see `live` in `tests/interop/README.md`.
struct Node {
    place: tempfile::TempDir,
    flags: &'static [&'static str],
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Node {
    fn start(flags: &'static [&'static str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let (process, answers) = Self::spawn(place.path(), flags);
        Self { place, flags, process, answers }
    }

    fn spawn(place: &Path, flags: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
        let mut process = Command::new(program().unwrap())
            .arg("live")
            .arg("--dir")
            .arg(place.join("live"))
            .arg("--tally")
            .arg(place.join("tally"))
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        let mut ready = String::new();
        answers.read_line(&mut ready).unwrap();
        assert!(ready.contains("max_version"), "it has not started: {ready:?}");
        (process, answers)
    }

    /// Closes its database and opens it again; false: it has ended, for Badger may fail by itself where it collects values.
    fn restart(&mut self) -> bool {
        let mut line = String::new();
        let asked = writeln!(self.process.stdin.as_mut().unwrap(), "{{\"cmd\":\"restart\"}}");
        if asked.is_err() || self.answers.read_line(&mut line).unwrap() == 0 {
            return false;
        }
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
        true
    }

    /// kill -9, and a new process on the same directory.
    fn kill(&mut self) {
        self.end();
        (self.process, self.answers) = Self::spawn(self.place.path(), self.flags);
    }

    /// kill -9, and nothing else.
    fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// The counts of its writers: begun, or acknowledged.
    fn tally(place: &Path, odd: usize) -> String {
        let bytes = std::fs::read(place.join("tally")).unwrap();
        let counts = bytes.chunks(8).map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()));
        counts.skip(odd).step_by(2).map(|count| count.to_string()).collect::<Vec<_>>().join(",")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}

fn locked(node: &Mutex<Node>) -> std::sync::MutexGuard<'_, Node> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the model says of a snapshot.
fn problems(segment: &Path, acknowledged: &str, begun: &str, version: u64) -> Value {
    let said = Command::new(program().unwrap())
        .arg("live-model")
        .arg("--in")
        .arg(segment)
        .args(["--acked", acknowledged, "--begun", begun, "--version", &version.to_string()])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    serde_json::from_slice::<Value>(&said.stdout).unwrap()["problems"].take()
}

fn write(snapshot: &dyn Snapshot, path: &Path) -> Result<u64> {
    let mut stream = Vec::new();
    let mut writer = Box::new(Writer::new(1, |frame: &mut Vec<u8>| {
        stream.append(frame);
        Ok(())
    }));
    let entries = pour(&mut *snapshot.source(0)?, &mut *writer)?;
    writer.finish()?;
    put(path, &stream);
    Ok(entries)
}

/// What the model says of what Badger itself reads in the directory, now that nobody writes.
fn badgers_own(place: &Path) -> Value {
    let all = place.join("all.badger");
    let mut backup = Command::new(program().unwrap());
    backup.arg("backup").arg("--dir").arg(place.join("live")).arg("--out").arg(&all);
    assert!(backup.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    problems(&all, &Node::tally(place, 1), &Node::tally(place, 0), 0)
}

/// Has the key whose value was not found a newer version now?
fn is_written_again(directory: &Directory, what: &str) -> bool {
    let named = what.split_once("the value of key ").and_then(|(_, named)| named.split_once(" at version "));
    let Some((key, rest)) = named else { return false };
    let version = rest.split(',').next().and_then(|version| version.parse().ok()).unwrap_or(u64::MAX);
    let now = directory.snapshot().unwrap().get(key.as_bytes()).unwrap();
    now.is_some_and(|now| now.version > version)
}

/// What came of one directory.
#[derive(Debug, Default)]
struct Series {
    taken: usize,
    given_up: usize,
    /// Badger itself has lost values.
    lost: usize,
    /// Those of them of which Badger's own reader finds everything, for it was written again.
    unproven: Vec<String>,
    commits: u64,
    /// How often each step came, and each trouble.
    steps: BTreeMap<String, usize>,
}

impl Series {
    fn add(&mut self, other: Series) {
        self.taken += other.taken;
        self.given_up += other.given_up;
        self.lost += other.lost;
        self.unproven.extend(other.unproven);
        self.commits += other.commits;
        for (step, count) in other.steps {
            *self.steps.entry(step).or_default() += count;
        }
    }
}

/// Takes so many snapshots while between their steps the node goes on, restarts or is killed, over as many directories as it takes.
#[expect(clippy::print_stderr, reason = "figures that a person asks for with --nocapture")]
fn take(name: &str, flags: &'static [&'static str], seed: u64) {
    if program().is_none() {
        eprintln!("skipped: go is missing");
        return;
    }
    let start = Instant::now();
    let mut all = Series::default();
    for number in 0..DIRECTORIES {
        if all.taken < SNAPSHOTS {
            all.add(series(name, flags, seed + 100 * number, SNAPSHOTS - all.taken));
        }
    }
    let Series { taken, given_up, lost, unproven, commits, steps } = all;
    eprintln!(
        "{name}: {taken} snapshots, {given_up} given up, {lost} directories of which Badger has lost values (not proven: {unproven:?}), 0 violations, {commits} commits, {:.1} s; {steps:?}",
        start.elapsed().as_secs_f64(),
    );
    assert_eq!(taken, SNAPSHOTS, "Badger loses values all the time, {lost} times");
    assert!(unproven.len() <= 1, "Badger has lost nothing: {unproven:?}");
    assert!(commits > 500, "the node hardly wrote: {commits} commits");
    assert!(given_up < SNAPSHOTS / 2, "gave up {given_up} times");
}

/// Snapshots of a new directory, until there are enough or something of it is damaged.
fn series(name: &str, flags: &'static [&'static str], seed: u64, wanted: usize) -> Series {
    let node = Arc::new(Mutex::new(Node::start(flags)));
    let place = locked(&node).place.path().to_owned();
    std::thread::sleep(Duration::from_millis(700));
    let steps: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let dice = Mutex::new(Random::seeded(seed));
    let pauses = {
        let (node, steps) = (Arc::clone(&node), Arc::clone(&steps));
        Pauses::new(move |step: Step| {
            let count = |what: &str| {
                *steps.lock().unwrap_or_else(PoisonError::into_inner).entry(what.to_owned()).or_default() +=
                    1;
            };
            count(&format!("{step:?}"));
            let (sides, pause) = {
                let mut dice = dice.lock().unwrap_or_else(PoisonError::into_inner);
                (dice.below(400), dice.below(60))
            };
            match sides {
                0..6 => {
                    count("kill -9");
                    locked(&node).kill();
                }
                6..14 => {
                    let mut node = locked(&node);
                    if node.restart() {
                        count("restart");
                    } else {
                        count("ended by itself");
                        node.kill();
                    }
                }
                14..100 => std::thread::sleep(Duration::from_millis(pause as u64)),
                _ => (),
            }
        })
    };
    let options = ReadOptions { pauses, any_file_system: true, ..ReadOptions::default() };
    let directory = Directory::open(&place.join("live"), options).unwrap();
    let segment = place.join("snapshot.badger");
    let mut all = Series::default();
    while all.taken < wanted && all.given_up < SNAPSHOTS {
        let acknowledged = Node::tally(&place, 1);
        let taken = directory.snapshot().and_then(|snapshot| {
            let begun = Node::tally(&place, 0);
            write(&*snapshot, &segment).map(|_| (begun, snapshot.pinned_version()))
        });
        let (begun, version) = match taken {
            Ok(taken) => taken,
            // A machine that is busy enough leaves no moment for it, and it says so.
            Err(error) if error.code() == "unavailable" => {
                all.given_up += 1;
                continue;
            }
            Err(error) => {
                locked(&node).end();
                // Killed while it collects values, Badger loses some; what is left is damaged, and was called so. All of them may have
                // been written again before it was stopped: then nothing shows whose fault it was. One of ours would come again.
                if badgers_own(&place) == serde_json::json!([]) {
                    assert!(is_written_again(&directory, error.what()), "{name}, seed {seed}: {error}");
                    all.unproven.push(format!("snapshot {} of {name}, seed {seed}: {error}", all.taken));
                }
                all.lost += 1;
                break;
            }
        };
        let found = problems(&segment, &acknowledged, &begun, version);
        assert_eq!(found, serde_json::json!([]), "snapshot {} of {name}, seed {seed}", all.taken);
        all.taken += 1;
        all.commits = all.commits.max(version);
    }
    all.steps = std::mem::take(&mut steps.lock().unwrap_or_else(PoisonError::into_inner));
    all
}

#[test]
fn snappy() {
    take("snappy", &["--compression", "snappy"], 1);
}

#[test]
fn zstd_with_value_log_gc_and_iterators() {
    take("zstd, GC, iterators", &["--compression", "zstd", "--gc", "100ms", "--hold", "500ms"], 2);
}

#[test]
fn uncompressed_with_restarts_of_its_own() {
    take("none, GC, restarts", &["--compression", "none", "--gc", "100ms", "--restart", "700ms"], 3);
}

#[test]
fn fast_writing() {
    take("snappy, 5000 commits/s, GC", &["--rate", "5000", "--gc", "100ms", "--memtable", "1048576"], 4);
}

#[test]
fn a_key_is_written_again_where_it_has_a_newer_version() {
    if program().is_none() {
        return;
    }
    let mut node = Node::start(&["--compression", "snappy"]);
    while Node::tally(node.place.path(), 1).starts_with("0,") {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    node.end();
    let options = ReadOptions { any_file_system: true, ..ReadOptions::default() };
    let directory = Directory::open(&node.place.path().join("live"), options).unwrap();
    let what = |version| {
        format!("expected the value of key /live/0/seq at version {version}, found no such value log")
    };
    assert!(is_written_again(&directory, &what(1_u64)));
    assert!(!is_written_again(&directory, &what(u64::MAX)));
    assert!(!is_written_again(&directory, "expected a fault of Badger's, found one of ours"));
}
