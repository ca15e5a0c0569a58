//! A folder of segments: which chains are there, and what the next one is called.
//!
//! Nothing is read but manifests. A segment without one belongs to no chain, and one whose manifest is damaged, or whose length
//! is not the manifest's, breaks its chain there; both are listed, so that nobody wonders where they are.

use super::manifest::{Kind, Manifest};
use super::pair;
use crate::base::durable::{FileLock, Replace};
use crate::error::{Error, Result};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The name of the lock in a folder that is being added to.
const LOCK: &str = ".evbackup.lock";
/// The longest first part of a segment's name: leaves room for time, kind and the suffixes of parts.
const MAX_SLUG: usize = 64;

/// What follows a segment's name while it is written.
const LEFTOVERS: [&str; 5] = [".json.next.part", ".keys.next.part", ".json.next", ".keys.next", ".part"];

/// One segment of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub manifest: Manifest,
}

/// A full segment and increments that follow it without a gap.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// The full one first. Never empty.
    pub links: Vec<Link>,
}

impl Chain {
    /// The last segment: what the next increment continues.
    pub fn last(&self) -> Option<&Link> {
        self.links.last()
    }

    /// The segments in order, as the verbs take them.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.links.iter().map(|link| link.path.clone()).collect()
    }
}

/// What is in a folder of segments.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Every way from a full segment to a segment that nothing continues, the oldest first.
    pub chains: Vec<Chain>,
    /// Increments whose base is not here, or is not sound.
    pub orphans: Vec<Link>,
    /// Segments without a sound manifest, and why.
    pub unsound: Vec<(PathBuf, Error)>,
}

impl Catalog {
    /// Reads the manifests in `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let listed = folder.read_dir().map_err(|error| Error::from_io(error, "list the folder", folder))?;
        let mut paths = Vec::new();
        for entry in listed {
            let path = entry.map_err(|error| Error::from_io(error, "list the folder", folder))?.path();
            if path.extension().is_some_and(|extension| extension == "badger") && path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        let (mut links, mut unsound) = (Vec::new(), Vec::new());
        for path in paths {
            match look(&path) {
                Ok(manifest) => links.push(Link { path, manifest }),
                Err(error) => unsound.push((path, error)),
            }
        }
        let (chains, orphans) = arrange(&links);
        Ok(Self { chains, orphans, unsound })
    }

    /// The chain whose last segment was begun last.
    pub fn newest(&self) -> Option<&Chain> {
        self.chains.last()
    }
}

/// The manifest of a segment that may be part of a chain.
fn look(path: &Path) -> Result<Manifest> {
    let pair = pair::open(path)?;
    let Some(manifest) = pair.manifest else {
        return Err(Error::missing("expected a manifest beside the segment, found none").at_path(path));
    };
    if manifest.bytes != pair.bytes {
        let what = format!("expected a segment of {} bytes, found {}", manifest.bytes, pair.bytes);
        return Err(Error::damaged(what).at_path(path));
    }
    Ok(manifest)
}

fn arrange(links: &[Link]) -> (Vec<Chain>, Vec<Link>) {
    // A copy of a segment is the same segment: the first name stands for all.
    let mut at: HashMap<(&str, &str), usize> = HashMap::new();
    let mut by_digest: HashMap<&str, Vec<usize>> = HashMap::new();
    for (number, Link { manifest, .. }) in links.iter().enumerate() {
        if *at.entry((&manifest.sha256, &manifest.run_id)).or_insert(number) == number {
            by_digest.entry(&manifest.sha256).or_default().push(number);
        }
    }
    let unique = |number: &usize, link: &Link| {
        at.get(&(link.manifest.sha256.as_str(), link.manifest.run_id.as_str())) == Some(number)
    };
    // Increments without news share a digest, so there may be several; one names its run.
    let parent = |link: &Link| {
        let parent = link.manifest.parent.as_ref()?;
        let is = |number: &&usize| links.get(**number).is_some_and(|link| parent.is(&link.manifest));
        by_digest.get(parent.sha256.as_str())?.iter().find(is).copied()
    };
    let continued: HashSet<usize> = links
        .iter()
        .enumerate()
        .filter(|(number, link)| unique(number, link))
        .filter_map(|(_, link)| parent(link))
        .collect();

    let (mut chains, mut reached) = (Vec::new(), HashSet::new());
    for (number, _) in links.iter().enumerate().filter(|(number, link)| unique(number, link)) {
        let (mut way, mut here) = (Vec::new(), Some(number));
        // A chain is not longer than there are segments; a circle of forged parents would be.
        while let Some(link) = here.and_then(|number| links.get(number)).filter(|_| way.len() <= links.len())
        {
            way.extend(here);
            here = parent(link);
        }
        let full = way
            .last()
            .and_then(|number| links.get(*number))
            .is_some_and(|link| link.manifest.kind == Kind::Full);
        if !full {
            continue;
        }
        reached.extend(way.iter().copied());
        if !continued.contains(&number) {
            let links = way.iter().rev().filter_map(|number| links.get(*number).cloned()).collect();
            chains.push(Chain { links });
        }
    }
    chains.sort_by_key(|chain| chain.last().map(|last| (last.manifest.started().ok(), last.path.clone())));
    let orphans = links
        .iter()
        .enumerate()
        .filter(|(number, link)| unique(number, link) && !reached.contains(number))
        .map(|(_, link)| link.clone())
        .collect();
    (chains, orphans)
}

/// Keeps every other run from adding to `folder` until it is dropped.
pub fn lock(folder: &Path) -> Result<FileLock> {
    FileLock::exclusive(&folder.join(LOCK))
}

/// Clears what killed runs have left in `folder`, best effort: unfinished segments with names of [`new_name`]'s making that no run
/// holds. A later run makes another name, so it would never come across them. To be asked under [`lock`].
pub fn clear_leftovers(folder: &Path) {
    let names = folder
        .read_dir()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let segments: BTreeSet<_> = names
        .filter_map(|name| {
            let segment = LEFTOVERS.iter().find_map(|suffix| name.strip_suffix(suffix))?;
            is_of_our_making(segment).then(|| folder.join(segment))
        })
        .collect();
    for segment in segments {
        // Beginning clears or finishes; a run that is alive holds the part, and then this fails.
        drop(pair::begin(&segment, Replace::Always));
    }
}

/// Does it look like a name that [`new_name`] makes?
fn is_of_our_making(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".badger") else { return false };
    let mut parts = stem.rsplit('-');
    let kind = match parts.next() {
        Some(number) if number.parse::<u32>().is_ok() => parts.next(),
        kind => kind,
    };
    let time = parts.next().unwrap_or_default();
    [Some(Kind::Full.name()), Some(Kind::Inc.name())].contains(&kind)
        && jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", time).is_ok()
}

/// The name of a new segment: `<chain>-<UTC>-<full|inc>.badger`, with a number where two begin in one second.
///
/// The chain is the chain id, or else what the source is called. To be asked under [`lock`].
pub fn new_name(
    folder: &Path,
    chain_id: Option<&str>,
    source: &str,
    at: jiff::Timestamp,
    kind: Kind,
) -> PathBuf {
    let chain = slug(chain_id.filter(|id| !id.is_empty()).unwrap_or_else(|| source_name(source)));
    let stem = format!("{chain}-{}-{}", at.strftime("%Y%m%dT%H%M%SZ"), kind.name());
    let taken =
        |path: &Path| path.symlink_metadata().is_ok() || pair::manifest_path(path).symlink_metadata().is_ok();
    let mut path = folder.join(format!("{stem}.badger"));
    let mut number = 2_u32;
    while taken(&path) && number < 10_000 {
        path = folder.join(format!("{stem}-{number}.badger"));
        number += 1;
    }
    path
}

/// Host and port of a URL, the last name of a path.
fn source_name(source: &str) -> &str {
    let rest =
        source.split_once("://").map_or(source, |(_, rest)| rest.split('/').next().unwrap_or_default());
    let rest = rest.rsplit('@').next().unwrap_or_default();
    rest.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Letters, digits, dots and dashes, as any file system and any shell takes them.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.chars().take(MAX_SLUG) {
        let kept =
            if character.is_ascii_alphanumeric() || "._".contains(character) { character } else { '-' };
        if !(kept == '-' && slug.ends_with('-')) {
            slug.push(kept);
        }
    }
    let slug = slug.trim_matches(['-', '.']);
    if slug.is_empty() { "backup".to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Parent, tests::sample};
    use super::*;
    use crate::base::durable::write_file;

    fn add(folder: &Path, name: &str, content: &[u8], parent: Option<&[u8]>, started_at: &str) {
        let mut manifest = sample(content);
        manifest.started_at = started_at.into();
        if let Some(parent) = parent {
            manifest.kind = Kind::Inc;
            manifest.since_version = 7;
            manifest.parent =
                Some(Parent { sha256: sample(parent).sha256, complete_version: 8, run_id: None });
        }
        let mut part = pair::begin(&folder.join(name), Replace::Never).unwrap();
        part.append(content).unwrap();
        pair::commit(part, None, &manifest, Replace::Never).unwrap();
    }

    fn names(chain: &Chain) -> Vec<String> {
        chain.paths().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn chains_follow_parents_and_the_newest_is_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        add(at, "a.badger", b"a", None, "2026-01-01T00:00:00Z");
        add(at, "c.badger", b"c", Some(b"b"), "2026-01-04T00:00:00Z");
        add(at, "b.badger", b"b", Some(b"a"), "2026-01-02T00:00:00Z");
        add(at, "d.badger", b"d", Some(b"a"), "2026-01-05T00:00:00+02:00");
        add(at, "e.badger", b"e", None, "2026-01-03T00:00:00Z");
        add(at, "x.badger", b"x", Some(b"gone"), "2026-01-09T00:00:00Z");
        add(at, "copy.badger", b"a", None, "2026-01-01T00:00:00Z");
        let catalog = Catalog::open(at).unwrap();
        let chains: Vec<_> = catalog.chains.iter().map(names).collect();
        assert_eq!(
            chains,
            [vec!["e.badger"], vec!["a.badger", "b.badger", "c.badger"], vec!["a.badger", "d.badger"]]
        );
        assert_eq!(names(catalog.newest().unwrap()), ["a.badger", "d.badger"]);
        assert_eq!(catalog.orphans.len(), 1);
        assert!(catalog.unsound.is_empty());
    }

    #[test]
    fn what_is_not_sound_breaks_its_chain_and_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        add(at, "a.badger", b"a", None, "2026-01-01T00:00:00Z");
        add(at, "b.badger", b"b", Some(b"a"), "2026-01-02T00:00:00Z");
        add(at, "c.badger", b"c", Some(b"b"), "2026-01-03T00:00:00Z");
        let write = |name: &str, bytes: &[u8]| {
            crate::base::durable::write_file(&at.join(name), bytes, Replace::Always).unwrap();
        };
        write("b.badger", b"longer");
        write("bare.badger", b"bare");
        write("a.badger.keys", b"");
        let catalog = Catalog::open(at).unwrap();
        assert_eq!(names(catalog.newest().unwrap()), ["a.badger"]);
        assert_eq!(catalog.orphans.len(), 1);
        let codes: Vec<_> = catalog.unsound.iter().map(|(_, error)| error.code()).collect();
        assert_eq!(codes, ["damaged", "missing"]);
        write("a.badger.json", b"{}");
        let catalog = Catalog::open(at).unwrap();
        assert!(catalog.newest().is_none());
        assert_eq!(Catalog::open(&at.join("no")).unwrap_err().code(), "missing");
    }

    #[test]
    fn forged_parents_in_a_circle_end() {
        let link = |content: &[u8], parent: &[u8]| {
            let mut manifest = sample(content);
            manifest.kind = Kind::Inc;
            manifest.parent =
                Some(Parent { sha256: sample(parent).sha256, complete_version: 8, run_id: None });
            Link { path: "p".into(), manifest }
        };
        let (chains, orphans) = arrange(&[link(b"a", b"b"), link(b"b", b"a"), link(b"c", b"c")]);
        assert_eq!((chains.len(), orphans.len()), (0, 3));
    }

    #[test]
    fn names_say_chain_time_and_kind() {
        let folder = tempfile::tempdir().unwrap();
        let now: jiff::Timestamp = "2026-11-22T10:20:30.5Z".parse().unwrap();
        let name = |chain_id: Option<&str>, source: &str| {
            let path = new_name(folder.path(), chain_id, source, now, Kind::Full);
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name(Some("rollup-1"), "x"), "rollup-1-20261122T102030Z-full.badger");
        assert_eq!(name(None, "http://node:7331"), "node-7331-20261122T102030Z-full.badger");
        assert_eq!(name(Some(""), "/data/evm-single/"), "evm-single-20261122T102030Z-full.badger");
        assert_eq!(name(Some("../../é/..x  y"), ""), "x-y-20261122T102030Z-full.badger");
        assert_eq!(name(Some("é"), ""), "backup-20261122T102030Z-full.badger");
        assert!(name(Some(&"n".repeat(300)), "").len() < 100);
        add(folder.path(), "rollup-1-20261122T102030Z-full.badger", b"a", None, "2026-01-01T00:00:00Z");
        assert_eq!(name(Some("rollup-1"), "x"), "rollup-1-20261122T102030Z-full-2.badger");
    }

    #[test]
    fn two_runs_on_a_folder_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        assert_eq!(lock(folder.path()).unwrap_err().code(), "locked");
        drop(held);
        lock(folder.path()).unwrap();
    }

    #[test]
    fn leftovers_of_killed_runs_are_cleared_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let left = ["n-20260101T000000Z-full.badger", "n-20260101T000000Z-inc-2.badger"];
        for name in left {
            for suffix in LEFTOVERS {
                write_file(&at.join(format!("{name}{suffix}")), b"x", Replace::Never).unwrap();
            }
        }
        let others =
            ["full.badger.part", "n-20260101T000000Z-full.part", "n-20269901T000000Z-full.badger.part"];
        for name in others {
            write_file(&at.join(name), b"x", Replace::Never).unwrap();
        }
        let held = pair::begin(&at.join("n-20260102T000000Z-full.badger"), Replace::Never).unwrap();
        clear_leftovers(at);
        let mut found: Vec<_> =
            at.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(
            found,
            [
                "full.badger.part",
                "n-20260101T000000Z-full.part",
                "n-20260102T000000Z-full.badger.part",
                "n-20269901T000000Z-full.badger.part"
            ]
        );
        drop(held);
    }
}
