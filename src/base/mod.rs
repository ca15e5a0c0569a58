//! What everything stands on, knowing no format: untrusted bytes, checksums, the disk, progress.

pub mod checksum;
pub mod cursor;
pub mod durable;
pub mod files;
pub mod progress;
pub mod scratch;
