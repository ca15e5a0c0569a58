//! Signatures are verified on all cores while entries go on arriving.

use crate::error::{Error, Result};
use crate::evnode::signature::{Batch, Coefficients, Forged, Payload, Verdict};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Signatures in one batch: twice as many would be a few percent quicker, and twice as many to try one by one.
const BATCH: usize = 512;
/// Bytes in one batch. A header has some 200, and its key and signature some 100.
const BATCH_BYTES: usize = 1 << 20;
/// Bytes that wait for a core or are on one, however many cores there are: with them the cores have work while the entries behind the
/// headers are read and all of them compared, which one thread does.
const WAITING: usize = 32 << 20;
/// How often somebody who waits for room looks whether anybody works.
const LOOK: Duration = Duration::from_millis(100);
/// Forged ones that are kept; more are counted.
const KEPT: usize = 1 << 20;

/// What came of all signatures.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The forged ones, in the order of heights.
    pub(super) forged: Vec<Forged>,
    /// Forged ones that are not in the list.
    pub(super) more: u64,
    /// All that were tried.
    pub(super) tried: u64,
}

/// Workers and what they share.
pub(super) struct Crew {
    threads: usize,
    batch: Batch,
    started: bool,
    /// None before the start, at the end, and where no thread can be had.
    sender: Option<Sender<Batch>>,
    workers: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    outcome: Mutex<Outcome>,
    /// The last batch was signed over legacy encodings.
    legacy: AtomicBool,
    /// Nobody wants to know any more.
    dropped: AtomicBool,
    room: Room,
}

/// Bytes that are on their way.
#[derive(Default)]
struct Room {
    taken: Mutex<usize>,
    freed: Condvar,
}

impl Room {
    /// Waits until so many more fit, as anything does where nothing else is; false once `goes_on` says no.
    fn take(&self, bytes: usize, goes_on: impl Fn() -> bool) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken > 0 && taken.saturating_add(bytes) > WAITING {
            if !goes_on() {
                return false;
            }
            taken = self.freed.wait_timeout(taken, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken += bytes;
        true
    }

    /// Has everything been left? Waits a moment for it.
    fn is_left(&self) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_timeout_while(taken, LOOK, |taken| *taken > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    fn leave(&self, bytes: usize) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) -= bytes;
        self.freed.notify_all();
    }
}

impl Shared {
    fn verify(&self, batch: &Batch, coefficients: &mut Coefficients) {
        let first = if self.legacy.load(Relaxed) { Payload::Legacy } else { Payload::Today };
        let Verdict { forged, payload } = batch.verify(first, coefficients);
        self.legacy.store(payload == Payload::Legacy, Relaxed);
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.tried += batch.len() as u64;
        for one in forged {
            if outcome.forged.len() < KEPT {
                outcome.forged.push(one);
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
            started: false,
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
        if !self.started {
            self.start()?;
        }
        let batch = std::mem::take(&mut self.batch);
        let Some(sender) = &self.sender else {
            self.shared.verify(&batch, &mut Coefficients::new()?);
            return Ok(());
        };
        let taken = self.shared.room.take(batch.bytes(), || self.works());
        if taken && sender.send(batch).is_ok() { Ok(()) } else { Err(stopped()) }
    }

    /// As many threads as can be had: where there are limits, fewer do as well, and without any who sends does it all.
    fn start(&mut self) -> Result<()> {
        // What it may hold is bounded by the room.
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..self.threads {
            let coefficients = Coefficients::new()?;
            let (receiver, shared) = (Arc::clone(&receiver), Arc::clone(&self.shared));
            let worker = std::thread::Builder::new().name("signatures".to_owned());
            let Ok(worker) = worker.spawn(move || work(&receiver, &shared, coefficients)) else { break };
            self.workers.push(worker);
        }
        self.started = true;
        self.sender = Some(sender).filter(|_| !self.workers.is_empty());
        Ok(())
    }

    fn works(&self) -> bool {
        self.workers.iter().any(|worker| !worker.is_finished())
    }

    /// There are no more.
    pub(super) fn close(&mut self) -> Result<()> {
        // Less than a batch is not worth a thread.
        if self.started && self.batch.len() > 0 {
            self.send()?;
        }
        // Without a sender the workers end.
        self.sender = None;
        Ok(())
    }

    /// Waits for all of them; `check` says now and then whether anybody still wants to know.
    pub(super) fn finish(mut self, check: impl Fn() -> Result<()>) -> Result<Outcome> {
        self.close()?;
        while self.works() && !self.shared.room.is_left() {
            check()?;
        }
        for worker in self.workers.drain(..) {
            worker.join().map_err(|_| stopped())?;
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

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.dropped.store(true, Relaxed);
    }
}

fn stopped() -> Error {
    Error::io("expected the signatures to be verified, found a worker that stopped")
}

fn work(receiver: &Mutex<Receiver<Batch>>, shared: &Shared, mut coefficients: Coefficients) {
    loop {
        // The lock is held while it waits: the others wait for the lock, and each batch goes to one.
        let batch = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else {
            return;
        };
        if shared.dropped.load(Relaxed) {
            return;
        }
        shared.verify(&batch, &mut coefficients);
        shared.room.leave(batch.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn who_brings_too_much_waits_until_there_is_room_or_nobody_works() {
        let room = Arc::new(Room::default());
        assert!(room.take(WAITING * 2, || false), "alone anything fits");
        assert!(!room.take(1, || false));
        let (done, waited) = channel();
        let other = Arc::clone(&room);
        let thread = std::thread::spawn(move || done.send(other.take(WAITING, || true)).unwrap());
        assert!(waited.recv_timeout(Duration::from_millis(50)).is_err(), "there is no room yet");
        room.leave(WAITING * 2);
        assert!(waited.recv().unwrap());
        thread.join().unwrap();
        assert_eq!(*room.taken.lock().unwrap(), WAITING);
    }

    #[test]
    fn more_than_there_is_room_for_is_verified_all_the_same() {
        // So many would take half as much again.
        let mut crew = Crew::new(16);
        let shared = Arc::clone(&crew.shared);
        let taken = || *shared.room.taken.lock().unwrap();
        // Nobody gets rid of what was verified.
        let held = shared.outcome.lock().unwrap();
        let pushing = std::thread::spawn(move || {
            for height in 0..100 {
                crew.push(height, &vec![7; BATCH_BYTES], [1; 32], [2; 64]).unwrap();
            }
            crew.finish(|| Ok(())).unwrap()
        });
        while taken() + BATCH_BYTES <= WAITING {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(300));
        assert!(taken() <= WAITING, "{} bytes wait", taken());
        drop(held);
        let outcome = pushing.join().unwrap();
        assert_eq!((outcome.tried, outcome.forged.len()), (100, 100));
        assert_eq!(taken(), 0);
    }

    #[test]
    fn what_nobody_wants_to_know_any_more_is_not_verified() {
        let mut crew = Crew::new(2);
        let shared = Arc::clone(&crew.shared);
        // Each worker has one batch and cannot get rid of it.
        let held = shared.outcome.lock().unwrap();
        for height in 0..20 {
            crew.push(height, &vec![7; BATCH_BYTES], [1; 32], [2; 64]).unwrap();
        }
        drop(crew);
        drop(held);
        while Arc::strong_count(&shared) > 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let tried = shared.outcome.lock().unwrap().tried;
        assert!(tried <= 2, "{tried} of 20");
    }

    #[test]
    fn who_waits_for_the_last_ones_may_give_up() {
        let mut crew = Crew::new(2);
        let shared = Arc::clone(&crew.shared);
        let held = shared.outcome.lock().unwrap();
        for height in 0..20 {
            crew.push(height, &vec![7; BATCH_BYTES], [1; 32], [2; 64]).unwrap();
        }
        let error = crew.finish(|| Err(Error::cancelled())).unwrap_err();
        assert_eq!(error.code(), "cancelled");
        drop(held);
        while Arc::strong_count(&shared) > 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(shared.outcome.lock().unwrap().tried <= 2);
    }

    #[test]
    fn without_threads_who_sends_verifies() {
        let mut crew = Crew::new(0);
        crew.threads = 0;
        for height in 0..=BATCH as u64 {
            crew.push(height, b"header", [1; 32], [2; 64]).unwrap();
        }
        let outcome = crew.finish(|| Ok(())).unwrap();
        assert_eq!((outcome.tried, outcome.forged.len()), (BATCH as u64 + 1, BATCH + 1));
    }
}
