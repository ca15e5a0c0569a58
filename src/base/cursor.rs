//! A cursor over bytes that somebody else wrote.
//!
//! Any bytes give a value or an error of [`Kind::Damaged`](crate::error::Kind::Damaged) that says at which byte what was
//! expected; never a panic, and nothing is allocated. A failed read does not move the cursor.

use crate::error::{Error, Result};

/// The longest a 64-bit varint can be.
pub const MAX_VARINT: usize = 10;

/// Reads fields one after the other; each is named for the error.
///
/// ```
/// use evbackup::base::cursor::Cursor;
///
/// let mut at = Cursor::at_offset(&[2, b'h', b'i', 7, 0, 0, 0], 4096);
/// let length = at.uvarint("length of the name")?;
/// assert_eq!(at.take(length, "name")?, b"hi");
/// assert_eq!(at.u32_le("height")?, 7);
/// assert_eq!(
///     at.u8("kind").unwrap_err().to_string(),
///     "expected 1 byte of kind at byte 4103, found the end"
/// );
/// # Ok::<(), evbackup::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Cursor<'a> {
    /// At the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::at_offset(bytes, 0)
    }

    /// At the first of `bytes`, which stands at `offset` of its file.
    pub fn at_offset(bytes: &'a [u8], offset: u64) -> Self {
        Self { rest: bytes, offset }
    }

    /// Where in the file it stands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is still to be read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing left?
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `length` bytes.
    #[inline]
    pub fn take(&mut self, length: u64, what: &str) -> Result<&'a [u8]> {
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let Some((taken, rest)) = split else {
            return Err(self.expected(length, what));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(length);
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.expected(N as u64, what));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(N as u64);
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self, what: &str) -> Result<u8> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    /// Two bytes, most significant first.
    pub fn u16_be(&mut self, what: &str) -> Result<u16> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// Four bytes, most significant first.
    pub fn u32_be(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// Four bytes, least significant first.
    pub fn u32_le(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Eight bytes, most significant first.
    pub fn u64_be(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// Eight bytes, least significant first.
    pub fn u64_le(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A base-128 varint of at most [`MAX_VARINT`] bytes.
    #[inline]
    pub fn uvarint(&mut self, what: &str) -> Result<u64> {
        // One byte is by far the most frequent: tags, lengths, small numbers.
        match self.rest.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.rest = rest;
                self.offset = self.offset.saturating_add(1);
                Ok(u64::from(*byte))
            }
            _ => self.long_uvarint(what),
        }
    }

    fn long_uvarint(&mut self, what: &str) -> Result<u64> {
        let mut value = 0_u64;
        for (at, &byte) in self.rest.iter().take(MAX_VARINT).enumerate() {
            // The tenth byte holds the one bit that is left.
            if at == MAX_VARINT - 1 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                self.offset = self.offset.saturating_add(at as u64 + 1);
                return Ok(value);
            }
        }
        let found = if self.rest.len() < MAX_VARINT { "the end" } else { "more than 64 bits" };
        Err(Error::damaged(format!("expected a varint of {what} at byte {}, found {found}", self.offset))
            .at_offset(self.offset))
    }

    /// Fails unless everything has been read.
    pub fn finish(&self, what: &str) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let found = format!("{} more", bytes(self.rest.len() as u64));
        Err(Error::damaged(format!("expected the end of {what} at byte {}, found {found}", self.offset))
            .at_offset(self.offset))
    }

    #[cold]
    fn expected(&self, length: u64, what: &str) -> Error {
        let found = match self.rest.len() as u64 {
            0 => "the end".to_owned(),
            left => format!("the end after {left}"),
        };
        let text = format!("expected {} of {what} at byte {}, found {found}", bytes(length), self.offset);
        Error::damaged(text).at_offset(self.offset)
    }
}

fn bytes(count: u64) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

/// Appends `value` as a base-128 varint.
pub fn put_uvarint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(0x80 | u8::try_from(value & 0x7f).unwrap_or_default());
        value >>= 7;
    }
    to.push(u8::try_from(value).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_one_after_the_other() {
        let bytes = [1, 0, 2, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 0, 0, 0, 0, 0, 0, 0, 9];
        let mut at = Cursor::new(&bytes);
        assert_eq!((at.u8("a").unwrap(), at.u16_be("b").unwrap()), (1, 2));
        assert_eq!((at.u32_be("c").unwrap(), at.u32_le("d").unwrap()), (3, 3));
        assert_eq!((at.u64_be("e").unwrap(), at.u64_le("f").unwrap()), (4, 4));
        assert_eq!(
            at.finish("it").unwrap_err().to_string(),
            "expected the end of it at byte 27, found 1 byte more"
        );
        assert_eq!(
            at.take(2, "rest").unwrap_err().to_string(),
            "expected 2 bytes of rest at byte 27, found the end after 1"
        );
        assert_eq!(at.take(u64::MAX, "rest").unwrap_err().offset(), Some(27));
        assert_eq!(at.take(1, "rest").unwrap(), [9]);
        assert!(at.finish("it").is_ok() && at.is_empty());
    }

    #[test]
    fn a_varint_ends_within_ten_bytes_and_64_bits() {
        let text = |bytes: &[u8]| Cursor::new(bytes).uvarint("x").unwrap_err().to_string();
        assert_eq!(text(&[]), "expected a varint of x at byte 0, found the end");
        assert_eq!(text(&[0x80; 9]), "expected a varint of x at byte 0, found the end");
        assert_eq!(text(&[0x80; 64]), "expected a varint of x at byte 0, found more than 64 bits");
        let mut most = [0xff; 10];
        most[9] = 1;
        assert_eq!(Cursor::new(&most).uvarint("x").unwrap(), u64::MAX);
        most[9] = 2;
        assert_eq!(text(&most), "expected a varint of x at byte 0, found more than 64 bits");
    }

    proptest! {
        #[test]
        fn a_varint_comes_back(value: u64) {
            let mut bytes = Vec::new();
            put_uvarint(&mut bytes, value);
            let mut at = Cursor::new(&bytes);
            prop_assert_eq!(at.uvarint("x").unwrap(), value);
            prop_assert!(at.is_empty());
        }
    }
}
