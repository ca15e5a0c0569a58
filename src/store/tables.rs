//! Sorted tables, one after the other: what is put in key order becomes files that one ingest call takes.

use super::fault::fault;
use super::open::{TABLE_BYTES, table_options};
use crate::error::Result;
use rocksdb::SstFileWriter;
use std::path::{Path, PathBuf};

/// A row of table files in one directory, cut at [`TABLE_BYTES`].
pub(super) struct Tables {
    dir: PathBuf,
    open: Option<Table>,
    done: Vec<PathBuf>,
}

struct Table {
    writer: SstFileWriter<'static>,
    path: PathBuf,
    bytes: u64,
}

impl Tables {
    /// Into `dir`, which is empty.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: None, done: Vec::new() }
    }

    /// Appends a record; its key is above all before it.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut table = match self.open.take() {
            Some(table) if table.bytes < TABLE_BYTES => table,
            full => {
                if let Some(table) = full {
                    self.done.push(table.close()?);
                }
                Table::open(self.dir.join(format!("{:06}.sst", self.done.len())))?
            }
        };
        table.writer.put(key, value).map_err(|error| fault(error, &table.path))?;
        table.bytes += (key.len() + value.len()) as u64;
        self.open = Some(table);
        Ok(())
    }

    /// Ends the last table; all of them are on the disk when this returns.
    pub(super) fn finish(mut self) -> Result<Vec<PathBuf>> {
        if let Some(table) = self.open.take() {
            self.done.push(table.close()?);
        }
        Ok(self.done)
    }
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
