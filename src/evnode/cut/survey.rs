//! The first look at all entries.

use super::facts::{After, Block, Facts, Sync};
use crate::entry::Entry;
use crate::evnode::hash::{self, Hash};
use crate::evnode::key::{Key, Part, SyncKey};
use crate::evnode::record::{Data, SignedHeader, State, mark_le};

/// What else is looked for: the execution layer's values, of whatever block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// Unix seconds of a block.
    pub timestamp: Option<u64>,
    /// The app's state after a block.
    pub state_root: Option<Hash>,
}

/// Gathers [`Facts`] from entries: live ones, one for each key, in the order of keys.
///
/// ```
/// use evbackup::evnode::cut::{Head, Survey};
/// use evbackup::evnode::sample::Sample;
///
/// let mut survey = Survey::new(7);
/// Sample::with_blocks(12).entries().for_each(|entry| survey.feed(&entry));
/// let facts = survey.finish();
/// assert_eq!((facts.range(Head::Exact), facts.goes_on()), (Some((1, 12)), true));
/// ```
#[derive(Debug)]
pub struct Survey {
    facts: Facts,
    wanted: Wanted,
    /// The blobs of the highest header and of H, by whose hashes the index names them from beta.9 on.
    highest: Vec<u8>,
    block: Vec<u8>,
    named: Option<[Hash; 2]>,
    queue: bool,
}

impl Survey {
    /// A survey for a cut at `height`.
    pub fn new(height: u64) -> Self {
        let facts = Facts { height, ..Facts::default() };
        let (highest, block) = (Vec::new(), Vec::new());
        Self { facts, wanted: Wanted::default(), highest, block, named: None, queue: false }
    }

    /// Also looks for values of the execution layer.
    #[must_use]
    pub fn wanting(mut self, wanted: Wanted) -> Self {
        self.wanted = wanted;
        self
    }

    /// Also remembers the queue's transactions, so that the cut can tell which of them stand in blocks.
    #[must_use]
    pub fn with_queue(mut self) -> Self {
        self.queue = true;
        self
    }

    /// Will see some of the entries only, so that what it sees first is not what is there first.
    #[must_use]
    pub fn of_some(mut self) -> Self {
        self.facts.of_some = true;
        self
    }

    /// Takes the next entry.
    pub fn feed(&mut self, entry: &Entry<'_>) {
        let key = Key::parse(entry.key);
        let facts = &mut self.facts;
        facts.seen.see(&key);
        facts.blocks_of_evnode |= key.family().is_main_store();
        match key {
            Key::Tip => facts.tip = mark_le(entry.value).ok(),
            Key::Header(height) => self.header(height, entry),
            Key::Data(height) => {
                facts.data.see(height);
                if height == facts.height {
                    let data = Data::decode(entry.value).map(|data| hash::data(&data));
                    facts.has_data = Some(data.map_err(|error| error.to_string()));
                }
            }
            Key::Signature(height) => {
                facts.signatures.see(height);
                if height == facts.height {
                    facts.signature = Some(entry.value.len());
                } else if Some(height) == facts.height.checked_add(1) {
                    facts.next_signature = Some(entry.value.len());
                }
            }
            Key::State(height) => self.state(height, entry),
            Key::Index(name) => {
                if let Ok(height) = mark_le(entry.value) {
                    facts.index.see(height);
                }
                let named = self
                    .named
                    .get_or_insert_with(|| [&self.highest, &self.block].map(|blob| hash::index(blob)));
                facts.seen.blob_index |= named.contains(&name);
            }
            Key::Mark(mark) => {
                if let Ok(height) = mark_le(entry.value) {
                    facts.marks.insert(mark, height);
                }
            }
            Key::Pending(Part::Header) => {
                let header = SignedHeader::decode(entry.value).map(|signed| signed.header.height);
                facts.pending[0] = Some(header.unwrap_or(0));
            }
            Key::Pending(Part::Data) => {
                let data = Data::decode(entry.value).ok().and_then(|data| data.metadata);
                facts.pending[1] = Some(data.map_or(0, |metadata| metadata.height));
            }
            Key::Sync(part, name) => self.sync(part, name, entry),
            Key::SingleCheckpoint | Key::BasedCheckpoint => facts.checkpoints = true,
            Key::Queued(number) => {
                facts.queue.number(number);
                self.queued(entry);
            }
            Key::QueuedByHash(_) => self.queued(entry),
            _ => {}
        }
    }

    fn queued(&mut self, entry: &Entry<'_>) {
        if self.queue {
            self.facts.queue.take(entry);
        }
    }

    fn header(&mut self, height: u64, entry: &Entry<'_>) {
        let facts = &mut self.facts;
        if facts.headers.highest.is_none_or(|highest| height >= highest) {
            self.highest.clear();
            self.highest.extend_from_slice(entry.value);
        }
        facts.headers.see(height);
        let (at, next) = (height == facts.height, Some(height) == facts.height.checked_add(1));
        let looks = self.wanted.timestamp.is_some() && facts.same_time.is_none_or(|same| height < same);
        if !(looks || at || next) {
            return;
        }
        let read = SignedHeader::decode(entry.value).map(|signed| {
            let header = signed.header;
            facts.seen.legacy_headers |= !header.legacy.is_empty();
            if looks && Some(header.time / 1_000_000_000) == self.wanted.timestamp {
                facts.same_time = Some(height);
            }
            Block {
                version: entry.version,
                hash: hash::header(&header),
                time: header.time,
                app_hash: header.app_hash.to_vec(),
                proposer: header.proposer_address.to_vec(),
                chain_id: header.chain_id.to_owned(),
            }
        });
        let read = Some(read.map_err(|error| error.to_string()));
        if at {
            facts.block = read;
            self.block = entry.value.to_vec();
        } else if next {
            facts.next = read;
        }
    }

    fn state(&mut self, height: u64, entry: &Entry<'_>) {
        let facts = &mut self.facts;
        facts.states.see(height);
        let state = match State::decode(entry.value) {
            Ok(state) => state,
            Err(error) => {
                if height == facts.height {
                    facts.state = Some(Err(error.to_string()));
                }
                return;
            }
        };
        facts.seen.next_proposer |= !state.next_proposer_address.is_empty();
        if facts.initial_height.is_none() && state.initial_height > 0 {
            facts.initial_height = Some(state.initial_height);
        }
        if let Some(root) = self.wanted.state_root
            && state.app_hash == root
            && facts.same_root.is_none_or(|same| height < same)
        {
            facts.same_root = Some(height);
        }
        if height <= facts.height {
            facts.da_floor = facts.da_floor.max(state.da_height);
        }
        if height == facts.height && state.da_height == 0 {
            facts.silent = Some(entry.value.to_vec());
        }
        let nearer = facts.below.as_ref().is_none_or(|below| height > below.height);
        let keeps = height == facts.height || (height < facts.height && nearer) || facts.any_state.is_none();
        if !keeps {
            return;
        }
        let after = After {
            height,
            version: state.version,
            da_height: state.da_height,
            app_hash: if height == facts.height { state.app_hash.to_vec() } else { Vec::new() },
            names_proposer: !state.next_proposer_address.is_empty(),
        };
        if height == facts.height {
            facts.state = Some(Ok(after.clone()));
        } else if height < facts.height && nearer {
            facts.below = Some(after.clone());
        }
        facts.any_state.get_or_insert(after);
    }

    /// The blocks themselves come before these keys.
    fn sync(&mut self, part: Part, name: SyncKey<'_>, entry: &Entry<'_>) {
        let facts = &mut self.facts;
        let (slot, block) = match part {
            Part::Header => (0, facts.block.as_ref().and_then(|block| block.as_ref().ok()).map(|b| b.hash)),
            Part::Data => (1, facts.has_data.as_ref().and_then(|hash| hash.as_ref().ok()).copied()),
        };
        let Some(Sync { heights, names_block, has_block }) = facts.sync.get_mut(slot) else { return };
        match name {
            SyncKey::Height(height) => {
                heights.see(height);
                *names_block |= height == facts.height && block.is_some_and(|hash| entry.value == hash);
            }
            SyncKey::Hash(hash) => *has_block |= Some(hash) == block,
            _ => {}
        }
    }

    /// What was learnt.
    pub fn finish(self) -> Facts {
        self.facts
    }
}
