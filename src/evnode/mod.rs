//! What ev-node keeps in its datastore: keys and records. It opens nothing and is fed entries.

pub mod families;
pub mod key;
