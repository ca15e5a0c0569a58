//! SHA-256 on a thread of its own: it is the slowest thing that happens to a byte, and the other core is there.

use crate::base::checksum::Sha256;
pub use crate::base::checksum::hex;
use crate::error::{Error, Result};
use crate::format::{FileInput, Input as _};
use bytes::Bytes;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How many chunks may wait: with chunks of at most 4 MiB this bounds what a slow core holds back.
const WAITING: usize = 8;
const READ: usize = 128 << 10;

enum Message {
    Bytes(Bytes),
    SoFar(SyncSender<String>),
}

/// Digests chunks in the order given.
pub struct Hasher {
    chunks: SyncSender<Message>,
    thread: JoinHandle<String>,
}

impl Hasher {
    /// Starts the thread.
    pub fn start() -> Self {
        let (chunks, waiting) = sync_channel(WAITING);
        Self { chunks, thread: std::thread::spawn(move || run(&waiting)) }
    }

    /// The next bytes.
    pub fn update(&self, bytes: Bytes) -> Result<()> {
        self.chunks.send(Message::Bytes(bytes)).map_err(|_| gone())
    }

    /// The digest of all bytes so far, as hex.
    pub fn so_far(&self) -> Result<String> {
        let (answer, wait) = sync_channel(1);
        self.chunks.send(Message::SoFar(answer)).map_err(|_| gone())?;
        wait.recv().map_err(|_| gone())
    }

    /// The digest of all bytes, as hex.
    pub fn finish(self) -> Result<String> {
        drop(self.chunks);
        self.thread.join().map_err(|_| gone())
    }
}

fn run(waiting: &Receiver<Message>) -> String {
    let mut hasher = Sha256::new();
    while let Ok(message) = waiting.recv() {
        match message {
            Message::Bytes(bytes) => hasher.update(&bytes),
            Message::SoFar(answer) => {
                // Whoever asked may have given up; the bytes still count.
                let _ = answer.send(hasher.hex());
            }
        }
    }
    hasher.hex()
}

fn gone() -> Error {
    Error::io("the digesting thread has ended")
}

/// The digest of what is left of `input`, as hex; `check` is asked between its steps whether to go on.
pub fn digest_file(mut input: FileInput, check: &dyn Fn() -> Result<()>) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; READ];
    loop {
        check()?;
        match input.read(&mut buffer)? {
            0 => return Ok(hasher.hex()),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_in_order_and_on_the_way() {
        let hasher = Hasher::start();
        hasher.update(Bytes::from_static(b"ab")).unwrap();
        assert_eq!(hasher.so_far().unwrap(), crate::base::checksum::sha256_hex(b"ab"));
        hasher.update(Bytes::from_static(b"c")).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hasher.finish().unwrap(), abc);
    }
}
