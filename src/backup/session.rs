//! One attempt: ask, let the bytes flow to the thread that records them, and wait for its word.

use super::blocks::{self, Way};
use super::record::{Held, Record, Target};
use super::{Backup, Options, Origin, ReadOptions, Since, Via};
use crate::base::progress::{Phase, Progress};
use crate::error::{Error, Kind, Result};
use crate::flow::increment::Base;
use crate::flow::intake::Arrivals;
use crate::flow::{datastore, serving, work};
use crate::rpc::{self, Announced, Connect, Event, Final, Layout, Listed, Outlet, Request};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use tokio::sync::mpsc::{Sender, error::SendError};

/// Events that may wait for the recording thread: with chunks of at most 1 MiB, a few MiB.
const WAITING: usize = 8;
/// The largest part of a chunk that is handed on.
const CHUNK: usize = 1 << 20;

/// What is asked of the source.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) since: u64,
    pub(super) proof: Option<rpc::Base>,
    /// Everything is fetched and compared with the base's keys.
    pub(super) exact: bool,
}

impl Question {
    fn new(options: &Options, base: Option<&Base>) -> Result<Self> {
        let Some(base) = base else {
            let since = if let Since::Version(since) = options.since { since } else { 0 };
            if options.exact == Some(true) && since > 0 {
                return Err(Error::invalid(
                    "expected an earlier segment as since where exact is asked, found a version",
                ));
            }
            return Ok(Self { since, proof: None, exact: false });
        };
        let manifest = &base.manifest;
        // A source without ids is Badger's own RPC: where its blocks do not say what is complete, only comparing everything does.
        let badgers_own = manifest.store_id.is_none() && !manifest.pinned;
        let unproven = badgers_own || manifest.reuses_versions;
        let exact = options.exact.unwrap_or(unproven && manifest.complete_height == 0);
        if exact && !manifest.keys.as_ref().is_some_and(|keys| keys.all) {
            return Err(Error::invalid("expected a base that lists all its keys, found one that does not")
                .at_path(&base.path)
                .with_hint("take the full backup with exact=True, too"));
        }
        let since = match (exact, badgers_own && manifest.complete_height > 0) {
            (true, _) => 0,
            // One version of overlap: the base's block comes again, and proves that the source is still the same.
            (false, true) => manifest.next_since.saturating_sub(1),
            (false, false) => manifest.next_since,
        };
        let bytes = |hex: &Option<String>| {
            hex.as_ref()
                .and_then(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).ok())
                .unwrap_or_default()
        };
        let proof = (!exact).then(|| rpc::Base {
            store_id: bytes(&manifest.store_id),
            height: manifest.complete_height,
            hash: bytes(&manifest.complete_hash),
            version: manifest.last_version,
            block_version: manifest.block_version.unwrap_or(0),
        });
        Ok(Self { since, proof, exact })
    }
}

/// Runs one attempt.
pub(super) async fn run(
    options: &Arc<Options>,
    held: Held,
    base: Option<Base>,
    notes: Vec<String>,
    progress: &Progress,
) -> Result<Backup> {
    let question = Question::new(options, base.as_ref())?;
    let asked = Asked::of(options, base.as_ref(), &question).map_err(|error| placed(options, error))?;
    let guard = progress.cancel_on_drop();
    progress.begin(Phase::Preparing, 0);
    let opened = (Arc::clone(options), base.is_some() || question.since > 0);
    let target = work::blocking(progress.clone(), move |_| Target::begin(&opened.0, held, opened.1)).await?;
    let record = Record::new(target, Arc::clone(options), base, question, notes, progress.clone());
    let result = match &options.origin {
        Origin::Server(connect) => Box::pin(from_server(connect, asked, record, progress)).await,
        Origin::Datastore(path, reading) => {
            let (path, reading) = (path.clone(), reading.clone());
            work::blocking(progress.clone(), move |progress| {
                from_datastore(&path, &reading, record, progress)
            })
            .await
        }
    };
    guard.disarm();
    result.map_err(|error| placed(options, error))
}

/// What does not go together is two things: one of them is the source.
fn placed(options: &Options, error: Error) -> Error {
    match &options.origin {
        _ if error.kind() != Kind::Mismatch => error,
        Origin::Server(connect) => error.at(connect.address.to_string()),
        Origin::Datastore(path, _) => error.at_path(path),
    }
}

/// Which RPCs a server is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    /// Backup.
    Backup,
    /// Those that read.
    Blocks(Way),
    /// Backup, and those that read where there is none.
    Either(Way),
}

impl Asked {
    /// What the options ask for. A chain goes on in the way that it was begun.
    fn of(options: &Options, base: Option<&Base>, question: &Question) -> Result<Self> {
        let way = if options.raw { Way::Raw } else { Way::Blocks };
        if matches!(options.origin, Origin::Datastore(..)) {
            if options.via != Via::Auto || options.raw {
                return Err(Error::invalid(
                    "expected the address of a node where via or raw is given, found a path",
                ));
            }
            return Ok(Asked::Backup);
        }
        let begun = base.map(|base| (base, Way::from_name(&base.manifest.via)));
        match (options.via, begun) {
            (Via::Rpc, _) if options.raw => {
                Err(Error::invalid("expected via=\"blocks\" or \"auto\" with raw, found \"rpc\""))
            }
            (Via::Rpc, Some((base, Some(way)))) => {
                Err(base.mismatch(format!("its blocks were copied one by one, via {}", way.name())))
            }
            (Via::Blocks, Some((base, None))) => {
                Err(base.mismatch(format!("it was taken via {}", base.manifest.via)))
            }
            (Via::Auto, Some((_, Some(begun)))) if !options.raw => Ok(Asked::Blocks(begun)),
            (Via::Auto, None) if question.since == 0 => Ok(Asked::Either(way)),
            (Via::Blocks, _) | (Via::Auto, Some((_, Some(_)))) => Ok(Asked::Blocks(way)),
            // A bare version counts otherwise where blocks are copied.
            (Via::Rpc | Via::Auto, _) => Ok(Asked::Backup),
        }
    }
}

/// The source's error, and which base it is about: the source does not know.
fn refused(base: Option<&Base>, error: Error) -> Error {
    match base {
        Some(base) => base.refused(error),
        None => error,
    }
}

const NO_BACKUP_NOTE: &str =
    "the node has no Backup RPC: its blocks were copied one by one; lacks says what is not in it";

async fn from_server(
    connect: &Connect,
    asked: Asked,
    mut record: Record,
    progress: &Progress,
) -> Result<Backup> {
    let mut client = rpc::connect(connect).await?;
    if let Asked::Blocks(way) = asked {
        return Box::pin(blocks::copy(client.reader(), record, way, progress)).await;
    }
    let question = record.question();
    let request = Request { since: question.since, base: question.proof.clone() };
    let mut incoming = match (client.backup(request).await, asked) {
        (Err(error), Asked::Either(way)) if error.kind() == Kind::Unsupported => {
            let reads = client.reader();
            // Not a node at all? Then what it said first is what counts.
            if matches!(reads.state().await, Err(other) if other.kind() == Kind::Unsupported) {
                return Err(error);
            }
            record.note(NO_BACKUP_NOTE);
            return Box::pin(blocks::copy(reads, record, way, progress)).await;
        }
        (Err(error), _) if error.kind() == Kind::Unsupported => {
            return Err(match record.base() {
                Some(base) => base.mismatch(error.what().to_owned()),
                None => error,
            });
        }
        (incoming, _) => incoming.map_err(|error| refused(record.base(), error))?,
    };
    record.announce(incoming.announced().clone())?;
    progress.begin(Phase::Receiving, incoming.announced().estimated_bytes);
    progress.set_height(incoming.announced().current_height);
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING);
    let worker = tokio::task::spawn_blocking(move || record.run(&mut Received(receiver)));
    let failed = loop {
        let event = tokio::select! {
            event = incoming.next() => event,
            // The worker has ended before its time: it knows why.
            () = sender.closed() => break None,
        };
        match event {
            Ok(Event::Chunk(chunk)) if chunk.len() > CHUNK => {
                if send_in_parts(&sender, chunk).await.is_err() {
                    break None;
                }
            }
            Ok(event) => {
                let last = matches!(event, Event::End(_));
                if sender.send(event).await.is_err() || last {
                    break None;
                }
            }
            Err(error) => break Some(error),
        }
    };
    // Without the last word the worker gives up, and takes away what it wrote.
    drop(sender);
    let result = worker.await.unwrap_or_else(|error| Err(Error::io(format!("a worker has died: {error}"))));
    match (failed, result) {
        // What the worker found in the bytes is why the stream was left.
        (Some(error), Err(other)) if other.kind() == Kind::Cancelled => Err(error),
        (_, Err(error)) => Err(at_source(error, connect)),
        (Some(error), Ok(_)) => Err(error),
        (None, Ok(backup)) => Ok(backup),
    }
}

/// A server may send whole frames of Badger's at once, some 100 MiB: in parts, no more than the last one or two of them are held.
async fn send_in_parts(sender: &Sender<Event>, mut chunk: Bytes) -> Result<(), SendError<Event>> {
    while !chunk.is_empty() {
        let part = chunk.split_to(chunk.len().min(CHUNK));
        sender.send(Event::Chunk(part)).await?;
    }
    Ok(())
}

/// An error in the bytes has no file: it is the source's.
fn at_source(error: Error, connect: &Connect) -> Error {
    if error.kind() == Kind::Damaged {
        error.with_hint(rpc::DAMAGED_HINT).at(connect.address.to_string())
    } else {
        error
    }
}

struct Received(tokio::sync::mpsc::Receiver<Event>);

impl Arrivals for Received {
    fn next(&mut self) -> Result<Event> {
        self.0.blocking_recv().ok_or_else(Error::cancelled)
    }
}

/// The same answer that a server gives, handed to the next thread instead of a wire.
fn from_datastore(path: &Path, reading: &ReadOptions, record: Record, progress: &Progress) -> Result<Backup> {
    let datastore = datastore::open(path, reading)?;
    let (question, base) = (record.question().clone(), record.base().cloned());
    let (sender, receiver) = mpsc::sync_channel(WAITING);
    std::thread::scope(|threads| {
        let datastore = &*datastore;
        let answering = threads.spawn(move || {
            let mut outlet = Handed {
                sender,
                announced: Announced::default(),
                since: question.since,
                left_out: 0,
                progress: progress.clone(),
            };
            serving::answer(datastore, question.since, question.proof.as_ref(), &mut outlet, progress)
        });
        let recorded = record.run_announced(&mut Local(receiver), progress);
        let answered = answering.join().unwrap_or_else(|_| Err(Error::io("a thread has died")));
        match (answered, recorded) {
            // Whoever hears that the other has given up is not the one who knows why.
            (Err(error), Err(other)) if other.kind() == Kind::Cancelled => Err(refused(base.as_ref(), error)),
            (_, Err(error)) => Err(error),
            (Err(error), Ok(_)) => Err(refused(base.as_ref(), error)),
            (Ok(()), Ok(backup)) => Ok(backup),
        }
    })
}

/// What goes from the reading thread to the recording one.
pub(super) enum Handover {
    Begin(Announced),
    Event(Event),
}

struct Handed {
    sender: mpsc::SyncSender<Handover>,
    announced: Announced,
    since: u64,
    left_out: u64,
    progress: Progress,
}

impl Handed {
    fn send(&mut self, handover: Handover) -> Result<()> {
        self.sender.send(handover).map_err(|_| Error::cancelled())
    }
}

impl Outlet for Handed {
    fn begin(&mut self, first: Announced) -> Result<()> {
        self.announced = first.clone();
        self.send(Handover::Begin(first))
    }

    fn chunk(&mut self, bytes: Bytes) -> Result<()> {
        self.send(Handover::Event(Event::Chunk(bytes)))
    }

    fn listed(&mut self, keys: Vec<Listed>) -> Result<()> {
        self.send(Handover::Event(Event::Listed(keys)))
    }

    fn left_out(&mut self, versions: u64) {
        self.left_out = versions;
    }

    fn end(&mut self, last_version: u64) -> Result<()> {
        let end = Final {
            layout: Layout::F,
            since: self.announced.since.unwrap_or(self.since),
            last_version,
            current_height: self.announced.current_height,
            pinned_version: self.announced.pinned_version,
            store_id: self.announced.store_id.clone(),
            sha256: Vec::new(),
            tip_height: self.announced.tip_height,
            deletes: Some(self.announced.deletes.clone()),
            left_out: self.left_out,
        };
        self.send(Handover::Event(Event::End(end)))
    }

    fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

/// The receiving end of [`Handed`].
pub(super) struct Local(mpsc::Receiver<Handover>);

impl Local {
    /// What is announced before the first byte.
    pub(super) fn announced(&mut self) -> Result<Announced> {
        match self.0.recv() {
            Ok(Handover::Begin(first)) => Ok(first),
            _ => Err(Error::cancelled()),
        }
    }
}

impl Arrivals for Local {
    fn next(&mut self) -> Result<Event> {
        match self.0.recv() {
            Ok(Handover::Event(event)) => Ok(event),
            _ => Err(Error::cancelled()),
        }
    }
}
