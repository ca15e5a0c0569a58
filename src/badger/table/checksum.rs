//! The checksum of a block and of an index: the protobuf message `Checksum`, and its length behind it.
//!
//! | bytes | field                                                                       |
//! |-------|-----------------------------------------------------------------------------|
//! | m     | field 1, varint: the algorithm, 0 (left out): CRC-32C, 1: `XXHash64`; field 2, varint: the sum, 0 left out |
//! | 4     | m, big-endian                                                               |
//!
//! Badger writes CRC-32C and reads both (`y/checksum.go`).

use crate::base::checksum::{XxHash64, crc32c};
use crate::base::cursor::{Cursor, put_uvarint};
use crate::error::{Error, Result};

const ALGORITHM: u64 = 1;
const SUM: u64 = 2;
/// More than both fields need, however they are written.
const MAX: usize = 64;

/// Appends the CRC-32C of `bytes`, as a message with its length behind it.
pub(in crate::badger) fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    put_sum(to, crc32c(0, bytes));
}

/// Appends the CRC-32C of all that is there, as a message with its length behind it.
pub(in crate::badger) fn seal(block: &mut Vec<u8>) {
    put_sum(block, crc32c(0, block));
}

fn put_sum(to: &mut Vec<u8>, sum: u32) {
    let before = to.len();
    if sum != 0 {
        put_uvarint(to, SUM << 3);
        put_uvarint(to, u64::from(sum));
    }
    let len = u32::try_from(to.len() - before).unwrap_or_default();
    to.extend_from_slice(&len.to_be_bytes());
}

/// Takes message and length off the end of `bytes`: what stands before them, and the message.
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let Some((rest, len)) = bytes.split_last_chunk::<4>() else {
        return Err(Error::damaged(format!(
            "expected the 4 bytes of a checksum's length, found {} bytes",
            bytes.len()
        )));
    };
    let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
    let at = rest.len().checked_sub(len).filter(|_| len <= MAX);
    at.and_then(|at| rest.split_at_checked(at)).ok_or_else(|| {
        let room = rest.len().min(MAX);
        Error::damaged(format!("expected a checksum of at most {room} bytes, found a length of {len}"))
    })
}

/// Holds `message` against `bytes`, which are `what`.
pub(super) fn check(bytes: &[u8], message: &[u8], what: &str) -> Result<()> {
    let mut sum = Sum::new(message, what)?;
    sum.update(bytes);
    sum.end(what)
}

/// Holds a message against bytes that come in parts.
#[derive(Debug)]
pub(super) struct Sum {
    expected: u64,
    running: Running,
}

#[derive(Debug)]
enum Running {
    Crc32c(u32),
    XxHash64(XxHash64),
}

impl Sum {
    /// For the bytes of `what`, none of which have come.
    pub(super) fn new(message: &[u8], what: &str) -> Result<Self> {
        let (algorithm, expected) = read(message)
            .map_err(|_| Error::damaged(format!("expected a checksum of {what}, found something else")))?;
        let running = match algorithm {
            0 => Running::Crc32c(0),
            1 => Running::XxHash64(XxHash64::default()),
            other => {
                let text =
                    format!("expected {what} with CRC-32C or XXHash64, found checksum algorithm {other}");
                return Err(Error::damaged(text));
            }
        };
        Ok(Self { expected, running })
    }

    /// Takes more bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.running {
            Running::Crc32c(sum) => *sum = crc32c(*sum, bytes),
            Running::XxHash64(sum) => sum.update(bytes),
        }
    }

    /// All have come.
    pub(super) fn end(self, what: &str) -> Result<()> {
        let found = match self.running {
            Running::Crc32c(sum) => u64::from(sum),
            Running::XxHash64(sum) => sum.sum(),
        };
        if found == self.expected {
            return Ok(());
        }
        let expected = self.expected;
        Err(Error::damaged(format!("expected {what} with checksum {expected:08x}, found {found:08x}")))
    }
}

/// Algorithm and sum.
fn read(message: &[u8]) -> Result<(u64, u64)> {
    let (mut algorithm, mut sum) = (0, 0);
    let mut at = Cursor::new(message);
    while !at.is_empty() {
        let tag = at.uvarint("a field")?;
        match (tag >> 3, tag & 7) {
            (ALGORITHM, 0) => algorithm = at.uvarint("the algorithm")?,
            (SUM, 0) => sum = at.uvarint("the sum")?,
            _ => return Err(Error::damaged("expected the algorithm or the sum, found another field")),
        }
    }
    Ok((algorithm, sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_one_that_badger_writes() {
        let mut block = b"123456789".to_vec();
        seal(&mut block);
        assert_eq!(block, b"123456789\x10\x83\xa5\x9a\x98\x0e\0\0\0\x06");
        let (bytes, message) = split(&block).unwrap();
        assert_eq!((bytes, check(bytes, message, "it").is_ok()), (&b"123456789"[..], true));
        assert!(check(b"123456788", message, "it").is_err());
        // The checksum of nothing is 0, and 0 is left out.
        let mut empty = Vec::new();
        seal(&mut empty);
        assert_eq!(empty, [0; 4]);
        assert!(check(b"", b"", "it").is_ok() && check(b"x", b"", "it").is_err());
    }

    #[test]
    fn an_xxhash_is_read_and_another_algorithm_is_not() {
        // The published answer for "xxhash" and seed 0.
        let mut message = vec![8, 1, 16];
        put_uvarint(&mut message, 0x32dd_3895_2c4b_c720);
        assert!(check(b"xxhash", &message, "it").is_ok());
        assert_eq!(check(b"xxhasH", &message, "it").unwrap_err().code(), "damaged");
        assert!(check(b"xxhash", &[8, 2], "it").unwrap_err().to_string().contains("algorithm 2"));
    }

    #[test]
    fn a_length_that_cannot_be_is_damage() {
        for bytes in [&b""[..], b"\0\0\0", b"\0\0\0\x01", b"\xff\xff\xff\xff", &[0; 70]] {
            let all_zero = bytes.len() == 70;
            assert_eq!(split(bytes).is_ok(), all_zero, "{bytes:?}");
        }
        let mut long = vec![0; 100];
        long.extend_from_slice(&65_u32.to_be_bytes());
        assert_eq!(split(&long).unwrap_err().code(), "damaged");
        assert!(check(b"x", &[0xff; 3], "a block").unwrap_err().to_string().contains("a block"));
    }
}
