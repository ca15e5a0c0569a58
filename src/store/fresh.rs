//! Directories that must be empty.

use crate::base::durable::private_dir;
use crate::error::{Error, Result};
use std::path::Path;

/// Makes a private directory, or takes one that is there and empty.
pub(super) fn fresh_dir(path: &Path) -> Result<()> {
    let mut names = match std::fs::read_dir(path) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return private_dir(path),
        Err(error) => return Err(Error::from_io(error, "look into the directory", path)),
    };
    if names.next().is_some() {
        return Err(Error::exists("expected an empty directory, found files in it").at_path(path));
    }
    Ok(())
}
