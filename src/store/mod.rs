//! Our embedded datastore: entries with all their versions, in RocksDB.
//!
//! One column family with three spaces in it (drawn in `schema.rs`): the *entries*, an index of them by version, and what the
//! store says *about* itself. One ingest call over sorted files is atomic within a column family, so a store changes
//! as a whole or not at all: [`Loader`] fills a fresh directory, [`Increment`] adds to a store that is there, and killed
//! at any moment they leave no store or the store before.
//!
//! Every read is pinned to the version up to which the applied segments surely miss nothing. Entries above it are kept, as
//! they arrived, until a later increment completes them.
//!
//! Contract with bad input: a damaged file gives an error that names it, never a panic and never other data. Memory is
//! bounded by the limits named here, whatever the size of the store; values are held one at a time.

mod about;
mod check;
mod compact;
mod fault;
mod fresh;
mod increment;
mod load;
mod marker;
mod open;
mod picked;
mod reader;
mod schema;
mod tables;
mod versions;

pub use about::{About, Applied, FORMAT};
pub use check::Checked;
pub use compact::Dropped;
pub use increment::Increment;
pub use load::{LoadOptions, Loader, NewAbout, Written};
pub use open::Store;
