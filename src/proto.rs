//! The generated messages and stubs: what `proto/` says, and nothing of ours.

#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "written by tonic-prost-build"
)]
mod generated {
    pub mod evnode {
        tonic::include_proto!("evnode.v1");
    }
    pub mod any_layout {
        tonic::include_proto!("evbackup.v1");
    }
}

/// `StoreService`: the RPCs that read a node's datastore, and the Backup RPC in the proposal's final layout, with evbackup's fields from 16
/// on.
///
/// The parts of a [`Block`](evnode::Block) are the bytes that were stored or received: as messages they would lose what ev-node does
/// not write any more, and with it their hash.
pub use generated::evnode;

/// The well-known type of times.
pub use prost_types::Timestamp;

/// The same messages with untyped numbers, for reading both of the proposal's layouts.
pub use generated::any_layout;

/// The descriptors of what the server serves, for gRPC reflection.
pub const REFLECTION: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reflection.bin"));
