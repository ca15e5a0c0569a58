//! One state of a directory that a node goes on writing to.
//!
//! 1. Read the MANIFEST.
//! 2. Read the memtables' logs, in the order of their numbers.
//! 3. Read what was appended to the MANIFEST since. Tables that memtables became in between count; compactions in between do not.
//! 4. Copy those tables, and the value logs. If one of them has gone, begin again.
//!
//! **Nothing that was acknowledged before is missing.** It is in a table that 1 lists, or in a log that 2 finds; if that log has gone, its
//! table is in 3. **It is a prefix of the commits.** Memtables become tables in their order, and logs are written one after the other, so all
//! logs but the last one read are final, and that one gives a prefix; so of the numbers below it none may name a log that was not read, as
//! it can where a node that was started again counts from 1. **Nothing comes back.** Only compactions drop entries, and none that
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
//! | stops, starts                                 | logs have become tables; a number that was used again names another file:  |
//! |                                               | if that is not one of the logs that were read, but one before them, again  |
//! | is replaced by another directory              | another id: an error                                                       |
//!
//! Sources: `manifest.go`, `memtable.go`, `levels.go`, `value.go` of Badger v4.5.1; ristretto's `z/file.go` (`MmapFile.Delete`).

use super::blob::Blob;
use super::log::HEADER;
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
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A record that is being appended is whole by then.
const AGAIN: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);
/// Who has read the logs so often comes back: a backup reads them twice, for the proof of its base and for itself.
const READINGS: u32 = 2;
/// A part of a log that is at most so many times as long as what follows it is joined with that.
const PARTS_APART: u64 = 4;

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

/// Which log it is, whatever its number: its inode, and what Badger has drawn for its head. `None` where there is no head yet.
type LogId = ((u64, u64), Option<[u8; IV]>);

/// What is at the front of a log: the id of a data key, then this many bytes, drawn when it was made.
const IV: usize = 12;

/// A part of a log, in order.
#[derive(Clone, Debug)]
struct Part {
    /// What had happened before it.
    before: Replayed,
    /// Where it ends.
    end: u64,
    tables: Vec<Table>,
}

/// What a log has held so far, all of it.
#[derive(Clone, Debug)]
struct Log {
    which: LogId,
    replayed: Replayed,
    parts: Vec<Part>,
}

/// What was read before: the tables that were opened, since what an index says is needed each time and does not change while the file
/// is the same; and, for who comes back, what the logs held, which only grow.
#[derive(Debug, Default)]
pub(super) struct Known {
    tables: Mutex<HashMap<u64, (Identity, Compression, Table)>>,
    recent: Recent,
    logs: Mutex<HashMap<u64, Log>>,
    /// How often the logs were read.
    readings: AtomicU32,
    shares: Arc<OnceLock<bool>>,
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

    /// Does the file system share bytes between the directory and its copies? Once it is known.
    pub(super) fn shares(&self) -> Arc<OnceLock<bool>> {
        self.shares.clone()
    }

    fn logs(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (mut memory, mut read) = (Vec::new(), BTreeMap::new());
        let again = self.known.readings.fetch_add(1, Ordering::Relaxed) >= READINGS;
        for fid in names::memory_logs(self.dir)? {
            (self.pause)(Step::Log);
            self.progress.check()?;
            if let Some((which, found)) = self.memory(fid, again)? {
                read.insert(fid, which);
                memory.extend(found);
            }
        }
        if self.live {
            self.known.logs().retain(|fid, log| read.get(fid) == Some(&log.which));
            self.none_between(&memory, &read)?;
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

    /// Below the last log that something was read of, is there none that was not read?
    fn none_between(&self, memory: &[Memory], read: &BTreeMap<u64, LogId>) -> Result<(), Failure> {
        let Some(last) = memory.last() else { return Ok(()) };
        for fid in names::memory_logs(self.dir)?.into_iter().filter(|fid| *fid < last.fid) {
            let blob = match Blob::open(&names::memory_log(self.dir, fid)) {
                Ok(blob) => blob,
                Err(error) if error.kind() == Kind::Missing => continue,
                Err(error) => return Err(error.into()),
            };
            // What is empty has become a table.
            if blob.len() > 0 && read.get(&fid) != Some(&log_id(&blob)?) {
                return gone(format!("the node was started again: log {fid} is another one now"));
            }
        }
        Ok(())
    }

    /// Which log has this number, and what has happened in its memtable, if anything. `None` when it has become a table. For who comes back
    /// `again`, it is kept.
    fn memory(&self, fid: u64, again: bool) -> Result<Option<(LogId, Option<Memory>)>, Failure> {
        let path = names::memory_log(self.dir, fid);
        for _ in 0..AGAIN {
            let blob = match Blob::open(&path) {
                Ok(blob) => blob,
                Err(error) if error.kind() == Kind::Missing => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let which = log_id(&blob)?;
            let read =
                if again && self.live { self.read_on(&blob, fid, which) } else { self.read_all(&blob) };
            let now = blob.len_now()?;
            match read {
                Ok((replayed, tables)) if replayed.end <= now || now == blob.len() => {
                    let memory = (replayed.entries > 0).then_some(Memory { fid, replayed, tables });
                    return Ok(Some((which, memory)));
                }
                // It was emptied: it has become a table.
                _ if now == 0 => return Ok(None),
                Err(error) if now == blob.len() || error.kind() != Kind::Damaged => return Err(error.into()),
                // A node that starts cuts a log behind its last commit.
                _ => self.nap()?,
            }
        }
        gone(format!("log {fid} changed all the time"))
    }

    fn nap(&self) -> Result<()> {
        self.progress.check()?;
        std::thread::sleep(PAUSE);
        Ok(())
    }

    /// What is wanted of a log.
    fn read_all(&self, blob: &Blob) -> Result<(Replayed, Vec<Table>)> {
        let sorting = wal::Sorting { live: self.live, scratch: self.scratch, wanted: self.wanted };
        let (replayed, tables) = wal::read(blob, Replayed::default(), None, sorting, self.progress)?;
        Ok((replayed, opened(tables)?))
    }

    /// All of a log, of which only that is read that nobody has read before.
    fn read_on(&self, blob: &Blob, fid: u64, which: LogId) -> Result<(Replayed, Vec<Table>)> {
        let known = self.known.logs().get(&fid).cloned();
        let known = known.filter(|log| log.which == which && log.replayed.end <= blob.len());
        let mut log = known.unwrap_or(Log { which, replayed: Replayed::default(), parts: Vec::new() });
        let sorting = wal::Sorting { live: self.live, scratch: self.scratch, wanted: &|_, _| true };
        let (before, (replayed, tables)) =
            (log.replayed, wal::read(blob, log.replayed, None, sorting, self.progress)?);
        if replayed.end > before.end {
            log.replayed = replayed;
            log.parts.push(Part { before, end: replayed.end, tables: opened(tables)? });
            self.join(blob, &mut log)?;
            // Should the file have become another one meanwhile, nobody finds this any more.
            self.known.logs().insert(fid, log.clone());
        }
        Ok((replayed, log.parts.into_iter().flat_map(|part| part.tables).collect()))
    }

    /// Makes one part of the last ones, as long as the one before is not much longer than all behind it: so each byte is read a few
    /// times however often somebody comes, and the parts stay few.
    fn join(&self, blob: &Blob, log: &mut Log) -> Result<()> {
        let end = log.replayed.end;
        let mut first = log.parts.len().saturating_sub(1);
        while let Some(part) = first.checked_sub(1).and_then(|at| log.parts.get(at)) {
            if part.end - part.before.end > (end - part.end).saturating_mul(PARTS_APART) {
                break;
            }
            first -= 1;
        }
        let Some(before) =
            log.parts.get(first).map(|part| part.before).filter(|_| first + 1 < log.parts.len())
        else {
            return Ok(());
        };
        let sorting = wal::Sorting { live: self.live, scratch: self.scratch, wanted: &|_, _| true };
        let (found, tables) = wal::read(blob, before, Some(end), sorting, self.progress)?;
        if found.end != end {
            let at = found.end;
            let what =
                format!("expected the records that were there up to byte {end}, found the end at byte {at}");
            return Err(Error::damaged(what).at_path(blob.path()).at_offset(at));
        }
        log.parts.truncate(first);
        log.parts.push(Part { before, end, tables: opened(tables)? });
        Ok(())
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

/// Which log it is.
fn log_id(blob: &Blob) -> Result<LogId> {
    let mut head = [0; HEADER];
    let found = blob.read_some(0, &mut head)?;
    let iv = head.get(..found).and_then(|head| head.last_chunk::<IV>().filter(|_| found == HEADER));
    Ok((blob.inode()?, iv.copied().filter(|iv| *iv != [0; IV])))
}

/// Opens what was sorted.
fn opened(sorted: Vec<Blob>) -> Result<Vec<Table>> {
    sorted.into_iter().map(|blob| Table::open(blob, Compression::None)).collect()
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
