//! A datastore that stays open from one request to the next.
//!
//! What is expensive to open is kept: a store's tables, the indexes of a Badger directory. Before each request two or three files are looked
//! at, and if they are others, because a segment was applied or the datastore was replaced, it is opened again; whoever still reads the old
//! one finishes with that.
//!
//! An open store keeps others from rewriting or replacing it, so one that nobody asks for is let go after a while
//! ([`rest`](Held::rest)).

use super::{Values, read};
use crate::base::files::Identity;
use crate::base::progress::Progress;
use crate::entry::Datastore;
use crate::error::Result;
use crate::flow::datastore::{self, Engine, ReadOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An open datastore, or one that will be opened when somebody asks.
pub struct Held {
    path: PathBuf,
    reading: ReadOptions,
    open: Mutex<Option<Open>>,
}

struct Open {
    datastore: Arc<dyn Datastore>,
    stamp: Stamp,
    used: Instant,
}

/// Which datastore it is, in which state.
#[derive(Debug, Eq, PartialEq)]
struct Stamp {
    /// The directory itself; files come and go in it.
    folder: Option<(u64, u64)>,
    /// What is written with each change of a store, and once for a Badger directory, which knows by itself what changes in it.
    mark: Option<Identity>,
}

impl Stamp {
    fn of(path: &Path) -> Result<Self> {
        let mark = match Engine::of(path) {
            Some(engine) => Identity::at(&path.join(engine.mark()))?,
            None => None,
        };
        Ok(Self { folder: Identity::at(path)?.map(|about| about.inode), mark })
    }
}

impl Held {
    /// Opens the datastore at `path`.
    pub fn open(path: &Path, reading: &ReadOptions) -> Result<Self> {
        let this = Self { path: path.to_owned(), reading: reading.clone(), open: Mutex::new(None) };
        this.datastore()?;
        Ok(this)
    }

    /// The datastore in its present state. It stays as it is for who has it.
    pub fn datastore(&self) -> Result<Arc<dyn Datastore>> {
        let mut open = self.lock();
        // Looked at before it is opened: what changes in between is found the next time.
        let stamp = Stamp::of(&self.path)?;
        if let Some(open) = open.as_mut().filter(|open| open.stamp == stamp) {
            open.used = Instant::now();
            return Ok(Arc::clone(&open.datastore));
        }
        let datastore: Arc<dyn Datastore> = datastore::open(&self.path, &self.reading)?.into();
        *open = Some(Open { datastore: Arc::clone(&datastore), stamp, used: Instant::now() });
        Ok(datastore)
    }

    /// Lets go of it if nobody has asked for so long. A stopped node's directory stays locked, so that the node stays stopped.
    pub fn rest(&self, idle: Duration) {
        let mut open = self.lock();
        if !self.reading.offline && open.as_ref().is_some_and(|open| open.used.elapsed() >= idle) {
            *open = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Values for Held {
    fn values(&self, keys: &[Vec<u8>], enough: usize, progress: &Progress) -> Result<Vec<Option<Vec<u8>>>> {
        read(&*self.datastore()?, keys, enough, progress)
    }

    fn complete_height(&self) -> Option<u64> {
        None
    }

    fn begins_anywhere(&self) -> bool {
        false
    }
}

impl Values for Arc<Held> {
    fn values(&self, keys: &[Vec<u8>], enough: usize, progress: &Progress) -> Result<Vec<Option<Vec<u8>>>> {
        (**self).values(keys, enough, progress)
    }

    fn complete_height(&self) -> Option<u64> {
        (**self).complete_height()
    }

    fn begins_anywhere(&self) -> bool {
        (**self).begins_anywhere()
    }
}
