//! Takes entries: reads each record once and keeps what its neighbours will be compared with.

use super::crew::Crew;
use super::finding::{Finding, Findings, Found, Level, Rule};
use super::index::Index;
use super::metadata::Metadata;
use super::options::{Begins, Head, Options, Signatures};
use super::report::{ChainReport, Count};
use super::row::{
    BROKEN, DataRow, HashRow, HeaderRow, IncludedRow, IndexRow, LEGACY, NO_KEY, Name, Names, OTHER_KEY,
    PRESENT, Print, Short, SignatureRow, StateRow, VALIDATORS,
};
use super::spool::Lanes;
use super::walk::{Walk, unsound};
use crate::base::scratch::Scratch;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::evnode::generation::{Generation, Marks};
use crate::evnode::hash;
use crate::evnode::key::{Family, Key, Mark, Part};
use crate::evnode::record::{Data, Header, SignedHeader, State, mark_le};
use crate::evnode::signature::{Forged, PublicKey};
use std::collections::HashMap;
use std::hash::RandomState;

/// What cannot be read and is kept with its error; more is only marked.
const KEPT: usize = 1000;

/// Checks a chain, entry by entry.
///
/// ```
/// use evbackup::entry::Entry;
/// use evbackup::evnode::chain::{Checker, Options, Rule};
///
/// let mut checker = Checker::new(Options::default());
/// let tip = 1u64.to_le_bytes();
/// checker.feed(&Entry { key: b"/0/t", version: 1, value: &tip, ..Entry::default() })?;
/// let report = checker.finish()?;
/// assert_eq!((report.tip, report.ok()), (Some(1), false));
/// assert_eq!(report.findings[0].rule, Rule::Present);
/// # Ok::<(), evbackup::error::Error>(())
/// ```
pub struct Checker {
    pub(super) options: Options,
    last_key: Option<Vec<u8>>,
    pub(super) names: Names,
    print_key: RandomState,
    /// How many headers have each chain id.
    chains: Vec<u64>,
    pub(super) headers: Lanes<HeaderRow>,
    hashes: Lanes<HashRow>,
    pub(super) data: Lanes<DataRow>,
    pub(super) signatures: Lanes<SignatureRow>,
    pub(super) states: Lanes<StateRow>,
    pub(super) included: Lanes<IncludedRow>,
    index: Index,
    crew: Crew,
    pub(super) metadata: Metadata,
    pub(super) marks: Marks,
    pub(super) newest_state: Option<StateRow>,
    initial: Option<(u64, u64)>,
    /// Why a record of this family and height cannot be read.
    pub(super) broken: HashMap<(Family, u64), String>,
    pre_release: Option<Vec<u8>>,
    /// In the order of [`Family::ALL`].
    families: [Count; Family::ALL.len()],
    encoded: Vec<u8>,
    /// The last signer's raw key and its address.
    last_signer: Option<(Vec<u8>, Name)>,
}

impl Checker {
    /// A checker that has seen nothing.
    pub fn new(options: Options) -> Self {
        let scratch = options.scratch.clone().unwrap_or_else(Scratch::system);
        Self {
            crew: Crew::new(options.threads),
            index: Index::new(&scratch, options.progress.clone()),
            options,
            last_key: None,
            names: Names::new(),
            print_key: RandomState::new(),
            chains: Vec::new(),
            headers: Lanes::new(&scratch),
            hashes: Lanes::new(&scratch),
            data: Lanes::new(&scratch),
            signatures: Lanes::new(&scratch),
            states: Lanes::new(&scratch),
            included: Lanes::new(&scratch),
            metadata: Metadata::default(),
            marks: Marks::default(),
            newest_state: None,
            initial: None,
            broken: HashMap::new(),
            pre_release: None,
            families: Default::default(),
            encoded: Vec::new(),
            last_signer: None,
        }
    }

    /// Takes the next entry: keys ascending, versions of a key descending. Only the newest version of a key counts.
    pub fn feed(&mut self, entry: &Entry<'_>) -> Result<()> {
        let last = self.last_key.get_or_insert_default();
        match entry.key.cmp(last) {
            std::cmp::Ordering::Less => {
                return Err(Error::invalid(format!(
                    "expected entries in the order of keys, found {} behind {}",
                    entry.key.escape_ascii(),
                    last.escape_ascii()
                )));
            }
            std::cmp::Ordering::Equal if !last.is_empty() => return Ok(()),
            _ => {
                last.clear();
                last.extend_from_slice(entry.key);
            }
        }
        if entry.is_delete() {
            return Ok(());
        }
        let key = Key::parse(entry.key);
        if let Some(count) = self.families.get_mut(key.family() as usize) {
            count.keys += 1;
            count.bytes += (entry.key.len() + entry.value.len()) as u64;
        }
        self.marks.see(&key);
        match key {
            Key::Header(height) => self.header(height, entry),
            Key::Data(height) => self.block_data(height, entry.value),
            Key::Signature(height) => self
                .signatures
                .push(&SignatureRow { height, signature: Print::new(&self.print_key, entry.value) }),
            Key::State(height) => {
                let row = self.state(height, entry.value);
                self.states.push(&row)
            }
            Key::NewestState => {
                self.newest_state = Some(self.state(0, entry.value));
                Ok(())
            }
            Key::Index(name) => match mark_le(entry.value) {
                Ok(height) => self.index.push(&IndexRow { height, name }, &self.hashes),
                Err(error) => {
                    self.metadata.wrong(entry.key, None, &error);
                    Ok(())
                }
            },
            Key::DaHeight(height, part) => {
                if let Err(error) = mark_le(entry.value) {
                    self.metadata.wrong(entry.key, Some(height), &error);
                }
                self.included.push(&IncludedRow { height, part: u8::from(part == Part::Data) })
            }
            Key::PreRelease(name) => {
                if key.is_ev_nodes() {
                    self.pre_release.get_or_insert_with(|| name.to_vec());
                }
                Ok(())
            }
            key => {
                self.metadata.take(&key, entry, &mut self.names);
                Ok(())
            }
        }
    }

    fn unreadable(&mut self, family: Family, height: u64, error: &Error) {
        if self.broken.len() < KEPT {
            self.broken.insert((family, height), error.to_string());
        }
    }

    fn header(&mut self, height: u64, entry: &Entry<'_>) -> Result<()> {
        let mut row = HeaderRow {
            height,
            version: entry.version,
            flags: 0,
            own_height: 0,
            time: 0,
            hash: [0; 32],
            last_header_hash: Short::new(b""),
            data_hash: Short::new(b""),
            app_hash: Short::new(b""),
            chain: 0,
            proposer: 0,
            signer: 0,
            key_address: 0,
            signature: Print::NONE,
        };
        match self.read_header(entry.value, &mut row) {
            Ok(Some((key, signature))) => self.crew.push(height, &self.encoded, key, signature)?,
            Ok(None) => {}
            Err(error) => {
                row.flags |= BROKEN;
                self.unreadable(Family::Headers, height, &error);
            }
        }
        let names = HashRow { height, flags: row.flags, blob: hash::index(entry.value), hash: row.hash };
        self.hashes.push(&names)?;
        self.headers.push(&row)
    }

    /// Gives the key and the signature that are to be verified over what is in `encoded` then.
    fn read_header(&mut self, value: &[u8], row: &mut HeaderRow) -> Result<Option<([u8; 32], [u8; 64])>> {
        let signed = SignedHeader::decode(value)?;
        let Header { chain_id, proposer_address, .. } = signed.header;
        row.flags = if signed.header.validator_hash.is_empty() { 0 } else { VALIDATORS };
        if !signed.header.legacy.is_empty() {
            row.flags |= LEGACY;
            self.marks.legacy_headers = true;
        }
        let key = match signed.signer.public_key {
            [] => None,
            key => Some(PublicKey::parse(key)?),
        };
        row.own_height = signed.header.height;
        row.time = signed.header.time;
        row.hash = hash::header_in(&signed.header, &mut self.encoded);
        row.last_header_hash = Short::new(signed.header.last_header_hash);
        row.data_hash = Short::new(signed.header.data_hash);
        row.app_hash = Short::new(signed.header.app_hash);
        row.chain = self.names.number(chain_id.as_bytes());
        let chain = usize::from(row.chain);
        if self.chains.len() <= chain {
            self.chains.resize(chain + 1, 0);
        }
        if let Some(headers) = self.chains.get_mut(chain) {
            *headers += 1;
        }
        row.proposer = self.names.number(proposer_address);
        row.signer = self.names.number(signed.signer.address);
        row.signature = Print::new(&self.print_key, signed.signature);
        let Some(key) = key else {
            row.flags |= NO_KEY;
            return Ok(None);
        };
        row.key_address = self.address(key.raw());
        let PublicKey::Ed25519(key) = key else {
            row.flags |= OTHER_KEY;
            return Ok(None);
        };
        let checked = matches!(self.options.signatures, Signatures::Required | Signatures::Optional);
        if !checked || row.own_height != row.height {
            return Ok(None);
        }
        if row.flags & LEGACY != 0 {
            self.encoded.clear();
            signed.header.encode(&mut self.encoded);
        }
        // Any other length is told from the row.
        Ok(signed.signature.try_into().ok().map(|signature| (key, signature)))
    }

    /// The address of a key. Nearly always it is the key before.
    fn address(&mut self, raw: &[u8]) -> Name {
        match &self.last_signer {
            Some((last, name)) if last == raw => *name,
            _ => {
                let name = self.names.number(&hash::address(raw));
                self.last_signer = Some((raw.to_vec(), name));
                name
            }
        }
    }

    fn block_data(&mut self, height: u64, value: &[u8]) -> Result<()> {
        let mut row = DataRow {
            height,
            flags: 0,
            own_height: 0,
            time: 0,
            commitment: [0; 32],
            hash: [0; 32],
            last_data_hash: Short::new(b""),
            chain: 0,
        };
        match Data::decode(value) {
            Ok(data) => {
                (row.commitment, row.hash) = hash::both(&data, &mut self.encoded);
                if let Some(metadata) = data.metadata {
                    row.flags = PRESENT;
                    row.own_height = metadata.height;
                    row.time = metadata.time;
                    row.last_data_hash = Short::new(metadata.last_data_hash);
                    row.chain = self.names.number(metadata.chain_id.as_bytes());
                }
            }
            Err(error) => {
                row.flags = BROKEN;
                self.unreadable(Family::Data, height, &error);
            }
        }
        self.data.push(&row)
    }

    fn state(&mut self, height: u64, value: &[u8]) -> StateRow {
        let (state, broken) = match State::decode(value) {
            Ok(state) => (state, false),
            Err(error) => {
                self.unreadable(Family::States, height, &error);
                (State::default(), true)
            }
        };
        if !broken && self.initial.is_none_or(|(of, _)| of <= height) {
            self.initial = Some((height, state.initial_height));
        }
        self.marks.next_proposer |= !state.next_proposer_address.is_empty();
        let time = state.last_block_time.unwrap_or_default();
        StateRow {
            height,
            flags: if broken { BROKEN } else { u8::from(state.last_block_time.is_some()) * PRESENT },
            own_height: state.last_block_height,
            seconds: time.seconds,
            nanos: time.nanos,
            app_hash: Short::new(state.app_hash),
            last_header_hash: Short::new(state.last_header_hash),
            chain: self.names.number(state.chain_id.as_bytes()),
            next_proposer: self.names.number(state.next_proposer_address),
        }
    }

    /// Compares what belongs together, and says what was found.
    pub fn finish(mut self) -> Result<ChainReport> {
        // Signatures are still being verified while the rest is compared.
        let mut crew = std::mem::replace(&mut self.crew, Crew::new(1));
        crew.close()?;
        self.options.check()?;
        let (chain, foreign) = self.chain_name();
        let said = self.options.genesis.as_ref().map(|genesis| genesis.initial_height);
        let said = said.filter(|initial| *initial > 0);
        let stated = self.initial.map(|(_, initial)| initial).filter(|initial| *initial > 0);
        let initial_height = stated.or(said);
        let tip = self.metadata.tip;
        let torn_above = match self.options.head {
            Head::Exact => None,
            Head::Announced(height) => Some(height),
            Head::Unknown => self.tear(),
        };
        let mut findings = Findings::new(torn_above);
        if let Some(finding) = foreign {
            findings.add(finding);
        }
        if let (Some(said), Some(stated)) = (said, stated)
            && said != stated
        {
            let expected = format!("the initial height {said}, as the genesis has it");
            findings.add(Finding::error(Rule::Genesis, expected, format!("{stated} in the states")));
        }
        let top = tip.or(self.headers.top()).or(self.data.top()).or(self.signatures.top());
        let pruned = self.metadata.marks.get(&Mark::PrunedBlocks).copied();
        let first = initial_height.or(self.headers.bottom()).unwrap_or(1);
        let first = pruned.map_or(first, |pruned| first.max(pruned.saturating_add(1)));
        if let Some(finding) = self.beginning(first) {
            findings.add(finding);
        }
        let part = self.options.begins == Begins::Part;
        let base = if part { self.headers.bottom() } else { top.map(|_| first) };
        if let Some(key) = &self.pre_release {
            let expected = format!("a database of {} or later", Generation::A.tags());
            findings.add(
                Finding::error(Rule::PreRelease, expected, "one of v0.x, which is not supported")
                    .of(&key[..]),
            );
        }
        let range = base.zip(top);
        let unindexed = self.index.check(&self.hashes, range, &mut self.marks, &mut findings)?;
        let walk = Walk::new(&mut self, range, initial_height, chain, torn_above, unindexed);
        let walked = walk.run(&mut findings)?;
        let outcome = crew.finish(|| self.options.check())?;
        findings.begin_late();
        let checked =
            |forged: &&Forged| range.is_some_and(|(base, top)| (base..=top).contains(&forged.height));
        for forged in outcome.forged.iter().filter(checked) {
            findings.add(unsound(forged.height, forged.validators));
        }
        findings.count(Rule::Signature, Level::Error, outcome.more);
        let kind = (part, self.options.head);
        self.metadata.check(top, chain, &self.names, kind, &mut findings);
        let Found { findings, counts, torn } = findings.finish();
        Ok(ChainReport {
            findings,
            counts,
            torn,
            chain_id: (chain != 0).then(|| String::from_utf8_lossy(self.names.name(chain)).into_owned()),
            generation: self.marks.newest(),
            initial_height,
            base,
            tip,
            complete_height: walked.complete.map(|(height, _)| height),
            complete_version: walked.complete.map(|(_, version)| version),
            blocks: walked.blocks,
            signatures: outcome.tried,
            marks: std::mem::take(&mut self.metadata.marks),
            pruned_exec_meta: self.metadata.pruned_exec_meta,
            families: Family::ALL
                .into_iter()
                .zip(self.families)
                .filter(|(_, count)| count.keys > 0)
                .collect(),
        })
    }

    /// The chain's name: what the genesis says, or most headers. A genesis of which there is no block is another chain's: that is said
    /// once, and the chain is held against itself.
    fn chain_name(&mut self) -> (Name, Option<Finding>) {
        let most = (0..).zip(&self.chains).max_by_key(|(_, headers)| **headers);
        let most = most.map_or(0, |(name, _)| name);
        let Some(genesis) = &self.options.genesis else { return (most, None) };
        let name = self.names.number(genesis.chain_id.as_bytes());
        if most == 0 || self.chains.get(usize::from(name)).is_some_and(|headers| *headers > 0) {
            return (name, None);
        }
        let expected = format!("chain id {}, as the genesis has it", genesis.chain_id.escape_debug());
        let found = format!("chain id {}", self.names.name(most).escape_ascii());
        self.options.genesis = None;
        (most, Some(Finding::error(Rule::Genesis, expected, found)))
    }

    /// Where nobody says whether the entries begin with the `first` block, they do when it is there.
    fn beginning(&mut self, first: u64) -> Option<Finding> {
        if self.options.begins != Begins::Unknown {
            return None;
        }
        let bottom = self.headers.bottom().filter(|bottom| *bottom > first);
        self.options.begins = if bottom.is_some() { Begins::Part } else { Begins::Whole };
        bottom.map(|bottom| {
            let expected = format!("blocks from {first} on");
            let found = format!("none below {bottom}: an increment, or blocks are missing");
            Finding::warning(Rule::Present, expected, found).at(first).up_to(bottom - 1)
        })
    }

    /// Where a stream seems to be torn: where the first of its families ends.
    fn tear(&self) -> Option<u64> {
        // The state that the chain begins with, which pruning leaves, is none of a block.
        let of_blocks = |top: &u64| self.initial.is_none_or(|(_, initial)| *top >= initial.max(1));
        let tops = [
            self.headers.top(),
            self.data.top(),
            self.signatures.top(),
            self.states.top().filter(of_blocks),
            self.index.top(),
            self.metadata.tip,
        ];
        // A family of which there is nothing is no tear.
        tops.into_iter().flatten().min()
    }
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checker").field("families", &self.families).finish_non_exhaustive()
    }
}

/// A level that depends.
pub(super) fn level(error: bool) -> Level {
    if error { Level::Error } else { Level::Warning }
}
