//! The records behind the keys, decoded from bytes that somebody else wrote.
//!
//! Every record borrows from the value it was read from. Any bytes give a record or an error, never a panic, and nothing is allocated
//! but a list of transactions that is not longer than the value. What Go's decoder tolerates is tolerated: fields in any order,
//! unknown ones, several of which the last counts. Messages: `proto/evnode/v1/{evnode,state,batch}.proto` and
//! `proto/execution/evm/v1/state.proto` of ev-node v1.2.3; Go code: `types/serialization.go`.
//!
//! Encoding gives the one form that Go's encoder gives (fields in ascending number, zero values left out), since hashes and
//! signatures are made over it. It loses what Go loses: unknown fields.

mod block;
mod header;
mod other;
mod state;

pub use block::{Data, Metadata};
pub use header::{Header, Legacy, SignedHeader, Signer, Version};
pub use other::{
    Batch, Checkpoint, ExecMeta, Included, RaftBlockState, mark_be, mark_le, snapshot, sync_pointer,
};
pub use state::{State, Timestamp};

#[cfg(test)]
mod tests;
