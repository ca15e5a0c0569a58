#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::golden::cases;
use super::proof::{block_on, drain, in_memory, names, put, record, restore_to, take};
use evbackup::backup::{Origin, Since};
use evbackup::base::progress::Progress;
use evbackup::entry::{OwnedEntry, Source};
use evbackup::error::{Kind, Result};
use evbackup::flow::checks;
use evbackup::flow::finding::{Finding, Level as Severity};
use evbackup::flow::sample::{self, Shape};
use evbackup::flow::segment::Segment;
use evbackup::format::{Reader, Tally};
use evbackup::repo::pair::{keys_path, manifest_path};
use evbackup::verify::{self, Level};
use std::path::{Path, PathBuf};

/// Every byte is damaged in segments up to this size,
const EXHAUSTIVE: usize = 4 << 10;
/// about this many bytes in larger ones.
const SAMPLES: usize = 300;
/// Every bit of it is flipped in segments up to this size, one bit of each byte in larger ones.
const EVERY_BIT: usize = 200;

/// A segment of real Badger's with a manifest of ours.
struct Specimen {
    place: tempfile::TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    entries: Vec<OwnedEntry>,
    /// Where frames end.
    ends: Vec<usize>,
}

impl Specimen {
    fn of(bytes: Vec<u8>, height: u64) -> Self {
        let place = in_memory();
        let path = place.path().join("full.badger");
        record(&bytes, height, &path);
        let mut reader = Reader::with_tap(bytes.as_slice(), Tally::new());
        let (mut entries, mut ends) = (Vec::new(), Vec::new());
        loop {
            let more = reader.advance().unwrap();
            let end = usize::try_from(reader.tap().bytes()).unwrap();
            if end > ends.last().copied().unwrap_or(0) {
                ends.push(end);
            }
            if !more {
                break;
            }
            entries.push(reader.entry().to_owned());
        }
        Self { place, path, bytes, entries, ends }
    }

    fn name(&self) -> String {
        format!("a segment of {} bytes", self.bytes.len())
    }

    /// The positions to damage.
    fn positions(&self) -> impl Iterator<Item = usize> + use<> {
        // Odd, so that it does not fall in step with what repeats in the file.
        let step = if self.bytes.len() <= EXHAUSTIVE { 1 } else { (self.bytes.len() / SAMPLES) | 1 };
        (0..self.bytes.len()).step_by(step)
    }

    /// The bits to flip at a position.
    fn bits(&self, position: usize) -> impl Iterator<Item = u8> + use<> {
        let all = self.bytes.len() <= EVERY_BIT;
        (0..8u8).filter(move |bit| all || usize::from(*bit) == position % 8)
    }

    fn look(&self, bytes: &[u8], level: Level) -> Vec<Finding> {
        put(&self.path, bytes);
        look(&self.path, level).unwrap()
    }

    /// Both levels find it, in this file, at or before `place`.
    fn must_be_found(&self, damaged: &[u8], place: usize, what: &str) {
        for level in [Level::Quick, Level::Full] {
            let findings = self.look(damaged, level);
            let errors: Vec<_> = findings.iter().filter(|finding| finding.level == Severity::Error).collect();
            let about = format!("{} {what} at {place}, {level:?}: {findings:?}", self.name());
            assert!(!errors.is_empty(), "{about}");
            assert!(errors.iter().all(|finding| finding.file.as_deref() == Some(&*self.path)), "{about}");
            assert!(
                errors.iter().any(|finding| finding.offset.is_some_and(|at| at <= place as u64)),
                "{about}"
            );
        }
    }

    /// A restore refuses it and leaves nothing.
    fn must_be_refused(&self, damaged: &[u8], what: &str) {
        put(&self.path, damaged);
        let before = names(self.place.path());
        let error = block_on(restore_to(std::slice::from_ref(&self.path), &self.place.path().join("dest")))
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{} {what}: {error}", self.name());
        assert_eq!(error.path(), Some(&*self.path), "{} {what}", self.name());
        assert_eq!(names(self.place.path()), before, "{} {what}", self.name());
    }
}

fn look(path: &Path, level: Level) -> Result<Vec<Finding>> {
    checks::segment(&mut Segment::open(path)?, level, true, &Progress::new())
}

fn specimens() -> Vec<Specimen> {
    let mut specimens = Vec::new();
    for (folder, paper) in cases() {
        for segment in paper["segments"].as_array().unwrap() {
            let bytes = std::fs::read(folder.join(segment["file"].as_str().unwrap())).unwrap();
            if !bytes.is_empty() {
                specimens.push(Specimen::of(bytes, segment["announced_height"].as_u64().unwrap()));
            }
        }
    }
    assert!(specimens.len() >= 20);
    specimens
}

fn flip(bytes: &[u8], position: usize, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[position] ^= 1 << bit;
    bytes
}

#[test]
fn undamaged_specimens_pass() {
    for specimen in specimens() {
        for level in [Level::Quick, Level::Full] {
            let findings = specimen.look(&specimen.bytes, level);
            assert!(findings.is_empty(), "{}: {findings:?}", specimen.name());
        }
    }
}

#[test]
fn every_flipped_byte_is_found_where_it_is() {
    let mut flips = 0;
    for specimen in specimens() {
        for position in specimen.positions() {
            for bit in specimen.bits(position) {
                let damaged = flip(&specimen.bytes, position, bit);
                specimen.must_be_found(&damaged, position, "flipped");
                flips += 1;
                if flips % 47 == 0 {
                    specimen.must_be_refused(&damaged, "flipped");
                }
            }
        }
    }
    assert!(flips > 15_000, "only {flips}");
}

#[test]
fn every_cut_is_found_where_it_is() {
    let mut cuts = 0;
    for specimen in specimens() {
        for length in specimen
            .positions()
            .chain(specimen.ends.iter().copied().filter(|end| *end < specimen.bytes.len()))
        {
            let damaged = &specimen.bytes[..length];
            specimen.must_be_found(damaged, length, "cut");
            cuts += 1;
            if cuts % 47 == 0 {
                specimen.must_be_refused(damaged, "cut");
            }
            for level in [Level::Quick, Level::Full] {
                let findings = look(&specimen.path, level).unwrap();
                let size = findings.iter().find(|finding| finding.code == "size").unwrap();
                assert_eq!(size.offset, Some(length as u64));
            }
        }
    }
    assert!(cuts > 7_000, "only {cuts}");
}

#[test]
fn frames_swapped_or_doubled_and_rubbish_behind_are_found() {
    let (mut swaps, mut repeats) = (0, 0);
    for specimen in specimens() {
        let starts: Vec<_> = std::iter::once(0).chain(specimen.ends.iter().copied()).collect();
        let frames: Vec<&[u8]> = starts.windows(2).map(|ends| &specimen.bytes[ends[0]..ends[1]]).collect();
        assert_eq!(frames.concat(), specimen.bytes);
        for first in 0..frames.len() {
            let mut doubled = frames.clone();
            doubled.insert(first, frames[first]);
            specimen.must_be_found(&doubled.concat(), specimen.bytes.len(), "doubled");
            specimen.must_be_refused(&doubled.concat(), "doubled");
            repeats += 1;
            for (second, place) in starts.iter().enumerate().take(frames.len()).skip(first + 1) {
                let mut swapped = frames.clone();
                swapped.swap(first, second);
                specimen.must_be_found(&swapped.concat(), *place, "swapped");
                specimen.must_be_refused(&swapped.concat(), "swapped");
                swaps += 1;
            }
        }
        let rubbish = [&[0u8; 1][..], &[0; 8], b"rubbish", &[0xff; 9], frames[0]];
        for rubbish in rubbish {
            let longer = [&specimen.bytes, rubbish].concat();
            specimen.must_be_found(&longer, specimen.bytes.len(), "extended");
            specimen.must_be_refused(&longer, "extended");
        }
    }
    assert!(swaps > 50 && repeats > 40, "{swaps} swaps, {repeats} doubled");
}

#[test]
fn a_manifest_of_another_segment_is_found() {
    let specimens = specimens();
    for one in &specimens {
        for other in &specimens {
            if one.bytes == other.bytes {
                continue;
            }
            let manifest = std::fs::read(manifest_path(&other.path)).unwrap();
            let own = std::fs::read(manifest_path(&one.path)).unwrap();
            put(&manifest_path(&one.path), &manifest);
            for level in [Level::Quick, Level::Full] {
                let findings = look(&one.path, level).unwrap();
                assert!(
                    findings.iter().any(|finding| finding.level == Severity::Error
                        && finding.file.as_ref() == Some(&one.path)),
                    "{} with the manifest of {}: {findings:?}",
                    one.name(),
                    other.name()
                );
            }
            one.must_be_refused(&one.bytes, "with another's manifest");
            put(&manifest_path(&one.path), &own);
        }
    }
}

#[test]
fn every_cut_and_flip_of_a_manifest_is_refused() {
    let specimen = specimens().into_iter().min_by_key(|specimen| specimen.bytes.len()).unwrap();
    let json = manifest_path(&specimen.path);
    let manifest = std::fs::read(&json).unwrap();
    let cuts = (0..manifest.len()).map(|length| (length, manifest[..length].to_vec()));
    let bits = (0..manifest.len()).flat_map(|position| (0..8).map(move |bit| (position, bit)));
    let flips = bits.map(|(position, bit)| (position, flip(&manifest, position, bit)));
    for (place, damaged) in cuts.chain(flips) {
        put(&json, &damaged);
        match Segment::open(&specimen.path) {
            Err(error) => {
                assert!(matches!(error.kind(), Kind::Damaged | Kind::Unsupported), "at {place}: {error}");
                assert_eq!(error.path(), Some(&*json), "at {place}: {error}");
            }
            Ok(segment) => panic!("{} bytes, damaged at {place}: {:?}", damaged.len(), segment.manifest()),
        }
    }
    put(&json, &manifest[..manifest.len() / 2]);
    let options = verify::Options { paths: vec![specimen.path.clone()], ..Default::default() };
    let report = block_on(verify::run(options, Progress::new())).unwrap();
    let found = report.findings.iter().find(|finding| finding.code == "manifest").unwrap();
    assert_eq!((report.ok, found.file.as_deref()), (false, Some(&*json)));
    let before = names(specimen.place.path());
    let dest = specimen.place.path().join("dest");
    let error = block_on(restore_to(std::slice::from_ref(&specimen.path), &dest)).unwrap_err();
    assert_eq!((error.kind(), error.path()), (Kind::Damaged, Some(&*json)));
    assert_eq!(names(specimen.place.path()), before);
}

/// Without a manifest nothing vouches for the bytes: what is cut is noticed unless it is cut between frames, what is flipped only where
/// it breaks the structure. It is an error or entries, with a warning that says so; never a panic, and never more than was there.
#[test]
fn without_a_manifest_damage_is_an_error_or_a_warning_and_never_a_panic() {
    let (mut noticed, mut unnoticed) = (0, 0);
    for specimen in specimens() {
        std::fs::remove_file(manifest_path(&specimen.path)).unwrap();
        let read = |bytes: &[u8]| drain(&mut Reader::new(bytes));
        for length in specimen.positions() {
            let cut = &specimen.bytes[..length];
            let between = length == 0 || specimen.ends.contains(&length);
            match read(cut) {
                Ok(entries) => {
                    assert!(between, "{} cut at {length}", specimen.name());
                    assert_eq!(entries[..], specimen.entries[..entries.len()]);
                }
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Damaged);
                    assert!(error.offset().is_some_and(|offset| offset <= length as u64), "{error}");
                    assert!(!between);
                }
            }
            for bit in specimen.bits(length) {
                match read(&flip(&specimen.bytes, length, bit)) {
                    Ok(_) => unnoticed += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), Kind::Damaged);
                        assert!(
                            error.offset().is_some_and(|offset| offset <= specimen.bytes.len() as u64),
                            "{error}"
                        );
                        noticed += 1;
                    }
                }
            }
            if length % 101 == 7 {
                for damaged in [cut.to_vec(), flip(&specimen.bytes, length, 3)] {
                    let findings = specimen.look(&damaged, Level::Full);
                    assert_eq!(findings[0].code, "no-manifest");
                    let sound = findings.iter().all(|finding| finding.level < Severity::Error);
                    let dest = specimen.place.path().join("dest");
                    match block_on(restore_to(std::slice::from_ref(&specimen.path), &dest)) {
                        Ok(restored) => {
                            assert!(sound && restored.deletes == "unknown");
                            assert!(
                                restored.notes.iter().any(|note| note.contains("undigested")),
                                "{:?}",
                                restored.notes
                            );
                            evbackup::base::durable::remove_tree(&dest).unwrap();
                        }
                        Err(error) => assert!(
                            matches!(error.kind(), Kind::Damaged | Kind::Mismatch | Kind::Invalid),
                            "{error}"
                        ),
                    }
                    assert!(names(specimen.place.path()).iter().all(|name| !name.contains(".part")));
                }
            }
        }
    }
    assert!(noticed > 500 && unnoticed > 500, "{noticed} noticed, {unnoticed} unnoticed");
}

#[test]
fn damage_in_any_segment_of_a_chain_is_found_and_refused() {
    let place = in_memory();
    let path = |name: &str| place.path().join(name);
    sample::create(&path("node"), 20, Shape::default()).unwrap();
    let node = Origin::datastore(path("node"));
    let chain = [path("full"), path("inc1"), path("inc2")];
    block_on(take(&node, &chain[0], Since::Version(0))).unwrap();
    for number in 1..3 {
        sample::extend(&path("node"), 3, Shape::default()).unwrap();
        block_on(take(&node, &chain[number], Since::Segment(chain[number - 1].clone()))).unwrap();
    }
    let before = names(place.path());
    for segment in &chain {
        let bytes = std::fs::read(segment).unwrap();
        for position in (0..bytes.len()).step_by(bytes.len() / 20) {
            put(segment, &flip(&bytes, position, 5));
            for level in [Level::Quick, Level::Full] {
                let options = verify::Options { paths: chain.to_vec(), level, ..Default::default() };
                let report = block_on(verify::run(options, Progress::new())).unwrap();
                let errors: Vec<_> = report.findings.iter().filter(|f| f.level == Severity::Error).collect();
                assert!(!report.ok && errors.iter().all(|f| f.file.as_ref() == Some(segment)), "{errors:?}");
            }
            let error = block_on(restore_to(&chain, &path("dest"))).unwrap_err();
            assert_eq!((error.kind(), error.path()), (Kind::Damaged, Some(&**segment)));
        }
        put(segment, &bytes);
    }
    assert_eq!(names(place.path()), before);
    block_on(restore_to(&chain, &path("dest"))).unwrap();
}

/// A keys file decides which deletes the next increment gets: verify proves it, and no increment is based on a damaged one.
#[test]
fn every_cut_and_flip_of_a_keys_file_is_found_and_no_increment_is_based_on_it() {
    let place = in_memory();
    let path = |name: &str| place.path().join(name);
    sample::create(&path("node"), 4, Shape::default()).unwrap();
    let node = Origin::datastore(path("node"));
    let full = path("full.badger");
    block_on(take(&node, &full, Since::Version(0))).unwrap();
    let (file, chain) = (keys_path(&full), [full.clone()]);
    let keys = std::fs::read(&file).unwrap();
    let report = |level| {
        let options = verify::Options { paths: chain.to_vec(), level, ..Default::default() };
        block_on(verify::run(options, Progress::new())).unwrap()
    };
    assert!(report(Level::Full).findings.is_empty());
    let before = names(place.path());
    let cuts = (0..keys.len()).map(|length| keys[..length].to_vec());
    let flips = (0..keys.len()).map(|position| flip(&keys, position, u8::try_from(position % 8).unwrap()));
    for (number, damaged) in cuts.chain(flips).enumerate() {
        put(&file, &damaged);
        let found = report(Level::Full);
        let errors: Vec<_> = found.findings.iter().filter(|finding| finding.level > Severity::Info).collect();
        assert!(
            errors.iter().any(|finding| finding.code == "keys" && finding.file.as_ref() == Some(&file)),
            "{number}: {errors:?}"
        );
        if number % 5 == 0 {
            let error = block_on(take(&node, &path("inc.badger"), Since::Segment(full.clone()))).unwrap_err();
            assert!(
                matches!(error.kind(), Kind::Damaged | Kind::Mismatch | Kind::Missing | Kind::Unsupported),
                "{number}: {error}"
            );
            assert_eq!(error.path(), Some(&*file), "{number}: {error}");
            assert_eq!(names(place.path()), before, "{number}");
        }
    }
    // The entries themselves are whole: a restore does not need the keys.
    block_on(restore_to(&chain, &path("dest"))).unwrap();
    std::fs::remove_file(&file).unwrap();
    let found = report(Level::Full);
    assert!(found.ok && found.findings.iter().any(|finding| finding.code == "keys"), "{:?}", found.findings);
}
