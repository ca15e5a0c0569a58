//! What a block carries.
//!
//! | message  | fields                                                          |
//! |----------|-----------------------------------------------------------------|
//! | Metadata | 1 chain id, 2 height, 3 time (Unix ns), 4 last data hash        |
//! | Data     | 1 Metadata, 2 transactions (repeated)                           |

use crate::base::checksum::Sha256;
use crate::error::Result;
use crate::evnode::wire::{Fields, Value, put_bytes, put_message, put_number, text};

/// Which block the data is of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Metadata<'a> {
    /// The chain's name.
    pub chain_id: &'a str,
    /// The height.
    pub height: u64,
    /// Unix nanoseconds.
    pub time: u64,
    /// The hash of the data before; empty in the first block, and in blocks that were synced from DA before v1.0.0-beta.7.
    pub last_data_hash: &'a [u8],
}

impl<'a> Metadata<'a> {
    fn merge(&mut self, message: &'a [u8]) -> Result<()> {
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(id)) => self.chain_id = text(id, "a chain id")?,
                (2, Value::Varint(height)) => self.height = height,
                (3, Value::Varint(time)) => self.time = time,
                (4, Value::Bytes(hash)) => self.last_data_hash = hash,
                _ => {}
            }
        }
        Ok(())
    }

    fn encode(&self, to: &mut Vec<u8>) {
        put_bytes(to, 1, self.chain_id.as_bytes());
        put_number(to, 2, self.height);
        put_number(to, 3, self.time);
        put_bytes(to, 4, self.last_data_hash);
    }

    fn digest(&self, sha256: &mut Sha256, buffer: &mut Vec<u8>) {
        buffer.clear();
        self.encode(buffer);
        let (head, length) = head(1, buffer);
        sha256.update(head.get(..length).unwrap_or_default());
        sha256.update(buffer);
    }
}

/// The transactions of a block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Data<'a> {
    /// Absent in the first block of old chains.
    pub metadata: Option<Metadata<'a>>,
    message: &'a [u8],
}

impl<'a> Data<'a> {
    /// Reads the value of `/0/d/<n>`. Transactions are left where they are: see [`transactions`](Self::transactions).
    pub fn decode(message: &'a [u8]) -> Result<Self> {
        let mut metadata: Option<Metadata<'a>> = None;
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            if let (1, Value::Bytes(part)) = field {
                metadata.get_or_insert_default().merge(part)?;
            }
        }
        Ok(Self { metadata, message })
    }

    /// The transactions in their order.
    pub fn transactions(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut fields = Fields::new(self.message);
        std::iter::from_fn(move || {
            // The whole message was walked when it was decoded: there is no error left in it.
            while let Ok(Some(field)) = fields.next() {
                if let (2, Value::Bytes(transaction)) = field {
                    return Some(transaction);
                }
            }
            None
        })
    }

    /// Appends the form that today's node writes.
    pub fn encode(&self, to: &mut Vec<u8>) {
        if let Some(metadata) = &self.metadata {
            let mut message = Vec::new();
            metadata.encode(&mut message);
            put_message(to, 1, &message);
        }
        for transaction in self.transactions() {
            put_message(to, 2, transaction);
        }
    }

    /// Feeds [`encode`](Self::encode)'s bytes to a digest, with the metadata or without, and copies no transaction.
    pub(in crate::evnode) fn digest(&self, sha256: &mut Sha256, with_metadata: bool) {
        if let Some(metadata) = self.metadata.as_ref().filter(|_| with_metadata) {
            metadata.digest(sha256, &mut Vec::new());
        }
        for transaction in self.transactions() {
            let (head, length) = head(2, transaction);
            sha256.update(head.get(..length).unwrap_or_default());
            sha256.update(transaction);
        }
    }

    /// Both at once; true when there are no transactions.
    pub(in crate::evnode) fn digest_both(
        &self,
        full: &mut Sha256,
        bare: &mut Sha256,
        buffer: &mut Vec<u8>,
    ) -> bool {
        if let Some(metadata) = &self.metadata {
            metadata.digest(full, buffer);
        }
        let mut empty = true;
        for transaction in self.transactions() {
            empty = false;
            let (head, length) = head(2, transaction);
            for sha256 in [&mut *full, &mut *bare] {
                sha256.update(head.get(..length).unwrap_or_default());
                sha256.update(transaction);
            }
        }
        empty
    }
}

/// What stands before a field of bytes: tag and length.
fn head(field: u8, bytes: &[u8]) -> ([u8; 11], usize) {
    let mut head = [field << 3 | 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut length = 1;
    let mut left = bytes.len();
    for byte in head.iter_mut().skip(1) {
        length += 1;
        *byte = left.to_le_bytes()[0] & 0x7f;
        left >>= 7;
        if left == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (head, length)
}
