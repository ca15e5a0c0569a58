//! Bytes on their way into a segment: written as they come, digested on another core, and parsed for what a manifest says of them.

use super::hasher::Hasher;
use super::sort::Sorter;
use super::watch::Watch;
use crate::base::durable::PartFile;
use crate::base::progress::Progress;
use crate::entry::{Entry, Source};
use crate::error::{Error, Result};
use crate::format::{FrameSink, Input, Reader};
use crate::rpc::{Event, Final};
use bytes::Bytes;
use std::fs::File;
use std::io::Write;

/// What a source sends, one thing after the other; waits for it.
pub trait Arrivals: Send {
    /// The next event. After [`Event::End`] it is not called again; an error when the other side has given up.
    fn next(&mut self) -> Result<Event>;

    /// What was proven of blocks that were copied one by one, once all have come; `None` of a stream, which says so itself.
    fn proven(&self) -> Option<Proven> {
        None
    }
}

/// What a copy of blocks ends with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Proven {
    /// The height that it ends at.
    pub height: u64,
    /// SHA-256 of the stored header there, as hex.
    pub hash: String,
    /// The version of that header.
    pub block_version: u64,
    /// Up to here the blocks' DA heights are final.
    pub included: u64,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Where a segment's bytes go.
pub trait Out: Send {
    /// Takes more of them.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Out for PartFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        PartFile::append(self, bytes)
    }
}

impl Out for File {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|error| Error::from_io(error, "write it", "a temporary file"))
    }
}

impl Out for Box<dyn Write + Send> {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(|error| Error::from_io(error, "write it", "standard output"))
    }
}

/// Records a segment.
pub struct Recorder<'a> {
    out: &'a mut dyn Out,
    hasher: Hasher,
    progress: Progress,
    watch: Watch,
    bytes: u64,
}

/// A segment, recorded.
pub struct Recorded {
    /// What was seen on the way.
    pub watch: Watch,
    /// SHA-256 of all bytes, as hex.
    pub sha256: String,
    /// How many.
    pub bytes: u64,
}

impl<'a> Recorder<'a> {
    /// Records into `out`; `watch` looks on.
    pub fn new(out: &'a mut dyn Out, watch: Watch, progress: &Progress) -> Self {
        Self { out, hasher: Hasher::start(), progress: progress.clone(), watch, bytes: 0 }
    }

    /// What was seen so far.
    pub fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Takes everything that arrives, up to the source's last word. Keys that the source lists go to `listed`; whether any came is
    /// the second thing it gives.
    pub fn receive(
        mut self,
        arrivals: &mut dyn Arrivals,
        listed: &mut Sorter,
    ) -> Result<(Self, Final, bool)> {
        let input = Incoming {
            arrivals,
            out: &mut *self.out,
            hasher: &self.hasher,
            progress: &self.progress,
            chunk: Bytes::new(),
            end: None,
            listed,
            any_listed: false,
            bytes: 0,
        };
        let mut reader = Reader::with_tap(input, self.watch);
        let mut entries = 0;
        while reader.advance()? {
            entries += 1;
            if entries == 1024 {
                self.progress.add(0, entries);
                entries = 0;
            }
        }
        self.progress.add(0, entries);
        let (input, watch) = reader.into_parts();
        let (end, any_listed, bytes) = (input.end, input.any_listed, input.bytes);
        self.watch = watch;
        self.bytes += bytes;
        let end = end.ok_or_else(|| Error::incomplete("expected the source's last word, found none"))?;
        if !end.sha256.is_empty() {
            let (expected, found) = (super::hasher::hex(&end.sha256), self.hasher.so_far()?);
            if expected != found {
                return Err(Error::damaged(format!(
                    "expected {bytes} bytes of SHA-256 {expected}, found {found}: they were changed on their way"
                )));
            }
        }
        Ok((self, end, any_listed))
    }

    /// The end: the digest of all bytes.
    pub fn finish(self) -> Result<Recorded> {
        Ok(Recorded { watch: self.watch, sha256: self.hasher.finish()?, bytes: self.bytes })
    }
}

/// Frames of our own making, behind what arrived.
impl FrameSink for Recorder<'_> {
    fn frame(&mut self, frame: &mut Vec<u8>) -> Result<()> {
        self.progress.check()?;
        let watch = std::mem::replace(&mut self.watch, Watch::new(Vec::new(), None, false));
        let mut reader = Reader::with_tap(frame.as_slice(), watch).at_offset(self.bytes);
        while reader.advance()? {}
        self.watch = reader.into_parts().1;
        self.out.append(frame)?;
        self.bytes += frame.len() as u64;
        self.hasher.update(Bytes::from(std::mem::take(frame)))
    }
}

struct Incoming<'a> {
    arrivals: &'a mut dyn Arrivals,
    out: &'a mut dyn Out,
    hasher: &'a Hasher,
    progress: &'a Progress,
    chunk: Bytes,
    end: Option<Final>,
    listed: &'a mut Sorter,
    any_listed: bool,
    bytes: u64,
}

impl Incoming<'_> {
    fn arrive(&mut self) -> Result<()> {
        self.progress.check()?;
        match self.arrivals.next()? {
            Event::Chunk(chunk) => {
                self.out.append(&chunk)?;
                self.bytes += chunk.len() as u64;
                self.progress.add(chunk.len() as u64, 0);
                self.hasher.update(chunk.clone())?;
                self.chunk = chunk;
            }
            Event::Listed(keys) => {
                self.any_listed = true;
                for key in keys {
                    self.listed.put(Entry { key: &key.key, version: key.version, ..Entry::default() })?;
                }
            }
            Event::End(end) => self.end = Some(end),
        }
        Ok(())
    }
}

impl Input for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.chunk.is_empty() {
            if self.end.is_some() {
                return Ok(0);
            }
            self.arrive()?;
        }
        let now = self.chunk.split_to(self.chunk.len().min(buffer.len()));
        if let Some(room) = buffer.get_mut(..now.len()) {
            room.copy_from_slice(&now);
        }
        Ok(now.len())
    }
}
