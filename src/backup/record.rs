//! The blocking half of a backup: it owns the unfinished files, decides whether what came is what was promised, and names them.

use super::blocks::Way;
use super::describe::{Copied, Facts, describe};
use super::graves::{Burial, Graves, burial, bury_gone, list_live};
use super::session::{Local, Question};
use super::{Backup, Options, Output, SharedWriter};
use crate::base::durable::{FileLock, PartFile, Replace, require_space, write_file};
use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::{Entry, Sink, Source};
use crate::error::{Error, Result};
use crate::evnode::key;
use crate::flow::gone::{Gone, Standing};
use crate::flow::increment::{Base, compare, settle};
use crate::flow::intake::{Arrivals, Out, Proven, Recorded, Recorder};
use crate::flow::merge::{Merge, Ordered};
use crate::flow::segment::sorted;
use crate::flow::sort::Sorter;
use crate::flow::target::parent;
use crate::flow::watch::Watch;
use crate::format::{FileInput, FrameSink as _, Writer};
use crate::repo::keys::KeysWriter;
use crate::repo::manifest::{Keys, Kind, Manifest};
use crate::repo::{catalog, pair};
use crate::rpc::{Announced, Final};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Memory for sorting keys on their way; most sources bring them sorted.
const SORT_MEMORY: usize = 32 << 20;

/// What the attempts of one call share.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// The lock of the folder that the segment goes into.
    pub(super) folder: Option<Arc<FileLock>>,
    /// Something has gone into the output stream, so no other attempt can follow.
    pub(super) begun: Arc<AtomicBool>,
}

/// Where the segment goes, held so that nobody else writes there.
pub(super) enum Target {
    Files { segment: Box<PartFile>, path: PathBuf, replace: Replace, _folder: Option<Arc<FileLock>> },
    Stream { writer: SharedWriter, manifest: Option<PathBuf>, begun: Arc<AtomicBool> },
}

impl Target {
    pub(super) fn begin(options: &Options, held: Held, increment: bool) -> Result<Self> {
        let replace = options.replace();
        match &options.output {
            Output::File(path) => {
                let segment = Box::new(pair::begin(path, replace)?);
                Ok(Self::Files { segment, path: path.clone(), replace, _folder: None })
            }
            Output::Folder(folder) => {
                catalog::clear_leftovers(folder);
                let kind = if increment { Kind::Inc } else { Kind::Full };
                let source = options.origin.name();
                let path = catalog::new_name(folder, None, &source, jiff::Timestamp::now(), kind);
                let segment = Box::new(pair::begin(&path, Replace::Never)?);
                Ok(Self::Files { segment, path, replace: Replace::Never, _folder: held.folder })
            }
            Output::Stream { writer, manifest } => {
                Ok(Self::Stream { writer: Arc::clone(writer), manifest: manifest.clone(), begun: held.begun })
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Files { path, .. } => path,
            Self::Stream { .. } => Path::new("-"),
        }
    }

    fn scratch(&self) -> Scratch {
        match self {
            Self::Files { path, .. } => Scratch::new(parent(path)),
            Self::Stream { .. } => Scratch::system(),
        }
    }

    fn begin_keys(&self) -> Result<Option<PartFile>> {
        match self {
            Self::Files { segment, .. } => pair::begin_keys(segment).map(Some),
            Self::Stream { .. } => Ok(None),
        }
    }
}

impl Out for Target {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Files { segment, .. } => segment.append(bytes),
            Self::Stream { writer, begun, .. } => {
                begun.store(true, Relaxed);
                let mut writer = writer.lock().map_err(|_| Error::io("a thread has died while it wrote"))?;
                Out::append(&mut *writer, bytes)
            }
        }
    }
}

/// A backup being recorded.
pub(super) struct Record {
    target: Target,
    options: Arc<Options>,
    base: Option<Base>,
    question: Question,
    notes: Vec<String>,
    progress: Progress,
    announced: Announced,
    standing: Standing,
    /// Do ev-node's rules say for certain which keys of the block families are gone?
    sure: bool,
    started: jiff::Timestamp,
    /// The blocks are copied one by one: how, and of which chain.
    copying: Option<(Way, String)>,
    proven: Option<Proven>,
}

pub(super) type KeysFile = KeysWriter<PartFile>;

impl Record {
    pub(super) fn new(
        target: Target,
        options: Arc<Options>,
        base: Option<Base>,
        question: Question,
        notes: Vec<String>,
        progress: Progress,
    ) -> Self {
        let (announced, started) = (Announced::default(), jiff::Timestamp::now());
        let (standing, sure) = (Standing::default(), true);
        let (copying, proven) = (None, None);
        Self {
            target,
            options,
            base,
            question,
            notes,
            progress,
            announced,
            standing,
            sure,
            started,
            copying,
            proven,
        }
    }

    /// The segment that the backup follows.
    pub(super) fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// The blocks are copied one by one, of this chain.
    pub(super) fn copying(&mut self, way: Way, chain_id: String, notes: &[String]) {
        self.copying = Some((way, chain_id));
        self.notes.extend_from_slice(notes);
    }

    /// Something that the operator should know.
    pub(super) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    /// May a copy whose source has gone end where it is whole, for an increment to go on from?
    pub(super) fn may_end_early(&self) -> bool {
        matches!(self.target, Target::Files { .. }) && self.options.target_height.is_none()
    }

    /// Room for what is sorted on the way.
    pub(super) fn scratch(&self) -> Scratch {
        self.target.scratch()
    }

    pub(super) fn question(&self) -> &Question {
        &self.question
    }

    /// Judges what the source says of itself, before any byte is taken.
    pub(super) fn announce(&mut self, announced: Announced) -> Result<()> {
        let height = announced.current_height;
        if let Some(wanted) = self.options.target_height
            && height < wanted
        {
            return Err(Error::unavailable(format!("expected a tip of at least {wanted}, found {height}"))
                .at(self.options.origin.name())
                .with_hint("wait until the node has come that far"));
        }
        if let Some(base) = &self.base {
            let known = base.manifest.store_id.as_deref().unwrap_or_default();
            let found = crate::flow::hasher::hex(&announced.store_id);
            if known != found {
                let name = |id: &str| {
                    if id.is_empty() { "a source without an id".into() } else { format!("store {id}") }
                };
                return Err(base.mismatch(format!(
                    "it was taken from {}, this is {}",
                    name(known),
                    name(&found)
                )));
            }
            if height < base.manifest.announced_height {
                let before = base.manifest.announced_height;
                return Err(base.mismatch(format!("the source's tip fell from {before} to {height}")));
            }
        }
        // What a full backup takes is known well enough. Of an increment a directory only knows in which tables it lies.
        if let Target::Files { path, .. } = &self.target
            && self.base.is_none()
            && self.question.since == 0
        {
            require_space(parent(path), announced.estimated_bytes)?;
        }
        self.announced = announced;
        Ok(())
    }

    pub(super) fn run_announced(mut self, arrivals: &mut Local, progress: &Progress) -> Result<Backup> {
        let announced = arrivals.announced()?;
        progress.begin(Phase::Receiving, announced.estimated_bytes);
        progress.set_height(announced.current_height);
        self.announce(announced)?;
        self.run(arrivals)
    }

    /// Takes everything that arrives, and makes the segment visible.
    pub(super) fn run(mut self, arrivals: &mut dyn Arrivals) -> Result<Backup> {
        // A list that goes on from one that is not there, or from a bare version, would be none.
        let listed = match &self.base {
            Some(base) => self.question.exact || base.manifest.keys.is_some(),
            None => self.question.since == 0,
        };
        let mut keys = match self.target.begin_keys()?.filter(|_| listed) {
            Some(part) => {
                let path = part.path().to_owned();
                Some(KeysWriter::new(part, path))
            }
            None => None,
        };
        let (recorded, end) = if self.question.exact {
            self.compared(arrivals, keys.as_mut())?
        } else {
            self.streamed(arrivals, keys.as_mut())?
        };
        self.proven = arrivals.proven();
        self.notes.extend(self.proven.iter().flat_map(|proven| proven.notes.clone()));
        let all = self.lists_all();
        let keys = keys.map(|keys| keys.finish(all)).transpose()?;
        let (keys_part, keys) = keys.unzip();
        let manifest = describe(&self.facts(&recorded, &end, keys))?;
        self.progress.begin(Phase::Finishing, 0);
        self.progress.check()?;
        self.commit(keys_part, &manifest)
    }

    /// Are the keys of the block families listed, too? Where the source has no blocks, nobody else says which of them are live.
    fn lists_all(&self) -> bool {
        let base = self.base.as_ref().and_then(|base| base.manifest.keys.as_ref());
        let asked = self.question.exact || self.options.exact == Some(true);
        asked || base.map_or(self.announced.current_height == 0, |keys| keys.all)
    }

    /// Must deletes of the block families be derived? A store keeps its tombstones.
    fn derives(&self) -> bool {
        self.copying.is_some() || self.announced.pinned_version.is_none() || self.announced.reuses_versions
    }

    fn watch(&self, keys: Option<Sorter>) -> Watch {
        let marks = [key::PRUNED_BLOCKS, key::PRUNED_STATES, key::PRUNED_EXEC_META];
        let mut wanted: Vec<_> = [key::TIP].into_iter().chain(marks).map(<[u8]>::to_vec).collect();
        let base = self.base.as_ref().map(|base| base.manifest.complete_height);
        for height in
            [Some(self.announced.current_height), base].into_iter().flatten().filter(|height| *height > 0)
        {
            let header = key::header(height);
            if !wanted.contains(&header) {
                wanted.push(header);
            }
        }
        Watch::new(wanted, keys, self.lists_all()).looking_at(self.announced.current_height)
    }

    /// The stream is the segment; tombstones of our own may follow it.
    fn streamed(
        &mut self,
        arrivals: &mut dyn Arrivals,
        keys: Option<&mut KeysFile>,
    ) -> Result<(Recorded, Final)> {
        let (scratch, progress) = (self.target.scratch(), self.progress.clone());
        let collects = keys.is_some() || self.base.is_some();
        let sorter = || Sorter::new(&scratch, SORT_MEMORY, &progress);
        let mut watch = self.watch(collects.then(sorter));
        if let Some(base) = self.base.as_ref().filter(|_| self.derives()) {
            watch = watch.touching(base.manifest.highest_height, sorter());
        }
        let mut listed = sorter();
        let base = self.base.clone();
        let (announced, since) = (self.announced.clone(), self.question.since);
        let recorder = Recorder::new(&mut self.target, watch, &progress);
        let (mut recorder, end, any_listed) = recorder.receive(arrivals, &mut listed)?;
        check_end(&end, recorder.watch())?;
        if base.is_none() && since == 0 {
            check_tip(&announced, recorder.watch())?;
        }
        if let Some(base) = &base {
            check_base(base, &announced, &end, recorder.watch(), &self.question)?;
        }
        let before = base.as_ref().map(standing_of);
        self.standing = standing(before, &announced, &end, recorder.watch());
        let changed = recorder.watch().take_keys().map(Sorter::finish).transpose()?;
        let touched = recorder.watch().take_touched().map(Sorter::finish).transpose()?;
        // Who may give out a version twice lists its keys, and be it none.
        let lists = any_listed || (announced.reuses_versions && self.question.proof.is_some());
        let base_keys = base.as_ref().map(Base::keys).transpose()?.flatten();
        let mut buried = 0;
        match (&base, base_keys, changed) {
            (Some(base), Some(mut base_keys), Some(mut changed)) => {
                let mut listed = if lists { Some(listed.finish()?) } else { None };
                let listed = listed.as_mut().map(|listed| &mut **listed as &mut dyn Source);
                let version = burial(base, &announced, &end, recorder.watch());
                let mut graves = Graves::new(recorder, Burial { base, announced: &announced, version }, keys);
                settle(base, &mut base_keys, &mut *changed, listed, &mut graves, &progress)?;
                (recorder, buried) = graves.finish();
            }
            (Some(base), None, _) if lists => {
                return Err(Error::missing(
                    "expected the base's keys file, from which deletes follow, found none",
                )
                .at_path(pair::keys_path(&base.path))
                .with_hint("take a full backup"));
            }
            (None, _, Some(mut changed)) => {
                if let Some(keys) = keys {
                    list_live(&mut *changed, keys)?;
                }
            }
            _ => {}
        }
        if let (Some(base), Some(before), Some(touched)) = (&base, before, touched) {
            let gone = Gone::between(&before, &self.standing);
            self.sure = gone.sure;
            // Above the base in any case: blocks that were pruned do not come back.
            let version = burial(base, &announced, &end, recorder.watch());
            let version = version.max(base.manifest.last_version.saturating_add(1));
            let burial = Burial { base, announced: &announced, version };
            let more;
            (recorder, more) = bury_gone(recorder, &gone, touched, burial, sorter())?;
            buried += more;
        }
        if buried > 0 {
            self.notes.push(format!("{buried} deletes that the stream did not carry were added"));
        }
        Ok((recorder.finish()?, end))
    }

    /// Everything is fetched into a nameless file and compared with the base's keys; the segment is what differs.
    fn compared(
        &mut self,
        arrivals: &mut dyn Arrivals,
        mut keys: Option<&mut KeysFile>,
    ) -> Result<(Recorded, Final)> {
        let Some(base) = self.base.clone() else {
            return Err(Error::invalid("expected a base to compare with, found none"));
        };
        let (scratch, progress) = (self.target.scratch(), self.progress.clone());
        let mut spool = scratch.file()?;
        let mut listed = Sorter::new(&scratch, SORT_MEMORY, &progress);
        let recorder = Recorder::new(&mut spool, self.watch(None), &progress);
        let (mut recorder, end, _) = recorder.receive(arrivals, &mut listed)?;
        check_end(&end, recorder.watch())?;
        check_tip(&self.announced, recorder.watch())?;
        check_base(&base, &self.announced, &end, recorder.watch(), &self.question)?;
        let watch = recorder.finish()?.watch;
        self.standing = standing(None, &self.announced, &end, &watch);
        let layout = watch.tally().layout();
        let input = FileInput::from_file(spool, scratch.folder())?;
        let sources = sorted(&input, layout, "the source", &scratch, SORT_MEMORY, &progress)?;
        let mut all = Ordered::new(Merge::in_passes(sources, &scratch, &progress)?);
        let Some(mut base_keys) = base.keys()? else {
            return Err(Error::missing("expected the base's keys file, found none")
                .at_path(pair::keys_path(&base.path)));
        };
        let tombstone = burial(&base, &self.announced, &end, &watch);
        let watch = self.watch(None);
        let mut recorder = Recorder::new(&mut self.target, watch, &progress);
        let mut writer = Box::new(Writer::new(1, |frame: &mut Vec<u8>| recorder.frame(frame)));
        let mut live = |entry: &Entry<'_>, hash: u64| match keys.as_deref_mut() {
            Some(keys) => keys.put(entry.key, entry.version, hash),
            None => Ok(()),
        };
        compare(&base, &mut base_keys, &mut all, &mut *writer, &mut live, tombstone, &progress)?;
        writer.finish()?;
        Ok((recorder.finish()?, end))
    }

    fn facts<'a>(&'a self, recorded: &'a Recorded, end: &'a Final, keys: Option<Keys>) -> Facts<'a> {
        Facts {
            options: &self.options,
            path: self.target.path(),
            base: self.base.as_ref(),
            question: &self.question,
            announced: &self.announced,
            end,
            recorded,
            keys,
            standing: self.standing,
            sure: self.sure,
            copied: self.copying.as_ref().zip(self.proven.as_ref()).map(|((way, chain_id), proven)| Copied {
                way: *way,
                chain_id,
                proven,
            }),
            notes: &self.notes,
            started: self.started,
            elapsed_s: self.progress.state().elapsed_s,
        }
    }

    fn commit(self, keys: Option<PartFile>, manifest: &Manifest) -> Result<Backup> {
        let path = self.target.path().to_owned();
        match self.target {
            Target::Files { segment, replace, .. } => pair::commit(*segment, keys, manifest, replace)?,
            Target::Stream { writer, manifest: file, .. } => {
                let mut writer = writer.lock().map_err(|_| Error::io("a thread has died while it wrote"))?;
                writer.flush().map_err(|error| Error::from_io(error, "write it", "standard output"))?;
                if let Some(file) = file {
                    write_file(&file, &manifest.encode()?, self.options.replace())?;
                }
            }
        }
        Ok(backup(path, manifest))
    }
}

fn backup(path: PathBuf, manifest: &Manifest) -> Backup {
    Backup {
        path,
        kind: manifest.kind.name(),
        via: manifest.via.clone(),
        lacks: manifest.lacks.clone(),
        bytes: manifest.bytes,
        entries: manifest.entries,
        since_version: manifest.since_version,
        last_version: manifest.last_version,
        complete_version: manifest.complete_version,
        next_since: manifest.next_since,
        announced_height: manifest.announced_height,
        tip_height: manifest.tip_height,
        complete_height: manifest.complete_height,
        deletes: manifest.deletes.name(),
        sha256: manifest.sha256.clone(),
        elapsed_s: manifest.elapsed_s,
        source: manifest.source.clone(),
        notes: manifest.notes.clone(),
    }
}

fn standing_of(base: &Base) -> Standing {
    let Manifest { tip_height, highest_height, pruned, .. } = base.manifest;
    Standing { tip: tip_height, highest: highest_height, pruned }
}

/// How far the chain goes with this stream; `before` it, where it is an increment.
fn standing(before: Option<Standing>, announced: &Announced, end: &Final, watch: &Watch) -> Standing {
    let before = before.unwrap_or_default();
    let seen = watch.seen(key::TIP).filter(|tip| !tip.delete).and_then(|tip| tip.height);
    Standing {
        tip: seen.or(end.tip_height).unwrap_or(announced.current_height),
        highest: before.highest.max(watch.highest()),
        pruned: watch.pruned(before.pruned),
    }
}

/// The source's last word against what was seen (`docs/reference/wire.md`).
fn check_end(end: &Final, watch: &Watch) -> Result<()> {
    let (said, seen) = (end.last_version, watch.tally().last_version());
    let right = match end.pinned_version {
        Some(pinned) => said == pinned && seen <= pinned,
        None => said == seen,
    };
    if right {
        return in_order(watch);
    }
    let expected = match end.pinned_version {
        Some(pinned) => format!("expected versions up to {pinned} and {pinned} as the last one"),
        None => format!("expected {seen} as the last version"),
    };
    Err(Error::damaged(format!("{expected}, found that the source says {said} and sent {seen}"))
        .with_hint("the stream was damaged, or the server speaks another layout of the RPC; try again"))
}

/// Badger's stream keeps its order within a stream id, and so do we: where it does not, bytes were changed on their way.
fn in_order(watch: &Watch) -> Result<()> {
    match watch.tally().unsorted().filter(|place| place.id != 0) {
        None => Ok(()),
        Some(place) => Err(Error::damaged(format!(
            "expected ascending keys in run {}, found {} too late",
            place.id,
            place.key.escape_ascii()
        ))
        .at_offset(place.offset)),
    }
}

/// A source that announces a block has it, so a full stream of Badger's own RPC without it has lost more than that: nothing else in
/// such a stream would tell.
fn check_tip(announced: &Announced, watch: &Watch) -> Result<()> {
    let height = announced.current_height;
    // A delete of it has arrived as well as a block would have: what is looked for here is a lost frame.
    if announced.pinned_version.is_some() || height == 0 || watch.seen(&key::header(height)).is_some() {
        return Ok(());
    }
    Err(Error::damaged(format!(
        "expected block {height}, which was announced, in the stream, found no header of it"
    ))
    .with_hint("frames were lost on the way, or the node's datastore lacks its newest block; try again"))
}

/// Is the source still the one that the base was taken from? Asked where the server itself proves nothing.
fn check_base(
    base: &Base,
    announced: &Announced,
    end: &Final,
    watch: &Watch,
    question: &Question,
) -> Result<()> {
    let manifest = &base.manifest;
    if announced.pinned_version.is_some() {
        return Ok(());
    }
    let seen = watch.tally().last_version();
    if watch.tally().entries() > 0 && seen < manifest.last_version {
        return Err(base.mismatch(format!(
            "the source's versions went back from {} to {seen}: it has reused them, or is another database",
            manifest.last_version
        )));
    }
    if manifest.complete_height == 0
        || question.since >= manifest.next_since
        || end.since >= manifest.next_since
    {
        return Ok(());
    }
    let height = manifest.complete_height;
    match watch.seen(&key::header(height)).filter(|seen| !seen.delete) {
        Some(seen)
            if manifest.complete_hash.as_deref() == Some(seen.sha256.as_str())
                && seen.version == manifest.complete_version =>
        {
            Ok(())
        }
        Some(seen) => Err(base.mismatch(format!(
            "block {height} is another one: expected SHA-256 {} at version {}, found {} at {}",
            manifest.complete_hash.as_deref().unwrap_or("?"),
            manifest.complete_version,
            seen.sha256,
            seen.version
        ))),
        None if watch
            .seen(key::PRUNED_BLOCKS)
            .and_then(|mark| mark.height)
            .is_some_and(|mark| mark >= height) =>
        {
            Ok(())
        }
        None => Err(base.mismatch(format!(
            "the source does not send block {height} of version {}",
            manifest.complete_version
        ))),
    }
}
