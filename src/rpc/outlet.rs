//! From a handler's thread to the stream of one reply: chunks cut to size, digested, paced; a sign of life when nothing else comes.

use super::rate::Bucket;
use super::reads::Reads;
use super::status::to_status;
use super::wire::{Announced, Listed};
use crate::base::checksum::Sha256;
use crate::base::progress::{CancelOnDrop, Progress};
use crate::error::{Error, Result};
use crate::proto::evnode::backup_response::Response as Payload;
use crate::proto::evnode::{BackupMetadata, BackupRequest, BackupResponse};
use bytes::{Bytes, BytesMut};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// Smaller chunks are collected up to this, the size that the proposal's server sends.
const SMALLEST_CHUNK: usize = 128 << 10;
/// Larger ones are cut: a message is copied whole into and out of the HTTP/2 layer.
const LARGEST_CHUNK: usize = 1 << 20;
/// Listed keys per message: at most this many bytes.
const LARGEST_LIST: usize = 1 << 20;
/// Messages between the handler's thread and the network: enough that neither waits for the other's every breath.
const QUEUE: usize = 4;
/// A paced handler looks this often whether anyone is still there.
const NAP: Duration = Duration::from_millis(50);

/// Answers requests. Its calls run on threads that may block.
///
/// ```
/// use bytes::Bytes;
/// use evbackup::error::Result;
/// use evbackup::proto::evnode::BackupRequest;
/// use evbackup::rpc::{Announced, Handler, Outlet};
///
/// struct Fixed(Bytes);
/// impl Handler for Fixed {
///     fn backup(&self, _: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
///         outlet.begin(Announced { current_height: 7, ..Announced::default() })?;
///         outlet.chunk(self.0.clone())?;
///         outlet.end(42)
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Sends one backup. An error, here or after the first bytes, reaches the client with its kind, text and hint.
    fn backup(&self, request: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()>;

    /// Who answers the read RPCs; without one they are unimplemented.
    fn reads(&self) -> Option<&dyn Reads> {
        None
    }
}

/// Where a [`Handler`] puts a backup: [`begin`](Outlet::begin), chunks, lists, [`end`](Outlet::end), in this order.
///
/// Every call fails with [`Kind::Cancelled`](crate::error::Kind::Cancelled) once the client is gone or the server stops.
pub trait Outlet {
    /// Says what will come. Whatever is wrong with the request is best found before.
    fn begin(&mut self, first: Announced) -> Result<()>;

    /// Sends the next bytes of the backup stream, of any number; blocks while the client is slower.
    fn chunk(&mut self, bytes: Bytes) -> Result<()>;

    /// Sends live keys outside the block families.
    fn listed(&mut self, keys: Vec<Listed>) -> Result<()>;

    /// Says how many older versions the backup leaves out because their values are damaged.
    fn left_out(&mut self, _versions: u64) {}

    /// Completes the backup. The final message, with the digest of all chunks, leaves when the handler returns without an error.
    fn end(&mut self, last_version: u64) -> Result<()>;

    /// Says by [`Progress::check`] when nobody waits for this any more: for handlers that work long between two chunks.
    fn progress(&self) -> Progress;
}

/// What goes from the thread to the stream.
#[derive(Debug)]
enum Step {
    /// The first metadata, and what a heartbeat repeats of it.
    Begin(BackupMetadata),
    Message(Payload),
    End(Payload),
    Failed(Status),
}

/// How far a handler is.
#[derive(Debug)]
enum State {
    Fresh,
    Begun(BackupMetadata),
    Ended(BackupMetadata),
}

/// The [`Outlet`] of one reply; [`finish`](Outgoing::finish) it when the handler has returned.
#[derive(Debug)]
pub(crate) struct Outgoing {
    steps: mpsc::Sender<Step>,
    /// Cancelled when the server has no more patience.
    end: CancellationToken,
    runtime: Handle,
    state: State,
    since: u64,
    digest: Sha256,
    small: BytesMut,
    rate: Option<Arc<Bucket>>,
    bytes: u64,
    left_out: u64,
    progress: Progress,
}

impl Outgoing {
    /// To be called on the runtime that serves.
    pub(crate) fn new(since: u64, rate: Option<Arc<Bucket>>, end: CancellationToken) -> (Self, Steps) {
        let (steps, receiver) = mpsc::channel(QUEUE);
        let progress = Progress::new();
        let this = Self {
            steps,
            end: end.clone(),
            runtime: Handle::current(),
            state: State::Fresh,
            since,
            digest: Sha256::new(),
            small: BytesMut::new(),
            rate,
            bytes: 0,
            left_out: 0,
            progress: progress.clone(),
        };
        (this, Steps { receiver, end, wanted: progress.cancel_on_drop() })
    }

    /// Chunk bytes that were taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends what the handler's result means: the final message or the error.
    pub(crate) fn finish(mut self, outcome: Result<()>) {
        let step = match (outcome, std::mem::replace(&mut self.state, State::Fresh)) {
            (Err(error), _) => Step::Failed(to_status(&error)),
            (Ok(()), State::Ended(end)) => Step::End(Payload::Metadata(end)),
            (Ok(()), _) => {
                Step::Failed(Status::internal("the server's handler returned before the backup's end"))
            }
        };
        // Nobody is left to be told when the client is gone.
        let _ = self.send(step);
    }

    fn send(&self, step: Step) -> Result<()> {
        let step = match self.steps.try_send(step) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(Error::cancelled()),
            Err(TrySendError::Full(step)) => step,
        };
        // A client that reads nothing must not hold up the server's end: its stream is not even asked for more.
        self.runtime.block_on(async {
            tokio::select! {
                sent = self.steps.send(step) => sent.map_err(|_| Error::cancelled()),
                () = self.end.cancelled() => Err(Error::cancelled()),
            }
        })
    }

    fn send_chunk(&mut self, bytes: Bytes) -> Result<()> {
        self.digest.update(&bytes);
        if let Some(rate) = &self.rate {
            let mut wait = rate.take(bytes.len());
            while !wait.is_zero() {
                if self.steps.is_closed() || self.end.is_cancelled() {
                    return Err(Error::cancelled());
                }
                let nap = wait.min(NAP);
                std::thread::sleep(nap);
                wait -= nap;
            }
        }
        self.send(Step::Message(Payload::Chunk(bytes)))
    }

    fn flush(&mut self) -> Result<()> {
        if self.small.is_empty() {
            return Ok(());
        }
        let bytes = self.small.split().freeze();
        self.send_chunk(bytes)
    }

    fn begun(&self) -> Result<&BackupMetadata> {
        match &self.state {
            State::Begun(first) => Ok(first),
            State::Fresh => {
                Err(Error::invalid("expected begin before it, found a call of the outlet without"))
            }
            State::Ended(_) => Err(Error::invalid("expected nothing after end, found a call of the outlet")),
        }
    }
}

impl Outlet for Outgoing {
    fn begin(&mut self, first: Announced) -> Result<()> {
        if !matches!(self.state, State::Fresh) {
            return Err(Error::invalid("expected begin once, found it twice"));
        }
        let message = BackupMetadata {
            current_height: first.current_height,
            since_version: first.since.unwrap_or(self.since),
            pinned_version: first.pinned_version,
            store_id: first.store_id,
            estimated_bytes: first.estimated_bytes,
            tip_height: first.tip_height,
            deletes: first.deletes,
            reuses_versions: first.reuses_versions,
            ..BackupMetadata::default()
        };
        self.state = State::Begun(message.clone());
        self.send(Step::Begin(message))
    }

    fn chunk(&mut self, mut bytes: Bytes) -> Result<()> {
        self.begun()?;
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if bytes.len() < SMALLEST_CHUNK {
            self.small.extend_from_slice(&bytes);
            return if self.small.len() < SMALLEST_CHUNK { Ok(()) } else { self.flush() };
        }
        self.flush()?;
        // Equal parts, so that no crumb is left over.
        let size = bytes.len().div_ceil(bytes.len().div_ceil(LARGEST_CHUNK));
        while !bytes.is_empty() {
            self.send_chunk(bytes.split_to(size.min(bytes.len())))?;
        }
        Ok(())
    }

    fn listed(&mut self, keys: Vec<Listed>) -> Result<()> {
        let first = self.begun()?;
        let bare = BackupMetadata {
            current_height: first.current_height,
            since_version: first.since_version,
            ..BackupMetadata::default()
        };
        self.flush()?;
        let mut list: (Vec<Bytes>, Vec<u64>) = Default::default();
        let mut size = 0;
        let send = |(listed, mut listed_versions): (Vec<Bytes>, Vec<u64>)| {
            if listed_versions.iter().all(|version| *version == 0) {
                listed_versions.clear();
            }
            let message = BackupMetadata { listed, listed_versions, ..bare.clone() };
            self.send(Step::Message(Payload::Metadata(message)))
        };
        for Listed { key, version } in keys {
            // Five bytes at most of tag and length for keys below 1 MiB, ten of the version.
            let cost = key.len() + 15;
            if size + cost > LARGEST_LIST && !list.0.is_empty() {
                send(std::mem::take(&mut list))?;
                size = 0;
            }
            size += cost;
            list.0.push(key);
            list.1.push(version);
        }
        if list.0.is_empty() { Ok(()) } else { send(list) }
    }

    fn left_out(&mut self, versions: u64) {
        self.left_out = versions;
    }

    fn end(&mut self, last_version: u64) -> Result<()> {
        let first = self.begun()?.clone();
        self.flush()?;
        self.state = State::Ended(BackupMetadata {
            last_version,
            completed: true,
            sha256: self.digest.bytes().to_vec(),
            estimated_bytes: 0,
            left_out: self.left_out,
            ..first
        });
        Ok(())
    }

    fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

/// The receiving side before the reply has begun.
#[derive(Debug)]
pub(crate) struct Steps {
    /// Dropped before the receiver: a handler that finds the one gone finds itself cancelled.
    wanted: CancelOnDrop,
    receiver: mpsc::Receiver<Step>,
    end: CancellationToken,
}

impl Steps {
    /// Waits until it is known whether the request is refused, though no longer than a heartbeat, then the reply.
    pub(crate) async fn reply(mut self, heartbeat: Duration) -> Result<Reply, Status> {
        let first = match tokio::time::timeout(heartbeat, self.receiver.recv()).await {
            Ok(Some(Step::Failed(status))) => return Err(status),
            Ok(None) => return Err(vanished()),
            Ok(Some(step)) => Some(step),
            Err(_) => None,
        };
        Ok(Reply {
            first,
            steps: Some(self.receiver),
            // Until the height is known, an empty chunk says that somebody is working on it.
            alive: Payload::Chunk(Bytes::new()),
            heartbeat,
            timer: Box::pin(tokio::time::sleep(heartbeat)),
            stopped: Box::pin(self.end.cancelled_owned()),
            _wanted: self.wanted,
        })
    }
}

fn vanished() -> Status {
    Status::internal("the server's handler stopped without an answer")
}

/// The stream of one reply. Dropped when the client is gone, which the handler sees at its next call.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Tells the handler when the client is gone, before the receiver does.
    _wanted: CancelOnDrop,
    first: Option<Step>,
    /// None once the reply has ended.
    steps: Option<mpsc::Receiver<Step>>,
    alive: Payload,
    heartbeat: Duration,
    timer: Pin<Box<Sleep>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Reply {
    fn step(&mut self, step: Option<Step>) -> Result<BackupResponse, Status> {
        self.timer.as_mut().reset(Instant::now() + self.heartbeat);
        let response = |payload| Ok(BackupResponse { response: Some(payload) });
        match step {
            Some(Step::Begin(first)) => {
                self.alive = Payload::Metadata(BackupMetadata { estimated_bytes: 0, ..first.clone() });
                response(Payload::Metadata(first))
            }
            Some(Step::Message(payload)) => response(payload),
            Some(Step::End(payload)) => {
                self.steps = None;
                response(payload)
            }
            Some(Step::Failed(status)) => {
                self.steps = None;
                Err(status)
            }
            None => {
                self.steps = None;
                Err(vanished())
            }
        }
    }
}

impl Stream for Reply {
    type Item = Result<BackupResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(this.step(Some(first))));
        }
        let Some(steps) = &mut this.steps else { return Poll::Ready(None) };
        if this.stopped.as_mut().poll(cx).is_ready() {
            this.steps = None;
            let error =
                Error::unavailable("the server was stopped").with_hint("try again when it runs again");
            return Poll::Ready(Some(Err(to_status(&error))));
        }
        if let Poll::Ready(step) = steps.poll_recv(cx) {
            return Poll::Ready(Some(this.step(step)));
        }
        if this.timer.as_mut().poll(cx).is_ready() {
            this.timer.as_mut().reset(Instant::now() + this.heartbeat);
            // Registers the waker with the new deadline.
            let _ = this.timer.as_mut().poll(cx);
            return Poll::Ready(Some(Ok(BackupResponse { response: Some(this.alive.clone()) })));
        }
        Poll::Pending
    }
}
