//! Records beside the blocks: the sequencer's queue and checkpoint, the EVM's execution records, marks, caches, Raft's state.
//!
//! | message               | fields                                                                                            |
//! |-----------------------|---------------------------------------------------------------------------------------------------|
//! | Batch                 | 1 transactions (repeated)                                                                         |
//! | SequencerDACheckpoint | 1 DA height, 2 index of a transaction                                                             |
//! | ExecMeta              | 1 height, 2 parent hash, 3 payload id, 4 block hash, 5 state root, 6 tx hash, 7 timestamp         |
//! |                       | (seconds), 8 stage, 9 updated at (Unix seconds)                                                   |
//! | RaftBlockState        | 1 height, 2 and 3 last submitted header and data, 4 hash, 5 timestamp, 6 header, 7 data           |

use crate::base::cursor::Cursor;
use crate::error::{Error, Result};
use crate::evnode::wire::{Fields, Value, put_message, put_number, shown, text};

/// An entry of the sequencer's queue.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Batch<'a> {
    message: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the value of `/batches/…`.
    pub fn decode(message: &'a [u8]) -> Result<Self> {
        let mut fields = Fields::new(message);
        while fields.next()?.is_some() {}
        Ok(Self { message })
    }

    /// The transactions in their order.
    pub fn transactions(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut fields = Fields::new(self.message);
        std::iter::from_fn(move || {
            // The whole message was walked when it was decoded: there is no error left in it.
            while let Ok(Some(field)) = fields.next() {
                if let (1, Value::Bytes(transaction)) = field {
                    return Some(transaction);
                }
            }
            None
        })
    }

    /// The value of an entry with these transactions.
    pub fn encode<'t>(transactions: impl IntoIterator<Item = &'t [u8]>) -> Vec<u8> {
        let mut message = Vec::new();
        for transaction in transactions {
            put_message(&mut message, 1, transaction);
        }
        message
    }
}

/// How far the sequencer has consumed what DA forces it to include.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Checkpoint {
    /// The DA block.
    pub da_height: u64,
    /// The next transaction in it.
    pub tx_index: u64,
}

impl Checkpoint {
    /// Reads the value of `/single/checkpoint` or `/based/checkpoint`.
    pub fn decode(message: &[u8]) -> Result<Self> {
        let mut checkpoint = Self::default();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Varint(height)) => checkpoint.da_height = height,
                (2, Value::Varint(index)) => checkpoint.tx_index = index,
                _ => {}
            }
        }
        Ok(checkpoint)
    }

    /// The value that holds it.
    pub fn encode(self) -> Vec<u8> {
        let mut message = Vec::new();
        put_number(&mut message, 1, self.da_height);
        put_number(&mut message, 2, self.tx_index);
        message
    }
}

/// How far the EVM's execution of a block has come: a cache for crash recovery.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ExecMeta<'a> {
    /// The block's height. Its key does not say it reliably.
    pub height: u64,
    /// The EL block it builds on.
    pub parent_hash: &'a [u8],
    /// The Engine API's name of the payload.
    pub payload_id: &'a [u8],
    /// The EL block, once built.
    pub block_hash: &'a [u8],
    /// Its state root.
    pub state_root: &'a [u8],
    /// Of the transactions.
    pub tx_hash: &'a [u8],
    /// Unix seconds of the block.
    pub timestamp: i64,
    /// `started`, `built`, `submitted` or `promoted`.
    pub stage: &'a str,
    /// Unix seconds of the record.
    pub updated_at: i64,
}

impl<'a> ExecMeta<'a> {
    /// Reads the value of `/evm/execmeta/…`.
    pub fn decode(message: &'a [u8]) -> Result<Self> {
        let mut meta = Self::default();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Varint(height)) => meta.height = height,
                (2, Value::Bytes(hash)) => meta.parent_hash = hash,
                (3, Value::Bytes(id)) => meta.payload_id = id,
                (4, Value::Bytes(hash)) => meta.block_hash = hash,
                (5, Value::Bytes(root)) => meta.state_root = root,
                (6, Value::Bytes(hash)) => meta.tx_hash = hash,
                (7, Value::Varint(seconds)) => meta.timestamp = seconds.cast_signed(),
                (8, Value::Bytes(stage)) => meta.stage = text(stage, "a stage")?,
                (9, Value::Varint(seconds)) => meta.updated_at = seconds.cast_signed(),
                _ => {}
            }
        }
        Ok(meta)
    }
}

/// What Raft replicates of a block. It is kept in Raft's own files, never in the datastore.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RaftBlockState<'a> {
    /// The height.
    pub height: u64,
    /// The last header submitted to DA.
    pub submitted_header: u64,
    /// The last data submitted to DA.
    pub submitted_data: u64,
    /// The header's hash.
    pub hash: &'a [u8],
    /// The block's time.
    pub timestamp: u64,
    /// A `SignedHeader`.
    pub header: &'a [u8],
    /// A `Data`.
    pub data: &'a [u8],
}

impl<'a> RaftBlockState<'a> {
    /// Reads the record.
    pub fn decode(message: &'a [u8]) -> Result<Self> {
        let mut state = Self::default();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Varint(height)) => state.height = height,
                (2, Value::Varint(height)) => state.submitted_header = height,
                (3, Value::Varint(height)) => state.submitted_data = height,
                (4, Value::Bytes(hash)) => state.hash = hash,
                (5, Value::Varint(time)) => state.timestamp = time,
                (6, Value::Bytes(header)) => state.header = header,
                (7, Value::Bytes(data)) => state.data = data,
                _ => {}
            }
        }
        Ok(state)
    }
}

/// A number of 8 bytes, little-endian: the tip, marks, the index, DA heights.
pub fn mark_le(value: &[u8]) -> Result<u64> {
    let mut at = Cursor::new(value);
    let mark = at.u64_le("a height")?;
    at.finish("the height")?;
    Ok(mark)
}

/// A number of 8 bytes, big-endian: `/evm/last-pruned-execmeta-height`.
pub fn mark_be(value: &[u8]) -> Result<u64> {
    let mut at = Cursor::new(value);
    let mark = at.u64_be("a height")?;
    at.finish("the height")?;
    Ok(mark)
}

/// At which DA height a block was included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Included {
    /// The block.
    pub height: u64,
    /// The DA block.
    pub da_height: u64,
}

impl Included {
    /// Reads the value of a per-hash cache key: DA height, block height.
    pub fn decode(value: &[u8]) -> Result<Self> {
        let mut at = Cursor::new(value);
        let da_height = at.u64_le("a DA height")?;
        let height = at.u64_le("a block height")?;
        at.finish("the cache entry")?;
        Ok(Self { height, da_height })
    }
}

/// Reads the value of a `__snap` key: block height, DA height, again and again. Empty is legal.
pub fn snapshot(value: &[u8]) -> Result<impl Iterator<Item = Included>> {
    let (records, rest) = value.as_chunks::<16>();
    if !rest.is_empty() {
        let found = value.len();
        return Err(Error::damaged(format!("expected records of 16 bytes, found {found} bytes in all")));
    }
    Ok(records.iter().map(|record| {
        let [height, da_height] = [0, 8].map(|start| {
            let bytes = record.get(start..start + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
            bytes.map_or(0, u64::from_le_bytes)
        });
        Included { height, da_height }
    }))
}

/// Reads the value of a go-header store's `head` or `tail`: a hash as a JSON string of upper-case hex.
pub fn sync_pointer(value: &[u8]) -> Result<[u8; 32]> {
    let digits = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let hash = digits.and_then(|digits| data_encoding::HEXUPPER_PERMISSIVE.decode(digits).ok());
    hash.and_then(|hash| <[u8; 32]>::try_from(hash).ok())
        .ok_or_else(|| Error::damaged(format!("expected 64 hex digits in quotes, found {}", shown(value))))
}
