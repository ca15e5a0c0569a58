//! How a store is opened, and the settings RocksDB gets.

use super::about::{About, FORMAT};
use super::fault::fault;
use super::marker::Marker;
use crate::base::durable::{DirLock, remove_tree};
use crate::error::{Error, Result};
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, LogLevel, Options};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// Blocks and indexes that are kept in memory, for each open store, so that opening it again looks at the disk again.
/// Scans do not fill it.
const CACHE_BYTES: usize = 16 << 20;
/// Values are mostly larger than a page, and smaller blocks make the index larger than it is worth.
const BLOCK_BYTES: usize = 16 << 10;
/// One table file: the index of one, which is read whole, stays below 2 MiB.
pub(super) const TABLE_BYTES: u64 = 128 << 20;
/// Each open table costs some kilobytes outside the cache.
const MAX_OPEN_TABLES: i32 = 256;
/// What the memtable may hold; only dropping old versions writes through it.
const WRITE_BUFFER_BYTES: usize = 8 << 20;
/// What compaction reads ahead in each table it merges, of which there may be some forty.
const COMPACTION_READAHEAD: usize = 512 << 10;
/// Where increments are built, inside the store so that their files can be moved in by a link.
pub(super) const WORK_DIR: &str = "increment.part";
/// A writer that starts replaces RocksDB's MANIFEST; a reader that meets it then looks again.
const OPEN_TRIES: u32 = 10;

/// Our embedded datastore: entries with all their versions, in RocksDB.
///
/// ```
/// use evbackup::base::progress::Progress;
/// use evbackup::entry::{Datastore, Entry, Sink, Snapshot};
/// use evbackup::store::{LoadOptions, Loader, NewAbout, Store};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("store");
/// let mut loader = Loader::create(&path, LoadOptions::default())?;
/// loader.put(Entry { key: b"/0/t", version: 7, value: &3_u64.to_le_bytes(), ..Entry::default() })?;
/// loader.finish_with(NewAbout { pinned_version: 7, ..NewAbout::default() })?;
///
/// let store = Store::open(&path)?;
/// let snapshot = store.snapshot()?;
/// assert_eq!((snapshot.pinned_version(), snapshot.tip()?), (7, 3));
/// # Ok::<(), evbackup::error::Error>(())
/// ```
pub struct Store {
    pub(super) db: DB,
    pub(super) path: PathBuf,
    pub(super) about: About,
    pub(super) access: Access,
    /// Held shared while the store is open, so that nobody rewrites or replaces its files.
    pub(super) lock: Option<DirLock>,
}

/// What the holder of a store may do with it.
#[derive(Debug)]
pub(super) enum Access {
    /// Read.
    Read,
    /// Read and write; RocksDB holds its own lock.
    Write,
}

impl Store {
    /// The name of the file that tells a store from other directories, and is written anew with each change of it.
    pub const MARK: &str = super::marker::NAME;

    /// Is there a store? Told by its files; nothing is opened or changed.
    pub fn is_store(path: &Path) -> bool {
        Marker::is_in(path)
    }

    /// Opens a store for reading. Nothing in its directory is changed; any number of readers may be there at once.
    ///
    /// An increment that is applied meanwhile is not seen by a store that is open already.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Marker::load(path)?;
        let lock = DirLock::shared(path)?;
        Self::read(path, Some(lock))
    }

    /// Opens a store for reading by whoever holds the lock of its directory already, as the run that has just built it.
    pub fn open_held(path: impl AsRef<Path>) -> Result<Self> {
        Self::read(path.as_ref(), None)
    }

    fn read(path: &Path, lock: Option<DirLock>) -> Result<Self> {
        let mut tries = 0;
        let (db, about) = loop {
            tries += 1;
            let marker = Marker::load(path)?;
            match DB::open_for_read_only(&options(), path, false).map_err(|error| fault(error, path)) {
                Ok(db) => break load_about(&db, path, marker).map(|about| (db, about))?,
                Err(error) if tries < OPEN_TRIES && is_replaced_manifest(&error) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Self { db, path: path.to_owned(), about, access: Access::Read, lock })
    }

    /// Opens a store for [`Increment`](super::Increment) and [`compact`](Self::compact); one writer at a time. Clears what
    /// a killed writer left.
    pub fn open_for_writing(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let marker = Marker::load(path)?;
        let lock = Some(DirLock::shared(path)?);
        let db = DB::open(&options(), path).map_err(|error| fault(error, path))?;
        let about = load_about(&db, path, marker)?;
        remove_tree(&path.join(WORK_DIR))?;
        Marker::clear_leftover(path)?;
        Ok(Self { db, path: path.to_owned(), about, access: Access::Write, lock })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// How many bytes its tables have on the disk.
    pub fn disk_bytes(&self) -> u64 {
        self.db.get_column_family_metadata().size
    }

    /// Fails for a store that was opened for reading.
    pub(super) fn check_writable(&self) -> Result<()> {
        match self.access {
            Access::Write => Ok(()),
            Access::Read => {
                let what = "expected a store opened for writing, found one opened for reading";
                Err(Error::invalid(what).at_path(&self.path))
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).field("about", &self.about).finish_non_exhaustive()
    }
}

/// Did a writer replace RocksDB's MANIFEST between our looks at CURRENT and at it?
fn is_replaced_manifest(error: &Error) -> bool {
    let Some(path) = error.path() else { return false };
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("MANIFEST-")) && !path.exists()
}

fn load_about(db: &DB, path: &Path, marker: Marker) -> Result<About> {
    let about = About::load(db, path)?;
    if about.generation < marker.generation {
        let (expected, found) = (marker.generation, about.generation);
        let what = format!("expected a store of generation {expected}, found generation {found}");
        let hint = "its last change is gone: restore it from its segments";
        return Err(Error::damaged(what).at_path(path).with_hint(hint));
    }
    Ok(about)
}

/// Puts the marker of `about` into its store.
pub(super) fn mark(path: &Path, about: &About) -> Result<()> {
    Marker { format: FORMAT, generation: about.generation }.store(path)
}

/// RocksDB's settings, for everything we do.
pub(super) fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(BLOCK_BYTES);
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    table.set_cache_index_and_filter_blocks(true);

    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_max_open_files(MAX_OPEN_TABLES);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_target_file_size_base(TABLE_BYTES);
    options.set_compaction_readahead_size(COMPACTION_READAHEAD);
    // Nothing is rewritten behind the back of a reader; see compact.rs.
    options.set_disable_auto_compactions(true);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options
}

/// The same settings for table writers, which borrow theirs for as long as they live.
pub(super) fn table_options() -> &'static Options {
    static OPTIONS: OnceLock<Options> = OnceLock::new();
    OPTIONS.get_or_init(options)
}
