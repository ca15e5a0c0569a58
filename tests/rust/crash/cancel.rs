use super::{Scene, VERBS, Verb, remove_segment, run, store};
use crate::proof::{Random, names};
use evbackup::base::durable::remove_tree;
use evbackup::base::progress::Progress;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const CHILD: &str = "EVBACKUP_TEST_CANCEL";
/// How often each verb's future is dropped while it works.
const DROPS: u32 = 25;
/// How long it may take until nothing works and nothing is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// The names of our threads. Those of RocksDB are the process's: one begins when it is needed for the first time, and stays.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // One that has ended meanwhile has no name any more.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| !name.starts_with("rocksdb:")).map(|name| name.trim().to_owned()).collect()
}

/// No test by itself: the work of the test below, in a process that has no other threads.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let scene = Scene::new(2);
    for verb in VERBS.into_iter().filter(|verb| *verb != Verb::Cut) {
        drops(verb, &scene);
    }
    drops(Verb::Cut, &Scene::cut());
}

/// The arguments of the next run, after what the one before has left is out of its way.
fn prepare(verb: Verb, scene: &Scene) -> (usize, Vec<PathBuf>) {
    let out = scene.path().join("out");
    match verb {
        Verb::Backup => remove_segment(scene.path()),
        Verb::Restore | Verb::Directory if store(scene.path()).exists() => {
            remove_tree(&store(scene.path())).unwrap();
        }
        Verb::Apply => {
            if store(scene.path()).exists() {
                remove_tree(&store(scene.path())).unwrap();
            }
            crate::proof::block_on(crate::proof::restore_to(&scene.chains[0], &store(scene.path()))).unwrap();
            return (1, vec![scene.chains[1][1].clone()]);
        }
        _ => {}
    }
    for name in names(&out) {
        if name.starts_with("db.replaced-") {
            remove_tree(&out.join(name)).unwrap();
        }
    }
    let to = scene.store_state(&store(scene.path())).map_or(0, |from| 1 - from);
    (to, scene.chains[to].clone())
}

fn drops(verb: Verb, scene: &Scene) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_keep_alive(Duration::from_millis(1))
        .enable_all()
        .build()
        .unwrap();
    let mut random = Random::new();
    let (mut span, mut idle) = (Duration::ZERO, 0);
    let (mut dropped, mut slowest) = (0, Duration::ZERO);
    for round in 0..8 * DROPS {
        if dropped == DROPS {
            break;
        }
        let (to, paths) = prepare(verb, scene);
        let address = scene.address(to.min(1));
        let progress = Progress::new();
        let work = run(verb, scene.path(), &address, &paths, progress.clone());
        let begun = Instant::now();
        if round < 2 {
            runtime.block_on(work).unwrap();
            span = span.max(begun.elapsed());
            // What stays idle afterwards: the runtime's, RocksDB's, the servers' own.
            std::thread::sleep(Duration::from_millis(300));
            idle = idle.max(threads().len());
            continue;
        }
        let delay = Duration::from_nanos(random.next() % u64::try_from(span.as_nanos()).unwrap());
        let ended = runtime.block_on(async { tokio::time::timeout(delay, work).await });
        let since = Instant::now();
        if let Ok(result) = ended {
            result.unwrap();
            // The machine has become quicker since the span was measured.
            span = span.mul_f64(0.93);
        } else {
            dropped += 1;
            while !scene.left_in_out().is_empty() || threads().len() > idle {
                let (left, still) = (scene.left_in_out(), threads());
                // The servers' runtime keeps a thread that it needed once for ten seconds after its work.
                let patience = if left.is_empty() { 3 * PATIENCE } else { PATIENCE };
                assert!(
                    since.elapsed() < patience,
                    "{verb:?} after {delay:?}: {left:?}, expected {idle} threads, found {still:?}"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
            slowest = slowest.max(since.elapsed());
        }
        // What is there is whole, whichever it is.
        scene.segment_state();
        scene.store_state(&store(scene.path()));
    }
    assert_eq!(dropped, DROPS, "{verb:?}: too few were dropped while they worked, of {span:?}");
    #[expect(clippy::print_stdout, reason = "what was measured")]
    {
        println!(
            "@{:24} {dropped:3} dropped, all still after {} ms at most",
            verb.name(),
            slowest.as_millis()
        );
    }
}

#[test]
fn a_future_dropped_at_any_moment_leaves_no_part_and_no_thread() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["crash::cancel::child", "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    let output = child.output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{error}");
    #[expect(clippy::print_stdout, reason = "what was measured")]
    for line in out.split('\n').filter_map(|line| line.split_once('@')) {
        println!("{}", line.1);
    }
}
