//! What ev-node keeps in its datastore: keys, records, hashes, and the rules that make a chain of them. It opens nothing and is fed
//! entries.

pub mod block;
pub mod chain;
pub mod cut;
pub mod generation;
pub mod hash;
pub mod key;
pub mod path;
pub mod record;
pub mod sample;
pub mod signature;
mod wire;

#[cfg(test)]
mod vectors;
