use super::held::Held;
use super::segments::Segments;
use super::*;
use crate::entry::{OwnedEntry, Sink as _};
use crate::error::Kind;
use crate::evnode::key::Mark;
use crate::evnode::sample::{CHAIN_ID, GENESIS_TIME, Sample, Stage};
use crate::flow::datastore::ReadOptions;
use crate::format::Writer;
use crate::proto::evnode::get_block_request::Identifier;
use crate::rpc::{Reads, Refusal};
use crate::store::{Increment, LoadOptions, Loader, NewAbout, Store};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Values in memory, and how many of them were asked for.
#[derive(Clone, Default)]
struct Fixed(Arc<Mutex<(BTreeMap<Name, Value>, usize)>>);

type Name = Vec<u8>;
type Value = Vec<u8>;

impl Fixed {
    fn of(sample: &Sample) -> Self {
        let this = Self::default();
        this.set(sample);
        this
    }

    fn set(&self, sample: &Sample) {
        let values = sample.entries().map(|entry| (entry.key.to_vec(), entry.value.to_vec()));
        self.0.lock().unwrap().0 = values.collect();
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl Values for Fixed {
    fn values(&self, keys: &[Vec<u8>], enough: usize, _: &Progress) -> Result<Vec<Option<Vec<u8>>>> {
        let mut inner = self.0.lock().unwrap();
        inner.1 += keys.len();
        let mut bytes = 0;
        let mut found = Vec::new();
        for key in keys {
            if bytes >= enough && !found.is_empty() {
                break;
            }
            let value = inner.0.get(key).cloned();
            bytes += value.as_ref().map_or(0, Vec::len);
            found.push(value);
        }
        Ok(found)
    }

    fn complete_height(&self) -> Option<u64> {
        None
    }

    fn begins_anywhere(&self) -> bool {
        false
    }
}

fn node(sample: &Sample) -> Node {
    Node::new(Fixed::of(sample), Scratch::system())
}

fn wanted() -> Progress {
    Progress::new()
}

fn stored(sample: &Sample, key: &Key<'_>) -> Vec<u8> {
    sample.value(&key.to_bytes()).unwrap().to_vec()
}

#[track_caller]
fn refused<T>(answer: Result<T, Refusal>) -> String {
    match answer {
        Ok(_) => panic!("expected a refusal"),
        Err(refusal) => format!("{refusal:?}"),
    }
}

const NO_BLOCK: &str =
    "Internal(\"failed to retrieve block data: load block header: datastore: key not found\")";

#[test]
fn a_block_by_height_is_what_is_stored_with_its_da_heights() {
    let mut sample = Sample::with_blocks(7);
    sample.include(5);
    let node = node(&sample);
    for (asked, height, da_height) in [(1, 1, 101), (5, 5, 105), (6, 6, 0), (0, 7, 0)] {
        let answer = Reads::block(&node, Some(&Identifier::Height(asked)), &wanted()).unwrap();
        let block = answer.block.unwrap();
        assert_eq!(block.header.unwrap(), stored(&sample, &Key::Header(height)));
        assert_eq!(block.data.unwrap(), stored(&sample, &Key::Data(height)));
        assert_eq!((answer.header_da_height, answer.data_da_height), (da_height, da_height));
    }
}

#[test]
fn no_block_is_internal_and_no_question_is_invalid() {
    let mut sample = Sample::with_blocks(7);
    sample.prune(2);
    let node = node(&sample);
    let block = |which: Option<Identifier>| refused(Reads::block(&node, which.as_ref(), &wanted()));
    assert_eq!(block(None), "Invalid(\"invalid or unsupported identifier type provided\")");
    for height in [1, 2, 8, u64::MAX] {
        assert_eq!(block(Some(Identifier::Height(height))), NO_BLOCK);
    }
    for hash in [vec![7; 32], vec![7; 31], vec![]] {
        let text = block(Some(Identifier::Hash(hash)));
        assert!(
            text.starts_with("Internal(\"failed to retrieve block data: failed to load height"),
            "{text}"
        );
        assert!(text.ends_with("datastore: key not found\")"), "{text}");
    }
    let empty = Node::new(Fixed::default(), Scratch::system());
    let text = refused(Reads::block(&empty, Some(&Identifier::Height(0)), &wanted()));
    assert_eq!(text, "NotFound(\"store is empty, no latest block available\")");
    assert_eq!(refused(Reads::block(&empty, Some(&Identifier::Height(1)), &wanted())), NO_BLOCK);
}

/// Releases up to v1.0.0-rc.4 keep the block in production there, with the signature of the one before.
#[test]
fn a_pending_block_above_the_tip_is_never_given() {
    let mut sample = Sample::with_blocks(7);
    sample.put(Key::Tip.to_bytes(), 6_u64.to_le_bytes().to_vec());
    let node = node(&sample);
    assert_eq!(refused(Reads::block(&node, Some(&Identifier::Height(7)), &wanted())), NO_BLOCK);
    let hash = hash::index(&stored(&sample, &Key::Header(7))).to_vec();
    assert_eq!(refused(Reads::block(&node, Some(&Identifier::Hash(hash)), &wanted())), NO_BLOCK);
    assert_eq!(node.block(7, &wanted()).unwrap_err().to_string(), "expected a height from 1 to 6, found 7");
}

#[test]
fn damaged_records_are_told_in_a_nodes_words() {
    let mut sample = Sample::with_blocks(3);
    sample.put(Key::Header(1).to_bytes(), b"\xff".to_vec());
    sample.put(Key::Data(2).to_bytes(), b"\xff".to_vec());
    sample.remove(&Key::Data(3).to_bytes());
    sample.put(Key::State(3).to_bytes(), b"\xff".to_vec());
    let node = node(&sample);
    let block = |height| refused(Reads::block(&node, Some(&Identifier::Height(height)), &wanted()));
    assert!(block(1).starts_with("Internal(\"failed to retrieve block data: unmarshal block header: "));
    assert!(
        block(2).starts_with("Internal(\"failed to retrieve block data: failed to unmarshal block data: ")
    );
    assert!(block(3).ends_with("failed to load block data: datastore: key not found\")"));
    let state = refused(Reads::state(&node, &wanted()));
    assert!(state.starts_with("NotFound(\"failed to unmarshal state from protobuf: "), "{state}");

    sample.put(Key::Tip.to_bytes(), b"short".to_vec());
    let node = super::tests::node(&sample);
    let newest = refused(Reads::block(&node, Some(&Identifier::Height(0)), &wanted()));
    assert!(newest.starts_with("Internal(\"failed to get latest height: "), "{newest}");
    let state = refused(Reads::state(&node, &wanted()));
    assert!(state.starts_with("NotFound(\"failed to get current height: "), "{state}");
}

#[test]
fn the_state_is_the_one_at_the_tip_without_its_header_hash() {
    let sample = Sample::with_blocks(4);
    let state = Reads::state(&node(&sample), &wanted()).unwrap();
    let stored = stored(&sample, &Key::State(4));
    let full = State::decode(&stored).unwrap();
    assert!(!full.last_header_hash.is_empty() && state.last_header_hash.is_empty());
    assert_eq!((state.chain_id.as_str(), state.initial_height, state.last_block_height), (CHAIN_ID, 1, 4));
    assert_eq!((&state.app_hash[..], state.da_height), (full.app_hash, 104));
    assert_eq!(state.next_proposer_address, full.next_proposer_address);
    assert_eq!(state.version, Some(crate::proto::evnode::Version { block: 0, app: 0 }));
    let time = state.last_block_time.unwrap();
    assert_eq!((time.seconds, time.nanos), (1_700_000_003, 123_456_789));

    // A chain that has not begun has the genesis state.
    let genesis = Reads::state(&node(&Sample::new(1)), &wanted()).unwrap();
    assert_eq!((genesis.last_block_height, &genesis.app_hash[..]), (0, &b"genesis-root"[..]));
    let empty = Node::new(Fixed::default(), Scratch::system());
    let text = refused(Reads::state(&empty, &wanted()));
    assert_eq!(text, "NotFound(\"failed to retrieve state: datastore: key not found\")");
}

#[test]
fn metadata_is_the_raw_value_of_a_cleaned_name() {
    let mut sample = Sample::with_blocks(3);
    sample.put(b"/0/m/empty".to_vec(), Vec::new());
    sample.mark(Mark::GenesisDa, 42);
    let node = node(&sample);
    let metadata = |name: &str| Reads::metadata(&node, name, &wanted());
    assert_eq!(metadata("empty").unwrap(), &b""[..]);
    assert_eq!(metadata("gdh").unwrap(), &42_u64.to_le_bytes()[..]);
    // It can be asked for more than metadata, as in a node.
    assert_eq!(metadata("../t").unwrap(), &3_u64.to_le_bytes()[..]);
    assert_eq!(metadata("../h/2").unwrap(), stored(&sample, &Key::Header(2)));
    for name in ["", "none", "../../batches/8000000000000000"] {
        let text = refused(metadata(name));
        let expected = format!("failed to get metadata for key '{name}': datastore: key not found");
        assert_eq!(text, format!("NotFound({expected:?})"));
    }
}

#[test]
fn the_genesis_da_height_has_eight_bytes() {
    let mut sample = Sample::with_blocks(1);
    let text = refused(Reads::genesis_da_height(&node(&sample), &wanted()));
    assert!(text.starts_with("NotFound(") && text.contains("datastore: key not found"), "{text}");
    sample.mark(Mark::GenesisDa, 42);
    assert_eq!(Reads::genesis_da_height(&node(&sample), &wanted()).unwrap(), 42);
    sample.put(Key::Mark(Mark::GenesisDa).to_bytes(), b"seven".to_vec());
    let text = refused(Reads::genesis_da_height(&node(&sample), &wanted()));
    assert_eq!(text, "NotFound(\"invalid metadata value\")");
}

#[test]
fn the_stores_for_peers_are_headers_then_data_from_the_lowest_block() {
    let mut sample = Sample::with_blocks(9);
    let mut expect = |pruned: u64| {
        if pruned > 0 {
            sample.prune(pruned);
        }
        let stores = Reads::p2p_stores(&node(&sample), &wanted()).unwrap();
        let labels: Vec<_> = stores.iter().map(|store| (store.label.as_str(), store.height)).collect();
        assert_eq!(labels, [("Header Store", 9), ("Data Store", 9)]);
        for (store, of_data) in stores.iter().zip([false, true]) {
            for (end, height) in [(&store.head, 9), (&store.tail, pruned + 1)] {
                let end = end.as_ref().unwrap();
                let block = node(&sample).block(height, &wanted()).unwrap();
                let data_hash = hash::data(&block.transactions().unwrap());
                let hash = if of_data { data_hash } else { block.hash().unwrap() };
                assert_eq!((end.height, &end.hash[..]), (height, &hash[..]));
                let time = end.time.unwrap();
                let nanos = time.seconds.cast_unsigned() * 1_000_000_000 + u64::try_from(time.nanos).unwrap();
                assert_eq!(nanos, GENESIS_TIME + (height - 1) * 1_000_000_000);
            }
        }
    };
    expect(0);
    expect(4);
    let stores = Reads::p2p_stores(&Node::new(Fixed::default(), Scratch::system()), &wanted()).unwrap();
    assert!(stores.len() == 2 && stores.iter().all(|store| store.head.is_none() && store.tail.is_none()));
    // A thin store without the mark: what is there counts.
    let mut thin = Sample::with_blocks(5);
    for height in 1..=3 {
        thin.remove(&Key::Header(height).to_bytes());
    }
    let stores = Reads::p2p_stores(&node(&thin), &wanted()).unwrap();
    assert_eq!(stores[0].tail.as_ref().unwrap().height, 4);
}

#[test]
fn the_lowest_block_is_found_in_a_few_steps_and_kept() {
    let mut thin = Sample::with_blocks(3000);
    for height in 1..=2500 {
        thin.remove(&Key::Header(height).to_bytes());
    }
    let values = Fixed::of(&thin);
    let node = Node::new(values.clone(), Scratch::system());
    let mut last = 0;
    for most in [200, 30] {
        let stores = Reads::p2p_stores(&node, &wanted()).unwrap();
        assert_eq!(stores[0].tail.as_ref().unwrap().height, 2501);
        let asked = values.asked() - last;
        assert!(asked <= most, "{asked} keys");
        last = values.asked();
    }
    // It is pruned further, or begins anew.
    thin.prune(2800);
    values.set(&thin);
    assert_eq!(Reads::p2p_stores(&node, &wanted()).unwrap()[0].tail.as_ref().unwrap().height, 2801);
    values.set(&Sample::with_blocks(3000));
    assert_eq!(Reads::p2p_stores(&node, &wanted()).unwrap()[0].tail.as_ref().unwrap().height, 1);
}

/// Only the first releases kept one state, and after an upgrade it is an old one.
#[test]
fn the_newest_state_of_the_first_releases_stands_for_the_tip_alone() {
    let mut sample = Sample::with_blocks(4);
    let [three, four] = [3, 4].map(|height| stored(&sample, &Key::State(height)));
    sample.remove(&Key::State(4).to_bytes());
    sample.put(b"/0/s".to_vec(), three);
    let text = refused(Reads::state(&node(&sample), &wanted()));
    assert_eq!(text, "NotFound(\"failed to retrieve state: datastore: key not found\")");
    assert_eq!(node(&sample).state(4, &wanted()).unwrap_err().kind(), Kind::Missing);
    sample.put(b"/0/s".to_vec(), four.clone());
    assert_eq!(Reads::state(&node(&sample), &wanted()).unwrap().last_block_height, 4);
    assert_eq!(node(&sample).state(4, &wanted()).unwrap(), four);
}

/// A datastore that cannot be read.
struct Unreadable(Kind);

impl Values for Unreadable {
    fn values(&self, _: &[Vec<u8>], _: usize, _: &Progress) -> Result<Vec<Option<Vec<u8>>>> {
        Err(Error::new(self.0, "expected a table, found none"))
    }

    fn complete_height(&self) -> Option<u64> {
        None
    }

    fn begins_anywhere(&self) -> bool {
        false
    }
}

#[test]
fn what_is_damaged_is_told_as_a_node_tells_it() {
    let node = Node::new(Unreadable(Kind::Damaged), Scratch::system());
    let said = [
        refused(Reads::block(&node, Some(&Identifier::Height(1)), &wanted())),
        refused(Reads::state(&node, &wanted())),
        refused(Reads::metadata(&node, "d", &wanted())),
        refused(Reads::genesis_da_height(&node, &wanted())),
        refused(Reads::p2p_stores(&node, &wanted())),
    ];
    for (said, code) in said.iter().zip(["Internal", "NotFound", "NotFound", "NotFound", "Internal"]) {
        assert!(said.starts_with(&format!("{code}(")) && said.contains("found none"), "{said}");
    }
    // What may be otherwise the next time is no answer.
    let node = Node::new(Unreadable(Kind::Io), Scratch::system());
    assert!(refused(Reads::metadata(&node, "d", &wanted())).starts_with("Error("));
}

#[test]
fn a_hash_is_the_index_hash_or_the_header_hash() {
    let mut sample = Sample::with_blocks(1);
    // One of releases up to v1.0.0-beta.8: its index knows it by the header hash, and its legacy fields belong to that.
    sample.extend(1, |stage, draft| {
        if stage == Stage::Made {
            draft.consensus_hash = vec![9; 32];
            draft.old_index = true;
        }
    });
    sample.extend(1300, |_, _| {});
    let values = Fixed::of(&sample);
    let node = Node::new(values.clone(), Scratch::system());
    for height in [1, 2, 3, 700, 1302] {
        let block = node.block(height, &wanted()).unwrap();
        // The index knows the old one by its header hash only.
        let names = [block.hash().unwrap(), block.index_hash()];
        for name in names.into_iter().take(if height == 2 { 1 } else { 2 }) {
            let found = Reads::block(&node, Some(&Identifier::Hash(name.to_vec())), &wanted()).unwrap();
            assert_eq!(found.block.unwrap().header.unwrap(), block.header, "{height}");
            assert_eq!(node.block_of(&name, &wanted()).unwrap(), block);
        }
    }
    // Once all were looked at, a question costs a few keys.
    let before = values.asked();
    assert_eq!(node.block_of(&[7; 32], &wanted()).unwrap_err().kind(), Kind::Missing);
    assert!(values.asked() - before < 10, "{}", values.asked() - before);
    assert_eq!(node.block_of(&[7; 31], &wanted()).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn a_header_hash_of_a_branch_that_was_left_is_no_answer() {
    let mut old = Sample::with_blocks(5);
    let mut new = old.clone();
    old.extend(5, |_, _| {});
    new.extend(3, |stage, draft| {
        if stage == Stage::Made {
            draft.time += 1;
        }
    });
    let values = Fixed::of(&old);
    let node = Node::new(values.clone(), Scratch::system());
    let hash_at = |height| node.block(height, &wanted()).unwrap().hash().unwrap();
    let (kept, left, above) = (hash_at(5), hash_at(7), hash_at(10));
    assert_eq!(node.block_of(&above, &wanted()).unwrap().height, 10);
    values.set(&new);
    for gone in [left, above] {
        assert_eq!(node.block_of(&gone, &wanted()).unwrap_err().kind(), Kind::Missing);
    }
    assert_eq!(node.block_of(&kept, &wanted()).unwrap().height, 5);
    // It grows beyond where the old one ended.
    new.extend(5, |_, _| {});
    values.set(&new);
    for height in [6, 7, 8, 9, 13] {
        let hash = node.block(height, &wanted()).unwrap().hash().unwrap();
        assert_eq!(node.block_of(&hash, &wanted()).unwrap().height, height);
    }
}

#[test]
fn people_are_told_which_heights_there_are() {
    let mut sample = Sample::with_blocks(9);
    let text = |node: &Node, height| node.block(height, &wanted()).unwrap_err();
    for height in [0, 10, u64::MAX] {
        let error = text(&node(&sample), height);
        assert_eq!(error.to_string(), format!("expected a height from 1 to 9, found {height}"));
        assert_eq!(error.kind(), Kind::Invalid);
    }
    sample.prune(4);
    let error = text(&node(&sample), 4);
    assert_eq!(error.to_string(), "expected a block from 5 to 9, found 4, which was pruned");
    assert_eq!(error.kind(), Kind::Missing);
    sample.remove(&Key::Data(7).to_bytes());
    let error = text(&node(&sample), 7);
    assert_eq!(error.to_string(), "expected block 7 among those from 5 to 9, found none");
    let error = text(&Node::new(Fixed::default(), Scratch::system()), 1);
    assert_eq!(error.to_string(), "expected blocks of ev-node, found none");

    let late = Sample::new(100);
    let mut late = late.clone();
    late.extend(3, |_, _| {});
    assert_eq!(node(&late).heights(&wanted()).unwrap(), Heights { first: 100, last: 102 });
    assert_eq!(text(&node(&late), 99).to_string(), "expected a height from 100 to 102, found 99");

    let error = node(&sample).state(10, &wanted()).unwrap_err();
    assert_eq!(error.to_string(), "expected a height up to 9, found 10");
    sample.mark(Mark::PrunedStates, 3);
    sample.remove(&Key::State(2).to_bytes());
    let error = node(&sample).state(2, &wanted()).unwrap_err();
    assert_eq!(error.to_string(), "expected a state from 4 to 9, found 2, which was pruned");
    assert_eq!(node(&sample).state(0, &wanted()).unwrap(), stored(&sample, &Key::State(0)));
    assert_eq!(node(&sample).chain_id(&wanted()).unwrap().as_deref(), Some(CHAIN_ID));
}

#[test]
fn blocks_come_in_stretches_that_memory_bounds() {
    let mut sample = Sample::with_blocks(100);
    sample.extend(3, |stage, draft| {
        if stage == Stage::Made {
            draft.transactions = vec![vec![7; 3 << 20]];
        }
    });
    sample.extend(2, |_, _| {});
    let node = node(&sample);
    let (mut at, mut seen, mut stretches) = (1, Vec::new(), Vec::new());
    while at < 106 {
        let blocks = node.blocks(at, 106, &wanted()).unwrap();
        stretches.push(blocks.len());
        at = blocks.last().unwrap().height + 1;
        seen.extend(blocks);
    }
    // Two of 3 MiB go beyond what is enough.
    assert_eq!(stretches, [64, 38, 3]);
    assert_eq!(seen.iter().map(|block| block.height).collect::<Vec<_>>(), (1..=105).collect::<Vec<_>>());
    for block in &seen {
        assert_eq!(block, &node.block(block.height, &wanted()).unwrap());
    }
    assert!(node.blocks(7, 7, &wanted()).unwrap().is_empty());
    // What is whole comes, then the error.
    assert_eq!(node.blocks(104, 200, &wanted()).unwrap().len(), 2);
    assert_eq!(node.blocks(106, 200, &wanted()).unwrap_err().kind(), Kind::Invalid);
}

fn store_at(path: &Path, sample: &Sample, tip: u64) {
    let mut loader = Loader::create(path, LoadOptions::default()).unwrap();
    sample.entries().try_for_each(|entry| loader.put(entry)).unwrap();
    loader.finish_with(NewAbout { pinned_version: tip, ..NewAbout::default() }).unwrap();
}

#[test]
fn a_held_store_is_opened_again_when_it_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut sample = Sample::with_blocks(3);
    store_at(&path, &sample, 3);
    let held = Arc::new(Held::open(&path, &ReadOptions::default()).unwrap());
    let node = Node::new(Arc::clone(&held), Scratch::system());
    let (one, two) = (held.datastore().unwrap(), held.datastore().unwrap());
    assert!(Arc::ptr_eq(&one, &two), "it was opened anew without need");
    assert_eq!(node.height(&wanted()).unwrap(), 3);

    let before: BTreeMap<_, _> = sample.owned().into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    sample.extend(2, |_, _| {});
    let mut store = Store::open_for_writing(&path).unwrap();
    let mut increment = Increment::begin(&mut store, LoadOptions::default()).unwrap();
    for entry in sample.owned().iter().filter(|entry| before.get(&entry.key) != Some(entry)) {
        increment.put(entry.as_entry()).unwrap();
    }
    increment.finish_with(NewAbout { pinned_version: 5, ..NewAbout::default() }).unwrap();
    drop(store);
    assert_eq!(node.height(&wanted()).unwrap(), 5);
    assert_eq!(node.block(5, &wanted()).unwrap().header, stored(&sample, &Key::Header(5)));

    // Another one in its place.
    drop((one, two));
    let other = folder.path().join("other");
    store_at(&other, &Sample::with_blocks(9), 9);
    let old = folder.path().join("old");
    #[expect(clippy::disallowed_methods, reason = "a test moves directories about")]
    {
        std::fs::rename(&path, old).unwrap();
        std::fs::rename(&other, &path).unwrap();
    }
    assert_eq!(node.height(&wanted()).unwrap(), 9);

    // Whoever has it finishes; nobody asking, it is let go.
    let reader = held.datastore().unwrap();
    held.rest(std::time::Duration::ZERO);
    assert_eq!(reader.snapshot().unwrap().tip().unwrap(), 9);
    assert!(!Arc::ptr_eq(&reader, &held.datastore().unwrap()));
}

/// A stream of these entries as two runs that interleave, in small frames.
fn stream(entries: &[OwnedEntry], path: &Path) {
    let mut bytes = Vec::new();
    for frame in entries.chunks(50) {
        for (id, rest) in [(1, 0), (2, 1)] {
            let mut writer = Box::new(Writer::new(id, |frame: &mut Vec<u8>| {
                bytes.extend_from_slice(frame);
                Ok(())
            }));
            let half = frame.iter().filter(|entry| usize::from(entry.key.last().unwrap() % 2 == 0) == rest);
            half.for_each(|entry| writer.put(entry.as_entry()).unwrap());
            writer.finish().unwrap();
        }
    }
    #[expect(clippy::disallowed_methods, reason = "a test writes a file")]
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_segment_answers_as_the_store_does_that_it_would_be_restored_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.badger");
    let mut sample = Sample::with_blocks(300);
    sample.extend(1, |stage, draft| {
        if stage == Stage::Made {
            draft.transactions = (0..200).map(|number| vec![number; 1000]).collect();
        }
    });
    stream(&sample.owned(), &path);
    let segments = Arc::new(Segments::open(std::slice::from_ref(&path), &wanted()).unwrap());
    for entry in sample.owned() {
        assert_eq!(segments.newest(&entry.key).unwrap().as_ref(), Some(&entry));
        let absent = [&entry.key[..], b"!"].concat();
        assert_eq!(segments.newest(&absent).unwrap(), None);
    }
    assert!(segments.newest(b"").unwrap().is_none() && segments.newest(b"\xff").unwrap().is_none());
    let (ours, fixed) = (Node::new(segments, Scratch::system()), node(&sample));
    assert_eq!(ours.heights(&wanted()).unwrap(), Heights { first: 1, last: 301 });
    for height in 1..=301 {
        let block = ours.block(height, &wanted()).unwrap();
        assert_eq!(block, fixed.block(height, &wanted()).unwrap());
    }
    assert_eq!(
        ours.block_of(&ours.block(9, &wanted()).unwrap().hash().unwrap(), &wanted()).unwrap().height,
        9
    );
}

#[test]
fn of_a_chain_of_segments_the_newest_entry_counts() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::with_blocks(5);
    let mut grown = sample.clone();
    grown.extend(4, |_, _| {});
    let before = sample.owned();
    let mut later: Vec<_> = grown.owned().into_iter().filter(|entry| !before.contains(entry)).collect();
    later.push(OwnedEntry {
        key: b"/batches/8000000000000000".to_vec(),
        version: 9,
        meta: crate::entry::META_DELETE,
        ..OwnedEntry::default()
    });
    let mut first = before;
    first.push(OwnedEntry {
        value: b"queued".to_vec(),
        meta: 0,
        version: 5,
        ..later.last().unwrap().clone()
    });
    for entries in [&mut first, &mut later] {
        entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    }
    let paths = [folder.path().join("full.badger"), folder.path().join("inc.badger")];
    stream(&first, &paths[0]);
    stream(&later, &paths[1]);
    let segments = Arc::new(Segments::open(&paths, &wanted()).unwrap());
    let queued = segments.newest(b"/batches/8000000000000000").unwrap().unwrap();
    assert!(queued.version == 9 && queued.as_entry().is_delete());
    let ours = Node::new(segments, Scratch::system());
    assert_eq!(ours.metadata("../../batches/8000000000000000", &wanted()).unwrap(), None);
    let blocks = ours.blocks(1, 10, &wanted()).unwrap();
    assert_eq!(blocks, node(&grown).blocks(1, 10, &wanted()).unwrap());

    // The increment alone has its own blocks only.
    let alone = Segments::open(&paths[1..], &wanted()).unwrap();
    let alone = Node::new(Arc::new(alone), Scratch::system());
    assert_eq!(alone.block(7, &wanted()).unwrap().height, 7);
    let error = alone.block(3, &wanted()).unwrap_err();
    assert_eq!(error.kind(), Kind::Missing);
    assert!(error.hint().unwrap().contains("whole chain"), "{error:?}");
    let there = alone.heights(&wanted()).unwrap();
    assert_eq!(there, Heights { first: 6, last: 9 });
    assert_eq!(alone.blocks(there.first, there.last + 1, &wanted()).unwrap().len(), 4);
}
