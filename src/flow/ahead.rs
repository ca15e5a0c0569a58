//! Entries read on a thread of their own: what reads and what it is read for have a core each.

use crate::entry::{Entry, Source};
use crate::error::Result;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes of keys and values in one batch.
const BATCH: usize = 256 << 10;
/// Entries in one batch.
const ENTRIES: usize = 4096;
/// Batches there are.
const BATCHES: usize = 4;

/// Hands every entry that `source` yields to `take`, in its order, while the next ones are read. Ends at the first error of either; what
/// was read before an error of the source has been taken.
///
/// Memory: 3 MiB, and one entry that has more.
///
/// ```
/// use evbackup::entry::{OwnedEntry, VecSource};
/// use evbackup::flow::ahead;
///
/// let mut source = VecSource::new(vec![OwnedEntry { key: b"a".to_vec(), version: 7, ..OwnedEntry::default() }]);
/// let mut versions = Vec::new();
/// ahead::each(&mut source, |entry| {
///     versions.push(entry.version);
///     Ok(())
/// })?;
/// assert_eq!(versions, [7]);
/// # Ok::<(), evbackup::error::Error>(())
/// ```
pub fn each(source: &mut dyn Source, mut take: impl FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
    let (full, filled) = channel::<Batch>();
    let (back, empty) = channel();
    let shared = &mut *source;
    let done = std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().name("reading".to_owned());
        let reading = thread.spawn_scoped(threads, move || read(shared, &full, &empty)).ok()?;
        let taken = filled.iter().try_for_each(|batch| {
            batch.iter().try_for_each(|entry| take(&entry))?;
            // Nobody wants it back at the end.
            let _ = back.send(batch);
            Ok(())
        });
        // Whoever reads sees that nobody takes any more.
        drop((filled, back));
        let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Some(taken.and(read))
    });
    // Where there is no thread to be had, one does both.
    done.unwrap_or_else(|| {
        while source.advance()? {
            take(&source.entry())?;
        }
        Ok(())
    })
}

fn read(source: &mut dyn Source, full: &Sender<Batch>, empty: &Receiver<Batch>) -> Result<()> {
    let mut idle: Vec<Batch> = std::iter::repeat_with(Batch::default).take(BATCHES).collect();
    let mut wanted = 1;
    loop {
        while idle.len() < wanted {
            let Ok(batch) = empty.recv() else { return Ok(()) };
            idle.push(batch.cleared());
        }
        let mut batch = idle.pop().unwrap_or_default();
        let more = batch.fill(source);
        // Of large ones there is no second before the first is gone.
        wanted = if batch.bytes.len() > 2 * BATCH { BATCHES } else { 1 };
        let goes_on = full.send(batch).is_ok();
        if !(more? && goes_on) {
            return Ok(());
        }
    }
}

/// Keys and values one behind the other, and what belongs to each.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Packed>,
}

struct Packed {
    key_end: usize,
    end: usize,
    version: u64,
    meta: u8,
    user_meta: u8,
    expires_at: u64,
}

impl Batch {
    /// Takes entries until there are enough; false at their end.
    fn fill(&mut self, source: &mut dyn Source) -> Result<bool> {
        while self.bytes.len() < BATCH && self.entries.len() < ENTRIES {
            if !source.advance()? {
                return Ok(false);
            }
            let Entry { key, version, value, meta, user_meta, expires_at } = source.entry();
            self.bytes.extend_from_slice(key);
            let key_end = self.bytes.len();
            self.bytes.extend_from_slice(value);
            let end = self.bytes.len();
            self.entries.push(Packed { key_end, end, version, meta, user_meta, expires_at });
        }
        Ok(true)
    }

    fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = &self.bytes[..];
        let mut at = 0;
        self.entries.iter().map(move |packed| {
            let (key, behind) = rest.split_at_checked(packed.key_end - at).unwrap_or_default();
            let (value, behind) = behind.split_at_checked(packed.end - packed.key_end).unwrap_or_default();
            (rest, at) = (behind, packed.end);
            let &Packed { version, meta, user_meta, expires_at, .. } = packed;
            Entry { key, version, value, meta, user_meta, expires_at }
        })
    }

    /// One large entry is no reason to hold on to so much.
    fn cleared(mut self) -> Self {
        self.entries.clear();
        self.bytes.clear();
        self.bytes.shrink_to(2 * BATCH);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// Yields `count` entries of `size` bytes, then an error if there is one.
    struct Counting<'a> {
        count: usize,
        size: usize,
        yielded: &'a AtomicUsize,
        error: bool,
        value: Vec<u8>,
    }

    impl<'a> Counting<'a> {
        fn new(count: usize, size: usize, yielded: &'a AtomicUsize) -> Self {
            Self { count, size, yielded, error: false, value: Vec::new() }
        }
    }

    impl Source for Counting<'_> {
        fn advance(&mut self) -> Result<bool> {
            let number = self.yielded.fetch_add(1, SeqCst);
            if number < self.count {
                self.value = vec![number.to_le_bytes()[0]; self.size];
                return Ok(true);
            }
            if self.error { Err(Error::damaged("expected an entry, found none")) } else { Ok(false) }
        }

        fn entry(&self) -> Entry<'_> {
            let version = self.yielded.load(SeqCst) as u64;
            Entry { key: b"key", version, value: &self.value, meta: 4, user_meta: 5, expires_at: 6 }
        }
    }

    #[test]
    fn all_entries_come_in_their_order_with_all_they_have() {
        for (count, size) in [(0, 0), (1, 0), (3 * ENTRIES + 1, 0), (5000, 1000), (7, BATCH), (9, 3 * BATCH)]
        {
            let yielded = AtomicUsize::new(0);
            let mut taken = 0_usize;
            each(&mut Counting::new(count, size, &yielded), |entry| {
                let value = vec![taken.to_le_bytes()[0]; size];
                taken += 1;
                let version = taken as u64;
                let expected =
                    Entry { key: b"key", version, value: &value, meta: 4, user_meta: 5, expires_at: 6 };
                assert!(*entry == expected);
                Ok(())
            })
            .unwrap();
            assert_eq!(taken, count);
        }
    }

    #[test]
    fn large_entries_are_not_piled_up() {
        let yielded = AtomicUsize::new(0);
        let mut taken = 0;
        each(&mut Counting::new(12, 3 * BATCH, &yielded), |_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            taken += 1;
            assert!(yielded.load(SeqCst) <= taken, "{} read, {taken} taken", yielded.load(SeqCst));
            Ok(())
        })
        .unwrap();
        let yielded = AtomicUsize::new(0);
        let mut taken = 0;
        each(&mut Counting::new(40, BATCH, &yielded), |_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            taken += 1;
            assert!(yielded.load(SeqCst) <= taken + BATCHES);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn what_was_read_before_an_error_is_taken() {
        let yielded = AtomicUsize::new(0);
        let mut source = Counting { error: true, ..Counting::new(10_000, 10, &yielded) };
        let mut taken = 0;
        let error = each(&mut source, |_| {
            taken += 1;
            Ok(())
        });
        assert_eq!((error.unwrap_err().code(), taken), ("damaged", 10_000));
    }

    #[test]
    fn who_takes_may_give_up() {
        let yielded = AtomicUsize::new(0);
        let mut taken = 0;
        let error = each(&mut Counting::new(usize::MAX, 1000, &yielded), |_| {
            taken += 1;
            if taken == 7000 { Err(Error::cancelled()) } else { Ok(()) }
        });
        assert_eq!((error.unwrap_err().code(), taken), ("cancelled", 7000));
    }
}
