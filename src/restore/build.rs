//! One datastore, filled from a source and looked at again before anybody else sees it.

use super::Options;
use super::origin::Facts;
use crate::badger::{self, Writer, WriterOptions};
use crate::base::progress::Progress;
use crate::entry::{Datastore as _, Sink, Source};
use crate::error::{Error, Result};
use crate::evnode::key::TIP;
use crate::flow::datastore::Engine;
use crate::store::{Applied, LoadOptions, Loader, NewAbout, Store};
use std::path::Path;

/// What was built.
#[derive(Clone, Copy)]
pub(super) struct Built {
    pub(super) entries: u64,
    pub(super) store_id: [u8; 16],
    pub(super) tip: u64,
}

/// Fills `dir`, which is empty. `proof` waits until what was read is known to be what it should be, and says what was applied.
pub(super) fn build(
    dir: &Path,
    source: &mut dyn Source,
    facts: &Facts,
    proof: impl FnOnce() -> Result<Vec<Applied>>,
    options: &Options,
    progress: &Progress,
) -> Result<Built> {
    match options.engine()? {
        Engine::RocksDb => store(dir, source, facts, proof, options, progress),
        Engine::Badger => directory(dir, source, facts, proof, options, progress),
    }
}

fn store(
    dir: &Path,
    source: &mut dyn Source,
    facts: &Facts,
    proof: impl FnOnce() -> Result<Vec<Applied>>,
    options: &Options,
    progress: &Progress,
) -> Result<Built> {
    let mut loader =
        Loader::create(dir, LoadOptions { memory: options.share(), progress: progress.clone() })?;
    pour(source, &mut loader, progress)?;
    let applied = proof()?;
    let written = loader.finish_with(NewAbout {
        pinned_version: facts.shown,
        deletes: facts.deletes.name().to_owned(),
        applied,
        store_id: None,
    })?;
    let made = Store::open_held(dir)?;
    let snapshot = made.snapshot()?;
    if made.about().entries != written.entries || snapshot.pinned_version() != facts.shown {
        return Err(not_as_written(dir));
    }
    Ok(Built { entries: written.entries, store_id: written.store_id, tip: snapshot.tip()? })
}

fn directory(
    dir: &Path,
    source: &mut dyn Source,
    facts: &Facts,
    proof: impl FnOnce() -> Result<Vec<Applied>>,
    options: &Options,
    progress: &Progress,
) -> Result<Built> {
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let mut writer = Writer::create(
        dir,
        WriterOptions {
            history: options.history,
            at: facts.shown,
            now,
            progress: progress.clone(),
            ..WriterOptions::default()
        },
    )?;
    pour(source, &mut writer, progress)?;
    proof()?;
    let written = writer.finish_with(facts.last_version)?;
    let made = badger::look(dir)?;
    if (made.entries, made.last_version, made.store_id)
        != (written.entries, written.last_version, Some(written.store_id))
    {
        return Err(not_as_written(dir));
    }
    let tip = made.get(TIP)?.and_then(|value| <[u8; 8]>::try_from(value).ok()).map_or(0, u64::from_le_bytes);
    Ok(Built { entries: written.entries, store_id: written.store_id, tip })
}

fn not_as_written(dir: &Path) -> Error {
    Error::damaged("expected to read back what was written, found something else").at_path(dir)
}

fn pour(source: &mut dyn Source, sink: &mut dyn Sink, progress: &Progress) -> Result<()> {
    let (mut bytes, mut entries) = (0, 0);
    while source.advance()? {
        let entry = source.entry();
        bytes += (entry.key.len() + entry.value.len()) as u64;
        entries += 1;
        sink.put(entry)?;
        if bytes >= 1 << 20 {
            progress.check()?;
            progress.add(bytes, entries);
            (bytes, entries) = (0, 0);
        }
    }
    progress.add(bytes, entries);
    Ok(())
}
