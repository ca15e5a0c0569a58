use super::node::{Asked, Node};
use super::*;
use crate::proof::{block_on, into_badger, names};
use evbackup::error::Kind;
use evbackup::evnode::key::Mark;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tonic::Status;

fn gone() -> Status {
    Status::unavailable("the cable is pulled")
}

#[test]
fn one_bit_of_one_block_is_found_with_its_height() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        for (height, of_data, at) in
            [(1, false, 20), (17, false, 60), (17, true, 9), (40, false, 100), (39, true, 0)]
        {
            let node = Node::new(Sample::with_blocks(40)).mangled(move |this, header, data| {
                if this == height {
                    let blob = if of_data { data } else { header };
                    blob[at] ^= 0x10;
                }
            });
            let error = copy(node.start().await, &path, Since::Version(0)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "{error}");
            assert!(error.what().contains(&format!("block {height}: ")), "{error}");
            assert_eq!(names(folder.path()), [""; 0]);
        }
    });
}

#[test]
fn a_block_of_another_place_is_found() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let other = Sample::with_blocks(20);
        // A sound block, of the right height and signed, of a chain that took another turn.
        let mut turned = Sample::with_blocks(11);
        turned.extend(9, |stage, draft| {
            if stage == evbackup::evnode::sample::Stage::Made {
                draft.validator_hash = vec![9];
            }
        });
        for (from, says) in
            [(&other, "expected a header of that height"), (&turned, "expected the hash of header")]
        {
            let take = |height: u64, family: char| {
                from.value(format!("/0/{family}/{height}").as_bytes()).unwrap().to_vec()
            };
            let height = if says.contains("that height") { 12 } else { 13 };
            let (header, data) = (take(height, 'h'), take(height, 'd'));
            let node = Node::new(Sample::with_blocks(20)).mangled(move |this, one, other| {
                if this == 13 {
                    (*one, *other) = (header.clone(), data.clone());
                }
            });
            let error = copy(node.start().await, &path, Since::Version(0)).await.unwrap_err();
            assert!(error.what().starts_with("block 13: ") && error.what().contains(says), "{error}");
        }
    });
}

#[test]
fn a_gap_is_found_with_its_height() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        for key in ["/0/h/33", "/0/d/33"] {
            let mut sample = Sample::with_blocks(60);
            sample.remove(key.as_bytes());
            let address = Node::new(sample).start().await;
            let error = copy(address, &folder.path().join("full"), Since::Version(0)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "{error}");
            assert!(error.what().contains("block 33: expected it at the node, found none"), "{error}");
        }
    });
}

#[test]
fn what_fails_for_a_while_is_asked_again() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let mut left = 3;
        let node = Node::new(Sample::with_blocks(30)).troubled(move |_, asked| match asked {
            Asked::Block(7) if left > 0 => {
                left -= 1;
                Err(if left == 1 { Status::internal("the disk sneezed") } else { gone() })
            }
            _ => Ok(()),
        });
        let made = copy(node.start().await, &path, Since::Version(0)).await.unwrap();
        assert_eq!(made.complete_height, 30);
        expect_sound(&[path], 30);
    });
}

#[test]
fn a_copy_whose_node_goes_for_good_ends_where_it_is_whole() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let node = Node::new(Sample::with_blocks(90));
        let address = node.start().await;
        let cut = |from: u64| {
            let node = node.clone();
            drop(node.troubled(move |_, asked| {
                let height = match asked {
                    Asked::Block(height) => Some(*height),
                    Asked::Metadata(name) => {
                        name.strip_prefix("../h/").and_then(|height| height.parse().ok())
                    }
                    Asked::State => None,
                };
                if height.is_some_and(|height| (from..90).contains(&height)) { Err(gone()) } else { Ok(()) }
            }));
        };
        cut(60);
        let full = copy(address, &path("full"), Since::Version(0)).await.unwrap();
        assert_eq!((full.announced_height, full.complete_height, full.tip_height), (90, 58, 58));
        assert_eq!((full.complete_version, full.next_since), (59, 59));
        assert!(
            full.notes.iter().any(|note| note.starts_with("cut short at height 58 of 90")),
            "{:?}",
            full.notes
        );
        expect_sound(&[path("full")], 58);
        // Its states are the node's own: they say where it stood on DA.
        cut(60);
        let raw = copy_raw(address, &path("raw"), Since::Version(0)).await.unwrap();
        assert_eq!(raw.complete_height, 58);
        assert_eq!(live(&[path("raw")])["/single/checkpoint"], [0x08, 158, 1]);
        cut(80);
        let inc = copy(address, &path("inc1"), Since::Segment(path("full"))).await.unwrap();
        assert_eq!((inc.since_version, inc.complete_height), (59, 78));
        node.untroubled();
        copy(address, &path("inc2"), Since::Segment(path("inc1"))).await.unwrap();
        let chain = ["full", "inc1", "inc2"].map(path);
        expect_same(&without_da_heights(live(&chain)), &without_da_heights(held(&node.world().sample)));
        expect_sound(&chain, 90);

        // Not where a height is demanded, nor where the first block never came.
        cut(60);
        let demanding =
            backup::Options { target_height: Some(90), ..options(address, &path("no"), Since::Version(0)) };
        let error = backup::run(demanding, Progress::new()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        cut(2);
        let error = copy(address, &path("no"), Since::Version(0)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        let left = names(folder.path());
        assert!(left.iter().all(|name| !name.contains("no") && !name.contains("part")), "{left:?}");
    });
}

/// Its newest state is none that the node gave away, and says nothing of DA: what a node starts from says as much as is known.
#[test]
fn what_is_restored_of_a_copy_that_was_cut_short_goes_on_reading_da() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        for (name, short, on_da, expected) in [
            ("whole", false, true, (None, 190)),
            ("short", true, true, (Some(58), 101)),
            // Nothing was ever included: then that is said.
            ("unknown", true, false, (None, 0)),
        ] {
            let mut sample = Sample::with_blocks(90);
            if on_da {
                sample.include(40);
                sample.mark(Mark::GenesisDa, 101);
            }
            let node = Node::new(sample);
            if short {
                drop(node.clone().troubled(|_, asked| match asked {
                    Asked::Block(60..90) => Err(gone()),
                    _ => Ok(()),
                }));
            }
            let (path, dest) = (folder.path().join(name), folder.path().join(format!("{name}-db")));
            let copied = copy(node.start().await, &path, Since::Version(0)).await.unwrap();
            let options = into_badger(&[path], &dest);
            let plan = evbackup::restore::Options { dry_run: true, ..options.clone() };
            let plan = evbackup::restore::run(plan, Progress::new()).await.unwrap();
            let made = evbackup::restore::run(options, Progress::new()).await.unwrap();
            assert_eq!((plan.cut_height, plan.changes), (made.cut_height, made.changes.clone()));
            assert_eq!(
                (plan.notes, plan.dangers, plan.next_steps),
                (made.notes.clone(), made.dangers, made.next_steps.clone())
            );
            let height = copied.complete_height;
            assert_eq!((made.tip_height, made.changes.len()), (height, usize::from(expected.0.is_some())));
            let state = evbackup::badger::look(&dest).unwrap().get(&Key::State(height).to_bytes()).unwrap();
            let state = evbackup::evnode::record::State::decode(&state.unwrap()).unwrap().da_height;
            assert_eq!((made.cut_height, state), expected, "{name}: {:?}", made.notes);
            let noted = made.notes.iter().any(|note| note.starts_with("nothing says where the node stood"));
            assert_eq!(noted, name == "unknown", "{:?}", made.notes);
            let step = made.next_steps.iter().any(|step| step.starts_with("forced inclusion: start"));
            assert_eq!(step, name == "short", "{:?}", made.next_steps);
        }
    });
}

#[test]
fn large_blocks_are_copied_among_small_ones() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let mut sample = Sample::new(1);
        sample.extend(40, |stage, draft| {
            let bytes = match draft.height {
                7 | 20 => 3 << 20,
                8 | 9 => 12 << 20,
                21 => 40 << 20,
                _ => 100,
            };
            if stage == evbackup::evnode::sample::Stage::Made {
                draft.transactions = vec![vec![draft.height.to_le_bytes()[0]; bytes]];
                let mut data = vec![0x12];
                evbackup::base::cursor::put_uvarint(&mut data, bytes as u64);
                data.extend(&draft.transactions[0]);
                let data = evbackup::evnode::record::Data::decode(&data).unwrap();
                draft.data_hash = evbackup::evnode::hash::commitment(&data).to_vec();
            }
        });
        let node = Node::new(sample);
        copy(node.start().await, &path, Since::Version(0)).await.unwrap();
        expect_same(&without_da_heights(live(&[path])), &without_da_heights(held(&node.world().sample)));
    });
}

#[test]
fn a_copy_that_is_dropped_leaves_nothing_and_asks_no_more() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let node = Node::new(Sample::with_blocks(3000)).troubled(move |_, _| {
            counted.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        });
        let address = node.start().await;
        let mut copying = Box::pin(copy(address, &path, Since::Version(0)));
        while asked.load(Relaxed) < 20 {
            let ended = tokio::time::timeout(Duration::from_millis(5), &mut copying).await;
            assert!(ended.is_err(), "it was too quick");
        }
        drop(copying);
        // What was asked by then is still answered.
        let (mut before, mut quiet) = (asked.load(Relaxed), 0);
        while quiet < 6 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = asked.load(Relaxed);
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
        assert!(before < 3000);
        assert_eq!(names(folder.path()), [""; 0]);
    });
}
