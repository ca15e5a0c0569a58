//! STAND-IN until the reader lands.
use crate::base::progress::Progress;
use crate::entry::{Datastore, Need, Snapshot};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// How a directory is read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// x
    pub offline: bool,
    /// x
    pub staging: Option<PathBuf>,
    /// x
    pub any_file_system: bool,
    /// x
    pub max_rate: Option<u64>,
}
/// x
#[derive(Debug)]
pub struct Directory;
impl Directory {
    /// x
    pub fn open(_: &Path, _: ReadOptions) -> Result<Self> {
        Err(Error::unsupported("not yet"))
    }
}
impl Datastore for Directory {
    fn id(&self) -> &[u8] {
        &[]
    }
    fn snapshot_for(&self, _: &Need, _: &Progress) -> Result<Box<dyn Snapshot + '_>> {
        Err(Error::unsupported("not yet"))
    }
}
