//! Files without a name: room for what does not fit in memory, gone with the process however it ends.

use crate::error::{Error, Result};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A folder in which nameless files may be made.
#[derive(Clone, Debug)]
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Nameless files on the file system of `folder`, which exists.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        Self { folder: folder.as_ref().to_owned() }
    }

    /// The system's folder for temporary files (`TMPDIR`).
    pub fn system() -> Self {
        Self::new(std::env::temp_dir())
    }

    /// A new nameless file, open for reading and writing.
    pub fn file(&self) -> Result<File> {
        tempfile::tempfile_in(&self.folder)
            .map_err(|error| Error::from_io(error, "make a temporary file in it", &self.folder))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
