//! Signatures are verified on all cores while entries go on arriving.

use crate::error::{Error, Result};
use crate::evnode::signature::{Batch, Coefficients, Payload, Verdict};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Signatures in one batch: twice as many would be a few percent quicker, and twice as many to try one by one.
const BATCH: usize = 512;
/// Bytes of headers in one batch. A header has some 200.
const BATCH_BYTES: usize = 1 << 20;
/// Forged heights that are kept; more are counted.
const KEPT: usize = 1 << 20;

/// What came of all signatures.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Heights of forged ones, in order.
    pub(super) forged: Vec<u64>,
    /// Forged ones that are not in the list.
    pub(super) more: u64,
    /// All that were tried.
    pub(super) tried: u64,
}

/// Workers and what they share.
pub(super) struct Crew {
    threads: usize,
    batch: Batch,
    sender: Option<SyncSender<Batch>>,
    workers: Vec<JoinHandle<Result<()>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    outcome: Mutex<Outcome>,
    /// The last batch was signed over legacy encodings.
    legacy: AtomicBool,
}

impl Shared {
    fn verify(&self, batch: &Batch, coefficients: &mut Coefficients) {
        let first = if self.legacy.load(Relaxed) { Payload::Legacy } else { Payload::Today };
        let Verdict { forged, payload } = batch.verify(first, coefficients);
        self.legacy.store(payload == Payload::Legacy, Relaxed);
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.tried += batch.len() as u64;
        for height in forged {
            if outcome.forged.len() < KEPT {
                outcome.forged.push(height);
            } else {
                outcome.more += 1;
            }
        }
    }
}

impl Crew {
    /// Workers on so many cores; 0: on all of them.
    pub(super) fn new(threads: usize) -> Self {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads: if threads == 0 { all() } else { threads },
            batch: Batch::default(),
            sender: None,
            workers: Vec::new(),
            shared: Arc::default(),
        }
    }

    /// Takes a signature and the header as today's node writes it.
    pub(super) fn push(
        &mut self,
        height: u64,
        header: &[u8],
        key: [u8; 32],
        signature: [u8; 64],
    ) -> Result<()> {
        if header.len() > BATCH_BYTES {
            // So large a one waits for nobody: memory holds one of them at a time.
            let mut alone = Batch::default();
            alone.push(height, header, key, signature);
            self.shared.verify(&alone, &mut Coefficients::new()?);
            return Ok(());
        }
        self.batch.push(height, header, key, signature);
        let full = self.batch.len() >= BATCH || self.batch.bytes() >= BATCH_BYTES;
        if full { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let sender = match &self.sender {
            Some(sender) => sender,
            None => self.start()?,
        };
        sender.send(batch).map_err(|_| stopped())
    }

    fn start(&mut self) -> Result<&SyncSender<Batch>> {
        let (sender, receiver) = sync_channel(2 * self.threads);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..self.threads {
            let (receiver, shared) = (Arc::clone(&receiver), Arc::clone(&self.shared));
            let worker = std::thread::Builder::new().name("signatures".to_owned());
            let worker = worker.spawn(move || work(&receiver, &shared));
            let failed = |error| Error::io(format!("cannot start a thread: {error}"));
            self.workers.push(worker.map_err(failed)?);
        }
        Ok(self.sender.insert(sender))
    }

    /// Waits for all of them.
    pub(super) fn finish(mut self) -> Result<Outcome> {
        if self.sender.is_some() && self.batch.len() > 0 {
            self.send()?;
        }
        // Without a sender the workers end.
        self.sender = None;
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| stopped())??;
        }
        if self.batch.len() > 0 {
            self.shared.verify(&self.batch, &mut Coefficients::new()?);
        }
        let mut outcome = self.shared.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = std::mem::take(&mut *outcome);
        outcome.forged.sort_unstable();
        Ok(outcome)
    }
}

fn stopped() -> Error {
    Error::io("expected the signatures to be verified, found a worker that stopped")
}

fn work(receiver: &Mutex<Receiver<Batch>>, shared: &Shared) -> Result<()> {
    let mut coefficients = Coefficients::new()?;
    loop {
        // The lock is held while it waits: the others wait for the lock, and each batch goes to one.
        let batch = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else {
            return Ok(());
        };
        shared.verify(&batch, &mut coefficients);
    }
}
