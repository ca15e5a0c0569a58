//! Protobuf's wire format, as far as a `KV` needs it: varints, tags, and skipping what is unknown.

use super::MAX_GROUPS;
use crate::entry::{Entry, INTERNAL_PREFIX, MAX_KEY};
use crate::error::{Error, Result};
use std::ops::Range;

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const GROUP: u8 = 3;
pub(super) const GROUP_END: u8 = 4;
pub(super) const FIXED32: u8 = 5;

/// Longest varint: ten groups of seven bits.
pub(super) const MAX_VARINT: usize = 10;

/// A varint at the start of `bytes`: its value and length. `None` when `bytes` ends first.
#[inline]
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>> {
    // One byte is by far the most frequent: tags, lengths of short keys, versions of small datastores.
    match bytes.first() {
        Some(byte) if byte & 0x80 == 0 => Ok(Some((u64::from(*byte), 1))),
        None => Ok(None),
        _ => long_varint(bytes),
    }
}

fn long_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(MAX_VARINT).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if at == MAX_VARINT - 1 && bits > 1 {
            return Err(Error::damaged("expected a varint of 64 bits, found a larger one"));
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= MAX_VARINT {
        return Err(Error::damaged("expected a varint of at most 10 bytes, found one that does not end"));
    }
    Ok(None)
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

/// How many bytes [`put_varint`] appends.
pub(super) fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn low_bits(value: u64) -> u8 {
    value.to_le_bytes().first().copied().unwrap_or_default() & 0x7f
}

/// Field number and wire type of a tag.
pub(super) fn tag(value: u64) -> Result<(u64, u8)> {
    let wire = low_bits(value) & 7;
    let field = value >> 3;
    if field == 0 || field > 0x1fff_ffff {
        return Err(Error::damaged(format!("expected a protobuf field number, found {field}")));
    }
    if wire > FIXED32 {
        return Err(Error::damaged(format!("expected a protobuf wire type, found {wire}")));
    }
    Ok((field, wire))
}

/// One `KV`, its bytes fields as ranges of the body it was parsed from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Fields {
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    pub(super) version: u64,
    pub(super) meta: u8,
    pub(super) user_meta: u8,
    pub(super) expires_at: u64,
    pub(super) stream_id: u32,
    pub(super) stream_done: bool,
}

impl Fields {
    /// The entry, with the ranges resolved in `body`.
    pub(super) fn entry<'a>(&self, body: &'a [u8]) -> Entry<'a> {
        Entry {
            key: body.get(self.key.clone()).unwrap_or_default(),
            version: self.version,
            value: body.get(self.value.clone()).unwrap_or_default(),
            meta: self.meta,
            user_meta: self.user_meta,
            expires_at: self.expires_at,
        }
    }
}

/// Parses the body of a `KV` message; offsets in errors count from the body's first byte.
pub(super) fn kv(body: &[u8]) -> Result<Fields> {
    let mut fields = Fields::default();
    let mut at = Cursor { body, at: 0 };
    let mut found_key = false;
    while at.at < body.len() {
        let start = at.at;
        let (field, wire) = at.tag()?;
        match (field, wire) {
            (1, BYTES) => {
                fields.key = at.bytes("a key")?;
                found_key = true;
            }
            (2, BYTES) => fields.value = at.bytes("a value")?,
            (3, BYTES) => fields.user_meta = at.byte("user meta")?,
            (4, VARINT) => fields.version = at.varint("a version")?,
            (5, VARINT) => fields.expires_at = at.varint("an expiry")?,
            (6, BYTES) => fields.meta = at.byte("meta bits")?,
            (10, VARINT) => {
                let id = at.varint("a stream id")?;
                fields.stream_id = u32::try_from(id).map_err(|_| {
                    Error::damaged(format!("expected a stream id of 32 bits, found {id}"))
                        .at_offset(start as u64)
                })?;
            }
            (11, VARINT) => fields.stream_done = at.varint("a stream end mark")? != 0,
            (1..=6 | 10 | 11, _) => {
                return Err(Error::damaged(format!(
                    "expected field {field} of a KV, found wire type {wire}"
                ))
                .at_offset(start as u64));
            }
            _ => at.skip(wire)?,
        }
    }
    if !fields.stream_done {
        check_key(found_key, body.get(fields.key.clone()).unwrap_or_default())?;
    }
    Ok(fields)
}

/// Badger holds no key that fails this, so a stream that carries one was not made by it.
fn check_key(found: bool, key: &[u8]) -> Result<()> {
    if !found || key.is_empty() {
        return Err(Error::damaged("expected a key in the KV, found none").at_offset(0));
    }
    if key.len() > MAX_KEY {
        return Err(Error::damaged(format!(
            "expected a key of at most {MAX_KEY} bytes, found {}",
            key.len()
        ))
        .at_offset(0));
    }
    if key.starts_with(INTERNAL_PREFIX) {
        return Err(Error::damaged("expected a user key, found one of Badger's own (!badger!)").at_offset(0));
    }
    Ok(())
}

struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn varint(&mut self, what: &str) -> Result<u64> {
        let left = self.body.get(self.at..).unwrap_or_default();
        match varint(left).map_err(|error| error.at_offset(self.at as u64))? {
            Some((value, len)) => {
                self.at += len;
                Ok(value)
            }
            None => Err(Error::damaged(format!("expected {what}, found the end of the message"))
                .at_offset(self.at as u64)),
        }
    }

    #[inline]
    fn tag(&mut self) -> Result<(u64, u8)> {
        let start = self.at as u64;
        tag(self.varint("a field")?).map_err(|error| error.at_offset(start))
    }

    #[inline]
    fn bytes(&mut self, what: &str) -> Result<Range<usize>> {
        let start = self.at as u64;
        let len = self.varint(what)?;
        let left = self.body.len() - self.at;
        match usize::try_from(len) {
            Ok(len) if len <= left => {
                let range = self.at..self.at + len;
                self.at = range.end;
                Ok(range)
            }
            _ => Err(Error::damaged(format!(
                "expected {what} of {len} bytes, found {left} to the end of the message"
            ))
            .at_offset(start)),
        }
    }

    #[inline]
    fn byte(&mut self, what: &str) -> Result<u8> {
        let start = self.at as u64;
        let range = self.bytes(what)?;
        match self.body.get(range) {
            Some([]) => Ok(0),
            Some([byte]) => Ok(*byte),
            found => {
                let found = found.map_or(0, <[u8]>::len);
                Err(Error::damaged(format!("expected {what} of at most 1 byte, found {found}"))
                    .at_offset(start))
            }
        }
    }

    /// Skips a field of this wire type, whatever is nested in it, without recursion.
    fn skip(&mut self, wire: u8) -> Result<()> {
        let mut depth = 0;
        let mut wire = wire;
        loop {
            let start = self.at as u64;
            match wire {
                VARINT => {
                    self.varint("a varint")?;
                }
                FIXED64 => self.take(8)?,
                BYTES => {
                    self.bytes("a field")?;
                }
                GROUP => depth += 1,
                GROUP_END if depth > 0 => depth -= 1,
                GROUP_END => {
                    return Err(Error::damaged("expected a field, found the end of a group").at_offset(start));
                }
                _ => self.take(4)?,
            }
            if depth == 0 {
                return Ok(());
            }
            if depth > MAX_GROUPS {
                return Err(Error::damaged(format!(
                    "expected at most {MAX_GROUPS} nested groups, found more"
                ))
                .at_offset(start));
            }
            wire = self.tag()?.1;
        }
    }

    fn take(&mut self, len: usize) -> Result<()> {
        if self.body.len() - self.at < len {
            return Err(Error::damaged(format!(
                "expected {len} bytes of a field, found the end of the message"
            ))
            .at_offset(self.at as u64));
        }
        self.at += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_at_every_length() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, value);
                assert_eq!(varint(&bytes).unwrap(), Some((value, bytes.len())));
                assert_eq!(varint_len(value), bytes.len());
                assert_eq!(varint(&bytes[..bytes.len() - 1]).unwrap(), None);
            }
        }
    }

    #[test]
    fn a_varint_that_does_not_end_or_does_not_fit_is_damage() {
        assert!(varint(&[0x80; 10]).unwrap_err().to_string().contains("does not end"));
        let mut wide = [0xff; 10];
        wide[9] = 0x02;
        assert!(varint(&wide).unwrap_err().to_string().contains("64 bits"));
    }

    #[test]
    fn unknown_fields_of_every_wire_type_are_skipped() {
        let mut body = vec![0x0a, 1, b'k', 0x20, 7];
        body.extend([0x60, 5]); // field 12, varint: `kind` of an abandoned branch
        body.extend([0x69, 1, 2, 3, 4, 5, 6, 7, 8]); // field 13, fixed64
        body.extend([0x72, 2, 9, 9]); // field 14, bytes
        body.extend([0x7b, 0x08, 1, 0x7c]); // field 15, a group with a varint in it
        body.extend([0x85, 1, 1, 2, 3, 4]); // field 16, fixed32
        let fields = kv(&body).unwrap();
        assert_eq!((fields.entry(&body).key, fields.version), (&b"k"[..], 7));
    }

    #[test]
    fn nested_groups_end_at_a_limit_without_recursion() {
        let mut body = vec![0x0a, 1, b'k'];
        body.extend(std::iter::repeat_n(0x7b, 10_000));
        assert!(kv(&body).unwrap_err().to_string().contains("nested groups"));
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let text = |body: &[u8]| kv(body).unwrap_err().to_string();
        assert_eq!(
            text(&[0x0a, 5, b'k']),
            "expected a key of 5 bytes, found 1 to the end of the message at byte 1"
        );
        assert_eq!(text(&[0x20, 1]), "expected a key in the KV, found none at byte 0");
        assert_eq!(
            text(&[0x0a, 1, b'k', 0x32, 2, 1, 1]),
            "expected meta bits of at most 1 byte, found 2 at byte 4"
        );
        assert_eq!(text(&[0x08, 1]), "expected field 1 of a KV, found wire type 0 at byte 0");
        assert!(text(b"\x0a\x09!badger!x").contains("Badger's own"));
    }
}
