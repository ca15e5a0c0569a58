//! Sorted tables, one after the other: what is put in key order becomes files that one ingest call takes.
//!
//! Reading and parsing go on while another thread fills tables and a third lets the disk have the one before: filling takes about as long as all
//! the rest together.

use super::fault::fault;
use super::open::{TABLE_BYTES, table_options};
use crate::error::{Error, Result};
use rocksdb::SstFileWriter;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{JoinHandle, spawn};

/// Records are handed over in batches of so many bytes: they stay in the caches of the cores, and handing over costs nothing beside them.
const BATCH_BYTES: usize = 256 << 10;
/// So many batches are under way at most: enough to go on while a table is closed.
const BATCHES: usize = 16;

/// A row of table files in one directory, cut at [`TABLE_BYTES`].
pub(super) struct Tables {
    dir: PathBuf,
    batch: Records,
    /// Batches that have not come back.
    away: usize,
    writer: Option<Writer>,
}

/// The thread that fills tables, and the ways there and back.
struct Writer {
    records: SyncSender<Handover>,
    empty: Receiver<Records>,
    thread: JoinHandle<Result<Vec<PathBuf>>>,
}

enum Handover {
    Batch(Records),
    /// A record with a large value, which is not copied.
    Large(Vec<u8>, Vec<u8>),
}

impl Tables {
    /// Into `dir`, which is empty.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), batch: Records::default(), away: 0, writer: None }
    }

    /// Appends a record; its key is above all before it.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_with(key, |out| out.extend_from_slice(value))
    }

    /// The same for a value that is appended in its place.
    pub(super) fn put_with(&mut self, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        self.batch.push(key, value);
        if self.batch.bytes.len() < BATCH_BYTES { Ok(()) } else { self.hand_over() }
    }

    /// The same for a value so large that it must be in memory as few times as possible: it is in its table when this returns.
    pub(super) fn put_large(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        self.hand_over()?;
        self.send(Handover::Large(key, value))?;
        while self.away > 0 {
            self.take_back()?;
        }
        Ok(())
    }

    /// Ends the last table; all of them are on the disk when this returns.
    pub(super) fn finish(mut self) -> Result<Vec<PathBuf>> {
        self.hand_over()?;
        self.end()
    }

    fn hand_over(&mut self) -> Result<()> {
        if self.batch.ends.is_empty() {
            return Ok(());
        }
        let next = match self.writer.as_ref().map(|writer| writer.empty.try_recv()) {
            // The one that came back last is still in a cache of this core's.
            Some(Ok(batch)) => {
                self.away -= 1;
                batch
            }
            _ if self.away < BATCHES => Records::default(),
            _ => self.take_back()?,
        };
        let batch = std::mem::replace(&mut self.batch, next);
        self.send(Handover::Batch(batch))
    }

    fn send(&mut self, handover: Handover) -> Result<()> {
        let writer = self.writer.get_or_insert_with(|| Writer::start(&self.dir));
        if writer.records.send(handover).is_err() {
            return Err(self.ended());
        }
        self.away += 1;
        Ok(())
    }

    fn take_back(&mut self) -> Result<Records> {
        match self.writer.as_ref().map(|writer| writer.empty.recv()) {
            Some(Ok(batch)) => {
                self.away -= 1;
                Ok(batch)
            }
            _ => Err(self.ended()),
        }
    }

    /// Why the thread has ended before it was told to.
    fn ended(&mut self) -> Error {
        self.end().err().unwrap_or_else(|| Error::io("the thread that writes tables has ended"))
    }

    fn end(&mut self) -> Result<Vec<PathBuf>> {
        let Some(Writer { records, empty, thread }) = self.writer.take() else { return Ok(Vec::new()) };
        drop((records, empty));
        thread.join().unwrap_or_else(|_| Err(Error::io("the thread that writes tables has died")))
    }
}

/// Whoever gives up removes the directory next: nobody may still write there.
impl Drop for Tables {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Writer {
    fn start(dir: &Path) -> Self {
        let (records, handed) = sync_channel(BATCHES);
        let (back, empty) = channel();
        let row = Row { dir: dir.to_owned(), open: None, closing: None, begun: 0, done: Vec::new() };
        Self { records, empty, thread: spawn(move || row.write(&handed, &back)) }
    }
}

/// Keys and values one behind the other, and where each ends.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Records {
    fn push(&mut self, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(BATCH_BYTES + (64 << 10));
        }
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        value(&mut self.bytes);
        self.ends.push((key_end, self.bytes.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(key_end, end)| {
            let key = self.bytes.get(start..key_end).unwrap_or_default();
            start = end;
            (key, self.bytes.get(key_end..end).unwrap_or_default())
        })
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// The writing side.
struct Row {
    dir: PathBuf,
    open: Option<Table>,
    /// The table before, on its way to the disk while the next one is filled.
    closing: Option<JoinHandle<Result<PathBuf>>>,
    begun: usize,
    done: Vec<PathBuf>,
}

impl Row {
    fn write(mut self, handed: &Receiver<Handover>, back: &Sender<Records>) -> Result<Vec<PathBuf>> {
        while let Ok(handover) = handed.recv() {
            let mut batch = match handover {
                Handover::Batch(batch) => batch,
                Handover::Large(key, value) => {
                    self.put(&key, &value)?;
                    Records::default()
                }
            };
            batch.iter().try_for_each(|(key, value)| self.put(key, value))?;
            batch.clear();
            // Nobody waits for it at the end.
            let _ = back.send(batch);
        }
        self.closed()?;
        if let Some(table) = self.open.take() {
            self.done.push(table.close()?);
        }
        Ok(std::mem::take(&mut self.done))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut table = match self.open.take() {
            Some(table) if table.bytes < TABLE_BYTES => table,
            full => {
                if let Some(table) = full {
                    self.closed()?;
                    self.closing = Some(spawn(|| table.close()));
                }
                let path = self.dir.join(format!("{:06}.sst", self.begun));
                self.begun += 1;
                Table::open(path)?
            }
        };
        table.writer.put(key, value).map_err(|error| fault(error, &table.path))?;
        table.bytes += (key.len() + value.len()) as u64;
        self.open = Some(table);
        Ok(())
    }

    /// Waits for the table that is on its way, if there is one.
    fn closed(&mut self) -> Result<()> {
        if let Some(closing) = self.closing.take() {
            let closed =
                closing.join().unwrap_or_else(|_| Err(Error::io("the thread that ends a table has died")));
            self.done.push(closed?);
        }
        Ok(())
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let _ = self.closed();
    }
}

struct Table {
    writer: SstFileWriter<'static>,
    path: PathBuf,
    bytes: u64,
}

impl Table {
    fn open(path: PathBuf) -> Result<Self> {
        let writer = SstFileWriter::create(table_options());
        writer.open(&path).map_err(|error| fault(error, &path))?;
        Ok(Self { writer, path, bytes: 0 })
    }

    fn close(mut self) -> Result<PathBuf> {
        self.writer.finish().map_err(|error| fault(error, &self.path))?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_put() {
        let mut records = Records::default();
        let put: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"bb", b""), (b"c", b"333")];
        for (key, value) in put {
            records.push(key, |out| out.extend_from_slice(value));
        }
        assert_eq!(records.iter().collect::<Vec<_>>(), put);
        records.clear();
        assert_eq!(records.iter().count(), 0);
    }

    #[test]
    fn what_goes_wrong_on_the_other_thread_is_told_here() {
        let folder = tempfile::tempdir().unwrap();
        let mut tables = Tables::new(folder.path());
        tables.put(b"b", b"").unwrap();
        tables.put_large(b"c".to_vec(), vec![1; 9 << 20]).unwrap();
        tables.put(b"a", b"").unwrap();
        assert_eq!(tables.finish().unwrap_err().code(), "io");

        let mut tables = Tables::new(&folder.path().join("nowhere"));
        let puts = (0..1_000_000_u32).try_for_each(|number| tables.put(&number.to_be_bytes(), &[0; 1000]));
        let error = puts.unwrap_err();
        assert!(error.path().is_some_and(|path| path.starts_with(folder.path())), "{error}");
    }
}
