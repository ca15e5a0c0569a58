//! What a block carries.
//!
//! | message  | fields                                                          |
//! |----------|-----------------------------------------------------------------|
//! | Metadata | 1 chain id, 2 height, 3 time (Unix ns), 4 last data hash        |
//! | Data     | 1 Metadata, 2 transactions (repeated)                           |

use crate::base::checksum::Sha256;
use crate::base::cursor::put_uvarint;
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

    fn encode(&self) -> Vec<u8> {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, self.chain_id.as_bytes());
        put_number(&mut message, 2, self.height);
        put_number(&mut message, 3, self.time);
        put_bytes(&mut message, 4, self.last_data_hash);
        message
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
            put_message(to, 1, &metadata.encode());
        }
        for transaction in self.transactions() {
            put_message(to, 2, transaction);
        }
    }

    /// Feeds [`encode`](Self::encode)'s bytes to a digest, with the metadata or without, and copies no transaction.
    pub(in crate::evnode) fn digest(&self, sha256: &mut Sha256, with_metadata: bool) {
        let mut head = Vec::new();
        if let Some(metadata) = self.metadata.as_ref().filter(|_| with_metadata) {
            put_message(&mut head, 1, &metadata.encode());
            sha256.update(&head);
        }
        for transaction in self.transactions() {
            head.clear();
            head.push(2 << 3 | 2);
            put_uvarint(&mut head, transaction.len() as u64);
            sha256.update(&head);
            sha256.update(transaction);
        }
    }
}
