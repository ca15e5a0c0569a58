//! One state of a directory that a node goes on writing to.
//!
//! 1. Read the MANIFEST.
//! 2. Read the memtables' logs, in the order of their numbers.
//! 3. Read what was appended to the MANIFEST since. Tables that memtables became in between count; compactions in between do not.
//! 4. Copy those tables, and the value logs. If one of them has gone, begin again.
//!
//! **Nothing that was acknowledged before is missing.** It is in a table that 1 lists, or in a log that 2 finds; if that log has gone, its
//! table is in 3. **It is a prefix of the commits.** Memtables become tables in their order, and logs are written one after the other, so all
//! logs but the last one read are final, and that one gives a prefix. **Nothing comes back.** Only compactions drop entries, and none that
//! happened after 1 is in it.
//!
//! A log whose last transaction some table has reached was flushed already; it is left out, since its entries may have been compacted
//! away. (A memtable in use by a long reading keeps its log.)
//!
//! | What the node does meanwhile                  | Then                                                                       |
//! |-----------------------------------------------|----------------------------------------------------------------------------|
//! | commits                                       | they are in what was read of the last log, or come later                   |
//! | flushes                                       | the table is in 3; an emptied log is as good as none                       |
//! | compacts, drops everything                    | a table has gone, or 3 has a record of deletes alone: again                |
//! | rewrites the MANIFEST                         | its inode has changed: again                                               |
//! | collects a value log                          | the values in question are looked up; if one has gone: again               |
//! | stops, starts                                 | logs have become tables; a number that was used again names another file   |
//! | is replaced by another directory              | another id: an error                                                       |
//!
//! Sources: `manifest.go`, `memtable.go`, `levels.go`, `value.go` of Badger v4.5.1; ristretto's `z/file.go` (`MmapFile.Delete`).

use super::blob::Blob;
use super::manifest::{self, Change, Manifest, Record, TableInfo};
use super::merge::Recent;
use super::names;
use super::table::{Compression, Table};
use super::wal::{self, Replayed};
use crate::base::files::{Identity, open_quietly};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A record that is being appended is whole by then.
const AGAIN: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// What a live reading is about to do; tests let the node work there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Step {
    /// Read the MANIFEST.
    Manifest,
    /// List the logs of memtables.
    Logs,
    /// Read the next of them.
    Log,
    /// Read the MANIFEST again.
    Again,
    /// Open the tables.
    Tables,
    /// Copy the next table.
    Table,
    /// Copy the next value log.
    ValueLog,
    /// Read what is not copied.
    Settle,
}

/// Why an attempt came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// Something has gone meanwhile: again. If it was a table, its number.
    Gone(String, Option<u64>),
    /// It would fail again.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

pub(super) fn gone<T>(what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Gone(what.into(), None))
}

/// A table of the MANIFEST.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) id: u64,
    pub(super) info: TableInfo,
    pub(super) path: PathBuf,
    pub(super) about: Identity,
    pub(super) table: Table,
}

/// A memtable.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) fid: u64,
    replayed: Replayed,
    /// What of it will be asked for, later entries in later tables.
    pub(super) tables: Vec<Table>,
}

/// What a directory held at one moment.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tables: Vec<Listed>,
    pub(super) memory: Vec<Memory>,
    /// The highest version.
    pub(super) version: u64,
    /// The value logs before anything else was read, and which files they were.
    pub(super) value_logs: BTreeMap<u32, (u64, u64)>,
    first: Opened,
}

/// Tables that were opened before: what an index says is needed each time, and does not change while the file is the same.
#[derive(Debug, Default)]
pub(super) struct Known {
    tables: Mutex<HashMap<u64, (Identity, Compression, Table)>>,
    recent: Recent,
}

impl Known {
    /// The table at `path`, which is opened for each reading.
    fn open(&self, id: u64, info: TableInfo, path: &Path, about: Identity) -> Result<Table> {
        let known = || self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, compression, table)) = known().get(&id)
            && (*before, *compression) == (about, info.compression)
        {
            return Ok(table.clone());
        }
        let table = Table::open(Blob::named(path, about), info.compression)?;
        known().insert(id, (about, info.compression, table.clone()));
        Ok(table)
    }

    /// The indexes that were read last.
    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Forgets the tables that are not there any more.
    fn keep(&self, tables: &BTreeMap<u64, TableInfo>) {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| tables.contains_key(id));
    }
}

/// How a directory is looked at.
pub(super) struct Look<'a> {
    pub(super) dir: &'a Path,
    /// A node may work in it.
    pub(super) live: bool,
    pub(super) known: &'a Known,
    pub(super) scratch: &'a Scratch,
    pub(super) progress: &'a Progress,
    /// Will anybody ask for this user key at this version?
    pub(super) wanted: &'a dyn Fn(&[u8], u64) -> bool,
    pub(super) pause: &'a dyn Fn(Step),
}

/// A MANIFEST that is kept open, so that no other file gets its inode.
#[derive(Debug)]
struct Opened {
    file: std::fs::File,
    inode: (u64, u64),
    manifest: Manifest,
}

impl Look<'_> {
    /// Steps 1 to 3.
    pub(super) fn state(&self) -> Result<State, Failure> {
        (self.pause)(Step::Manifest);
        let value_logs = self.value_logs()?.into_iter().filter(|(_, about)| about.len > 0);
        let value_logs = value_logs.map(|(fid, about)| (fid, about.inode)).collect();
        let first = self.manifest()?;
        (self.pause)(Step::Logs);
        let mut memory = Vec::new();
        for fid in names::memory_logs(self.dir)? {
            (self.pause)(Step::Log);
            self.progress.check()?;
            memory.extend(self.memory(fid)?);
        }
        (self.pause)(Step::Again);
        let mut tables = first.manifest.tables.clone();
        if self.live {
            self.follow(&first, &mut tables)?;
        }
        (self.pause)(Step::Tables);
        self.known.keep(&tables);
        let mut listed = Vec::with_capacity(tables.len());
        for (id, info) in tables {
            self.progress.check()?;
            listed.push(self.table(id, info)?);
        }
        let highest = listed.iter().map(|listed| listed.table.max_version()).max().unwrap_or_default();
        memory.retain(|memory| memory.replayed.max_txn.is_none_or(|version| version > highest));
        let logged = memory.iter().map(|memory| memory.replayed.max_version).max().unwrap_or_default();
        Ok(State { tables: listed, memory, version: highest.max(logged), value_logs, first })
    }

    /// The value logs that are there, and which files they are.
    pub(super) fn value_logs(&self) -> Result<BTreeMap<u32, Identity>> {
        let mut found = BTreeMap::new();
        for fid in names::value_logs(self.dir)? {
            if let Some(about) = Identity::at(&names::value_log(self.dir, fid))? {
                found.insert(fid, about);
            }
        }
        Ok(found)
    }

    fn manifest(&self) -> Result<Opened> {
        let path = names::manifest(self.dir);
        self.patiently(|| {
            let mut file = open_manifest(self.dir)?;
            let bytes = read_rest(&mut file, 0, &path)?;
            let inode = Identity::of(&file, &path)?.inode;
            Ok(Opened { file, inode, manifest: manifest::read(&bytes, &path)? })
        })
    }

    /// Repeats what found a MANIFEST that a node may just be writing to.
    fn patiently<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        let mut tries = 0;
        loop {
            match read() {
                Err(error) if self.live && error.kind() == Kind::Damaged && tries < AGAIN => {
                    tries += 1;
                    self.progress.check()?;
                    std::thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }

    /// Step 3: adds to `tables` what memtables have become since.
    fn follow(&self, first: &Opened, tables: &mut BTreeMap<u64, TableInfo>) -> Result<(), Failure> {
        for record in self.since(first)? {
            if record.only_deletes() {
                return gone("tables were dropped");
            }
            // Whoever compacts reads its inputs to the end first, so a number that comes again is that of another table.
            if let Some(id) = record.created().find(|id| tables.contains_key(id)) {
                return Err(Failure::Gone(format!("table {id} is another one now"), Some(id)));
            }
            if let Some((id, info)) = record.flushed() {
                tables.insert(id, info);
            }
        }
        Ok(())
    }

    /// Was everything dropped since? That takes the logs of memtables first, and only then says so in the MANIFEST: who looked in between
    /// saw neither those commits nor that they went.
    pub(super) fn still(&self, state: &State) -> Result<(), Failure> {
        if !self.live {
            return Ok(());
        }
        let mut there: BTreeSet<u64> = state.first.manifest.tables.keys().copied().collect();
        for record in self.since(&state.first)? {
            for change in &record.changes {
                match change {
                    Change::Create(id, _) => there.insert(*id),
                    Change::Delete(id) => there.remove(id),
                };
            }
            if there.is_empty() && record.only_deletes() {
                return gone("everything was dropped");
            }
        }
        Ok(())
    }

    /// What was appended to the MANIFEST since it was read.
    fn since(&self, first: &Opened) -> Result<Vec<Record>, Failure> {
        let path = names::manifest(self.dir);
        let rewritten = "the MANIFEST was rewritten";
        let followed = self.patiently(|| {
            let mut file = open_manifest(self.dir)?;
            let about = Identity::of(&file, &path)?;
            if about.inode != first.inode || about.len < first.manifest.end {
                return Ok(None);
            }
            let bytes = read_rest(&mut file, first.manifest.end, &path)?;
            let later = first.manifest.clone().follow(&bytes).map_err(|error| error.at_path(&path))?;
            Ok(Some(later))
        })?;
        let Some(later) = followed else { return gone(rewritten) };
        // While the first one is open its inode is nobody else's.
        if Identity::at(&path)?.map(|about| about.inode) != Some(Identity::of(&first.file, &path)?.inode) {
            return gone(rewritten);
        }
        Ok(later)
    }

    /// What has happened in the memtable of this number; `None` when it has become a table, or has nothing.
    fn memory(&self, fid: u64) -> Result<Option<Memory>, Failure> {
        let path = names::memory_log(self.dir, fid);
        for _ in 0..AGAIN {
            let blob = match Blob::open(&path) {
                Ok(blob) => blob,
                Err(error) if error.kind() == Kind::Missing => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let read = self.replay(&blob, fid);
            let now = blob.len_now()?;
            match read {
                Ok(memory) if memory.replayed.end <= now || now == blob.len() => {
                    return Ok((memory.replayed.entries > 0).then_some(memory));
                }
                // It was emptied: it has become a table.
                _ if now == 0 => return Ok(None),
                Err(error) if now == blob.len() || error.kind() != Kind::Damaged => return Err(error.into()),
                // A node that starts cuts a log behind its last commit.
                _ => self.progress.check()?,
            }
        }
        gone(format!("log {fid} changed all the time"))
    }

    fn replay(&self, blob: &Blob, fid: u64) -> Result<Memory> {
        let replayed = wal::replay(blob, self.progress)?;
        let sorted = wal::tables(blob, replayed.end, self.scratch, self.progress, self.wanted)?;
        let open = |blob| Table::open(blob, Compression::None);
        let tables = sorted.into_iter().map(open).collect::<Result<_>>()?;
        Ok(Memory { fid, replayed, tables })
    }

    fn table(&self, id: u64, info: TableInfo) -> Result<Listed, Failure> {
        let path = names::table(self.dir, id);
        let Some(about) = Identity::at(&path)?.filter(|about| !self.live || about.len > 0) else {
            if self.live {
                return Err(Failure::Gone(format!("table {id} has gone"), Some(id)));
            }
            return Err(missing_table(id, &path).into());
        };
        match self.known.open(id, info, &path, about) {
            Ok(table) => Ok(Listed { id, info, path, about, table }),
            Err(error) => Err(self.blame(error, &[(id, &path, about)])),
        }
    }

    /// Is it an error, or has one of these files gone?
    pub(super) fn blame(&self, error: Error, files: &[(u64, &Path, Identity)]) -> Failure {
        if self.live && matches!(error.kind(), Kind::Damaged | Kind::Missing) {
            for (id, path, about) in files {
                if Identity::at(path).is_ok_and(|now| now != Some(*about)) {
                    return Failure::Gone(format!("table {id} has gone"), Some(*id));
                }
            }
        }
        Failure::Error(error)
    }

    /// A table is not there: does the MANIFEST still say that it is?
    pub(super) fn lacks(&self, id: u64) -> Result<bool> {
        let listed = self.manifest()?.manifest.tables.contains_key(&id);
        Ok(listed && Identity::at(&names::table(self.dir, id))?.is_none_or(|about| about.len == 0))
    }
}

/// The error that says that a table is not there.
pub(super) fn missing_table(id: u64, path: &Path) -> Error {
    Error::damaged(format!("expected table {id}, which MANIFEST lists, found no such file")).at_path(path)
}

/// Opens the MANIFEST.
pub(super) fn open_manifest(dir: &Path) -> Result<std::fs::File> {
    open_quietly(&names::manifest(dir)).map_err(|error| match error.kind() {
        Kind::Denied => {
            error.with_hint("Badger lets only the node's own user read it: run evbackup as that user")
        }
        Kind::Missing => {
            error.with_hint("expected a Badger directory: the one that holds MANIFEST and the .sst files")
        }
        _ => error,
    })
}

fn read_rest(file: &mut std::fs::File, from: u64, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| file.take(manifest::MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::from_io(error, "read it", path))?;
    if bytes.len() as u64 > manifest::MAX {
        let what = format!("expected a MANIFEST of at most {} bytes, found a longer one", manifest::MAX);
        return Err(Error::unsupported(what).at_path(path));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
