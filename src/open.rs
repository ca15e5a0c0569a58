//! A datastore opened for reading: keys and prefixes at any version, a page at a time.

use crate::base::progress::Progress;
use crate::entry::{Datastore, Need, OwnedEntry, Snapshot, Source as _};
use crate::error::{Error, Result};
use crate::flow::datastore::{self, ReadOptions};
use crate::flow::work;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Most bytes of entries in one page, unless a single entry has more.
const PAGE: usize = 4 << 20;

/// An open datastore. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub struct Opened {
    holder: Holder,
    path: PathBuf,
    reading: ReadOptions,
}

/// Who answers.
#[derive(Clone)]
enum Holder {
    /// A store stands still while it is open.
    Store(Arc<dyn Datastore>),
    /// A directory is read at one state, which a thread holds.
    Directory(std::sync::mpsc::Sender<Question>),
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
            let (sender, questions) = std::sync::mpsc::channel();
            std::thread::Builder::new()
                .name("evbackup-open".into())
                .spawn(move || answer(&*datastore, &questions))
                .map_err(|error| Error::from_io(error, "start a thread for it", &path))?;
            Holder::Directory(sender)
        } else {
            Holder::Store(Arc::from(datastore))
        };
        Ok(Opened { holder, path, reading })
    })
    .await
}

impl Opened {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is read.
    pub fn reading(&self) -> &ReadOptions {
        &self.reading
    }

    /// The newest entry of `key` that is not above `at`; `None` when there is none or it is a delete.
    pub async fn get(&self, key: Vec<u8>, at: Option<u64>) -> Result<Option<OwnedEntry>> {
        match &self.holder {
            Holder::Store(datastore) => {
                let datastore = Arc::clone(datastore);
                work::blocking(Progress::new(), move |_| find(&*datastore.snapshot()?, &key, at)).await
            }
            Holder::Directory(sender) => {
                self.ask(sender, |reply, progress| Question::Get { key, at, reply, progress }).await
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
            Holder::Directory(sender) => {
                self.ask(sender, |reply, progress| Question::Page { place, reply, progress }).await
            }
        }
    }

    async fn ask<T>(
        &self,
        sender: &std::sync::mpsc::Sender<Question>,
        question: impl FnOnce(oneshot::Sender<Result<T>>, Progress) -> Question,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let progress = Progress::new();
        let guard = progress.cancel_on_drop();
        let died = || Error::io("the thread that reads it has died").at_path(&self.path);
        sender.send(question(reply, progress)).map_err(|_| died())?;
        let answer = answer.await;
        guard.disarm();
        answer.unwrap_or_else(|_| Err(died()))
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
}

/// Answers until nobody can ask any more. Whoever does not wait for an answer gets none.
fn answer(datastore: &dyn Datastore, questions: &std::sync::mpsc::Receiver<Question>) {
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
