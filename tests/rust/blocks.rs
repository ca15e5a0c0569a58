#![cfg(test)] // All of it, so that the lints know helpers to be tests too.
#![expect(
    clippy::disallowed_methods,
    reason = "files made by hand, and damage, are neither private nor durable"
)]

use super::proof::block_on;
use evbackup::backup::{self, Origin, Output, Since};
use evbackup::badger::{ReadOptions, Writer, WriterOptions};
use evbackup::base::progress::Progress;
use evbackup::entry::{OwnedEntry, Sink};
use evbackup::evnode::hash;
use evbackup::evnode::key::{Key, Mark, TIP};
use evbackup::evnode::record::SignedHeader;
use evbackup::evnode::sample::{Draft, Proposer, Sample, Stage};
use evbackup::format;
use evbackup::inspect::{self, Inspected};
use evbackup::repo::manifest::Manifest;
use evbackup::repo::pair;
use evbackup::store::{Increment, LoadOptions, Loader, NewAbout, Store};
use evbackup::verify::Signatures::{Optional, OtherPayload, Required, Unverified};
use evbackup::verify::{self, El, Finding, Options, Report, Severity};
use std::path::{Path, PathBuf};

const BAD: u64 = 12;
/// Where the increment of a chain begins.
const SPLIT: u64 = 10;

/// Where blocks are kept.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Store,
    Directory,
    Segment,
    Chain,
}

const EVERYWHERE: [Kept; 4] = [Kept::Store, Kept::Directory, Kept::Segment, Kept::Chain];

fn about(version: u64) -> NewAbout {
    NewAbout { pinned_version: version, deletes: "exact".to_owned(), ..NewAbout::default() }
}

fn in_order(mut entries: Vec<OwnedEntry>) -> Vec<OwnedEntry> {
    entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    entries
}

fn store(path: &Path, entries: &[OwnedEntry]) {
    let mut loader = Loader::create(path, LoadOptions::default()).unwrap();
    entries.iter().try_for_each(|entry| loader.put(entry.as_entry())).unwrap();
    let version = entries.iter().map(|entry| entry.version).max().unwrap_or_default();
    loader.finish_with(about(version)).unwrap();
}

fn directory(path: &Path, entries: &[OwnedEntry]) {
    std::fs::create_dir(path).unwrap();
    let mut writer =
        Writer::create(path, WriterOptions { history: true, ..WriterOptions::default() }).unwrap();
    entries.iter().try_for_each(|entry| writer.put(entry.as_entry())).unwrap();
    writer.finish_with(0).unwrap();
}

fn segment(from: &Path, to: &Path, since: Since) {
    let options = backup::Options {
        since,
        ..backup::Options::new(Origin::datastore(from.to_owned()), Output::File(to.to_owned()))
    };
    block_on(backup::run(options, Progress::new())).unwrap();
}

/// Entries as they would be where a backup was taken at block [`SPLIT`] and an increment afterwards.
fn chain(folder: &Path, sample: &Sample) -> Vec<PathBuf> {
    let path = |name: &str| folder.join(name);
    let (mut old, new): (Vec<_>, Vec<_>) =
        sample.owned().into_iter().partition(|entry| entry.version <= SPLIT);
    let tip = SPLIT.to_le_bytes().to_vec();
    old.push(OwnedEntry { key: TIP.to_vec(), version: SPLIT, value: tip, ..OwnedEntry::default() });
    store(&path("growing"), &in_order(old));
    segment(&path("growing"), &path("full.badger"), Since::Version(0));
    let mut growing = Store::open_for_writing(path("growing")).unwrap();
    let mut increment = Increment::begin(&mut growing, LoadOptions::default()).unwrap();
    new.iter().try_for_each(|entry| increment.put(entry.as_entry())).unwrap();
    increment.finish_with(about(new.iter().map(|entry| entry.version).max().unwrap_or(SPLIT))).unwrap();
    drop(growing);
    segment(&path("growing"), &path("inc.badger"), Since::Segment(path("full.badger")));
    vec![path("full.badger"), path("inc.badger")]
}

/// Keeps a sample; what `verify` takes.
fn keep(folder: &Path, sample: &Sample, kept: Kept) -> Vec<PathBuf> {
    let path = folder.join("kept");
    match kept {
        Kept::Store => store(&path, &sample.owned()),
        Kept::Directory => directory(&path, &sample.owned()),
        Kept::Segment => {
            store(&folder.join("store"), &sample.owned());
            segment(&folder.join("store"), &path, Since::Version(0));
        }
        Kept::Chain => return chain(folder, sample),
    }
    vec![path]
}

fn report(options: Options) -> Report {
    block_on(verify::run(options, Progress::new())).unwrap()
}

fn check(sample: &Sample, kept: Kept, options: &Options) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let paths = keep(folder.path(), sample, kept);
    report(Options { paths, ..options.clone() })
}

fn broken(report: &Report) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.level > Severity::Info).collect()
}

/// A chain of 30 blocks, of which one was changed at a stage.
fn changed(stage: Stage, change: impl Fn(&mut Draft)) -> Sample {
    let mut sample = Sample::new(1);
    sample.extend(30, |at, draft| {
        if at == stage && draft.height == BAD {
            change(draft);
        }
    });
    sample
}

fn edited(edit: impl Fn(&mut Sample)) -> Sample {
    let mut sample = Sample::with_blocks(30);
    edit(&mut sample);
    sample
}

/// A data set for each rule that breaks it and no other, and where.
fn data_sets() -> Vec<(u8, Option<u64>, Sample)> {
    let other = Proposer::new(b"other");
    let back = |draft: &mut Draft| {
        for time in [&mut draft.time, &mut draft.metadata_time, &mut draft.state_time] {
            *time -= 2_000_000_000;
        }
    };
    let forge = |draft: &mut Draft| {
        draft.signature[3] ^= 1;
        draft.signature_beside[3] ^= 1;
    };
    let by_other = move |draft: &mut Draft| {
        draft.signer = Some(other);
        draft.signer_key = other.public_key();
        draft.signer_address = other.address().to_vec();
    };
    let at = Some(BAD);
    vec![
        (1, at, edited(|sample| drop(sample.remove(b"/0/d/12").unwrap()))),
        (2, at, edited(|sample| sample.put(b"/0/h/12".to_vec(), vec![0x0a, 200]))),
        (3, at, changed(Stage::Made, |draft| draft.chain_id = "other".to_owned())),
        (4, at, changed(Stage::Made, |draft| draft.metadata_height += 1)),
        (5, at, changed(Stage::Made, |draft| draft.transactions.push(b"smuggled".to_vec()))),
        (6, at, changed(Stage::Made, |draft| draft.last_header_hash = vec![7; 32])),
        (7, at, changed(Stage::Made, |draft| draft.last_data_hash = vec![7; 32])),
        (8, at, changed(Stage::Made, back)),
        (9, at, changed(Stage::Signed, forge)),
        (10, at, changed(Stage::Made, by_other)),
        (
            11,
            at,
            changed(Stage::Made, |draft| {
                by_other(draft);
                draft.proposer = other.address().to_vec();
            }),
        ),
        (12, at, changed(Stage::State, |draft| draft.state_height += 1)),
        (12, Some(30), edited(|sample| drop(sample.remove(b"/0/s/30").unwrap()))),
        (13, at, changed(Stage::State, |draft| draft.state_header_hash = vec![7; 32])),
        (14, at, changed(Stage::Made, |draft| draft.app_hash = vec![7; 32])),
        (15, at, edited(|sample| sample.unindex(BAD))),
        (
            16,
            Some(30),
            edited(|sample| {
                sample.put(TIP.to_vec(), 29u64.to_le_bytes().to_vec());
                sample.unindex(30);
            }),
        ),
        (
            17,
            None,
            edited(|sample| {
                let header = sample.value(b"/0/h/30").unwrap().to_vec();
                sample.put(b"/0/m/pending_header".to_vec(), header);
            }),
        ),
        (18, Some(31), edited(|sample| sample.mark(Mark::SubmittedHeader, 31))),
        (19, None, edited(|sample| sample.put(b"/0/m/gdh".to_vec(), vec![1]))),
        (20, at, Sample::with_blocks(30)),
    ]
}

#[test]
fn each_rule_is_found_broken_wherever_the_blocks_are_kept() {
    for (rule, height, sample) in data_sets() {
        let el = El { height: BAD, timestamp: Some(1_700_000_012), state_root: None };
        let options = Options { execution_layer: Some(el).filter(|_| rule == 20), ..Options::default() };
        for kept in EVERYWHERE {
            let report = check(&sample, kept, &options);
            let found = broken(&report);
            let brief: Vec<_> = found.iter().map(|finding| (finding.rule, finding.height)).collect();
            assert_eq!(brief, [(Some(rule), height)], "rule {rule}, {kept:?}: {found:#?}");
            let message = &found[0].message;
            assert!(message.contains("expected ") && message.contains(", found "), "{message}");
            assert!(found[0].key.is_some(), "{message}");
            // Values of another length are a warning, by the rules' own levels.
            assert_eq!(report.ok, rule == 19, "rule {rule}, {kept:?}");
            let chain = report.chain.unwrap();
            assert_eq!(chain.rules.iter().map(|one| one.rule).collect::<Vec<_>>(), [rule]);
        }
    }
}

#[test]
fn a_sound_chain_is_told_whole_wherever_it_is_kept() {
    let mut sample = Sample::with_blocks(30);
    sample.include(20);
    for kept in EVERYWHERE {
        let report = check(&sample, kept, &Options::default());
        assert!(report.ok && report.findings.is_empty(), "{kept:?}: {:#?}", report.findings);
        assert_eq!((report.tip_height, report.complete_height), (30, 30));
        let chain = report.chain.unwrap();
        assert_eq!((chain.info.chain_id.as_deref(), chain.info.generation), (Some("sample-1"), Some("F")));
        assert_eq!((chain.info.base, chain.blocks, chain.signatures), (Some(1), 30, 30));
        assert_eq!((chain.info.marks[0].name.as_str(), chain.info.marks[0].height), ("d", 20));
        assert!(chain.rules.is_empty() && chain.torn.is_none());
        let left_out = check(&sample, kept, &Options { chain: Some(false), ..Options::default() });
        assert!(left_out.ok && left_out.chain.is_none());
        let quick = check(&sample, kept, &Options { level: verify::Level::Quick, ..Options::default() });
        assert!(quick.ok && quick.chain.is_none() && quick.tip_height == 30, "{kept:?}: {quick:?}");
    }
}

#[test]
fn an_increment_alone_stands_for_its_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = chain(folder.path(), &Sample::with_blocks(30));
    paths.remove(0);
    let found = report(Options { paths, ..Options::default() });
    assert_eq!(found.findings.iter().map(|one| one.code).collect::<Vec<_>>(), ["gap"]);
    let chain = found.chain.unwrap();
    assert_eq!((chain.info.base, chain.info.complete_height, chain.blocks), (Some(SPLIT + 1), Some(30), 20));
}

/// A bare stream, as the node's own tools write it.
fn bare(path: &Path, entries: &[OwnedEntry]) {
    let mut stream = Vec::new();
    let mut writer = Box::new(format::Writer::new(1, |frame: &mut Vec<u8>| {
        stream.append(frame);
        Ok(())
    }));
    entries.iter().try_for_each(|entry| writer.put(entry.as_entry())).unwrap();
    writer.finish().unwrap();
    std::fs::write(path, stream).unwrap();
}

/// 30 blocks of which some parts were read before the last ones were written.
fn torn() -> Sample {
    edited(|sample| {
        for key in ["/0/d/29", "/0/d/30", "/0/c/30", "/0/s/30"] {
            sample.remove(key.as_bytes()).unwrap();
        }
        sample.put(TIP.to_vec(), 28u64.to_le_bytes().to_vec());
        sample.unindex(29);
    })
}

/// Makes a segment one that was streamed under writes, complete up to `height`.
fn unpin(segment: &Path, height: u64) {
    let path = pair::manifest_path(segment);
    let mut manifest = Manifest::decode(&std::fs::read(&path).unwrap()).unwrap();
    manifest.pinned = false;
    (manifest.announced_height, manifest.complete_height) = (height, height);
    std::fs::write(&path, manifest.encode().unwrap()).unwrap();
}

#[test]
fn a_torn_head_is_no_damage_and_damage_below_it_is_none_of_its() {
    for announced in [false, true] {
        for damaged in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("kept");
            let mut sample = torn();
            if damaged {
                sample.remove(b"/0/d/12").unwrap();
            }
            if announced {
                keep(folder.path(), &sample, Kept::Segment);
                unpin(&path, 28);
            } else {
                bare(&path, &sample.owned());
            }
            let report = report(Options { paths: vec![path], ..Options::default() });
            let torn: Vec<_> = report.findings.iter().filter(|one| one.code == "torn-head").collect();
            assert_eq!((torn.len(), torn[0].height, torn[0].until), (1, Some(29), Some(30)));
            assert_eq!(torn[0].level, Severity::Info);
            let errors = broken(&report).into_iter().filter(|one| one.code != "no-manifest");
            let errors: Vec<_> = errors.map(|one| (one.rule, one.height)).collect();
            let expected: &[_] = if damaged { &[(Some(1), Some(12))] } else { &[] };
            assert_eq!((errors.as_slice(), report.ok), (expected, !damaged), "{:#?}", report.findings);
            assert_eq!(report.complete_height, if damaged { 11 } else { 28 });
        }
    }
    // The same state of a datastore is damage: nothing was torn there.
    assert!(!check(&torn(), Kept::Store, &Options::default()).ok);
}

/// A store that was made of a torn stream: what stands in for a mark is of a later moment than the tip that shows.
#[test]
fn a_store_of_a_torn_stream_is_no_damage_either() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    let mut sample = Sample::with_blocks(30);
    sample.mark(Mark::SubmittedHeader, 29);
    let tip = OwnedEntry {
        key: TIP.to_vec(),
        version: 28,
        value: 28u64.to_le_bytes().to_vec(),
        ..Default::default()
    };
    let mut entries = sample.owned();
    for entry in &mut entries {
        if entry.key.starts_with(b"/0/m/") {
            entry.version = 28;
        }
    }
    entries.push(tip);
    let mut loader = Loader::create(&path, LoadOptions::default()).unwrap();
    in_order(entries).iter().try_for_each(|entry| loader.put(entry.as_entry())).unwrap();
    loader.finish_with(about(28)).unwrap();
    let report = report(Options { paths: vec![path], ..Options::default() });
    assert_eq!((report.ok, report.complete_height), (true, 28), "{:#?}", report.findings);
    assert_eq!(report.findings.iter().map(|one| one.code).collect::<Vec<_>>(), ["torn-head"]);
}

#[test]
fn a_bare_increment_is_taken_for_one_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inc.badger");
    let entries: Vec<_> =
        Sample::with_blocks(30).owned().into_iter().filter(|entry| entry.version > SPLIT).collect();
    bare(&path, &entries);
    let report = report(Options { paths: vec![path], ..Options::default() });
    let codes: Vec<_> = report.findings.iter().map(|one| (one.level, one.code)).collect();
    assert_eq!(codes, [(Severity::Warning, "no-manifest"), (Severity::Warning, "block-missing")]);
    assert_eq!((report.ok, report.complete_height), (true, 30));
}

fn genesis(folder: &Path, chain_id: &str) -> PathBuf {
    let address = data_encoding::BASE64.encode(&Sample::new(1).proposer().address());
    let path = folder.join("genesis.json");
    let json = format!(
        r#"{{"chain_id": "{chain_id}", "start_time": "2023-11-14T22:13:20.123456789Z", "initial_height": 1,
            "proposer_address": "{address}"}}"#
    );
    std::fs::write(&path, json).unwrap();
    path
}

#[test]
fn a_genesis_and_a_trusted_hash_prove_or_refute() {
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::with_blocks(30);
    let hash = hash::header(&SignedHeader::decode(sample.value(b"/0/h/12").unwrap()).unwrap().header);
    let hash = data_encoding::HEXLOWER.encode(&hash);
    for kept in EVERYWHERE {
        let right = Options {
            genesis: Some(genesis(folder.path(), "sample-1")),
            trusted: Some((12, hash.to_uppercase())),
            ..Options::default()
        };
        let found = check(&sample, kept, &right);
        assert!(found.ok && found.findings.is_empty(), "{kept:?}: {:#?}", found.findings);
        for (options, code, height) in [
            (
                Options { genesis: Some(genesis(folder.path(), "other")), ..Options::default() },
                "genesis",
                None,
            ),
            (Options { trusted: Some((13, hash.clone())), ..Options::default() }, "trusted-hash", Some(13)),
            (Options { trusted: Some((31, hash.clone())), ..Options::default() }, "trusted-hash", Some(31)),
        ] {
            let report = check(&sample, kept, &options);
            let found = broken(&report);
            assert_eq!(found.iter().map(|one| (one.code, one.height)).collect::<Vec<_>>(), [(code, height)]);
            assert_eq!((found[0].kind.code(), report.ok), ("mismatch", false));
        }
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |options: Options| {
        let options = Options { paths: vec![folder.path().to_owned()], ..options };
        block_on(verify::run(options, Progress::new())).unwrap_err()
    };
    let trusted = |hash: &str| Options { trusted: Some((1, hash.to_owned())), ..Options::default() };
    let error = refused(trusted("9f3a"));
    assert_eq!(error.to_string(), "expected a trusted hash of 64 hex digits, found \"9f3a\"");
    let right = trusted(&format!("0x{}", "9f".repeat(32)));
    for options in [
        Options { chain: Some(false), ..right.clone() },
        Options { level: verify::Level::Quick, ..right },
        Options { level: verify::Level::Quick, chain: Some(true), ..Options::default() },
    ] {
        assert_eq!(refused(options).code(), "invalid-argument");
    }
    let nowhere = folder.path().join("genesis.json");
    let error = refused(Options { genesis: Some(nowhere.clone()), ..Options::default() });
    assert_eq!((error.code(), error.path()), ("missing", Some(nowhere.as_path())));
    std::fs::write(&nowhere, "{").unwrap();
    let error = refused(Options { genesis: Some(nowhere.clone()), ..Options::default() });
    assert_eq!((error.code(), error.path()), ("damaged", Some(nowhere.as_path())));
}

#[test]
fn a_database_of_something_else_has_one_note_and_one_of_v0_is_told() {
    let mut other = Sample::new(1);
    other.take();
    for key in ["/1/x", "/app/x"] {
        other.put(key.into(), b"x".to_vec());
    }
    for kept in [Kept::Store, Kept::Directory, Kept::Segment] {
        for (wanted, level) in [(None, Severity::Info), (Some(true), Severity::Warning)] {
            let report = check(&other, kept, &Options { chain: wanted, ..Options::default() });
            let found: Vec<_> = report.findings.iter().map(|one| (one.level, one.code)).collect();
            assert_eq!((found, report.ok, report.chain), (vec![(level, "no-chain")], true, None), "{kept:?}");
        }
        let trusted = Options { trusted: Some((1, "9f".repeat(32))), ..Options::default() };
        assert!(!check(&other, kept, &trusted).ok);
    }
    let mut old = Sample::new(1);
    old.take();
    old.put(b"/0/b/1".to_vec(), b"block".to_vec());
    old.put(b"/1/x".to_vec(), b"x".to_vec());
    for kept in [Kept::Store, Kept::Directory, Kept::Segment] {
        let report = check(&old, kept, &Options::default());
        let found: Vec<_> = report.findings.iter().map(|one| (one.code, one.kind.code())).collect();
        assert_eq!((found, report.ok), (vec![("pre-release", "unsupported")], false), "{kept:?}");
        assert_eq!(report.chain.unwrap().info.generation, Some("v0"));
    }
}

#[test]
fn old_and_odd_chains_have_their_own_findings() {
    let legacy = edited(|sample| {
        sample.put(TIP.to_vec(), 29u64.to_le_bytes().to_vec());
        sample.put(b"/0/c/30".to_vec(), Vec::new());
        sample.remove(b"/0/s/30").unwrap();
        sample.unindex(30);
    });
    // Releases up to v1.0.0-beta.8 named blocks by the header's hash.
    let mut old_index = Sample::new(1);
    old_index.extend(30, |_, draft| draft.old_index = draft.height < 20);
    let orphan = edited(|sample| sample.put(Key::Index([9; 32]).to_bytes(), 500u64.to_le_bytes().to_vec()));
    for kept in EVERYWHERE {
        let report = check(&legacy, kept, &Options::default());
        let found: Vec<_> = report.findings.iter().map(|one| (one.level, one.rule, one.height)).collect();
        assert_eq!(found, [(Severity::Info, Some(16), Some(30))], "{kept:?}");
        assert!(check(&old_index, kept, &Options::default()).findings.is_empty());
        let report = check(&orphan, kept, &Options::default());
        let found: Vec<_> = broken(&report).iter().map(|one| (one.level, one.rule, one.height)).collect();
        assert_eq!(found, [(Severity::Warning, Some(15), Some(500))], "{kept:?}");
    }
}

#[test]
fn what_is_known_of_signatures_decides_about_them() {
    let unsigned = changed(Stage::Signed, |draft| {
        draft.signature.clear();
        draft.signature_beside.clear();
        draft.signer_key.clear();
    });
    let forged = changed(Stage::Signed, |draft| {
        draft.signature = vec![1; 64];
        draft.signature_beside = vec![1; 64];
    });
    let with = |signatures| Options { signatures, ..Options::default() };
    for (sample, signatures, level) in [
        (&unsigned, Required, Some(Severity::Error)),
        (&unsigned, Optional, None),
        (&forged, Optional, Some(Severity::Error)),
        (&forged, OtherPayload, Some(Severity::Warning)),
        (&forged, Unverified, None),
    ] {
        let report = check(sample, Kept::Store, &with(signatures));
        let found: Vec<_> = report.findings.iter().map(|one| (one.level, one.rule)).collect();
        assert_eq!(
            found,
            level.map(|level| (level, Some(9))).into_iter().collect::<Vec<_>>(),
            "{signatures:?}"
        );
    }
    // Signed on both sides: that is not what is left of a based sequencer.
    let twice = changed(Stage::Made, |draft| draft.last_header_hash = vec![7; 32]);
    let report = check(&twice, Kept::Store, &Options { was_based: true, ..Options::default() });
    let found = broken(&report)[0];
    assert_eq!((report.ok, found.rule, &found.hint), (false, Some(6), &None));
}

#[test]
fn damage_to_a_store_is_found_table_by_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept");
    store(&path, &Sample::with_blocks(30).owned());
    let table = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
    let table = table.into_iter().find(|file| file.extension().is_some_and(|name| name == "sst")).unwrap();
    let bytes = std::fs::read(&table).unwrap();
    let mut found = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 60) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x41;
        std::fs::write(&table, &flipped).unwrap();
        let report = report(Options { paths: vec![path.clone()], ..Options::default() });
        if report.ok {
            // What nobody reads: padding and what a reader does not need.
            assert_eq!(report.chain.unwrap().blocks, 30);
            continue;
        }
        found += 1;
        let first = broken(&report)[0];
        assert_eq!((first.code, first.kind.code()), ("store", "damaged"), "{at}: {first:?}");
        assert!(report.chain.is_none() && report.complete_version.is_none());
    }
    assert!(found > 40, "only {found} of 60 were found");
}

#[test]
fn inspect_says_what_chain_it_is() {
    let mut sample = Sample::with_blocks(30);
    sample.include(20);
    sample.prune(5);
    for kept in [Kept::Store, Kept::Directory, Kept::Segment] {
        let folder = tempfile::tempdir().unwrap();
        let path = keep(folder.path(), &sample, kept).remove(0);
        let reading = ReadOptions { offline: true, ..Default::default() };
        let look =
            |count| block_on(inspect::run(path.clone(), count, reading.clone(), Progress::new())).unwrap();
        let chain = |inspected| match inspected {
            Inspected::Segment(segment) => segment.chain.unwrap(),
            Inspected::Datastore(datastore) => datastore.chain.unwrap(),
        };
        let info = chain(look(true));
        assert_eq!((info.chain_id.as_deref(), info.generation), (Some("sample-1"), Some("F")), "{kept:?}");
        assert_eq!((info.base, info.tip, info.complete_height), (Some(6), Some(30), Some(30)), "{kept:?}");
        let marks: Vec<_> = info.marks.iter().map(|mark| (mark.name.as_str(), mark.height)).collect();
        assert_eq!(marks, [("d", 20), ("lst-prnd-b", 5)]);
        let families = info.families.unwrap();
        let headers = families.iter().find(|family| family.family == "headers").unwrap();
        assert_eq!(headers.keys, 25, "{kept:?}");
        if !matches!(kept, Kept::Segment) {
            let brief = chain(look(false));
            assert_eq!(
                (brief.families, brief.generation, brief.complete_height),
                (None, Some("F"), Some(30))
            );
        }
    }
    // A segment without a manifest is read.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bare.badger");
    bare(&path, &sample.owned());
    let inspected = block_on(inspect::run(path, true, ReadOptions::default(), Progress::new())).unwrap();
    let Inspected::Segment(segment) = inspected else { panic!("expected a segment") };
    assert_eq!((segment.tip_height, segment.complete_height), (30, 30));
    assert_eq!(segment.chain.unwrap().base, Some(6));
}

#[test]
fn a_manifest_names_the_chain() {
    let folder = tempfile::tempdir().unwrap();
    let paths = chain(folder.path(), &Sample::with_blocks(30));
    for (path, headers) in paths.iter().zip([SPLIT, 20]) {
        let manifest = pair::load(path).unwrap().unwrap();
        assert_eq!(manifest.chain_id.as_deref(), Some("sample-1"));
        let blocks = manifest.blocks.unwrap();
        assert_eq!(
            (blocks.generation.as_deref(), blocks.initial_height, blocks.base),
            (Some("F"), Some(1), Some(1))
        );
        let counted = blocks.families.iter().find(|family| family.family == "headers").unwrap();
        assert_eq!(counted.keys, headers);
    }
}
