//! What the indexes of a directory's tables say of it, without reading the tables.

use super::blob::Blob;
use super::table::Table;
use super::{manifest, names};
use crate::base::progress::Progress;
use crate::error::{Error, Kind, Result};
use std::path::Path;

/// A node may take tables away while they are counted: then they are counted again, so often.
const TRIES: u32 = 20;

/// How much there is in the tables that MANIFEST lists. What a node has only in the logs of its memtables is not counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Tables.
    pub tables: u64,
    /// Entries, each copy of one counted.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Bytes of all files on the disk; those of sparse files count as far as they are there.
    pub disk_bytes: u64,
}

/// Counts.
pub fn count(directory: &Path, progress: &Progress) -> Result<Counts> {
    let mut tries = 0;
    loop {
        progress.check()?;
        match count_once(directory) {
            Err(error) if tries < TRIES && matches!(error.kind(), Kind::Missing | Kind::Damaged) => {
                tries += 1;
            }
            result => return result,
        }
    }
}

fn count_once(directory: &Path) -> Result<Counts> {
    let path = names::manifest(directory);
    let blob = Blob::open(&path)?;
    if blob.len() > manifest::MAX {
        let what = format!("expected at most {} bytes, found {}", manifest::MAX, blob.len());
        return Err(Error::damaged(what).at_path(&path));
    }
    let mut bytes = vec![0; usize::try_from(blob.len()).unwrap_or_default()];
    blob.read(0, &mut bytes)?;
    let listed = manifest::read(&bytes, &path)?.tables;
    let mut counts = Counts { tables: listed.len() as u64, ..Counts::default() };
    for (id, info) in &listed {
        let table = Table::open(Blob::open(&names::table(directory, *id))?, info.compression)?;
        counts.entries += u64::from(table.key_count());
        counts.bytes += u64::from(table.facts().uncompressed_size);
    }
    counts.disk_bytes = disk_bytes(directory)?;
    Ok(counts)
}

fn disk_bytes(directory: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let failed = |error| Error::from_io(error, "list it", directory);
    let mut bytes = 0u64;
    for file in std::fs::read_dir(directory).map_err(failed)? {
        // One that has just gone has no bytes.
        let blocks = file.map_err(failed)?.metadata().map_or(0, |meta| meta.blocks());
        bytes = bytes.saturating_add(blocks.saturating_mul(512));
    }
    Ok(bytes)
}
