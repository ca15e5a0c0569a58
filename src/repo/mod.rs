//! Where backups are kept: segments, the manifest and the keys file beside each, and a folder of them.
//!
//! ```text
//! full.badger             the segment: the backup stream and nothing else
//! full.badger.json        the manifest: what it is, and the proof          manifest
//! full.badger.keys        the keys that tombstones are made from           keys
//! full.badger.part        a run is writing it                              base::durable
//! full.badger.*.next      the pair is being replaced; see                  pair
//! ```

pub mod catalog;
pub mod keys;
pub mod manifest;
pub mod pair;
