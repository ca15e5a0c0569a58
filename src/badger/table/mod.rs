//! `NNNNNN.sst`: a table, sorted entries in blocks. Complete before the MANIFEST names it, never changed after that.
//!
//! | bytes | field                                                                  |
//! |-------|------------------------------------------------------------------------|
//! | …     | the blocks, one behind the other, each compressed alone (`block`)      |
//! | n     | the index (`index`)                                                    |
//! | 4     | n, big-endian                                                          |
//! | m     | checksum of the index (`checksum`)                                     |
//! | 4     | m, big-endian                                                          |
//!
//! It is read from its end. No header, no padding; how the blocks are compressed stands in the MANIFEST (`codec`; `table/table.go`,
//! `table/builder.go`).

mod block;
pub(super) mod bloom;
mod builder;
pub(super) mod checksum;
mod codec;
pub(super) mod index;
pub(super) mod reader;
#[cfg(test)]
mod tests;
mod walk;

pub(super) use builder::{Builder, Options as BuilderOptions};
pub(super) use codec::Compression;
pub(super) use reader::Table;
pub(super) use walk::Walk;
