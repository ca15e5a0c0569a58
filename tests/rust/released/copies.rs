use super::node::{Asked, Node};
use super::*;
use crate::proof::{block_on, digest_at, into_badger, into_rocksdb, put, restore_to, take};
use evbackup::entry::Datastore as _;
use evbackup::error::Kind;
use evbackup::evnode::key::Mark;
use evbackup::evnode::sample::{Draft, Stage};

/// A chain whose heights have one to three digits, included on DA up to 60, with what a node keeps beside its blocks.
fn sample() -> Sample {
    let mut sample = Sample::with_blocks(120);
    sample.include(60);
    sample.mark(Mark::GenesisDa, 101);
    sample.mark(Mark::SubmittedHeader, 70);
    sample.mark(Mark::SubmittedData, 70);
    sample
}

#[test]
fn a_node_without_the_backup_rpc_is_copied_block_by_block() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.badger");
        let node = Node::new(sample());
        let made = copy(node.start().await, &path, Since::Version(0)).await.unwrap();
        assert_eq!((made.kind, made.via.as_str(), made.deletes), ("full", "blocks", "exact"));
        assert_eq!((made.announced_height, made.tip_height, made.complete_height), (120, 120, 120));
        assert_eq!((made.last_version, made.complete_version, made.next_since), (121, 121, 121));
        assert!(made.notes[0].contains("no Backup RPC"), "{:?}", made.notes);
        assert!(made.lacks.contains(&"state-da-heights".to_owned()), "{:?}", made.lacks);

        let chain = [path.clone()];
        let expected = without_da_heights(held(&node.world().sample));
        expect_same(&without_da_heights(live(&chain)), &expected);
        let exact = evbackup::evnode::record::State::decode(&live(&chain)["/0/s/120"]).unwrap().da_height;
        assert_eq!(exact, 220, "that of the tip is known");
        assert_eq!(live(&chain)["/single/checkpoint"], [0x08, 220, 1]);
        expect_sound(&chain, 120);
        for entry in entries(&chain) {
            let height = Key::parse(&entry.key).made_from();
            let height = height.or_else(|| {
                let index = entry.key.starts_with(b"/0/i/");
                index.then(|| u64::from_le_bytes(entry.value.clone().try_into().unwrap()))
            });
            assert_eq!(entry.version, height.unwrap_or(120) + 1, "{}", entry.key.escape_ascii());
        }

        let manifest = manifest(&path);
        assert_eq!((manifest.via.as_str(), manifest.chain_id.as_deref()), ("blocks", Some("sample-1")));
        assert_eq!((manifest.included_height, manifest.pinned, manifest.lacks), (60, true, made.lacks));
        assert!(manifest.runs.is_some() && manifest.store_id.is_some());
        let report = evbackup::verify::run(
            evbackup::verify::Options { paths: chain.to_vec(), ..Default::default() },
            Progress::new(),
        );
        let report = report.await.unwrap();
        assert!(report.ok, "{:?}", report.findings);

        let directory = folder.path().join("badger");
        evbackup::restore::run(into_badger(&chain, &directory), Progress::new()).await.unwrap();
        restore_to(&chain, &folder.path().join("store")).await.unwrap();
        let of = |path: PathBuf| async move { digest_at(&[path], 1, false).await.unwrap() };
        let expected = of(path.clone()).await;
        assert_eq!(
            [of(directory).await, of(folder.path().join("store")).await],
            [expected.clone(), expected]
        );
    });
}

/// Of states below the tip nobody knows where the node stood on DA; a sequencer that does not know it either reads nothing from there.
#[test]
fn what_is_cut_below_the_tip_of_a_copy_goes_on_reading_da() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let node = Node::new(sample());
        let address = node.start().await;
        copy(address, &path("full"), Since::Version(0)).await.unwrap();
        node.world().sample.extend(30, |_, _| {});
        copy(address, &path("inc"), Since::Segment(path("full"))).await.unwrap();
        let chain = [path("full"), path("inc")];
        put(
            &path("genesis.json"),
            format!(
                r#"{{"chain_id": "sample-1", "start_time": "2023-11-14T22:13:20.123456789Z", "initial_height": 1,
                    "da_start_height": 90, "proposer_address": "{}"}}"#,
                data_encoding::BASE64.encode(&node.world().sample.proposer().address())
            )
            .as_bytes(),
        );
        for (height, genesis, da_height) in [(80, false, 101), (80, true, 90), (130, false, 220)] {
            let dest = path(&format!("{height}{genesis}"));
            let options = evbackup::restore::Options {
                at_height: Some(height),
                role: Some("aggregator".to_owned()),
                genesis: genesis.then(|| path("genesis.json")),
                ..into_rocksdb(&chain, &dest)
            };
            let made = evbackup::restore::run(options, Progress::new()).await.unwrap();
            let store = evbackup::store::Store::open(&dest).unwrap();
            let snapshot = store.snapshot().unwrap();
            let value = |key: &[u8]| snapshot.get(key).unwrap().unwrap().value;
            let state = value(format!("/0/s/{height}").as_bytes());
            assert_eq!(evbackup::evnode::record::State::decode(&state).unwrap().da_height, da_height);
            let checkpoint = evbackup::evnode::record::Checkpoint { da_height, tx_index: 0 };
            assert_eq!(value(b"/single/checkpoint"), checkpoint.encode());
            let guessed = made.dangers.iter().any(|danger| danger.contains("da_start_height"));
            assert_eq!(guessed, da_height == 101, "{:?}", made.dangers);
        }
    });
}

/// A chain that has left its based sequencer may break one link there, and none besides.
#[test]
fn the_link_that_breaks_behind_a_based_sequencer_is_copied_once() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        for raw in [false, true] {
            let take = async |sample: Sample, name: &str| {
                let path = folder.path().join(format!("{name}{raw}"));
                let address = Node::new(sample).start().await;
                let options =
                    backup::Options { via: Via::Blocks, raw, ..options(address, &path, Since::Version(0)) };
                backup::run(options, Progress::new()).await
            };
            let made = take(super::live::once_based(10, 20, &[11]), "once").await.unwrap();
            assert_eq!(made.complete_height, 20);
            assert!(made.notes.iter().any(|note| note.contains("was_based")), "{:?}", made.notes);
            for broken in [&[11, 15][..], &[9], &[15]] {
                let error = take(super::live::once_based(10, 20, broken), "no").await.unwrap_err();
                assert_eq!(error.kind(), Kind::Damaged, "{broken:?}: {error}");
            }
        }
    });
}

/// Nor does the block after the tip, which came meanwhile, break one more.
#[test]
fn the_block_after_the_tip_counts_among_the_links_that_break_once() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        for (name, unsigned, broken) in
            [("first", (1..=20).collect::<Vec<u64>>(), vec![21]), ("second", vec![10, 20], vec![11, 21])]
        {
            let draft = move |stage: Stage, draft: &mut Draft| match stage {
                Stage::Made if broken.contains(&draft.height) => draft.last_header_hash = vec![7; 32],
                Stage::Signed if unsigned.contains(&draft.height) => {
                    draft.signature.clear();
                    draft.signature_beside.clear();
                    draft.signer_key.clear();
                }
                _ => {}
            };
            let mut sample = Sample::new(1);
            sample.extend(20, &draft);
            let node = Node::new(sample).troubled(move |world, asked| {
                if *asked == Asked::Block(12) && world.tip() == 20 {
                    world.sample.extend(1, &draft);
                }
                Ok(())
            });
            let path = folder.path().join(name);
            let options =
                backup::Options { via: Via::Blocks, ..options(node.start().await, &path, Since::Version(0)) };
            let made = backup::run(options, Progress::new()).await;
            if name == "first" {
                let made = made.unwrap();
                assert_eq!(made.complete_height, 20);
                assert!(made.notes.iter().any(|note| note.starts_with("block 21 ")), "{:?}", made.notes);
            } else {
                let error = made.unwrap_err();
                assert!(error.what().contains("block 21: expected the hash of header 20"), "{error}");
            }
        }
    });
}

#[test]
fn raw_is_byte_for_byte() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.badger");
        let node = Node::new(sample());
        let made = copy_raw(node.start().await, &path, Since::Version(0)).await.unwrap();
        assert_eq!(made.via, "raw");
        assert!(made.notes.is_empty() && !made.lacks.contains(&"state-da-heights".to_owned()));
        let mut found = live(std::slice::from_ref(&path));
        found.remove("/single/checkpoint");
        expect_same(&found, &held(&node.world().sample));
        expect_sound(&[path], 120);
    });
}

#[test]
fn raw_is_probed_and_what_is_not_raw_is_told() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.badger");
        let node = Node::new(sample());
        node.world().fixed = true;
        let address = node.start().await;
        let made = copy_raw(address, &path, Since::Version(0)).await.unwrap();
        assert_eq!(made.via, "blocks");
        assert!(made.notes[0].contains("documented RPCs instead"), "{:?}", made.notes);

        node.world().fixed = false;
        let raw = folder.path().join("raw.badger");
        copy_raw(address, &raw, Since::Version(0)).await.unwrap();
        node.world().fixed = true;
        let error =
            copy_raw(address, &folder.path().join("inc.badger"), Since::Segment(raw)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Mismatch, "{error}");
    });
}

/// Grows a node by blocks and by what happens on DA, and takes increments in between.
#[test]
fn increments_go_on_at_their_height_and_carry_what_changed_since() {
    block_on(async {
        for raw in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let node = Node::new(sample());
            let address = node.start().await;
            let take = |path: PathBuf, since: Since| async move {
                let options = backup::Options { via: Via::Blocks, raw, ..options(address, &path, since) };
                backup::run(options, Progress::new()).await.unwrap()
            };
            take(path("full"), Since::Version(0)).await;
            node.world().asked.clear();
            {
                let sample = &mut node.world().sample;
                sample.extend(30, |_, _| {});
                sample.include(140);
                sample.mark(Mark::SubmittedHeader, 150);
                sample.remove(b"/0/m/gdh");
            }
            let inc = take(path("inc1"), Since::Segment(path("full"))).await;
            assert_eq!((inc.kind, inc.since_version, inc.complete_height), ("inc", 121, 150));
            let asked_for_old = node.world().asked.iter().any(|asked| matches!(asked, Asked::Block(1..=119)));
            assert!(!asked_for_old, "blocks below the base were asked for again");
            let again = take(path("inc2"), Since::Segment(path("inc1"))).await;
            assert_eq!((again.entries, again.complete_version, again.bytes), (0, 151, 0));
            node.world().sample.extend(1, |_, _| {});
            node.world().sample.include(151);
            take(path("inc3"), Since::Segment(path("inc2"))).await;
            assert_eq!(manifest(&path("inc3")).included_height, 151);

            let chain = ["full", "inc1", "inc2", "inc3"].map(path);
            let found = live(&chain);
            assert_eq!(found[&da_height(61, Part::Data)], 161u64.to_le_bytes());
            assert!(!found.contains_key("/0/m/gdh"));
            expect_same(&without_da_heights(found), &without_da_heights(held(&node.world().sample)));
            expect_sound(&chain, 151);
        }
    });
}

#[test]
fn a_bare_version_is_a_height_and_one() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let node = Node::new(sample());
        let address = node.start().await;
        copy(address, &path("full"), Since::Version(0)).await.unwrap();
        node.world().sample.extend(5, |_, _| {});
        let blocks = |since| backup::Options { via: Via::Blocks, ..options(address, &path("inc"), since) };
        backup::run(blocks(Since::Version(121)), Progress::new()).await.unwrap();
        let chain = ["full", "inc"].map(path);
        expect_same(&without_da_heights(live(&chain)), &without_da_heights(held(&node.world().sample)));
        let error = copy(address, &path("inc2"), Since::Version(121)).await.unwrap_err();
        assert_eq!(
            error.kind(),
            Kind::Unsupported,
            "a version alone does not say of which kind it is: {error}"
        );
        let error =
            backup::run(backup::Options { overwrite: true, ..blocks(Since::Version(200)) }, Progress::new());
        assert_eq!(error.await.unwrap_err().kind(), Kind::Mismatch);
    });
}

#[test]
fn a_chain_keeps_its_kind() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        evbackup::flow::sample::create(&path("store"), 60, evbackup::flow::sample::Shape::default()).unwrap();
        let server = crate::proof::serve_store(&path("store")).await;
        let streamed = take(&crate::proof::at(&server), &path("streamed"), Since::Version(0)).await.unwrap();
        assert_eq!((streamed.via.as_str(), streamed.lacks.len()), ("rpc", 0));

        let node = Node::new(sample());
        let address = node.start().await;
        let rpc = backup::Options { via: Via::Rpc, ..options(address, &path("no"), Since::Version(0)) };
        let error = backup::run(rpc, Progress::new()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("via=\"blocks\"")), "{error:?}");

        // A chain of the Backup RPC's does not go on with blocks …
        for via in [Via::Auto, Via::Blocks] {
            let options = options(address, &path("no"), Since::Segment(path("streamed")));
            let error = backup::run(backup::Options { via, ..options }, Progress::new()).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Mismatch, "{via:?}: {error}");
        }
        // … but a full backup may begin another one.
        let full = options(address, &path("copied"), Since::Segment(path("streamed")));
        let full =
            backup::run(backup::Options { on_mismatch_full: true, ..full }, Progress::new()).await.unwrap();
        assert_eq!((full.kind, full.via.as_str()), ("full", "blocks"));

        // And a chain of blocks goes on with blocks, or not at all.
        node.world().sample.extend(3, |_, _| {});
        let inc = copy(address, &path("inc"), Since::Segment(path("copied"))).await.unwrap();
        assert_eq!((inc.kind, inc.via.as_str()), ("inc", "blocks"));
        for (via, raw) in [(Via::Rpc, false), (Via::Blocks, true), (Via::Auto, true)] {
            let options = options(address, &path("no"), Since::Segment(path("copied")));
            let error =
                backup::run(backup::Options { via, raw, ..options }, Progress::new()).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Mismatch, "{via:?}, raw {raw}: {error}");
        }
        let both =
            backup::Options { via: Via::Rpc, raw: true, ..options(address, &path("no"), Since::Version(0)) };
        assert_eq!(backup::run(both, Progress::new()).await.unwrap_err().kind(), Kind::Invalid);
        let local = backup::Origin::datastore(path("store"));
        let local = backup::Options { via: Via::Blocks, ..to_file(&local, &path("no")) };
        assert_eq!(backup::run(local, Progress::new()).await.unwrap_err().kind(), Kind::Invalid);
        assert!(!path("no").exists());
        server.stop().await.unwrap();
    });
}

#[test]
fn another_chain_is_not_followed() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let address = Node::new(sample()).start().await;
        copy(address, &path("full"), Since::Version(0)).await.unwrap();
        let mut other = Sample::with_blocks(119);
        other.extend(10, |stage, draft| {
            if stage == evbackup::evnode::sample::Stage::Made {
                draft.validator_hash = vec![1];
            }
        });
        let other = Node::new(other).start().await;
        let error = copy(other, &path("inc"), Since::Segment(path("full"))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Mismatch, "{error}");
        let short = Node::new(Sample::with_blocks(100)).start().await;
        let error = copy(short, &path("inc"), Since::Segment(path("full"))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Mismatch, "{error}");
        let empty = Node::new(Sample::new(1)).start().await;
        let error = copy(empty, &path("inc"), Since::Version(0)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(!path("inc").exists());
    });
}

#[test]
fn a_chain_that_begins_above_one_has_the_state_before_it() {
    block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let mut sample = Sample::new(1000);
        sample.extend(12, |_, _| {});
        let node = Node::new(sample);
        copy(node.start().await, &path, Since::Version(0)).await.unwrap();
        expect_same(
            &without_da_heights(live(std::slice::from_ref(&path))),
            &without_da_heights(held(&node.world().sample)),
        );
        expect_sound(&[path], 1011);
    });
}
