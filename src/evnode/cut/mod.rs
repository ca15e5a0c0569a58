//! The cut at a height: what becomes of each key of a datastore when its chain shall end at block H, as if the node had stopped there.
//!
//! Keys come in the order of their bytes, so what is said of one key may depend on one that comes later: the DA marks follow the blocks,
//! and block 1000 comes before block 999. So the entries pass twice. A [`Survey`] sees all of them and gathers [`Facts`], whose size does
//! not depend on how many there are; from these and the caller's [`Options`] comes a [`Cut`], or why there can be none; the cut then
//! judges the entries one by one. It opens nothing and is fed live entries, one for each key.
//!
//! | keys                                     | cut at H below the tip                                                                  |
//! |------------------------------------------|-----------------------------------------------------------------------------------------|
//! | `t`                                      | H                                                                                       |
//! | `h` `d` `c` `s`, `rhb`, execution records | those above H go; of execution records the value says the height                       |
//! | `s/H`                                    | stays; where it was pruned, it is rebuilt from blocks H and H+1; a DA height of 0 gives way to the highest one of a state below, else to the genesis' or that of the first block on DA |
//! | `i`                                      | what names a height above H goes                                                        |
//! | `d`                                      | not above H; an aggregator's is refused there, since those blocks are public on DA      |
//! | `last-submitted-*`                       | not above H; an aggregator's not above `d`                                              |
//! | `pending_header`, `pending_data`         | stay if they are block H+1, which the node then makes again; else both go               |
//! | `cache/…`                                | records above H go                                                                      |
//! | `headerSync`, `dataSync`                 | what is above H goes, `head` names H; all of it goes where H is not in it               |
//! | `/batches`                               | stay, or go, or gain the transactions of the removed blocks, as the caller says         |
//! | `lst-prnd-s`                             | below H                                                                                 |
//! | checkpoints                              | not above the DA height of `s/H`; gone where nobody knows it                            |
//! | everything else                          | stays                                                                                   |
//!
//! Where nothing is above H, nothing changes: the cut at the tip of a quiet store is that store, byte for byte. (An aggregator that asks to
//! be one gets its `last-submitted-*` lowered all the same.)

mod advice;
mod changes;
mod facts;
mod plan;
mod queue;
mod rule;
mod survey;

#[cfg(test)]
mod tests;

pub use changes::{Action, Change};
pub use facts::{Facts, Head, out_of_range};
pub use plan::Cut;
pub use rule::Verdict;
pub use survey::{Survey, Wanted};

/// What the node will be that starts on what was cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It takes blocks from DA and its peers.
    Follower,
    /// It makes blocks.
    Aggregator,
}

impl Role {
    /// Its name in options and results.
    pub fn name(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::Aggregator => "aggregator",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Role::Follower, Role::Aggregator].into_iter().find(|role| role.name() == name)
    }
}

/// How to cut.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the call")]
pub struct Options {
    /// What will start on it; `None`: not said.
    pub role: Option<Role>,
    /// Leave the sequencer's queue out.
    pub drop_queue: bool,
    /// Put the transactions of the removed blocks into the queue, before what is there.
    pub requeue: bool,
    /// Cut below what DA has, too.
    pub force: bool,
    /// Every key that was deleted is surely gone. Else queue entries whose transactions stand in blocks are left out.
    pub deletes_exact: bool,
    /// The entries are what is whole of a stream that was taken under writes, and goes on above.
    pub torn: bool,
    /// The source could not copy everything, the sequencer's checkpoint among it.
    pub lacks_checkpoint: bool,
    /// Where the chain starts on DA, as its genesis says; 0: not known, or it does not say.
    pub da_start_height: u64,
}
