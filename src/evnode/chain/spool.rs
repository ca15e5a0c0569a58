//! Room for records per height, in nameless files: written in the order of keys, read in the order of numbers.
//!
//! Keys hold heights as decimal text without padding, so a datastore yields 1, 10, 100, 11, 2. Among heights with one count of digits
//! the order of text is that of numbers. So each count of digits has a lane of its own, every lane is written in order, and lane behind
//! lane is the order of numbers: no sorting, no seeking, and any height at all.

use crate::base::scratch::Scratch;
use crate::error::{Error, Result};
use std::fs::File;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A lane for each count of digits of a 64-bit number.
const LANES: usize = 20;
/// Held in memory of a lane before it is written.
const LANE_BUFFER: usize = 256 << 10;
/// Of a bucket: there are more of them.
pub(super) const BUCKET_BUFFER: usize = 8 << 10;

/// A nameless file that is made when it is needed.
pub(super) struct Spool {
    scratch: Scratch,
    file: Option<File>,
    end: u64,
}

impl Spool {
    pub(super) fn new(scratch: &Scratch) -> Self {
        Self { scratch: scratch.clone(), file: None, end: 0 }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.scratch.file()?),
        };
        let at = self.end;
        file.write_all_at(bytes, at)
            .map_err(|error| Error::from_io(error, "write a temporary file", self.folder()))?;
        self.end += bytes.len() as u64;
        Ok(at)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        file.read_exact_at(into, at)
            .map_err(|error| Error::from_io(error, "read a temporary file", self.folder()))
    }

    fn folder(&self) -> PathBuf {
        self.scratch.folder().to_owned()
    }
}

/// Bytes appended and read from the start: parts of a spool, and what was not yet written.
#[derive(Default)]
pub(super) struct Run {
    buffer: Vec<u8>,
    parts: Vec<(u64, usize)>,
}

impl Run {
    /// Appends a row; `limit` bytes are held in memory.
    pub(super) fn push<R: Row>(&mut self, spool: &mut Spool, row: &R, limit: usize) -> Result<()> {
        if !self.buffer.is_empty() && self.buffer.len() + R::WIDTH > limit {
            let at = spool.append(&self.buffer)?;
            self.parts.push((at, self.buffer.len()));
            self.buffer.clear();
        }
        row.put(&mut self.buffer);
        Ok(())
    }

    /// Gives the parts one after the other; false at the end.
    pub(super) fn part(&self, number: usize, spool: &Spool, into: &mut Vec<u8>) -> Result<bool> {
        if let Some((at, length)) = self.parts.get(number) {
            into.resize(*length, 0);
            spool.read(*at, into)?;
            return Ok(true);
        }
        into.clear();
        if number == self.parts.len() && !self.buffer.is_empty() {
            into.extend_from_slice(&self.buffer);
            return Ok(true);
        }
        Ok(false)
    }
}

/// A record of fixed width, which begins with its height (8 bytes, little-endian).
pub(super) trait Row: Copy {
    const WIDTH: usize;
    fn height(&self) -> u64;
    fn put(&self, to: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Self;
}

/// Rows of one family.
pub(super) struct Lanes<R> {
    spool: Spool,
    runs: Vec<Run>,
    last: Vec<Option<u64>>,
    rows: u64,
    top: Option<u64>,
    /// The height of every [`STRIDE`]th row of each lane.
    bounds: Vec<Vec<u64>>,
    kind: PhantomData<R>,
}

/// Rows between two bounds: few enough that a bucket's headers stay in a core's cache while its entries, in no order, look for them.
const STRIDE: u64 = 1 << 12;
/// Buckets at most: more rows make them larger, so that what is held in memory has an end.
const MAX_BUCKETS: usize = 4096;

impl<R: Row> Lanes<R> {
    pub(super) fn new(scratch: &Scratch) -> Self {
        Self {
            spool: Spool::new(scratch),
            runs: (0..LANES).map(|_| Run::default()).collect(),
            last: vec![None; LANES],
            rows: 0,
            top: None,
            bounds: vec![Vec::new(); LANES],
            kind: PhantomData,
        }
    }

    /// Takes a row; those of one count of digits come in order.
    pub(super) fn push(&mut self, row: &R) -> Result<()> {
        let height = row.height();
        let lane = height.checked_ilog10().unwrap_or(0) as usize;
        let (Some(run), Some(last), Some(bounds)) =
            (self.runs.get_mut(lane), self.last.get_mut(lane), self.bounds.get_mut(lane))
        else {
            return Ok(());
        };
        if last.is_some_and(|last| last > height) {
            return Err(Error::invalid(format!(
                "expected entries in the order of keys, found height {height} late"
            )));
        }
        *last = Some(height);
        if self.rows.is_multiple_of(STRIDE) || bounds.is_empty() {
            bounds.push(height);
        }
        self.rows += 1;
        self.top = self.top.max(Some(height));
        run.push(&mut self.spool, row, LANE_BUFFER)
    }

    /// The highest height.
    pub(super) fn top(&self) -> Option<u64> {
        self.top
    }

    /// The lowest height.
    pub(super) fn bottom(&self) -> Option<u64> {
        self.bounds.iter().find_map(|bounds| bounds.first().copied())
    }

    /// Heights that cut all rows into parts that memory can hold, in order.
    pub(super) fn bounds(&self) -> Vec<u64> {
        let mut bounds = self.bounds.concat();
        while bounds.len() > MAX_BUCKETS {
            bounds = bounds.into_iter().step_by(2).collect();
        }
        bounds
    }

    /// The rows in the order of heights.
    pub(super) fn read(&self) -> Result<Reader<'_, R>> {
        let mut reader = Reader { lanes: self, lane: 0, part: 0, bytes: Vec::new(), at: 0, row: None };
        reader.advance()?;
        Ok(reader)
    }
}

/// Stands on a row, from the first on.
pub(super) struct Reader<'a, R> {
    lanes: &'a Lanes<R>,
    lane: usize,
    part: usize,
    bytes: Vec<u8>,
    at: usize,
    row: Option<R>,
}

impl<R: Row> Reader<'_, R> {
    /// The row it stands on; `None` at the end.
    pub(super) fn row(&self) -> Option<&R> {
        self.row.as_ref()
    }

    /// Its height.
    pub(super) fn height(&self) -> Option<u64> {
        self.row.as_ref().map(Row::height)
    }

    /// The row, if it is that of `height`; then it moves on.
    pub(super) fn take(&mut self, height: u64) -> Result<Option<R>> {
        match self.row {
            Some(row) if row.height() == height => {
                self.advance()?;
                Ok(Some(row))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn advance(&mut self) -> Result<()> {
        loop {
            if let Some(bytes) = self.bytes.get(self.at..self.at + R::WIDTH) {
                self.row = Some(R::read(bytes));
                self.at += R::WIDTH;
                return Ok(());
            }
            let Some(run) = self.lanes.runs.get(self.lane) else {
                self.row = None;
                return Ok(());
            };
            self.at = 0;
            if run.part(self.part, &self.lanes.spool, &mut self.bytes)? {
                self.part += 1;
            } else {
                (self.lane, self.part) = (self.lane + 1, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Plain(u64);

    impl Row for Plain {
        const WIDTH: usize = 8;
        fn height(&self) -> u64 {
            self.0
        }
        fn put(&self, to: &mut Vec<u8>) {
            to.extend_from_slice(&self.0.to_le_bytes());
        }
        fn read(bytes: &[u8]) -> Self {
            Self(u64::from_le_bytes(bytes.try_into().unwrap()))
        }
    }

    fn sorted(heights: &[u64]) -> Vec<u64> {
        let mut texts: Vec<_> = heights.iter().map(u64::to_string).collect();
        texts.sort();
        let mut lanes = Lanes::new(&Scratch::system());
        for text in texts {
            lanes.push(&Plain(text.parse().unwrap())).unwrap();
        }
        let mut reader = lanes.read().unwrap();
        let mut found = Vec::new();
        while let Some(row) = reader.row() {
            found.push(row.0);
            reader.advance().unwrap();
        }
        assert_eq!((lanes.bottom(), lanes.top()), (found.first().copied(), found.last().copied()));
        found
    }

    #[test]
    fn many_rows_come_back_in_the_order_of_numbers() {
        let heights: Vec<_> = (0..200_000).collect();
        assert_eq!(sorted(&heights), heights);
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        let mut lanes = Lanes::new(&Scratch::system());
        lanes.push(&Plain(12)).unwrap();
        lanes.push(&Plain(1)).unwrap();
        assert_eq!(lanes.push(&Plain(11)).unwrap_err().code(), "invalid-argument");
    }

    #[test]
    fn bounds_cut_the_rows_in_order() {
        let mut lanes = Lanes::new(&Scratch::system());
        let mut texts: Vec<_> = (5..300_000_u64).map(|height| height.to_string()).collect();
        texts.sort();
        for text in texts {
            lanes.push(&Plain(text.parse().unwrap())).unwrap();
        }
        let bounds = lanes.bounds();
        assert_eq!(bounds.first(), Some(&5));
        assert!(bounds.is_sorted() && bounds.len() <= 80, "{bounds:?}");
    }

    proptest! {
        #[test]
        fn any_heights_come_back_in_order(mut heights in prop::collection::vec(
            prop_oneof![0u64..200, any::<u64>(), Just(u64::MAX)], 0..100)) {
            let found = sorted(&heights);
            heights.sort_unstable();
            prop_assert_eq!(found, heights);
        }
    }
}
