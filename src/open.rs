//! A datastore opened for reading: keys and prefixes at any version, a page at a time.

use crate::base::progress::Progress;
use crate::entry::{Datastore, OwnedEntry, Source as _};
use crate::error::Result;
use crate::flow::{datastore, work};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes of entries in one page, unless a single entry has more.
const PAGE: usize = 4 << 20;

/// An open datastore. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub struct Opened {
    datastore: Arc<dyn Datastore>,
    path: PathBuf,
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
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// let store = evbackup::open::open("/var/lib/evbackup/store".into()).await?;
/// let tip = store.get(b"/0/t".to_vec(), None).await?;
/// println!("{:?}", tip.map(|entry| entry.value));
/// # Ok(()) }
/// ```
pub async fn open(path: PathBuf) -> Result<Opened> {
    work::blocking(Progress::new(), move |_| {
        let datastore = Arc::from(datastore::open(&path)?);
        Ok(Opened { datastore, path })
    })
    .await
}

impl Opened {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest entry of `key` that is not above `at`; `None` when there is none or it is a delete.
    pub async fn get(&self, key: Vec<u8>, at: Option<u64>) -> Result<Option<OwnedEntry>> {
        let datastore = Arc::clone(&self.datastore);
        work::blocking(Progress::new(), move |_| {
            let snapshot = datastore.snapshot()?;
            let Some(at) = at else {
                return Ok(snapshot.get(&key)?.filter(|entry| !entry.as_entry().is_delete()));
            };
            let mut source = snapshot.prefix(&key, &key)?;
            while source.advance()? && source.entry().key == key {
                if source.entry().version <= at {
                    return Ok((!source.entry().is_delete()).then(|| source.entry().to_owned()));
                }
            }
            Ok(None)
        })
        .await
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
        let datastore = Arc::clone(&self.datastore);
        work::blocking(Progress::new(), move |progress| {
            let snapshot = datastore.snapshot()?;
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
        })
        .await
    }
}
