//! The chain checker: do the entries of a datastore make a chain that a node would accept?
//!
//! It is fed entries in the order of keys, each key's newest version first, and looks at each record once. Blocks are linked by height,
//! and keys are not in the order of heights, so a small row of each record goes to a nameless file (`spool`), and one pass over all
//! heights compares what belongs together (`walk`). Memory is the same for ten blocks and for ten million. Signatures are verified
//! meanwhile, in batches on all cores (`crew`).
//!
//! | rule | must hold for every block of `base..=tip`, `base` being the first one that is not pruned                             |
//! |------|----------------------------------------------------------------------------------------------------------------------|
//! | 1    | the tip is 8 bytes; header, data and signature are there                                                             |
//! | 2    | they can be read and are those of their height                                                                       |
//! | 3    | one chain id, the genesis' if it is given                                                                            |
//! | 4    | the data's metadata has the header's chain id, height and time                                                       |
//! | 5    | the header's data hash is the commitment of the data                                                                 |
//! | 6    | the last header hash is the hash of the header before                                                                |
//! | 7    | the last data hash is the hash of the data before                                                                    |
//! | 8    | time does not go back; the first block has the time of the genesis                                                   |
//! | 9    | the signature is that in the header, not empty, and true                                                             |
//! | 10   | the signer's address is that of the key and the proposer's                                                           |
//! | 11   | the proposer of the first block is the genesis', of others the one that the state before expects, else the genesis'  |
//! | 12   | the state is there and has the block's height, time and chain id                                                     |
//! | 13   | the state has the hash of the header                                                                                 |
//! | 14   | the header has the app hash of the state before                                                                      |
//! | 15   | the index has the block                                                                                              |
//! | 16   | nothing is above the tip                                                                                             |
//! | 17   | the pending block is whole, not above tip + 1, and of the chain                                                      |
//! | 18   | DA marks are not above the tip; what is included says where                                                          |
//! | 19   | values and names have their lengths                                                                                  |
//! | 20   | the execution layer has the block's time and the state's root                                                        |
//!
//! A finding says which rule, at which height and key, what was expected and what was found. One cause gives one finding: what cannot be
//! read is not compared with its neighbours.

mod crew;
mod finding;
mod index;
mod intake;
mod metadata;
mod options;
mod report;
mod row;
mod spool;
mod walk;

#[cfg(test)]
mod tests;

pub use finding::{Finding, Level, Rule};
pub use intake::Checker;
pub use options::{Begins, ExecutionLayer, Genesis, Head, Options, Signatures};
pub use report::{ChainReport, Count};
