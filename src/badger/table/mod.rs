//! Tables (`NNNNNN.sst`): sorted entries in blocks, an index over the blocks, a filter over the keys; written once, never changed.

mod codec;

pub(super) use codec::Compression;
