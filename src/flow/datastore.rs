//! Which engine a directory belongs to, and how it is opened.

use crate::badger::Directory;
pub use crate::badger::ReadOptions;
use crate::entry::Datastore;
use crate::error::{Error, Result};
use crate::store::Store;
use std::io::Read;
use std::path::Path;

/// What keeps the entries in a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// Our embedded store.
    RocksDb,
    /// A Badger directory, as a node has it.
    Badger,
}

impl Engine {
    /// As in `engine=` and in results.
    pub fn name(self) -> &'static str {
        match self {
            Engine::RocksDb => "rocksdb",
            Engine::Badger => "badger",
        }
    }

    /// The engine of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        [Engine::RocksDb, Engine::Badger].into_iter().find(|engine| engine.name() == name).ok_or_else(|| {
            Error::invalid(format!("expected \"rocksdb\" or \"badger\" as the engine, found \"{name}\""))
        })
    }

    /// The file in a datastore's directory that is another one whenever the datastore is, or has been changed by us.
    pub fn mark(self) -> &'static str {
        match self {
            Engine::RocksDb => Store::MARK,
            Engine::Badger => "KEYREGISTRY",
        }
    }

    /// The engine whose files are in `path`; `None` when it is no datastore.
    pub fn of(path: &Path) -> Option<Self> {
        if Store::is_store(path) {
            Some(Engine::RocksDb)
        } else if is_badger(path) {
            Some(Engine::Badger)
        } else {
            None
        }
    }
}

/// A MANIFEST of Badger's, or whatever one beside a KEYREGISTRY: Badger makes that only when it first opens a directory.
fn is_badger(path: &Path) -> bool {
    let manifest = path.join("MANIFEST");
    let begins = |path: &Path| {
        let mut magic = [0; 4];
        std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
            && magic == *b"Bdgr"
    };
    manifest.is_file() && (path.join("KEYREGISTRY").is_file() || begins(&manifest))
}

/// Opens a datastore for reading; `options` say how, where it is a Badger directory.
pub fn open(path: &Path, options: &ReadOptions) -> Result<Box<dyn Datastore>> {
    match expect(path)? {
        Engine::RocksDb => Ok(Box::new(Store::open(path)?)),
        Engine::Badger => Ok(Box::new(Directory::open(path, options.clone())?)),
    }
}

/// The engine of a directory that must be a datastore.
pub fn expect(path: &Path) -> Result<Engine> {
    let meta = std::fs::metadata(path).map_err(|error| Error::from_io(error, "open it", path))?;
    if !meta.is_dir() {
        return Err(Error::invalid("expected a datastore's directory, found a file").at_path(path));
    }
    Engine::of(path).ok_or_else(|| {
        Error::invalid("expected a store or a Badger directory, found neither's files").at_path(path)
    })
}
