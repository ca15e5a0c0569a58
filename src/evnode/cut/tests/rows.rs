//! One test for each row of the table.

use super::*;

#[test]
fn the_tip_is_the_height_in_the_version_of_its_block() {
    let left = cut(&Sample::with_blocks(30), 12, exact());
    let tip = &left.entries[TIP];
    assert_eq!((tip.value.as_slice(), tip.version), (&le(12)[..], 12));
    assert_eq!(left.why("tip", "rewritten"), "the tip was 30 and is 12");
    let mut sample = Sample::with_blocks(30);
    sample.remove(TIP);
    assert_eq!(cut(&sample, 12, exact()).why("tip", "added"), "the tip is 12");
}

#[test]
fn blocks_states_and_index_above_go_and_orphans_too() {
    let mut sample = Sample::with_blocks(30);
    sample.put(Key::Index([7; 32]).to_bytes(), le(500));
    sample.put(Key::Index([8; 32]).to_bytes(), le(5));
    sample.put(Key::Index([9; 32]).to_bytes(), b"odd".to_vec());
    let left = cut(&sample, 12, exact());
    for family in [Key::Header as fn(u64) -> Key<'static>, Key::Data, Key::Signature, Key::State] {
        assert!(left.has(&family(12)) && !left.has(&family(13)) && !left.has(&family(30)));
    }
    assert!(
        !left.has(&Key::Index([7; 32])) && left.has(&Key::Index([8; 32])) && left.has(&Key::Index([9; 32]))
    );
    let expected = [
        ("tip", "rewritten", 1),
        ("headers", "dropped", 18),
        ("data", "dropped", 18),
        ("signatures", "dropped", 18),
        ("states", "dropped", 18),
        ("index", "dropped", 19),
    ];
    assert_eq!(left.brief(), expected);
    assert_eq!(left.why("headers", "dropped"), "above height 12");
    assert_eq!(left.why("index", "dropped"), "names a block above height 12");
    assert!(left.changes[1].keys.is_empty(), "millions of them are not named");
}

#[test]
fn da_marks_are_not_above_the_cut() {
    let mut sample = Sample::with_blocks(30);
    sample.include(20);
    sample.mark(Mark::GenesisDa, 7_000);
    sample.mark(Mark::SubmittedHeader, 28);
    sample.mark(Mark::SubmittedData, 10);
    let marks = |left: &Left| {
        [Mark::DaIncluded, Mark::SubmittedHeader, Mark::SubmittedData, Mark::GenesisDa]
            .map(|mark| left.number(&Key::Mark(mark)).unwrap())
    };
    let left = cut(&sample, 12, follower());
    assert_eq!(marks(&left), [12, 12, 10, 7_000]);
    assert!(left.has(&Key::DaHeight(12, Part::Data)) && !left.has(&Key::DaHeight(13, Part::Header)));
    left.check(Signatures::Unverified);
    assert_eq!(left.why("metadata", "rewritten"), "was 20 and is 12: no mark is above height 12");
    assert_eq!(left.changes.iter().find(|one| one.family.name() == "metadata").unwrap().keys, ["/0/m/d"]);
    // An aggregator submits again what is not known to be on DA.
    assert_eq!(marks(&cut(&sample, 25, aggregator())), [20, 20, 10, 7_000]);
    assert_eq!(marks(&cut(&sample, 25, follower())), [20, 25, 10, 7_000]);
    let forced = Options { force: true, ..aggregator() };
    let left = cut(&sample, 12, forced);
    assert_eq!(marks(&left), [12, 12, 10, 7_000]);
    assert!(left.dangers.iter().any(|danger| danger.contains("blocks 13 to 20 are public on DA")));
    // Nothing on DA yet: everything is submitted again, but for what is pruned.
    let mut sample = Sample::with_blocks(30);
    sample.mark(Mark::SubmittedHeader, 28);
    sample.mark(Mark::SubmittedData, 28);
    assert_eq!(cut(&sample, 25, aggregator()).number(&Key::Mark(Mark::SubmittedHeader)), Some(0));
    sample.prune(9);
    assert_eq!(cut(&sample, 25, aggregator()).number(&Key::Mark(Mark::SubmittedHeader)), Some(9));
}

#[test]
fn the_pending_block_stays_if_it_is_the_next_one() {
    let both = [Key::Pending(Part::Header), Key::Pending(Part::Data)];
    let mut sample = Sample::with_blocks(30);
    pend(&mut sample);
    let left = cut(&sample, 30, exact());
    assert!(both.iter().all(|key| left.has(key)) && left.changes.is_empty());
    let left = cut(&sample, 29, exact());
    assert!(!both.iter().any(|key| left.has(key)));
    assert_eq!(left.why("metadata", "dropped"), "the block in production is not 30");
    // Committed meanwhile, it is the one that was in production at 29.
    let mut longer = sample.clone();
    longer.extend(1, |_, _| {});
    let left = cut(&longer, 30, exact());
    assert!(both.iter().all(|key| left.has(key)));
    left.check(Signatures::Unverified);
    // One alone stops the production.
    longer.remove(&both[1].to_bytes());
    assert!(!cut(&longer, 30, exact()).has(&both[0]));
    longer.put(both[1].to_bytes(), b"\xff".to_vec());
    assert!(!cut(&longer, 30, exact()).has(&both[0]));
}

#[test]
fn cache_records_above_go() {
    let mut sample = Sample::with_blocks(30);
    let records =
        |heights: &[u64]| heights.iter().flat_map(|n| [le(*n), le(100 + *n)].concat()).collect::<Vec<_>>();
    let snap = Key::CacheSnapshot(Part::Header);
    let (low, high) = (Key::CacheEntry(Part::Data, b"AA"), Key::CacheEntry(Part::Data, b"BB"));
    sample.put(snap.to_bytes(), records(&[3, 13, 12]));
    sample.put(Key::CacheSnapshot(Part::Data).to_bytes(), b"odd".to_vec());
    // Of rc.3: DA height first.
    sample.put(low.to_bytes(), [le(900), le(12)].concat());
    sample.put(high.to_bytes(), [le(1), le(13)].concat());
    let left = cut(&sample, 12, exact());
    assert_eq!(left.value(&snap.to_bytes()), Some(&records(&[3, 12])[..]));
    assert!(left.has(&low) && !left.has(&high) && left.has(&Key::CacheSnapshot(Part::Data)));
    let cache: Vec<_> = left.brief().into_iter().filter(|(family, ..)| *family == "cache").collect();
    assert_eq!(cache, [("cache", "dropped", 1), ("cache", "rewritten", 1)]);
}

#[test]
fn the_queue_stays_or_goes_as_asked() {
    let mut sample = Sample::with_blocks(30);
    for number in 0..3 {
        let (key, value) = queue(number, &["x=1"]);
        sample.put(key, value);
    }
    sample.put(Key::QueuedByHash([1; 32]).to_bytes(), Batch::encode([&b"y"[..]]));
    let queued = |left: &Left| left.entries.keys().filter(|key| key.starts_with(b"/batches/")).count();
    let left = cut(&sample, 12, exact());
    assert_eq!(queued(&left), 4);
    assert!(
        left.dangers.iter().any(|danger| danger.starts_with("the 18 transactions of the blocks above 12"))
    );
    let left = cut(&sample, 12, Options { drop_queue: true, ..exact() });
    assert_eq!(queued(&left), 0);
    assert_eq!(left.why("queue", "dropped"), "drop_queue was asked for");
}

#[test]
fn removed_transactions_are_requeued_before_the_queue_oldest_first() {
    let mut sample = Sample::with_blocks(30);
    let (key, value) = queue(5, &["x=1"]);
    sample.put(key, value);
    // One that was not acknowledged yet, of a block that goes.
    let (done, value) = queue(4, &["k28-1=v"]);
    sample.put(done.clone(), value);
    let left = cut(&sample, 24, Options { requeue: true, ..exact() });
    let queue: Vec<Vec<String>> = left
        .entries
        .iter()
        .filter(|(key, _)| key.starts_with(b"/batches/"))
        .map(|(_, entry)| {
            let batch = Batch::decode(&entry.value).unwrap();
            batch.transactions().map(|one| String::from_utf8(one.to_vec()).unwrap()).collect()
        })
        .collect();
    // Blocks 27 and 30 are empty.
    assert_eq!(
        queue,
        [
            vec!["k25-1=v"],
            vec!["k26-1=v", "k26-2=v"],
            vec!["k28-1=v"],
            vec!["k29-1=v", "k29-2=v"],
            vec!["x=1"],
        ]
    );
    assert!(!left.entries.contains_key(&done));
    assert_eq!(
        left.why("queue", "added"),
        "requeue was asked for: the transactions of removed blocks, oldest first"
    );
    let keys = &left.changes.iter().find(|one| one.action == Action::Added).unwrap().keys;
    // Numbers count down from the lowest of the node's own.
    assert_eq!(keys.iter().min().unwrap(), "/batches/7ffffffffffffffa");
    assert!(left.dangers.iter().any(|danger| danger.contains("comes again from DA")));
    assert!(!left.dangers.iter().any(|danger| danger.contains("in no queue")));
}

#[test]
fn where_deletes_were_lost_what_stands_in_later_blocks_is_no_longer_queued() {
    let unsure = Options { deletes_exact: false, ..exact() };
    let mut sample = Sample::new(1);
    sample.extend(10, |_, _| {});
    // Queued at version 11: what block 11 has came after, what block 8 has did not.
    for (number, transactions) in
        (0..).zip([&["k11-1=v", "k11-2=v"][..], &["k8-1=v"], &["k11-1=v", "new"], &["k29-1=v"]])
    {
        let (key, value) = queue(number, transactions);
        sample.put(key, value);
    }
    sample.extend(20, |_, _| {});
    // Written anew above, with a later version.
    let there = |left: &Left| -> Vec<u64> {
        (0..4).filter(|number| left.has(&Key::Queued((1 << 63) + number))).collect()
    };
    assert_eq!(there(&cut(&sample, 20, exact())), [0, 1, 2, 3]);
    let left = cut(&sample, 20, unsure.clone());
    assert_eq!(there(&left), [0, 1, 2, 3], "block 11 has the version of the entry");
    let mut sample = Sample::new(1);
    sample.extend(9, |_, _| {});
    for (number, transactions) in
        (0..).zip([&["k11-1=v", "k11-2=v"][..], &["k8-1=v"], &["k11-1=v", "new"], &["k29-1=v"]])
    {
        let (key, value) = queue(number, transactions);
        sample.put(key, value);
    }
    sample.extend(21, |_, _| {});
    let left = cut(&sample, 20, unsure.clone());
    assert_eq!(there(&left), [1, 2, 3], "block 29 goes");
    assert_eq!(there(&cut(&sample, 30, unsure)), [1, 2]);
    assert_eq!(
        left.changes.iter().find(|one| one.family.name() == "queue").unwrap().keys,
        ["/batches/8000000000000000"]
    );
}

#[test]
fn checkpoints_do_not_pass_the_state() {
    let (single, based) = (Key::SingleCheckpoint.to_bytes(), Key::BasedCheckpoint.to_bytes());
    let mut sample = Sample::with_blocks(30);
    sample.put(single.clone(), checkpoint(130, 3));
    sample.put(based.clone(), checkpoint(112, 3));
    let left = cut(&sample, 12, exact());
    // The state after block n has the DA height 100 + n.
    assert_eq!(left.value(&single), Some(&checkpoint(112, 0)[..]));
    assert_eq!(left.value(&based), Some(&checkpoint(112, 3)[..]));
    assert_eq!(
        left.why("checkpoints", "rewritten"),
        "the DA height was 130 and is 112, that of the state after block 12"
    );
    assert!(left.dangers.iter().any(|danger| danger.contains("half consumed")));
    // What could not be copied is made for a producer.
    sample.remove(&single);
    sample.remove(&based);
    let lacks = |options: Options| Options { lacks_checkpoint: true, ..options };
    assert_eq!(cut(&sample, 12, lacks(aggregator())).value(&single), Some(&checkpoint(112, 0)[..]));
    assert_eq!(cut(&sample, 12, lacks(follower())).value(&single), None);
}

/// A chain whose states do not say where the node stood on DA, but for that of the tip: so does a copy by a node's RPCs.
fn copied(known: &[u64]) -> Sample {
    let mut sample = Sample::with_blocks(30);
    for height in (0..=30).filter(|height| !known.contains(height)) {
        let key = Key::State(height).to_bytes();
        let before = sample.value(&key).unwrap().to_vec();
        let mut value = Vec::new();
        State { da_height: 0, ..State::decode(&before).unwrap() }.encode(&mut value);
        sample.put(key, value);
    }
    sample.put(Key::SingleCheckpoint.to_bytes(), checkpoint(130, 0));
    sample
}

fn da_height(left: &Left, height: u64) -> u64 {
    State::decode(left.value(&Key::State(height).to_bytes()).unwrap()).unwrap().da_height
}

#[test]
fn a_state_that_does_not_say_where_it_was_on_da_gets_the_highest_height_that_is_surely_not_too_high() {
    let single = Key::SingleCheckpoint.to_bytes();
    // The tip of an earlier increment.
    let left = cut(&copied(&[9, 30]), 12, aggregator());
    assert_eq!((da_height(&left, 12), left.value(&single)), (109, Some(&checkpoint(109, 0)[..])));
    assert_eq!(
        left.why("states", "rewritten"),
        "it did not say where the node stood on DA: its DA height is 109"
    );
    left.check(Signatures::Required);
    // Nothing below says it: the genesis does, or the first block on DA.
    let mut sample = copied(&[30]);
    sample.mark(Mark::GenesisDa, 101);
    let left = cut(&sample, 12, aggregator());
    assert_eq!((da_height(&left, 12), left.value(&single)), (101, Some(&checkpoint(101, 0)[..])));
    assert!(left.dangers.iter().any(|danger| danger.contains("da_start_height")), "{:?}", left.dangers);
    let left = cut(&sample, 12, Options { da_start_height: 90, ..aggregator() });
    assert_eq!((da_height(&left, 12), left.value(&single)), (90, Some(&checkpoint(90, 0)[..])));
    assert!(!left.dangers.iter().any(|danger| danger.contains("da_start_height")), "{:?}", left.dangers);
    // What was pruned is rebuilt with the same.
    sample.remove(b"/0/s/12");
    assert_eq!(da_height(&cut(&sample, 12, follower()), 12), 101);
    // Nobody knows: an empty checkpoint would say no more than none.
    let left = cut(&copied(&[30]), 12, aggregator());
    assert_eq!((da_height(&left, 12), left.value(&single)), (0, None));
    assert!(left.why("checkpoints", "dropped").starts_with("where the sequencer stood on DA"));
    assert!(left.dangers.iter().any(|danger| danger.starts_with("forced inclusion")), "{:?}", left.dangers);
    assert!(!catches_up(&left), "it reads nothing: {:?}", left.next_steps);
    // The tip of a quiet store is left alone, unless it is such a copy that ended early.
    let mut sample = copied(&[]);
    sample.mark(Mark::GenesisDa, 101);
    assert_eq!(da_height(&cut(&sample, 30, follower()), 30), 0);
    let lacks = |options| Options { lacks_checkpoint: true, ..options };
    assert_eq!(da_height(&cut(&sample, 30, lacks(follower())), 30), 101);
    // Nor is a copy's checkpoint there to say that its node had one.
    sample.remove(&single);
    let left = cut(&sample, 30, lacks(exact()));
    assert!(catches_up(&left) && da_height(&left, 30) == 101, "{:?}", left.next_steps);
    sample.remove(&Key::Mark(Mark::GenesisDa).to_bytes());
    let left = cut(&sample, 30, lacks(exact()));
    assert!(left.dangers.iter().any(|danger| danger.contains("reads nothing from DA")), "{:?}", left.dangers);
    assert!(!catches_up(&left), "{:?}", left.next_steps);
}

/// Is the operator told that an aggregator must be faster than its DA layer?
fn catches_up(left: &Left) -> bool {
    left.next_steps.iter().any(|step| step.starts_with("forced inclusion: start"))
}

#[test]
fn the_checkpoint_of_a_based_sequencer_is_its_own() {
    let mut sample = Sample::with_blocks(30);
    sample.put(Key::Signature(12).to_bytes(), Vec::new());
    let left = cut(&sample, 12, Options { lacks_checkpoint: true, ..aggregator() });
    assert_eq!(left.value(&Key::BasedCheckpoint.to_bytes()), Some(&checkpoint(112, 0)[..]));
    assert!(!left.has(&Key::SingleCheckpoint));
}

#[test]
fn the_mark_of_pruned_states_stays_below_the_state_that_is_there() {
    let mut sample = Sample::with_blocks(30);
    for height in 0..=20 {
        sample.remove(&Key::State(height).to_bytes());
    }
    sample.mark(Mark::PrunedStates, 20);
    let left = cut(&sample, 12, follower());
    assert_eq!(left.number(&Key::Mark(Mark::PrunedStates)), Some(11));
    assert_eq!(left.why("metadata", "rewritten"), "was 20: the state after block 12 is there");
    left.check(Signatures::Unverified);
    let left = cut(&sample, 1, follower());
    assert!(!left.has(&Key::Mark(Mark::PrunedStates)));
    assert_eq!(left.why("metadata", "dropped"), "was 20: the state after block 1 is there");
    assert_eq!(cut(&sample, 25, follower()).number(&Key::Mark(Mark::PrunedStates)), Some(20));
    // At the tip it is what pruning has left.
    sample.mark(Mark::PrunedStates, 30);
    let left = cut(&sample, 30, follower());
    assert_eq!(left.number(&Key::Mark(Mark::PrunedStates)), Some(30));
    assert!(left.changes.is_empty(), "{:?}", left.brief());
    assert_eq!(cut(&sample, 29, follower()).number(&Key::Mark(Mark::PrunedStates)), Some(28));
}

#[test]
fn execution_records_go_by_their_values() {
    let mut sample = Sample::with_blocks(400);
    for height in [46, 47, 48, 302, 303, 304] {
        sample.put(Key::exec_meta(height), exec_meta(height));
    }
    sample.put(Key::exec_meta(9), b"\xff".to_vec());
    let left = cut(&sample, 47, exact());
    let there: Vec<u64> = [9, 46, 47, 48, 302, 303, 304]
        .into_iter()
        .filter(|height| left.entries.contains_key(&Key::exec_meta(*height)))
        .collect();
    assert_eq!(there, [9, 46, 47]);
}

#[test]
fn everything_else_stays() {
    let mut sample = Sample::with_blocks(30);
    sample.prune(5);
    for key in [
        "/0/m/mine",
        "/0/m/l",
        "/libp2p/net/conngater/peer/x",
        "/app/y",
        "/evm/last-pruned-execmeta-height",
        "/0/h/012",
    ] {
        sample.put(key.into(), b"99999999".to_vec());
    }
    let left = cut(&sample, 12, exact());
    for key in
        ["/0/m/mine", "/0/m/l", "/libp2p/net/conngater/peer/x", "/app/y", "/0/h/012", "/0/m/lst-prnd-b"]
    {
        assert_eq!(left.value(key.as_bytes()), sample.value(key.as_bytes()), "{key}");
    }
    assert!(left.entries.contains_key(&b"/evm/last-pruned-execmeta-height"[..]));
}

#[test]
fn a_stream_that_was_pruned_meanwhile_begins_with_its_first_whole_block() {
    let mut sample = Sample::with_blocks(30);
    sample.prune(5);
    sample.include(10);
    for key in ["/0/h/6", "/0/h/7", "/0/d/6", "/0/c/6"] {
        sample.remove(key.as_bytes()).unwrap();
    }
    let torn = Options { torn: true, ..follower() };
    let left = cut(&sample, 12, torn.clone());
    assert_eq!(left.number(&Key::Mark(Mark::PrunedBlocks)), Some(7));
    left.check(Signatures::Unverified);
    let pruned = |change: &&Change| change.why == "blocks up to 7 were pruned while the stream ran";
    assert_eq!(left.changes.iter().find(pruned).unwrap().keys, ["/0/d/7"]);
    assert!(!left.has(&Key::Data(7)) && left.changes.iter().filter(pruned).count() > 3);
    // In a state of a datastore it is damage, which verify finds.
    let left = cut(&sample, 12, follower());
    assert_eq!(left.number(&Key::Mark(Mark::PrunedBlocks)), Some(5));
}

#[test]
fn the_operator_is_told_what_to_do() {
    let sample = rich(300, 250);
    let left = cut(&sample, 260, aggregator());
    for word in ["double production", "Raft", "downgrades"] {
        assert!(left.dangers.iter().any(|danger| danger.starts_with(word)), "{word}: {:?}", left.dangers);
    }
    assert!(catches_up(&left) && !catches_up(&cut(&sample, 260, follower())));
    assert!(!catches_up(&cut(&Sample::with_blocks(30), 20, aggregator())));
    for word in ["execution layer: bring it to height 260", "signer", "old producer", "Raft", "catch up"] {
        assert!(left.next_steps.iter().any(|step| step.starts_with(word)), "{word}: {:?}", left.next_steps);
    }
    let left = cut(&sample, 260, follower());
    assert!(!left.dangers.iter().any(|danger| danger.starts_with("double")));
    assert!(left.next_steps.iter().all(|step| !step.starts_with("signer")));
}

#[test]
fn a_value_that_cannot_be_read_stays() {
    let sample = Sample::with_blocks(30);
    let mut cut = facts(&sample, 12).cut(exact()).unwrap();
    for key in [
        &b"/0/m/d"[..],
        b"/single/checkpoint",
        b"/0/m/last-submitted-header-height",
        b"/batches/8000000000000000",
    ] {
        assert_eq!(cut.judge(&entry(key, b"\xff\xff")), Verdict::Keep, "{}", key.escape_ascii());
    }
}
