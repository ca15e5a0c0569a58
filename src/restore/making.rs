//! From what is read to what is built, cut on the way where that was asked for or where the chain is torn.

use super::Options;
use super::build::{Built, build};
use super::cutting::{Cutting, Ready, Report, Stock, Wish, prepare};
use super::origin::{Facts, Kept};
use crate::base::durable::PartDir;
use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::{Need, Source};
use crate::error::{Error, Kind, Result};
use crate::evnode::chain::Head as Ends;
use crate::evnode::cut::Head;
use crate::evnode::generation::Generation;
use crate::flow::bare::{self, Open, Told};
use crate::flow::chain::Chain;
use crate::flow::chain_look::{Look, Looking};
use crate::flow::chain_summary::note_of;
use crate::flow::checks::Level;
use crate::flow::cut::CutSource;
use crate::flow::datastore::Engine;
use crate::flow::finding::{Level as Severity, refuse};
use crate::flow::hasher::digest_file;
use crate::flow::segment::Segment;
use crate::flow::target;
use crate::flow::torn::View;
use crate::format::FileInput;
use crate::repo::manifest::{Deletes, Manifest};
use crate::store::Applied;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What damaged bytes may look like to who reads them before their digest is known: another value for a version, no block, another hash.
const MAYBE_DAMAGE: [Kind; 5] =
    [Kind::Damaged, Kind::Mismatch, Kind::Missing, Kind::Invalid, Kind::Unsupported];

/// What says that a chain cannot be cut, and not that something went wrong.
const UNCUTTABLE: [Kind; 4] = [Kind::Unsupported, Kind::Damaged, Kind::Missing, Kind::Invalid];

/// What was made: nothing in a plan.
#[derive(Default)]
pub(super) struct Made {
    pub(super) place: Option<(PartDir, Built)>,
    pub(super) cut: Option<Report>,
}

/// What a restore works with.
pub(super) struct Work<'a> {
    pub(super) wish: &'a Wish,
    pub(super) facts: &'a mut Facts,
    pub(super) notes: &'a mut Vec<String>,
    pub(super) options: &'a Options,
    pub(super) progress: &'a Progress,
}

impl Work<'_> {
    /// Checks and builds while another core digests the segments: what is put in place was proven whole.
    pub(super) fn of_chain(
        &mut self,
        chain: &mut Chain,
        begin: impl FnOnce() -> Result<PartDir>,
    ) -> Result<Made> {
        if self.options.dry_run {
            return self.read_chain(chain, begin, || Ok(Vec::new()));
        }
        let proofs: Vec<_> = chain.segments().iter().map(Proof::of).collect();
        let failed = AtomicBool::new(false);
        let progress = self.progress;
        std::thread::scope(|threads| {
            let digests = threads.spawn(|| digests(&proofs, &|| go_on(progress, &failed)));
            let proven = || digests.join().unwrap_or_else(|_| Err(Error::io("a thread has died")));
            let made = self.checked_chain(chain, begin, proven);
            failed.store(made.is_err(), Relaxed);
            made
        })
    }

    /// Where no manifest says how far a chain is whole, what its blocks say. What it is no chain of is noted.
    fn told(&mut self, chain: &Chain, stock: &Stock<'_>) -> Result<Option<Told>> {
        if self.wish.asked {
            return Ok(None);
        }
        if !chain.ends_unsaid() {
            self.notes.extend(nothing_to_cut(chain));
            return Ok(None);
        }
        self.progress.begin(Phase::Verifying, chain.bytes());
        let told = bare::look(stock.open, self.progress)?;
        if chain.bytes() > 0 {
            self.notes.extend(note_of(told.of_evnode, told.generation));
        }
        self.facts.tip_height = told.tip.unwrap_or_default();
        self.facts.complete_height = if told.torn { 0 } else { told.height };
        Ok(Some(told))
    }

    /// Of what is torn, nobody knows at which version, and not cut, only what is whole shall show; the version and the height of that.
    fn hide(
        &mut self,
        chain: &Chain,
        told: Option<Told>,
        stock: &mut Stock<'_>,
    ) -> Result<Option<(u64, u64)>> {
        let Some(Told { height, .. }) = told.filter(|told| told.torn) else { return Ok(None) };
        self.progress.begin(Phase::Verifying, chain.bytes());
        let Some(version) = bare::version_of(stock.open, height, self.progress)? else {
            self.notes.push(format!(
                "no manifest says how far it is whole: what is there of blocks above {height} may be torn, and shows all the same"
            ));
            return Ok(None);
        };
        let then = match self.options.engine()? {
            Engine::RocksDb => "they are kept and show once an increment completes them",
            Engine::Badger => "they are left out: a Badger directory would show them",
        };
        self.notes.push(format!(
            "no manifest says how far it is whole; its blocks are, up to version {version}, height {height}: entries above may be torn; {then}"
        ));
        stock.complete = version;
        let facts = &mut *self.facts;
        (facts.complete_version, facts.shown) = (version, version);
        (facts.tip_height, facts.complete_height) = (height, height);
        Ok(Some((version, height)))
    }

    fn checked_chain(
        &mut self,
        chain: &mut Chain,
        begin: impl FnOnce() -> Result<PartDir>,
        proven: impl FnOnce() -> Result<Vec<[u8; 32]>>,
    ) -> Result<Made> {
        if !chain.segments().iter().all(Segment::is_laid_out) {
            self.check(chain)?;
            return self.read_chain(chain, begin, proven);
        }
        // One reading is enough: what is wrong shows in the order, the counts or the digest before anything is put in place. For the versions the
        // manifest's own digest vouches.
        let made = self.read_chain(chain, begin, proven);
        if made.as_ref().is_err_and(|error| MAYBE_DAMAGE.contains(&error.kind())) {
            // And another one says where, and whether it was the bytes at all.
            self.check(chain)?;
        }
        made
    }

    /// Reads every byte of the segments, and refuses what is wrong with them.
    fn check(&mut self, chain: &mut Chain) -> Result<()> {
        self.progress.begin(Phase::Verifying, chain.bytes());
        let findings = chain.check(Level::Full, false, self.progress)?;
        refuse(&findings)?;
        let told = findings.iter().filter(|finding| finding.level > Severity::Info);
        self.notes.extend(told.map(|finding| finding.message.clone()));
        // Of a segment without a manifest only its bytes tell.
        *self.facts = Facts::of_chain(chain);
        Ok(())
    }

    /// Cuts it, or takes it as it is. A plan stops before anything is made, and reads only what it must to say what a cut would do.
    fn read_chain(
        &mut self,
        chain: &Chain,
        begin: impl FnOnce() -> Result<PartDir>,
        proven: impl FnOnce() -> Result<Vec<[u8; 32]>>,
    ) -> Result<Made> {
        let (options, progress) = (self.options, self.progress);
        let scratch = Scratch::new(target::parent(&options.dest));
        let open = || chain.source(&scratch, options.share(), progress);
        let mut stock = stock_of_chain(chain, &open, self.wish);
        let told = self.told(chain, &stock)?;
        if let Some(ready) = self.ready(chain, told.as_ref(), &stock)? {
            if options.dry_run {
                return self.rehearse(ready, &stock, &scratch);
            }
            return self.build_cut(ready, &stock, &scratch, begin, || proven().map(drop));
        }
        let end = self.hide(chain, told, &mut stock)?;
        self.prove(&stock)?;
        if options.dry_run {
            return Ok(Made::default());
        }
        let part = begin()?;
        progress.begin(Phase::Writing, chain.bytes());
        let mut source = match end {
            Some(end) => chain.source_up_to(end, true, &scratch, options.share(), progress)?,
            None => chain.source_for_store(true, &scratch, options.share(), progress)?,
        };
        let proof = || Ok(applied(chain, &proven()?));
        let built = build(part.path(), &mut *source, self.facts, proof, options, progress)?;
        Ok(Made { place: Some((part, built)), cut: None })
    }

    /// What was planned was only looked at; what is written comes from one snapshot.
    pub(super) fn of_datastore(
        &mut self,
        kept: &Kept,
        begin: impl FnOnce() -> Result<PartDir>,
    ) -> Result<Made> {
        let (options, progress) = (self.options, self.progress);
        if options.dry_run && !self.wish.asked && !self.wish.knows() {
            return Ok(Made::default());
        }
        let snapshot = kept.datastore.snapshot_for(&Need::everything(), progress)?;
        self.facts.complete_version = snapshot.pinned_version();
        self.facts.shown = self.facts.complete_version;
        self.facts.last_version = self.facts.last_version.max(self.facts.complete_version);
        self.facts.deletes = Deletes::from_name(snapshot.deletes()).unwrap_or(Deletes::Unknown);
        self.facts.tip_height = snapshot.tip()?;
        self.facts.complete_height = self.facts.tip_height;
        let open = || snapshot.source(0);
        let stock = Stock {
            open: &open,
            complete: u64::MAX,
            head: Head::Exact,
            prefixes: &[],
            deletes: self.facts.deletes,
            torn: self.facts.last_version > self.facts.complete_version,
            lacks: false,
        };
        if self.wish.asked {
            let scratch = Scratch::new(target::parent(&options.dest));
            let ready = prepare(&stock, self.wish, options, self.facts, progress)?;
            if options.dry_run {
                return self.rehearse(ready, &stock, &scratch);
            }
            return self.build_cut(ready, &stock, &scratch, begin, || Ok(()));
        }
        self.prove(&stock)?;
        if options.dry_run {
            return Ok(Made::default());
        }
        progress.begin(Phase::Writing, self.facts.bytes);
        // What is history only: a directory is written without it, unless it is asked for.
        let whole = options.history || options.engine()? == Engine::RocksDb;
        let source = if whole { snapshot.everything()? } else { snapshot.source(0)? };
        let mut source = Looking::new(source, self.facts.tip_height);
        let copied = || {
            let of_directory = || {
                let (source, complete_version) = (kept.datastore.id().to_vec(), snapshot.pinned_version());
                vec![Applied { source, sha256: [0; 32], complete_version }]
            };
            // A copy of a store takes the increments that the store would take.
            Ok(kept.about.as_ref().map_or_else(of_directory, |about| about.applied.clone()))
        };
        let part = begin()?;
        let built = build(part.path(), &mut source, self.facts, copied, options, progress)?;
        self.notes.extend(source.finish().and_then(note_of_look));
        Ok(Made { place: Some((part, built)), cut: None })
    }

    /// The cut; `None` where nobody asked for one and it need not or cannot be.
    fn ready(&mut self, chain: &Chain, told: Option<&Told>, stock: &Stock<'_>) -> Result<Option<Ready>> {
        let cutting = self.wish.cutting(chain, told, self.options)?;
        if cutting == Cutting::No {
            return Ok(None);
        }
        let before = self.facts.clone();
        match prepare(stock, self.wish, self.options, self.facts, self.progress) {
            Ok(ready) if cutting == Cutting::OfItsState && !ready.adds() => {
                *self.facts = before;
                self.notes.push(
                    "nothing says where the node stood on DA after its last block: a sequencer with forced inclusion reads nothing from there; genesis= \
                     says where it starts"
                        .to_owned(),
                );
                Ok(None)
            }
            Ok(ready) => Ok(Some(ready)),
            Err(error) if !self.wish.asked && UNCUTTABLE.contains(&error.kind()) => {
                let shown =
                    if stock.complete < u64::MAX { "only what is complete is shown, and " } else { "" };
                self.notes.push(format!("{shown}nothing is cut: {}", error.what()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Nothing is written before what the caller knows of the blocks is seen to hold.
    fn prove(&mut self, stock: &Stock<'_>) -> Result<()> {
        if !self.wish.knows() {
            return Ok(());
        }
        let height = self.facts.complete_height;
        // What shows is whole up to there; what stands in may speak of more.
        let torn = stock.complete < u64::MAX && height > 0;
        let head = if torn { Ends::Announced(height) } else { Ends::Exact };
        let mut view = View::new((stock.open)()?, stock.complete, height);
        let notes = self.wish.prove(&mut view, head, self.facts, self.progress)?;
        self.notes.extend(notes);
        Ok(())
    }

    /// The same of what is left after a cut.
    fn prove_cut(&mut self, ready: &Ready, stock: &Stock<'_>, scratch: &Scratch) -> Result<()> {
        if !self.wish.knows() {
            return Ok(());
        }
        let mut source = ready.clone().source(stock, scratch, self.progress)?;
        let notes = self.wish.prove(&mut source, Ends::Exact, self.facts, self.progress)?;
        self.notes.extend(notes);
        Ok(())
    }

    fn build_cut(
        &mut self,
        ready: Ready,
        stock: &Stock<'_>,
        scratch: &Scratch,
        begin: impl FnOnce() -> Result<PartDir>,
        proof: impl FnOnce() -> Result<()>,
    ) -> Result<Made> {
        self.prove_cut(&ready, stock, scratch)?;
        let part = begin()?;
        self.progress.begin(Phase::Writing, self.facts.bytes);
        let mut source = ready.source(stock, scratch, self.progress)?;
        // It follows no segment any more: none may be applied to it.
        let proof = || proof().map(|()| vec![Applied::default()]);
        let built = build(part.path(), &mut source, self.facts, proof, self.options, self.progress)?;
        let cut = Some(self.report(&source));
        Ok(Made { place: Some((part, built)), cut })
    }

    /// Reads all that would be written, and writes nothing.
    fn rehearse(&mut self, ready: Ready, stock: &Stock<'_>, scratch: &Scratch) -> Result<Made> {
        self.prove_cut(&ready, stock, scratch)?;
        self.progress.begin(Phase::Verifying, self.facts.bytes);
        let mut source = ready.source(stock, scratch, self.progress)?;
        let mut entries = 0u64;
        while source.advance()? {
            entries += 1;
            if entries.is_multiple_of(1024) {
                self.progress.check()?;
                self.progress.add(0, 1024);
            }
        }
        self.facts.entries = entries;
        Ok(Made { place: None, cut: Some(self.report(&source)) })
    }

    fn report<S: Source>(&mut self, source: &CutSource<S>) -> Report {
        let report = Report::of(source.cut());
        let why = if self.wish.asked { "" } else { ", up to which the chain is whole" };
        self.notes.push(format!("cut at height {}{why}", report.height));
        report
    }
}

fn stock_of_chain<'a>(chain: &Chain, open: &'a Open<'a>, wish: &'a Wish) -> Stock<'a> {
    let complete = chain.complete_version().unwrap_or(u64::MAX);
    let manifests = chain.segments().iter().filter_map(Segment::manifest);
    Stock {
        open,
        complete,
        head: wish.head,
        prefixes: &wish.prefixes,
        deletes: chain.deletes(),
        // A look at it tells.
        torn: false,
        lacks: manifests.into_iter().any(|manifest| !manifest.lacks.is_empty()),
    }
}

/// What the manifests say where there are no blocks to check or cut.
fn nothing_to_cut(chain: &Chain) -> Option<String> {
    let segments = || chain.segments().iter();
    // A full reading tells of segments without a manifest; before it, nothing does.
    let silent = segments().any(|segment| segment.manifest().is_none() && segment.tally().is_none());
    if silent || chain.bytes() == 0 {
        return None;
    }
    let has_blocks = |manifest: &Manifest| manifest.blocks.is_some() || manifest.complete_height > 0;
    let of_evnode = segments().any(|one| one.manifest().map_or(one.has_blocks(), has_blocks));
    let newest = chain.newest().and_then(|newest| newest.blocks.as_ref()?.generation.as_deref());
    note_of(of_evnode, newest.and_then(Generation::from_name))
}

/// What the entries of a datastore say where there are no blocks to check or cut.
fn note_of_look(look: Look) -> Option<String> {
    let chain = look.finish(None, false);
    note_of(chain.is_some(), chain.and_then(|chain| Generation::from_name(chain.generation?)))
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
