//! A look at a directory that was just written, before anybody else sees it: by the same code that reads every other one.

use crate::badger::blob::Blob;
use crate::badger::merge::{Rank, View};
use crate::badger::table::Table;
use crate::badger::vlog::Vlogs;
use crate::badger::{key, manifest, names, registry};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// What the indexes of a directory say, and its entries one by one.
pub struct Look {
    /// Entries that are in it, all versions.
    pub entries: u64,
    /// Badger's first commit gets the version above this one.
    pub last_version: u64,
    /// The directory's id.
    pub store_id: Option<[u8; 16]>,
    view: View,
}

/// Looks at a directory that nobody else has: every index and the end of every table is read and checked, no lock is taken.
pub fn look(dir: &Path) -> Result<Look> {
    let path = names::manifest(dir);
    let bytes = std::fs::read(&path).map_err(|error| Error::from_io(error, "read it", &path))?;
    let (mut tables, mut entries): (Vec<(Rank, Table)>, u64) = (Vec::new(), 0);
    for (id, info) in manifest::read(&bytes, &path)?.tables {
        let path = names::table(dir, id);
        let table = Table::open(Blob::at(&path)?, info.compression)?;
        if let Some((_, before)) = tables.last() {
            let (last, first) = (key::split(before.biggest())?.0, key::split(table.smallest())?.0);
            if last >= first {
                return Err(Error::damaged(
                    "expected tables whose keys follow each other, found such that overlap",
                )
                .at_path(table.path()));
            }
        }
        entries += u64::from(table.key_count());
        tables.push((Rank::table(info.level, id), table));
    }
    let mut logs = BTreeMap::new();
    for fid in 1.. {
        let path = names::value_log(dir, fid);
        if !path.is_file() {
            break;
        }
        logs.insert(fid, Blob::at(&path)?);
    }
    // What has expired is there all the same.
    let view = View::new(tables, Vlogs::new(dir, logs), 0);
    Ok(Look { entries, last_version: view.max_version(), store_id: registry::id_of(dir)?, view })
}

impl Look {
    /// All that is in it.
    #[cfg(test)]
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// The newest value of a key, if it has one.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let entry = self.view.get(key, u64::MAX)?;
        Ok(entry.filter(|entry| !entry.as_entry().is_delete()).map(|entry| entry.value))
    }
}
