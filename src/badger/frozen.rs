//! A snapshot of a directory: what can be asked of one state of it.

use super::live::State;
use super::merge::{Rank, Span, View, Which};
use super::merged::Merged;
use super::meta::Value;
use super::table::{Builder, BuilderOptions, Compression, Table};
use super::vlog::Vlogs;
use super::{blob::Blob, key};
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Entry, OwnedEntry, Snapshot, Source};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;

/// A table of listed keys is ended when it is so long: its index is read whole.
const TABLE: u64 = 256 << 20;
/// Progress is asked once in so many keys.
const KEYS: u64 = 1024;

/// One state of a directory, as far as it was asked for.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) view: View,
    pub(super) version: u64,
    /// Nothing at or below this version is in the view.
    pub(super) since: u64,
    /// Point reads that were made when everything was there; `None` where everything still is.
    pub(super) answers: Option<BTreeMap<Vec<u8>, Option<OwnedEntry>>>,
    pub(super) listed: Listing,
    /// Of each table, the highest version and about how many bytes its entries have.
    pub(super) sizes: Vec<(u64, u64)>,
}

/// The live keys outside some families.
#[derive(Debug)]
pub(super) enum Listing {
    /// Nobody will ask.
    No,
    /// They are found when somebody asks: outside these.
    Later(&'static [&'static [u8]]),
    /// They were found when everything was there.
    Found(View),
}

/// About how many bytes the entries of a table have, with what they have in value logs.
fn size(table: &Table) -> u64 {
    let facts = table.facts();
    let pointed = u64::from(facts.on_disk_size).saturating_sub(table.blob().len());
    u64::from(facts.uncompressed_size) + pointed
}

/// Of each table, the highest version and about how many bytes its entries have.
pub(super) fn sizes(state: &State) -> Vec<(u64, u64)> {
    let tables = state.tables.iter().map(|listed| &listed.table);
    let memory = state.memory.iter().flat_map(|memory| &memory.tables);
    tables.chain(memory).map(|table| (table.max_version(), size(table))).collect()
}

/// The tables that stand for the memtables.
pub(super) fn memory_tables(state: &State) -> impl Iterator<Item = (Rank, Table)> {
    state.memory.iter().flat_map(|memory| {
        memory.tables.iter().enumerate().map(|(part, table)| (Rank::memory(memory.fid, part), table.clone()))
    })
}

impl Frozen {
    fn asked_for_less(what: &str) -> Error {
        Error::invalid(format!("expected a question for which this snapshot was taken, found {what}"))
    }

    fn above(&self, since: u64) -> Result<()> {
        if since >= self.since {
            return Ok(());
        }
        Err(Self::asked_for_less(&format!(
            "one for entries above version {since}, taken above {}",
            self.since
        )))
    }
}

impl Snapshot for Frozen {
    fn pinned_version(&self) -> u64 {
        self.version
    }

    fn deletes(&self) -> &'static str {
        "exact"
    }

    fn get(&self, key: &[u8]) -> Result<Option<OwnedEntry>> {
        let Some(answers) = &self.answers else { return self.view.get(key, self.version) };
        match answers.get(key) {
            Some(answer) => Ok(answer.clone()),
            None => Err(Self::asked_for_less(&format!("one for key {}", key.escape_ascii()))),
        }
    }

    fn source(&self, since: u64) -> Result<Box<dyn Source + '_>> {
        self.above(since)?;
        if since >= self.version {
            return Ok(Box::new(crate::entry::VecSource::default()));
        }
        Ok(Box::new(self.view.source(&Span::all(), since, self.version, Which::Backup)?))
    }

    fn everything(&self) -> Result<Box<dyn Source + '_>> {
        self.above(0)?;
        Ok(Box::new(self.view.source(&Span::all(), 0, u64::MAX, Which::All)?))
    }

    fn prefix(&self, prefix: &[u8], from: &[u8]) -> Result<Box<dyn Source + '_>> {
        self.above(0)?;
        Ok(Box::new(self.view.source(&Span::prefix(prefix, from), 0, self.version, Which::Backup)?))
    }

    fn listed(&self) -> Result<Option<Box<dyn Source + '_>>> {
        Ok(match &self.listed {
            Listing::No => None,
            Listing::Later(families) => Some(Box::new(LiveKeys::new(&self.view, self.version, families))),
            Listing::Found(keys) => Some(Box::new(keys.source(&Span::all(), 0, u64::MAX, Which::All)?)),
        })
    }

    fn damaged(&self) -> u64 {
        self.view.damaged()
    }

    fn estimate(&self, since: u64) -> Result<u64> {
        Ok(self.sizes.iter().filter(|(version, _)| *version > since).map(|(_, bytes)| bytes).sum())
    }
}

/// The live keys that begin with none of some prefixes, with their newest version. Only blocks are read that may hold one, and no value.
pub(super) struct LiveKeys<'a> {
    view: &'a View,
    version: u64,
    spans: VecDeque<Span>,
    entries: Option<Merged<'a>>,
}

impl<'a> LiveKeys<'a> {
    pub(super) fn new(view: &'a View, version: u64, families: &[&[u8]]) -> Self {
        Self { view, version, spans: between(families), entries: None }
    }
}

/// What lies between families of keys.
fn between(families: &[&[u8]]) -> VecDeque<Span> {
    let mut families = families.to_vec();
    families.sort_unstable();
    let mut spans = VecDeque::new();
    let mut from = Vec::new();
    for family in families {
        let all = Span::prefix(family, b"");
        if from.as_slice() < family {
            spans.push_back(Span::new(&from, Some(family)));
        }
        match all.to() {
            Some(to) if to > from.as_slice() => from = to.to_vec(),
            Some(_) => {}
            None => return spans,
        }
    }
    spans.push_back(Span::new(&from, None));
    spans
}

impl Source for LiveKeys<'_> {
    fn advance(&mut self) -> Result<bool> {
        loop {
            let entries = match &mut self.entries {
                Some(entries) => entries,
                None => match self.spans.pop_front() {
                    Some(span) => {
                        self.entries.insert(self.view.source(&span, 0, self.version, Which::Keys)?)
                    }
                    None => return Ok(false),
                },
            };
            if !entries.advance()? {
                self.entries = None;
                continue;
            }
            let entry = entries.entry();
            if !entry.is_delete() && !entry.is_expired(self.view.now()) {
                return Ok(true);
            }
        }
    }

    fn entry(&self) -> Entry<'_> {
        self.entries.as_ref().map_or_else(Entry::default, Source::entry)
    }
}

/// Keeps what a source yields in tables without a name.
pub(super) fn keep(
    source: &mut dyn Source,
    scratch: &Scratch,
    progress: &Progress,
    now: u64,
) -> Result<View> {
    let options = BuilderOptions { compression: Compression::None, block_size: 16 << 10, bloom: false };
    let (mut tables, mut internal, mut seen) = (Vec::new(), Vec::new(), 0_u64);
    let mut open: Option<(File, Builder<File>)> = None;
    let end = |open: Option<(File, Builder<File>)>, tables: &mut Vec<(Rank, Table)>| -> Result<()> {
        let Some((file, builder)) = open else { return Ok(()) };
        builder.finish(None).map_err(|error| error.at_path(scratch.folder()))?;
        let table = Table::open(Blob::of(file, scratch.folder())?, Compression::None)?;
        tables.push((Rank::table(1, 0), table));
        Ok(())
    };
    while source.advance()? {
        if open.as_ref().is_some_and(|(_, builder)| builder.stored_bytes() > TABLE) {
            end(open.take(), &mut tables)?;
        }
        let (_, builder) = if let Some(open) = &mut open {
            open
        } else {
            let file = scratch.file()?;
            let out = file
                .try_clone()
                .map_err(|error| Error::from_io(error, "share a temporary file in it", scratch.folder()))?;
            open.insert((file, Builder::new(out, options)?))
        };
        let Entry { key, version, value, meta, user_meta, expires_at } = source.entry();
        internal.clear();
        key::put(&mut internal, key, version);
        let value = Value { meta, user_meta, expires_at, bytes: value };
        builder.add(&internal, &value, 0).map_err(|error| error.at_path(scratch.folder()))?;
        seen += 1;
        if seen.is_multiple_of(KEYS) {
            progress.check()?;
        }
    }
    end(open, &mut tables)?;
    Ok(View::new(tables, Vlogs::default(), now))
}
