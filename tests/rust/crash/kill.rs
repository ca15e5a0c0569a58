use super::{Scene, Verb, remove_segment, report, run, segment, store};
use crate::proof::{Random, block_on, names, unlocked};
use evbackup::base::durable::remove_tree;
use evbackup::base::progress::Progress;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Tells this binary, started by a test of its own, which verb to run and with what.
const VERB: &str = "EVBACKUP_TEST_VERB";
const FOLDER: &str = "EVBACKUP_TEST_FOLDER";
const ADDRESS: &str = "EVBACKUP_TEST_ADDRESS";
const PATHS: &str = "EVBACKUP_TEST_PATHS";

/// No test by itself: what the tests below start and kill. It says when it begins, which phases it enters and when it is done.
#[test]
fn child() {
    let Ok(verb) = std::env::var(VERB) else { return };
    let verb = Verb::named(&verb);
    let (folder, address) = (std::env::var(FOLDER).unwrap(), std::env::var(ADDRESS).unwrap());
    let paths = std::env::var(PATHS).unwrap();
    let paths: Vec<PathBuf> = paths.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    let say = |word: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "@{word}").and_then(|()| out.flush()).unwrap();
    };
    let progress = Progress::new();
    let watched = progress.clone();
    say("begin");
    std::thread::spawn(move || {
        let mut last = None;
        loop {
            let phase = watched.state().phase;
            if last.replace(phase) != Some(phase) {
                say(phase.name());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    block_on(run(verb, Path::new(&folder), &address, &paths, progress)).unwrap();
    say("done");
    std::process::exit(0);
}

/// Starts a verb and kills it after `delay`: the phase it had come to, and how long it had run.
fn strike(
    verb: Verb,
    scene: &Scene,
    state: usize,
    paths: &[PathBuf],
    delay: Option<Duration>,
) -> (String, Duration) {
    let paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::kill::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(VERB, verb.name())
        .env(FOLDER, scene.path())
        .env(ADDRESS, scene.address(state.min(1)))
        .env(PATHS, paths.join(":"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    // The harness says something before, without ending its line.
    while !line.ends_with("@begin\n") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "{}", error_of(child));
    }
    let begun = Instant::now();
    if let Some(delay) = delay {
        std::thread::sleep(delay);
        child.kill().unwrap();
    }
    let mut said = String::new();
    lines.read_to_string(&mut said).unwrap();
    let took = begun.elapsed();
    let last =
        said.rmatch_indices('@').map(|(at, _)| said[at + 1..].trim().to_owned()).next().unwrap_or_default();
    let failed = error_of(child);
    assert!(delay.is_some() || last == "done", "{verb:?}: {failed}");
    assert!(!failed.contains("panicked"), "{verb:?}: {failed}");
    (last, took)
}

fn error_of(mut child: std::process::Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

/// What one verb met.
#[derive(Default)]
struct Row {
    kills: u32,
    phases: BTreeMap<String, u32>,
    old: u32,
    new: u32,
    leftovers: u32,
}

impl Row {
    fn print(&self, verb: Verb) {
        let mut out = std::io::stdout().lock();
        let phases: Vec<_> = self.phases.iter().map(|(phase, kills)| format!("{phase} {kills}")).collect();
        writeln!(
            out,
            "{:24} {:4} kills: {:3} old, {:3} new, {:3} with leftovers; in {}",
            verb.name(),
            self.kills,
            self.old,
            self.new,
            self.leftovers,
            phases.join(", ")
        )
        .unwrap();
    }
}

/// One verb's way from state to state.
trait Way {
    /// What the next run goes from (`None`: nothing is there), to, and reads.
    fn next(&mut self, scene: &Scene) -> (Option<usize>, usize, Vec<PathBuf>);

    /// The state that is there, proven whole.
    fn look(&self, scene: &Scene) -> Option<usize>;
}

/// Kills a verb `hits` times while it works; every other time the next run follows and must work, and leave nothing of the killed one.
fn kill(verb: Verb, hits: u32, scene: &Scene, way: &mut dyn Way) {
    let mut random = Random::new();
    let mut row = Row::default();
    let mut span = Duration::ZERO;
    let mut runs = 0;
    while row.kills < hits {
        runs += 1;
        assert!(runs < 8 * hits + 8, "{verb:?} ends before it can be killed");
        let (from, to, paths) = way.next(scene);
        if runs <= 2 {
            span = span.max(strike(verb, scene, to, &paths, None).1);
            assert_eq!(way.look(scene), Some(to), "{verb:?}");
            continue;
        }
        let nanos = u64::try_from(span.as_nanos()).unwrap();
        // Half of them late, where files get their names.
        let nanos = if random.below(2) == 0 {
            random.next() % nanos
        } else {
            nanos - random.next() % (nanos * 2 / 5)
        };
        let delay = Duration::from_nanos(nanos);
        let (phase, _) = strike(verb, scene, to, &paths, Some(delay));
        let leftovers = !scene.left_in_out().is_empty();
        let found = way.look(scene);
        assert!(
            found == from || found == Some(to),
            "{verb:?} killed in {phase}: from {from:?} to {to}, found {found:?}"
        );
        if phase == "done" {
            assert_eq!(found, Some(to));
            // The machine is quicker than it was when this was measured.
            span = span * 9 / 10;
        } else {
            row.kills += 1;
            row.leftovers += u32::from(leftovers);
            row.old += u32::from(found == from);
            row.new += u32::from(found != from);
            *row.phases.entry(phase.clone()).or_default() += 1;
        }
        if row.kills.is_multiple_of(2) {
            // Nothing else may be replaced by what is there already.
            if found == from
                || [Verb::BackupOver, Verb::RestoreRemove, Verb::DirectoryRemove, Verb::Cut, Verb::Apply]
                    .contains(&verb)
            {
                let address = scene.address(to.min(1));
                let next = unlocked(|| block_on(run(verb, scene.path(), &address, &paths, Progress::new())));
                next.unwrap_or_else(|error| panic!("{verb:?} after a kill in {phase}: {error:?}"));
                assert_eq!(scene.left_in_out(), Vec::<String>::new(), "{verb:?} after a kill in {phase}");
            }
            assert_eq!(way.look(scene), Some(to), "{verb:?} after a kill in {phase}");
        }
    }
    row.print(verb);
    assert!(row.phases.len() >= 2, "{verb:?} was killed in one phase only");
}

struct Segments {
    fresh: bool,
}

impl Way for Segments {
    fn next(&mut self, scene: &Scene) -> (Option<usize>, usize, Vec<PathBuf>) {
        let from = scene.segment_state();
        if self.fresh && from.is_some() {
            remove_segment(scene.path());
            return (None, 1, Vec::new());
        }
        (from, from.map_or(1, |from| 1 - from), Vec::new())
    }

    fn look(&self, scene: &Scene) -> Option<usize> {
        scene.segment_state()
    }
}

struct Stores {
    fresh: bool,
}

impl Way for Stores {
    fn next(&mut self, scene: &Scene) -> (Option<usize>, usize, Vec<PathBuf>) {
        let mut from = scene.store_state(&store(scene.path()));
        if self.fresh && from.is_some() {
            remove_tree(&store(scene.path())).unwrap();
            from = None;
        }
        for name in names(&scene.path().join("out")) {
            if name.starts_with("db.replaced-") {
                remove_tree(&scene.path().join("out").join(name)).unwrap();
            }
        }
        let to = from.map_or(0, |from| 1 - from);
        (from, to, scene.chains[to].clone())
    }

    fn look(&self, scene: &Scene) -> Option<usize> {
        for name in names(&scene.path().join("out")) {
            // What was replaced is kept whole, or what was to replace it is.
            if name.starts_with("db.replaced-") {
                scene.store_state(&scene.path().join("out").join(name)).unwrap();
            }
        }
        scene.store_state(&store(scene.path()))
    }
}

struct Increments;

impl Way for Increments {
    fn next(&mut self, scene: &Scene) -> (Option<usize>, usize, Vec<PathBuf>) {
        let from = scene.store_state(&store(scene.path())).filter(|from| from + 1 < scene.chains.len());
        let from = from.unwrap_or_else(|| {
            let store = store(scene.path());
            if store.exists() {
                remove_tree(&store).unwrap();
            }
            block_on(crate::proof::restore_to(&scene.chains[0], &store)).unwrap();
            0
        });
        (Some(from), from + 1, vec![scene.chains[from + 1].last().unwrap().clone()])
    }

    fn look(&self, scene: &Scene) -> Option<usize> {
        scene.store_state(&store(scene.path()))
    }
}

/// The chain in a folder; its state is how many segments it has.
struct Folder;

impl Folder {
    fn segments(scene: &Scene) -> Vec<PathBuf> {
        let out = scene.path().join("out");
        let names = names(&out).into_iter().filter(|name| name.ends_with(".badger"));
        names.map(|name| out.join(name)).collect()
    }
}

impl Way for Folder {
    fn next(&mut self, scene: &Scene) -> (Option<usize>, usize, Vec<PathBuf>) {
        let segments = Self::segments(scene);
        if segments.len() > 6 {
            for name in names(&scene.path().join("out")) {
                if !name.contains(".part") && !name.contains(".next") && !name.starts_with('.') {
                    evbackup::base::durable::remove_file(&scene.path().join("out").join(name)).unwrap();
                }
            }
            return (None, 1, Vec::new());
        }
        let count = segments.len();
        ((count > 0).then_some(count), count + 1, Vec::new())
    }

    fn look(&self, scene: &Scene) -> Option<usize> {
        let segments = Self::segments(scene);
        if segments.is_empty() {
            return None;
        }
        let report = report(segments.clone());
        let sound = report.findings.iter().all(|finding| finding.code == "order-mended");
        assert!(report.ok && sound, "{:?}", report.findings);
        Some(segments.len())
    }
}

#[test]
fn a_backup_killed_at_any_moment_is_nothing_the_old_one_or_the_new_one() {
    let scene = Scene::new(2);
    assert!(!segment(scene.path()).exists());
    kill(Verb::Backup, 50, &scene, &mut Segments { fresh: true });
    kill(Verb::BackupOver, 70, &scene, &mut Segments { fresh: false });
}

#[test]
fn a_folder_killed_at_any_moment_has_a_sound_chain() {
    let scene = Scene::new(2);
    kill(Verb::BackupFolder, 50, &scene, &mut Folder);
}

#[test]
fn a_restore_killed_at_any_moment_is_nothing_the_old_store_or_the_new_one() {
    let scene = Scene::new(2);
    kill(Verb::Restore, 50, &scene, &mut Stores { fresh: true });
    kill(Verb::RestoreKeep, 50, &scene, &mut Stores { fresh: false });
    kill(Verb::RestoreRemove, 50, &scene, &mut Stores { fresh: false });
}

#[test]
fn a_badger_directory_killed_at_any_moment_is_none_the_old_one_or_the_new_one() {
    let scene = Scene::new(2);
    kill(Verb::Directory, 50, &scene, &mut Stores { fresh: true });
    kill(Verb::DirectoryKeep, 50, &scene, &mut Stores { fresh: false });
    kill(Verb::DirectoryRemove, 50, &scene, &mut Stores { fresh: false });
}

#[test]
fn a_cut_killed_at_any_moment_is_the_old_store_or_the_new_one() {
    let scene = Scene::cut();
    kill(Verb::Cut, 50, &scene, &mut Stores { fresh: false });
}

#[test]
fn an_apply_killed_at_any_moment_is_before_or_after() {
    let scene = Scene::new(12);
    kill(Verb::Apply, 50, &scene, &mut Increments);
}
