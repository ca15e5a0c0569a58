//! Turn a chain of segments into a datastore: planned first, built beside the target, proven, and only then put in its place.

mod build;
mod cutting;
mod making;
mod origin;

pub use cutting::Change;

use crate::base::durable::{DirLock, Owner, PartDir, require_space};
use crate::base::progress::{Phase, Progress};
use crate::error::Result;
use crate::flow::datastore::{Engine, ReadOptions};
use crate::flow::hasher::hex;
use crate::flow::{target, work};
use build::Built;
use cutting::{Report, Wish};
use making::{Made, Work};
use origin::{Facts, Origin};
use serde::Serialize;
use std::path::PathBuf;

/// Sorting and gathering share what the caller allows; the tables and readers take the rest.
const SHARES: usize = 4;

/// What to restore, and where.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the call")]
#[derive(Clone, Debug)]
pub struct Options {
    /// The segments of one chain, in any order; or one datastore.
    pub paths: Vec<PathBuf>,
    /// The directory to make.
    pub dest: PathBuf,
    /// `"badger"`: what a node opens, unless said otherwise; `"rocksdb"`: our store.
    pub engine: Option<String>,
    /// Every version of every key in a Badger directory, instead of the newest live ones. A store always keeps them all.
    pub history: bool,
    /// Cut at this block height.
    pub at_height: Option<u64>,
    /// What will start on what is cut: `"follower"` or `"aggregator"`.
    pub role: Option<String>,
    /// Leave the sequencer's queue out.
    pub drop_queue: bool,
    /// Put the transactions of removed blocks into the queue.
    pub requeue: bool,
    /// Cut an aggregator's datastore below what is public on DA.
    pub force: bool,
    /// A block and the hash of its header, as hex, that what is restored must have.
    pub trusted: Option<(u64, String)>,
    /// The chain's `genesis.json`, which what is restored must begin with.
    pub genesis: Option<PathBuf>,
    /// The chain has left a based sequencer, which may have broken one link: what lies below is not proven by a trusted hash above.
    pub was_based: bool,
    /// Replace a datastore that is there.
    pub overwrite: bool,
    /// Keep what was replaced, as `<dest>.replaced-<UTC>`.
    pub keep_replaced: bool,
    /// Who shall own it; else the owner of what is replaced, else that of the parent.
    pub owner: Option<Owner>,
    /// Only plan.
    pub dry_run: bool,
    /// Memory to work in, in MiB.
    pub memory_mib: usize,
    /// How a Badger directory is read, if that is what is restored from.
    pub reading: ReadOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            dest: PathBuf::new(),
            engine: None,
            history: false,
            at_height: None,
            role: None,
            drop_queue: false,
            requeue: false,
            force: false,
            trusted: None,
            genesis: None,
            was_based: false,
            overwrite: false,
            keep_replaced: true,
            owner: None,
            dry_run: false,
            memory_mib: 256,
            reading: ReadOptions::default(),
        }
    }
}

impl Options {
    fn engine(&self) -> Result<Engine> {
        self.engine.as_deref().map_or(Ok(Engine::Badger), Engine::from_name)
    }

    /// The bytes that sorting or gathering may take.
    fn share(&self) -> usize {
        (self.memory_mib.max(16) << 20) / SHARES
    }
}

/// What was restored, or would be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Restored {
    /// The datastore.
    pub path: PathBuf,
    /// What keeps it.
    pub engine: &'static str,
    /// Only planned.
    pub dry_run: bool,
    /// The segments read, oldest first; or the datastore.
    pub segments: Vec<PathBuf>,
    /// Entries written; of a plan, those that the manifests or the store count.
    pub entries: u64,
    /// Bytes of the segments, or about how many the datastore has.
    pub bytes: u64,
    /// The highest version that was ever given out: what comes next is above it.
    pub last_version: u64,
    /// Up to which version it shows its entries: what the chain is complete to.
    pub complete_version: u64,
    /// The new history's id, as hex; empty in a plan.
    pub store_id: String,
    /// How sure its deletes are.
    pub deletes: &'static str,
    /// The tip in it, 0 without blocks.
    pub tip_height: u64,
    /// The highest height that is whole.
    pub complete_height: u64,
    /// The height at which it was cut; `None` where nothing was.
    pub cut_height: Option<u64>,
    /// What the cut has changed, family by family.
    pub changes: Vec<Change>,
    /// What may go wrong with what was cut.
    pub dangers: Vec<String>,
    /// What to do before a node starts on it.
    pub next_steps: Vec<String>,
    /// Where the directory went that was there.
    pub replaced: Option<PathBuf>,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Seconds it took.
    pub elapsed_s: f64,
}

/// Restores a chain, or copies a datastore into another engine; see [`Options`]. On any error, a full disk and a kill included, what was at the target is untouched.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::{base::progress::Progress, restore};
///
/// let options = restore::Options {
///     paths: vec!["full.badger".into(), "inc1.badger".into()],
///     dest: "/var/lib/evnode/data/evm-single".into(),
///     ..Default::default()
/// };
/// let restored = restore::run(options, Progress::new()).await?;
/// println!("{} entries at version {}", restored.entries, restored.complete_version);
/// # Ok(()) }
/// ```
pub async fn run(options: Options, progress: Progress) -> Result<Restored> {
    work::blocking(progress, move |progress| restore(&options, progress)).await
}

fn restore(options: &Options, progress: &Progress) -> Result<Restored> {
    Plan::make(options, progress)?.carry_out(options, progress)
}

/// All that can be known before anything is read.
struct Plan {
    origin: Origin,
    wish: Wish,
    facts: Facts,
    /// The datastore that is to be replaced, locked.
    old: Option<DirLock>,
    owner: Owner,
    notes: Vec<String>,
}

impl Plan {
    fn make(options: &Options, progress: &Progress) -> Result<Self> {
        let engine = options.engine()?;
        let mut wish = Wish::of(options)?;
        let old = target::check(&options.dest, &options.paths, engine, options.overwrite)?;
        let mut origin = Origin::open(options)?;
        let mut notes = Vec::new();
        if let Origin::Chain(chain) = &mut origin {
            let all = chain.segments().len();
            wish.shorten(chain);
            if let passed @ 1.. = all - chain.segments().len() {
                let last =
                    if passed == 1 { "last segment".to_owned() } else { format!("last {passed} segments") };
                notes.push(format!("the chain is whole at that height without its {last}"));
            }
            notes.extend(chain.findings().iter().map(|finding| finding.message.clone()));
            let torn = chain.torn_note(match engine {
                Engine::RocksDb => "they are kept and show once an increment completes them",
                Engine::Badger => "they are left out: a Badger directory would show them",
            });
            notes.extend(torn.filter(|_| !wish.asked));
        }
        let facts = origin.facts(progress)?;
        let owner = Owner::of_target(&options.dest, options.owner)?;
        require_space(target::parent(&options.dest), needed(facts.bytes))?;
        Ok(Self { origin, wish, facts, old, owner, notes })
    }

    fn carry_out(mut self, options: &Options, progress: &Progress) -> Result<Restored> {
        let owner = self.owner;
        let begin = || {
            let mut part = PartDir::create(&options.dest)?;
            part.set_owner(owner)?;
            Ok(part)
        };
        let mut work =
            Work { wish: &self.wish, facts: &mut self.facts, notes: &mut self.notes, options, progress };
        let made = match &mut self.origin {
            Origin::Chain(chain) => work.of_chain(chain, begin)?,
            Origin::Kept(kept) => work.of_datastore(kept, begin)?,
        };
        let Made { place, cut } = made;
        let Some((part, built)) = place else { return self.restored(options, None, cut, progress) };
        progress.begin(Phase::Finishing, 0);
        progress.check()?;
        let replaced = match &self.old {
            Some(old) => part.swap(old, options.keep_replaced)?,
            None => part.commit().map(|()| None)?,
        };
        let mut restored = self.restored(options, Some(built), cut, progress)?;
        restored.notes.extend(replaced.as_ref().map(|path| {
            let verb = if options.keep_replaced {
                "what was there is kept"
            } else {
                "what was there could not be removed"
            };
            format!("{verb}; remove it with: rm -r {}", path.display())
        }));
        restored.replaced = replaced;
        Ok(restored)
    }

    fn restored(
        &self,
        options: &Options,
        built: Option<Built>,
        cut: Option<Report>,
        progress: &Progress,
    ) -> Result<Restored> {
        let mut notes = self.notes.clone();
        notes.push("a restored datastore begins a new history: the next backup of a node that runs on it is a full one".into());
        let facts = &self.facts;
        let cut_height = cut.as_ref().map(|cut| cut.height);
        let cut = cut.unwrap_or_default();
        Ok(Restored {
            path: options.dest.clone(),
            engine: options.engine()?.name(),
            dry_run: options.dry_run,
            segments: facts.paths.clone(),
            entries: built.map_or(facts.entries, |built| built.entries),
            bytes: facts.bytes,
            last_version: facts.last_version,
            complete_version: facts.complete_version,
            store_id: built.map_or_else(String::new, |built| hex(&built.store_id)),
            deletes: facts.deletes.name(),
            tip_height: built.map_or(facts.tip_height, |built| built.tip),
            complete_height: facts.complete_height,
            cut_height,
            changes: cut.changes,
            dangers: cut.dangers,
            next_steps: cut.next_steps,
            replaced: None,
            notes,
            elapsed_s: progress.state().elapsed_s,
        })
    }
}

/// Tables are about as large as the segments, or smaller; the index adds a key and a few bytes for each entry.
fn needed(bytes: u64) -> u64 {
    bytes + bytes / 8 + (64 << 20)
}
