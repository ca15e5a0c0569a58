//! Rule 15: the index finds every block.
//!
//! Its keys are hashes, so its entries come in no order of heights. They go to buckets by the height that they name, cut where the headers,
//! which come before them, say. One bucket after the other is then held against the headers of its heights.

use super::finding::{Finding, Findings, Rule};
use super::row::{BROKEN, HashRow, IndexRow, hex};
use super::spool::{BUCKET_BUFFER, Lanes, Reader, Row, Run, Spool};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::error::Result;
use crate::evnode::generation::Marks;
use crate::evnode::hash::Hash;
use crate::evnode::key::Key;
use std::collections::BTreeSet;

/// Heights without an index entry that are remembered, the lowest ones.
const KEPT: usize = 1000;

pub(super) struct Index {
    spool: Spool,
    /// Where the buckets begin, once there are headers.
    bounds: Option<Vec<u64>>,
    /// The first is for what is below all headers.
    buckets: Vec<Run>,
    top: Option<u64>,
    progress: Option<Progress>,
}

/// A block that waits for its entry.
struct Wanted {
    row: HashRow,
    found: bool,
}

impl Index {
    pub(super) fn new(scratch: &Scratch, progress: Option<Progress>) -> Self {
        Self { spool: Spool::new(scratch), bounds: None, buckets: Vec::new(), top: None, progress }
    }

    /// Takes an entry. All headers have been seen: their keys come first.
    pub(super) fn push(&mut self, row: &IndexRow, headers: &Lanes<HashRow>) -> Result<()> {
        let bounds = self.bounds.get_or_insert_with(|| headers.bounds());
        if self.buckets.is_empty() {
            self.buckets.resize_with(bounds.len() + 1, Run::default);
        }
        let bucket = bounds.partition_point(|bound| *bound <= row.height);
        self.top = self.top.max(Some(row.height));
        self.buckets.get_mut(bucket).map_or(Ok(()), |run| run.push(&mut self.spool, row, BUCKET_BUFFER))
    }

    /// The highest height that it names.
    pub(super) fn top(&self) -> Option<u64> {
        self.top
    }

    /// Holds all entries against all headers; the lowest heights without an entry.
    pub(super) fn check(
        &mut self,
        headers: &Lanes<HashRow>,
        range: Option<(u64, u64)>,
        marks: &mut Marks,
        findings: &mut Findings,
    ) -> Result<BTreeSet<u64>> {
        let bounds = self.bounds.take().unwrap_or_else(|| headers.bounds());
        self.buckets.resize_with(bounds.len() + 1, Run::default);
        let mut reader = headers.read()?;
        let mut missing = BTreeSet::new();
        let mut wanted = Vec::new();
        for (number, run) in self.buckets.iter().enumerate() {
            self.progress.as_ref().map_or(Ok(()), Progress::check)?;
            // Bucket 0 has no headers, bucket n those below bound n.
            let end = bounds.get(number).copied();
            fill(&mut wanted, &mut reader, end.filter(|_| number > 0), number == 0)?;
            self.hold(run, &mut wanted, range, marks, findings)?;
            for block in wanted.iter().filter(|block| !block.found && block.row.flags & BROKEN == 0) {
                let height = block.row.height;
                if !range.is_some_and(|(base, top)| (base..=top).contains(&height)) {
                    continue;
                }
                let key = Key::Index(block.row.blob).to_bytes();
                let expected = "the height under the hash of its header or of its value";
                let finding = Finding::error(Rule::Index, expected, "no such entry").at(height).of(key);
                findings.add_run("index", finding);
                if missing.len() < KEPT {
                    missing.insert(height);
                }
            }
        }
        Ok(missing)
    }

    /// Looks for the blocks of one bucket in it.
    fn hold(
        &self,
        run: &Run,
        wanted: &mut [Wanted],
        range: Option<(u64, u64)>,
        marks: &mut Marks,
        findings: &mut Findings,
    ) -> Result<()> {
        let (mut part, mut bytes) = (0, Vec::new());
        while run.part(part, &self.spool, &mut bytes)? {
            part += 1;
            for entry in bytes.chunks_exact(IndexRow::WIDTH).map(IndexRow::read) {
                match place(wanted, entry.height).and_then(|at| wanted.get_mut(at)) {
                    Some(block) => {
                        marks.blob_index |= entry.name == block.row.blob;
                        block.found |= entry.name == block.row.blob || entry.name == block.row.hash;
                    }
                    // A header that should be there is missing by itself.
                    None if range.is_some_and(|(base, top)| (base..=top).contains(&entry.height)) => {}
                    None => orphan(entry.height, &entry.name, findings),
                }
            }
        }
        Ok(())
    }
}

/// Where a height is among those wanted. Nearly always none is missing before it.
fn place(wanted: &[Wanted], height: u64) -> Option<usize> {
    let first = wanted.first()?.row.height;
    let guess = usize::try_from(height.checked_sub(first)?).ok()?;
    if wanted.get(guess).is_some_and(|block| block.row.height == height) {
        return Some(guess);
    }
    wanted.binary_search_by_key(&height, |block| block.row.height).ok()
}

fn orphan(height: u64, name: &Hash, findings: &mut Findings) {
    let found = format!("height {height} under {}", hex(name));
    let finding = Finding::warning(Rule::Index, "a height that has a header", found);
    findings.add(finding.at(height).of(Key::Index(*name).to_bytes()));
}

/// Reads the headers below `end`; none for the bucket before all of them.
fn fill(
    wanted: &mut Vec<Wanted>,
    reader: &mut Reader<'_, HashRow>,
    end: Option<u64>,
    none: bool,
) -> Result<()> {
    wanted.clear();
    while let Some(row) = reader.row().copied() {
        if none || end.is_some_and(|end| row.height >= end) {
            break;
        }
        wanted.push(Wanted { row, found: false });
        reader.advance()?;
    }
    Ok(())
}
