//! Written bytes go to the disk while more are on their way. Left alone, the system keeps gigabytes in memory, and the sync at the end
//! has to wait for all of them.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

/// After so many bytes the disk gets something to do: many enough that a sync costs nothing beside them, few enough that little is left
/// for the end.
pub(super) const STRIDE: u64 = 32 << 20;

/// A thread that syncs a file whenever it is woken. Dropped, it ends by itself and nobody waits for it.
#[derive(Debug)]
pub(super) struct Writeback {
    wake: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Writeback {
    /// Starts it for the file behind this descriptor.
    pub(super) fn start(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let (wake, woken) = sync_channel(1);
        let thread = Builder::new().name("writeback".to_owned()).spawn(move || run(&file, &woken))?;
        Ok(Self { wake, thread })
    }

    /// Lets what was written so far go to the disk. A sync that is asked for already will do; a thread that has failed says so at the end.
    pub(super) fn wake(&self) {
        let _ = self.wake.try_send(());
    }

    /// Waits for the thread. An error was the system's only word on lost bytes: a later sync of the file would not repeat it.
    pub(super) fn end(self) -> io::Result<()> {
        drop(self.wake);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the syncing thread has died")))
    }
}

fn run(file: &File, woken: &Receiver<()>) -> io::Result<()> {
    while woken.recv().is_ok() {
        file.sync_data()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_is_told_at_the_end() {
        let (reader, _writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(reader));
        let writeback = Writeback::start(&pipe).unwrap();
        // A pipe cannot be synced.
        writeback.wake();
        assert_eq!(writeback.end().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn waking_again_and_again_is_fine() {
        let file = tempfile::tempfile().unwrap();
        let writeback = Writeback::start(&file).unwrap();
        (0..100).for_each(|_| writeback.wake());
        writeback.end().unwrap();
    }
}
