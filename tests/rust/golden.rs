#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::proof::{
    block_on, digest_at, digest_of_directory, digest_of_store, into_badger, restore_to, unlocked,
};
use evbackup::badger;
use evbackup::base::checksum::sha256_hex;
use evbackup::base::progress::Progress;
use evbackup::base::scratch::Scratch;
use evbackup::entry::Source;
use evbackup::format::{Reader, Tally};
use evbackup::{restore, verify};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Chains that must be refused, and as what: their versions were used twice.
const REFUSED: [(&str, &str, &str); 1] = [("reused", "inc2-overlap.badger", "mismatch")];

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Every case of segments with its paper; directories (`badger-…`) are the business of others.
pub(super) fn cases() -> Vec<(PathBuf, Value)> {
    let mut cases: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.is_dir()
                && path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"badger-"))
        })
        .map(|path| {
            let paper = std::fs::read(path.join("paper.json")).unwrap();
            (path, serde_json::from_slice(&paper).unwrap())
        })
        .collect();
    cases.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert!(cases.len() >= 18, "found only {} golden cases", cases.len());
    cases
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// Our reader's dump of a segment in the form of the Go parser's, and the counts that the paper has.
fn dump(bytes: &[u8]) -> (Vec<Value>, Value) {
    let mut reader = Reader::with_tap(bytes, Tally::new());
    let (mut lines, mut frame_ends, mut deletes) = (Vec::new(), Vec::new(), 0);
    let (mut ids, mut versions) = (BTreeSet::new(), BTreeSet::new());
    let (mut sorted, mut last) = (true, None::<evbackup::entry::OwnedEntry>);
    while reader.advance().unwrap() {
        let (entry, frame) = (reader.entry(), reader.tap().frames());
        if frame > frame_ends.len() as u64 {
            frame_ends.push(reader.tap().bytes());
        }
        deletes += u64::from(entry.is_delete());
        ids.insert(reader.stream_id());
        versions.insert(entry.version);
        sorted &= last.is_none_or(|last| last.as_entry().order(&entry).is_lt());
        last = Some(entry.to_owned());
        lines.push(serde_json::json!({
            "frame": frame,
            "stream_id": reader.stream_id(),
            "key": data_encoding::HEXLOWER.encode(entry.key),
            "version": entry.version,
            "meta": entry.meta,
            "user_meta": entry.user_meta,
            "expires_at": entry.expires_at,
            "value_len": entry.value.len(),
            "value_sha256": sha256_hex(entry.value),
        }));
    }
    let tally = reader.tap();
    if tally.frames() > frame_ends.len() as u64 {
        frame_ends.push(tally.bytes());
    }
    let stream = serde_json::json!({
        "bytes": bytes.len(),
        "sha256": sha256_hex(bytes),
        "frames": tally.frames(),
        "frame_ends": frame_ends,
        "entries": tally.entries(),
        "deletes": deletes,
        "stream_ids": ids.len(),
        "sorted": sorted,
        "min_version": versions.first().copied().unwrap_or(0),
        "max_version": tally.last_version(),
    });
    (lines, stream)
}

#[test]
fn our_reader_sees_what_badgers_own_parser_saw() {
    let mut entries = 0;
    for (folder, paper) in cases() {
        for segment in list(&paper, "segments") {
            let at = folder.join(text(segment, "file"));
            let (lines, stream) = dump(&std::fs::read(&at).unwrap());
            let expected = std::fs::read_to_string(folder.join(text(segment, "entries_file"))).unwrap();
            let expected: Vec<Value> = expected
                .lines()
                .map(|line| {
                    let mut line: Value = serde_json::from_str(line).unwrap();
                    // -1 is how the Go parser says that the field was absent.
                    if line["user_meta"] == -1 {
                        line["user_meta"] = 0.into();
                    }
                    line
                })
                .collect();
            assert_eq!(lines.len(), expected.len(), "{}", at.display());
            for (line, expected) in lines.iter().zip(&expected) {
                assert_eq!(line, expected, "{}", at.display());
            }
            assert_eq!(stream, segment["stream"], "{}", at.display());
            entries += lines.len();
        }
    }
    assert!(entries > 1000, "only {entries} entries were compared");
}

#[test]
fn each_segment_is_sound_but_undigested() {
    block_on(async {
        for (folder, paper) in cases() {
            for segment in list(&paper, "segments") {
                let at = folder.join(text(segment, "file"));
                for level in [verify::Level::Quick, verify::Level::Full] {
                    let options = verify::Options {
                        paths: vec![at.clone()],
                        level,
                        chain: Some(false),
                        ..Default::default()
                    };
                    let report = verify::run(options, Progress::new()).await.unwrap();
                    assert!(report.ok, "{}: {:?}", at.display(), report.findings);
                    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
                    assert_eq!(codes, ["no-manifest"], "{}", at.display());
                    if level == verify::Level::Full {
                        assert_eq!(report.entries, Some(number(&segment["stream"], "entries")));
                        assert_eq!(report.last_version, number(&segment["stream"], "max_version"));
                    }
                }
            }
        }
    });
}

/// Each chain restored by us holds what Badger's own Load made of it: entry by entry, deletes and history included.
#[test]
fn chains_restore_to_what_badger_loads() {
    block_on(async {
        let mut equal = 0;
        for (folder, paper) in cases() {
            for chain in list(&paper, "chains") {
                let files: Vec<_> = list(chain, "files").iter().map(|file| file.as_str().unwrap()).collect();
                let paths: Vec<_> = files.iter().map(|file| folder.join(file)).collect();
                let about = format!("{} {files:?}", folder.file_name().unwrap().to_string_lossy());
                let place = tempfile::tempdir().unwrap();
                let dest = place.path().join("store");
                let restored = restore_to(&paths, &dest).await;
                if let Some((.., code)) =
                    REFUSED.iter().find(|(case, file, _)| folder.ends_with(case) && files.contains(file))
                {
                    assert_eq!(restored.unwrap_err().code(), *code, "{about}");
                    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "{about}");
                    continue;
                }
                let restored = restored.unwrap_or_else(|error| panic!("{about}: {error}"));
                let loaded = &chain["loaded"];
                assert_eq!(restored.entries, number(loaded, "versions"), "{about}");
                assert_eq!(restored.last_version, number(loaded, "max_version"), "{about}");
                let now = number(loaded, "now");
                let source = &list(&paper, "segments")
                    .iter()
                    .find(|segment| segment["file"] == *files.last().unwrap())
                    .unwrap()["source"];
                for (history, name, counted) in
                    [(false, "digest", "entries"), (true, "history_digest", "versions")]
                {
                    let (digest, entries) = digest_of_store(&dest, now, history);
                    assert_eq!(
                        (digest.as_str(), entries),
                        (text(loaded, name), number(loaded, counted)),
                        "{about} {name}"
                    );
                    // What the segments hold together is what was made of them.
                    assert_eq!(digest_at(&paths, now, history).await.unwrap(), digest, "{about} {name}");
                }
                let same = text(loaded, "digest") == text(source, "digest");
                let expected = chain["equals_source"].as_bool().unwrap();
                if files.len() > 1 || expected {
                    assert_eq!(same, expected, "{about}");
                }
                equal += usize::from(same);
            }
        }
        assert!(equal >= 17, "only {equal} chains were compared");
    });
}

/// The same as a Badger directory: with its history all that Badger has loaded, compact what lives of it now.
#[test]
fn chains_become_badger_directories_that_hold_what_badger_loads() {
    block_on(async {
        for (folder, paper) in cases() {
            for chain in list(&paper, "chains") {
                let files: Vec<_> = list(chain, "files").iter().map(|file| file.as_str().unwrap()).collect();
                let paths: Vec<_> = files.iter().map(|file| folder.join(file)).collect();
                let about = format!("{} {files:?}", folder.file_name().unwrap().to_string_lossy());
                if REFUSED.iter().any(|(case, file, _)| folder.ends_with(case) && files.contains(file)) {
                    continue;
                }
                let place = tempfile::tempdir().unwrap();
                let (loaded, now) = (&chain["loaded"], number(&chain["loaded"], "now"));
                for history in [true, false] {
                    let dest = place.path().join(if history { "history" } else { "compact" });
                    let options = restore::Options { history, ..into_badger(&paths, &dest) };
                    let restored = restore::run(options, Progress::new()).await;
                    let restored = restored.unwrap_or_else(|error| panic!("{about}: {error}"));
                    assert_eq!((restored.engine, restored.store_id.len()), ("badger", 32), "{about}");
                    assert_eq!(restored.last_version, number(loaded, "max_version"), "{about}");
                    let mut damage = Vec::new();
                    let scratch = Scratch::new(place.path());
                    let checked = unlocked(|| {
                        badger::check(
                            &dest,
                            now,
                            &scratch,
                            &Progress::new(),
                            &mut |one| damage.push(one),
                            Some(&mut |_| Ok(())),
                        )
                    });
                    let checked = checked.unwrap();
                    assert!(damage.is_empty(), "{about}: {damage:?}");
                    assert_eq!(
                        (checked.entries, checked.max_version),
                        (restored.entries, restored.last_version)
                    );
                    if history {
                        let found = [false, true].map(|history| digest_of_directory(&dest, now, history).0);
                        let expected = ["digest", "history_digest"].map(|name| text(loaded, name));
                        assert_eq!(found.each_ref().map(String::as_str), expected, "{about}");
                    } else {
                        let later = u64::MAX / 2;
                        let live = digest_of_directory(&dest, later, false).0;
                        assert_eq!(live, digest_at(&paths, later, false).await.unwrap(), "{about}");
                    }
                }
            }
        }
    });
}

/// Nothing tells a bare chain that loses deletes from a sound one, so the report never calls one exact.
#[test]
fn a_bare_chain_is_never_called_exact() {
    block_on(async {
        for case in ["purged", "torn", "reused"] {
            let folder = folder().join(case);
            let (_, paper) = cases().into_iter().find(|(path, _)| *path == folder).unwrap();
            for chain in list(&paper, "chains") {
                let paths =
                    list(chain, "files").iter().map(|file| folder.join(file.as_str().unwrap())).collect();
                let options = verify::Options { paths, chain: Some(false), ..Default::default() };
                let report = verify::run(options, Progress::new()).await.unwrap();
                assert_eq!((report.deletes, report.complete_version), ("unknown", None), "{case}");
            }
        }
    });
}
