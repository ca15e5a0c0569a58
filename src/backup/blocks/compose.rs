//! Makes of blocks what a Backup RPC would have sent: frames of entries, the keys that are live, and a last word.
//!
//! | run                    | keys                                                                | versions   |
//! |------------------------|---------------------------------------------------------------------|------------|
//! | one per family, digits | `/0/h/<n>`, `/0/d/<n>`, `/0/c/<n>`, `/0/s/<n>`, `/0/m/rhb/<n>/…`    | height + 1 |
//! | the index              | `/0/i/<HASH>`, sorted outside memory                                | height + 1 |
//! | the rest               | tip, metadata, checkpoint, later DA heights, what was pruned        | tip + 1    |
//!
//! Heights of as many digits ascend as their keys do, so that blocks are written as they come and nothing but the index is sorted.

use super::fetch::{Copied, Item, Rest};
use super::plan::{Plan, version_at};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Entry, META_DELETE, Sink as _, Source};
use crate::error::{Error, Result};
use crate::evnode::key::{self, Key, Part};
use crate::flow::hasher::hex;
use crate::flow::intake::{Arrivals, Proven};
use crate::flow::sort::Sorter;
use crate::format::{FrameSink, Writer};
use crate::rpc::{Event, Final, Layout, Listed};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::mpsc;

/// Memory for sorting the index, and as much for the rest.
const SORT_MEMORY: usize = 24 << 20;
/// No height has more digits.
const DIGITS: u32 = 20;
/// Listed keys are handed on in heaps of this many.
const HEAP: usize = 1000;

/// The families of which every block has keys, in the order of their stream ids.
#[derive(Clone, Copy)]
enum Family {
    Signatures,
    Data,
    Headers,
    States,
    DaHeights,
}

const FAMILIES: u32 = 5;
const INDEX: u32 = 1 + FAMILIES * (DIGITS + 1);
const REST: u32 = INDEX + 1;

/// Takes the frames of all writers.
struct Queue(mpsc::Sender<Bytes>);

impl FrameSink for Queue {
    fn frame(&mut self, frame: &mut Vec<u8>) -> Result<()> {
        let frame = Bytes::from(std::mem::take(frame));
        self.0.send(frame).map_err(|_| Error::io("expected somebody to take a frame, found nobody"))
    }
}

/// The run that a family is in: it ends where heights get one digit more.
#[derive(Default)]
struct Run {
    digits: u32,
    writer: Option<Writer<Queue>>,
}

/// What is drained once the last block has come.
struct Tail {
    source: Box<dyn Source>,
    writer: Writer<Queue>,
    version: Option<u64>,
}

/// Where it stands.
enum Stage {
    Blocks,
    Index(Tail),
    Rest(Tail),
    Listing(VecDeque<Vec<u8>>),
    Over,
}

/// See the module.
pub(super) struct Composer {
    items: tokio::sync::mpsc::Receiver<Item>,
    to_frames: mpsc::Sender<Bytes>,
    frames: mpsc::Receiver<Bytes>,
    runs: [Run; FAMILIES as usize],
    index: Option<Sorter>,
    rest: Option<Sorter>,
    stage: Stage,
    progress: Progress,
    since: u64,
    first: u64,
    tip: u64,
    bytes: u64,
    store_id: Vec<u8>,
    end: Option<Rest>,
}

impl Composer {
    pub(super) fn new(
        items: tokio::sync::mpsc::Receiver<Item>,
        plan: &Plan,
        scratch: &Scratch,
        progress: &Progress,
    ) -> Self {
        let (to_frames, frames) = mpsc::channel();
        let sorter = || Some(Sorter::new(scratch, SORT_MEMORY, progress));
        Self {
            items,
            to_frames,
            frames,
            runs: Default::default(),
            index: sorter(),
            rest: sorter(),
            stage: Stage::Blocks,
            progress: progress.clone(),
            since: plan.since,
            first: plan.first,
            tip: plan.tip.height,
            bytes: 0,
            store_id: plan.store_id().to_vec(),
            end: None,
        }
    }

    fn writer(&self, id: u32) -> Writer<Queue> {
        Writer::new(id, Queue(self.to_frames.clone()))
    }

    /// Puts an entry of a height into the run of its family.
    fn put(&mut self, family: Family, height: u64, key: &Key<'_>, value: &[u8]) -> Result<()> {
        let digits = height.checked_ilog10().unwrap_or(0) + 1;
        let id = 1 + (family as u32) * (DIGITS + 1) + digits;
        let begins = self.runs.get(family as usize).is_none_or(|run| run.digits != digits);
        let fresh = begins.then(|| self.writer(id));
        let Some(run) = self.runs.get_mut(family as usize) else {
            return Err(Error::io("expected a run for each family, found none"));
        };
        if let Some(fresh) = fresh {
            run.digits = digits;
            if let Some(writer) = run.writer.replace(fresh) {
                Box::new(writer).finish()?;
            }
        }
        let Some(writer) = &mut run.writer else { return Ok(()) };
        writer.put(Entry { key: &key.to_bytes(), version: version_at(height), value, ..Entry::default() })
    }

    fn block(&mut self, block: &Copied) -> Result<()> {
        let height = block.height;
        if let (Some(state), Some(before)) = (&block.before, height.checked_sub(1)) {
            self.put(Family::States, before, &Key::State(before), state)?;
        }
        self.put(Family::Signatures, height, &Key::Signature(height), &block.signature)?;
        self.put(Family::Data, height, &Key::Data(height), &block.data)?;
        self.put(Family::Headers, height, &Key::Header(height), &block.header)?;
        if let Some(state) = &block.state {
            self.put(Family::States, height, &Key::State(height), state)?;
        }
        let [header, data] = block.da_heights;
        for (part, da_height) in [(Part::Data, data), (Part::Header, header)] {
            if da_height > 0 {
                self.put(Family::DaHeights, height, &Key::DaHeight(height, part), &da_height.to_le_bytes())?;
            }
        }
        if let (Some(index), Some(name)) = (&mut self.index, block.index) {
            let (key, value) = (Key::Index(name).to_bytes(), height.to_le_bytes());
            index.put(Entry { key: &key, version: version_at(height), value: &value, ..Entry::default() })?;
        }
        self.bytes += (block.header.len() + block.data.len()) as u64;
        self.foresee(height);
        Ok(())
    }

    /// How many bytes it will be, by those of the blocks so far.
    fn foresee(&self, height: u64) {
        let (done, all) = (height.saturating_sub(self.first) + 1, self.tip.saturating_sub(self.first) + 1);
        let total = u128::from(self.progress.state().bytes) * u128::from(all) / u128::from(done);
        self.progress.set_total(u64::try_from(total).unwrap_or(u64::MAX));
    }

    /// An entry of the rest, whose version is known once the end is.
    fn put_rest(&mut self, key: &[u8], value: &[u8], meta: u8) -> Result<()> {
        let Some(rest) = &mut self.rest else { return Ok(()) };
        rest.put(Entry { key, value, meta, ..Entry::default() })
    }

    /// The last block has come.
    fn end_blocks(&mut self, rest: Rest) -> Result<()> {
        for run in &mut self.runs {
            if let Some(writer) = run.writer.take() {
                Box::new(writer).finish()?;
            }
        }
        for (key, value) in &rest.entries {
            self.put_rest(key, value, 0)?;
        }
        if rest.pruned > 0 {
            for height in self.first..=rest.pruned {
                for key in key::block_keys(height).into_iter().chain(key::da_keys(height)) {
                    self.put_rest(&key, b"", META_DELETE)?;
                }
            }
        }
        self.end = Some(rest);
        let Some(index) = self.index.take() else { return Ok(()) };
        self.stage =
            Stage::Index(Tail { source: index.finish()?, writer: self.writer(INDEX), version: None });
        Ok(())
    }

    /// Moves on until there is a frame, or the tail is drained.
    fn drain(&self, tail: &mut Tail) -> Result<Option<Bytes>> {
        let (pruned, top) = self.end.as_ref().map_or((0, u64::MAX), |end| (end.pruned, end.height));
        let mut passed = 0_u32;
        while tail.source.advance()? {
            let entry = tail.source.entry();
            let height = key::height(entry.value).filter(|_| entry.key.starts_with(key::INDEX));
            let height = height.or_else(|| Key::parse(entry.key).made_from()).unwrap_or(top);
            // Of what was pruned the index goes unnamed; what lies above an early end was too early.
            if height > top || (height <= pruned && entry.meta & META_DELETE == 0) {
                continue;
            }
            tail.writer.put(Entry { version: tail.version.unwrap_or(entry.version), ..entry })?;
            passed = passed.wrapping_add(1);
            if passed.is_multiple_of(1024) {
                self.progress.check()?;
            }
            if let Ok(frame) = self.frames.try_recv() {
                return Ok(Some(frame));
            }
        }
        tail.writer.flush()?;
        Ok(self.frames.try_recv().ok())
    }

    fn version(&self) -> u64 {
        self.end.as_ref().map_or(0, |end| version_at(end.height))
    }

    /// What comes once a tail is drained: the rest after the index, then the list of its keys.
    fn next_stage(&mut self) -> Result<Stage> {
        if let Some(rest) = self.rest.take() {
            let version = Some(self.version());
            return Ok(Stage::Rest(Tail { source: rest.finish()?, writer: self.writer(REST), version }));
        }
        let entries = self.end.as_ref().map(|end| end.entries.iter());
        let mut keys: Vec<_> = entries.into_iter().flatten().map(|(key, _)| key.clone()).collect();
        keys.sort_unstable();
        Ok(Stage::Listing(keys.into()))
    }

    fn last_word(&self) -> Final {
        let version = self.version();
        Final {
            layout: Layout::F,
            since: self.since,
            last_version: version,
            current_height: self.tip,
            pinned_version: Some(version),
            store_id: self.store_id.clone(),
            sha256: Vec::new(),
            left_out: 0,
            tip_height: self.end.as_ref().map(|end| end.height),
            deletes: Some("exact".to_owned()),
        }
    }

    fn step(&mut self) -> Result<Option<Event>> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Blocks => {
                self.stage = Stage::Blocks;
                match self.items.blocking_recv().ok_or_else(Error::cancelled)? {
                    Item::Block(block) => self.block(&block)?,
                    Item::DaHeight(height, part, da_height) => {
                        let key = Key::DaHeight(height, part).to_bytes();
                        self.put_rest(&key, &da_height.to_le_bytes(), 0)?;
                    }
                    Item::Rest(rest) => self.end_blocks(rest)?,
                }
                Ok(None)
            }
            Stage::Listing(mut keys) if !keys.is_empty() => {
                let version = self.version();
                let heap = keys.drain(..keys.len().min(HEAP));
                let heap = heap.map(|key| Listed { key: key.into(), version }).collect();
                self.stage = Stage::Listing(keys);
                Ok(Some(Event::Listed(heap)))
            }
            Stage::Listing(_) | Stage::Over => Ok(Some(Event::End(self.last_word()))),
            mut tail @ (Stage::Index(_) | Stage::Rest(_)) => {
                let (Stage::Index(draining) | Stage::Rest(draining)) = &mut tail else { return Ok(None) };
                let frame = self.drain(draining)?;
                self.stage = match frame {
                    Some(_) => tail,
                    None => self.next_stage()?,
                };
                Ok(frame.map(Event::Chunk))
            }
        }
    }
}

impl Arrivals for Composer {
    fn next(&mut self) -> Result<Event> {
        loop {
            self.progress.check()?;
            if let Ok(frame) = self.frames.try_recv() {
                return Ok(Event::Chunk(frame));
            }
            if let Some(event) = self.step()? {
                return Ok(event);
            }
        }
    }

    fn proven(&self) -> Option<Proven> {
        self.end.as_ref().map(|end| Proven {
            height: end.height,
            hash: hex(&end.hash),
            block_version: version_at(end.height),
            included: end.included,
            notes: end.notes.clone(),
        })
    }
}
