//! `NNNNNN.sst`: a table, sorted entries in blocks. Complete before the manifest names it, never changed after that.
//!
//! | bytes | field                                                                  |
//! |-------|------------------------------------------------------------------------|
//! | …     | the blocks, one behind the other, each compressed alone (`block`)      |
//! | n     | the index (`index`)                                                    |
//! | 4     | n, big-endian                                                          |
//! | m     | checksum of the index (`checksum`)                                     |
//! | 4     | m, big-endian                                                          |
//!
//! It is read from its end. No header, no padding; the codec of the blocks stands in the manifest (`table/table.go`,
//! `table/builder.go`).

pub(super) mod bloom;
pub(super) mod checksum;
pub(super) mod index;
