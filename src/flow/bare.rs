//! Segments of which no manifest says how far they are whole: then their blocks do.
//!
//! The families of blocks end where the stream was torn, and what lies above the first of these ends may be in parts: the checker's rule, so that
//! a restore leaves out what `verify` says that it will. No version is promised by that. What is shown at a version is looked at first.

use super::cut::survey;
use crate::base::progress::Progress;
use crate::entry::Source;
use crate::error::Result;
use crate::evnode::cut::{Facts, Head, Survey};
use crate::evnode::generation::Generation;

/// Opens what is looked at, from the beginning.
pub type Open<'a> = dyn Fn() -> Result<Box<dyn Source + 'a>> + 'a;

/// What entries say of the blocks among them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Told {
    /// There are keys of ev-node's.
    pub of_evnode: bool,
    /// The newest release that has left a mark.
    pub generation: Option<Generation>,
    /// What `/0/t` says.
    pub tip: Option<u64>,
    /// The highest block that may be whole; 0: none.
    pub height: u64,
    /// There is something of a block above it.
    pub torn: bool,
}

/// Reads all entries once, or twice where some are above what is whole.
pub fn look(open: &Open<'_>, progress: &Progress) -> Result<Told> {
    let facts = surveyed(open, u64::MAX, u64::MAX, progress)?;
    let torn = match facts.end() {
        Some(end) if facts.passes(end) => !surveyed(open, u64::MAX, end, progress)?.ends_in_the_making(),
        // A block whose other parts were read too early.
        Some(end) => facts.names_above(end),
        None => false,
    };
    Ok(Told {
        of_evnode: facts.is_of_evnode(),
        generation: facts.generation(),
        tip: facts.tip(),
        height: facts.range(Head::Unknown).map_or(0, |(_, height)| height),
        torn,
    })
}

/// The version at which exactly the blocks up to `height` show: that of the block itself. `None` where it shows others, as it does of releases
/// that wrote a block in several steps.
pub fn version_of(open: &Open<'_>, height: u64, progress: &Progress) -> Result<Option<u64>> {
    let all = surveyed(open, u64::MAX, height, progress)?;
    let Some(version) = all.version().filter(|_| all.refuse_generation().is_ok()) else { return Ok(None) };
    // Whoever shows it puts the tip of that moment there; a stream under writes has only a newer one.
    let shown = surveyed(open, version, height, progress)?.with_tip(height);
    let whole = shown.range(Head::Unknown) == all.range(Head::Complete(height)) && !shown.goes_on();
    Ok(whole.then_some(version))
}

fn surveyed(open: &Open<'_>, version: u64, height: u64, progress: &Progress) -> Result<Facts> {
    Ok(survey(&mut *open()?, version, height, || Survey::new(height), progress)?.facts)
}
