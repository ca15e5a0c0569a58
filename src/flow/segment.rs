//! One segment: its file, what its manifest claims, what its bytes turn out to hold.

use super::finding::Finding;
use super::merge::Named;
use super::sort::Sorter;
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Entry, Source};
use crate::error::{Error, Kind, Result};
use crate::format::{self, FileInput, Piece, Reader, Tally};
use crate::repo::manifest::{Deletes, Manifest};
use crate::repo::pair;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A segment file, opened: later changes of its name do not touch what is read.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    input: FileInput,
    manifest: Option<Manifest>,
    keys: Option<File>,
    tally: Option<Tally>,
    blocks: bool,
}

impl Segment {
    /// Opens a segment and reads its manifest, if there is one.
    pub fn open(path: &Path) -> Result<Self> {
        let pair = pair::open(path)?;
        let input = FileInput::from_file(pair.segment, path)?;
        Ok(Self {
            path: path.to_owned(),
            input,
            manifest: pair.manifest,
            keys: pair.keys,
            tally: None,
            blocks: false,
        })
    }

    /// Opens a segment whose manifest may be damaged: then it is read as one without, and the finding says so.
    pub fn open_anyway(path: &Path) -> Result<(Self, Option<Finding>)> {
        match Self::open(path) {
            Ok(segment) => Ok((segment, None)),
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Unsupported) => {
                let input = FileInput::open(path)?;
                let segment = Self {
                    path: path.to_owned(),
                    input,
                    manifest: None,
                    keys: None,
                    tally: None,
                    blocks: false,
                };
                let finding = Finding::from_error("manifest", &error).in_file(&pair::manifest_path(path));
                Ok((segment, Some(finding)))
            }
            Err(error) => Err(error),
        }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's name, for people.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Its keys file, if the manifest names one and it is there.
    pub fn keys(&self) -> Option<&File> {
        self.keys.as_ref()
    }

    /// The file from its first byte.
    pub fn input(&self) -> FileInput {
        self.input.clone()
    }

    /// The file's size in bytes.
    pub fn bytes(&self) -> u64 {
        self.input.len()
    }

    /// What its manifest claims.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// What its bytes turned out to hold, once they were read.
    pub fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// Keeps what a full reading gathered, and whether it met keys of ev-node's.
    pub fn set_read(&mut self, tally: Tally, blocks: bool) {
        (self.tally, self.blocks) = (Some(tally), blocks);
    }

    /// Did a full reading meet keys of ev-node's?
    pub fn has_blocks(&self) -> bool {
        self.blocks
    }

    /// The digest that names it; segments without a manifest have none.
    pub fn sha256(&self) -> Option<&str> {
        self.manifest.as_ref().map(|manifest| manifest.sha256.as_str())
    }

    /// The highest version in it.
    pub fn last_version(&self) -> u64 {
        match (&self.tally, &self.manifest) {
            (Some(tally), _) => tally.last_version(),
            (None, Some(manifest)) => manifest.last_version,
            (None, None) => 0,
        }
    }

    /// How sure its deletes are; nobody vouches for a segment without a manifest.
    pub fn deletes(&self) -> Deletes {
        self.manifest.as_ref().map_or(Deletes::Unknown, |manifest| manifest.deletes)
    }

    /// Where its runs lie, by what was read of it or, before that, by its manifest.
    pub fn layout(&self) -> Option<format::Layout> {
        match &self.tally {
            Some(tally) => tally.layout(),
            None => self.manifest.as_ref().and_then(claimed_layout),
        }
    }

    /// Does its manifest say all that a reading needs? Whoever goes by it holds the bytes against its digest, and the entries against
    /// its counts.
    pub fn is_laid_out(&self) -> bool {
        self.manifest.as_ref().is_some_and(|manifest| manifest.bytes == self.bytes())
            && self.layout().is_some()
    }

    /// Its entries as sorted sources: as few as its runs allow when they are known, else one that sorts them.
    pub fn sorted(
        &self,
        scratch: &Scratch,
        memory: usize,
        progress: &Progress,
    ) -> Result<Vec<Named<'static>>> {
        sorted(&self.input, self.layout(), &self.name(), scratch, memory, progress)
    }
}

/// The entries of a stream as sorted sources: read where `layout` says the runs lie, else sorted outside memory.
pub fn sorted(
    input: &FileInput,
    layout: Option<format::Layout>,
    name: &str,
    scratch: &Scratch,
    memory: usize,
    progress: &Progress,
) -> Result<Vec<Named<'static>>> {
    if let Some(layout) = layout {
        return Ok(lanes(layout)
            .into_iter()
            .map(|lane| {
                let entries = lane.iter().map(|(run, _)| run.entries).sum();
                let pieces = lane.into_iter().flat_map(|(_, pieces)| pieces).collect();
                let reader = Reader::pieces(input.clone(), pieces);
                Named::new(name, Box::new(Counted { source: reader, passed: 0, entries }) as _)
            })
            .collect());
    }
    let mut sorter = Sorter::new(scratch, memory, progress);
    let mut reader = Reader::new(input.clone());
    let mut passed = 0;
    while reader.advance()? {
        sorter.put(reader.entry())?;
        if reader.offset() - passed > 1 << 20 {
            progress.check()?;
            passed = reader.offset();
        }
    }
    Ok(vec![Named::new(name, sorter.finish()? as Box<dyn Source>)])
}

/// Fails where a source has more entries than it should, or fewer.
struct Counted<S> {
    source: S,
    passed: u64,
    entries: u64,
}

impl<S: Source> Source for Counted<S> {
    fn advance(&mut self) -> Result<bool> {
        let more = self.source.advance()?;
        self.passed += u64::from(more);
        // More than there should be is told at once, fewer at the end.
        if self.passed > self.entries || (!more && self.passed < self.entries) {
            let (expected, found) = (self.entries, self.passed);
            return Err(Error::damaged(format!("expected {expected} entries in its runs, found {found}")));
        }
        Ok(more)
    }

    fn entry(&self) -> Entry<'_> {
        self.source.entry()
    }
}

/// Where the manifest says the runs lie. It is digested, and whoever reads by it watches the order.
fn claimed_layout(manifest: &Manifest) -> Option<format::Layout> {
    let runs = manifest.runs.as_ref()?;
    let pieces = manifest.pieces.as_ref()?;
    let key = |hex: &str| data_encoding::HEXLOWER.decode(hex.as_bytes()).ok();
    let runs = runs.iter().map(|run| {
        Some(format::Run {
            id: run.id,
            first: key(&run.first)?,
            last: key(&run.last)?,
            last_version: 0,
            entries: run.entries,
        })
    });
    let pieces = pieces.iter().map(|piece| (piece.run, Piece { offset: piece.offset, bytes: piece.bytes }));
    Some(format::Layout { runs: runs.collect::<Option<_>>()?, pieces: pieces.collect() })
}

/// Deals runs out to as few lanes as possible, so that each lane is one sorted reading: runs of Badger's are disjoint and make one,
/// the run of tombstones that we append makes a second.
pub(super) fn lanes(layout: format::Layout) -> Vec<Vec<(format::Run, Vec<Piece>)>> {
    let mut by_run = std::collections::HashMap::<u32, Vec<Piece>>::new();
    for (id, piece) in layout.pieces {
        by_run.entry(id).or_default().push(piece);
    }
    let mut runs = layout.runs;
    runs.sort_by(|one, other| one.first.cmp(&other.first));
    let mut lanes: Vec<Vec<(format::Run, Vec<Piece>)>> = Vec::new();
    for run in runs {
        let pieces = by_run.remove(&run.id).unwrap_or_default();
        let behind = |lane: &&mut Vec<(format::Run, Vec<Piece>)>| {
            lane.last().is_some_and(|(before, _)| before.last < run.first)
        };
        match lanes.iter_mut().find(behind) {
            Some(lane) => lane.push((run, pieces)),
            None => lanes.push(vec![(run, pieces)]),
        }
    }
    lanes
}

/// Refuses a path that is no segment but a folder, with advice.
pub fn expect_file(path: &Path) -> Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            Err(Error::invalid("expected a segment file, found a folder").at_path(path))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Error::from_io(error, "look at it", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Layout, Run};

    fn run(id: u32, first: &str, last: &str) -> Run {
        Run { id, first: first.into(), last: last.into(), last_version: 1, entries: 1 }
    }

    #[test]
    fn disjoint_runs_make_one_lane_in_key_order_and_an_overlapping_one_another() {
        let layout = Layout {
            runs: vec![run(1, "m", "z"), run(2, "a", "c"), run(3, "d", "l"), run(4, "b", "y")],
            pieces: (1..=4).map(|id| (id, Piece { offset: u64::from(id), bytes: 1 })).collect(),
        };
        let offset = |(_, pieces): &(Run, Vec<Piece>)| pieces[0].offset;
        let offsets: Vec<Vec<u64>> =
            lanes(layout).iter().map(|lane| lane.iter().map(offset).collect()).collect();
        assert_eq!(offsets, [vec![2, 3, 1], vec![4]]);
    }

    #[test]
    fn runs_that_touch_at_one_key_do_not_share_a_lane() {
        let layout = Layout { runs: vec![run(1, "a", "b"), run(2, "b", "c")], pieces: Vec::new() };
        assert_eq!(lanes(layout).len(), 2);
    }

    #[test]
    fn a_reading_by_the_manifest_counts_the_entries() {
        use crate::entry::{OwnedEntry, VecSource};
        let entry = |key: u8| OwnedEntry { key: vec![key], version: 1, ..OwnedEntry::default() };
        let read = |entries: u64| {
            let source = VecSource::new(vec![entry(1), entry(2)]);
            let mut counted = Counted { source, passed: 0, entries };
            while counted.advance()? {}
            Ok::<_, Error>(())
        };
        assert!(read(2).is_ok());
        for (entries, found) in [(1, 2), (3, 2), (0, 1)] {
            let expected = format!("expected {entries} entries in its runs, found {found}");
            assert_eq!(read(entries).unwrap_err().what(), expected);
        }
    }
}
