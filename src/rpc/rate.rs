//! A limit on bytes per second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much may be sent at once after a pause: this part of a second's worth.
const BURST: Duration = Duration::from_millis(200);

/// A token bucket, told in time: each byte moves the moment at which the next one is due.
#[derive(Debug)]
pub(crate) struct Bucket {
    bytes_per_second: u64,
    due: Mutex<Instant>,
}

impl Bucket {
    /// A rate of 0 means none is set.
    pub(crate) fn new(bytes_per_second: u64) -> Option<Self> {
        (bytes_per_second > 0).then(|| Self { bytes_per_second, due: Mutex::new(Instant::now()) })
    }

    /// Takes `bytes` and says how long to wait before they may go.
    pub(crate) fn take(&self, bytes: usize) -> Duration {
        self.take_at(bytes, Instant::now())
    }

    fn take_at(&self, bytes: usize, now: Instant) -> Duration {
        let nanos = (bytes as u128 * 1_000_000_000) / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *due = (*due).max(earliest).checked_add(cost).unwrap_or(*due);
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_after_the_burst() {
        let start = Instant::now() + Duration::from_secs(10);
        let bucket = Bucket::new(1000).unwrap();
        assert_eq!(bucket.take_at(200, start), Duration::ZERO);
        assert_eq!(bucket.take_at(500, start), Duration::from_millis(500));
        assert_eq!(bucket.take_at(500, start + Duration::from_millis(500)), Duration::from_millis(500));
        // A pause is not saved up beyond the burst.
        assert_eq!(bucket.take_at(1200, start + Duration::from_secs(60)), Duration::from_secs(1));
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert!(Bucket::new(0).is_none());
    }
}
