//! Hot backups, proof and restore of an ev-node's `BadgerDB`.
//!
//! Modules in the order of their layers: each may import those above it in this list, never those beside or below.
//! `tests/rust/layers.rs` holds the code to it.

#[cfg(feature = "python")]
mod python;

pub mod error;

pub mod base;

pub mod entry;
pub mod proto;

pub mod badger;
pub mod evnode;
pub mod format;
pub mod repo;
pub mod rpc;
pub mod store;

pub mod flow;

pub mod align;
pub mod apply;
pub mod backup;
pub mod digest;
pub mod inspect;
pub mod open;
pub mod restore;
pub mod serve;
pub mod verify;
