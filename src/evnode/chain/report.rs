//! What came out.

use super::finding::{Finding, Level, Rule};
use crate::evnode::generation::Generation;
use crate::evnode::key::{Family, Mark};
use std::collections::BTreeMap;

/// Keys of one family that are live, and the bytes of them and their values.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// Keys.
    pub keys: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What the checker has seen and found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChainReport {
    /// In the order of heights, what is of none first; of each rule and level the first hundred that were found.
    pub findings: Vec<Finding>,
    /// How often each rule was broken, those included that are not in the list. A run counts its blocks.
    pub counts: BTreeMap<(Rule, Level), u64>,
    /// Blocks that were cut by the end of the stream: the lowest and the highest that something was wrong with above the height up to
    /// which everything must be there. A restore leaves them out; nothing is damaged.
    pub torn: Option<(u64, u64)>,
    /// The chain's name: the genesis', or that of most headers. None: there is no chain.
    pub chain_id: Option<String>,
    /// The newest release that has left a mark.
    pub generation: Option<Generation>,
    /// The height of the first block that there ever was, where something says it.
    pub initial_height: Option<u64>,
    /// The first block that must be there.
    pub base: Option<u64>,
    /// What `/0/t` says.
    pub tip: Option<u64>,
    /// The highest block up to which everything is whole: where a restore can cut.
    pub complete_height: Option<u64>,
    /// The version of that block's header: every range of a stream is complete up to there. The next increment asks for what follows.
    pub complete_version: Option<u64>,
    /// Headers that were checked.
    pub blocks: u64,
    /// Signatures that were verified, the forged ones included.
    pub signatures: u64,
    /// The marks of the metadata.
    pub marks: BTreeMap<Mark, u64>,
    /// Execution records are pruned up to here.
    pub pruned_exec_meta: Option<u64>,
    /// Live keys by family.
    pub families: BTreeMap<Family, Count>,
}

impl ChainReport {
    /// Nothing is wrong; warnings are allowed.
    pub fn ok(&self) -> bool {
        !self.counts.keys().any(|(_, level)| *level == Level::Error)
    }

    /// Were there any keys of ev-node's?
    pub fn has_chain(&self) -> bool {
        self.generation == Some(Generation::PreRelease)
            || self.families.keys().any(|family| family.is_main_store())
    }

    /// How often a rule was broken at this level.
    pub fn count(&self, rule: Rule, level: Level) -> u64 {
        self.counts.get(&(rule, level)).copied().unwrap_or_default()
    }
}
