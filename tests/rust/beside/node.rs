use evbackup::base::progress::Progress;
use evbackup::entry::{Datastore, META_DELETE, Need, OwnedEntry, Snapshot, Source, VecSource};
use evbackup::error::Result;
use evbackup::evnode::hash;
use evbackup::evnode::key::{self, Key};
use evbackup::flow::digest::{Scope, digest as take_digest};
use std::collections::BTreeMap;

/// A model of Badger under a node: versions count up while it runs, compaction drops what is hidden and then the tombstones, and a
/// restart counts on from the highest version that is left.
#[derive(Clone, Default)]
pub(super) struct Node {
    pub(super) entries: BTreeMap<Vec<u8>, Vec<OwnedEntry>>,
    pub(super) next: u64,
    pub(super) id: Vec<u8>,
    pub(super) tip: u64,
    pub(super) queue: u64,
    pub(super) salt: u64,
}

pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

pub(super) fn set(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Change {
    (key.into(), Some(value.into()))
}

impl Node {
    pub(super) fn new() -> Self {
        Self { next: 1, id: vec![7; 16], ..Self::default() }
    }

    pub(super) fn commit(&mut self, changes: Vec<Change>) {
        let version = self.next;
        self.next += 1;
        for (key, value) in changes {
            let meta = if value.is_none() { META_DELETE } else { 0 };
            let entry = OwnedEntry {
                key: key.clone(),
                version,
                value: value.unwrap_or_default(),
                meta,
                ..OwnedEntry::default()
            };
            let versions = self.entries.entry(key).or_default();
            versions.retain(|other| other.version != version);
            versions.push(entry);
            versions.sort_by_key(|entry| std::cmp::Reverse(entry.version));
        }
    }

    pub(super) fn live(&self, key: &[u8]) -> Option<&OwnedEntry> {
        self.entries.get(key)?.first().filter(|entry| entry.meta & META_DELETE == 0)
    }

    pub(super) fn mark(&self, key: &[u8]) -> u64 {
        self.live(key).and_then(|entry| key::mark(key, &entry.value)).unwrap_or(0)
    }

    /// What a node writes for a block, in its transactions.
    pub(super) fn block(&mut self) {
        let height = self.tip + 1;
        let header = format!("header {height} {}", self.salt).into_bytes();
        let execmeta = Key::exec_meta(height);
        self.queue += 1;
        let entry = |number: u64| format!("/batches/{number:016x}");
        self.commit(vec![set(entry(self.queue), "transactions")]);
        self.commit(vec![set("/0/m/pending_header", header.clone())]);
        self.commit(vec![set(execmeta.clone(), "started")]);
        self.commit(vec![
            set(format!("/0/h/{height}"), header.clone()),
            set(format!("/0/d/{height}"), vec![b'd'; 40]),
            set(format!("/0/c/{height}"), vec![b'c'; 64]),
            set(Key::Index(hash::index(&header)).to_bytes(), height.to_le_bytes()),
            set(format!("/0/s/{height}"), format!("state {height} {}", self.salt)),
            set("/0/t", height.to_le_bytes()),
        ]);
        self.commit(vec![set(execmeta, "promoted")]);
        self.commit(vec![(entry(self.queue).into_bytes(), None)]);
        self.tip = height;
        if height > 2 {
            let included = height - 2;
            self.commit(key::da_keys(included).map(|key| set(key, included.to_le_bytes())).to_vec());
        }
    }

    pub(super) fn delete_block(&self, height: u64) -> Vec<Change> {
        let Some(header) = self.live(&key::header(height)) else { return Vec::new() };
        let index = Key::Index(hash::index(&header.value)).to_bytes();
        key::block_keys(height).into_iter().chain([index]).map(|key| (key, None)).collect()
    }

    pub(super) fn prune_blocks(&mut self, to: u64) {
        let from = self.mark(key::PRUNED_BLOCKS) + 1;
        if to < from {
            return;
        }
        let mut changes = Vec::new();
        for height in from..=to {
            changes.extend(self.delete_block(height));
            changes.extend(key::da_keys(height).map(|key| (key, None)));
        }
        changes.push(set(key::PRUNED_BLOCKS, to.to_le_bytes()));
        self.commit(changes);
        self.prune_execmeta(to);
    }

    pub(super) fn prune_execmeta(&mut self, to: u64) {
        let from = self.mark(key::PRUNED_EXEC_META) + 1;
        let mut changes: Vec<Change> = (from..=to).map(|height| (Key::exec_meta(height), None)).collect();
        if !changes.is_empty() {
            changes.push(set(key::PRUNED_EXEC_META, to.to_be_bytes()));
            self.commit(changes);
        }
    }

    pub(super) fn prune_states(&mut self, to: u64) {
        let from = self.mark(key::PRUNED_STATES).max(self.mark(key::PRUNED_BLOCKS)) + 1;
        if to < from {
            return;
        }
        for height in from..=to {
            self.commit(vec![(key::state(height), None)]);
        }
        self.prune_execmeta(to);
        self.commit(vec![set(key::PRUNED_STATES, to.to_le_bytes())]);
    }

    pub(super) fn roll_back(&mut self, to: u64) {
        let mut changes: Vec<Change> =
            (to + 1..=self.tip).rev().flat_map(|height| self.delete_block(height)).collect();
        changes.extend((to + 1..=self.tip).map(|height| (key::state(height), None)));
        changes.push(set("/0/t", to.to_le_bytes()));
        self.commit(changes);
        self.tip = to;
    }

    pub(super) fn compact(&mut self) {
        for versions in self.entries.values_mut() {
            versions.truncate(1);
        }
        self.entries.retain(|_, versions| versions.iter().all(|entry| entry.meta & META_DELETE == 0));
    }

    pub(super) fn restart(&mut self) {
        self.next = self.highest() + 1;
        let state = key::state(self.tip);
        if let Some(entry) = self.live(&state).cloned() {
            self.commit(vec![set(state, entry.value)]);
        }
    }

    pub(super) fn highest(&self) -> u64 {
        self.all().iter().map(|entry| entry.version).max().unwrap_or(0)
    }

    pub(super) fn all(&self) -> Vec<OwnedEntry> {
        self.entries.values().flatten().cloned().collect()
    }

    pub(super) fn digest(&self) -> String {
        let scope = Scope { at: u64::MAX, now: 0, history: false };
        take_digest(&mut VecSource::new(self.all()), scope, &Progress::new()).unwrap().0
    }
}

impl Datastore for Node {
    fn id(&self) -> &[u8] {
        &self.id
    }

    fn reuses_versions(&self) -> bool {
        true
    }

    fn snapshot_for(&self, need: &Need, _: &Progress) -> Result<Box<dyn Snapshot + '_>> {
        Ok(Box::new(Frozen { node: self.clone(), need: need.clone() }))
    }
}

/// Answers what it was asked for when it was taken, and nothing else: the rest would not have been copied.
struct Frozen {
    node: Node,
    need: Need,
}

impl Frozen {
    /// What Badger's stream has of each key: down to the first delete.
    fn stream(&self, keep: impl Fn(&OwnedEntry) -> bool) -> Box<dyn Source> {
        let mut entries = Vec::new();
        for versions in self.node.entries.values() {
            let to = versions.iter().position(|entry| entry.meta & META_DELETE != 0);
            let shown = versions.iter().take(to.map_or(usize::MAX, |to| to + 1));
            entries.extend(shown.filter(|entry| keep(entry)).cloned());
        }
        Box::new(VecSource::new(entries))
    }
}

impl Snapshot for Frozen {
    fn pinned_version(&self) -> u64 {
        self.node.highest()
    }

    fn deletes(&self) -> &'static str {
        "exact"
    }

    fn get(&self, key: &[u8]) -> Result<Option<OwnedEntry>> {
        let asked =
            self.need.since == 0 || key == key::TIP || self.need.keys.iter().any(|asked| asked == key);
        assert!(asked, "{} was not asked for", key.escape_ascii());
        Ok(self.node.entries.get(key).and_then(|versions| versions.first()).cloned())
    }

    fn source(&self, since: u64) -> Result<Box<dyn Source + '_>> {
        assert!(since >= self.need.since);
        Ok(self.stream(|entry| entry.version > since))
    }

    fn everything(&self) -> Result<Box<dyn Source + '_>> {
        assert_eq!(self.need.since, 0);
        Ok(Box::new(VecSource::new(self.node.all())))
    }

    fn prefix(&self, prefix: &[u8], from: &[u8]) -> Result<Box<dyn Source + '_>> {
        assert_eq!(self.need.since, 0);
        Ok(self.stream(|entry| entry.key.starts_with(prefix) && *entry.key >= *from))
    }

    fn listed(&self) -> Result<Option<Box<dyn Source + '_>>> {
        let Some(families) = self.need.listed else { return Ok(None) };
        let outside = |key: &[u8]| !families.iter().any(|family| key.starts_with(family));
        let live = self.node.entries.values().filter_map(|versions| versions.first());
        let live = live.filter(|entry| entry.meta & META_DELETE == 0 && outside(&entry.key));
        Ok(Some(Box::new(VecSource::new(live.cloned().collect()))))
    }

    /// Of an increment a directory only knows the tables in which it may lie, which can be all of them.
    fn estimate(&self, since: u64) -> Result<u64> {
        Ok(if since == 0 { 0 } else { u64::MAX / 2 })
    }
}
