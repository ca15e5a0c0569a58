//! What a report says of each segment, for people who keep the report.

use crate::flow::segment::Segment;
use serde::Serialize;
use std::path::PathBuf;

/// One segment as it was verified: what its manifest claims, and what the report found to hold or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifiedSegment {
    /// The segment.
    pub path: PathBuf,
    /// `"full"`, `"inc"`, or `"unknown"` without a manifest.
    pub kind: &'static str,
    /// Its length.
    pub bytes: u64,
    /// Its entries; `None` where nobody has counted them.
    pub entries: Option<u64>,
    /// Versions up to this one are left out.
    pub since_version: u64,
    /// The highest version.
    pub last_version: u64,
    /// The tip in it.
    pub tip_height: u64,
    /// The highest height that is whole.
    pub complete_height: u64,
    /// SHA-256 as hex, as its manifest has it.
    pub sha256: Option<String>,
    /// When it was taken, RFC 3339.
    pub started_at: Option<String>,
    /// Where it came from.
    pub source: Option<String>,
}

impl VerifiedSegment {
    pub(super) fn of(segment: &Segment) -> Self {
        let manifest = segment.manifest();
        let counted = segment.tally().map(crate::format::Tally::entries);
        Self {
            path: segment.path().to_owned(),
            kind: manifest.map_or("unknown", |manifest| manifest.kind.name()),
            bytes: segment.bytes(),
            entries: counted.or(manifest.map(|manifest| manifest.entries)),
            since_version: manifest.map_or(0, |manifest| manifest.since_version),
            last_version: segment.last_version(),
            tip_height: manifest.map_or(0, |manifest| manifest.tip_height),
            complete_height: manifest.map_or(0, |manifest| manifest.complete_height),
            sha256: segment.sha256().map(str::to_owned),
            started_at: manifest.map(|manifest| manifest.started_at.clone()),
            source: manifest.map(|manifest| manifest.source.clone()),
        }
    }
}
