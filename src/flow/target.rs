//! Where a datastore may be made, and what may be replaced there.

use super::datastore::Engine;
use crate::base::durable::DirLock;
use crate::error::{Error, Result};
use crate::repo::manifest::Manifest;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The directory in which `dest` is or will be.
pub fn parent(dest: &Path) -> &Path {
    dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses a target that must not be replaced. The lock of the datastore that may be comes back, held.
pub fn check(dest: &Path, segments: &[PathBuf], engine: Engine, overwrite: bool) -> Result<Option<DirLock>> {
    if dest.as_os_str().is_empty() {
        return Err(Error::invalid("expected a directory to restore into, found an empty path"));
    }
    let meta = match std::fs::symlink_metadata(dest) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = parent(dest);
            std::fs::metadata(parent).map_err(|error| Error::from_io(error, "restore into it", parent))?;
            return Ok(None);
        }
        Err(error) => return Err(Error::from_io(error, "look at it", dest)),
    };
    if meta.is_symlink() {
        return Err(exists(dest, "expected a directory or nothing, found a symbolic link"));
    }
    if !meta.is_dir() {
        return Err(exists(dest, "expected a directory or nothing, found a file"));
    }
    let whole = std::fs::canonicalize(dest).map_err(|error| Error::from_io(error, "look at it", dest))?;
    if whole == Path::new("/") {
        return Err(exists(dest, "expected a datastore's directory, found the root of the file system"));
    }
    if is_mount_point(&whole)? {
        return Err(Error::exists("expected a datastore's directory, found a mount point")
            .at_path(dest)
            .with_hint("restore into a directory below it"));
    }
    if is_home(&whole) {
        return Err(exists(dest, "expected a datastore's directory, found a home directory"));
    }
    if segments
        .iter()
        .filter_map(|path| std::fs::canonicalize(path).ok())
        .any(|path| path.starts_with(&whole))
    {
        return Err(exists(dest, "expected a datastore's directory, found the one that the segments are in"));
    }
    let Some(found) = Engine::of(&whole) else {
        return Err(exists(dest, "expected nothing or a datastore, found a directory with something else"));
    };
    if !overwrite {
        return Err(Error::exists("expected nothing, found a datastore")
            .at_path(dest)
            .with_hint("say overwrite to replace it; it is kept beside the new one"));
    }
    if found != engine {
        let what = format!("expected a datastore of engine {}, found one of {}", engine.name(), found.name());
        return Err(Error::exists(what)
            .at_path(dest)
            .with_hint("whoever uses it could not open the new one: restore into another directory"));
    }
    DirLock::exclusive(dest).map(Some)
}

fn exists(dest: &Path, what: &'static str) -> Error {
    Error::exists(what).at_path(dest).with_hint("choose a directory that is not there yet")
}

fn is_mount_point(dest: &Path) -> Result<bool> {
    let look =
        |path: &Path| std::fs::metadata(path).map_err(|error| Error::from_io(error, "look at it", path));
    let above = dest.parent().unwrap_or(dest);
    let (here, above) = (look(dest)?, look(above)?);
    Ok(here.dev() != above.dev() || here.ino() == above.ino())
}

/// Any user's home, as far as the system says where they are.
fn is_home(dest: &Path) -> bool {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let homes = passwd.lines().filter_map(|line| line.split(':').nth(5)).map(PathBuf::from);
    let own = std::env::var_os("HOME").map(PathBuf::from);
    homes.chain(own).any(|home| home == dest && home != Path::new("/"))
}

/// The bytes of a digest in hex.
pub fn digest_bytes(hex: &str) -> Result<[u8; 32]> {
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Error::damaged(format!("expected a SHA-256 as 64 hex digits, found {hex}")))
}

/// The store id in a manifest, as bytes; empty when it has none.
pub fn store_id(manifest: Option<&Manifest>) -> Vec<u8> {
    let id = manifest.and_then(|manifest| manifest.store_id.as_deref()).unwrap_or_default();
    data_encoding::HEXLOWER.decode(id.as_bytes()).unwrap_or_default()
}
