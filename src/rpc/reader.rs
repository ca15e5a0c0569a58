//! The read RPCs, asked: blocks, state and metadata of a node, as many calls at a time as the caller likes on one connection.
//!
//! | call                    | asks                                   | an answer that is none                              |
//! |-------------------------|----------------------------------------|-----------------------------------------------------|
//! | [`Reader::block`]        | `GetBlock`, header and data as bytes   | nothing there; longer than the caller has room for  |
//! | [`Reader::state`]        | `GetState`                             | nothing there                                       |
//! | [`Reader::metadata`]     | `GetMetadata`                          | nothing there                                       |
//!
//! A node answers *internal* for a block that it has not, so its words decide: they end in `key not found`. What a retry may mend
//! is asked again, ever more slowly, until [`Connect::idle_timeout`](super::Connect::idle_timeout) has passed without an answer; a
//! server that fails by itself only a few times. The length of a reply is known before its first byte is kept, and one above the
//! limit is refused there.

use super::client::{Client, expect_grpc, silent};
use super::dial::explain_late;
use super::rate::Bucket;
use super::status::{from_status, reason, said};
use super::wire::MAX_MESSAGE;
use crate::error::{Error, Result};
use crate::proto::evnode::{
    GetBlockRequest, GetBlockResponse, GetMetadataRequest, GetMetadataResponse, GetStateResponse,
    get_block_request,
};
use bytes::Bytes;
use prost::Message;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstEncoder;

/// The longest reply that is taken: builds of ev-node exist that put 120 MiB of transactions into a block.
pub const MAX_REPLY: usize = MAX_MESSAGE;
/// The first pause before a call is made again; each one after it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a server may fail by itself: what it cannot read will not be there the next minute either.
const FAILURES: u32 = 5;

const GET_BLOCK: &str = "/evnode.v1.StoreService/GetBlock";
const GET_STATE: &str = "/evnode.v1.StoreService/GetState";
const GET_METADATA: &str = "/evnode.v1.StoreService/GetMetadata";

/// What a question found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found<T> {
    /// This.
    Here(T),
    /// The node has nothing there.
    Nowhere,
    /// Something longer than the limit that was given.
    TooLong,
}

impl<T> Found<T> {
    fn map<U>(self, to: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Found::Here(value) => Found::Here(to(value)),
            Found::Nowhere => Found::Nowhere,
            Found::TooLong => Found::TooLong,
        }
    }
}

/// A block as the node sends it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReadBlock {
    /// The bytes of the signed header.
    pub header: Bytes,
    /// The bytes of the data.
    pub data: Bytes,
    /// Where the header was included on DA; 0 when the node does not say.
    pub header_da_height: u64,
    /// Where the data was.
    pub data_da_height: u64,
}

/// The state at the tip. The node leaves out the hash of the last header.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReadState {
    /// Rules of blocks and of the app.
    pub version: (u64, u64),
    /// The chain's name.
    pub chain_id: String,
    /// The height of the first block.
    pub initial_height: u64,
    /// The tip.
    pub last_block_height: u64,
    /// Its time: seconds and nanoseconds.
    pub last_block_time: (i64, i32),
    /// Where the node stands on DA.
    pub da_height: u64,
    /// The app's state after the tip.
    pub app_hash: Vec<u8>,
    /// Who makes the next block; empty before v1.2.0.
    pub next_proposer_address: Vec<u8>,
}

/// Asks a node's read RPCs; clones share the connection.
#[derive(Clone, Debug)]
pub struct Reader {
    grpc: Grpc<Channel>,
    metadata: MetadataMap,
    place: Arc<str>,
    patience: Duration,
    rate: Option<Arc<Bucket>>,
}

impl Client {
    /// The read RPCs over this connection.
    pub fn reader(&self) -> Reader {
        let parts = self.parts();
        Reader {
            grpc: parts.grpc,
            metadata: parts.metadata,
            place: parts.place.into(),
            patience: parts.idle,
            rate: parts.rate.map(Arc::new),
        }
    }
}

impl Reader {
    /// Where it asks, for errors.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The block at a height, if its reply has at most `limit` bytes; the newest one for height 0.
    pub async fn block(&self, height: u64, limit: usize) -> Result<Found<ReadBlock>> {
        let identifier = Some(get_block_request::Identifier::Height(height));
        let question = GetBlockRequest { identifier };
        let answer: Found<GetBlockResponse> = self.ask(GET_BLOCK, &question, limit).await?;
        Ok(answer.map(|reply| {
            let block = reply.block.unwrap_or_default();
            ReadBlock {
                header: block.header.unwrap_or_default(),
                data: block.data.unwrap_or_default(),
                header_da_height: reply.header_da_height,
                data_da_height: reply.data_da_height,
            }
        }))
    }

    /// The state at the tip; `None` while there is none.
    pub async fn state(&self) -> Result<Option<ReadState>> {
        let answer: Found<GetStateResponse> = self.ask(GET_STATE, &(), MAX_REPLY).await?;
        let Found::Here(GetStateResponse { state: Some(state) }) = answer else {
            return Ok(None);
        };
        let version = state.version.unwrap_or_default();
        let time = state.last_block_time.unwrap_or_default();
        Ok(Some(ReadState {
            version: (version.block, version.app),
            chain_id: state.chain_id,
            initial_height: state.initial_height,
            last_block_height: state.last_block_height,
            last_block_time: (time.seconds, time.nanos),
            da_height: state.da_height,
            app_hash: state.app_hash,
            next_proposer_address: state.next_proposer_address,
        }))
    }

    /// What the node keeps under a name, if it has at most `limit` bytes.
    pub async fn metadata(&self, name: &str, limit: usize) -> Result<Found<Bytes>> {
        let question = GetMetadataRequest { key: name.to_owned() };
        let answer: Found<GetMetadataResponse> = self.ask(GET_METADATA, &question, limit).await?;
        Ok(answer.map(|reply| reply.value))
    }

    /// Asks until there is an answer, or no hope of one.
    async fn ask<Q, R>(&self, path: &'static str, question: &Q, limit: usize) -> Result<Found<R>>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let began = Instant::now();
        let (mut pause, mut failures) = (FIRST_PAUSE, 0);
        loop {
            let error = match self.once(path, question, limit).await {
                Ok(found) => return Ok(found),
                Err(Failure::Final(error)) => return Err(error.at(&*self.place)),
                Err(Failure::Server(error)) => {
                    failures += 1;
                    if failures >= FAILURES {
                        return Err(error.at(&*self.place));
                    }
                    error
                }
                Err(Failure::Way(error)) => error,
            };
            if began.elapsed() + pause >= self.patience {
                return Err(error.at(&*self.place));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn once<Q, R>(&self, path: &'static str, question: &Q, limit: usize) -> Result<Found<R>, Failure>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let mut grpc = self.grpc.clone().max_decoding_message_size(limit.min(MAX_REPLY));
        let asking = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let mut request = tonic::Request::new(question.clone());
            *request.metadata_mut() = self.metadata.clone();
            grpc.unary(request, PathAndQuery::from_static(path), ReadCodec(PhantomData)).await
        };
        let answer =
            timeout(self.patience, asking).await.map_err(|_| Failure::Way(silent(self.patience, 0)))?;
        match answer {
            Ok(response) => {
                expect_grpc(response.metadata()).map_err(Failure::Final)?;
                let found: Result<R, String> = response.into_inner();
                if let (Some(rate), Ok(reply)) = (&self.rate, &found) {
                    tokio::time::sleep(rate.take(reply.encoded_len())).await;
                }
                found.map(Found::Here).map_err(|why| Failure::Final(not_a_reply(path, &why)))
            }
            Err(status) => judge(path, &status, limit),
        }
    }
}

/// Why there is no answer.
enum Failure {
    /// Asking again will not change it.
    Final(Error),
    /// The server failed by itself.
    Server(Error),
    /// The way to it failed.
    Way(Error),
}

fn judge<R>(path: &str, status: &Status, limit: usize) -> Result<Found<R>, Failure> {
    let text = said(status);
    // Only our own decoder says this: the length that stands before a reply is above the limit.
    if status.code() == Code::OutOfRange && reason(status).is_none() {
        if limit < MAX_REPLY {
            return Ok(Found::TooLong);
        }
        let what =
            format!("expected a reply of at most {MAX_REPLY} bytes to {}, found a longer one", name(path));
        return Err(Failure::Final(Error::damaged(what)));
    }
    if let Some(error) = explain_late(&text) {
        return Err(Failure::Final(error));
    }
    match status.code() {
        Code::NotFound => Ok(Found::Nowhere),
        Code::Internal | Code::Unknown if text.contains("key not found") => Ok(Found::Nowhere),
        // A web server that knows no gRPC says so in its own way.
        code if code == Code::Unimplemented || text.contains("response with status: 404") => {
            let what = format!("expected the RPC {}, found none: {text}", name(path));
            Err(Failure::Final(Error::unsupported(what).with_hint(
                "is this the RPC port of an ev-node of v1.0.0-beta.3 or later (7331 by default)?",
            )))
        }
        Code::Internal | Code::Unknown => Err(Failure::Server(from_status(status, false))),
        Code::Unavailable
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::ResourceExhausted => Err(Failure::Way(from_status(status, false))),
        _ => Err(Failure::Final(from_status(status, false))),
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn not_a_reply(path: &str, why: &str) -> Error {
    Error::damaged(format!("expected a reply to {}, found other bytes: {why}", name(path)))
        .with_hint(super::DAMAGED_HINT)
}

/// Sends `Q`; a reply that is no `R` is a value, so that it cannot be mistaken for a status that the server sent.
struct ReadCodec<Q, R>(PhantomData<(Q, R)>);

impl<Q: Message + 'static, R: Message + Default + 'static> Codec for ReadCodec<Q, R> {
    type Encode = Q;
    type Decode = Result<R, String>;
    type Encoder = ProstEncoder<Q>;
    type Decoder = ReadDecoder<R>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        ReadDecoder(PhantomData)
    }
}

struct ReadDecoder<R>(PhantomData<R>);

impl<R: Message + Default> Decoder for ReadDecoder<R> {
    type Item = Result<R, String>;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        Ok(Some(R::decode(buf).map_err(|error| error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn judged(status: &Status, limit: usize) -> Result<Found<()>, (char, Kind)> {
        judge(GET_BLOCK, status, limit).map_err(|failure| match failure {
            Failure::Final(error) => ('f', error.kind()),
            Failure::Server(error) => ('s', error.kind()),
            Failure::Way(error) => ('w', error.kind()),
        })
    }

    #[test]
    fn a_block_that_is_not_there_is_told_from_a_node_that_fails() {
        let gone = "failed to retrieve block data: failed to load block header: datastore: key not found";
        assert_eq!(judged(&Status::internal(gone), 9), Ok(Found::Nowhere));
        assert_eq!(judged(&Status::not_found("store is empty"), 9), Ok(Found::Nowhere));
        assert_eq!(judged(&Status::internal("proto: cannot parse"), 9), Err(('s', Kind::Unavailable)));
        assert_eq!(judged(&Status::unavailable("gone"), 9), Err(('w', Kind::Unavailable)));
        assert_eq!(judged(&Status::unimplemented(""), 9), Err(('f', Kind::Unsupported)));
        assert_eq!(judged(&Status::unauthenticated("who?"), 9), Err(('f', Kind::Denied)));
    }

    #[test]
    fn a_reply_is_too_long_for_its_caller_or_for_anybody() {
        let long = Status::out_of_range("decoded message length too large");
        assert_eq!(judged(&long, 9), Ok(Found::TooLong));
        assert_eq!(judged(&long, MAX_REPLY), Err(('f', Kind::Damaged)));
    }
}
