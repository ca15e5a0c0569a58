//! What a manifest may not say: it never contradicts itself.

use super::{DIGITS, FORMAT, Kind, MAX_LISTED, Manifest, has_credentials};
use crate::error::{Error, Result};

impl Manifest {
    /// Does it contradict itself?
    pub fn check(&self) -> Result<()> {
        equal("format", u64::from(FORMAT), u64::from(self.format))?;
        if self.segment.is_empty() || self.segment.contains(['/', '\0']) {
            return Err(Error::damaged(format!("expected a file name in segment, found {:?}", self.segment)));
        }
        if has_credentials(&self.source) {
            return Err(Error::damaged("expected a source without credentials, found some"));
        }
        if !(self.elapsed_s.is_finite() && self.elapsed_s >= 0.0) {
            return Err(Error::damaged(format!("expected seconds in elapsed_s, found {}", self.elapsed_s)));
        }
        self.started()?;
        digest("sha256", &self.sha256)?;
        if let Some(id) = &self.store_id {
            hex("store_id", id)?;
        }
        if let Some(hash) = &self.complete_hash {
            digest("complete_hash", hash)?;
        }
        if let Some(keys) = &self.keys {
            digest("keys.sha256", &keys.sha256)?;
        }
        self.check_versions()?;
        self.check_index()?;
        self.check_runs()
    }

    fn check_versions(&self) -> Result<()> {
        if let Some(parent) = &self.parent {
            digest("parent.sha256", &parent.sha256)?;
            in_order(
                "since_version",
                self.since_version,
                "parent.complete_version",
                parent.complete_version,
            )?;
        }
        if self.kind == Kind::Full {
            equal("since_version of a full segment", 0, self.since_version)?;
            if self.parent.is_some() {
                return Err(Error::damaged("expected a full segment without a parent, found one"));
            }
        }
        in_order("since_version", self.since_version, "next_since", self.next_since)?;
        in_order("next_since", self.next_since, "complete_version", self.complete_version)?;
        if self.entries > 0 {
            in_order("since_version", self.since_version, "last_version", self.last_version)?;
        }
        Ok(())
    }

    fn check_index(&self) -> Result<()> {
        let (mut offset, mut entries) = (0_u64, 0_u64);
        for block in &self.index {
            equal("offset of an index block", offset, block.offset)?;
            if block.bytes == 0 {
                return Err(Error::damaged(format!(
                    "expected an index block with bytes, found none at byte {offset}"
                )));
            }
            if block.crc32c.len() != 8 {
                return Err(Error::damaged(format!(
                    "expected 8 hex digits in crc32c, found {:?}",
                    block.crc32c
                )));
            }
            hex("crc32c", &block.crc32c)?;
            offset = sum("bytes of the index", offset, block.bytes)?;
            entries = sum("entries of the index", entries, block.entries)?;
        }
        equal("bytes of the index", self.bytes, offset)?;
        equal("entries of the index", self.entries, entries)
    }

    fn check_runs(&self) -> Result<()> {
        let mut ids = std::collections::HashSet::new();
        if let Some(runs) = &self.runs {
            at_most("runs", runs.len())?;
            let mut entries = 0;
            for run in runs {
                hex("first key of a run", &run.first)?;
                hex("last key of a run", &run.last)?;
                // Lower-case hex sorts as the bytes do.
                if run.first > run.last {
                    return Err(Error::damaged(format!(
                        "expected run {} to end after its first key",
                        run.id
                    )));
                }
                if !ids.insert(run.id) {
                    return Err(Error::damaged(format!("expected run {} once, found it twice", run.id)));
                }
                entries = sum("entries of the runs", entries, run.entries)?;
            }
            equal("entries of the runs", self.entries, entries)?;
        }
        if let Some(pieces) = &self.pieces {
            at_most("pieces", pieces.len())?;
            let mut end = 0;
            for piece in pieces {
                if !ids.contains(&piece.run) {
                    return Err(Error::damaged(format!(
                        "expected a piece of a listed run, found one of {}",
                        piece.run
                    )));
                }
                in_order("end of a piece", end, "offset of the next", piece.offset)?;
                end = sum("end of a piece", piece.offset, piece.bytes)?;
            }
            in_order("end of the last piece", end, "bytes", self.bytes)?;
        }
        Ok(())
    }
}

fn equal(what: &str, expected: u64, found: u64) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::damaged(format!("expected {expected} as {what}, found {found}")))
}

fn in_order(low_name: &str, low: u64, high_name: &str, high: u64) -> Result<()> {
    if low <= high {
        return Ok(());
    }
    Err(Error::damaged(format!("expected {low_name} not above {high_name}, found {low} above {high}")))
}

fn sum(what: &str, one: u64, other: u64) -> Result<u64> {
    one.checked_add(other).ok_or_else(|| {
        Error::damaged(format!("expected {what} within 64 bits, found {one} and {other} more"))
    })
}

fn at_most(what: &str, count: usize) -> Result<()> {
    if count <= MAX_LISTED {
        return Ok(());
    }
    Err(Error::damaged(format!("expected at most {MAX_LISTED} {what}, found {count}")))
}

fn hex(what: &str, text: &str) -> Result<()> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len().is_multiple_of(2) && text.bytes().all(is_digit) {
        return Ok(());
    }
    let short: String = text.chars().take(80).collect();
    Err(Error::damaged(format!("expected lower-case hex in {what}, found {short:?}")))
}

fn digest(what: &str, text: &str) -> Result<()> {
    hex(what, text)?;
    equal(&format!("number of hex digits of {what}"), DIGITS as u64, text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{IndexBlock, Parent};
    use super::*;

    fn refusal(change: impl FnOnce(&mut Manifest)) -> String {
        let mut manifest = sample(b"segment");
        change(&mut manifest);
        let error = manifest.check().unwrap_err();
        assert_eq!(error.code(), "damaged");
        assert_eq!(manifest.encode().unwrap_err().code(), "invalid-argument");
        error.to_string()
    }

    #[test]
    fn contradictions_are_named() {
        assert_eq!(refusal(|it| it.bytes = 8), "expected 8 as bytes of the index, found 7");
        assert_eq!(refusal(|it| it.entries = 4), "expected 4 as entries of the index, found 3");
        assert_eq!(refusal(|it| it.index[0].offset = 1), "expected 0 as offset of an index block, found 1");
        assert_eq!(
            refusal(|it| it.next_since = 9),
            "expected next_since not above complete_version, found 9 above 8"
        );
        assert_eq!(
            refusal(|it| it.since_version = 1),
            "expected 0 as since_version of a full segment, found 1"
        );
        let gap = |it: &mut Manifest| {
            it.kind = Kind::Inc;
            it.since_version = 6;
            it.parent = Some(Parent { sha256: "cd".repeat(32), complete_version: 5, run_id: None });
        };
        assert_eq!(refusal(gap), "expected since_version not above parent.complete_version, found 6 above 5");
        assert_eq!(
            refusal(|it| it.sha256 = "AB".repeat(32)),
            format!("expected lower-case hex in sha256, found {:?}", "AB".repeat(32))
        );
        assert_eq!(
            refusal(|it| it.sha256 = "ab".into()),
            "expected 64 as number of hex digits of sha256, found 2"
        );
        let user = |it: &mut Manifest| it.source = "http://me:x@node".into();
        assert_eq!(refusal(user), "expected a source without credentials, found some");
        let huge = IndexBlock { offset: 7, bytes: u64::MAX, crc32c: "00000000".into(), entries: 0 };
        assert!(refusal(|it| it.index.push(huge)).starts_with("expected bytes of the index within 64 bits"));
        for change in [
            |it: &mut Manifest| it.segment = "a/b".into(),
            |it: &mut Manifest| it.started_at = "yesterday".into(),
            |it: &mut Manifest| it.elapsed_s = f64::NAN,
            |it: &mut Manifest| it.index[0].crc32c = "0".into(),
            |it: &mut Manifest| it.runs.as_mut().unwrap()[0].first = "ff".into(),
            |it: &mut Manifest| it.runs.as_mut().unwrap()[0].entries = 2,
            |it: &mut Manifest| it.pieces.as_mut().unwrap()[0].run = 2,
            |it: &mut Manifest| it.pieces.as_mut().unwrap()[0].offset = 1,
            |it: &mut Manifest| it.runs = None,
        ] {
            refusal(change);
        }
    }
}
