//! The go-header stores of releases up to v1.0.0-rc.1.

use super::*;
use crate::evnode::hash;
use crate::evnode::key::SyncKey;
use crate::evnode::record::{Data, SignedHeader};
use crate::evnode::sample::Stage;

/// Blocks as v1.0.0-beta.9 to rc.1 wrote them, whose go-header stores have come as far as `upto`.
fn sample(upto: u64) -> Sample {
    let mut sample = Sample::new(1);
    let proposer = sample.proposer().address().to_vec();
    sample.extend(30, |stage, draft| match stage {
        Stage::Made => draft.proposer.clone_from(&proposer),
        Stage::Signed => {}
        Stage::State => draft.next_proposer.clear(),
    });
    sample.remove(b"/0/s/0");
    for height in 1..=upto {
        let header = sample.value(&Key::Header(height).to_bytes()).unwrap().to_vec();
        let data = sample.value(&Key::Data(height).to_bytes()).unwrap().to_vec();
        let of_header = hash::header(&SignedHeader::decode(&header).unwrap().header);
        let of_data = hash::data(&Data::decode(&data).unwrap());
        for (part, hash, blob) in [(Part::Header, of_header, header), (Part::Data, of_data, data)] {
            sample.put(Key::Sync(part, SyncKey::Height(height)).to_bytes(), hash.to_vec());
            sample.put(Key::Sync(part, SyncKey::Hash(hash)).to_bytes(), blob);
            sample.put(Key::Sync(part, SyncKey::Head).to_bytes(), pointer(&hash));
            if height == 1 {
                sample.put(Key::Sync(part, SyncKey::Tail).to_bytes(), pointer(&hash));
            }
        }
    }
    sample
}

fn pointer(hash: &[u8]) -> Vec<u8> {
    format!("\"{}\"", data_encoding::HEXUPPER.encode(hash)).into_bytes()
}

fn count(left: &Left) -> usize {
    left.entries
        .keys()
        .filter(|key| key.starts_with(b"/0/headerSync/") || key.starts_with(b"/0/dataSync/"))
        .count()
}

#[test]
fn heights_above_and_their_blobs_go_and_the_head_is_the_height() {
    let whole = sample(30);
    assert_eq!(facts(&whole, 12).generation().unwrap().name(), "C");
    let left = cut(&whole, 12, exact());
    left.check(Signatures::Unverified);
    // A height and a blob for each block, head and tail, twice.
    assert_eq!(count(&left), 2 * (12 * 2 + 2));
    for part in [Part::Header, Part::Data] {
        let hash = left.value(&Key::Sync(part, SyncKey::Height(12)).to_bytes()).unwrap().to_vec();
        assert_eq!(left.value(&Key::Sync(part, SyncKey::Head).to_bytes()), Some(&pointer(&hash)[..]));
        let blob = left.value(&Key::Sync(part, SyncKey::Hash(hash.try_into().unwrap())).to_bytes());
        let key = if part == Part::Header { Key::Header(12) } else { Key::Data(12) };
        assert_eq!(blob, left.value(&key.to_bytes()));
    }
    let changes: Vec<_> = left.brief().into_iter().filter(|(family, ..)| *family == "go-header").collect();
    assert_eq!(changes, [("go-header", "dropped", 2 * 18 * 2), ("go-header", "rewritten", 2)]);
    assert!(left.next_steps.iter().any(|step| step.contains("clear_cache")));
}

/// Headers are buffered before they are written: a hot copy trails the main store.
#[test]
fn a_store_that_has_not_come_so_far_stays() {
    let behind = sample(10);
    let left = cut(&behind, 12, exact());
    assert_eq!(count(&left), 2 * (10 * 2 + 2));
    assert!(left.brief().iter().all(|(family, ..)| *family != "go-header"));
}

#[test]
fn a_store_without_the_block_goes() {
    for missing in [SyncKey::Height(12), SyncKey::Head] {
        let mut broken = sample(30);
        let hash = broken.value(&Key::Sync(Part::Header, SyncKey::Height(12)).to_bytes()).unwrap().to_vec();
        // The name, or the blob of that name.
        let gone = match missing {
            SyncKey::Height(_) => missing,
            _ => SyncKey::Hash(hash.try_into().unwrap()),
        };
        broken.remove(&Key::Sync(Part::Header, gone).to_bytes()).unwrap();
        let left = cut(&broken, 12, exact());
        assert_eq!(count(&left), 12 * 2 + 2, "the data's store is whole");
        assert!(
            left.why("go-header", "dropped").contains("the node fetches it again") || left.changes.len() > 7
        );
    }
}

#[test]
fn a_queue_without_numbers_is_not_requeued_into() {
    let error = try_cut(&sample(30), 12, Options { requeue: true, ..exact() }).err().unwrap();
    assert_eq!(error.code(), "unsupported");
    let mut later = sample(30);
    let (key, value) = queue(0, &["x"]);
    later.put(key, value);
    cut(&later, 12, Options { requeue: true, ..exact() });
}
