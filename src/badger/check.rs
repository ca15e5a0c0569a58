//! Everything that is wrong with a directory, not just the first thing.
//!
//! | Part | What is held against what |
//! |---|---|
//! | KEYREGISTRY, MANIFEST | their checksums; a last record of MANIFEST that is cut was never there |
//! | tables | all that MANIFEST lists are there, and no others; every block against its checksum, its place in the index, and the order of keys; versions against the highest one that the index names; the Bloom filter against the keys |
//! | levels | below level 0, tables do not overlap |
//! | logs of memtables | a torn end is normal, an end in the middle is not |
//! | value logs | every record against its checksum; a torn end is normal in the last one |
//! | values | of the newest version of every key, the value is where its pointer leads |

use super::blob::Blob;
use super::log::{HEADER, Records, check_header};
use super::manifest::{self, Manifest};
use super::merge::{Rank, Span, View, Which};
use super::merged::LostValue;
use super::meta::Pointer;
use super::table::{Table, bloom};
use super::vlog::Vlogs;
use super::{key, names, registry, wal};
use crate::base::durable::DirLock;
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Entry, META_DELETE, Source as _};
use crate::error::{Error, Kind, Result};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;

/// Badger's levels are numbered up to here; more make it panic.
const LAST_LEVEL: u8 = 6;
/// What is searched for bytes at once.
const WINDOW: usize = 256 << 10;

/// A part of a directory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Part {
    /// `KEYREGISTRY`.
    Registry,
    /// `MANIFEST`.
    Manifest,
    /// A table, or a table that is not there.
    Table,
    /// How tables lie in a level.
    Level,
    /// The log of a memtable.
    Log,
    /// A value log.
    ValueLog,
    /// The value of a key.
    Value,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Damage {
    /// Which part of the directory it is in.
    pub part: Part,
    /// What was expected and found, with file and byte.
    pub error: Error,
    /// The user key that it is about, or that a damaged block begins with.
    pub key: Option<Vec<u8>>,
    /// Nothing is lost by it: a node only stumbles.
    pub harmless: bool,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Checked {
    /// How many tables.
    pub tables: u64,
    /// How many entries in tables and logs, each copy of one counted.
    pub entries: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// The highest version.
    pub max_version: u64,
    /// Superseded versions whose values are gone: normal where a node collects garbage.
    pub dropped: u64,
}

/// What is shown the entries of a directory.
pub type See<'a> = &'a mut dyn FnMut(&Entry<'_>) -> Result<()>;

/// Checks a directory that no node has open, and keeps nodes from opening it meanwhile. `found` is told everything that is wrong; `see`
/// is shown the entries, in the order of a source, as far as they can be read. Without it values are not looked for.
///
/// What expires is judged at `now` (Unix seconds). Logs are sorted into nameless files in `scratch`.
pub fn check<'a>(
    directory: &'a Path,
    now: u64,
    scratch: &'a Scratch,
    progress: &'a Progress,
    found: &'a mut dyn FnMut(Damage),
    see: Option<See<'a>>,
) -> Result<Checked> {
    let _lock = DirLock::shared(directory)?;
    let mut check = Check {
        directory,
        scratch,
        progress,
        found,
        see,
        done: Checked::default(),
        tables: Vec::new(),
        pointed: BTreeMap::new(),
    };
    check.registry()?;
    check.manifest()?;
    check.logs()?;
    check.value_logs(now)?;
    Ok(check.done)
}

struct Check<'a> {
    directory: &'a Path,
    scratch: &'a Scratch,
    progress: &'a Progress,
    found: &'a mut dyn FnMut(Damage),
    see: Option<See<'a>>,
    done: Checked,
    /// Those without damage.
    tables: Vec<(Rank, Table)>,
    /// Up to which byte of each value log entries point.
    pointed: BTreeMap<u32, u64>,
}

impl Check<'_> {
    /// Goes on after damage; not after what would meet us again everywhere.
    fn tell(&mut self, part: Part, error: Error, key: Option<&[u8]>) -> Result<()> {
        if matches!(error.kind(), Kind::Cancelled | Kind::Unsupported | Kind::Denied | Kind::NoSpace) {
            return Err(error);
        }
        (self.found)(Damage { part, error, key: key.map(<[u8]>::to_vec), harmless: false });
        Ok(())
    }

    fn registry(&mut self) -> Result<()> {
        match registry::id_of(self.directory) {
            Ok(_) => Ok(()),
            Err(error) => self.tell(Part::Registry, error, None),
        }
    }

    fn manifest(&mut self) -> Result<()> {
        let path = names::manifest(self.directory);
        let manifest = Blob::open(&path).and_then(|blob| {
            if blob.len() > manifest::MAX {
                let what = format!("expected at most {} bytes, found {}", manifest::MAX, blob.len());
                return Err(Error::damaged(what).at_path(&path));
            }
            let mut bytes = vec![0; usize::try_from(blob.len()).unwrap_or_default()];
            blob.read(0, &mut bytes)?;
            self.done.bytes += blob.len();
            manifest::read(&bytes, &path)
        });
        match manifest {
            Ok(manifest) => self.levels(&manifest),
            Err(error) => self.tell(Part::Manifest, error, None),
        }
    }

    /// The tables, and how they lie in their levels.
    fn levels(&mut self, manifest: &Manifest) -> Result<()> {
        let mut levels: BTreeMap<u8, Vec<Table>> = BTreeMap::new();
        for (id, info) in &manifest.tables {
            let path = names::table(self.directory, *id);
            if info.level > LAST_LEVEL {
                let what = format!("expected a table of level 0 to {LAST_LEVEL}, found level {}", info.level);
                self.tell(Part::Manifest, Error::damaged(what).at_path(&path), None)?;
            }
            self.done.tables += 1;
            let opened = Blob::at(&path).and_then(|blob| Table::open_leniently(blob, info.compression));
            let table = match opened {
                // The walk meets the damage of the last block again.
                Ok((table, _)) => table,
                Err(error) if error.kind() == Kind::Missing => {
                    let what = "expected a table that MANIFEST lists, found no such file";
                    self.tell(Part::Table, Error::damaged(what).at_path(&path), None)?;
                    continue;
                }
                Err(error) => {
                    self.tell(Part::Table, error, None)?;
                    continue;
                }
            };
            self.done.bytes += table.blob().len();
            self.done.max_version = self.done.max_version.max(table.max_version());
            levels.entry(info.level).or_default().push(table.clone());
            if self.table(&table)? {
                self.tables.push((Rank::table(info.level, *id), table));
            }
        }
        self.unlisted(manifest)?;
        for (level, mut tables) in levels.into_iter().filter(|(level, _)| *level > 0) {
            tables.sort_by(|one, other| key::compare(one.smallest(), other.smallest()));
            for (one, other) in tables.iter().zip(tables.iter().skip(1)) {
                if key::compare(one.biggest(), other.smallest()) != Ordering::Less {
                    let what = format!(
                        "expected a table of level {level} that begins behind key {}, where {} ends, found key {}",
                        key::shown(one.biggest()),
                        one.path().file_name().unwrap_or_default().display(),
                        key::shown(other.smallest())
                    );
                    let key = key::split(other.smallest()).ok().map(|(key, _)| key);
                    self.tell(Part::Level, Error::damaged(what).at_path(other.path()), key)?;
                }
            }
        }
        Ok(())
    }

    /// Tables that MANIFEST does not list: a crash left them, or MANIFEST has lost them.
    fn unlisted(&mut self, manifest: &Manifest) -> Result<()> {
        for id in names::tables(self.directory)? {
            if !manifest.tables.contains_key(&id) {
                let path = names::table(self.directory, id);
                let error =
                    Error::damaged("expected a table that MANIFEST lists, found one that it does not")
                        .at_path(path)
                        .with_hint("it counts for nothing, and Badger deletes it at its next start");
                (self.found)(Damage { part: Part::Table, error, key: None, harmless: true });
            }
        }
        Ok(())
    }

    /// Every block and entry of a table; is it sound?
    fn table(&mut self, table: &Table) -> Result<bool> {
        let (mut sound, mut too_new, mut filtered) = (true, false, false);
        let index = table.index()?;
        let mut walk = table.walk()?;
        let mut block = usize::MAX;
        let mut more = walk.advance();
        loop {
            match more.and_then(|more| walk.load().map(|()| more)) {
                Ok(false) => return Ok(sound),
                Ok(true) => {}
                Err(error) => {
                    sound = false;
                    let key = index.block(walk.block()).ok().and_then(|at| key::split(at.key).ok());
                    self.tell(Part::Table, error, key.map(|(key, _)| key))?;
                    more = walk.skip_block();
                    continue;
                }
            }
            if walk.block() != block {
                block = walk.block();
                self.progress.check()?;
            }
            self.done.entries += 1;
            let (user_key, version) = key::split(walk.key())?;
            if version > table.max_version() && !std::mem::replace(&mut too_new, true) {
                let what = format!("expected no version above {}, found {version}", table.max_version());
                self.tell(Part::Table, walk.damaged(&Error::damaged(what)), Some(user_key))?;
            }
            let hidden =
                !index.filter().is_empty() && !bloom::may_contain(index.filter(), bloom::hash(user_key));
            if hidden && !std::mem::replace(&mut filtered, true) {
                let what =
                    format!("expected a filter with key {}, found one without", key::shown(walk.key()));
                self.tell(Part::Table, walk.damaged(&Error::damaged(what)), Some(user_key))?;
            }
            let value = walk.value();
            if value.is_pointer() && value.meta & META_DELETE == 0 {
                match Pointer::read(value.bytes) {
                    Ok(pointer) => {
                        let end = u64::from(pointer.offset) + u64::from(pointer.len);
                        let most = self.pointed.entry(pointer.fid).or_default();
                        *most = end.max(*most);
                    }
                    Err(error) => {
                        sound = false;
                        self.tell(Part::Table, walk.damaged(&error), Some(user_key))?;
                    }
                }
            }
            more = walk.advance();
        }
    }

    /// The logs of memtables: what they hold becomes tables.
    fn logs(&mut self) -> Result<()> {
        for fid in names::memory_logs(self.directory)? {
            if let Err(error) = self.log(fid, &names::memory_log(self.directory, fid)) {
                self.tell(Part::Log, error, None)?;
            }
        }
        Ok(())
    }

    fn log(&mut self, fid: u64, path: &Path) -> Result<()> {
        let blob = Blob::open(path)?;
        self.done.bytes += blob.len();
        if blob.len() == 0 {
            self.stumble(Part::Log, path);
            return Ok(());
        }
        let sorting = wal::Sorting { live: false, scratch: self.scratch, wanted: &|_, _| true };
        let (replayed, tables) = wal::read(&blob, wal::Replayed::default(), None, sorting, self.progress)?;
        self.done.max_version = self.done.max_version.max(replayed.max_version);
        // Its table is there: only an iterator kept the log.
        if replayed.max_txn.is_some_and(|txn| self.tables.iter().any(|(_, table)| table.max_version() >= txn))
        {
            return Ok(());
        }
        for (part, blob) in tables.into_iter().enumerate() {
            let table = Table::open(blob, super::table::Compression::None)?;
            if self.table(&table)? {
                self.tables.push((Rank::memory(fid, part), table));
            }
        }
        Ok(())
    }

    /// A file without bytes: a crash has left it.
    fn stumble(&mut self, part: Part, path: &Path) {
        let what = format!("expected {HEADER} bytes of a header, found an empty file");
        let error = Error::damaged(what).at_path(path).with_hint(
            "nothing is lost; Badger refuses to open the directory once and opens it when tried again",
        );
        (self.found)(Damage { part, error, key: None, harmless: true });
    }

    /// The value logs, and whether the values that are visible are in them.
    fn value_logs(&mut self, now: u64) -> Result<()> {
        let mut files = BTreeMap::new();
        let there = names::value_logs(self.directory).or_else(|error| {
            self.tell(Part::ValueLog, error, None)?;
            Ok::<_, Error>(Vec::new())
        })?;
        let last = there.last().copied();
        for fid in there {
            match Blob::open(&names::value_log(self.directory, fid)) {
                Ok(blob) => {
                    self.done.bytes += blob.len();
                    if let Err(error) = self.value_log(&blob, fid, Some(fid) == last) {
                        self.tell(Part::ValueLog, error, None)?;
                    }
                    files.insert(fid, blob);
                }
                Err(error) => self.tell(Part::ValueLog, error, None)?,
            }
        }
        let Some(see) = self.see.take() else { return Ok(()) };
        let vlogs = Vlogs::new(self.directory, files);
        let view = View::new(std::mem::take(&mut self.tables), vlogs, now);
        let mut entries = view.source(&Span::all(), 0, u64::MAX, Which::All)?;
        let found = &mut *self.found;
        let mut without = |key: &[u8], value: LostValue| {
            found(Damage { part: Part::Value, error: value.error, key: Some(key.to_vec()), harmless: false });
            Ok(())
        };
        while entries.advance_or(&mut without)? {
            self.progress.check()?;
            see(&entries.entry())?;
        }
        self.done.dropped = view.dropped();
        Ok(())
    }

    fn value_log(&mut self, blob: &Blob, fid: u32, last: bool) -> Result<()> {
        if blob.len() == 0 {
            self.stumble(Part::ValueLog, blob.path());
            return Ok(());
        }
        check_header(blob)?;
        let mut records = Records::new(blob, HEADER as u64, blob.len());
        while let Some((_, len)) = records.peek()? {
            records.pass(len);
            self.progress.check()?;
        }
        let end = records.position();
        let pointed = self.pointed.get(&fid).copied().unwrap_or_default();
        let torn = written(blob, end)?;
        if torn.is_some() && (!last || pointed > end) {
            let what = format!("expected a record at byte {end}, found none, and bytes behind it");
            return Err(Error::damaged(what).at_path(blob.path()).at_offset(end));
        }
        Ok(())
    }
}

/// Where the first byte that is not 0 stands, at or behind `from`.
fn written(blob: &Blob, mut from: u64) -> Result<Option<u64>> {
    let mut window = vec![0; WINDOW];
    while let Some((start, end)) = blob.next_data(from)? {
        let room = usize::try_from(end - start).unwrap_or(WINDOW).min(WINDOW);
        let found = blob.read_some(start, window.get_mut(..room).unwrap_or_default())?;
        let bytes = window.get(..found).unwrap_or_default();
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            return Ok(Some(start + at as u64));
        }
        if found == 0 {
            break;
        }
        from = start + found as u64;
    }
    Ok(None)
}
