//! What several verbs share: entries from many places in one order, the checks they pass, and what makes an increment sound.

pub mod digest;
pub mod merge;
pub mod sort;
