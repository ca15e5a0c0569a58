//! What a block leaves behind.
//!
//! | message | fields                                                                                                         |
//! |---------|----------------------------------------------------------------------------------------------------------------|
//! | State   | 1 Version, 2 chain id, 3 initial height, 4 last block height, 5 last block time (Timestamp), 6 DA height,      |
//! |         | 8 app hash, 9 last header hash (from v1.0.0-beta.9), 10 next proposer address (from v1.2.0);                   |
//! |         | 7 last results hash up to v1.0.0-beta.8                                                                        |

use super::Version;
use crate::error::Result;
use crate::evnode::wire::{Fields, Value, put_bytes, put_message, put_number, text};

/// A moment as protobuf's `Timestamp` holds it: 1 seconds, 2 nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Timestamp {
    /// Unix seconds.
    pub seconds: i64,
    /// Of the second.
    pub nanos: i32,
}

impl Timestamp {
    /// The moment that headers count in nanoseconds.
    pub fn from_nanos(nanos: u64) -> Self {
        let part = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let below = i32::try_from(nanos % 1_000_000_000).unwrap_or_default();
        Self { seconds: part(nanos / 1_000_000_000), nanos: below }
    }

    /// Unix nanoseconds, if headers could count it.
    pub fn to_nanos(self) -> Option<u64> {
        let nanos = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos);
        u64::try_from(nanos).ok()
    }

    fn merge(&mut self, message: &[u8]) -> Result<()> {
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Varint(seconds)) => self.seconds = seconds.cast_signed(),
                // An int32 travels as 64 bits, of which Go takes the lower ones.
                (2, Value::Varint(nanos)) => {
                    let [a, b, c, d, ..] = nanos.to_le_bytes();
                    self.nanos = i32::from_le_bytes([a, b, c, d]);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn encode(self) -> Vec<u8> {
        let mut message = Vec::new();
        put_number(&mut message, 1, self.seconds.cast_unsigned());
        put_number(&mut message, 2, i64::from(self.nanos).cast_unsigned());
        message
    }
}

/// The chain's state after a block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct State<'a> {
    /// The rules it follows.
    pub version: Version,
    /// The chain's name.
    pub chain_id: &'a str,
    /// The height of the first block.
    pub initial_height: u64,
    /// After which block.
    pub last_block_height: u64,
    /// That block's time.
    pub last_block_time: Option<Timestamp>,
    /// Where the node stood on DA: differs from node to node.
    pub da_height: u64,
    /// Up to v1.0.0-beta.8.
    pub last_results_hash: &'a [u8],
    /// The app's state after the block.
    pub app_hash: &'a [u8],
    /// The hash of that block's header; empty at the start and before v1.0.0-beta.9.
    pub last_header_hash: &'a [u8],
    /// Who makes the next block; empty before v1.2.0.
    pub next_proposer_address: &'a [u8],
}

impl<'a> State<'a> {
    /// Reads the value of `/0/s/<n>`.
    pub fn decode(message: &'a [u8]) -> Result<Self> {
        let mut state = Self::default();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(version)) => Version::decode(version, &mut state.version)?,
                (2, Value::Bytes(id)) => state.chain_id = text(id, "a chain id")?,
                (3, Value::Varint(height)) => state.initial_height = height,
                (4, Value::Varint(height)) => state.last_block_height = height,
                (5, Value::Bytes(time)) => state.last_block_time.get_or_insert_default().merge(time)?,
                (6, Value::Varint(height)) => state.da_height = height,
                (7, Value::Bytes(hash)) => state.last_results_hash = hash,
                (8, Value::Bytes(hash)) => state.app_hash = hash,
                (9, Value::Bytes(hash)) => state.last_header_hash = hash,
                (10, Value::Bytes(address)) => state.next_proposer_address = address,
                _ => {}
            }
        }
        Ok(state)
    }

    /// Appends the form that today's node writes, which has no last results hash.
    pub fn encode(&self, to: &mut Vec<u8>) {
        put_message(to, 1, &self.version.encode());
        put_bytes(to, 2, self.chain_id.as_bytes());
        put_number(to, 3, self.initial_height);
        put_number(to, 4, self.last_block_height);
        put_message(to, 5, &self.last_block_time.unwrap_or_default().encode());
        put_number(to, 6, self.da_height);
        put_bytes(to, 8, self.app_hash);
        put_bytes(to, 9, self.last_header_hash);
        put_bytes(to, 10, self.next_proposer_address);
    }
}
