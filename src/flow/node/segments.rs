//! Single keys out of segments, as they are: nothing is restored, and little of them is read.
//!
//! ```text
//!   key ─▶ lane ─▶ run (first and last key: the manifest) ─▶ span (first key) ─▶ entries
//! ```
//!
//! A segment is a few sorted lanes of runs, and a run is pieces of frames. A piece is read through when it is first needed, and cut into spans of
//! which the first keys are kept; from then on a key costs one span. Before anything of a stretch is believed, the stretch is held against its
//! checksum in the manifest, once.
//!
//! Memory: the first keys, up to `KEYS` bytes; beyond it pieces stay whole. Of a chain the newest entry of all segments counts.

use super::Values;
use crate::base::checksum::crc32c;
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Entry, OwnedEntry, Source as _};
use crate::error::{Error, Result};
use crate::flow::bare;
use crate::flow::chain::Chain;
use crate::flow::segment::{Segment, expect_file, lanes};
use crate::format::{FileInput, Input as _, Piece, Reader};
use crate::repo::manifest::{IndexBlock, Kind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// A span is ended behind the entry that makes it so long.
const SPAN: u64 = 32 << 10;
/// What first keys may take in all segments together.
const KEYS: usize = 48 << 20;
/// What sorting may take where nobody has said how the entries lie.
const SORT_MEMORY: usize = 64 << 20;
/// What is read at once to hold it against its checksum.
const BUFFER: usize = 1 << 20;

/// Segments that are asked for single keys.
pub struct Segments {
    files: Mutex<Vec<File>>,
    complete_height: Option<u64>,
    /// Nobody says that they begin with the first block.
    part: bool,
}

impl Segments {
    /// Opens one segment, full or not, or those of a chain in any order. One without a manifest is read through first.
    pub fn open(paths: &[PathBuf], progress: &Progress) -> Result<Self> {
        let mut chain = match paths {
            [] => return Err(Error::invalid("expected at least one segment, found none")),
            [path] => {
                expect_file(path)?;
                Chain::alone(Segment::open(path)?)
            }
            paths => {
                let chain = Chain::open(paths, None)?;
                chain.refuse()?;
                chain
            }
        };
        chain.lay_out(progress)?;
        let complete_height = match chain.newest() {
            Some(manifest) => Some(manifest.complete_height).filter(|height| *height > 0),
            None => told(&chain, progress)?,
        };
        let first = chain.segments().first().and_then(Segment::manifest);
        let part = first.is_none_or(|manifest| manifest.kind != Kind::Full);
        let files = chain.segments().iter().map(File::of).collect::<Result<_>>()?;
        Ok(Self { files: Mutex::new(files), complete_height, part })
    }

    /// The newest entry of a key, deletes included.
    pub fn newest(&self, key: &[u8]) -> Result<Option<OwnedEntry>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = files.iter().map(|file| file.kept).sum::<usize>();
        let mut newest: Option<OwnedEntry> = None;
        for file in files.iter_mut() {
            let found = file.newest(key, KEYS.saturating_sub(kept))?;
            kept = kept.saturating_add(file.kept);
            if let Some(found) = found
                && newest.as_ref().is_none_or(|newest| newest.version < found.version)
            {
                newest = Some(found);
            }
        }
        Ok(newest)
    }
}

impl Values for Arc<Segments> {
    fn values(&self, keys: &[Vec<u8>], enough: usize, progress: &Progress) -> Result<Vec<Option<Vec<u8>>>> {
        let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0_usize);
        for key in keys {
            if bytes >= enough && !found.is_empty() {
                break;
            }
            progress.check()?;
            let entry = self.newest(key)?.filter(|entry| !entry.as_entry().is_delete());
            bytes = bytes.saturating_add(entry.as_ref().map_or(0, |entry| entry.value.len()));
            found.push(entry.map(|entry| entry.value));
        }
        Ok(found)
    }

    fn complete_height(&self) -> Option<u64> {
        self.complete_height
    }

    fn begins_anywhere(&self) -> bool {
        self.part
    }
}

/// Where no manifest says how high blocks are whole, what the blocks say, if they are torn.
fn told(chain: &Chain, progress: &Progress) -> Result<Option<u64>> {
    let scratch = Scratch::system();
    let told = bare::look(&|| chain.source(&scratch, SORT_MEMORY, progress), progress)?;
    // What cannot be read of the tip is for who asks for it.
    Ok(told.tip.filter(|tip| told.torn && told.height > 0 && *tip > 0).map(|_| told.height))
}

/// One segment.
struct File {
    path: PathBuf,
    input: FileInput,
    lanes: Vec<Vec<Run>>,
    /// The stretches that the manifest has a checksum of, and which were held against it.
    index: Vec<(IndexBlock, bool)>,
    /// Bytes of first keys.
    kept: usize,
}

struct Run {
    first: Vec<u8>,
    last: Vec<u8>,
    spans: Vec<Span>,
}

/// A sorted stretch of a run.
struct Span {
    piece: Piece,
    /// Its first key, once somebody has looked.
    first: Option<Vec<u8>>,
    /// It is as short as it gets.
    fine: bool,
}

impl File {
    fn of(segment: &Segment) -> Result<Self> {
        let Some(layout) = segment.layout() else {
            let what = "expected a segment of sorted runs, found one that is not sorted or has too many";
            return Err(Error::unsupported(what)
                .at_path(segment.path())
                .with_hint("restore it with engine=\"rocksdb\", and open the store"));
        };
        let span = |piece| Span { piece, first: None, fine: false };
        let run = |(run, pieces): (crate::format::Run, Vec<Piece>)| {
            let mut spans: Vec<Span> = pieces.into_iter().map(span).collect();
            if let Some(span) = spans.first_mut() {
                span.first = Some(run.first.clone());
            }
            Run { first: run.first, last: run.last, spans }
        };
        let lanes = lanes(layout).into_iter().map(|lane| lane.into_iter().map(run).collect()).collect();
        let index = segment.manifest().map(|manifest| manifest.index.clone()).unwrap_or_default();
        let index = index.into_iter().map(|block| (block, false)).collect();
        Ok(Self { path: segment.path().to_owned(), input: segment.input(), lanes, index, kept: 0 })
    }

    /// The newest entry of a key; `room` bytes of first keys may be kept in addition.
    fn newest(&mut self, key: &[u8], room: usize) -> Result<Option<OwnedEntry>> {
        let mut newest: Option<OwnedEntry> = None;
        for lane in 0..self.lanes.len() {
            if let Some(found) = self.find(lane, key, room)?
                && newest.as_ref().is_none_or(|newest| newest.version < found.version)
            {
                newest = Some(found);
            }
        }
        Ok(newest)
    }

    fn find(&mut self, lane: usize, key: &[u8], room: usize) -> Result<Option<OwnedEntry>> {
        let Some(runs) = self.lanes.get(lane) else { return Ok(None) };
        let behind = runs.partition_point(|run| run.first.as_slice() <= key);
        let Some(run) = behind.checked_sub(1) else { return Ok(None) };
        if runs.get(run).is_none_or(|run| run.last.as_slice() < key) {
            return Ok(None);
        }
        let at = (lane, run);
        let mut span = self.search(at, key)?;
        if self.refine(at, span, room)? {
            span = self.search(at, key)?;
        }
        // The versions of a key may go on in the next span, the newest one stands first.
        while let Some(piece) = self.span(at, span).map(|span| span.piece) {
            self.prove(piece)?;
            let mut entries = self.entries(piece);
            while entries.advance().map_err(|error| error.at_path(&self.path))? {
                match entries.entry().key.cmp(key) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Ok(Some(entries.entry().to_owned())),
                    std::cmp::Ordering::Greater => return Ok(None),
                }
            }
            span += 1;
        }
        Ok(None)
    }

    fn span(&self, (lane, run): (usize, usize), number: usize) -> Option<&Span> {
        self.lanes.get(lane)?.get(run)?.spans.get(number)
    }

    fn run_mut(&mut self, (lane, run): (usize, usize)) -> Option<&mut Run> {
        self.lanes.get_mut(lane)?.get_mut(run)
    }

    fn entries(&self, piece: Piece) -> Reader<FileInput> {
        let end = piece.offset.saturating_add(piece.bytes).min(self.input.len());
        Reader::pieces(self.input.range(piece.offset, end), vec![piece])
    }

    /// The last span whose first key is below `key`, else the first: there the newest version of the key must be.
    fn search(&mut self, at: (usize, usize), key: &[u8]) -> Result<usize> {
        let (mut low, mut high) = (0, self.run_mut(at).map_or(0, |run| run.spans.len()));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.begins_below(at, middle, key)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.saturating_sub(1))
    }

    fn begins_below(&mut self, at: (usize, usize), number: usize, key: &[u8]) -> Result<bool> {
        let Some(span) = self.span(at, number) else { return Ok(false) };
        if let Some(first) = &span.first {
            return Ok(first.as_slice() < key);
        }
        let piece = span.piece;
        self.prove(piece)?;
        let mut entries = self.entries(piece);
        if !entries.advance().map_err(|error| error.at_path(&self.path))? {
            return Err(Error::damaged("expected an entry where the manifest says, found none")
                .at_offset(piece.offset)
                .at_path(&self.path));
        }
        let first = entries.entry().key.to_vec();
        let below = first.as_slice() < key;
        self.kept += first.len();
        if let Some(span) = self.run_mut(at).and_then(|run| run.spans.get_mut(number)) {
            span.first = Some(first);
        }
        Ok(below)
    }

    /// Cuts a piece into spans; false when that is done already, or would take too much memory.
    fn refine(&mut self, at: (usize, usize), number: usize, room: usize) -> Result<bool> {
        let Some(piece) = self.span(at, number).filter(|span| !span.fine).map(|span| span.piece) else {
            return Ok(false);
        };
        self.prove(piece)?;
        let (mut spans, mut kept) = (Vec::<Span>::new(), 0);
        let mut entries = self.entries(piece);
        while entries.advance().map_err(|error| error.at_path(&self.path))? {
            let Piece { offset, .. } = entries.place();
            let Entry { key, .. } = entries.entry();
            match spans.last_mut() {
                Some(span) if offset - span.piece.offset < SPAN => {}
                last => {
                    if let Some(last) = last {
                        last.piece.bytes = offset - last.piece.offset;
                    }
                    let bytes = (piece.offset + piece.bytes).saturating_sub(offset);
                    kept += key.len() + size_of::<Span>();
                    spans.push(Span {
                        piece: Piece { offset, bytes },
                        first: Some(key.to_vec()),
                        fine: true,
                    });
                }
            }
            if kept > room {
                spans.clear();
                break;
            }
        }
        let fits = !spans.is_empty();
        if let Some(run) = self.run_mut(at) {
            if fits {
                run.spans.splice(number..=number, spans);
            } else if let Some(span) = run.spans.get_mut(number) {
                span.fine = true;
            }
        }
        self.kept += if fits { kept } else { 0 };
        Ok(fits)
    }

    /// Holds the stretches in which a piece lies against their checksums, where that was not done before.
    fn prove(&mut self, piece: Piece) -> Result<()> {
        let end = piece.offset.saturating_add(piece.bytes);
        let begin = self.index.partition_point(|(block, _)| block.offset + block.bytes <= piece.offset);
        for (block, proven) in self.index.iter_mut().skip(begin) {
            if block.offset >= end {
                break;
            }
            if *proven {
                continue;
            }
            let mut input = self.input.range(block.offset, block.offset + block.bytes);
            let (mut buffer, mut crc) = (vec![0; BUFFER], 0);
            loop {
                let read = input.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                crc = crc32c(crc, buffer.get(..read).unwrap_or_default());
            }
            let found = format!("{crc:08x}");
            if found != block.crc32c {
                let what =
                    format!("expected CRC-32C {} of {} bytes, found {found}", block.crc32c, block.bytes);
                return Err(Error::damaged(what).at_offset(block.offset).at_path(&self.path));
            }
            *proven = true;
        }
        Ok(())
    }
}
