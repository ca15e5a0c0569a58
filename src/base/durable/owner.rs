//! Who owns what a restore builds: a node runs as its own user, and cannot open a datastore that root left behind.

use super::place::{Place, There, system};
use crate::error::{Error, Result};
use rustix::fs::AtFlags;
use rustix::process::{Gid, Uid};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A user and a group, by number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Owner {
    /// Who shall own what is built for `dest`: `wanted`, else the owner of what is there, else that of the parent.
    ///
    /// The parent's is a default, not a demand: an unprivileged run that restores into `/tmp` keeps what is its own.
    pub fn of_target(dest: &Path, wanted: Option<Owner>) -> Result<Self> {
        if let Some(wanted) = wanted {
            return Ok(wanted);
        }
        let look =
            |path: &Path| path.metadata().map_err(|error| Error::from_io(error, "look at its owner", path));
        let of = |about: &Metadata| Self { uid: about.uid(), gid: about.gid() };
        let place = Place::of(dest)?;
        if place.there()? != There::Nothing {
            return Ok(of(&look(place.path())?));
        }
        if rustix::process::geteuid().is_root() {
            let parent = place.path().parent().filter(|parent| !parent.as_os_str().is_empty());
            return Ok(of(&look(parent.unwrap_or(Path::new(".")))?));
        }
        Ok(Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() })
    }

    /// Gives one file or directory to this owner; a symbolic link itself, not what it names.
    pub(super) fn take(self, path: &Path) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::fs::chownat(rustix::fs::CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(
            |errno| {
                let error = system(errno, "give it to its owner", path);
                error.with_hint(format!(
                    "run as root, or as user {} of group {}, or say another owner",
                    self.uid, self.gid
                ))
            },
        )
    }
}
