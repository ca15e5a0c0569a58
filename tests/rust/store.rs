//! Helpers shared by the store's tests, and the tests by what they are about.
#![expect(
    clippy::case_sensitive_file_extension_comparisons,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "these are tests: they may panic, print figures and damage files"
)]

/// What is put in comes out, at every size and in every way to read it.
mod contents;
/// Killed while it applies increments, at random moments.
mod crash;
/// Flipped, cut and missing files.
mod damage;
/// Overlapping, late and mismatching increments; dropping old versions.
mod increments;
/// How fast it is: run by hand, in release, with `--ignored`.
mod speed;

use evbackup::entry::{Datastore, OwnedEntry, Sink, Snapshot, Source};
use evbackup::error::Result;
use evbackup::store::{Increment, LoadOptions, Loader, NewAbout, Store, Written};
use std::path::Path;

/// An entry of a test.
pub(super) fn entry(key: impl AsRef<[u8]>, version: u64, value: impl AsRef<[u8]>) -> OwnedEntry {
    let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
    OwnedEntry { key, version, value, ..OwnedEntry::default() }
}

/// A tombstone of a test.
pub(super) fn tombstone(key: impl AsRef<[u8]>, version: u64) -> OwnedEntry {
    OwnedEntry { meta: evbackup::entry::META_DELETE, ..entry(key, version, "") }
}

/// Puts entries into the order of every source.
pub(super) fn sort(mut entries: Vec<OwnedEntry>) -> Vec<OwnedEntry> {
    entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    entries
}

/// What a store says when it is pinned to `version`.
pub(super) fn pinned(version: u64) -> NewAbout {
    NewAbout { pinned_version: version, ..NewAbout::default() }
}

/// Options whose index by version spills all the time.
pub(super) fn small() -> LoadOptions {
    LoadOptions { memory: 1 << 10, ..LoadOptions::default() }
}

/// Loads entries, which are sorted here, into a fresh store.
pub(super) fn load(path: &Path, entries: &[OwnedEntry], new: NewAbout) -> Result<Written> {
    let mut loader = Loader::create(path, small())?;
    for entry in sort(entries.to_vec()) {
        loader.put(entry.as_entry())?;
    }
    loader.finish_with(new)
}

/// Adds entries, which are sorted here, to a store.
pub(super) fn apply(store: &mut Store, entries: &[OwnedEntry], new: NewAbout) -> Result<Written> {
    let mut increment = Increment::begin(store, small())?;
    for entry in sort(entries.to_vec()) {
        increment.put(entry.as_entry())?;
    }
    increment.finish_with(new)
}

/// Reads a source to its end.
pub(super) fn drain(mut source: Box<dyn Source + '_>) -> Result<Vec<OwnedEntry>> {
    let mut entries = Vec::new();
    while source.advance()? {
        entries.push(source.entry().to_owned());
    }
    assert_eq!(source.entry(), evbackup::entry::Entry::default());
    Ok(entries)
}

/// What a snapshot yields from `since` on.
pub(super) fn since(snapshot: &dyn Snapshot, since: u64) -> Result<Vec<OwnedEntry>> {
    drain(snapshot.source(since)?)
}

/// Everything that a store shows.
pub(super) fn all(store: &Store) -> Result<Vec<OwnedEntry>> {
    since(&*store.snapshot()?, 0)
}
