//! Protobuf's wire format as ev-node's records need it: fields one after the other, and the one encoding that Go writes.
//!
//! Any bytes give fields or an error; nothing is allocated, and nested messages are read by whoever knows what they are. As in Go's
//! decoder, a known field of an unexpected wire type counts as unknown, unknown fields are skipped, the last of a single field
//! counts, and a group may hold anything down to [`MAX_GROUPS`] levels.

use crate::base::cursor::{Cursor, put_uvarint};
use crate::error::{Error, Result};

/// Go's decoder gives up at 10,000 levels; no record of ev-node has one.
const MAX_GROUPS: usize = 100;
/// The highest field number there is.
const MAX_FIELD: u64 = 0x1fff_ffff;

/// What a field holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Value<'a> {
    /// A varint: every integer and bool of ev-node's records.
    Varint(u64),
    /// Bytes, a string or a message.
    Bytes(&'a [u8]),
    /// A fixed-size number or a group: no record has one.
    Other,
}

/// Reads the fields of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    at: Cursor<'a>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { at: Cursor::new(message) }
    }

    /// The next field's number and value; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>> {
        if self.at.is_empty() {
            return Ok(None);
        }
        let (field, wire) = tag(&mut self.at)?;
        let value = match wire {
            0 => Value::Varint(self.at.uvarint("a field")?),
            2 => Value::Bytes(bytes(&mut self.at)?),
            _ => {
                skip(&mut self.at, field, wire)?;
                Value::Other
            }
        };
        Ok(Some((field, value)))
    }
}

#[inline]
fn tag(at: &mut Cursor<'_>) -> Result<(u64, u64)> {
    let start = at.offset();
    let tag = at.uvarint("a field's tag")?;
    let (field, wire) = (tag >> 3, tag & 7);
    if field == 0 || field > MAX_FIELD || wire > 5 {
        return Err(no_tag(start, field, wire));
    }
    Ok((field, wire))
}

#[cold]
fn no_tag(start: u64, field: u64, wire: u64) -> Error {
    let found = format!("expected a protobuf tag, found field {field} of wire type {wire}");
    Error::damaged(found).at_offset(start)
}

#[inline]
fn bytes<'a>(at: &mut Cursor<'a>) -> Result<&'a [u8]> {
    let length = at.uvarint("a field's length")?;
    at.take(length, "a field")
}

/// Passes a value that nobody asked for, without recursion.
#[cold]
fn skip(at: &mut Cursor<'_>, mut field: u64, mut wire: u64) -> Result<()> {
    let mut open: Vec<u64> = Vec::new();
    loop {
        let start = at.offset();
        match wire {
            0 => at.uvarint("a field").map(|_| ())?,
            1 => at.take(8, "a field").map(|_| ())?,
            2 => bytes(at).map(|_| ())?,
            5 => at.take(4, "a field").map(|_| ())?,
            3 => open.push(field),
            _ => {
                if open.pop() != Some(field) {
                    let found = format!("expected a field, found the end of group {field}");
                    return Err(Error::damaged(found).at_offset(start));
                }
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        if open.len() > MAX_GROUPS {
            let found = format!("expected at most {MAX_GROUPS} nested groups, found more");
            return Err(Error::damaged(found).at_offset(start));
        }
        (field, wire) = tag(at)?;
    }
}

/// A string: Go refuses a message whose strings are not UTF-8.
pub(super) fn text<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::damaged(format!("expected {what} in UTF-8, found {}", shown(bytes))))
}

/// Bytes for an error, of which a value may hold any number: the first of them.
pub(super) fn shown(bytes: &[u8]) -> String {
    match bytes.get(..64) {
        Some(first) if bytes.len() > 64 => format!("{}… ({} bytes)", first.escape_ascii(), bytes.len()),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// Appends a number; proto3 leaves out zero.
pub(super) fn put_number(to: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        put_uvarint(to, field << 3);
        put_uvarint(to, value);
    }
}

/// Appends bytes; proto3 leaves out none.
pub(super) fn put_bytes(to: &mut Vec<u8>, field: u64, value: &[u8]) {
    if !value.is_empty() {
        put_message(to, field, value);
    }
}

/// Appends a message, empty or not.
pub(super) fn put_message(to: &mut Vec<u8>, field: u64, value: &[u8]) {
    put_uvarint(to, field << 3 | 2);
    put_uvarint(to, value.len() as u64);
    to.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>> {
        let mut fields = Fields::new(message);
        let mut all = Vec::new();
        while let Some(field) = fields.next()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn fields_of_every_wire_type_are_read_or_passed() {
        let mut message = Vec::new();
        put_number(&mut message, 2, 300);
        put_bytes(&mut message, 12, b"chain");
        put_number(&mut message, 3, 0);
        put_bytes(&mut message, 4, b"");
        message.extend([0x69, 1, 2, 3, 4, 5, 6, 7, 8]); // field 13, fixed64
        message.extend([0x7b, 0x08, 1, 0x83, 1, 0x84, 1, 0x7c]); // field 15, a group with a varint and a group in it
        message.extend([0x85, 1, 1, 2, 3, 4]); // field 16, fixed32
        put_message(&mut message, 1, b"");
        let found = all(&message).unwrap();
        let expected = [
            (2, Value::Varint(300)),
            (12, Value::Bytes(b"chain")),
            (13, Value::Other),
            (15, Value::Other),
            (16, Value::Other),
            (1, Value::Bytes(b"")),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_error_does_not_repeat_a_long_value() {
        assert_eq!(shown(b"a\xff"), "a\\xff");
        assert_eq!(shown(&[b'a'; 65]), format!("{}… (65 bytes)", "a".repeat(64)));
        assert!(text(&vec![0xff; 1 << 20], "a stage").unwrap_err().to_string().len() < 400);
    }

    #[test]
    fn any_cut_and_any_nonsense_is_an_error_or_fields() {
        let message = [0x10, 0xac, 2, 0x62, 2, b'a', b'b', 0x7b, 0x7c];
        for cut in 0..message.len() {
            let _ = all(&message[..cut]);
        }
        let text = |message: &[u8]| all(message).unwrap_err().to_string();
        assert_eq!(text(&[0x62, 5, 1]), "expected 5 bytes of a field at byte 2, found the end after 1");
        assert_eq!(text(&[0x07, 1]), "expected a protobuf tag, found field 0 of wire type 7 at byte 0");
        assert_eq!(text(&[0x0c]), "expected a field, found the end of group 1 at byte 1");
        assert_eq!(text(&[0x0b, 0x14]), "expected a field, found the end of group 2 at byte 2");
        assert!(text(&[0x0b; 1000]).contains("nested groups"));
    }
}
