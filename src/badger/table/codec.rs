//! How the blocks of a table are compressed; the MANIFEST says it for each table.
//!
//! | id | stored block                                                                     |
//! |----|----------------------------------------------------------------------------------|
//! | 0  | as it is                                                                         |
//! | 1  | a raw snappy block: its length as a varint, then tags; no frames, no checksum    |
//! | 2  | one standard zstd frame; Badger's say how long the content is, others need not   |
//!
//! Bad input: a length is held against the limit, and against what so few bytes can expand to, before anything is allocated for it.

use crate::error::{Error, Result};
use std::io::Read;

/// What Badger's `options.CompressionType` can be.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(in crate::badger) enum Compression {
    /// `None`.
    None,
    /// `Snappy`, Badger's default and ev-node's.
    #[default]
    Snappy,
    /// `ZSTD`.
    Zstd,
}

/// Badger's default for zstd.
const ZSTD_LEVEL: i32 = 1;

/// The most that snappy makes of a byte: a copy of 64 bytes takes 3.
const SNAPPY_RATIO: usize = 22;

/// The windows of zstd frames that we make room for, as powers of two: 8 MiB is what every decoder must support, and a frame in one
/// segment has a window as long as its content.
const ZSTD_WINDOWS: (u32, u32) = (23, 31);

impl Compression {
    /// The one that the MANIFEST means.
    pub(in crate::badger) fn from_id(id: u32) -> Result<Self> {
        match id {
            0 => Ok(Self::None),
            1 => Ok(Self::Snappy),
            2 => Ok(Self::Zstd),
            _ => Err(Error::unsupported(format!("expected compression 0, 1 or 2, found {id}"))),
        }
    }

    /// Its number in the MANIFEST.
    pub(in crate::badger) fn id(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Snappy => 1,
            Self::Zstd => 2,
        }
    }

    /// Puts the bytes that `stored` stands for into `to`, whatever was in it. More than `limit` are damage.
    pub(in crate::badger) fn decompress(self, stored: &[u8], limit: usize, to: &mut Vec<u8>) -> Result<()> {
        to.clear();
        match self {
            Self::None => {
                within(stored.len() as u64, limit)?;
                to.extend_from_slice(stored);
                Ok(())
            }
            Self::Snappy => {
                let len = snap::raw::decompress_len(stored).map_err(snappy_damage)?;
                within(len as u64, limit)?;
                if len / SNAPPY_RATIO > stored.len() {
                    let what =
                        format!("expected a snappy block of {len} bytes, found {} bytes of it", stored.len());
                    return Err(Error::damaged(what));
                }
                to.resize(len, 0);
                let found = snap::raw::Decoder::new().decompress(stored, to).map_err(snappy_damage)?;
                to.truncate(found);
                Ok(())
            }
            Self::Zstd => unpack_zstd(stored, limit, to),
        }
    }
}

fn within(len: u64, limit: usize) -> Result<()> {
    if len > limit as u64 {
        return Err(Error::damaged(format!("expected a block of at most {limit} bytes, found one of {len}")));
    }
    Ok(())
}

fn snappy_damage(error: snap::Error) -> Error {
    Error::damaged(format!("expected a snappy block, found: {error}")).caused_by(error)
}

fn zstd_damage(error: std::io::Error) -> Error {
    Error::damaged(format!("expected a zstd frame, found: {error}")).caused_by(error)
}

fn unpack_zstd(stored: &[u8], limit: usize, to: &mut Vec<u8>) -> Result<()> {
    if let Ok(Some(len)) = zstd::zstd_safe::get_frame_content_size(stored) {
        within(len, limit)?;
    }
    let mut frame = zstd::stream::read::Decoder::with_buffer(stored).map_err(zstd_damage)?.single_frame();
    let (least, most) = ZSTD_WINDOWS;
    let window = usize::BITS - limit.leading_zeros();
    frame.window_log_max(window.clamp(least, most)).map_err(zstd_damage)?;
    // What comes out decides how much is allocated, not what the frame says of itself.
    let most = (limit as u64).saturating_add(1);
    frame.by_ref().take(most).read_to_end(to).map_err(zstd_damage)?;
    within(to.len() as u64, limit)?;
    if !frame.finish().is_empty() {
        return Err(Error::damaged("expected the end of the block after its zstd frame, found more"));
    }
    Ok(())
}

/// Compresses block after block.
pub(in crate::badger) enum Encoder {
    None,
    Snappy(Box<snap::raw::Encoder>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Encoder {
    /// For blocks of a table with this compression.
    pub(in crate::badger) fn new(compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Snappy => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::Zstd => {
                let error = |error: std::io::Error| Error::io("cannot start zstd").caused_by(error);
                let mut zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(error)?;
                zstd.include_checksum(true).map_err(error)?;
                Self::Zstd(Box::new(zstd))
            }
        })
    }

    /// Appends the stored form of `block`.
    pub(in crate::badger) fn append(&mut self, block: &[u8], to: &mut Vec<u8>) -> Result<()> {
        let begin = to.len();
        match self {
            Self::None => to.extend_from_slice(block),
            Self::Snappy(snappy) => {
                to.resize(begin + snap::raw::max_compress_len(block.len()), 0);
                let room = to.get_mut(begin..).unwrap_or_default();
                let len = snappy.compress(block, room).map_err(|error| too_large(block, error))?;
                to.truncate(begin + len);
            }
            Self::Zstd(zstd) => {
                to.resize(begin + zstd::zstd_safe::compress_bound(block.len()), 0);
                let room = to.get_mut(begin..).unwrap_or_default();
                let len = zstd.compress_to_buffer(block, room).map_err(|error| too_large(block, error))?;
                to.truncate(begin + len);
            }
        }
        Ok(())
    }
}

fn too_large(block: &[u8], error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unsupported(format!("cannot compress a block of {} bytes", block.len())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Compression; 3] = [Compression::None, Compression::Snappy, Compression::Zstd];

    fn packed(compression: Compression, block: &[u8]) -> Vec<u8> {
        let mut to = b"before".to_vec();
        Encoder::new(compression).unwrap().append(block, &mut to).unwrap();
        to.split_off(6)
    }

    #[test]
    fn every_id_is_that_of_one_codec() {
        for compression in ALL {
            assert_eq!(Compression::from_id(compression.id()).unwrap(), compression);
        }
        assert_eq!(Compression::from_id(3).unwrap_err().code(), "unsupported");
    }

    #[test]
    fn a_block_above_the_limit_is_damage_whatever_it_says_of_itself() {
        for compression in ALL {
            let stored = packed(compression, &[7; 5000]);
            let mut to = Vec::new();
            compression.decompress(&stored, 5000, &mut to).unwrap();
            assert_eq!(to, [7; 5000]);
            let error = compression.decompress(&stored, 4999, &mut to).unwrap_err();
            assert_eq!(error.code(), "damaged", "{compression:?}");
        }
    }

    #[test]
    fn a_frame_that_does_not_say_how_long_it_is_can_be_read() {
        let mut writer = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        std::io::Write::write_all(&mut writer, &vec![9; 100_000]).unwrap();
        let stored = writer.finish().unwrap();
        let mut to = Vec::new();
        Compression::Zstd.decompress(&stored, 100_000, &mut to).unwrap();
        assert_eq!(to, vec![9; 100_000]);
        let error = Compression::Zstd.decompress(&stored, 99_999, &mut to).unwrap_err();
        assert_eq!(error.code(), "damaged");
    }

    #[test]
    fn a_length_out_of_proportion_allocates_nothing() {
        // 1 GiB, and nothing behind it.
        let stored = [0x80, 0x80, 0x80, 0x80, 0x04, 0];
        let mut to = Vec::new();
        let error = Compression::Snappy.decompress(&stored, 1 << 31, &mut to).unwrap_err();
        assert_eq!((error.code(), to.capacity()), ("damaged", 0));
    }

    #[test]
    fn bytes_behind_a_zstd_frame_are_damage() {
        let mut stored = packed(Compression::Zstd, b"block");
        stored.push(0);
        let error = Compression::Zstd.decompress(&stored, 100, &mut Vec::new()).unwrap_err();
        assert_eq!(error.code(), "damaged");
    }

    proptest! {
        #[test]
        fn a_block_comes_back(
            pattern in proptest::collection::vec(any::<u8>(), 0..400), times in 1..200_usize,
        ) {
            let block = pattern.repeat(times);
            let mut to = vec![1, 2, 3];
            for compression in ALL {
                compression.decompress(&packed(compression, &block), block.len(), &mut to).unwrap();
                prop_assert_eq!(&to, &block);
            }
        }

        #[test]
        fn any_bytes_give_a_block_or_damage(stored in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut to = Vec::new();
            for compression in ALL {
                if let Err(error) = compression.decompress(&stored, 1 << 20, &mut to) {
                    prop_assert_eq!(error.code(), "damaged");
                }
            }
        }
    }
}
