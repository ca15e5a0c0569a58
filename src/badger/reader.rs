//! A Badger directory as a datastore.

use super::blob::Blob;
use super::frozen::{Frozen, Listing, memory_tables, sizes};
use super::live::{Failure, Known, Look, Step, open_manifest};
use super::merge::{Rank, View};
use super::taking::{Taking, now};
use super::vlog::Vlogs;
use super::{names, place, registry};
use crate::base::durable::DirLock;
use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::entry::{Datastore, Need, Snapshot};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a directory is read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The node is stopped: Badger's lock is taken, so that it stays so, and nothing needs to be copied. Else a node may have the
    /// directory open, and no lock is touched.
    pub offline: bool,
    /// Where to copy what the node may take away; by default beside the directory, or among the system's temporary files if nothing
    /// can be made there.
    pub staging: Option<PathBuf>,
    /// Read a running node's directory even where the file system may not show what it writes.
    pub any_file_system: bool,
    /// Copy at most so many bytes per second, or read them where a copy shares them.
    pub max_rate: Option<u64>,
    /// Called before each step of a live reading, so that tests can let the node work there.
    #[doc(hidden)]
    pub pauses: Pauses,
}

/// See [`ReadOptions::pauses`].
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct Pauses(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Pauses {
    /// Calls `each` before each step.
    pub fn new(each: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(each)))
    }

    fn at(&self, step: Step) {
        if let Some(each) = &self.0 {
            each(step);
        }
    }
}

impl fmt::Debug for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Pauses" } else { "No pauses" })
    }
}

/// A Badger directory that is read, whether a node holds it open or not.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    options: ReadOptions,
    /// Of a directory without a `KEYREGISTRY`: nothing.
    id: Vec<u8>,
    scratch: Scratch,
    known: Known,
    /// Badger's lock, when the node is stopped.
    _lock: Option<DirLock>,
}

impl Directory {
    /// Opens the directory at `path`. What is encrypted, of another version or on a file system where a running node cannot be read is
    /// refused.
    pub fn open(path: &Path, options: ReadOptions) -> Result<Self> {
        let lock = if options.offline {
            Some(DirLock::shared(path)?)
        } else {
            if !options.any_file_system {
                place::check(path)?;
            }
            None
        };
        open_manifest(path)?;
        let id = registry::id_of(path)?.map_or_else(Vec::new, |id| id.to_vec());
        let scratch = scratch(path, options.staging.as_deref())?;
        Ok(Self { path: path.to_owned(), options, id, scratch, known: Known::default(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One state of a directory that no node writes to.
    fn at_rest(&self, need: &Need, progress: &Progress) -> Result<Frozen> {
        let look = Look {
            dir: &self.path,
            live: false,
            known: &self.known,
            scratch: &self.scratch,
            progress,
            wanted: &|_, _| true,
            pause: &|_| {},
        };
        let state = look.state().map_err(|failure| match failure {
            Failure::Error(error) => error,
            Failure::Gone(what, _) => {
                Error::io(format!("expected a directory that nobody writes to, found that {what}"))
                    .at_path(&self.path)
            }
        })?;
        let mut tables: Vec<_> = state
            .tables
            .iter()
            .map(|listed| (Rank::table(listed.info.level, listed.id), listed.table.clone()))
            .collect();
        tables.extend(memory_tables(&state));
        let mut logs = BTreeMap::new();
        for (fid, about) in look.value_logs()? {
            logs.insert(fid, Blob::named_log(&names::value_log(&self.path, fid), about));
        }
        Ok(Frozen {
            view: View::new(tables, Vlogs::new(&self.path, logs), now()).remembering(self.known.recent()),
            version: state.version,
            since: 0,
            answers: None,
            listed: need.listed.map_or(Listing::No, Listing::Later),
            sizes: sizes(&state),
        })
    }
}

impl Datastore for Directory {
    fn id(&self) -> &[u8] {
        &self.id
    }

    fn reuses_versions(&self) -> bool {
        true
    }

    fn snapshot_for(&self, need: &Need, progress: &Progress) -> Result<Box<dyn Snapshot + '_>> {
        if self.options.offline {
            return Ok(Box::new(self.at_rest(need, progress)?));
        }
        let taking = Taking {
            dir: &self.path,
            id: &self.id,
            known: &self.known,
            scratch: &self.scratch,
            max_rate: self.options.max_rate,
            need,
            progress,
            pause: &|step| self.options.pauses.at(step),
        };
        Ok(Box::new(taking.run()?))
    }
}

/// Where files without a name are made: in `staging`, else beside the directory, else among the system's temporary files.
fn scratch(dir: &Path, staging: Option<&Path>) -> Result<Scratch> {
    let own = dir.canonicalize().map_err(|error| Error::from_io(error, "find it", dir))?;
    if let Some(staging) = staging {
        let real =
            staging.canonicalize().map_err(|error| Error::from_io(error, "use it for copies", staging))?;
        if real.starts_with(&own) {
            let what = "expected a staging folder outside the database's directory, found one in it";
            return Err(Error::invalid(what).at_path(staging));
        }
        let scratch = Scratch::new(staging);
        scratch.file()?;
        return Ok(scratch);
    }
    let beside = own.parent().map(Scratch::new).filter(|scratch| scratch.file().is_ok());
    Ok(beside.unwrap_or_else(Scratch::system))
}
