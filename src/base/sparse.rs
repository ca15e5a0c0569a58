//! Files with holes: a file may say that it is gigabytes long and hold a few bytes.

use crate::error::{Error, Result};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::path::Path;

/// The next bytes at or behind `offset` that are no hole, from where to where; `None` when only holes follow. A file system that keeps no
/// holes answers with all that follows. Moves the file's cursor, so `file` is one that is read by position; errors call it `path`.
pub fn next_data(file: &File, offset: u64, path: &Path) -> Result<Option<(u64, u64)>> {
    let failed = |errno: Errno| Error::from_io(errno.into(), "look for data in it", path);
    let start = match seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    match seek(file, SeekFrom::Hole(start)) {
        Ok(end) => Ok(Some((start, end)).filter(|(start, end)| start < end)),
        // It was cut in between.
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn every_byte_that_was_written_is_in_some_data() {
        let file = tempfile::tempfile().unwrap();
        let path = Path::new("f");
        assert_eq!(next_data(&file, 0, path).unwrap(), None);
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"x", 5).unwrap();
        file.write_all_at(b"y", 33 << 20).unwrap();
        let (mut at, mut found, mut data) = (0, Vec::new(), 0);
        while let Some((start, end)) = next_data(&file, at, path).unwrap() {
            let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
            file.read_exact_at(&mut bytes, start).unwrap();
            let places = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
            found.extend(places.map(|(place, byte)| (start + place as u64, *byte)));
            (at, data) = (end, data + end - start);
        }
        assert_eq!(found, [(5, b'x'), (33 << 20, b'y')]);
        assert!(data <= 64 << 20);
    }
}
