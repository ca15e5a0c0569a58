//! The tables of a fresh directory, one after the other, filled on a thread of their own: reading and merging go on meanwhile, and a third
//! thread lets the disk have the table before.

use crate::badger::manifest::TableInfo;
use crate::badger::meta::Value;
use crate::badger::names;
use crate::badger::table::{Builder, BuilderOptions};
use crate::base::durable::GrowingFile;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{JoinHandle, spawn};

/// The last of Badger's levels: nothing is below, so a lookup ends there and compaction has nothing to do.
const LAST_LEVEL: u8 = 6;

/// Entries are handed over in batches of so many bytes: they stay in the caches of the cores, and handing over costs nothing beside them.
const BATCH_BYTES: usize = 256 << 10;
/// So many batches are under way at most: enough to go on while a table is ended.
const BATCHES: usize = 16;

/// A row of tables in one directory.
pub(super) struct Tables {
    dir: PathBuf,
    table_bytes: u64,
    batch: Batch,
    /// Batches that have not come back.
    away: usize,
    filler: Option<Filler>,
}

/// The thread that fills tables, and the ways there and back.
struct Filler {
    batches: SyncSender<Handover>,
    empty: Receiver<Batch>,
    thread: JoinHandle<Result<Made>>,
}

enum Handover {
    Batch(Batch),
    /// The end; the last table says that no version is above this one.
    End(u64),
}

/// What was made.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// For the MANIFEST.
    pub(super) tables: Vec<(u64, TableInfo)>,
    /// Bytes of all of them.
    pub(super) bytes: u64,
}

impl Tables {
    /// Into `dir`, in which none are; each is ended at the next user key when its blocks have so many bytes.
    pub(super) fn new(dir: &Path, table_bytes: u64) -> Self {
        Self { dir: dir.to_owned(), table_bytes, batch: Batch::default(), away: 0, filler: None }
    }

    /// Appends an entry; its internal key is above all before it. `begins`: no entry before has its user key.
    pub(super) fn put(
        &mut self,
        internal: &[u8],
        begins: bool,
        value: &Value<'_>,
        pointed: u32,
    ) -> Result<()> {
        self.batch.push(internal, begins, value, pointed);
        if self.batch.bytes.len() < BATCH_BYTES { Ok(()) } else { self.hand_over() }
    }

    /// Ends the last table, if there is one, and raises the highest version that it speaks of. All are on the disk when this returns.
    pub(super) fn finish(mut self, max_version: u64) -> Result<Made> {
        self.hand_over()?;
        if self.filler.is_some() {
            self.send(Handover::End(max_version))?;
        }
        self.end()
    }

    fn hand_over(&mut self) -> Result<()> {
        if self.batch.entries.is_empty() {
            return Ok(());
        }
        let next = match self.filler.as_ref().map(|filler| filler.empty.try_recv()) {
            // The one that came back last is still in a cache of this core's.
            Some(Ok(batch)) => {
                self.away -= 1;
                batch
            }
            _ if self.away < BATCHES => Batch::default(),
            _ => self.take_back()?,
        };
        let batch = std::mem::replace(&mut self.batch, next);
        self.away += 1;
        self.send(Handover::Batch(batch))
    }

    fn send(&mut self, handover: Handover) -> Result<()> {
        let filler = self.filler.get_or_insert_with(|| Filler::start(&self.dir, self.table_bytes));
        if filler.batches.send(handover).is_err() { Err(self.ended()) } else { Ok(()) }
    }

    fn take_back(&mut self) -> Result<Batch> {
        match self.filler.as_ref().map(|filler| filler.empty.recv()) {
            Some(Ok(batch)) => {
                self.away -= 1;
                Ok(batch)
            }
            _ => Err(self.ended()),
        }
    }

    /// Why the thread has ended before it was told to.
    fn ended(&mut self) -> Error {
        self.end().err().unwrap_or_else(|| Error::io("the thread that fills tables has ended"))
    }

    fn end(&mut self) -> Result<Made> {
        let Some(Filler { batches, empty, thread }) = self.filler.take() else { return Ok(Made::default()) };
        drop((batches, empty));
        thread.join().unwrap_or_else(|_| Err(Error::io("the thread that fills tables has died")))
    }
}

/// Whoever gives up removes the directory next: nobody may still write there.
impl Drop for Tables {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Filler {
    fn start(dir: &Path, table_bytes: u64) -> Self {
        let (batches, handed) = sync_channel(BATCHES);
        let (back, empty) = channel();
        let row = Row {
            dir: dir.to_owned(),
            table_bytes,
            open: None,
            closing: None,
            next: 1,
            made: Made::default(),
        };
        Self { batches, empty, thread: spawn(move || row.fill(&handed, &back)) }
    }
}

/// Internal keys and values one behind the other, and what belongs to each.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Packed>,
}

struct Packed {
    key_end: usize,
    end: usize,
    begins: bool,
    meta: u8,
    user_meta: u8,
    expires_at: u64,
    pointed: u32,
}

impl Batch {
    fn push(&mut self, internal: &[u8], begins: bool, value: &Value<'_>, pointed: u32) {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(BATCH_BYTES + (64 << 10));
        }
        self.bytes.extend_from_slice(internal);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value.bytes);
        let (meta, user_meta, expires_at) = (value.meta, value.user_meta, value.expires_at);
        let end = self.bytes.len();
        self.entries.push(Packed { key_end, end, begins, meta, user_meta, expires_at, pointed });
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], Value<'_>, &Packed)> {
        let mut start = 0;
        self.entries.iter().map(move |packed| {
            let internal = self.bytes.get(start..packed.key_end).unwrap_or_default();
            start = packed.end;
            let value = Value {
                meta: packed.meta,
                user_meta: packed.user_meta,
                expires_at: packed.expires_at,
                bytes: self.bytes.get(packed.key_end..packed.end).unwrap_or_default(),
            };
            (internal, value, packed)
        })
    }

    fn clear(&mut self) {
        // One large value is no reason to hold on to so much.
        self.bytes.shrink_to(4 * BATCH_BYTES);
        self.bytes.clear();
        self.entries.clear();
    }
}

/// The filling side.
struct Row {
    dir: PathBuf,
    table_bytes: u64,
    open: Option<Table>,
    /// The table before, on its way to the disk while the next one is filled.
    closing: Option<JoinHandle<Result<()>>>,
    next: u64,
    made: Made,
}

struct Table {
    builder: Builder<GrowingFile>,
    id: u64,
    path: PathBuf,
}

impl Row {
    fn fill(mut self, handed: &Receiver<Handover>, back: &Sender<Batch>) -> Result<Made> {
        while let Ok(handover) = handed.recv() {
            match handover {
                Handover::Batch(mut batch) => {
                    batch.iter().try_for_each(|(key, value, packed)| self.put(key, &value, packed))?;
                    batch.clear();
                    // Nobody waits for it at the end.
                    let _ = back.send(batch);
                }
                Handover::End(max_version) => {
                    if let Some(table) = self.open.take() {
                        self.close(table, Some(max_version))?;
                    }
                    self.closed()?;
                    return Ok(std::mem::take(&mut self.made));
                }
            }
        }
        // Given up.
        Ok(Made::default())
    }

    fn put(&mut self, internal: &[u8], value: &Value<'_>, packed: &Packed) -> Result<()> {
        let table_bytes = self.table_bytes;
        let full = |table: &Table| packed.begins && table.builder.stored_bytes() >= table_bytes;
        if self.open.as_ref().is_some_and(full)
            && let Some(table) = self.open.take()
        {
            self.close(table, None)?;
        }
        let table = match &mut self.open {
            Some(table) => table,
            none => {
                let id = self.next;
                self.next += 1;
                none.insert(Table::open(&self.dir, id)?)
            }
        };
        let added = table.builder.add(internal, value, packed.pointed);
        added.map_err(|error| error.at_path(&table.path))
    }

    fn close(&mut self, table: Table, max_version: Option<u64>) -> Result<()> {
        let Table { builder, id, path } = table;
        let finished = builder.finish_into(max_version);
        let (facts, file) = finished.map_err(|error| error.at_path(&path))?;
        self.closed()?;
        self.closing = Some(spawn(|| file.finish()));
        let compression = BuilderOptions::default().compression;
        self.made.tables.push((id, TableInfo { level: LAST_LEVEL, compression }));
        self.made.bytes += facts.bytes;
        Ok(())
    }

    /// Waits for the table that is on its way, if there is one.
    fn closed(&mut self) -> Result<()> {
        self.closing.take().map_or(Ok(()), |closing| {
            closing.join().unwrap_or_else(|_| Err(Error::io("the thread that syncs a table has died")))
        })
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let _ = self.closed();
    }
}

impl Table {
    fn open(dir: &Path, id: u64) -> Result<Self> {
        let path = names::table(dir, id);
        let builder = Builder::new(GrowingFile::create(&path)?, BuilderOptions::default())?;
        Ok(Self { builder, id, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::badger::key;

    fn internal(number: u32) -> Vec<u8> {
        let mut internal = Vec::new();
        key::put(&mut internal, &number.to_be_bytes(), 1);
        internal
    }

    #[test]
    fn what_goes_wrong_on_the_other_thread_is_told_here() {
        let folder = tempfile::tempdir().unwrap();
        let mut tables = Tables::new(folder.path(), 1 << 20);
        for number in [2, 1] {
            tables.put(&internal(number), true, &Value::default(), 0).unwrap();
        }
        let error = tables.finish(0).unwrap_err();
        assert_eq!(error.path(), Some(&*folder.path().join("000001.sst")), "{error}");

        let mut tables = Tables::new(&folder.path().join("nowhere"), 1 << 20);
        let value = Value { bytes: &[0; 1000], ..Value::default() };
        let error =
            (0..1_000_000).try_for_each(|number| tables.put(&internal(number), true, &value, 0)).unwrap_err();
        assert!(error.path().is_some_and(|path| path.starts_with(folder.path())), "{error}");
    }
}
