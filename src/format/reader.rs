//! Frames and entries out of a stream, one at a time.

use super::{MAX_FRAME, MAX_GROUPS, wire};
use crate::entry::{Entry, Source};
use crate::error::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much is read at once; also what a reader holds when every entry is small.
const BUFFER: usize = 256 << 10;
const FRAME_HEADER: usize = 8;

/// Where a reader's bytes come from.
pub trait Input: Send {
    /// Fills some of `buffer`; 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;

    /// Goes on at byte `offset`, where the input can.
    fn jump(&mut self, offset: u64) -> Result<()> {
        Err(Error::unsupported(format!("cannot read at byte {offset}: this input only goes forward")))
    }

    /// The file, for errors.
    fn path(&self) -> Option<&Path> {
        None
    }
}

impl Input for &[u8] {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let len = self.len().min(buffer.len());
        if let (Some((now, later)), Some(room)) = (self.split_at_checked(len), buffer.get_mut(..len)) {
            room.copy_from_slice(now);
            *self = later;
        }
        Ok(len)
    }
}

/// A file, or a range of it, read by position: many inputs may share one descriptor.
#[derive(Clone, Debug)]
pub struct FileInput {
    file: Arc<File>,
    path: Arc<PathBuf>,
    at: u64,
    end: u64,
}

impl FileInput {
    /// Opens `path` for reading from its first byte to its last.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::from_io(error, "open it", path))?;
        let this = Self::from_file(file, path)?;
        if !this.file.metadata().is_ok_and(|meta| meta.is_file()) {
            return Err(Error::invalid("expected a file, found something else").at_path(path));
        }
        Ok(this)
    }

    /// Reads an open file, which errors will call `path`.
    pub fn from_file(file: File, path: &Path) -> Result<Self> {
        let meta = file.metadata().map_err(|error| Error::from_io(error, "look at it", path))?;
        Ok(Self { file: Arc::new(file), path: Arc::new(path.to_owned()), at: 0, end: meta.len() })
    }

    /// The same file from `start` up to `end`.
    #[must_use]
    pub fn range(&self, start: u64, end: u64) -> Self {
        Self { at: start, end, ..self.clone() }
    }

    /// The size of what is left to read.
    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// Nothing left to read?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Input for FileInput {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let len = usize::try_from(self.len()).unwrap_or(usize::MAX).min(buffer.len());
        let room = buffer.get_mut(..len).unwrap_or_default();
        loop {
            match self.file.read_at(room, self.at) {
                Ok(len) => {
                    self.at += len as u64;
                    return Ok(len);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from_io(error, "read it", &*self.path).at_offset(self.at)),
            }
        }
    }

    fn jump(&mut self, offset: u64) -> Result<()> {
        self.at = offset;
        Ok(())
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }
}

/// Consecutive `KV`s of one frame: a place to read entries from without the frame around them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece {
    /// The first byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

/// Looks at what a reader passes, and may stop it.
pub trait Tap: Send {
    /// Bytes that were read past, frame headers included, in order and without a gap.
    fn bytes(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// A frame ended before byte `end`.
    fn frame(&mut self, end: u64) {
        let _ = end;
    }

    /// An entry, its stream id, and where its `KV` lies.
    fn entry(&mut self, entry: &Entry<'_>, stream_id: u32, place: Piece) -> Result<()> {
        let _ = (entry, stream_id, place);
        Ok(())
    }
}

/// The tap that looks at nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {}

/// A [`Source`] over a stream, in the order of the stream (see the module: that is sorted only within a stream id).
///
/// ```
/// use evbackup::entry::Source;
/// use evbackup::format::Reader;
///
/// // One frame of 13 bytes: key "k", user meta 0, version 7, meta 0, stream id 1.
/// let stream = b"\x0f\0\0\0\0\0\0\0\x0a\x0d\x0a\x01k\x1a\x01\x00\x20\x07\x32\x01\x00\x50\x01";
/// let mut reader = Reader::new(&stream[..]);
/// assert!(reader.advance()?);
/// assert_eq!((reader.entry().key, reader.entry().version, reader.stream_id()), (&b"k"[..], 7, 1));
/// assert!(!reader.advance()?);
/// # Ok::<(), evbackup::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader<I, T = NoTap> {
    input: I,
    tap: T,
    /// Bytes `start..end` are read and not yet parsed; those before `start` back the current entry.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes before this were shown to the tap.
    tapped: usize,
    /// The offset of the buffer's first byte.
    base: u64,
    layout: Layout,
    frame: u64,
    /// Bytes of the frame (or piece) that are not yet parsed.
    left: u64,
    body: usize,
    fields: wire::Fields,
    place: Piece,
}

#[derive(Debug)]
enum Layout {
    /// Lengths lie in the stream.
    Frames { inside: bool },
    /// The pieces to visit, in this order.
    Pieces(std::vec::IntoIter<Piece>),
}

impl<I: Input> Reader<I> {
    /// Reads a stream from where `input` stands.
    pub fn new(input: I) -> Self {
        Self::with_tap(input, NoTap)
    }

    /// Reads only these pieces, in the order given: how a run is followed through frames that interleave several.
    pub fn pieces(input: I, pieces: Vec<Piece>) -> Self {
        let mut this = Self::new(input);
        this.layout = Layout::Pieces(pieces.into_iter());
        this
    }
}

impl<I: Input, T: Tap> Reader<I, T> {
    /// Reads a stream and shows it to `tap` on the way.
    pub fn with_tap(input: I, tap: T) -> Self {
        Self {
            input,
            tap,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            tapped: 0,
            base: 0,
            layout: Layout::Frames { inside: false },
            frame: 0,
            left: 0,
            body: 0,
            fields: wire::Fields::default(),
            place: Piece { offset: 0, bytes: 0 },
        }
    }

    /// The same, for an input that stands at byte `offset` of its file.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.base = offset;
        self
    }

    /// The stream id of the current entry, 0 when it has none.
    pub fn stream_id(&self) -> u32 {
        self.fields.stream_id
    }

    /// Where the current entry lies.
    pub fn place(&self) -> Piece {
        self.place
    }

    /// The offset up to which the stream has been parsed.
    pub fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Input and tap, when the reading is over.
    pub fn into_parts(self) -> (I, T) {
        (self.input, self.tap)
    }

    /// The tap.
    pub fn tap(&self) -> &T {
        &self.tap
    }

    fn step(&mut self) -> Result<bool> {
        loop {
            if self.left == 0 {
                if !self.next_frame()? {
                    self.fields = wire::Fields::default();
                    self.body = self.start;
                    return Ok(false);
                }
                continue;
            }
            let offset = self.offset();
            let (field, wire_type) = self.tag()?;
            match (field, wire_type) {
                (1, wire::BYTES) => {
                    if self.kv(offset)? {
                        return Ok(true);
                    }
                }
                (1, _) => {
                    let text = format!("expected a KV in frame {}, found wire type {wire_type}", self.frame);
                    return Err(Error::damaged(text).at_offset(offset));
                }
                _ => self.skip(wire_type)?,
            }
        }
    }

    /// The `KV` whose tag has just been read; false when it is only an end mark.
    fn kv(&mut self, offset: u64) -> Result<bool> {
        let len = self.varint("the length of a KV")?;
        let len = self.hold(len, "a KV")?;
        self.body = self.start;
        self.start += len;
        self.left -= len as u64;
        let body = self.buffer.get(self.body..self.start).unwrap_or_default();
        let fields = wire::kv(body).map_err(|error| error.offset_by(self.base + self.body as u64))?;
        if fields.stream_done {
            return Ok(false);
        }
        self.place = Piece { offset, bytes: self.base + self.start as u64 - offset };
        self.tap.entry(&fields.entry(body), fields.stream_id, self.place)?;
        self.fields = fields;
        Ok(true)
    }

    /// Goes to the next frame or piece; false at the end.
    fn next_frame(&mut self) -> Result<bool> {
        if let Layout::Pieces(pieces) = &mut self.layout {
            let Some(piece) = pieces.next() else { return Ok(false) };
            self.left = piece.bytes;
            if piece.offset != self.offset() {
                self.input.jump(piece.offset)?;
                (self.start, self.end, self.tapped, self.base) = (0, 0, 0, piece.offset);
            }
            return Ok(true);
        }
        self.end_frame();
        let offset = self.offset();
        if !self.fill(FRAME_HEADER)? {
            return match self.end - self.start {
                0 => Ok(false),
                found => Err(Error::damaged(format!(
                    "expected {FRAME_HEADER} bytes of the length of frame {} at byte {offset}, found {found} to the end",
                    self.frame + 1
                ))
                .at_offset(offset)),
            };
        }
        let header = self.buffer.get(self.start..).and_then(|rest| rest.first_chunk::<FRAME_HEADER>());
        let length = header.map_or(0, |header| u64::from_le_bytes(*header));
        self.frame += 1;
        if length > MAX_FRAME {
            return Err(Error::damaged(format!(
                "expected a frame of at most {MAX_FRAME} bytes at byte {offset}, found a length of {length}"
            ))
            .at_offset(offset));
        }
        self.start += FRAME_HEADER;
        self.left = length;
        self.layout = Layout::Frames { inside: true };
        Ok(true)
    }

    fn end_frame(&mut self) {
        if let Layout::Frames { inside: inside @ true } = &mut self.layout {
            *inside = false;
            self.show();
            self.tap.frame(self.base + self.start as u64);
        }
    }

    /// Shows the tap what has been parsed since it last looked.
    fn show(&mut self) {
        self.tap.bytes(self.buffer.get(self.tapped..self.start).unwrap_or_default());
        self.tapped = self.start;
    }

    fn varint(&mut self, what: &str) -> Result<u64> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(wire::MAX_VARINT);
        self.fill(room)?;
        let end = self.end.min(self.start + room);
        let bytes = self.buffer.get(self.start..end).unwrap_or_default();
        match wire::varint(bytes).map_err(|error| error.at_offset(self.offset()))? {
            Some((value, len)) => {
                self.start += len;
                self.left -= len as u64;
                Ok(value)
            }
            None if bytes.len() < room => Err(self.cut()),
            None => Err(Error::damaged(format!("expected {what}, found the end of frame {}", self.frame))
                .at_offset(self.offset())),
        }
    }

    fn tag(&mut self) -> Result<(u64, u8)> {
        let offset = self.offset();
        wire::tag(self.varint("a field")?).map_err(|error| error.at_offset(offset))
    }

    /// Has the next `len` bytes of the frame in the buffer.
    fn hold(&mut self, len: u64, what: &str) -> Result<usize> {
        if len > self.left {
            let text = format!(
                "expected {what} of {len} bytes, found {} to the end of frame {}",
                self.left, self.frame
            );
            return Err(Error::damaged(text).at_offset(self.offset()));
        }
        let len = usize::try_from(len)
            .map_err(|_| Error::unsupported(format!("cannot hold {what} of {len} bytes on this machine")))?;
        if self.fill(len)? { Ok(len) } else { Err(self.cut()) }
    }

    /// Passes over a field that nobody knows, whatever is nested in it, without holding it.
    fn skip(&mut self, mut wire_type: u8) -> Result<()> {
        let mut depth = 0usize;
        loop {
            let offset = self.offset();
            match wire_type {
                wire::VARINT => {
                    self.varint("a varint")?;
                }
                wire::FIXED64 => self.pass(8)?,
                wire::BYTES => {
                    let len = self.varint("the length of a field")?;
                    self.pass(len)?;
                }
                wire::GROUP => depth += 1,
                wire::GROUP_END if depth > 0 => depth -= 1,
                wire::GROUP_END => {
                    return Err(
                        Error::damaged("expected a field, found the end of a group").at_offset(offset)
                    );
                }
                _ => self.pass(4)?,
            }
            if depth == 0 {
                return Ok(());
            }
            if depth > MAX_GROUPS {
                let text = format!("expected at most {MAX_GROUPS} nested groups, found more");
                return Err(Error::damaged(text).at_offset(offset));
            }
            wire_type = self.tag()?.1;
        }
    }

    fn pass(&mut self, len: u64) -> Result<()> {
        if len > self.left {
            let text = format!(
                "expected a field of {len} bytes, found {} to the end of frame {}",
                self.left, self.frame
            );
            return Err(Error::damaged(text).at_offset(self.offset()));
        }
        let mut still = len;
        while still > 0 {
            if !self.fill(1)? {
                return Err(self.cut());
            }
            let now = usize::try_from(still).unwrap_or(usize::MAX).min(self.end - self.start);
            self.start += now;
            self.left -= now as u64;
            still -= now as u64;
        }
        Ok(())
    }

    /// The input ended inside a frame.
    fn cut(&self) -> Error {
        let have = (self.end - self.start) as u64;
        let end = self.base + self.end as u64;
        Error::damaged(format!(
            "expected {} more bytes of frame {} at byte {end}, found the end",
            self.left.saturating_sub(have),
            self.frame
        ))
        .at_offset(end)
    }

    /// Has at least `len` bytes from `start` on; false when the input ends first. Memory follows what arrives: the buffer doubles
    /// only once it is full, whatever length was announced.
    fn fill(&mut self, len: usize) -> Result<bool> {
        while self.end - self.start < len {
            if self.end == self.buffer.len() {
                self.make_room();
            }
            let mut room = self.buffer.get_mut(self.end..).unwrap_or_default();
            if let Layout::Pieces(_) = self.layout {
                // What follows a piece belongs to somebody else: reading it would only be thrown away.
                let rest = self.left.saturating_sub((self.end - self.start) as u64);
                let rest = usize::try_from(rest).unwrap_or(usize::MAX).min(room.len());
                room = room.get_mut(..rest).unwrap_or_default();
            }
            match self.input.read(room)? {
                0 => return Ok(false),
                read => self.end += read,
            }
        }
        Ok(true)
    }

    fn make_room(&mut self) {
        self.show();
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            (self.end, self.start, self.tapped) = (self.end - self.start, 0, 0);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize((self.buffer.len() * 2).max(BUFFER), 0);
        } else if self.buffer.len() > 4 * BUFFER && self.end < BUFFER {
            // A large entry has passed: its room is given back.
            self.buffer.truncate(BUFFER.max(self.end));
            self.buffer.shrink_to_fit();
        }
    }
}

impl<I: Input, T: Tap> Source for Reader<I, T> {
    fn advance(&mut self) -> Result<bool> {
        self.step().map_err(|error| match self.input.path() {
            Some(path) => error.at_path(path),
            None => error,
        })
    }

    fn entry(&self) -> Entry<'_> {
        self.fields.entry(self.buffer.get(self.body..self.start).unwrap_or_default())
    }
}
