//! The read RPCs of `StoreService`: what a handler is asked, and why it may have no answer.

use super::status::to_status;
use crate::base::progress::Progress;
use crate::error::Error;
use crate::proto::evnode::get_block_request::Identifier;
use crate::proto::evnode::{GetBlockResponse, P2pStoreSnapshot, State};
use bytes::Bytes;
use tonic::Status;

/// Answers the RPCs that read a node's datastore. Its calls run on threads that may block, several at a time.
///
/// ```
/// use evbackup::base::progress::Progress;
/// use evbackup::proto::evnode::get_block_request::Identifier;
/// use evbackup::proto::evnode::{GetBlockResponse, P2pStoreSnapshot, State};
/// use evbackup::rpc::{Reads, Refusal};
///
/// struct Empty;
/// impl Reads for Empty {
///     fn block(&self, _: Option<&Identifier>, _: &Progress) -> Result<GetBlockResponse, Refusal> {
///         Err(Refusal::NotFound("store is empty, no latest block available".to_owned()))
///     }
///     fn state(&self, _: &Progress) -> Result<State, Refusal> {
///         Err(Refusal::NotFound("no state".to_owned()))
///     }
///     fn metadata(&self, name: &str, _: &Progress) -> Result<bytes::Bytes, Refusal> {
///         Err(Refusal::NotFound(format!("no {name}")))
///     }
///     fn genesis_da_height(&self, _: &Progress) -> Result<u64, Refusal> {
///         Err(Refusal::NotFound("not included yet".to_owned()))
///     }
///     fn p2p_stores(&self, _: &Progress) -> Result<Vec<P2pStoreSnapshot>, Refusal> {
///         Ok(Vec::new())
///     }
/// }
/// ```
pub trait Reads: Send + Sync {
    /// A block by its height, 0 for the newest, or by its hash.
    fn block(&self, which: Option<&Identifier>, progress: &Progress) -> Result<GetBlockResponse, Refusal>;

    /// The state after the newest block.
    fn state(&self, progress: &Progress) -> Result<State, Refusal>;

    /// What the node keeps under a name.
    fn metadata(&self, name: &str, progress: &Progress) -> Result<Bytes, Refusal>;

    /// The DA height of the first block that was included there.
    fn genesis_da_height(&self, progress: &Progress) -> Result<u64, Refusal>;

    /// Where the stores for peers begin and end: headers, data.
    fn p2p_stores(&self, progress: &Progress) -> Result<Vec<P2pStoreSnapshot>, Refusal>;
}

/// Why there is no answer: as a node says it, whose clients look at code and text, or an error of ours.
#[derive(Debug)]
pub enum Refusal {
    /// `InvalidArgument`.
    Invalid(String),
    /// `NotFound`.
    NotFound(String),
    /// `Internal`.
    Internal(String),
    /// The datastore cannot be read.
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Error(error)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(text) => Status::invalid_argument(text),
            Refusal::NotFound(text) => Status::not_found(text),
            Refusal::Internal(text) => Status::internal(text),
            Refusal::Error(error) => to_status(&error),
        }
    }
}
