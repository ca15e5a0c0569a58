//! What is told of a chain in results: what it is, and what came of checking it.

use crate::evnode::chain::{ChainReport, Count, Level};
use crate::evnode::generation::Generation;
use crate::evnode::key::Mark;
use crate::repo::manifest::Manifest;
pub use crate::repo::manifest::{FamilyCount, MarkAt};
use serde::Serialize;

/// What a chain is.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct ChainInfo {
    /// Its name.
    pub chain_id: Option<String>,
    /// The newest generation of releases that has left a mark: `"A"` to `"F"`, `"v0"`.
    pub generation: Option<&'static str>,
    /// The releases of that generation.
    pub releases: Option<&'static str>,
    /// The height of the first block that there ever was.
    pub initial_height: Option<u64>,
    /// The first block that is there.
    pub base: Option<u64>,
    /// What `/0/t` says.
    pub tip: Option<u64>,
    /// The highest block up to which everything is whole.
    pub complete_height: Option<u64>,
    /// ev-node's marks of pruning and of DA.
    pub marks: Vec<MarkAt>,
    /// Live keys by family; `None` where they were not counted.
    pub families: Option<Vec<FamilyCount>>,
}

impl ChainInfo {
    /// Its generation, with the releases of it.
    pub fn set_generation(&mut self, generation: Option<Generation>) {
        (self.generation, self.releases) =
            (generation.map(Generation::name), generation.map(Generation::tags));
    }

    /// What a manifest says; `None`: no keys of ev-node's.
    pub fn of_manifest(manifest: &Manifest) -> Option<Self> {
        let blocks = manifest.blocks.as_ref()?;
        let mut info = Self {
            chain_id: manifest.chain_id.clone(),
            initial_height: blocks.initial_height,
            base: blocks.base,
            tip: Some(manifest.tip_height).filter(|height| *height > 0),
            complete_height: Some(manifest.complete_height).filter(|height| *height > 0),
            marks: blocks.marks.clone(),
            families: Some(blocks.families.clone()),
            ..Self::default()
        };
        info.set_generation(blocks.generation.as_deref().and_then(Generation::from_name));
        Some(info)
    }
}

/// How often a rule was broken; a run counts its blocks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct RuleCount {
    /// The code of its findings.
    pub code: &'static str,
    /// Its number; 0 for what is no rule of a chain.
    pub rule: u8,
    /// As an error.
    pub errors: u64,
    /// As a warning.
    pub warnings: u64,
    /// Worth knowing.
    pub infos: u64,
}

/// What came of checking a chain.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct ChainSummary {
    /// What it is.
    #[serde(flatten)]
    pub info: ChainInfo,
    /// Headers that were checked.
    pub blocks: u64,
    /// Signatures that were verified.
    pub signatures: u64,
    /// The lowest and the highest block that a stream was torn at.
    pub torn: Option<(u64, u64)>,
    /// The rules that were broken.
    pub rules: Vec<RuleCount>,
}

impl From<&ChainReport> for ChainSummary {
    fn from(report: &ChainReport) -> Self {
        let mut rules: Vec<RuleCount> = Vec::new();
        // In the order of rules.
        for ((rule, level), count) in &report.counts {
            if rules.last().is_none_or(|last| last.code != rule.code()) {
                rules.push(RuleCount { code: rule.code(), rule: rule.number(), ..RuleCount::default() });
            }
            let Some(counts) = rules.last_mut() else { continue };
            match level {
                Level::Error => counts.errors = *count,
                Level::Warning => counts.warnings = *count,
                Level::Info => counts.infos = *count,
            }
        }
        let families = report.families.iter();
        let families = families.map(|(family, Count { keys, bytes })| FamilyCount {
            family: family.name().to_owned(),
            keys: *keys,
            bytes: *bytes,
        });
        let mut info = ChainInfo {
            chain_id: report.chain_id.clone(),
            initial_height: report.initial_height,
            base: report.base,
            tip: report.tip,
            complete_height: report.complete_height,
            marks: marks_of(
                report.marks.iter().map(|(mark, height)| (*mark, *height)),
                report.pruned_exec_meta,
            ),
            families: Some(families.collect()),
            ..ChainInfo::default()
        };
        info.set_generation(report.generation);
        Self { info, blocks: report.blocks, signatures: report.signatures, torn: report.torn, rules }
    }
}

/// What to say where there are no blocks that could be checked or cut, of entries that are there.
pub fn note_of(of_evnode: bool, generation: Option<Generation>) -> Option<String> {
    match generation {
        _ if !of_evnode => Some("no chain was found: there are no keys of ev-node's".to_owned()),
        Some(old @ Generation::PreRelease) => Some(format!(
            "a database of ev-node {}: its bytes are copied, its blocks cannot be checked or cut",
            old.tags()
        )),
        _ => None,
    }
}

/// The mark of pruned execution records, which stands outside the metadata.
const EXEC_META_MARK: &str = "last-pruned-execmeta-height";

/// Marks for a result.
pub fn marks_of(marks: impl IntoIterator<Item = (Mark, u64)>, exec_meta: Option<u64>) -> Vec<MarkAt> {
    let marks = marks.into_iter().map(|(mark, height)| MarkAt { name: mark.name().to_owned(), height });
    marks.chain(exec_meta.map(|height| MarkAt { name: EXEC_META_MARK.to_owned(), height })).collect()
}
