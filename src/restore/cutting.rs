//! A restore that is cut at a height: because the caller says so, or because the chain's end is torn.

use super::Options;
use super::origin::Facts;
use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::Source;
use crate::error::{Error, Result};
use crate::evnode::chain::{Head as Ends, Level as Severity, Options as Known, Rule, Signatures};
use crate::evnode::cut::{Cut, Head, Options as CutOptions, Role, Survey};
use crate::evnode::generation::Generation;
use crate::flow::bare::{Open, Told};
use crate::flow::chain::Chain;
use crate::flow::chain_check::{self, genesis, hash};
use crate::flow::cut::{CutSource, Surveyed, refuse_range, shorten, survey};
use crate::flow::datastore::Engine;
use crate::flow::finding::refuse;
use crate::repo::manifest::{Deletes, Manifest, STATE_DA_HEIGHTS};
use serde::Serialize;

/// One kind of change of one family of keys.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Change {
    /// The family's name, as in reports.
    pub family: &'static str,
    /// `"dropped"`, `"rewritten"` or `"added"`.
    pub action: &'static str,
    /// How many keys.
    pub entries: u64,
    /// The names of the first hundred; none of what is merely above the cut.
    pub keys: Vec<String>,
    /// Why.
    pub why: String,
}

/// What a cut has done.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) height: u64,
    pub(super) changes: Vec<Change>,
    pub(super) dangers: Vec<String>,
    pub(super) next_steps: Vec<String>,
}

impl Report {
    pub(super) fn of(cut: &Cut) -> Self {
        let changes = cut.changes().into_iter().map(|change| Change {
            family: change.family.name(),
            action: change.action.name(),
            entries: change.entries,
            keys: change.keys,
            why: change.why,
        });
        Self {
            height: cut.height(),
            changes: changes.collect(),
            dangers: cut.dangers(),
            next_steps: cut.next_steps(),
        }
    }
}

/// What shall be cut.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// The caller says so.
    pub(super) asked: bool,
    height: Option<u64>,
    role: Option<Role>,
    pub(super) head: Head,
    /// Of a chain, what each of its prefixes is good for.
    pub(super) prefixes: Vec<Option<(u64, u64)>>,
    /// What the caller knows of the blocks.
    known: Option<Known>,
}

impl Wish {
    pub(super) fn of(options: &Options) -> Result<Self> {
        let role = options.role.as_deref().map(|name| {
            Role::from_name(name).ok_or_else(|| {
                Error::invalid(format!("expected \"follower\" or \"aggregator\" for role, found {name:?}"))
            })
        });
        let role = role.transpose()?;
        let asked = options.at_height.is_some()
            || role.is_some()
            || options.drop_queue
            || options.requeue
            || options.force;
        if asked && options.history {
            return Err(Error::invalid("expected either a cut or the history, found both")
                .with_hint("a cut keeps of each key what a node would see; leave history out"));
        }
        let known = Known {
            trusted: options
                .trusted
                .as_ref()
                .map(|(height, hex)| Ok::<_, Error>((*height, hash("a trusted hash", hex)?)))
                .transpose()?,
            genesis: options.genesis.as_deref().map(genesis).transpose()?,
            // What is known of a chain is in its links, whoever signed it.
            signatures: Signatures::Unverified,
            was_based: options.was_based,
            ..Known::default()
        };
        let known = (known.trusted.is_some() || known.genesis.is_some()).then_some(known);
        if options.was_based && known.is_none() {
            return Err(Error::invalid("expected trusted or genesis with was_based, found neither")
                .with_hint("without them no links are checked; leave was_based out"));
        }
        Ok(Self { asked, height: options.at_height, role, head: Head::Exact, prefixes: Vec::new(), known })
    }

    /// Does the caller know anything of the blocks?
    pub(super) fn knows(&self) -> bool {
        self.known.is_some()
    }

    /// Where the chain starts on DA, as its genesis says.
    fn da_start_height(&self) -> u64 {
        let genesis = self.known.as_ref().and_then(|known| known.genesis.as_ref());
        genesis.map_or(0, |genesis| genesis.da_start_height)
    }

    /// Holds the blocks of what would be written, which end as `head` says, against what the caller knows of them; what there is to say of
    /// that. Whatever else is wrong with them is for verify to find: a restore may be what mends it.
    pub(super) fn prove(
        &self,
        source: &mut dyn Source,
        head: Ends,
        facts: &Facts,
        progress: &Progress,
    ) -> Result<Vec<String>> {
        let Some(known) = &self.known else { return Ok(Vec::new()) };
        progress.begin(Phase::Verifying, facts.bytes);
        let mut report = chain_check::feed(source, Known { head, ..known.clone() }, progress)?;
        if !report.has_chain() {
            let error = Error::mismatch("expected the blocks of a chain, found none")
                .with_hint("leave trusted and genesis out to restore it all the same");
            return Err(facts.place(error, None));
        }
        // A trusted hash says which all blocks below it are, a genesis which the first one is.
        let up_to = known.trusted.map(|(height, _)| height).or(report.base).unwrap_or_default();
        let forgiven = report
            .findings
            .iter()
            .filter(|one| one.rule == Rule::HeaderLink && one.level == Severity::Warning);
        let notes = forgiven.filter_map(|one| one.height).map(|height| {
            format!(
                "block {height} does not name the one before it, as a chain that left its based sequencer may have it: a trusted hash on one side of \
                 that says nothing of the other, which is not proven"
            )
        });
        let notes = notes.collect();
        report.findings.retain(|one| match one.rule {
            Rule::Trusted
            | Rule::Genesis
            | Rule::ChainId
            | Rule::HeaderLink
            | Rule::Proposer
            | Rule::PreRelease => true,
            Rule::Readable | Rule::Present | Rule::Commitment => {
                one.height.is_some_and(|height| height <= up_to)
            }
            _ => false,
        });
        report.counts.clear();
        let first = report.findings.iter().find(|one| one.level == Severity::Error);
        let height = first.and_then(|one| one.height);
        refuse(&chain_check::findings(&report)).map_err(|error| facts.place(error, height))?;
        Ok(notes)
    }

    /// Leaves out of a chain what is not needed.
    pub(super) fn shorten(&mut self, chain: &mut Chain) {
        self.prefixes = chain.prefixes();
        (self.height, self.head) = shorten(chain, self.height);
    }

    /// Whether this chain is cut, in whatever way. `told`: where no manifest says how far it is whole, what its blocks say.
    pub(super) fn cutting(&self, chain: &Chain, told: Option<&Told>, options: &Options) -> Result<Cutting> {
        if self.asked {
            return Ok(Cutting::Yes);
        }
        // A directory would show what may be torn, and would give out again what was deleted.
        if options.history || options.engine()? != Engine::Badger {
            return Ok(Cutting::No);
        }
        let (blocks, torn) = match told {
            Some(told) => (told.height > 0 && told.generation != Some(Generation::PreRelease), told.torn),
            None => (
                chain.newest().is_some_and(|newest| newest.complete_height > 0),
                chain.complete_version().is_some_and(|complete| chain.last_version() > complete),
            ),
        };
        Ok(if !blocks {
            Cutting::No
        } else if torn || (chain.segments().len() > 1 && chain.deletes() != Deletes::Exact) {
            Cutting::Yes
        } else if chain.newest().is_some_and(ends_early) {
            Cutting::OfItsState
        } else {
            Cutting::No
        })
    }
}

/// A copy of blocks that was cut short ends in a state that the node never gave away: that says nothing of DA.
fn ends_early(newest: &Manifest) -> bool {
    newest.announced_height > newest.complete_height && newest.lacks.iter().any(|one| one == STATE_DA_HEIGHTS)
}

/// Whether a chain is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cutting {
    No,
    /// Only to say in its newest state where the node stood on DA, as far as that is known.
    OfItsState,
    Yes,
}

/// What is cut, and how sure it is.
pub(super) struct Stock<'a> {
    /// Opens it.
    pub(super) open: &'a Open<'a>,
    /// Entries above this version may be torn.
    pub(super) complete: u64,
    pub(super) head: Head,
    /// Of a chain, what each of its prefixes is good for.
    pub(super) prefixes: &'a [Option<(u64, u64)>],
    pub(super) deletes: Deletes,
    pub(super) torn: bool,
    pub(super) lacks: bool,
}

/// A cut that can be made.
#[derive(Clone)]
pub(super) struct Ready {
    cut: Cut,
    version: u64,
}

impl Ready {
    /// Is anything made anew?
    pub(super) fn adds(&self) -> bool {
        !self.cut.added().is_empty()
    }

    /// The cut source, from the beginning.
    pub(super) fn source<'a>(
        self,
        stock: &Stock<'a>,
        scratch: &Scratch,
        progress: &Progress,
    ) -> Result<CutSource<Box<dyn Source + 'a>>> {
        Ok(CutSource::new((stock.open)()?, self.version, self.cut, scratch, progress))
    }
}

/// Looks at everything once, and says how it is cut or why it cannot be.
pub(super) fn prepare(
    stock: &Stock<'_>,
    wish: &Wish,
    options: &Options,
    facts: &mut Facts,
    progress: &Progress,
) -> Result<Ready> {
    let with_queue = options.requeue || stock.deletes != Deletes::Exact;
    let look = |height: u64| -> Result<Surveyed> {
        progress.begin(Phase::Verifying, facts.bytes);
        let make = || if with_queue { Survey::new(height).with_queue() } else { Survey::new(height) };
        survey(&mut *(stock.open)()?, stock.complete, height, make, progress)
    };
    let height = match (wish.height, stock.head) {
        (Some(height), _) | (None, Head::Complete(height)) => height,
        // Only a look says how far it goes.
        (None, head) => look(u64::MAX)?.facts.range(head).map_or(0, |(_, high)| high),
    };
    progress.set_height(height);
    let Surveyed { facts: found, version, torn } = look(height)?;
    // Of a chain only what is needed to the height is read.
    let here = |error| facts.place(error, None);
    found.refuse_generation().map_err(here)?;
    refuse_range(&found, stock.head, stock.prefixes).map_err(here)?;
    let cut = found.cut(CutOptions {
        role: wish.role,
        drop_queue: options.drop_queue,
        requeue: options.requeue,
        // Who only wants what is whole is not asked what for.
        force: options.force || !wish.asked,
        deletes_exact: stock.deletes == Deletes::Exact,
        torn: torn || stock.torn,
        lacks_checkpoint: stock.lacks,
        da_start_height: wish.da_start_height(),
    });
    let cut = cut.map_err(here)?;
    facts.tip_height = height;
    facts.complete_height = height;
    // Every entry is one that was chosen, whatever its version.
    facts.shown = facts.last_version;
    Ok(Ready { cut, version })
}
