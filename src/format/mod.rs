//! The Badger backup stream: what `DB.Backup` writes, what `DB.Load` takes, and what a segment file holds, byte for byte.
//!
//! A stream is frames until it ends. There is no magic number, no checksum, no count and no end mark, which is why a manifest
//! lies beside every segment. Varints are protobuf's; the frame length is Badger's only little-endian number on disk.
//!
//! | bytes | field                                                                                       |
//! |-------|---------------------------------------------------------------------------------------------|
//! | 8     | n, little-endian                                                                            |
//! | n     | protobuf `KVList`: field 1, repeated `KV`; field 10 (`alloc_ref`) of old releases is skipped |
//!
//! | `KV` field | type            | meaning                                                                     |
//! |------------|-----------------|-----------------------------------------------------------------------------|
//! | 1          | bytes           | key                                                                         |
//! | 2          | bytes           | value; left out when empty, deleted or expired                              |
//! | 3          | bytes (0 or 1)  | user meta                                                                   |
//! | 4          | varint          | version                                                                     |
//! | 5          | varint          | expiry, Unix seconds, 0: never                                              |
//! | 6          | bytes (0 or 1)  | meta bits                                                                   |
//! | 10         | varint          | stream id: the sorted run it belongs to; Badger counts them from 1          |
//! | 11         | varint          | stream done: an end mark of Badger's own streams, never in a file           |
//!
//! **Order.** Within one stream id keys ascend and versions of a key descend, across frames too; ids follow and interleave in any
//! order, and their key ranges are disjoint. Id 0 (absent) promises nothing.
//!
//! **Bad input.** Any bytes give entries or an error with the offset: never a panic, never more memory than the largest entry that
//! is really there. A length is held against what is left before it is used, and bytes are kept only as they arrive.
//!
//! Sources: `backup.go`, `stream.go`, `pb/badgerpb4.proto` of Badger v4.5.1.

mod reader;
mod tally;
mod wire;
mod writer;

pub use reader::{FileInput, Input, NoTap, Piece, Reader, Tap};
pub use tally::{Block, Layout, Run, Tally, Unsorted};
pub use writer::{FrameSink, Writer};

/// Longest frame that is read. Badger gathers up to 100 MiB (`maxStreamSize`), adds one 16 MiB worker buffer and one entry, whose
/// value may have 1 GiB (`ValueLogFileSize`); twice that is damage.
pub const MAX_FRAME: u64 = 2 << 30;

/// Deepest nesting of unknown groups that is skipped. Badger writes none; protobuf decoders stop at 100.
pub const MAX_GROUPS: usize = 100;
