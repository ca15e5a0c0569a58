//! The small file that tells a store from any other directory, without opening RocksDB.
//!
//! `EVBACKUP-STORE` holds three lines of text:
//!
//! ```text
//! evbackup store
//! format 1
//! generation 12
//! ```
//!
//! It is written after the change it counts, so its generation is never above the store's own. If it is, the store has lost
//! a change that was durable: RocksDB takes a MANIFEST that was cut at a record for an older, sound state, and only
//! this file knows better.

use super::about::check_format;
use crate::base::durable::{Replace, remove_file, with_suffix, write_file};
use crate::error::{Error, Result};
use std::io::{self, Read};
use std::path::Path;

/// The name of the file in the store's directory.
pub(super) const NAME: &str = "EVBACKUP-STORE";
const FIRST_LINE: &str = "evbackup store";
/// The three lines have at most 72 bytes; what is longer is something else.
const MAX_BYTES: u64 = 256;

/// What the marker says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Marker {
    /// The number of the store's format.
    pub(super) format: u32,
    /// The generation that the store has at least.
    pub(super) generation: u64,
}

impl Marker {
    /// Is there a marker, of whatever format?
    pub(super) fn is_in(dir: &Path) -> bool {
        matches!(read(dir), Ok(text) if text.starts_with(FIRST_LINE))
    }

    /// Reads the marker of the store in `dir`.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(NAME);
        let text = match read(dir) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_dir() => {
                let what = format!("expected a store, found a directory without {NAME}");
                return Err(Error::missing(what).at_path(dir));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Self::bad("text").at_path(path));
            }
            Err(error) => return Err(Error::from_io(error, "open the store", dir)),
        };
        Self::parse(&text).map_err(|error| error.at_path(path))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(Self::bad("\"evbackup store\" in its first line"));
        }
        let format = number(lines.next(), "format ")?;
        let format = u32::try_from(format).map_err(|_| Self::bad("a format number"))?;
        check_format(format)?;
        Ok(Self { format, generation: number(lines.next(), "generation ")? })
    }

    /// Puts it into `dir`, durable and whole: the old one or the new one is there, to whoever looks.
    pub(super) fn store(self, dir: &Path) -> Result<()> {
        let text = format!("{FIRST_LINE}\nformat {}\ngeneration {}\n", self.format, self.generation);
        write_file(&dir.join(NAME), text.as_bytes(), Replace::Always)
    }

    /// Removes what a killed writer left beside it. For whoever may write the store: nobody else has one open then.
    pub(super) fn clear_leftover(dir: &Path) -> Result<()> {
        remove_file(&with_suffix(&dir.join(NAME), ".part"))
    }

    fn bad(expected: &str) -> Error {
        Error::damaged(format!("expected {expected}, found something else"))
    }
}

fn number(line: Option<&str>, name: &'static str) -> Result<u64> {
    let digits = line.and_then(|line| line.strip_prefix(name));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| Marker::bad("its format and generation"))
}

fn read(dir: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(dir.join(NAME))?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_comes_out_as_it_went_in_and_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Marker::is_in(dir.path()));
        assert_eq!(Marker::load(dir.path()).unwrap_err().code(), "missing");
        for generation in [1, u64::MAX] {
            let marker = Marker { format: 1, generation };
            marker.store(dir.path()).unwrap();
            assert!(Marker::is_in(dir.path()));
            assert_eq!(Marker::load(dir.path()).unwrap(), marker);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_newer_format_is_unsupported_and_other_text_is_damage() {
        assert_eq!(Marker::parse("evbackup store\nformat 2\nwhatever\n").unwrap_err().code(), "unsupported");
        for text in
            ["", "evbackup", "evbackup store", "evbackup store\nformat x\n", "evbackup store\nformat 1\n"]
        {
            assert_eq!(Marker::parse(text).unwrap_err().code(), "damaged", "{text}");
        }
    }
}
