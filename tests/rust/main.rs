//! The one integration test binary: each module says what belongs in it.

/// The door to the disk and the pair of segment and manifest, killed at every step.
mod durable;
/// Imports point down, and each third-party crate stays in its room.
mod layers;
/// The Backup RPC: client and server, both layouts, TLS, tokens, time limits.
mod rpc;
/// The store: bulk load, increments, snapshots, crashes.
mod store;
/// The verbs on each other's results: over the wire, from files, into stores.
mod verbs;
