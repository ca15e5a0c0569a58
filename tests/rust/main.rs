//! The one integration test binary: each module says what belongs in it.

/// Badger directories: what real Badger wrote, read to the entry and checked; damaged everywhere.
mod badger;
/// Segments without a manifest, alone and in chains: how far they are whole, and what restores make of them.
mod bare;
/// Increments of a datastore that prunes, purges and gives its versions out again, against a model of it.
mod beside;
/// Blocks that break a rule, torn heads, other chains: found through `verify` wherever they are kept.
mod blocks;
/// Verbs killed and dropped at random moments.
mod crash;
/// Chains cut at a height, by every way that leads there.
mod cut;
/// Every cut and every flipped byte of golden segments, manifests and keys files.
mod damage;
/// Badger directories that restore makes: from chains and from datastores, over others and beside nodes.
mod directories;
/// The door to the disk and the pair of segment and manifest, killed at every step.
mod durable;
/// Every kind of error has an example whose exact text is known.
mod errors;
/// Targets that are there, full, closed, or wanted by two at once.
mod faults;
/// Any bytes into whatever reads bytes of others; run for longer by `make fuzz`.
mod fuzz;
/// Chains that every published ev-node has written: the checker finds them sound, and our hashes are theirs.
mod generations;
/// Real Badger's streams: what our reader sees, what our restore makes.
mod golden;
/// What the caller knows of a chain, held against what restore would write.
mod known;
/// Imports point down, and each third-party crate stays in its room.
mod layers;
/// Badger directories that a node may have open: golden ones, staging that fills up, what may not be read.
mod live;
/// Any source into any sink, and many sources into one.
mod pairs;
/// Snapshots of a directory that a real Badger keeps writing to, with pauses, restarts and kills between the steps.
mod peer;
/// What the tests of backup, verify and restore share.
mod proof;
/// The read RPCs of a node, served from stores and directories: gRPC, gRPC-Web, Connect.
mod reads;
/// Released nodes, which have no Backup RPC: copied block by block.
mod released;
/// The Backup RPC: client and server, both layouts, TLS, tokens, time limits.
mod rpc;
/// The store: bulk load, increments, snapshots, crashes.
mod store;
/// Streams that were taken under writes: stores that take increments of them.
mod torn;
/// The verbs on each other's results: over the wire, from files, into stores.
mod verbs;
