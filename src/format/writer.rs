//! Entries into frames.

use super::wire::{put_varint, varint_len};
use crate::entry::{Entry, META_VALUE_POINTER, Sink};
use crate::error::Result;

/// A frame is closed once it has this many bytes: within what Badger itself writes (4 to 16 MiB is usual), and small enough for
/// a reader that wants one in memory.
const FRAME: usize = 4 << 20;

/// The pointer bit says where the source kept the value, the two highest belong to its transactions: neither leaves a datastore.
const META_DROPPED: u8 = META_VALUE_POINTER | 0x40 | 0x80;

/// Takes whole frames of a stream, header included.
pub trait FrameSink {
    /// Takes the bytes of one frame; the vector comes back empty, with or without its room.
    fn frame(&mut self, frame: &mut Vec<u8>) -> Result<()>;
}

impl FrameSink for Vec<u8> {
    fn frame(&mut self, frame: &mut Vec<u8>) -> Result<()> {
        self.append(frame);
        Ok(())
    }
}

impl<F: FnMut(&mut Vec<u8>) -> Result<()>> FrameSink for F {
    fn frame(&mut self, frame: &mut Vec<u8>) -> Result<()> {
        self(frame)
    }
}

/// A [`Sink`] that writes a stream with one stream id.
///
/// ```
/// use evbackup::entry::{Entry, Sink, Source};
/// use evbackup::format::{Reader, Writer};
///
/// let mut stream = Vec::new();
/// let mut writer = Writer::new(1, |frame: &mut Vec<u8>| { stream.append(frame); Ok(()) });
/// writer.put(Entry { key: b"/0/t", version: 7, value: b"v", ..Entry::default() })?;
/// Box::new(writer).finish()?;
///
/// let mut reader = Reader::new(&stream[..]);
/// assert!(reader.advance()?);
/// assert_eq!(reader.entry().value, b"v");
/// # Ok::<(), evbackup::error::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer<F> {
    out: F,
    stream_id: u32,
    frame: Vec<u8>,
}

impl<F: FrameSink> Writer<F> {
    /// Writes to `out` under this stream id, which is at least 1.
    pub fn new(stream_id: u32, out: F) -> Self {
        Self { out, stream_id, frame: Vec::new() }
    }

    /// Ends the frame that is open, so that what was put is on its way; an empty one is not written, as Badger does.
    pub fn flush(&mut self) -> Result<()> {
        if self.frame.len() > 8 {
            let body = (self.frame.len() - 8) as u64;
            if let Some(header) = self.frame.first_chunk_mut::<8>() {
                *header = body.to_le_bytes();
            }
            self.out.frame(&mut self.frame)?;
        }
        self.frame.clear();
        Ok(())
    }
}

impl<F: FrameSink> Sink for Writer<F> {
    fn put(&mut self, entry: Entry<'_>) -> Result<()> {
        if self.frame.is_empty() {
            self.frame.resize(8, 0);
        }
        put_kv(&mut self.frame, &entry, self.stream_id);
        if self.frame.len() < FRAME {
            return Ok(());
        }
        self.flush()?;
        // Where one frame was filled there will be another: growing it step by step would copy most of it twice.
        self.frame.reserve(FRAME + (64 << 10));
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.flush()
    }
}

/// Appends field 1 of a `KVList`: fields ascend and both one-byte fields are always there, as Go writes them.
fn put_kv(out: &mut Vec<u8>, entry: &Entry<'_>, stream_id: u32) {
    let optional = |number: u64| if number == 0 { 0 } else { 1 + varint_len(number) };
    let bytes = |bytes: &[u8]| 1 + varint_len(bytes.len() as u64) + bytes.len();
    let value = if entry.value.is_empty() { 0 } else { bytes(entry.value) };
    let len = bytes(entry.key)
        + value
        + 3
        + optional(entry.version)
        + optional(entry.expires_at)
        + 3
        + optional(u64::from(stream_id));
    out.push(0x0a);
    put_varint(out, len as u64);
    out.push(0x0a);
    put_varint(out, entry.key.len() as u64);
    out.extend_from_slice(entry.key);
    if !entry.value.is_empty() {
        out.push(0x12);
        put_varint(out, entry.value.len() as u64);
        out.extend_from_slice(entry.value);
    }
    out.extend_from_slice(&[0x1a, 1, entry.user_meta]);
    for (tag, number) in [(0x20, entry.version), (0x28, entry.expires_at)] {
        if number != 0 {
            out.push(tag);
            put_varint(out, number);
        }
    }
    out.extend_from_slice(&[0x32, 1, entry.meta & !META_DROPPED]);
    if stream_id != 0 {
        out.push(0x50);
        put_varint(out, u64::from(stream_id));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;
    use crate::entry::{META_DELETE, OwnedEntry, Source};

    fn stream(entries: &[OwnedEntry]) -> Vec<u8> {
        let mut writer = Box::new(Writer::new(1, Vec::new()));
        for entry in entries {
            writer.put(entry.as_entry()).unwrap();
        }
        writer.flush().unwrap();
        writer.out
    }

    fn read(stream: &[u8]) -> Result<Vec<OwnedEntry>> {
        let mut reader = Reader::new(stream);
        let mut entries = Vec::new();
        while reader.advance()? {
            entries.push(reader.entry().to_owned());
        }
        Ok(entries)
    }

    fn sample() -> Vec<OwnedEntry> {
        let entry = |key: &[u8], version, value: &[u8], meta, user_meta, expires_at| OwnedEntry {
            key: key.to_vec(),
            version,
            value: value.to_vec(),
            meta,
            user_meta,
            expires_at,
        };
        vec![
            entry(b"a", u64::MAX, b"", META_DELETE, 0, 0),
            entry(b"a", 3, b"value", 0x3d, 255, u64::MAX),
            entry(&[0xff; 300], 1, &[7; 200], 0x08, 1, 1),
            entry(&[b'k'; 65_000], 0, b"", 0, 0, 0),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&stream(&sample())).unwrap(), sample());
        assert_eq!(read(&[]).unwrap(), []);
    }

    /// The bytes of `tests/golden/vector`, as Badger v4.5.1 wrote them, but for the stream id of the second entry.
    #[test]
    fn writes_what_badger_writes() {
        let expected = b"\x30\0\0\0\0\0\0\0\
            \x0a\x12\x0a\x06/0/h/1\x1a\x01\x00\x20\x02\x32\x01\x01\x50\x01\
            \x0a\x1a\x0a\x04/0/t\x12\x08\x01\0\0\0\0\0\0\0\x1a\x01\x00\x20\x01\x32\x01\x00\x50\x01";
        let delete = Entry { key: b"/0/h/1", version: 2, meta: META_DELETE, ..Entry::default() };
        let tip = Entry { key: b"/0/t", version: 1, value: &[1, 0, 0, 0, 0, 0, 0, 0], ..Entry::default() };
        assert_eq!(stream(&[delete.to_owned(), tip.to_owned()]), expected);
    }

    #[test]
    fn where_the_source_kept_a_value_does_not_leave_it() {
        let entry = Entry { key: b"k", version: 1, meta: 0xff, ..Entry::default() };
        assert_eq!(read(&stream(&[entry.to_owned()])).unwrap()[0].meta, 0x3d);
    }

    #[test]
    fn every_cut_is_damage_or_a_frame_border_and_says_where() {
        let stream = stream(&sample()[..3]);
        for cut in 1..stream.len() {
            let error = read(&stream[..cut]).unwrap_err();
            assert_eq!(error.code(), "damaged", "cut at {cut}");
            assert!(error.offset().is_some_and(|offset| offset <= cut as u64), "cut at {cut}: {error}");
        }
    }

    #[test]
    fn every_flipped_byte_gives_entries_or_an_error() {
        let stream = stream(&sample()[..3]);
        for at in 0..stream.len() {
            for bit in 0..8 {
                let mut damaged = stream.clone();
                damaged[at] ^= 1 << bit;
                let _ = read(&damaged);
            }
        }
    }

    #[test]
    fn a_length_of_2_to_the_63_allocates_nothing() {
        let mut stream = (1u64 << 63).to_le_bytes().to_vec();
        stream.extend([0x0a; 100]);
        let text = read(&stream).unwrap_err().to_string();
        assert_eq!(
            text,
            "expected a frame of at most 2147483648 bytes at byte 0, found a length of 9223372036854775808"
        );
    }

    #[test]
    fn a_kv_that_is_longer_than_its_frame_is_damage() {
        let stream = b"\x03\0\0\0\0\0\0\0\x0a\x7f\x0a";
        let text = read(stream).unwrap_err().to_string();
        assert_eq!(text, "expected a KV of 127 bytes, found 1 to the end of frame 1 at byte 10");
    }

    #[test]
    fn a_large_value_crosses_the_buffer_and_its_room_is_given_back() {
        let mut entries = sample();
        entries[1].value = vec![9; 9 << 20];
        let bytes = stream(&entries);
        let mut reader = Reader::new(&bytes[..]);
        for entry in &entries {
            assert!(reader.advance().unwrap());
            assert_eq!(reader.entry(), entry.as_entry());
        }
        assert!(!reader.advance().unwrap());
    }
}
