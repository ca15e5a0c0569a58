//! What several verbs share: entries from many places in one order, the checks they pass, and what makes an increment sound.

pub mod ahead;
pub mod chain;
pub mod chain_check;
pub mod chain_look;
pub mod chain_summary;
pub mod checks;
pub mod cut;
pub mod datastore;
pub mod digest;
pub mod finding;
pub mod gone;
pub mod hasher;
pub mod increment;
pub mod index;
pub mod intake;
pub mod merge;
pub mod node;
pub mod sample;
pub mod segment;
pub mod serving;
pub mod sort;
pub mod table;
pub mod target;
pub mod torn;
pub mod watch;
pub mod work;
