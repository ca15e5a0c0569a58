//! Every height of a long chain.

use super::*;

/// 2,000 blocks with pruning, queue, checkpoint, DA marks, execution records and a pending block, cut at each of them: what is left is a
/// chain that the checker has nothing to say of. Every hundredth time the signatures are verified as well.
#[test]
fn every_height_of_a_chain_is_clean() {
    let (blocks, included) = (2_000, 1_500);
    let sample = rich(blocks, included);
    assert_eq!(facts(&sample, 1).range(Head::Exact), Some((101, blocks)));
    let whole = cut(&sample, blocks, exact());
    whole.check(Signatures::Required);
    for height in 101..=blocks {
        let options = if height % 2 == 0 || height < included { follower() } else { aggregator() };
        let left = cut(&sample, height, options);
        let signatures = if height % 100 == 0 { Signatures::Required } else { Signatures::Unverified };
        left.check(signatures);
        assert_eq!(left.number(&Key::Tip), Some(height));
        assert!(left.has(&Key::State(height)) && !left.has(&Key::Header(height + 1)));
        // A state that was rebuilt is the one that was there.
        if height > 120 {
            assert_eq!(
                left.value(&Key::State(height).to_bytes()),
                sample.value(&Key::State(height).to_bytes())
            );
        }
        // Cutting what was cut changes nothing.
        if height % 100 == 1 {
            let mut survey = Survey::new(height);
            left.entries.values().for_each(|entry| survey.feed(&entry.as_entry()));
            let mut again = survey.finish().cut(exact()).unwrap();
            assert!(left.entries.values().all(|entry| again.judge(&entry.as_entry()) == Verdict::Keep));
            assert!(again.added().is_empty() && again.changes().is_empty());
        }
    }
}

/// What was pruned is rebuilt as it was, but for the DA height, which only the state knew.
#[test]
fn a_rebuilt_state_is_the_one_that_was_there() {
    let sample = Sample::with_blocks(30);
    for height in 1..30 {
        let mut pruned = sample.clone();
        let value = pruned.remove(&Key::State(height).to_bytes()).unwrap();
        let left = cut(&pruned, height, exact());
        let rebuilt =
            crate::evnode::record::State::decode(left.value(&Key::State(height).to_bytes()).unwrap())
                .unwrap();
        let before = crate::evnode::record::State::decode(&value).unwrap();
        assert_eq!(rebuilt.da_height + 1, before.da_height);
        assert_eq!(crate::evnode::record::State { da_height: before.da_height, ..rebuilt }, before);
        assert_eq!(left.entries[&Key::State(height).to_bytes()].version, height);
        left.check(Signatures::Unverified);
    }
    // The newest block's state can be rebuilt from nothing.
    let mut pruned = sample;
    pruned.remove(b"/0/s/30");
    assert_eq!(try_cut(&pruned, 30, exact()).err().unwrap().code(), "missing");
}

#[test]
fn the_tip_of_a_quiet_store_is_the_store() {
    let mut sample = Sample::with_blocks(60);
    sample.include(40);
    sample.mark(Mark::SubmittedHeader, 55);
    let (key, value) = queue(3, &["a", "b"]);
    sample.put(key, value);
    sample.put(Key::SingleCheckpoint.to_bytes(), checkpoint(9_000, 4));
    for part in [Part::Header, Part::Data] {
        let value =
            sample.value(format!("/0/{}/60", if part == Part::Header { "h" } else { "d" }).as_bytes());
        let value = value.unwrap().to_vec();
        // It stays there after its block was committed.
        sample.put(Key::Pending(part).to_bytes(), value);
    }
    for options in [exact(), follower()] {
        let left = cut(&sample, 60, options);
        assert!(left.entries.values().map(OwnedEntry::as_entry).eq(sample.entries()));
        assert!(left.changes.is_empty());
    }
    // Who will produce submits again what may be lost.
    let left = cut(&sample, 60, aggregator());
    assert_eq!(left.brief(), [("metadata", "rewritten", 1)]);
    assert_eq!(left.number(&Key::Mark(Mark::SubmittedHeader)), Some(40));
}
