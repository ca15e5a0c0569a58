//! Turn a chain of segments into a datastore: planned first, built beside the target, proven, and only then put in its place.

mod build;
mod origin;

use crate::base::durable::{DirLock, Owner, PartDir, require_space};
use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::Need;
use crate::error::{Error, Result};
use crate::flow::chain::Chain;
use crate::flow::checks::Level;
use crate::flow::datastore::{Engine, ReadOptions};
use crate::flow::finding::{Level as Severity, refuse};
use crate::flow::hasher::{digest_file, hex};
use crate::flow::segment::Segment;
use crate::flow::{target, work};
use crate::format::FileInput;
use crate::repo::manifest::Deletes;
use crate::store::Applied;
use build::{Built, build};
use origin::{Facts, Kept, Origin};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

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
    let plan = Plan::make(options, progress)?;
    if options.dry_run {
        return plan.restored(options, None, progress);
    }
    plan.carry_out(options, progress)
}

/// All that can be known before anything is written.
struct Plan {
    origin: Origin,
    facts: Facts,
    /// The datastore that is to be replaced, locked.
    old: Option<DirLock>,
    owner: Owner,
    notes: Vec<String>,
}

impl Plan {
    fn make(options: &Options, progress: &Progress) -> Result<Self> {
        let engine = options.engine()?;
        if options.at_height.is_some() {
            return Err(Error::unsupported("cannot cut at a height yet").with_hint("leave at_height out"));
        }
        let old = target::check(&options.dest, &options.paths, engine, options.overwrite)?;
        let origin = Origin::open(options)?;
        let facts = origin.facts(progress)?;
        let owner = Owner::of_target(&options.dest, options.owner)?;
        require_space(target::parent(&options.dest), needed(facts.bytes))?;
        let mut notes = Vec::new();
        if let Origin::Chain(chain) = &origin {
            notes.extend(chain.findings().iter().map(|finding| finding.message.clone()));
            notes.extend(chain.torn_note(match engine {
                Engine::RocksDb => "they are kept and show once an increment completes them",
                Engine::Badger => "they are left out: a Badger directory would show them",
            }));
        }
        Ok(Self { origin, facts, old, owner, notes })
    }

    fn carry_out(mut self, options: &Options, progress: &Progress) -> Result<Restored> {
        let owner = self.owner;
        let begin = || {
            let mut part = PartDir::create(&options.dest)?;
            part.set_owner(owner)?;
            Ok(part)
        };
        let (part, built) = match &mut self.origin {
            Origin::Chain(chain) => {
                from_chain(chain, begin, &mut self.facts, &mut self.notes, options, progress)?
            }
            Origin::Kept(kept) => from_datastore(kept, begin, &mut self.facts, options, progress)?,
        };
        progress.begin(Phase::Finishing, 0);
        progress.check()?;
        let replaced = match &self.old {
            Some(old) => part.swap(old, options.keep_replaced)?,
            None => part.commit().map(|()| None)?,
        };
        let mut restored = self.restored(options, Some(built), progress)?;
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

    fn restored(&self, options: &Options, built: Option<Built>, progress: &Progress) -> Result<Restored> {
        let mut notes = self.notes.clone();
        notes.push("a restored datastore begins a new history: the next backup of a node that runs on it is a full one".into());
        let facts = &self.facts;
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
            replaced: None,
            notes,
            elapsed_s: progress.state().elapsed_s,
        })
    }
}

/// Checks and builds while another core digests the segments: what is put in place was proven whole.
fn from_chain(
    chain: &mut Chain,
    begin: impl FnOnce() -> Result<PartDir>,
    facts: &mut Facts,
    notes: &mut Vec<String>,
    options: &Options,
    progress: &Progress,
) -> Result<(PartDir, Built)> {
    let proofs: Vec<_> = chain.segments().iter().map(Proof::of).collect();
    let failed = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let digests = threads.spawn(|| digests(&proofs, &|| go_on(progress, &failed)));
        let built = (|| {
            progress.begin(Phase::Verifying, chain.bytes());
            let findings = chain.check(Level::Full, false, progress)?;
            refuse(&findings)?;
            let told = findings.iter().filter(|finding| finding.level > Severity::Info);
            notes.extend(told.map(|finding| finding.message.clone()));
            // Of a segment without a manifest only its bytes tell.
            *facts = Facts::of_chain(chain);
            let part = begin()?;
            let scratch = Scratch::new(target::parent(&options.dest));
            progress.begin(Phase::Writing, chain.bytes());
            let mut source = chain.source_for_store(true, &scratch, options.share(), progress)?;
            let proof = || {
                let sha256 = digests.join().unwrap_or_else(|_| Err(Error::io("a thread has died")))?;
                Ok(applied(chain, &sha256))
            };
            let built = build(part.path(), &mut *source, facts, proof, options, progress)?;
            Ok((part, built))
        })();
        failed.store(built.is_err(), Relaxed);
        built
    })
}

/// What was planned was only looked at; what is written comes from one snapshot.
fn from_datastore(
    kept: &Kept,
    begin: impl FnOnce() -> Result<PartDir>,
    facts: &mut Facts,
    options: &Options,
    progress: &Progress,
) -> Result<(PartDir, Built)> {
    let snapshot = kept.datastore.snapshot_for(&Need::everything(), progress)?;
    facts.complete_version = snapshot.pinned_version();
    facts.last_version = facts.last_version.max(facts.complete_version);
    facts.deletes = Deletes::from_name(snapshot.deletes()).unwrap_or(Deletes::Unknown);
    facts.tip_height = snapshot.tip()?;
    facts.complete_height = facts.tip_height;
    progress.begin(Phase::Writing, facts.bytes);
    // What is history only: a directory is written without it, unless it is asked for.
    let whole = options.history || options.engine()? == Engine::RocksDb;
    let mut source = if whole { snapshot.everything()? } else { snapshot.source(0)? };
    let copied = || {
        let of_directory = || {
            let (source, complete_version) = (kept.datastore.id().to_vec(), snapshot.pinned_version());
            vec![Applied { source, sha256: [0; 32], complete_version }]
        };
        // A copy of a store takes the increments that the store would take.
        Ok(kept.about.as_ref().map_or_else(of_directory, |about| about.applied.clone()))
    };
    let part = begin()?;
    let built = build(part.path(), &mut *source, facts, copied, options, progress)?;
    Ok((part, built))
}

fn applied(chain: &Chain, sha256: &[[u8; 32]]) -> Vec<Applied> {
    let segments = chain.segments().iter().zip(sha256);
    segments
        .map(|(segment, sha256)| Applied {
            source: target::store_id(segment.manifest()),
            sha256: *sha256,
            complete_version: segment.manifest().map_or(0, |manifest| manifest.complete_version),
        })
        .collect()
}

/// The digesting thread stops with the caller's wish, and when there is nothing left to prove.
fn go_on(progress: &Progress, failed: &AtomicBool) -> Result<()> {
    progress.check()?;
    if failed.load(Relaxed) { Err(Error::cancelled()) } else { Ok(()) }
}

/// A segment's bytes and the digest that its manifest says they have.
struct Proof {
    input: FileInput,
    path: PathBuf,
    sha256: Option<String>,
}

impl Proof {
    fn of(segment: &Segment) -> Self {
        Self {
            input: segment.input(),
            path: segment.path().to_owned(),
            sha256: segment.sha256().map(str::to_owned),
        }
    }
}

/// The digest of each segment, which must be its manifest's.
fn digests(proofs: &[Proof], go_on: &dyn Fn() -> Result<()>) -> Result<Vec<[u8; 32]>> {
    let digest = |proof: &Proof| {
        let found = digest_file(proof.input.clone(), go_on)?;
        match &proof.sha256 {
            Some(expected) if *expected != found => {
                Err(Error::damaged(format!("expected SHA-256 {expected}, found {found}"))
                    .at_path(&proof.path))
            }
            _ => target::digest_bytes(&found),
        }
    };
    proofs.iter().map(digest).collect()
}

/// Tables are about as large as the segments, or smaller; the index adds a key and a few bytes for each entry.
fn needed(bytes: u64) -> u64 {
    bytes + bytes / 8 + (64 << 20)
}
