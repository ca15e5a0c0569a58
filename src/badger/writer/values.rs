//! The value logs of a fresh directory: what Badger keeps beside its tables.

use super::Limits;
use crate::badger::log::{HEADER, Record, put_head, put_header};
use crate::badger::meta::Pointer;
use crate::badger::names;
use crate::base::checksum::crc32c;
use crate::base::durable::GrowingFile;
use crate::entry::{Entry, META_KEPT};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Smaller values are gathered before they are written.
const GATHER: usize = 256 << 10;

/// A row of value logs in one directory.
pub(super) struct Values {
    dir: PathBuf,
    limits: Limits,
    open: Option<Log>,
    last: u32,
    bytes: u64,
}

struct Log {
    file: GrowingFile,
    /// Where the next record begins.
    at: u64,
    entries: u64,
    gathered: Vec<u8>,
}

impl Values {
    /// Into `dir`, in which none are.
    pub(super) fn new(dir: &Path, limits: Limits) -> Self {
        Self { dir: dir.to_owned(), limits, open: None, last: 0, bytes: 0 }
    }

    /// Appends the value of an entry under its internal key.
    pub(super) fn put(&mut self, internal: &[u8], entry: &Entry<'_>) -> Result<Pointer> {
        let (meta, user_meta, expires_at) = (entry.meta & META_KEPT, entry.user_meta, entry.expires_at);
        let record = Record { key: internal, meta, user_meta, expires_at, value: entry.value };
        // The value itself is written from where it is.
        let mut head = Vec::new();
        put_head(&mut head, &record);
        let crc = crc32c(crc32c(0, &head), entry.value).to_be_bytes();
        let len = (head.len() + entry.value.len() + crc.len()) as u64;
        let log = self.log_for(len)?;
        let offset = log.at;
        log.append(&head)?;
        log.append(entry.value)?;
        log.append(&crc)?;
        log.at += len;
        log.entries += 1;
        let too_large = |_| {
            Error::unsupported(format!("expected a value of less than 4 GiB, found a record of {len} bytes"))
        };
        let (len, offset) =
            (u32::try_from(len).map_err(too_large)?, u32::try_from(offset).map_err(too_large)?);
        Ok(Pointer { fid: self.last, len, offset })
    }

    /// The log that has room for a record of `len` bytes.
    fn log_for(&mut self, len: u64) -> Result<&mut Log> {
        let Limits { log_bytes, log_entries, .. } = self.limits;
        let full = |log: &Log| log.entries >= log_entries || (log.entries > 0 && log.at + len > log_bytes);
        if self.open.as_ref().is_some_and(full) {
            self.close()?;
        }
        match &mut self.open {
            Some(log) => Ok(log),
            none => {
                self.last += 1;
                Ok(none.insert(Log::open(&names::value_log(&self.dir, self.last))?))
            }
        }
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut log) = self.open.take() else { return Ok(()) };
        log.write()?;
        self.bytes += log.at;
        log.file.finish()
    }

    /// Ends the last log. All are on the disk when this returns: how many there are, and their bytes.
    pub(super) fn finish(mut self) -> Result<(u32, u64)> {
        self.close()?;
        Ok((self.last, self.bytes))
    }
}

impl Log {
    fn open(path: &Path) -> Result<Self> {
        let mut iv = [0; 12];
        getrandom::fill(&mut iv).map_err(|error| {
            Error::io("cannot draw random bytes for a value log").at_path(path).caused_by(error)
        })?;
        let mut gathered = Vec::new();
        put_header(&mut gathered, iv);
        Ok(Self { file: GrowingFile::create(path)?, at: HEADER as u64, entries: 0, gathered })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() >= GATHER {
            self.write()?;
            return self.file.append(bytes);
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHER { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.file.append(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}
