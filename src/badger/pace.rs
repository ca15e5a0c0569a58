//! Bytes per second, kept by waiting.

use crate::base::progress::Progress;
use crate::error::Result;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A pause is cut into these, so that the caller's word is heard.
pub(super) const NAP: Duration = Duration::from_millis(20);

/// So many bytes per second; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    /// When the next byte may be read.
    due: Arc<Mutex<Instant>>,
    progress: Progress,
}

impl Pace {
    /// At most `bytes_per_second`, for who is called off by `progress`.
    pub(super) fn new(bytes_per_second: u64, progress: &Progress) -> Self {
        let due = Arc::new(Mutex::new(Instant::now()));
        Self { bytes_per_second: bytes_per_second.max(1), due, progress: progress.clone() }
    }

    /// `bytes` were read.
    pub(super) fn wait(&self, bytes: u64) -> Result<()> {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let due = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            // Time in which nothing was read is not saved up.
            let begin = (*due).max(Instant::now());
            *due = begin.checked_add(cost).unwrap_or(begin);
            *due
        };
        while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.progress.check()?;
            std::thread::sleep(left.min(NAP));
        }
        Ok(())
    }
}
