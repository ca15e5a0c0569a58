//! Turn a chain of segments into a datastore: planned first, built beside the target, proven, and only then put in its place.

use crate::base::durable::{DirLock, Owner, PartDir, require_space};
use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::{Datastore as _, Sink as _, Source};
use crate::error::{Error, Result};
use crate::flow::chain::Chain;
use crate::flow::checks::Level;
use crate::flow::datastore::Engine;
use crate::flow::finding::{Level as Severity, refuse};
use crate::flow::hasher::digest_file;
use crate::flow::segment::Segment;
use crate::flow::{target, work};
use crate::format::FileInput;
use crate::store::{Applied, LoadOptions, Loader, NewAbout, Store, Written};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Sorting and gathering share what the caller allows; the tables and readers take the rest.
const SHARES: usize = 4;

/// What to restore, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The segments of one chain, in any order.
    pub paths: Vec<PathBuf>,
    /// The directory to make.
    pub dest: PathBuf,
    /// `"rocksdb"`: our store. There is no default yet.
    pub engine: Option<String>,
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            dest: PathBuf::new(),
            engine: None,
            at_height: None,
            overwrite: false,
            keep_replaced: true,
            owner: None,
            dry_run: false,
            memory_mib: 256,
        }
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
    /// The segments read, oldest first.
    pub segments: Vec<PathBuf>,
    /// Entries written; of a plan, those that the manifests count.
    pub entries: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// The highest version in it.
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

/// Restores a chain; see [`Options`]. On any error, a full disk and a kill included, what was at the target is untouched.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::{base::progress::Progress, restore};
///
/// let options = restore::Options {
///     paths: vec!["full.badger".into(), "inc1.badger".into()],
///     dest: "/var/lib/evbackup/store".into(),
///     engine: Some("rocksdb".into()),
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
    let plan = Plan::make(options)?;
    if options.dry_run {
        return Ok(plan.restored(options, None, progress));
    }
    plan.carry_out(options, progress)
}

/// What was built, and what it shows.
#[derive(Clone, Copy)]
struct Built {
    written: Written,
    tip: u64,
}

/// All that can be known before anything is written.
struct Plan {
    chain: Chain,
    /// The datastore that is to be replaced, locked.
    old: Option<DirLock>,
    owner: Owner,
    notes: Vec<String>,
}

impl Plan {
    fn make(options: &Options) -> Result<Self> {
        if options.paths.is_empty() {
            return Err(Error::invalid("expected at least one segment, found none"));
        }
        let engine = engine(options)?;
        if options.at_height.is_some() {
            return Err(Error::unsupported("cannot cut at a height yet").with_hint("leave at_height out"));
        }
        let old = target::check(&options.dest, &options.paths, engine, options.overwrite)?;
        let chain = Chain::open(&options.paths, None)?;
        chain.refuse()?;
        let owner = Owner::of_target(&options.dest, options.owner)?;
        require_space(target::parent(&options.dest), needed(&chain))?;
        let mut notes: Vec<_> = chain.findings().iter().map(|finding| finding.message.clone()).collect();
        notes.extend(chain.torn_note());
        Ok(Self { chain, old, owner, notes })
    }

    /// Checks and builds while another core digests the segments: what is put in place was proven whole.
    fn carry_out(self, options: &Options, progress: &Progress) -> Result<Restored> {
        let proofs = self.proofs();
        let failed = AtomicBool::new(false);
        std::thread::scope(|threads| {
            let digests = threads.spawn(|| digests(&proofs, &|| go_on(progress, &failed)));
            let join = || digests.join().unwrap_or_else(|_| Err(Error::io("a thread has died")));
            let restored = self.carry_out_with(join, options, progress);
            failed.store(restored.is_err(), Relaxed);
            restored
        })
    }

    fn carry_out_with(
        mut self,
        digests: impl FnOnce() -> Result<Vec<[u8; 32]>>,
        options: &Options,
        progress: &Progress,
    ) -> Result<Restored> {
        progress.begin(Phase::Verifying, self.chain.bytes());
        let findings = self.chain.check(Level::Full, false, progress)?;
        refuse(&findings)?;
        let told = findings.iter().filter(|finding| finding.level > Severity::Info);
        self.notes.extend(told.map(|finding| finding.message.clone()));

        let mut part = PartDir::create(&options.dest)?;
        part.set_owner(self.owner)?;
        let built = self.build(part.path(), digests, options, progress)?;
        progress.begin(Phase::Finishing, 0);
        progress.check()?;
        let replaced = match &self.old {
            Some(old) => part.swap(old, options.keep_replaced)?,
            None => part.commit().map(|()| None)?,
        };
        let mut restored = self.restored(options, Some(built), progress);
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

    /// Builds the store in `dir`; `digests` waits for those of the segments.
    fn build(
        &self,
        dir: &Path,
        digests: impl FnOnce() -> Result<Vec<[u8; 32]>>,
        options: &Options,
        progress: &Progress,
    ) -> Result<Built> {
        let memory = (options.memory_mib.max(16) << 20) / SHARES;
        let scratch = Scratch::new(target::parent(&options.dest));
        progress.begin(Phase::Writing, self.chain.bytes());
        let mut loader = Loader::create(dir, LoadOptions { memory, progress: progress.clone() })?;
        let mut source = self.chain.source_for_store(true, &scratch, memory, progress)?;
        pour(&mut *source, &mut loader, progress)?;
        let sha256 = digests()?;
        let applied = self.applied(&sha256);
        let written = loader.finish_with(NewAbout {
            pinned_version: self.pinned(),
            deletes: self.chain.deletes().name().to_owned(),
            applied,
            store_id: None,
        })?;
        let made = Store::open_held(dir)?;
        let snapshot = made.snapshot()?;
        if made.about().entries != written.entries || snapshot.pinned_version() != self.pinned() {
            return Err(
                Error::damaged("expected to read back what was written, found something else").at_path(dir)
            );
        }
        Ok(Built { written, tip: snapshot.tip()? })
    }

    fn proofs(&self) -> Vec<Proof> {
        let proof = |segment: &Segment| Proof {
            input: segment.input(),
            path: segment.path().to_owned(),
            sha256: segment.sha256().map(str::to_owned),
        };
        self.chain.segments().iter().map(proof).collect()
    }

    fn applied(&self, sha256: &[[u8; 32]]) -> Vec<Applied> {
        let segments = self.chain.segments().iter().zip(sha256);
        segments
            .map(|(segment, sha256)| Applied {
                source: target::store_id(segment.manifest()),
                sha256: *sha256,
                complete_version: segment.manifest().map_or(0, |manifest| manifest.complete_version),
            })
            .collect()
    }

    fn pinned(&self) -> u64 {
        self.chain.complete_version().unwrap_or_else(|| self.chain.last_version())
    }

    fn restored(&self, options: &Options, built: Option<Built>, progress: &Progress) -> Restored {
        let newest = self.chain.newest();
        let counted =
            self.chain.segments().iter().filter_map(|segment| segment.manifest()).map(|m| m.entries).sum();
        let mut notes = self.notes.clone();
        notes.push("a restored datastore begins a new history: the next backup of a node that runs on it is a full one".into());
        Restored {
            path: options.dest.clone(),
            engine: Engine::RocksDb.name(),
            dry_run: options.dry_run,
            segments: self.chain.segments().iter().map(|segment| segment.path().to_owned()).collect(),
            entries: built.map_or(counted, |built| built.written.entries),
            bytes: self.chain.bytes(),
            last_version: self.chain.last_version(),
            complete_version: self.pinned(),
            store_id: built
                .map_or_else(String::new, |built| crate::flow::hasher::hex(&built.written.store_id)),
            deletes: self.chain.deletes().name(),
            tip_height: built
                .map_or_else(|| newest.map_or(0, |manifest| manifest.tip_height), |built| built.tip),
            complete_height: newest.map_or(0, |manifest| manifest.complete_height),
            replaced: None,
            notes,
            elapsed_s: progress.state().elapsed_s,
        }
    }
}

fn engine(options: &Options) -> Result<Engine> {
    let hint = "choose the engine rocksdb: it makes a store that evbackup queries, serves and exports";
    match options.engine.as_deref().map(Engine::from_name).transpose()? {
        Some(engine @ Engine::RocksDb) => Ok(engine),
        Some(Engine::Badger) => {
            Err(Error::unsupported("cannot write a Badger directory yet").with_hint(hint))
        }
        None => Err(Error::invalid("expected an engine, found none").with_hint(hint)),
    }
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

fn pour(source: &mut dyn Source, loader: &mut Loader, progress: &Progress) -> Result<()> {
    let (mut bytes, mut entries) = (0, 0);
    while source.advance()? {
        let entry = source.entry();
        bytes += (entry.key.len() + entry.value.len()) as u64;
        entries += 1;
        loader.put(entry)?;
        if bytes >= 1 << 20 {
            progress.check()?;
            progress.add(bytes, entries);
            (bytes, entries) = (0, 0);
        }
    }
    progress.add(bytes, entries);
    Ok(())
}

/// Tables are about as large as the segments, or smaller; the index adds a key and a few bytes for each entry.
fn needed(chain: &Chain) -> u64 {
    chain.bytes() + chain.bytes() / 8 + (64 << 20)
}
