//! What stands beside a key in tables and in the memtable's log: meta bits, the user's byte, the expiry, and the value or a pointer to it.
//!
//! | bytes | field                                                        |
//! |-------|--------------------------------------------------------------|
//! | 1     | meta bits                                                    |
//! | 1     | user meta                                                    |
//! | 1–10  | expiry in Unix seconds, a varint, 0: never                   |
//! | rest  | the value; with the pointer bit, a [`Pointer`] in its place  |

use crate::base::cursor::{Cursor, put_uvarint};
use crate::entry::META_VALUE_POINTER;
use crate::error::{Error, Result};

/// `bitTxn`: in the memtable's log, part of a transaction that a mark ends. Stays on an entry in tables, where it means nothing.
pub(super) const META_TXN: u8 = 0x40;
/// `bitFinTxn`: in the memtable's log, the mark that ends a transaction.
pub(super) const META_FIN_TXN: u8 = 0x80;

/// The value structure of one internal key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Value<'a> {
    pub(super) meta: u8,
    pub(super) user_meta: u8,
    pub(super) expires_at: u64,
    /// The value, or the 12 bytes of a pointer.
    pub(super) bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// Reads one; everything behind the expiry is the value.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut at = Cursor::new(bytes);
        let (meta, user_meta) = (at.u8("meta bits")?, at.u8("user meta")?);
        let expires_at = at.uvarint("an expiry")?;
        Ok(Self { meta, user_meta, expires_at, bytes: at.rest() })
    }

    /// Appends it.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&[self.meta, self.user_meta]);
        put_uvarint(to, self.expires_at);
        to.extend_from_slice(self.bytes);
    }

    /// Is the value elsewhere?
    pub(super) fn is_pointer(&self) -> bool {
        self.meta & META_VALUE_POINTER != 0
    }
}

/// Where a value log keeps an entry. Little-endian: Go casts it from memory.
///
/// | bytes | field                                              |
/// |-------|----------------------------------------------------|
/// | 4     | the value log's number                             |
/// | 4     | length of the whole entry, checksum included       |
/// | 4     | where it begins, from the start of the file        |
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Pointer {
    pub(super) fid: u32,
    pub(super) len: u32,
    pub(super) offset: u32,
}

impl Pointer {
    /// Its length.
    pub(super) const LEN: usize = 12;

    /// Reads one, which must be all there is.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut at = Cursor::new(bytes);
        if bytes.len() != Self::LEN {
            let found = bytes.len();
            return Err(Error::damaged(format!("expected a value pointer of 12 bytes, found {found}")));
        }
        let mut next = || at.u32_le("a value pointer");
        Ok(Self { fid: next()?, len: next()?, offset: next()? })
    }

    /// Its bytes.
    pub(super) fn bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (to, from) in
            bytes.iter_mut().zip([self.fid, self.len, self.offset].iter().flat_map(|n| n.to_le_bytes()))
        {
            *to = from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back() {
        let value = Value { meta: 0x40, user_meta: 9, expires_at: 300, bytes: b"hdr" };
        let mut bytes = Vec::new();
        value.put(&mut bytes);
        assert_eq!(bytes, b"\x40\x09\xac\x02hdr");
        assert_eq!(Value::read(&bytes).unwrap(), value);
        assert_eq!(Value::read(&bytes[..3]).unwrap_err().code(), "damaged");
    }

    #[test]
    fn a_pointer_is_the_one_that_badger_writes() {
        // Made by Badger v4.5.1: fid 2, 1,048,599 bytes at 20.
        let bytes = [2, 0, 0, 0, 0x17, 0, 0x10, 0, 0x14, 0, 0, 0];
        let pointer = Pointer { fid: 2, len: 1_048_599, offset: 20 };
        assert_eq!((Pointer::read(&bytes).unwrap(), pointer.bytes()), (pointer, bytes));
        assert_eq!(Pointer::read(&bytes[1..]).unwrap_err().code(), "damaged");
    }
}
