//! Segments that belong together: in which order, whether without a gap, and as one source.
//!
//! A segment follows another when its manifest names that one's digest as its parent, or, for increments that were asked for by a
//! bare version, when it begins at or below the other's complete version. Segments without a manifest say nothing, so they
//! stay where the caller put them and the report says that nobody can vouch for them.

use super::checks::{self, Level};
use super::finding::{Finding, refuse};
use super::index::WithoutOrphans;
use super::merge::{Merge, Named, Ordered};
use super::segment::Segment;
use super::torn::StandIns;
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{OwnedEntry, Source, VecSource};
use crate::error::{Kind, Result};
use crate::evnode::key;
use crate::repo::manifest::{Deletes, Kind as SegmentKind, Manifest};
use std::path::PathBuf;

/// What a chain may follow: nothing (then it begins with a full segment), or what a store has already taken.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct After {
    /// The digest of the last segment taken.
    pub sha256: String,
    /// Up to which version it missed nothing.
    pub complete_version: u64,
    /// The run that wrote it, where it is known.
    pub run_id: Option<String>,
    /// The source's store id, as hex, where it is known.
    pub store_id: Option<String>,
    /// The digests of all segments taken, and what each was complete to: those are passed over.
    pub taken: Vec<(String, u64)>,
}

/// Segments in the order of their making.
#[derive(Debug)]
pub struct Chain {
    segments: Vec<Segment>,
    findings: Vec<Finding>,
}

impl Chain {
    /// Opens segments and puts them in order. What does not fit is a finding, not an error: see [`Chain::refuse`].
    pub fn open(paths: &[PathBuf], after: Option<&After>) -> Result<Self> {
        let (mut segments, mut damaged) = (Vec::new(), Vec::new());
        for path in paths {
            super::segment::expect_file(path)?;
            let (segment, finding) = Segment::open_anyway(path)?;
            segments.push(segment);
            damaged.extend(finding);
        }
        let mut chain = Self::of(segments, after);
        chain.findings.splice(0..0, damaged);
        Ok(chain)
    }

    /// One segment by itself, whatever it should follow.
    pub fn alone(segment: Segment) -> Self {
        Self { segments: vec![segment], findings: Vec::new() }
    }

    fn of(segments: Vec<Segment>, after: Option<&After>) -> Self {
        let (mut segments, mut findings) = without_doubles(segments);
        if let Some(after) = after {
            findings.extend(pass_over(&mut segments, &after.taken));
        }
        let given: Vec<_> = segments.iter().map(|segment| segment.path().to_owned()).collect();
        let (segments, problems) = in_order(segments, after);
        findings.extend(problems);
        let mended = segments.iter().map(Segment::path).ne(given.iter().map(PathBuf::as_path));
        if mended && findings.iter().all(|finding| finding.code == "twice") {
            let names: Vec<_> = segments.iter().map(Segment::name).collect();
            findings.push(Finding::info(
                "order-mended",
                format!("the segments follow each other as {}", names.join(", ")),
            ));
        }
        Self { segments, findings }
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What was found while they were put in order.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Fails when they do not make a chain.
    pub fn refuse(&self) -> Result<()> {
        refuse(&self.findings)
    }

    /// Reads every segment and says what is wrong; see [`checks::segment`].
    pub fn check(&mut self, level: Level, digest: bool, progress: &Progress) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for segment in &mut self.segments {
            findings.extend(checks::segment(segment, level, digest, progress)?);
        }
        Ok(findings)
    }

    /// Reads the segments of which no manifest says where their entries lie, and refuses what is wrong with them.
    pub fn lay_out(&mut self, progress: &Progress) -> Result<()> {
        for segment in self.segments.iter_mut().filter(|segment| segment.layout().is_none()) {
            refuse(&checks::segment(segment, Level::Full, false, progress)?)?;
        }
        Ok(())
    }

    /// All entries in one order, each key and version once; fails where two segments disagree. Index entries [go](super::index) with
    /// their blocks.
    pub fn source(&self, scratch: &Scratch, memory: usize, progress: &Progress) -> Result<Box<dyn Source>> {
        self.source_of(self.segments.len(), scratch, memory, progress)
    }

    /// The same of the first `count` segments.
    pub fn source_of(
        &self,
        count: usize,
        scratch: &Scratch,
        memory: usize,
        progress: &Progress,
    ) -> Result<Box<dyn Source>> {
        let mut sources = Vec::new();
        for segment in self.segments.iter().take(count) {
            sources.extend(segment.sorted(scratch, memory, progress)?);
        }
        let merged = Ordered::new(Merge::in_passes(sources, scratch, progress)?);
        Ok(Box::new(WithoutOrphans::new(merged, scratch, progress)))
    }

    /// The same for a store, which shows what the chain is complete to: with the tip of that moment.
    ///
    /// A stream that was taken under writes may hold only newer versions of `/0/t`, and then nothing would say how high the chain is.
    /// The block at the complete height set it in its own transaction, so the entry is known to the byte. Into a `fresh` store, which
    /// has no older version of any key, other keys get what [stands in](super::torn) for theirs.
    pub fn source_for_store(
        &self,
        fresh: bool,
        scratch: &Scratch,
        memory: usize,
        progress: &Progress,
    ) -> Result<Box<dyn Source>> {
        match self.newest().filter(|newest| !newest.pinned && newest.complete_height > 0) {
            Some(newest) => {
                let end = (newest.complete_version, newest.complete_height);
                self.source_up_to(end, fresh, scratch, memory, progress)
            }
            None => self.source(scratch, memory, progress),
        }
    }

    /// The same where it is not a manifest that says up to which version and height the chain is whole.
    pub fn source_up_to(
        &self,
        (complete, height): (u64, u64),
        fresh: bool,
        scratch: &Scratch,
        memory: usize,
        progress: &Progress,
    ) -> Result<Box<dyn Source>> {
        let source = self.source(scratch, memory, progress)?;
        let source: Box<dyn Source> =
            if fresh { Box::new(StandIns::new(source, complete, height)) } else { source };
        let tip = OwnedEntry {
            key: key::TIP.to_vec(),
            version: complete,
            value: height.to_le_bytes().to_vec(),
            ..OwnedEntry::default()
        };
        let tip = Named::new("the block at the complete height", Box::new(VecSource::new(vec![tip])) as _);
        Ok(Box::new(Merge::new(vec![Named::new("the chain", source), tip])))
    }

    /// What [`source_for_store`](Self::source_for_store) yields for a store that is there and shows its entries at version `shown`, with all
    /// that would stand in if it had no older version of any key: who takes it asks the store.
    pub fn source_for_increment(
        &self,
        shown: u64,
        scratch: &Scratch,
        memory: usize,
        progress: &Progress,
    ) -> Result<StandIns<Box<dyn Source>>> {
        let source = self.source_for_store(false, scratch, memory, progress)?;
        let newest = self.newest().filter(|newest| !newest.pinned && newest.complete_version > shown);
        // Nothing is above the highest version.
        let (complete, height) =
            newest.map_or((u64::MAX, 0), |newest| (newest.complete_version, newest.complete_height));
        Ok(StandIns::new(source, complete, height))
    }

    /// Where entries above the complete version may be torn, what to say of it, and what becomes of them.
    pub fn torn_note(&self, then: &str) -> Option<String> {
        let (complete, last) = (self.complete_version()?, self.last_version());
        (last > complete).then(|| {
            format!(
                "complete up to version {complete}, height {}: entries above it, up to version {last}, may be torn; {then}",
                self.newest().map_or(0, |newest| newest.complete_height)
            )
        })
    }

    /// How far the chain is whole with its first segment, with its first two, and so on: the complete height, and up to which height
    /// blocks were pruned by then. `None` where the last of them has no manifest.
    pub fn prefixes(&self) -> Vec<Option<(u64, u64)>> {
        // An increment since a bare version may end before the segment that it was put behind.
        let mut furthest = (0, (0, 0));
        let says = |segment: &Segment| {
            let manifest = segment.manifest()?;
            if manifest.complete_version >= furthest.0 {
                furthest = (manifest.complete_version, (manifest.complete_height, manifest.pruned.blocks));
            }
            Some(furthest.1)
        };
        self.segments.iter().map(says).collect()
    }

    /// Leaves all but the first segments out.
    pub fn keep_first(&mut self, count: usize) {
        self.segments.truncate(count);
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// The highest version in it.
    pub fn last_version(&self) -> u64 {
        self.segments.iter().map(Segment::last_version).max().unwrap_or(0)
    }

    /// The manifest of its last segment. Where that one has none, an older one does not speak for it.
    pub fn newest(&self) -> Option<&Manifest> {
        self.segments.last().and_then(Segment::manifest)
    }

    /// Are there segments, and no manifest that says where they end?
    pub fn ends_unsaid(&self) -> bool {
        !self.segments.is_empty() && self.newest().is_none()
    }

    /// Up to which version it misses nothing; `None` when nothing says so.
    ///
    /// Where no block of ev-node's tells, a segment that Badger streamed promises no version: then the highest one is all there is.
    pub fn complete_version(&self) -> Option<u64> {
        let newest = self.newest()?;
        let highest = self
            .segments
            .iter()
            .filter_map(Segment::manifest)
            .map(|manifest| manifest.complete_version)
            .max();
        (newest.pinned || newest.complete_height > 0).then_some(highest).flatten()
    }

    /// As sure as the weakest of its segments.
    pub fn deletes(&self) -> Deletes {
        Deletes::weakest(self.segments.iter().map(Segment::deletes))
    }
}

/// The same segment twice is harmless: the second goes.
fn without_doubles(segments: Vec<Segment>) -> (Vec<Segment>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut once: Vec<Segment> = Vec::new();
    for segment in segments {
        let same = once.iter().any(|other| {
            let one_file =
                std::fs::canonicalize(other.path()).ok() == std::fs::canonicalize(segment.path()).ok();
            // Increments without news may have the same bytes, or none.
            let run = |segment: &Segment| segment.manifest().map(|manifest| manifest.run_id.clone());
            one_file
                || (other.sha256().is_some()
                    && other.sha256() == segment.sha256()
                    && run(other) == run(&segment)
                    && segment.bytes() > 0)
        });
        if same {
            let text = "this segment was given twice and is read once";
            findings.push(Finding::info("twice", text).in_file(segment.path()));
        } else {
            once.push(segment);
        }
    }
    (once, findings)
}

/// What a store has already taken is harmless, too.
fn pass_over(segments: &mut Vec<Segment>, taken: &[(String, u64)]) -> Vec<Finding> {
    // Increments without news have the digest of no bytes, all of them: only what they are complete to tells them apart.
    let is_taken = |segment: &Segment| {
        segment.manifest().is_some_and(|manifest| {
            let same = |(sha256, complete): &(String, u64)| {
                *sha256 == manifest.sha256 && (manifest.bytes > 0 || *complete == manifest.complete_version)
            };
            taken.iter().any(same)
        })
    };
    let findings = segments.iter().filter(|segment| is_taken(segment)).map(|segment| {
        Finding::info("already-applied", format!("{} is in the store already", segment.name()))
            .in_file(segment.path())
    });
    let findings = findings.collect();
    segments.retain(|segment| !is_taken(segment));
    findings
}

fn in_order(mut rest: Vec<Segment>, after: Option<&After>) -> (Vec<Segment>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut ordered: Vec<Segment> = Vec::new();
    let mut at = after.cloned();
    if at.is_none() {
        match first(&rest) {
            Some(place) => {
                let segment = rest.remove(place);
                at = Some(link(&segment, None));
                ordered.push(segment);
            }
            None => findings.extend(no_full(&rest)),
        }
    }
    while let Some(current) = &at {
        let mut followers: Vec<usize> = rest
            .iter()
            .enumerate()
            .filter(|(_, one)| follows(one, current))
            .map(|(place, _)| place)
            .collect();
        // Where several follow, the one that others follow in turn, else one with news; the first of equals, as given.
        followers.sort_by_key(|place| std::cmp::Reverse(weight(&rest, *place)));
        let Some(&place) = followers.first() else { break };
        let mut aside = followers.get(1..).unwrap_or_default().to_vec();
        aside.retain(|place| {
            rest.get(*place).is_some_and(|one| one.manifest().is_some_and(|m| m.parent.is_some()))
        });
        aside.sort_unstable();
        for other in aside.into_iter().rev() {
            let (continued, news) = weight(&rest, other);
            match (continued || news, rest.get(place), rest.get(other)) {
                (true, Some(one), Some(other)) => findings.push(fork(one, other)),
                (false, _, Some(other)) => findings.push(without_news(other)),
                _ => {}
            }
        }
        let segment = rest.remove(place);
        at = Some(link(&segment, Some(current)));
        rest.retain(|one| !is_aside(one, &findings));
        ordered.push(segment);
    }
    if let Some(current) = &at {
        findings.extend(rest.iter().map(|segment| left_over(segment, current)));
    }
    findings.extend(ordered.iter().enumerate().filter_map(|(place, segment)| promises(segment, place)));
    ordered.extend(rest);
    (ordered, findings)
}

/// Is the segment at `place` followed by another one, and is there anything in it?
fn weight(rest: &[Segment], place: usize) -> (bool, bool) {
    let Some(segment) = rest.get(place) else { return (false, false) };
    let parent_of = |other: &Segment| {
        let parent = other.manifest().and_then(|manifest| manifest.parent.as_ref());
        parent.is_some_and(|parent| segment.manifest().is_some_and(|manifest| parent.is(manifest)))
    };
    let continued = rest.iter().enumerate().any(|(at, other)| at != place && parent_of(other));
    (continued, segment.bytes() > 0)
}

/// An increment without news that nobody follows: it can be left out wherever it stands.
fn without_news(segment: &Segment) -> Finding {
    Finding::info("no-news", format!("{} holds nothing new and is passed over", segment.name()))
        .in_file(segment.path())
}

fn is_aside(segment: &Segment, findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.code == "no-news" && finding.file.as_deref() == Some(segment.path()))
}

/// The first segment of a chain: the full one, or one that says nothing and stands first.
fn first(segments: &[Segment]) -> Option<usize> {
    let full =
        |segment: &Segment| segment.manifest().is_some_and(|manifest| manifest.kind == SegmentKind::Full);
    let silent = |segment: &Segment| segment.manifest().is_none();
    segments.iter().position(full).or_else(|| segments.first().is_some_and(silent).then_some(0))
}

fn link(segment: &Segment, before: Option<&After>) -> After {
    match segment.manifest() {
        Some(manifest) => After {
            sha256: manifest.sha256.clone(),
            // An increment since a bare version may end before the segment that it was put behind.
            complete_version: manifest
                .complete_version
                .max(before.map_or(0, |before| before.complete_version)),
            run_id: Some(manifest.run_id.clone()),
            store_id: manifest.store_id.clone().or_else(|| before.and_then(|before| before.store_id.clone())),
            taken: Vec::new(),
        },
        None => After { sha256: String::new(), ..before.cloned().unwrap_or_default() },
    }
}

fn follows(segment: &Segment, before: &After) -> bool {
    let Some(manifest) = segment.manifest() else { return true };
    if manifest.kind == SegmentKind::Full || foreign(manifest, before) {
        return false;
    }
    match &manifest.parent {
        Some(parent) => parent.fits(&before.sha256, before.complete_version, before.run_id.as_deref()),
        None => manifest.since_version <= before.complete_version,
    }
}

fn foreign(manifest: &Manifest, before: &After) -> bool {
    matches!((&manifest.store_id, &before.store_id), (Some(one), Some(other)) if one != other)
}

fn no_full(segments: &[Segment]) -> Option<Finding> {
    let segment = segments.first()?;
    let since = segment.manifest().map_or(0, |manifest| manifest.since_version);
    let text = format!(
        "expected a full segment at the start of the chain, found only increments since version {since}"
    );
    Some(
        Finding::new(super::finding::Level::Error, "gap", Kind::Missing, text)
            .in_file(segment.path())
            .with_hint("give the full segment and every increment that follows it"),
    )
}

fn fork(one: &Segment, other: &Segment) -> Finding {
    let text =
        format!("expected one increment after its parent, found two: {} and {}", one.name(), other.name());
    Finding::new(super::finding::Level::Error, "fork", Kind::Mismatch, text).in_file(other.path()).with_hint(
        "leave out the one whose followers you do not want: deletes are counted from the parent on",
    )
}

fn left_over(segment: &Segment, before: &After) -> Finding {
    use super::finding::Level::Error;
    let Some(manifest) = segment.manifest() else {
        return Finding::new(Error, "gap", Kind::Missing, "expected it to follow the chain")
            .in_file(segment.path());
    };
    let finding = if manifest.kind == SegmentKind::Full {
        let text = "expected one full segment in a chain, found another".to_owned();
        Finding::new(Error, "foreign", Kind::Mismatch, text).with_hint("restore one chain at a time")
    } else if foreign(manifest, before) {
        let text = format!(
            "expected an increment of store {}, found one of store {}",
            before.store_id.as_deref().unwrap_or("?"),
            manifest.store_id.as_deref().unwrap_or("?")
        );
        Finding::new(Error, "foreign", Kind::Mismatch, text)
            .with_hint("it belongs to another datastore's chain")
    } else {
        let text = match &manifest.parent {
            Some(parent) => format!(
                "expected the segment it follows (SHA-256 {}, complete version {}), found none that fits",
                parent.sha256, parent.complete_version
            ),
            None => format!(
                "expected versions {} to {}, found no segment with them",
                before.complete_version.saturating_add(1),
                manifest.since_version
            ),
        };
        Finding::new(Error, "gap", Kind::Missing, text).with_hint("give the increments in between, too")
    };
    finding.in_file(segment.path())
}

/// What a segment does not promise. The first one holds no deletes that could be missing.
fn promises(segment: &Segment, place: usize) -> Option<Finding> {
    if segment.manifest().is_none() && place == 0 {
        return None;
    }
    let text = match segment.deletes() {
        Deletes::Exact => return None,
        Deletes::Derived => {
            "deletes outside the block families are derived: a key that was deleted may be back"
        }
        Deletes::Unknown => {
            "deletes that the source had compacted away are unknown: a key that was deleted may be back"
        }
    };
    let finding = Finding::warning("deletes", text).in_file(segment.path());
    Some(finding.with_hint("take increments with exact=True, or from `evbackup serve` beside the node"))
}
