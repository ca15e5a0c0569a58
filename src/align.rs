//! Does ev-node's data hold the block that a copy of the execution layer ends with? Then that is where to cut.
//!
//! An execution layer is copied at a height nobody chose. What it says of its last block, the time in seconds and the state root, is held
//! against block and state of the same height in a backup or a datastore.

use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::{Need, OwnedEntry};
use crate::error::{Error, Result};
use crate::evnode::cut::{Facts, Head, Survey, Wanted};
use crate::evnode::key::{Key, Mark};
use crate::flow::chain::Chain;
use crate::flow::cut::{refuse_range, shorten, survey};
use crate::flow::datastore::{self, ReadOptions};
use crate::flow::hasher::hex;
use crate::flow::work;
use serde::Serialize;
use std::path::{Path, PathBuf};

const MEMORY: usize = 64 << 20;

/// What to compare.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The segments of one chain, in any order; or one datastore.
    pub paths: Vec<PathBuf>,
    /// The last block of the execution layer's copy.
    pub el_height: u64,
    /// Its time, Unix seconds.
    pub el_timestamp: Option<u64>,
    /// The state root after it.
    pub el_state_root: Option<[u8; 32]>,
    /// How a Badger directory is read.
    pub reading: ReadOptions,
}

/// Where to cut, so that both belong together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alignment {
    /// Cut here.
    pub at_height: u64,
    /// The block's time, Unix seconds.
    pub timestamp: u64,
    /// The app's state after the block, as hex.
    pub state_root: String,
    /// The hash of the block's header, as hex.
    pub header_hash: String,
    /// The chain's name.
    pub chain_id: String,
    /// What the execution layer said and the block has: `"timestamp"`, `"state_root"`.
    pub compared: Vec<&'static str>,
    /// The segments that are needed, oldest first; or the datastore.
    pub segments: Vec<PathBuf>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Seconds it took.
    pub elapsed_s: f64,
}

/// Compares a block of the execution layer with a backup or a datastore; see [`Options`]. A block that is not there, or is another one,
/// is a mismatch.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::{align, base::progress::Progress};
///
/// let options = align::Options { paths: vec!["full.badger".into()], el_height: 120_000, ..Default::default() };
/// println!("cut at {}", align::run(options, Progress::new()).await?.at_height);
/// # Ok(()) }
/// ```
pub async fn run(options: Options, progress: Progress) -> Result<Alignment> {
    work::blocking(progress, move |progress| align(&options, progress)).await
}

fn align(options: &Options, progress: &Progress) -> Result<Alignment> {
    progress.set_height(options.el_height);
    let (facts, segments) = match options.paths.as_slice() {
        [] => {
            return Err(Error::invalid(
                "expected segments of a chain or a datastore to compare, found nothing",
            ));
        }
        [path] if path.is_dir() => (of_datastore(path, options, progress)?, vec![path.clone()]),
        paths => of_chain(paths, options, progress)?,
    };
    let compared = compare(&facts, options).map_err(|error| at_newest(error, &segments))?;
    let mut notes = Vec::new();
    if compared.is_empty() {
        notes.push(
            "only the height was compared: el_timestamp and el_state_root prove that it is the same block"
                .to_owned(),
        );
    }
    Ok(Alignment {
        at_height: options.el_height,
        timestamp: facts.time().unwrap_or_default() / 1_000_000_000,
        state_root: hex(facts.app_hash().unwrap_or_default()),
        header_hash: hex(&facts.hash().unwrap_or_default()),
        chain_id: facts.chain_id().unwrap_or_default().to_owned(),
        compared,
        segments,
        notes,
        elapsed_s: progress.state().elapsed_s,
    })
}

fn new_survey(options: &Options) -> Survey {
    let wanted = Wanted { timestamp: options.el_timestamp, state_root: options.el_state_root };
    Survey::new(options.el_height).wanting(wanted)
}

fn of_chain(paths: &[PathBuf], options: &Options, progress: &Progress) -> Result<(Facts, Vec<PathBuf>)> {
    let mut chain = Chain::open(paths, None)?;
    chain.refuse()?;
    let prefixes = chain.prefixes();
    let (_, head) = shorten(&mut chain, Some(options.el_height));
    progress.begin(Phase::Verifying, chain.bytes());
    let complete = chain.complete_version().unwrap_or(u64::MAX);
    let mut source = chain.source(&Scratch::system(), MEMORY, progress)?;
    let found = survey(&mut *source, complete, options.el_height, || new_survey(options), progress)?;
    let segments: Vec<_> = chain.segments().iter().map(|segment| segment.path().to_owned()).collect();
    refuse(&found.facts, head, &prefixes).map_err(|error| at_newest(error, &segments))?;
    Ok((found.facts, segments))
}

/// Of a datastore only a few keys are read; nothing is copied.
fn of_datastore(path: &Path, options: &Options, progress: &Progress) -> Result<Facts> {
    let datastore = datastore::open(path, &options.reading)?;
    let tip = datastore.snapshot_for(&Need::keys(Vec::new()), progress)?.tip()?;
    let height = options.el_height;
    let mut keys: Vec<Vec<u8>> = [height, tip, height.saturating_add(1)]
        .into_iter()
        .flat_map(|at| [Key::Header(at), Key::State(at)])
        .chain([
            Key::Data(height),
            Key::Signature(height),
            Key::State(0),
            Key::Tip,
            Key::Mark(Mark::PrunedBlocks),
        ])
        .map(|key| key.to_bytes())
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let snapshot = datastore.snapshot_for(&Need::keys(keys.clone()), progress)?;
    let mut survey = new_survey(options).of_some();
    for key in &keys {
        let found = snapshot.get(key)?.filter(|entry| !entry.as_entry().is_delete());
        if let Some(entry) = found {
            survey.feed(&OwnedEntry::as_entry(&entry));
        }
    }
    let facts = survey.finish();
    refuse(&facts, Head::Exact, &[]).map_err(|error| error.at_path(path))?;
    Ok(facts)
}

/// Of a chain only what is needed to the height is read: its last segment has the block.
fn at_newest(error: Error, segments: &[PathBuf]) -> Error {
    match segments.last() {
        Some(path) => error.at_path(path),
        None => error,
    }
}

/// Where the block is not there, the two copies do not belong together yet, or no more.
fn refuse(facts: &Facts, head: Head, prefixes: &[Option<(u64, u64)>]) -> Result<()> {
    refuse_range(facts, head, prefixes).map_err(|error| {
        Error::mismatch(format!("the execution layer's block: {}", error.what())).with_hint(
            "it executes a block before ev-node commits it: where it is ahead, wait for ev-node's tip and back up again; where ev-node has \
             pruned the block, copy the execution layer again",
        )
    })
}

/// What the execution layer said and the block has.
fn compare(facts: &Facts, options: &Options) -> Result<Vec<&'static str>> {
    let height = options.el_height;
    let Some(time) = facts.time() else {
        return Err(Error::damaged(format!("expected header {height}, found none that can be read"))
            .with_hint("verify says what is wrong"));
    };
    let mut compared = Vec::new();
    if let Some(expected) = options.el_timestamp {
        let found = time / 1_000_000_000;
        if found != expected {
            let what = format!(
                "expected block {height} at Unix second {expected}, as the execution layer has it, found {found}"
            );
            return Err(Error::mismatch(what).with_hint(elsewhere(facts.same_time(), "that time")));
        }
        compared.push("timestamp");
    }
    if let Some(expected) = options.el_state_root {
        let Some(found) = facts.app_hash() else {
            return Err(Error::missing(format!("expected the state after block {height}, found none"))
                .with_hint("it was pruned: leave el_state_root out, or copy the execution layer again"));
        };
        if found != expected {
            let what = format!(
                "expected state root {} after block {height}, as the execution layer has it, found {}",
                hex(&expected),
                hex(found)
            );
            return Err(Error::mismatch(what).with_hint(elsewhere(facts.same_root(), "that state root")));
        }
        compared.push("state_root");
    }
    Ok(compared)
}

fn elsewhere(height: Option<u64>, what: &str) -> String {
    match height {
        Some(height) => format!("block {height} has {what}: is the execution layer's height right?"),
        None => format!("no block that was read has {what}: is it the same chain?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Sink as _;
    use crate::evnode::sample::{GENESIS_TIME, Sample};
    use crate::store::{LoadOptions, Loader, NewAbout};

    const SECOND: u64 = GENESIS_TIME / 1_000_000_000;

    /// A store with blocks 1 to 30, pruned to 5.
    fn store(folder: &Path) -> (PathBuf, Sample) {
        let mut sample = Sample::with_blocks(30);
        sample.prune(5);
        let path = folder.join("store");
        let mut loader = Loader::create(&path, LoadOptions::default()).unwrap();
        sample.entries().for_each(|entry| loader.put(entry).unwrap());
        let about = NewAbout { pinned_version: 99, deletes: "exact".into(), ..NewAbout::default() };
        loader.finish_with(about).unwrap();
        (path, sample)
    }

    fn root(sample: &Sample, height: u64) -> [u8; 32] {
        let value = sample.value(&Key::State(height).to_bytes()).unwrap();
        let state = crate::evnode::record::State::decode(value).unwrap();
        state.app_hash.try_into().unwrap()
    }

    #[test]
    fn the_same_block_is_where_to_cut() {
        let folder = tempfile::tempdir().unwrap();
        let (path, sample) = store(folder.path());
        let options = Options {
            paths: vec![path.clone()],
            el_height: 12,
            el_timestamp: Some(SECOND + 11),
            el_state_root: Some(root(&sample, 12)),
            ..Options::default()
        };
        let found = align(&options, &Progress::new()).unwrap();
        assert_eq!(
            (found.at_height, found.timestamp, found.chain_id.as_str()),
            (12, SECOND + 11, "sample-1")
        );
        assert_eq!(found.compared, ["timestamp", "state_root"]);
        assert_eq!((found.segments, found.notes.len()), (vec![path.clone()], 0));
        let bare = Options { el_timestamp: None, el_state_root: None, ..options };
        assert_eq!(align(&bare, &Progress::new()).unwrap().notes.len(), 1);
    }

    #[test]
    fn another_block_is_a_mismatch() {
        let folder = tempfile::tempdir().unwrap();
        let (path, sample) = store(folder.path());
        let options = Options { paths: vec![path], el_height: 12, ..Options::default() };
        let refused = |options: Options, words: &str| {
            let error = align(&options, &Progress::new()).unwrap_err();
            assert_eq!(error.code(), "mismatch", "{error}");
            assert!(error.to_string().contains(words) && error.hint().is_some(), "{error}");
        };
        refused(Options { el_timestamp: Some(SECOND), ..options.clone() }, "at Unix second");
        refused(Options { el_state_root: Some(root(&sample, 13)), ..options.clone() }, "expected state root");
        refused(Options { el_height: 31, ..options.clone() }, "within 6 to 30, found 31");
        refused(Options { el_height: 5, ..options.clone() }, "within 6 to 30, found 5");
        refused(Options { el_height: 0, ..options }, "within 6 to 30, found 0");
    }
}
