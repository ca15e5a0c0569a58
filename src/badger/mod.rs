//! A Badger v4 directory, read and written without Badger.
//!
//! | File | What is in it | Here |
//! |---|---|---|
//! | `MANIFEST` | which tables there are, in which level; appended to, sometimes rewritten | `manifest` |
//! | `KEYREGISTRY` | the data keys of an encrypted directory; its first 16 bytes are the directory's id | `registry` |
//! | `NNNNNN.sst` | a table: sorted entries, never changed | `table` |
//! | `NNNNN.mem` | the log of a table that is still in memory | `log`, `wal` |
//! | `NNNNNN.vlog` | large values, which entries point to | `log`, `vlog` |
//! | `DISCARD`, `LOCK` | statistics and a process id; not needed | |
//!
//! Numbers that Go code casts from memory are little-endian, everything else is big-endian; each file's layout is drawn at the top of
//! its module.
//!
//! **Reading changes nothing.** No file of the directory is written, mapped, locked, renamed or given another mode. Badger truncates a
//! file to nothing before it unlinks it, so neither a link nor an open descriptor keeps its bytes, and a mapping could kill the process:
//! what a running node may take away is copied before it is believed (`live`, `stage`).
//!
//! **Bad input.** Any bytes give entries or an error that names file and offset: never a panic, and never more memory than a block and the
//! largest value that is really there. Every checksum is held against its bytes as they are read.
//!
//! Sources: Badger v4.5.1 (`manifest.go`, `table/`, `memtable.go`, `value.go`, `fb/flatbuffer.fbs`, `y/`), which wrote no other format from
//! v4.2.0 on.

mod blob;
mod check;
mod count;
mod frozen;
mod key;
mod live;
mod log;
mod manifest;
mod merge;
mod merged;
mod meta;
mod names;
#[cfg(test)]
mod node;
mod pace;
mod place;
mod reader;
mod registry;
mod stage;
mod table;
mod taking;
#[cfg(test)]
mod tests;
mod vlog;
mod wal;
mod writer;

pub use check::{Checked, Damage, Part, See, check};
pub use count::{Counts, count};
pub use live::Step;
pub use reader::{Directory, Pauses, ReadOptions};
pub use writer::{Built, Look, VALUE_THRESHOLD, Writer, WriterOptions, look};
