//! What one segment must hold, checked by reading it: sizes, digests, frames, order, and what its manifest says of them.

use super::finding::Finding;
use super::hasher::digest_file;
use super::segment::Segment;
use crate::base::checksum;
use crate::base::progress::Progress;
use crate::entry::Source;
use crate::error::{Error, Kind, Result};
use crate::evnode::key::Key;
use crate::format::{Input, MAX_FRAME, Reader, Tally};
use crate::repo::keys::KeysReader;
use crate::repo::manifest::{IndexBlock, Manifest};
use crate::repo::pair;
use serde::Serialize;

/// How much is checked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Manifest, sizes, frame structure and checksums.
    Quick,
    /// Also digests, every entry, the order within runs, and the chain of segments.
    #[default]
    Full,
}

/// Most findings of one kind in one file: a file that is all rubbish says so once, not a million times.
const MAX_FINDINGS: usize = 100;

/// Reads a whole segment and says what is wrong with it. `digest`: its SHA-256 too. After a full reading the segment keeps the tally.
///
/// An error is returned only where the reading itself failed; what is wrong with the bytes is a finding.
pub fn segment(
    segment: &mut Segment,
    level: Level,
    digest: bool,
    progress: &Progress,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    size(segment, &mut findings);
    if segment.manifest().is_none() {
        findings.push(Finding::warning("no-manifest", "no manifest beside it: its bytes are undigested").with_hint(
            "take backups with evbackup, or keep the segment's SHA-256 elsewhere; everything else is still checked",
        ));
    }
    match level {
        Level::Quick => {
            frames(segment, &mut findings, progress)?;
            blocks(segment, 0, &mut findings, progress)?;
        }
        Level::Full => {
            let (sha256, read) = std::thread::scope(|threads| {
                let digests = digest && segment.manifest().is_some();
                let hash = || digest_file(segment.input(), &|| progress.check());
                let hashing = digests.then(|| std::thread::Builder::new().spawn_scoped(threads, hash));
                let read = entries(segment, progress);
                let sha256 = hashing.map(|thread| match thread {
                    Ok(thread) => thread.join().unwrap_or_else(|_| Err(Error::io("a thread has died"))),
                    // Where there is no thread to be had, one does both.
                    Err(_) => hash(),
                });
                (sha256.transpose(), read)
            });
            let Entries { tally, blocks: ev_nodes, failed } = read?;
            if let Some(error) = failed {
                findings.push(Finding::from_error("frame", &error));
                blocks(segment, tally.bytes(), &mut findings, progress)?;
            }
            if let (Some(found), Some(manifest)) = (sha256?, segment.manifest()) {
                digests(manifest, &found, &mut findings);
            }
            compare(segment.manifest(), &tally, failed_before(&findings), &mut findings);
            order(&tally, &mut findings);
            segment.set_read(tally, ev_nodes);
        }
    }
    let path = segment.path().to_owned();
    Ok(findings.into_iter().map(|finding| finding.in_file(&path)).collect())
}

/// Checks the list of live keys beside the segment: a restore does without it, the next increment does not.
pub fn keys(segment: &Segment, level: Level) -> Result<Option<Finding>> {
    let Some(claim) = segment.manifest().and_then(|manifest| manifest.keys.as_ref()) else { return Ok(None) };
    let path = pair::keys_path(segment.path());
    let hint = "restore is not affected; make the next backup a full one";
    let Some(file) = segment.keys() else {
        let text = format!(
            "expected {} bytes of keys beside the segment, found none or another length",
            claim.bytes
        );
        return Ok(Some(Finding::warning("keys", text).in_file(&path).with_hint(hint)));
    };
    if level == Level::Quick {
        return Ok(None);
    }
    let file = file.try_clone().map_err(|error| Error::from_io(error, "read it", &path))?;
    let read = KeysReader::new(file, &path).and_then(|reader| {
        let mut reader = reader.expecting(claim);
        while reader.advance()? {}
        Ok(())
    });
    match read {
        // Another file's keys, or a format that nobody has written, are no better than damaged ones.
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Mismatch | Kind::Unsupported) => {
            Ok(Some(Finding::from_error("keys", &error).with_hint(hint)))
        }
        read => read.map(|()| None),
    }
}

fn failed_before(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.code == "frame")
}

fn size(segment: &Segment, findings: &mut Vec<Finding>) {
    let Some(manifest) = segment.manifest() else { return };
    let (expected, found) = (manifest.bytes, segment.bytes());
    if found != expected {
        let what = if found < expected { "it was cut" } else { "something follows it" };
        let text = format!("expected {expected} bytes, found {found}: {what}");
        findings.push(Finding::damage("size", text).at(found.min(expected)));
    }
}

fn digests(manifest: &Manifest, found: &str, findings: &mut Vec<Finding>) {
    if manifest.sha256 != found {
        let text = format!("expected SHA-256 {}, found {found}", manifest.sha256);
        findings.push(Finding::damage("digest", text));
    }
}

/// What reading every entry gave.
struct Entries {
    tally: Tally,
    /// Keys of ev-node's are among them.
    blocks: bool,
    /// The damage that ended the reading early.
    failed: Option<Error>,
}

fn entries(segment: &Segment, progress: &Progress) -> Result<Entries> {
    let mut reader = Reader::with_tap(segment.input(), Tally::new());
    let mut passed = 0;
    let mut counted = 0;
    let mut blocks = false;
    let failed = loop {
        match reader.advance() {
            Ok(true) => {
                blocks = blocks || Key::parse(reader.entry().key).is_ev_nodes();
                if reader.offset() - passed >= 1 << 20 {
                    progress.check()?;
                    let now = reader.tap().entries();
                    progress.add(reader.offset() - passed, now - counted);
                    (passed, counted) = (reader.offset(), now);
                }
            }
            Ok(false) => break None,
            Err(error) if error.kind() == Kind::Damaged => break Some(error),
            Err(error) => return Err(error),
        }
    };
    progress.add(reader.offset() - passed, reader.tap().entries() - counted);
    Ok(Entries { tally: reader.into_parts().1, blocks, failed })
}

/// Walks the frames by their lengths alone.
fn frames(segment: &Segment, findings: &mut Vec<Finding>, progress: &Progress) -> Result<()> {
    let mut input = segment.input();
    let end = segment.bytes();
    let (mut at, mut frames) = (0u64, 0u64);
    while at < end {
        if frames.is_multiple_of(1024) {
            progress.check()?;
        }
        frames += 1;
        let mut header = [0; 8];
        if end - at < 8 {
            let text = format!("expected 8 bytes of the length of frame {frames}, found {}", end - at);
            findings.push(Finding::damage("frame", text).at(at));
            return Ok(());
        }
        input.jump(at)?;
        let mut read = 0;
        while read < header.len() {
            match input.read(header.get_mut(read..).unwrap_or_default())? {
                0 => return Err(Error::damaged("expected a frame, found that the file shrank").at_offset(at)),
                more => read += more,
            }
        }
        let length = u64::from_le_bytes(header);
        if length > MAX_FRAME || length > end - at - 8 {
            let text =
                format!("expected a frame of at most {} bytes, found a length of {length}", end - at - 8);
            findings.push(Finding::damage("frame", text).at(at));
            return Ok(());
        }
        at += 8 + length;
    }
    if let Some(manifest) = segment.manifest()
        && manifest.frames != frames
    {
        findings
            .push(Finding::damage("frames", format!("expected {} frames, found {frames}", manifest.frames)));
    }
    Ok(())
}

/// Checks the index blocks that begin at `from` or later by their checksums alone.
fn blocks(segment: &Segment, from: u64, findings: &mut Vec<Finding>, progress: &Progress) -> Result<()> {
    let Some(manifest) = segment.manifest() else { return Ok(()) };
    let mut wrong = 0;
    for block in &manifest.index {
        if block.offset + block.bytes <= from {
            continue;
        }
        let found = block_crc(segment, block, progress)?;
        if found != Some(block.crc32c.clone()) && wrong < MAX_FINDINGS {
            wrong += 1;
            findings.push(wrong_block(block, &found.unwrap_or_else(|| "the end of the file".into())));
        }
    }
    Ok(())
}

fn wrong_block(block: &IndexBlock, found: &str) -> Finding {
    let text = format!("expected CRC-32C {} of {} bytes, found {found}", block.crc32c, block.bytes);
    Finding::damage("block", text).at(block.offset)
}

fn block_crc(segment: &Segment, block: &IndexBlock, progress: &Progress) -> Result<Option<String>> {
    if segment.bytes() < block.offset + block.bytes {
        return Ok(None);
    }
    let mut input = segment.input().range(block.offset, block.offset + block.bytes);
    let mut buffer = vec![0; 1 << 20];
    let mut crc = 0;
    loop {
        progress.check()?;
        match input.read(&mut buffer)? {
            0 => return Ok(Some(format!("{crc:08x}"))),
            read => {
                crc = checksum::crc32c(crc, buffer.get(..read).unwrap_or_default());
                progress.add(read as u64, 0);
            }
        }
    }
}

/// Holds what was read against what the manifest says. `partial`: the reading ended early, so only what came before counts.
fn compare(manifest: Option<&Manifest>, tally: &Tally, partial: bool, findings: &mut Vec<Finding>) {
    let Some(manifest) = manifest else { return };
    let index = tally.index();
    for (block, found) in manifest
        .index
        .iter()
        .zip(&index)
        .take_while(|(block, _)| !partial || block.offset + block.bytes <= tally.bytes())
    {
        let crc = format!("{:08x}", found.crc32c);
        if (found.offset, found.bytes) != (block.offset, block.bytes) {
            let text =
                format!("expected a block of {} bytes, found frames of {} bytes", block.bytes, found.bytes);
            findings.push(Finding::damage("block", text).at(block.offset));
            break;
        }
        if crc != block.crc32c {
            findings.push(wrong_block(block, &crc));
        } else if found.entries != block.entries {
            let text = format!("expected {} entries in the block, found {}", block.entries, found.entries);
            findings.push(Finding::damage("block", text).at(block.offset));
        }
    }
    if partial {
        return;
    }
    for (code, what, expected, found) in [
        ("frames", "frames", manifest.frames, tally.frames()),
        ("entries", "entries", manifest.entries, tally.entries()),
        (
            "versions",
            "as the highest version",
            manifest.last_version.max(tally.last_version()),
            tally.last_version(),
        ),
    ] {
        // An increment without news keeps the version it was asked at, so nothing in it need reach `last_version`.
        if expected != found && !(code == "versions" && (manifest.pinned || tally.entries() == 0)) {
            findings.push(Finding::damage(code, format!("expected {expected} {what}, found {found}")));
        }
    }
    if tally.last_version() > manifest.last_version {
        let (expected, found) = (manifest.last_version, tally.last_version());
        findings.push(Finding::damage(
            "versions",
            format!("expected no version above {expected}, found {found}"),
        ));
    }
}

/// Runs that are not sorted: damage where a stream id promises it, otherwise only slower to restore.
fn order(tally: &Tally, findings: &mut Vec<Finding>) {
    let Some(place) = tally.unsorted() else { return };
    let key = place.key.escape_ascii();
    let (code, text) = if place.double {
        ("double", format!("expected each key and version once in run {}, found {key} again", place.id))
    } else {
        ("order", format!("expected ascending keys in run {}, found {key} too late", place.id))
    };
    let finding = if place.id == 0 { Finding::warning(code, text) } else { Finding::damage(code, text) };
    findings.push(finding.at(place.offset).with_key(&place.key));
}
