//! What belongs to no block: the metadata that can be asked for by name, fitted to the tip that the copy ends at.

use crate::error::Result;
use crate::evnode::key::{self, Key, Mark, Part, TIP};
use crate::evnode::record::{Checkpoint, Data, SignedHeader, snapshot};
use crate::rpc::{Found, MAX_REPLY, Reader};
use bytes::Bytes;

/// Where metadata are kept.
const METADATA: &[u8] = b"/0/m/";

/// The names that are asked for.
const NAMES: [Key<'static>; 10] = [
    Key::Mark(Mark::DaIncluded),
    Key::Mark(Mark::GenesisDa),
    Key::Mark(Mark::SubmittedHeader),
    Key::Mark(Mark::SubmittedData),
    Key::Mark(Mark::PrunedBlocks),
    Key::Mark(Mark::PrunedStates),
    Key::Pending(Part::Header),
    Key::Pending(Part::Data),
    Key::CacheSnapshot(Part::Header),
    Key::CacheSnapshot(Part::Data),
];

/// The metadata of a node at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Metadata {
    values: Vec<(Key<'static>, Bytes)>,
}

/// What else the copy knows of its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The height it ends at.
    pub(super) height: u64,
    /// Blocks up to here are not in it; 0: all are.
    pub(super) pruned: u64,
    /// Where the node stood on DA after that height; 0: unknown.
    pub(super) da_height: u64,
    /// Nobody signs the blocks: the sequencer is a based one.
    pub(super) based: bool,
}

impl Metadata {
    /// Asks for all of them.
    pub(super) async fn read(reads: &Reader) -> Result<Self> {
        let mut values = Vec::new();
        for key in NAMES {
            if let Found::Here(value) = reads.metadata(&name(&key), MAX_REPLY).await? {
                values.push((key, value));
            }
        }
        Ok(Self { values })
    }

    fn value(&self, key: Key<'static>) -> Option<&Bytes> {
        self.values.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// What a mark says; 0 when it is not there, or is none.
    pub(super) fn mark(&self, mark: Mark) -> u64 {
        self.value(Key::Mark(mark)).and_then(|value| key::height(value)).unwrap_or(0)
    }

    /// The entries of a datastore that ends at a height: the tip, and what a node keeps of these when it is cut there.
    pub(super) fn cut(&self, end: &End) -> Vec<(Vec<u8>, Vec<u8>)> {
        let height = end.height;
        let mut entries = vec![(TIP.to_vec(), height.to_le_bytes().to_vec())];
        let pending = self.has_pending(height);
        for (key, value) in &self.values {
            let kept = match key {
                // Ours says what is in the copy.
                Key::Mark(Mark::PrunedBlocks) => None,
                Key::Mark(Mark::GenesisDa) => Some(value.to_vec()),
                Key::Mark(_) => Some(
                    key::height(value).map_or(value.to_vec(), |mark| mark.min(height).to_le_bytes().to_vec()),
                ),
                Key::Pending(_) => pending.then(|| value.to_vec()),
                Key::CacheSnapshot(_) => below(value, height),
                _ => None,
            };
            entries.extend(kept.map(|value| (key.to_bytes(), value)));
        }
        if end.pruned > 0 {
            entries.push((Key::Mark(Mark::PrunedBlocks).to_bytes(), end.pruned.to_le_bytes().to_vec()));
        }
        if end.da_height > 0 {
            // Without one a sequencer begins with the genesis' DA height again.
            let key = if end.based { Key::BasedCheckpoint } else { Key::SingleCheckpoint };
            let checkpoint = Checkpoint { da_height: end.da_height, tx_index: 0 };
            entries.push((key.to_bytes(), checkpoint.encode()));
        }
        entries
    }

    /// Is the block in production the one after the end, so that the node makes exactly that one?
    fn has_pending(&self, height: u64) -> bool {
        let (Some(header), Some(data)) =
            (self.value(Key::Pending(Part::Header)), self.value(Key::Pending(Part::Data)))
        else {
            return false;
        };
        let next = height.checked_add(1);
        let of_header = SignedHeader::decode(header).ok().map(|signed| signed.header.height);
        let of_data = Data::decode(data).ok().and_then(|data| data.metadata).map(|metadata| metadata.height);
        of_header == next && of_data == next
    }
}

/// The name of metadata, as it is asked for.
fn name(key: &Key<'_>) -> String {
    let bytes = key.to_bytes();
    String::from_utf8_lossy(bytes.strip_prefix(METADATA).unwrap_or(&bytes)).into_owned()
}

/// The records of blocks up to a height; nothing where they are none.
fn below(value: &Bytes, height: u64) -> Option<Vec<u8>> {
    let records = snapshot(value).ok()?;
    let kept = records.filter(|record| record.height <= height);
    Some(kept.flat_map(|record| [record.height, record.da_height]).flat_map(u64::to_le_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evnode::sample::Sample;

    fn metadata(values: &[(Key<'static>, Vec<u8>)]) -> Metadata {
        let values = values.iter().map(|(key, value)| (*key, Bytes::from(value.clone())));
        Metadata { values: values.collect() }
    }

    fn le(number: u64) -> Vec<u8> {
        number.to_le_bytes().to_vec()
    }

    fn cut(metadata: &Metadata, end: &End) -> Vec<(String, Vec<u8>)> {
        let entries = metadata.cut(end).into_iter();
        entries.map(|(key, value)| (key.escape_ascii().to_string(), value)).collect()
    }

    const END: End = End { height: 7, pruned: 0, da_height: 0, based: false };

    #[test]
    fn names_are_ev_nodes() {
        let names = NAMES.map(|key| name(&key));
        assert_eq!(names[0], "d");
        assert_eq!(names[4], "lst-prnd-b");
        assert_eq!(names[9], "cache/data-da-included/__snap");
    }

    #[test]
    fn marks_are_not_above_the_end() {
        let node = metadata(&[
            (Key::Mark(Mark::DaIncluded), le(9)),
            (Key::Mark(Mark::GenesisDa), le(1000)),
            (Key::Mark(Mark::SubmittedHeader), le(3)),
            (Key::Mark(Mark::PrunedBlocks), le(5)),
            (Key::CacheSnapshot(Part::Header), [le(7), le(70), le(8), le(80)].concat()),
            (Key::CacheSnapshot(Part::Data), vec![]),
        ]);
        assert_eq!(
            cut(&node, &END),
            [
                ("/0/t".to_owned(), le(7)),
                ("/0/m/d".to_owned(), le(7)),
                ("/0/m/gdh".to_owned(), le(1000)),
                ("/0/m/last-submitted-header-height".to_owned(), le(3)),
                ("/0/m/cache/header-da-included/__snap".to_owned(), [le(7), le(70)].concat()),
                ("/0/m/cache/data-da-included/__snap".to_owned(), vec![]),
            ]
        );
        let more = cut(&node, &End { pruned: 4, da_height: 70, ..END });
        assert_eq!(
            more[6..],
            [("/0/m/lst-prnd-b".to_owned(), le(4)), ("/single/checkpoint".to_owned(), vec![0x08, 70]),]
        );
        assert_eq!(node.mark(Mark::DaIncluded), 9);
    }

    #[test]
    fn the_block_in_production_is_kept_only_where_it_is_the_next() {
        let sample = Sample::with_blocks(8);
        let value = |key: &[u8]| sample.value(key).unwrap().to_vec();
        let pending = |height: u64| {
            metadata(&[
                (Key::Pending(Part::Header), value(format!("/0/h/{height}").as_bytes())),
                (Key::Pending(Part::Data), value(format!("/0/d/{height}").as_bytes())),
            ])
        };
        assert_eq!(cut(&pending(8), &END).len(), 3);
        assert_eq!(cut(&pending(7), &END).len(), 1);
        let alone = metadata(&[(Key::Pending(Part::Header), value(b"/0/h/8"))]);
        assert_eq!(cut(&alone, &END).len(), 1);
    }
}
