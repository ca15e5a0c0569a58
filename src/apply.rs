//! Increments into a store that is there: one atomic step, or none.

use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::{Entry, Sink as _, Source as _};
use crate::error::{Error, Result};
use crate::flow::chain::{After, Chain};
use crate::flow::checks::Level;
use crate::flow::finding::refuse;
use crate::flow::hasher::hex;
use crate::flow::index::Deleted;
use crate::flow::segment::Segment;
use crate::flow::{target, work};
use crate::repo::manifest::Deletes;
use crate::store::{Applied as Source, Increment, LoadOptions, NewAbout, Store, Written};
use serde::Serialize;
use std::path::PathBuf;

const MEMORY: usize = 64 << 20;

/// What to apply, and to what.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The increments, in any order; what the store has already is passed over.
    pub paths: Vec<PathBuf>,
    /// The store.
    pub store: PathBuf,
}

/// What was applied.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Applied {
    /// The store.
    pub path: PathBuf,
    /// The segments applied now, oldest first.
    pub segments: Vec<PathBuf>,
    /// Entries that are new in the store.
    pub entries: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// The highest version in the store.
    pub last_version: u64,
    /// Up to which version the store shows its entries.
    pub complete_version: u64,
    /// The store's id, as hex.
    pub store_id: String,
    /// Entries arrived below what the store had shown, so it began a new history: the next backup of it is a full one.
    pub new_history: bool,
    /// How sure the store's deletes are.
    pub deletes: String,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Seconds it took.
    pub elapsed_s: f64,
}

/// Applies increments to a store, all of them or none; see [`Options`].
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::{apply, base::progress::Progress};
///
/// let options = apply::Options { paths: vec!["inc2.badger".into()], store: "/var/lib/evbackup/store".into() };
/// let applied = apply::run(options, Progress::new()).await?;
/// assert_eq!(applied.segments.len(), 1);
/// # Ok(()) }
/// ```
pub async fn run(options: Options, progress: Progress) -> Result<Applied> {
    work::blocking(progress, move |progress| apply(&options, progress)).await
}

fn apply(options: &Options, progress: &Progress) -> Result<Applied> {
    if options.paths.is_empty() {
        return Err(Error::invalid("expected at least one segment, found none"));
    }
    let mut store = Store::open_for_writing(&options.store)?;
    let before = store.about().clone();
    if before.is_cut() {
        return Err(Error::mismatch(
            "expected a store that follows a chain, found one that was cut at a height",
        )
        .at_path(&options.store)
        .with_hint("restore the whole chain into a store to apply increments to it"));
    }
    let last = before.applied.last();
    let after = After {
        sha256: last.map_or_else(String::new, |last| hex(&last.sha256)),
        // As its manifest said: the store may be pinned higher, where the source's blocks do not say what is complete.
        complete_version: last.map_or(before.pinned_version, |last| last.complete_version),
        run_id: None,
        store_id: last.filter(|last| !last.source.is_empty()).map(|last| hex(&last.source)),
        taken: before
            .applied
            .iter()
            .map(|applied| (hex(&applied.sha256), applied.complete_version))
            .collect(),
    };
    let mut chain = Chain::open(&options.paths, Some(&after))?;
    chain.refuse()?;
    progress.begin(Phase::Verifying, chain.bytes());
    refuse(&chain.check(Level::Full, true, progress)?)?;
    let mut notes: Vec<_> = chain.findings().iter().map(|finding| finding.message.clone()).collect();
    notes.extend(chain.torn_note("they are kept and show once an increment completes them"));
    if chain.ends_unsaid() && chain.segments().iter().any(Segment::has_blocks) {
        notes.push(
            "no manifest says how far the last segment is whole: all of it shows, of blocks that may be torn, too"
                .to_owned(),
        );
    }
    let deletes = Deletes::from_name(&before.deletes).unwrap_or(Deletes::Unknown).min(chain.deletes());
    let pinned = chain.complete_version().unwrap_or_else(|| chain.last_version()).max(before.pinned_version);
    let written = if chain.segments().is_empty() {
        None
    } else {
        Some(ingest(&mut store, &chain, pinned, deletes, progress)?)
    };
    let about = store.about();
    let mut applied = Applied {
        path: options.store.clone(),
        segments: chain.segments().iter().map(|segment| segment.path().to_owned()).collect(),
        entries: written.map_or(0, |written| written.entries),
        bytes: chain.bytes(),
        last_version: about.last_version,
        complete_version: about.pinned_version,
        store_id: hex(&about.store_id),
        new_history: written.is_some_and(|written| written.late),
        deletes: about.deletes.clone(),
        notes,
        elapsed_s: progress.state().elapsed_s,
    };
    if applied.new_history {
        applied.notes.push(
            "entries arrived below what the store had shown: it began a new history, the next backup of it is a full one"
                .into(),
        );
    }
    Ok(applied)
}

fn ingest(
    store: &mut Store,
    chain: &Chain,
    pinned: u64,
    deletes: Deletes,
    progress: &Progress,
) -> Result<Written> {
    let scratch = Scratch::new(target::parent(store.path()));
    let applied = chain.segments().iter().map(|segment| {
        Ok(Source {
            source: target::store_id(segment.manifest()),
            sha256: segment.sha256().map_or(Ok([0; 32]), target::digest_bytes)?,
            complete_version: segment.manifest().map_or(0, |manifest| manifest.complete_version),
        })
    });
    let applied = applied.collect::<Result<_>>()?;
    progress.begin(Phase::Writing, chain.bytes());
    let shown = store.about().pinned_version;
    let mut increment = Increment::begin(store, LoadOptions { memory: MEMORY, progress: progress.clone() })?;
    let mut source = chain.source_for_increment(shown, &scratch, MEMORY, progress)?;
    let mut headers = Deleted::new(&scratch, progress);
    let mut entries = 0u64;
    while source.advance()? {
        let entry = source.entry();
        if source.is_stand_in() && increment.stored_at(entry.key, entry.version)?.is_some() {
            continue;
        }
        progress.add((entry.key.len() + entry.value.len()) as u64, 1);
        bury_orphans(&mut headers, Some(&entry), &mut increment)?;
        increment.put(entry)?;
        if headers.pass(&entry)?
            && let Some(header) = increment.stored(entry.key)?.filter(|header| !header.as_entry().is_delete())
        {
            headers.bury(&header.value, entry.version)?;
        }
        entries += 1;
        if entries.is_multiple_of(256) {
            progress.check()?;
        }
    }
    bury_orphans(&mut headers, None, &mut increment)?;
    progress.check()?;
    increment.finish_with(NewAbout {
        pinned_version: pinned,
        deletes: deletes.name().to_owned(),
        applied,
        store_id: None,
    })
}

/// The index entries of blocks that the store has and the chain deletes, up to the entry that comes next.
fn bury_orphans(
    headers: &mut Deleted,
    next: Option<&Entry<'_>>,
    increment: &mut Increment<'_>,
) -> Result<()> {
    while let Some(grave) = headers.next_up_to(next.map(|next| next.key))? {
        let there = increment.stored(grave.key)?;
        let live = there.is_some_and(|there| !there.as_entry().is_delete() && there.version < grave.version);
        // What the chain itself says of the key stands.
        if live && next.is_none_or(|next| next.key != grave.key) {
            increment.put(grave)?;
        }
        headers.step()?;
    }
    Ok(())
}
