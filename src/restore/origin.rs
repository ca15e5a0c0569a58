//! What a restore reads: segments of one chain, or a datastore.

use super::Options;
use crate::base::progress::Progress;
use crate::entry::{Datastore, Need};
use crate::error::{Error, Result};
use crate::flow::chain::Chain;
use crate::flow::datastore::{self, Engine, ReadOptions};
use crate::repo::manifest::Deletes;
use crate::store::{About, Store};
use std::path::{Path, PathBuf};

/// Where the entries come from.
pub(super) enum Origin {
    Chain(Box<Chain>),
    Kept(Kept),
}

/// A datastore that was opened.
pub(super) struct Kept {
    pub(super) datastore: Box<dyn Datastore>,
    pub(super) path: PathBuf,
    /// What a store says of itself.
    pub(super) about: Option<About>,
}

/// What can be said before anything is read.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// What is read: the segments or the datastore.
    pub(super) paths: Vec<PathBuf>,
    /// Up to which block each of the segments is whole, where its manifest says so.
    pub(super) ends: Vec<Option<u64>>,
    /// About how many bytes there are to read.
    pub(super) bytes: u64,
    /// As far as it is known.
    pub(super) entries: u64,
    pub(super) last_version: u64,
    pub(super) complete_version: u64,
    /// Entries above it do not count.
    pub(super) shown: u64,
    pub(super) deletes: Deletes,
    pub(super) tip_height: u64,
    pub(super) complete_height: u64,
}

impl Origin {
    /// Opens what the paths name.
    pub(super) fn open(options: &Options) -> Result<Self> {
        let folder = options.paths.iter().find(|path| path.is_dir());
        match (folder, options.paths.as_slice()) {
            (_, []) => {
                Err(Error::invalid("expected segments of a chain or a datastore to restore, found nothing"))
            }
            (Some(path), [_]) => Kept::open(path, &options.reading).map(Self::Kept),
            (Some(path), _) => Err(Error::invalid(
                "expected segments of one chain, or one datastore, found a directory among others",
            )
            .at_path(path)
            .with_hint("name the segments, or the datastore alone")),
            (None, paths) => {
                let chain = Chain::open(paths, None)?;
                chain.refuse()?;
                Ok(Self::Chain(Box::new(chain)))
            }
        }
    }

    pub(super) fn facts(&self, progress: &Progress) -> Result<Facts> {
        match self {
            Self::Chain(chain) => Ok(Facts::of_chain(chain)),
            Self::Kept(kept) => kept.facts(progress),
        }
    }
}

impl Facts {
    /// What the manifests say, and the bytes as far as they were read.
    pub(super) fn of_chain(chain: &Chain) -> Self {
        let newest = chain.newest();
        let manifests = chain.segments().iter().filter_map(|segment| segment.manifest());
        let complete_version = chain.complete_version().unwrap_or_else(|| chain.last_version());
        Self {
            paths: chain.segments().iter().map(|segment| segment.path().to_owned()).collect(),
            ends: chain.segments().iter().map(|one| Some(one.manifest()?.complete_height)).collect(),
            bytes: chain.bytes(),
            entries: manifests.map(|manifest| manifest.entries).sum(),
            last_version: chain.last_version(),
            complete_version,
            shown: complete_version,
            deletes: chain.deletes(),
            tip_height: newest.map_or(0, |manifest| manifest.tip_height),
            complete_height: newest.map_or(0, |manifest| manifest.complete_height),
        }
    }

    /// Says of what is wrong with a block in which file it is: without a height, or where nothing says where that is, in the last one.
    pub(super) fn place(&self, error: Error, height: Option<u64>) -> Error {
        let holds = |end: &Option<u64>| height.is_some_and(|height| end.is_some_and(|end| height <= end));
        let file = self.ends.iter().position(holds).unwrap_or(self.paths.len().saturating_sub(1));
        match self.paths.get(file) {
            Some(path) => error.at_path(path),
            None => error,
        }
    }
}

impl Kept {
    fn open(path: &Path, reading: &ReadOptions) -> Result<Self> {
        let (datastore, about): (Box<dyn Datastore>, _) = match datastore::expect(path)? {
            Engine::RocksDb => {
                let store = Store::open(path)?;
                let about = store.about().clone();
                (Box::new(store), Some(about))
            }
            Engine::Badger => (datastore::open(path, reading)?, None),
        };
        Ok(Self { datastore, path: path.to_owned(), about })
    }

    /// Looks without copying anything.
    fn facts(&self, progress: &Progress) -> Result<Facts> {
        let snapshot = self.datastore.snapshot_for(&Need::keys(Vec::new()), progress)?;
        let (complete_version, tip_height) = (snapshot.pinned_version(), snapshot.tip()?);
        Ok(Facts {
            paths: vec![self.path.clone()],
            ends: Vec::new(),
            bytes: snapshot.estimate(0)?,
            entries: self.about.as_ref().map_or(0, |about| about.entries),
            last_version: self.about.as_ref().map_or(complete_version, |about| about.last_version),
            complete_version,
            shown: complete_version,
            deletes: Deletes::from_name(snapshot.deletes()).unwrap_or(Deletes::Unknown),
            tip_height,
            complete_height: tip_height,
        })
    }
}
