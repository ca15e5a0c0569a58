//! Taking a snapshot of a directory that a node goes on writing to: what may vanish is copied or read, until one attempt finds all of it.
//!
//! Copied are the tables with something above [`Need::since`], and the value logs that their entries point to. Whatever else is asked for,
//! single keys and the keys outside the block families, is read from the tables as they are, and kept. A table whose file has not
//! changed since it was copied is not copied again by the next attempt.

use super::blob::Blob;
use super::frozen::{Frozen, Listing, LiveKeys, keep, memory_tables, sizes};
use super::live::{Failure, Known, Listed, Look, State, Step, gone, missing_table};
use super::merge::{Rank, Span, View, Which};
use super::meta::Pointer;
use super::names;
use super::pace::Pace;
use super::registry;
use super::stage::Stage;
use super::table::Table;
use super::vlog::Vlogs;
use crate::badger::key;
use crate::base::files::Identity;
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{META_VALUE_POINTER, Need};
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A node that compacts or flushes all the time lets one of so many attempts through, or something is wrong.
const ATTEMPTS: u32 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Who has copied so many times what there was, and so many bytes more, will not catch up: the node makes tables faster than they are copied.
const TIMES: u64 = 4;
const MORE: u64 = 1 << 30;
/// A table that is not there although the MANIFEST says so, as often as this, is missing.
const LACKS: u32 = 3;
/// A value log that holds nothing.
const EMPTY_LOG: u64 = super::log::HEADER as u64;
/// ev-node's tip, which can always be asked for.
const TIP: &[u8] = b"/0/t";

/// What a snapshot is taken with.
pub(super) struct Taking<'a> {
    pub(super) dir: &'a Path,
    /// Which database is expected there; of one without a `KEYREGISTRY`: nothing.
    pub(super) id: &'a [u8],
    pub(super) known: &'a Known,
    pub(super) scratch: &'a Scratch,
    pub(super) max_rate: Option<u64>,
    pub(super) need: &'a Need,
    pub(super) progress: &'a Progress,
    pub(super) pause: &'a dyn Fn(Step),
}

/// Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

/// What attempts have copied so far.
struct Copies {
    stage: Stage,
    /// How fast anything is read.
    pace: Option<Pace>,
    tables: HashMap<u64, (Identity, Blob)>,
    /// Value logs, and whether each was not the newest one when it was copied: nothing is added to those.
    value_logs: BTreeMap<u32, ((u64, u64), Blob, bool)>,
    /// What the first attempt had to copy.
    whole: Option<u64>,
}

impl Taking<'_> {
    /// Attempts it until nothing has vanished in between.
    pub(super) fn run(&self) -> Result<Frozen> {
        let pace = self.max_rate.filter(|rate| *rate > 0).map(|rate| Pace::new(rate, self.progress));
        let mut copies = Copies {
            stage: Stage::new(self.dir, self.scratch, pace.clone(), self.known.shares()),
            pace,
            tables: HashMap::new(),
            value_logs: BTreeMap::new(),
            whole: None,
        };
        let (mut pause, mut lacking, mut last) = (FIRST_PAUSE, (0, 0), String::new());
        let mut attempt = 0;
        while attempt < ATTEMPTS && !copies.hopeless(MORE) {
            attempt += 1;
            let (why, table) = match self.attempt(&mut copies) {
                Ok(frozen) => return Ok(frozen),
                Err(Failure::Error(error)) => return Err(error),
                Err(Failure::Gone(why, table)) => (why, table),
            };
            tracing::info!(dir = %self.dir.display(), attempt, why, "the node has changed the directory, reading it again");
            last = why;
            match table {
                Some(id) if self.look(&|_, _| false).lacks(id)? => {
                    lacking = if lacking.0 == id { (id, lacking.1 + 1) } else { (id, 1) };
                    if lacking.1 == LACKS {
                        return Err(missing_table(id, &names::table(self.dir, id)));
                    }
                }
                _ => lacking = (0, 0),
            }
            self.nap(pause)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        let what = format!(
            "expected a directory that stays the same for a moment, found it changed {attempt} times; last: {last}"
        );
        let hint = match self.max_rate {
            Some(_) => {
                "let more bytes a second be copied, try again when the node compacts less, or stop it and read the directory offline"
            }
            None => "try again when the node compacts less, or stop it and read the directory offline",
        };
        Err(Error::unavailable(what).at_path(self.dir).with_hint(hint))
    }

    fn nap(&self, pause: Duration) -> Result<()> {
        self.progress.check()?;
        std::thread::sleep(pause);
        self.progress.check()
    }

    fn look<'a>(&'a self, wanted: &'a dyn Fn(&[u8], u64) -> bool) -> Look<'a> {
        Look {
            dir: self.dir,
            live: true,
            known: self.known,
            scratch: self.scratch,
            progress: self.progress,
            wanted,
            pause: self.pause,
        }
    }

    /// Will anybody ask for this?
    fn wants(&self, key: &[u8], version: u64, keys: &HashSet<&[u8]>) -> bool {
        version > self.need.since
            || key == TIP
            || keys.contains(key)
            || self.need.listed.is_some_and(|families| !families.iter().any(|family| key.starts_with(family)))
    }

    fn attempt(&self, copies: &mut Copies) -> Result<Frozen, Failure> {
        self.same_database()?;
        let now = now();
        let keys: HashSet<&[u8]> = self.need.keys.iter().map(Vec::as_slice).collect();
        let wanted = |key: &[u8], version: u64| self.wants(key, version, &keys);
        let look = self.look(&wanted);
        let state = look.state()?;
        let all = self.need.since == 0;
        let mut chosen: Vec<&Listed> = state
            .tables
            .iter()
            .filter(|listed| all || listed.table.max_version() > self.need.since)
            .collect();
        // The tables of the upper levels are the ones that live shortest.
        chosen.sort_by_key(|listed| (listed.info.level, listed.id));
        copies.forget_all_but(&chosen);
        let shares = (all || !chosen.is_empty()) && copies.stage.shares(&self.a_file(&state, &chosen))?;
        let mut logs = BTreeMap::new();
        if all && shares {
            logs = self.copy_value_logs(copies, None)?;
        } else {
            let room = self.room(&look, copies, &chosen)?;
            copies.whole.get_or_insert(room);
            if room > 0 {
                copies.stage.require(room)?;
            }
        }
        let mut tables = Vec::with_capacity(chosen.len());
        for listed in &chosen {
            (self.pause)(Step::Table);
            let rank = Rank::table(listed.info.level, listed.id);
            tables.push((rank, copies.table(listed, self.progress)?));
        }
        // Has one gone that may have been there when the logs of the memtables were read? Those were all that there were before, and all
        // from there on.
        let first_new = state.value_logs.keys().next_back().map_or(1, |fid| fid.saturating_add(1));
        let lost = if all {
            if !shares {
                logs = self.copy_value_logs(copies, None)?;
            }
            let newest = logs.keys().next_back().map_or(first_new, |fid| (*fid).max(first_new));
            let new = logs.range(first_new..newest).count();
            u32::try_from(new).unwrap_or(u32::MAX) < newest - first_new
                || state.value_logs.keys().any(|fid| !logs.contains_key(fid))
        } else {
            let pointed = self.pointed(&tables, &state)?;
            if !pointed.is_empty() {
                logs = self.copy_value_logs(copies, Some(&pointed))?;
            }
            pointed
                .iter()
                .filter(|fid| **fid >= first_new || state.value_logs.contains_key(fid))
                .any(|fid| !logs.contains_key(fid))
        };
        look.still(&state)?;
        self.same_database()?;
        tables.extend(memory_tables(&state));
        let view = View::new(tables, Vlogs::new(self.dir, logs), now).watched(self.progress);
        if lost {
            self.check_values(&view, &state)?;
        }
        let mut frozen = Frozen {
            view,
            version: state.version,
            since: self.need.since,
            answers: None,
            listed: self.need.listed.filter(|_| all).map_or(Listing::No, Listing::Later),
            sizes: sizes(&state),
        };
        if !all {
            (self.pause)(Step::Settle);
            if let Err(error) = self.settle(&look, &state, copies.pace.as_ref(), &mut frozen) {
                return Err(blame(&look, &state, error));
            }
            self.same_database()?;
        }
        Ok(frozen)
    }

    /// Is it still the database that was opened?
    fn same_database(&self) -> Result<()> {
        let found = registry::id_of(self.dir)?;
        if found.as_ref().map_or(&[][..], |id| id) == self.id {
            return Ok(());
        }
        let what = "expected the database that was opened, found another one in its place";
        Err(Error::mismatch(what).at_path(self.dir).with_hint("open the directory again"))
    }

    /// A file that may be copied, to see how that can be done.
    fn a_file(&self, state: &State, chosen: &[&Listed]) -> PathBuf {
        let table = chosen.first().map(|listed| listed.path.clone());
        let log = || state.value_logs.keys().next().map(|fid| names::value_log(self.dir, *fid));
        table.or_else(log).unwrap_or_else(|| names::manifest(self.dir))
    }

    /// What copies will take that are not there yet.
    fn room(&self, look: &Look<'_>, copies: &Copies, chosen: &[&Listed]) -> Result<u64> {
        let tables =
            chosen.iter().filter(|listed| !copies.has(listed)).map(|listed| listed.about.len).sum::<u64>();
        if self.need.since > 0 {
            return Ok(tables);
        }
        let logs = look.value_logs()?.into_keys().filter_map(|fid| {
            let about = std::fs::metadata(names::value_log(self.dir, fid)).ok()?;
            Some(about.len().min(about.blocks().saturating_mul(512)))
        });
        Ok(tables.saturating_add(logs.sum()))
    }

    /// Copies the value logs, or only some of them.
    fn copy_value_logs(
        &self,
        copies: &mut Copies,
        only: Option<&BTreeSet<u32>>,
    ) -> Result<BTreeMap<u32, Blob>, Failure> {
        let there = self.look(&|_, _| false).value_logs()?;
        let newest = there.keys().next_back().copied();
        copies.forget_logs_but(&there);
        let mut found = BTreeMap::new();
        for (fid, about) in there {
            if only.is_some_and(|only| !only.contains(&fid)) || about.len == 0 {
                continue;
            }
            if let Some((_, copy, _)) = copies.value_logs.get(&fid) {
                found.insert(fid, copy.clone());
                continue;
            }
            (self.pause)(Step::ValueLog);
            if let Some(copy) = copies.stage.value_log(&names::value_log(self.dir, fid), self.progress)? {
                if Some(fid) != newest && was_emptied(&copy)? {
                    copies.stage.drop_copy(&copy);
                    continue;
                }
                copies.value_logs.insert(fid, (about.inode, copy.clone(), Some(fid) != newest));
                found.insert(fid, copy);
            }
        }
        Ok(found)
    }

    /// The value logs that entries above [`Need::since`] point to.
    fn pointed(&self, tables: &[(Rank, Table)], state: &State) -> Result<BTreeSet<u32>> {
        let mut fids = BTreeSet::new();
        let there = self.look(&|_, _| false).value_logs()?;
        if there.values().all(|about| about.len <= EMPTY_LOG) && state.value_logs.is_empty() {
            return Ok(fids);
        }
        let memory = memory_tables(state);
        for (_, table) in tables.iter().cloned().chain(memory) {
            if table.max_version() <= self.need.since || table.facts().max_version == 0 {
                continue;
            }
            let mut walk = table.walk()?;
            let mut seen = 0_u64;
            while walk.advance()? {
                seen += 1;
                if seen.is_multiple_of(4096) {
                    self.progress.check()?;
                }
                if key::split(walk.key())?.1 <= self.need.since {
                    continue;
                }
                walk.load()?;
                let value = walk.value();
                if value.meta & META_VALUE_POINTER != 0 {
                    fids.insert(Pointer::read(value.bytes).map_err(|error| error.at_path(table.path()))?.fid);
                }
            }
        }
        Ok(fids)
    }

    /// A value log has gone since the tables were listed: is there a value that stood there and nowhere else?
    fn check_values(&self, view: &View, state: &State) -> Result<(), Failure> {
        let mut entries = view.source(&Span::all(), self.need.since, state.version, Which::Backup)?;
        let (mut lost, mut seen) = (None, 0_u64);
        // Damage in the copies of the tables is none of the node's doing: it is an error at once.
        while lost.is_none()
            && entries.advance_or(&mut |_, value| {
                lost.get_or_insert(value);
                Ok(())
            })?
        {
            seen += 1;
            if seen.is_multiple_of(1024) {
                self.progress.check()?;
            }
        }
        view.count_anew();
        lost.map_or(Ok(()), |value| gone(format!("a value log has gone: {}", value.error)))
    }

    /// Answers what else will be asked, while everything is there.
    fn settle(&self, look: &Look<'_>, state: &State, pace: Option<&Pace>, frozen: &mut Frozen) -> Result<()> {
        let table = |listed: &Listed| {
            if pace.is_some() { listed.table.paced(pace) } else { listed.table.clone() }
        };
        let mut tables: Vec<_> = state
            .tables
            .iter()
            .map(|listed| (Rank::table(listed.info.level, listed.id), table(listed)))
            .collect();
        tables.extend(memory_tables(state));
        let mut logs = BTreeMap::new();
        for (fid, about) in look.value_logs()? {
            let log = Blob::named_log(&names::value_log(self.dir, fid), about);
            logs.insert(fid, log.paced(pace));
        }
        let view = View::new(tables, Vlogs::new(self.dir, logs), frozen.view.now())
            .watched(self.progress)
            .remembering(self.known.recent());
        let mut answers = BTreeMap::from([(TIP.to_vec(), view.get(TIP, state.version)?)]);
        let (mut bytes, enough) = (0_usize, self.need.enough.unwrap_or(usize::MAX));
        for (number, key) in self.need.keys.iter().enumerate() {
            if bytes >= enough && number > 0 {
                break;
            }
            self.progress.check()?;
            let answer = view.get(key, state.version)?;
            bytes = bytes.saturating_add(answer.as_ref().map_or(0, |entry| entry.value.len()));
            answers.insert(key.clone(), answer);
        }
        frozen.answers = Some(answers);
        if let Some(families) = self.need.listed {
            let mut keys = LiveKeys::new(&view, state.version, families);
            frozen.listed = Listing::Found(keep(&mut keys, self.scratch, self.progress, view.now())?);
        }
        Ok(())
    }
}

/// Is it an error, or has the node taken a table or a value log away?
fn blame(look: &Look<'_>, state: &State, error: Error) -> Failure {
    let files: Vec<_> = state.tables.iter().map(|listed| (listed.id, &*listed.path, listed.about)).collect();
    match look.blame(error, &files) {
        Failure::Error(error) if matches!(error.kind(), Kind::Damaged | Kind::Missing) => {
            let now = look.value_logs().unwrap_or_default();
            let same = |(fid, inode): (&u32, &(u64, u64))| {
                now.get(fid).is_some_and(|about| about.inode == *inode && about.len > 0)
            };
            if state.value_logs.iter().all(same) {
                return Failure::Error(error);
            }
            Failure::Gone(format!("a value log has gone: {error}"), None)
        }
        failure => failure,
    }
}

/// Is it a value log of zeros behind its head? A node that is killed while it removes a log leaves one without bytes, which the next start
/// makes as long as a new one. One that was never written to is cut to its head at the next start.
fn was_emptied(log: &Blob) -> Result<bool> {
    if log.len() <= EMPTY_LOG {
        return Ok(false);
    }
    // Meta bits, user meta, and the first byte of the key's length, which no record has as zero.
    let mut first = [0; 3];
    let there = usize::try_from(log.len() - EMPTY_LOG).unwrap_or(usize::MAX).min(first.len());
    log.read(EMPTY_LOG, first.get_mut(..there).unwrap_or_default())?;
    Ok(first == [0; 3])
}

impl Copies {
    /// Was so much copied in vain that it will not come to an end? `more` bytes are always allowed.
    fn hopeless(&self, more: u64) -> bool {
        let whole = self.whole.unwrap_or_default();
        self.stage.copied() > whole.saturating_mul(TIMES).saturating_add(more)
    }

    fn has(&self, listed: &Listed) -> bool {
        self.tables.get(&listed.id).is_some_and(|(about, _)| *about == listed.about)
    }

    fn forget_all_but(&mut self, chosen: &[&Listed]) {
        let needed: HashMap<_, _> = chosen.iter().map(|listed| (listed.id, listed.about)).collect();
        let stage = &self.stage;
        self.tables.retain(|id, (about, copy)| {
            let keep = needed.get(id) == Some(about);
            if !keep {
                stage.drop_copy(copy);
            }
            keep
        });
    }

    /// Keeps the copies of value logs that are still the same.
    fn forget_logs_but(&mut self, there: &BTreeMap<u32, Identity>) {
        let stage = &self.stage;
        self.value_logs.retain(|fid, (inode, copy, whole)| {
            let keep = *whole && there.get(fid).is_some_and(|about| about.inode == *inode);
            if !keep {
                stage.drop_copy(copy);
            }
            keep
        });
    }

    fn table(&mut self, listed: &Listed, progress: &Progress) -> Result<Table, Failure> {
        let copy = match self.tables.get(&listed.id) {
            Some((about, copy)) if *about == listed.about => copy.clone(),
            _ => {
                let Some(copy) = self.stage.table(&listed.path, listed.about, progress)? else {
                    return Err(Failure::Gone(format!("table {} has gone", listed.id), Some(listed.id)));
                };
                self.tables.insert(listed.id, (listed.about, copy.clone()));
                copy
            }
        };
        Ok(Table::open(copy, listed.info.compression)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::durable::{Replace, write_file};

    #[test]
    fn who_does_not_catch_up_is_known_by_what_was_copied_in_vain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000001.sst");
        write_file(&path, &vec![7; 1 << 20], Replace::Never).unwrap();
        let about = Identity::at(&path).unwrap().unwrap();
        let stage = Stage::new(folder.path(), &Scratch::new(folder.path()), None, std::sync::Arc::default());
        let (tables, value_logs) = (HashMap::new(), BTreeMap::new());
        let mut copies = Copies { stage, pace: None, tables, value_logs, whole: None };
        assert!(!copies.hopeless(0));
        copies.whole = Some(1 << 20);
        for turn in 1..=TIMES + 1 {
            let copy = copies.stage.table(&path, about, &Progress::new()).unwrap().unwrap();
            copies.stage.drop_copy(&copy);
            assert_eq!((copies.hopeless(0), copies.hopeless(MORE)), (turn > TIMES, false));
        }
    }
}
