//! The checksums we write and check: CRC-32C for blocks, SHA-256 for files, XXH3 for the content of an entry.

use sha2::Digest;
use std::hash::Hasher;

/// CRC-32C of `bytes`, continuing from that of what came before (0 at the start).
pub fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(before, bytes)
}

/// A running xxHash64 with seed 0: some tables of Badger have it in place of CRC-32C.
#[derive(Clone, Debug)]
pub struct XxHash64(twox_hash::XxHash64);

impl Default for XxHash64 {
    fn default() -> Self {
        Self(twox_hash::XxHash64::with_seed(0))
    }
}

impl XxHash64 {
    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The sum of what it has taken.
    pub fn sum(&self) -> u64 {
        self.0.finish()
    }
}

/// A running SHA-256.
///
/// ```
/// use evbackup::base::checksum::Sha256;
///
/// let mut sha256 = Sha256::new();
/// sha256.update(b"a");
/// sha256.update(b"bc");
/// assert!(sha256.hex().starts_with("ba7816bf8f01cfea"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of what it has taken.
    pub fn bytes(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }

    /// The digest of what it has taken, as 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        hex(&self.bytes())
    }
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// SHA-256 of `bytes` as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut sha256 = Sha256::new();
    sha256.update(bytes);
    sha256.hex()
}

/// What an entry holds, in 64 bits: equal content gives an equal hash wherever the source kept the value.
///
/// XXH3-64 of the value, seeded with XXH3-64 of: 1 byte meta, 1 byte user meta, 8 bytes expiry (little-endian).
/// `meta` counts without `bitValuePointer` (0x02), which says where the value was. Not a defence against somebody who wants two
/// contents of one hash: versions are compared beside it.
pub fn content_hash(meta: u8, user_meta: u8, expires_at: u64, value: &[u8]) -> u64 {
    let mut about = [0; 10];
    let [kept, user, expiry @ ..] = &mut about;
    (*kept, *user) = (meta & !0x02, user_meta);
    *expiry = expires_at.to_le_bytes();
    let seed = twox_hash::XxHash3_64::oneshot(&about);
    twox_hash::XxHash3_64::oneshot_with_seed(seed, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
        // The published answer of the reference implementation.
        assert_eq!(XxHash64::default().sum(), 0xef46_db37_51d8_e999);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(b"abc"), abc);
        assert_eq!(data_encoding::HEXLOWER.encode(&sha256(b"abc")), abc);
        // A change of this number makes every keys file foreign.
        assert_eq!(content_hash(4, 1, 0x0102, b"value"), 5_103_034_659_188_688_417);
    }

    #[test]
    fn content_counts_and_where_it_was_kept_does_not() {
        let one = content_hash(0, 0, 0, b"v");
        assert_eq!(content_hash(2, 0, 0, b"v"), one);
        for other in [content_hash(1, 0, 0, b"v"), content_hash(0, 1, 0, b"v"), content_hash(0, 0, 1, b"v")] {
            assert_ne!(other, one);
        }
        assert_ne!(content_hash(0, 0, 0, b"w"), one);
    }
}
