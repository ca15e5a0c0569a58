use super::node::{Asked, Node};
use super::*;
use crate::proof::block_on;
use evbackup::error::Kind;
use evbackup::evnode::key::Mark;

#[test]
fn a_pruned_node_is_copied_from_its_base() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        for (name, marked) in [("marked", true), ("unmarked", false)] {
            let path = folder.path().join(name);
            let mut sample = Sample::with_blocks(60);
            sample.prune(23);
            if !marked {
                sample.remove(&Key::Mark(Mark::PrunedBlocks).to_bytes());
            }
            let node = Node::new(sample);
            let made = copy(node.start().await, &path, Since::Version(0)).await.unwrap();
            assert_eq!(made.notes.len(), if marked { 1 } else { 2 }, "{:?}", made.notes);
            let live = live(std::slice::from_ref(&path));
            assert_eq!(live["/0/m/lst-prnd-b"], 23u64.to_le_bytes());
            assert!(live.contains_key("/0/h/24") && live.contains_key("/0/s/24"));
            assert!(!live.contains_key("/0/h/23") && !live.contains_key("/0/s/23"));
            assert_eq!(manifest(&path).pruned.blocks, 23);
            expect_sound(&[path], 60);
        }
    });
}

#[test]
fn what_is_pruned_while_it_is_copied_is_not_in_it() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        // Overtaken before the first block, while some are on their way, and after the last.
        for at in [1, 40, 90, 120] {
            let path = folder.path().join(format!("at-{at}"));
            let mut done = false;
            let node = Node::new(Sample::with_blocks(120)).troubled(move |world, asked| {
                if *asked == Asked::Block(at) && !std::mem::replace(&mut done, true) {
                    world.sample.prune(100);
                }
                Ok(())
            });
            let made = copy(node.start().await, &path, Since::Version(0)).await.unwrap();
            let chain = [path.clone()];
            let live = live(&chain);
            assert_eq!(live["/0/m/lst-prnd-b"], 100u64.to_le_bytes(), "at {at}");
            let blocks = live.keys().filter(|key| key.starts_with("/0/h/")).count();
            let names = live.keys().filter(|key| key.starts_with("/0/i/")).count();
            assert_eq!((blocks, names), (20, 20), "at {at}: {:?}", made.notes);
            expect_sound(&chain, 120);
            let out = evbackup::restore::run(
                crate::proof::into_badger(&chain, &folder.path().join(format!("restored-{at}"))),
                Progress::new(),
            );
            out.await.unwrap();
        }
    });
}

#[test]
fn what_is_pruned_between_two_backups_is_buried() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let node = Node::new(Sample::with_blocks(50));
        let address = node.start().await;
        copy(address, &path("full"), Since::Version(0)).await.unwrap();
        node.world().sample.extend(10, |_, _| {});
        node.world().sample.prune(30);
        copy(address, &path("inc"), Since::Segment(path("full"))).await.unwrap();
        let chain = ["full", "inc"].map(path);
        expect_same(&without_da_heights(live(&chain)), &without_da_heights(held(&node.world().sample)));
        expect_sound(&chain, 60);
        // The base's own block is gone: nothing proves it any more.
        node.world().sample.extend(10, |_, _| {});
        node.world().sample.prune(65);
        let error = copy(address, &path("more"), Since::Segment(path("inc"))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Mismatch, "{error}");
    });
}

#[test]
fn a_node_that_prunes_everything_is_too_fast() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut done = false;
        let node = Node::new(Sample::with_blocks(40)).troubled(move |world, asked| {
            if *asked == Asked::Block(20) && !std::mem::replace(&mut done, true) {
                world.sample.extend(20, |_, _| {});
                world.sample.prune(50);
            }
            Ok(())
        });
        let error =
            copy(node.start().await, &folder.path().join("full"), Since::Version(0)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Incomplete, "{error}");
        assert_eq!(crate::proof::names(folder.path()), [""; 0]);
    });
}

#[test]
fn a_node_that_goes_on_is_copied_up_to_where_it_stood() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let node = Node::new(Sample::with_blocks(50)).troubled(|world, asked| {
            if matches!(asked, Asked::Block(height) if height % 10 == 3) {
                world.sample.extend(7, |_, _| {});
                let tip = world.tip();
                world.sample.include(tip - 3);
                world.sample.mark(Mark::SubmittedHeader, tip);
            }
            Ok(())
        });
        let made = copy(node.start().await, &path, Since::Version(0)).await.unwrap();
        assert_eq!((made.announced_height, made.complete_height), (50, 50));
        let live = live(std::slice::from_ref(&path));
        assert_eq!(live["/0/t"], 50u64.to_le_bytes());
        assert_eq!(live["/0/m/last-submitted-header-height"], 50u64.to_le_bytes());
        assert_eq!(manifest(&path).included_height, 50);
        expect_sound(&[path], 50);
    });
}

#[test]
fn a_node_that_is_rolled_back_meanwhile_is_told_from_one_that_lies() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        for regrows in [false, true] {
            let mut done = false;
            let node = Node::new(Sample::with_blocks(50)).troubled(move |world, asked| {
                if *asked == Asked::Block(10) && !std::mem::replace(&mut done, true) {
                    world.sample = Sample::with_blocks(30);
                    if regrows {
                        world.sample.extend(25, |stage, draft| {
                            if stage == evbackup::evnode::sample::Stage::Made {
                                draft.validator_hash = vec![1];
                            }
                        });
                    }
                }
                Ok(())
            });
            let path = folder.path().join("full");
            let error = copy(node.start().await, &path, Since::Version(0)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Mismatch, "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("rolled back")), "{error:?}");
            assert_eq!(crate::proof::names(folder.path()), [""; 0]);
        }
    });
}

#[test]
fn the_word_on_the_state_is_held_against_the_next_block() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut sample = Sample::with_blocks(9);
        sample.extend(1, |stage, draft| {
            if stage == evbackup::evnode::sample::Stage::State {
                draft.state_app_hash = b"a lie".to_vec();
            }
        });
        // What the chain goes on with is the truth.
        let mut truth = Sample::with_blocks(10);
        truth.extend(1, |_, _| {});
        let mut world_after = Some(truth);
        let node = Node::new(sample).troubled(move |world, asked| {
            if *asked == Asked::Block(5)
                && let Some(truth) = world_after.take()
            {
                world.sample = truth;
            }
            Ok(())
        });
        let error =
            copy(node.start().await, &folder.path().join("full"), Since::Version(0)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
        assert!(error.what().starts_with("state 10: expected the app hash of block 11"), "{error}");
    });
}
