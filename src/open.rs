//! A datastore, or segments, opened for reading: blocks, states and metadata; keys and prefixes at any version, a page at a time.

use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Datastore, Need, OwnedEntry, Snapshot, Source as _};
use crate::error::{Error, Result};
use crate::flow::datastore::{self, ReadOptions};
use crate::flow::node::segments::Segments;
use crate::flow::node::{self, Node, Values};
pub use crate::flow::table::{Batch, Name as Table, Reading};
use crate::flow::work;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Most bytes of entries in one page, unless a single entry has more.
const PAGE: usize = 4 << 20;
/// How often a caller that waits for rows is asked whether it still wants them.
const HEARD: Duration = Duration::from_millis(100);

/// An open datastore, or open segments. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub struct Opened {
    holder: Holder,
    node: Arc<Node>,
    path: PathBuf,
    reading: ReadOptions,
}

/// Who answers.
#[derive(Clone)]
enum Holder {
    /// A store stands still while it is open.
    Store(Arc<dyn Datastore>),
    /// A directory is read at one state, which a thread holds.
    Directory(Arc<Asked>, PathBuf),
    /// Segments do not change.
    Segments(Arc<Segments>),
}

/// The thread that holds a directory, and the way to ask it. When nobody can ask any more the directory is let go before we go on: whoever
/// closes it may restore into it at once.
struct Asked {
    sender: Option<mpsc::Sender<Question>>,
    thread: Option<JoinHandle<()>>,
    process: u32,
}

impl Asked {
    fn new(datastore: Box<dyn Datastore>) -> std::io::Result<Self> {
        let (sender, questions) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("evbackup-open".into())
            .spawn(move || answer(&*datastore, &questions))?;
        Ok(Self { sender: Some(sender), thread: Some(thread), process: std::process::id() })
    }

    fn send(&self, question: Question, path: &Path) -> Result<()> {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(question).is_ok());
        if sent { Ok(()) } else { Err(died(path)) }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.sender.take();
        match self.thread.take() {
            Some(thread) if self.process == std::process::id() => drop(thread.join()),
            // A forked child has a copy of the handle, and not the thread.
            inherited => std::mem::forget(inherited),
        }
    }
}

/// A stretch of entries, and whether more follow.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// The newest live version of each key, in key order.
    pub entries: Vec<OwnedEntry>,
    /// The key to go on after; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// Opens the datastore at `path`: it changes nothing there, and may run beside other readers.
///
/// A Badger directory is read as a node has left it so far: single keys as they are now, until the first page is read. From then on
/// everything is of the state that this page is of.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// let store = evbackup::open::open("/var/lib/evbackup/store".into(), Default::default()).await?;
/// let tip = store.get(b"/0/t".to_vec(), None).await?;
/// println!("{:?}", tip.map(|entry| entry.value));
/// # Ok(()) }
/// ```
pub async fn open(path: PathBuf, reading: ReadOptions) -> Result<Opened> {
    work::blocking(Progress::new(), move |_| {
        let datastore = datastore::open(&path, &reading)?;
        let holder = if datastore.reuses_versions() {
            let asked = Asked::new(datastore)
                .map_err(|error| Error::from_io(error, "start a thread for it", &path))?;
            Holder::Directory(Arc::new(asked), path.clone())
        } else {
            Holder::Store(Arc::from(datastore))
        };
        Ok(Opened::new(holder, path, reading))
    })
    .await
}

/// Opens a segment, or the segments of a chain in any order: their blocks can be read without restoring them.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// # use evbackup::base::progress::Progress;
/// let opened = evbackup::open::segments(vec!["full.badger".into(), "inc1.badger".into()]).await?;
/// let block = opened.ask_node(|node, progress| node.block(7, progress), Progress::new()).await?;
/// println!("{:?}", block.hash()?);
/// # Ok(()) }
/// ```
pub async fn segments(paths: Vec<PathBuf>) -> Result<Opened> {
    work::blocking(Progress::new(), move |progress| {
        let holder = Holder::Segments(Arc::new(Segments::open(&paths, progress)?));
        let path = paths.into_iter().next().unwrap_or_default();
        Ok(Opened::new(holder, path, ReadOptions::default()))
    })
    .await
}

impl Opened {
    fn new(holder: Holder, path: PathBuf, reading: ReadOptions) -> Self {
        let scratch = reading.staging.as_ref().map_or_else(Scratch::system, Scratch::new);
        Self { node: Arc::new(Node::new(holder.clone(), scratch)), holder, path, reading }
    }

    /// Its directory, or the first segment.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is read.
    pub fn reading(&self) -> &ReadOptions {
        &self.reading
    }

    /// Asks for what a node knows: blocks, states, metadata.
    pub async fn ask_node<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Node, &Progress) -> Result<T> + Send + 'static,
        progress: Progress,
    ) -> Result<T> {
        let node = Arc::clone(&self.node);
        work::blocking(progress, move |progress| question(&node, progress)).await
    }

    /// The newest entry of `key` that is not above `at`; `None` when there is none or it is a delete.
    pub async fn get(&self, key: Vec<u8>, at: Option<u64>) -> Result<Option<OwnedEntry>> {
        match &self.holder {
            Holder::Store(datastore) => {
                let datastore = Arc::clone(datastore);
                work::blocking(Progress::new(), move |_| find(&*datastore.snapshot()?, &key, at)).await
            }
            Holder::Directory(asked, _) => {
                self.ask(asked, |reply, progress| Question::Get { key, at, reply, progress }).await
            }
            Holder::Segments(segments) => {
                if at.is_some() {
                    return Err(no_such("the newest entry of a key", "one at a version", &self.path));
                }
                let segments = Arc::clone(segments);
                let newest = work::blocking(Progress::new(), move |_| segments.newest(&key)).await?;
                Ok(newest.filter(|entry| !entry.as_entry().is_delete()))
            }
        }
    }

    /// The newest live entries, at version `at`, of the keys that begin with `prefix` and come after `after`: at most `limit` of
    /// them and about 4 MiB.
    pub async fn page(
        &self,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        at: Option<u64>,
        limit: usize,
    ) -> Result<Page> {
        let place = Place { prefix, after, at, limit };
        match &self.holder {
            Holder::Store(datastore) => {
                let datastore = Arc::clone(datastore);
                work::blocking(Progress::new(), move |progress| {
                    turn(&*datastore.snapshot()?, place, progress)
                })
                .await
            }
            Holder::Directory(asked, _) => {
                self.ask(asked, |reply, progress| Question::Page { place, reply, progress }).await
            }
            Holder::Segments(_) => Err(no_such("single keys and blocks", "a prefix", &self.path)),
        }
    }

    /// Reads on in a table: `None` at its end. For callers that are no futures; `heard` is asked ten times a second whether the caller
    /// still wants it. Segments have blocks only.
    pub fn read_table(
        &self,
        mut reading: Reading,
        heard: &dyn Fn() -> Result<()>,
    ) -> Result<Option<(Reading, Batch)>> {
        heard()?;
        let progress = Progress::new();
        let guard = progress.cancel_on_drop();
        let (reply, answer) = mpsc::sync_channel(1);
        if reading.is_of_blocks() {
            let (node, holder) = (Arc::clone(&self.node), self.holder.clone());
            self.spawn(move || {
                let there = node.heights(&progress);
                let next = there.and_then(|there| reading.next_blocks(there, &holder, &progress));
                // Who gets the last rows may close what they are of, and find it let go.
                drop((node, holder));
                // Whoever was interrupted has gone.
                let _ = reply.send(next.map(|batch| batch.map(|batch| (reading, batch))));
            })?;
        } else {
            let read = move |state: Result<&dyn Snapshot>, progress: &Progress| {
                let next = state.and_then(|state| reading.next(state, progress));
                let _ = reply.send(next.map(|batch| batch.map(|batch| (reading, batch))));
            };
            self.look(progress, Box::new(read))?;
        }
        let read = loop {
            match answer.recv_timeout(HEARD) {
                Ok(read) => break read,
                Err(mpsc::RecvTimeoutError::Timeout) => heard()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => break Err(died(&self.path)),
            }
        };
        guard.disarm();
        read
    }

    /// Lets somebody look at the whole state, on a thread that may be waited for.
    fn look(&self, progress: Progress, look: Look) -> Result<()> {
        match &self.holder {
            Holder::Store(datastore) => {
                let datastore = Arc::clone(datastore);
                self.spawn(move || match datastore.snapshot() {
                    Ok(state) => look(Ok(&*state), &progress),
                    Err(error) => look(Err(error), &progress),
                })
            }
            Holder::Directory(asked, _) => asked.send(Question::Look { look, progress }, &self.path),
            Holder::Segments(_) => Err(no_such("single keys and blocks", "every key", &self.path)),
        }
    }

    fn spawn(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name("evbackup-table".into()).spawn(work);
        thread.map(drop).map_err(|error| Error::from_io(error, "start a thread for it", &self.path))
    }

    async fn ask<T>(
        &self,
        asked: &Asked,
        question: impl FnOnce(oneshot::Sender<Result<T>>, Progress) -> Question,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let progress = Progress::new();
        let guard = progress.cancel_on_drop();
        asked.send(question(reply, progress), &self.path)?;
        let answer = answer.await;
        guard.disarm();
        answer.unwrap_or_else(|_| Err(died(&self.path)))
    }
}

fn died(path: &Path) -> Error {
    Error::io("the thread that reads it has died").at_path(path)
}

fn no_such(expected: &str, found: &str, path: &Path) -> Error {
    Error::unsupported(format!("expected a question to a segment for {expected}, found one for {found}"))
        .at_path(path)
        .with_hint("restore it with engine=\"rocksdb\", and open the store")
}

impl Values for Holder {
    /// Called on threads that may block.
    fn values(&self, keys: &[Vec<u8>], enough: usize, progress: &Progress) -> Result<Vec<Option<Vec<u8>>>> {
        match self {
            Holder::Store(datastore) => node::read(&**datastore, keys, enough, progress),
            Holder::Segments(segments) => segments.values(keys, enough, progress),
            Holder::Directory(asked, path) => {
                let (reply, answer) = oneshot::channel();
                let question =
                    Question::Values { keys: keys.to_vec(), enough, reply, progress: progress.clone() };
                asked.send(question, path)?;
                answer.blocking_recv().unwrap_or_else(|_| Err(died(path)))
            }
        }
    }

    fn complete_height(&self) -> Option<u64> {
        match self {
            Holder::Segments(segments) => segments.complete_height(),
            Holder::Store(_) | Holder::Directory(..) => None,
        }
    }

    fn begins_anywhere(&self) -> bool {
        match self {
            Holder::Segments(segments) => segments.begins_anywhere(),
            Holder::Store(_) | Holder::Directory(..) => false,
        }
    }
}

/// Where a page begins, and how long it may be.
struct Place {
    prefix: Vec<u8>,
    after: Option<Vec<u8>>,
    at: Option<u64>,
    limit: usize,
}

/// What the thread that holds a state is asked.
enum Question {
    Get {
        key: Vec<u8>,
        at: Option<u64>,
        reply: oneshot::Sender<Result<Option<OwnedEntry>>>,
        progress: Progress,
    },
    Page {
        place: Place,
        reply: oneshot::Sender<Result<Page>>,
        progress: Progress,
    },
    Values {
        keys: Vec<Vec<u8>>,
        enough: usize,
        reply: oneshot::Sender<Result<Vec<Option<Vec<u8>>>>>,
        progress: Progress,
    },
    Look {
        look: Look,
        progress: Progress,
    },
}

/// What is done with the whole state.
type Look = Box<dyn FnOnce(Result<&dyn Snapshot>, &Progress) + Send>;

/// Answers until nobody can ask any more. Whoever does not wait for an answer gets none.
fn answer(datastore: &dyn Datastore, questions: &mpsc::Receiver<Question>) {
    let mut whole: Option<Box<dyn Snapshot + '_>> = None;
    while let Ok(question) = questions.recv() {
        match question {
            Question::Get { key, at, reply, progress } => {
                let found = match (&whole, at) {
                    (None, None) => datastore
                        .snapshot_for(&Need::keys(vec![key.clone()]), &progress)
                        .and_then(|now| find(&*now, &key, None)),
                    _ => all(datastore, &mut whole, &progress).and_then(|state| find(state, &key, at)),
                };
                let _ = reply.send(found);
            }
            Question::Page { place, reply, progress } => {
                let page =
                    all(datastore, &mut whole, &progress).and_then(|state| turn(state, place, &progress));
                let _ = reply.send(page);
            }
            Question::Values { keys, enough, reply, progress } => {
                let values = match &whole {
                    Some(state) => node::pick(&**state, &keys, enough, &progress),
                    None => node::read(datastore, &keys, enough, &progress),
                };
                let _ = reply.send(values);
            }
            Question::Look { look, progress } => look(all(datastore, &mut whole, &progress), &progress),
        }
    }
}

/// The one state that can be asked everything.
fn all<'a, 'b>(
    datastore: &'a dyn Datastore,
    whole: &'b mut Option<Box<dyn Snapshot + 'a>>,
    progress: &Progress,
) -> Result<&'b dyn Snapshot> {
    let state = match whole.take() {
        Some(state) => state,
        None => datastore.snapshot_for(&Need::everything(), progress)?,
    };
    Ok(&**whole.insert(state))
}

fn find(snapshot: &dyn Snapshot, key: &[u8], at: Option<u64>) -> Result<Option<OwnedEntry>> {
    let Some(at) = at else {
        return Ok(snapshot.get(key)?.filter(|entry| !entry.as_entry().is_delete()));
    };
    let mut source = snapshot.prefix(key, key)?;
    while source.advance()? && source.entry().key == key {
        if source.entry().version <= at {
            return Ok((!source.entry().is_delete()).then(|| source.entry().to_owned()));
        }
    }
    Ok(None)
}

fn turn(snapshot: &dyn Snapshot, place: Place, progress: &Progress) -> Result<Page> {
    let Place { prefix, after, at, limit } = place;
    let at = at.unwrap_or(u64::MAX);
    let mut source = snapshot.prefix(&prefix, after.as_deref().unwrap_or_default())?;
    let (mut page, mut bytes) = (Page::default(), 0);
    let mut last = after;
    while source.advance()? {
        progress.check()?;
        let entry = source.entry();
        if entry.version > at || last.as_deref() == Some(entry.key) {
            continue;
        }
        if page.entries.len() >= limit || bytes >= PAGE {
            page.next = last;
            break;
        }
        last = Some(entry.key.to_vec());
        if !entry.is_delete() {
            bytes += entry.key.len() + entry.value.len();
            page.entries.push(entry.to_owned());
        }
    }
    Ok(page)
}
