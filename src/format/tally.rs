//! What a stream turned out to hold, gathered while its bytes pass: the facts a manifest is made from.

use super::{Piece, Tap};
use crate::base::checksum;
use crate::entry::Entry;
use crate::error::Result;
use std::collections::HashMap;

/// An index block ends at the first frame border after this many bytes: small enough to say where damage lies and to be checked
/// on several cores, large enough that 8 GB have 500 of them.
const BLOCK: u64 = 16 << 20;

/// Most runs and most pieces that are kept. Badger cuts a datastore into a few hundred ranges, and a run has a piece per frame;
/// a stream that interleaves so finely that it has more is sorted outside memory instead.
const MAX_KEPT: usize = 65_536;

/// Most bytes of run borders that are kept: two keys a run, and a key may have 65,000 bytes.
const MAX_BORDERS: usize = 16 << 20;

/// A stretch of whole frames with its checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Block {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// CRC-32C of them.
    pub crc32c: u32,
    /// Entries in them.
    pub entries: u64,
}

/// The entries of one stream id.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Run {
    /// The stream id.
    pub id: u32,
    /// The smallest key, the first one when the run is sorted.
    pub first: Vec<u8>,
    /// The last key.
    pub last: Vec<u8>,
    /// The version of the last entry.
    pub last_version: u64,
    /// How many entries.
    pub entries: u64,
}

/// Where the runs lie, when they are sorted and few enough to say.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Layout {
    /// The runs, by stream id.
    pub runs: Vec<Run>,
    /// Their pieces in the order of the stream.
    pub pieces: Vec<(u32, Piece)>,
}

/// The first entry of a run that does not follow the one before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsorted {
    /// The run.
    pub id: u32,
    /// Where the entry lies.
    pub offset: u64,
    /// Its key.
    pub key: Vec<u8>,
    /// Its key and version are those of the entry before it.
    pub double: bool,
}

/// A [`Tap`] that counts, indexes and follows runs; see the fields' getters.
#[derive(Debug, Default)]
pub struct Tally {
    entries: u64,
    frames: u64,
    bytes: u64,
    last_version: u64,
    block: u32,
    block_entries: u64,
    index: Vec<Block>,
    runs: Vec<Run>,
    by_id: HashMap<u32, usize>,
    pieces: Vec<(u32, Piece)>,
    borders: usize,
    overflow: bool,
    unsorted: Option<Unsorted>,
    current: usize,
}

impl Tally {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries seen.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Frames seen whole.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes of the frames seen whole.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The highest version seen, 0 when there was no entry.
    pub fn last_version(&self) -> u64 {
        self.last_version
    }

    /// The first place where a run was not sorted.
    pub fn unsorted(&self) -> Option<&Unsorted> {
        self.unsorted.as_ref()
    }

    /// The index blocks, the last and unfinished one included.
    pub fn index(&self) -> Vec<Block> {
        let mut index = self.index.clone();
        index.extend(self.open_block());
        index
    }

    /// The runs and pieces; `None` when a run is not sorted or there are too many.
    pub fn layout(&self) -> Option<Layout> {
        if self.overflow || self.unsorted.is_some() {
            return None;
        }
        let mut runs = self.runs.clone();
        runs.sort_by_key(|run| run.id);
        Some(Layout { runs, pieces: self.pieces.clone() })
    }

    /// Do the runs, read in key order, make one sorted reading? Then nothing in the segment can contradict anything else in it.
    pub fn is_one_reading(&self) -> bool {
        let Some(Layout { mut runs, .. }) = self.layout() else { return false };
        runs.sort_by(|one, other| one.first.cmp(&other.first));
        runs.is_sorted_by(|one, other| one.last < other.first)
    }

    /// The highest stream id seen.
    pub fn highest_id(&self) -> u32 {
        self.by_id.keys().copied().max().unwrap_or(0)
    }

    fn block_start(&self) -> u64 {
        self.index.last().map_or(0, |block| block.offset + block.bytes)
    }

    fn open_block(&self) -> Option<Block> {
        let offset = self.block_start();
        let bytes = self.bytes - offset;
        (bytes > 0).then_some(Block { offset, bytes, crc32c: self.block, entries: self.block_entries })
    }

    /// Makes `id` the current run; its position in `runs`.
    fn run(&mut self, id: u32, key: &[u8]) -> Option<usize> {
        if self.runs.get(self.current).is_some_and(|run| run.id == id) {
            return Some(self.current);
        }
        self.current = match self.by_id.get(&id) {
            Some(at) => *at,
            None if self.runs.len() >= MAX_KEPT => {
                self.give_up();
                return None;
            }
            None => {
                self.borders += key.len();
                self.runs.push(Run { id, first: key.to_vec(), ..Run::default() });
                self.by_id.insert(id, self.runs.len() - 1);
                self.runs.len() - 1
            }
        };
        Some(self.current)
    }

    fn give_up(&mut self) {
        self.overflow = true;
        self.pieces = Vec::new();
        self.runs = Vec::new();
    }

    fn piece(&mut self, id: u32, place: Piece) {
        let kept = self.pieces.len();
        match self.pieces.last_mut() {
            Some((last, piece)) if *last == id && piece.offset + piece.bytes == place.offset => {
                piece.bytes += place.bytes;
            }
            _ if kept >= MAX_KEPT => self.give_up(),
            _ => self.pieces.push((id, place)),
        }
    }
}

impl Tap for Tally {
    fn bytes(&mut self, bytes: &[u8]) {
        self.block = checksum::crc32c(self.block, bytes);
    }

    fn frame(&mut self, end: u64) {
        self.frames += 1;
        self.bytes = end;
        if end - self.block_start() >= BLOCK {
            self.index.extend(self.open_block());
            (self.block, self.block_entries) = (0, 0);
        }
    }

    fn entry(&mut self, entry: &Entry<'_>, stream_id: u32, place: Piece) -> Result<()> {
        self.entries += 1;
        self.block_entries += 1;
        self.last_version = self.last_version.max(entry.version);
        if self.overflow {
            return Ok(());
        }
        let Some(run) = self.run(stream_id, entry.key).and_then(|at| self.runs.get_mut(at)) else {
            return Ok(());
        };
        if run.entries > 0 && self.unsorted.is_none() {
            let before = Entry { key: &run.last, version: run.last_version, ..Entry::default() };
            let order = before.order(entry);
            if order.is_ge() {
                self.unsorted = Some(Unsorted {
                    id: stream_id,
                    offset: place.offset,
                    key: entry.key.to_vec(),
                    double: order.is_eq(),
                });
            }
        }
        run.entries += 1;
        run.last_version = entry.version;
        self.borders = self.borders + entry.key.len() - run.last.len();
        run.last.clear();
        run.last.extend_from_slice(entry.key);
        if self.borders > MAX_BORDERS {
            self.give_up();
        } else {
            self.piece(stream_id, place);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Reader, Writer};
    use super::*;
    use crate::entry::{Sink, Source};

    /// A stream of frames, each a list of (stream id, key, version).
    fn stream(frames: &[&[(u32, &str, u64)]]) -> Vec<u8> {
        let mut stream = Vec::new();
        for frame in frames {
            let mut body = Vec::new();
            for (id, key, version) in *frame {
                let mut writer = Writer::new(*id, |frame: &mut Vec<u8>| {
                    body.extend(frame.drain(..).skip(8));
                    Ok(())
                });
                let entry = Entry { key: key.as_bytes(), version: *version, value: b"v", ..Entry::default() };
                writer.put(entry).unwrap();
                Box::new(writer).finish().unwrap();
            }
            stream.extend((body.len() as u64).to_le_bytes());
            stream.extend(body);
        }
        stream
    }

    fn tally(stream: &[u8]) -> Tally {
        let mut reader = Reader::with_tap(stream, Tally::new());
        while reader.advance().unwrap() {}
        reader.into_parts().1
    }

    #[test]
    fn counts_and_digests_what_passes() {
        let stream = stream(&[&[(1, "a", 1), (1, "b", 9)], &[(1, "c", 2)]]);
        let tally = tally(&stream);
        assert_eq!((tally.entries(), tally.frames(), tally.last_version()), (3, 2, 9));
        assert_eq!(tally.bytes(), stream.len() as u64);
        let block =
            Block { offset: 0, bytes: tally.bytes(), crc32c: checksum::crc32c(0, &stream), entries: 3 };
        assert_eq!(tally.index(), [block]);
    }

    #[test]
    fn follows_runs_through_frames_that_interleave_them() {
        let stream = stream(&[&[(1, "a", 1), (1, "b", 1), (2, "m", 1)], &[(1, "c", 3), (2, "n", 1)]]);
        let layout = tally(&stream).layout().unwrap();
        let borders: Vec<_> = layout.runs.iter().map(|run| (run.id, &run.first[..], &run.last[..])).collect();
        assert_eq!(borders, [(1, &b"a"[..], &b"c"[..]), (2, &b"m"[..], &b"n"[..])]);
        for (id, keys) in [(1, &["a", "b", "c"][..]), (2, &["m", "n"][..])] {
            let pieces =
                layout.pieces.iter().filter(|(run, _)| *run == id).map(|(_, piece)| *piece).collect();
            let path = tempfile::NamedTempFile::new().unwrap();
            std::io::Write::write_all(&mut path.as_file(), &stream).unwrap();
            let input = super::super::FileInput::open(path.path()).unwrap();
            let mut reader = Reader::pieces(input, pieces);
            for key in keys {
                assert!(reader.advance().unwrap());
                assert_eq!((reader.entry().key, reader.stream_id()), (key.as_bytes(), id));
            }
            assert!(!reader.advance().unwrap());
        }
    }

    #[test]
    fn says_where_a_run_is_not_sorted() {
        let swapped = tally(&stream(&[&[(1, "b", 1)], &[(1, "a", 1)]]));
        assert!(swapped.unsorted().is_some_and(|place| place.key == b"a" && !place.double));
        assert!(swapped.layout().is_none());
        let doubled = tally(&stream(&[&[(1, "b", 1)], &[(1, "b", 1)]]));
        assert!(doubled.unsorted().is_some_and(|place| place.double));
        let rising = tally(&stream(&[&[(1, "b", 1)], &[(1, "b", 2)]]));
        assert!(rising.unsorted().is_some());
        assert!(tally(&stream(&[&[(1, "b", 1), (2, "a", 1)]])).unsorted().is_none());
    }
}
