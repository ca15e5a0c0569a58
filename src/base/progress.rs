//! How far a piece of work is, and whether its caller still wants it.
//!
//! One [`Progress`] is shared by everything that works on one call. Workers bump counters and ask [`Progress::check`] between
//! batches; whoever waits reads [`Progress::state`] as often as it likes. Dropping the guard of [`Progress::cancel_on_drop`]
//! is how an abandoned future tells its blocking half to stop.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// What is being done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Phase {
    /// Connecting, planning, looking for room.
    Preparing = 0,
    /// Bytes arrive.
    Receiving = 1,
    /// Bytes are proven.
    Verifying = 2,
    /// Entries are sorted or merged and written.
    Writing = 3,
    /// Files are made durable and named.
    Finishing = 4,
}

impl Phase {
    /// The phase's name in Python and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Preparing => "preparing",
            Phase::Receiving => "receiving",
            Phase::Verifying => "verifying",
            Phase::Writing => "writing",
            Phase::Finishing => "finishing",
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            1 => Phase::Receiving,
            2 => Phase::Verifying,
            3 => Phase::Writing,
            4 => Phase::Finishing,
            _ => Phase::Preparing,
        }
    }
}

/// The state of some work at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub bytes: u64,
    /// Bytes that this phase is thought to have, 0 when unknown.
    pub total_bytes: u64,
    /// Entries seen in this phase.
    pub entries: u64,
    /// The chain height it stands at or aims at, 0 when unknown.
    pub height: u64,
    /// Seconds since the work began.
    pub elapsed_s: f64,
}

/// A handle on the progress of one piece of work; clones share it.
///
/// ```
/// use evbackup::base::progress::{Phase, Progress};
///
/// let progress = Progress::new();
/// progress.begin(Phase::Receiving, 1 << 20);
/// progress.add(4096, 2);
/// assert_eq!((progress.state().bytes, progress.state().entries), (4096, 2));
/// progress.cancel();
/// assert_eq!(progress.check().unwrap_err().code(), "cancelled");
/// ```
#[derive(Clone, Debug)]
pub struct Progress(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    phase: AtomicU8,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
    entries: AtomicU64,
    height: AtomicU64,
    cancelled: AtomicBool,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Work that begins now.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            phase: AtomicU8::new(0),
            bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            height: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
        }))
    }

    /// Enters a phase that is thought to move `total_bytes` (0: unknown); the counters begin again.
    pub fn begin(&self, phase: Phase, total_bytes: u64) {
        self.0.bytes.store(0, Relaxed);
        self.0.entries.store(0, Relaxed);
        self.0.total_bytes.store(total_bytes, Relaxed);
        self.0.phase.store(phase as u8, Relaxed);
    }

    /// Counts what was done.
    pub fn add(&self, bytes: u64, entries: u64) {
        self.0.bytes.fetch_add(bytes, Relaxed);
        self.0.entries.fetch_add(entries, Relaxed);
    }

    /// Says which chain height the work stands at or aims at.
    pub fn set_height(&self, height: u64) {
        self.0.height.store(height, Relaxed);
    }

    /// Says how many bytes the phase is thought to have, once that is known.
    pub fn set_total(&self, total_bytes: u64) {
        self.0.total_bytes.store(total_bytes, Relaxed);
    }

    /// How far it is.
    pub fn state(&self) -> State {
        State {
            phase: Phase::from_number(self.0.phase.load(Relaxed)),
            bytes: self.0.bytes.load(Relaxed),
            total_bytes: self.0.total_bytes.load(Relaxed),
            entries: self.0.entries.load(Relaxed),
            height: self.0.height.load(Relaxed),
            // To the millisecond: more digits would only be noise in manifests and results.
            elapsed_s: (self.0.started.elapsed().as_secs_f64() * 1e3).round() / 1e3,
        }
    }

    /// Asks the work to stop at its next check.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Relaxed);
    }

    /// Fails once [`cancel`](Self::cancel) was called. Workers ask this at least every few milliseconds of work.
    pub fn check(&self) -> Result<()> {
        if self.0.cancelled.load(Relaxed) { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Cancels when the guard is dropped, unless [`CancelOnDrop::disarm`] was called.
    #[must_use]
    pub fn cancel_on_drop(&self) -> CancelOnDrop {
        CancelOnDrop { progress: self.clone(), armed: true }
    }
}

/// See [`Progress::cancel_on_drop`].
#[derive(Debug)]
pub struct CancelOnDrop {
    progress: Progress,
    armed: bool,
}

impl CancelOnDrop {
    /// The work has ended by itself.
    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.armed {
            self.progress.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_guard_cancels_and_a_disarmed_one_does_not() {
        let progress = Progress::new();
        progress.cancel_on_drop().disarm();
        assert!(progress.check().is_ok());
        drop(progress.cancel_on_drop());
        assert_eq!(progress.check().unwrap_err().code(), "cancelled");
    }

    #[test]
    fn every_phase_survives_its_number() {
        use Phase::{Finishing, Preparing, Receiving, Verifying, Writing};
        for phase in [Preparing, Receiving, Verifying, Writing, Finishing] {
            let progress = Progress::new();
            progress.begin(phase, 7);
            assert_eq!((progress.state().phase, progress.state().total_bytes), (phase, 7));
        }
    }
}
