//! Where a directory that a node holds open can be read.
//!
//! A live reading rests on one page cache: what the node has written into its mappings is what we read. So the node runs on the same kernel,
//! and the file system keeps its pages there. Over a network, or through a program that serves files, each side has a cache of its own.
//!
//! An overlay (the file system of a container) hands reads and mappings of a file that somebody has opened for writing to the layer
//! below, whichever mount they come through, and Badger opens all it has for writing. So it is none of those.

use crate::base::files::file_system;
use crate::error::{Error, Result};
use std::path::Path;

/// Numbers from `linux/magic.h` and from the file systems' own sources.
const APART: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB 2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "kAFS"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x2030_528d, "OrangeFS"),
    (0x1983_0326, "BeeGFS"),
    (0x786f_4256, "VirtualBox's shared folders"),
    (0xbacb_acbc, "VMware's shared folders"),
];

/// Refuses a file system on which a running node cannot be read.
pub(super) fn check(dir: &Path) -> Result<()> {
    refuse(file_system(dir)?).map_err(|error| error.at_path(dir))
}

fn refuse(kind: u64) -> Result<()> {
    let Some((_, name)) = APART.iter().find(|(number, _)| *number == kind) else { return Ok(()) };
    let what =
        format!("expected a local file system, found {name}: what a running node writes may not be seen");
    Err(Error::unsupported(what).with_hint(
        "run evbackup where the node runs, stop the node and read the directory offline, or allow any file system",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_with_another_cache_are_refused_by_name() {
        for (number, name) in APART {
            let error = refuse(*number).unwrap_err();
            assert_eq!(error.code(), "unsupported");
            assert!(error.to_string().contains(name) && error.hint().is_some());
        }
        // ext4, XFS, btrfs, tmpfs, ZFS, overlay.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x2fc1_2fc1, 0x794c_7630] {
            refuse(local).unwrap();
        }
        check(tempfile::tempdir().unwrap().path()).unwrap();
    }
}
