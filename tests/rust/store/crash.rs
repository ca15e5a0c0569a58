use super::*;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Says to the child which store it adds to.
const CHILD: &str = "EVBACKUP_TEST_STORE_CRASH";
const KILLS: usize = 60;
/// Keys that each increment writes again.
const KEYS: u64 = 40;

/// What increment `number` adds.
fn change(number: u64) -> Vec<OwnedEntry> {
    let version = number * 10;
    let mut entries: Vec<_> =
        (0..KEYS).map(|key| entry(format!("key {key:03}"), version, number.to_string())).collect();
    entries.push(entry(format!("new {number:06}"), version + 1, vec![7; 3_000]));
    entries.push(tombstone(format!("new {:06}", number / 2), version + 2));
    entries
}

fn after(number: u64) -> NewAbout {
    let applied = evbackup::store::Applied { complete_version: number, ..Default::default() };
    NewAbout { applied: vec![applied], ..pinned(number * 10 + 2) }
}

/// No test of its own: what the test below starts and kills.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    loop {
        let mut store = Store::open_for_writing(&path).unwrap();
        for _ in 0..5 {
            let number = store.about().applied.len() as u64;
            apply(&mut store, &change(number), after(number)).unwrap();
        }
    }
}

#[test]
fn killed_at_any_moment_the_store_is_before_or_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    load(&path, &change(0), after(0)).unwrap();
    let mut model = change(0);
    let mut number = 1;
    let mut leftovers = 0;
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut kill = 0;
    // On a busy machine it takes more kills until enough of them have hit something.
    while kill < KILLS || (kill < 10 * KILLS && (number <= 20 || leftovers == 0)) {
        kill += 1;
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::crash::child", "--exact", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(10_000 + random % 140_000));
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself before kill {kill}");
        child.kill().unwrap();
        child.wait().unwrap();
        leftovers += u32::from(path.join("increment.part").exists());

        let store = Store::open(&path).unwrap();
        let applied = store.about().applied.len() as u64;
        assert!(applied >= number, "an increment that was durable is gone");
        let expected_before = number;
        while number < applied {
            model.extend(change(number));
            number += 1;
        }
        assert_eq!(store.about(), &{
            let mut about = store.about().clone();
            about.pinned_version = (number - 1) * 10 + 2;
            about.last_version = about.pinned_version;
            about.entries = model.len() as u64;
            about.generation = number;
            about
        });
        model = sort(model);
        assert_eq!(all(&store).unwrap(), model, "after kill {kill}");
        let snapshot = store.snapshot().unwrap();
        let new: Vec<_> = (expected_before..number).flat_map(change).collect();
        assert_eq!(since(&*snapshot, (expected_before - 1) * 10 + 2).unwrap(), sort(new));
    }
    assert!(number > 20, "the child hardly ran: {number} increments");
    assert!(leftovers > 0, "no kill hit an increment");
}
