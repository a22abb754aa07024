//! Where a layer's tar is cut.
//!
//! FastCDC finds a cut point from the content, so equal content in two layers mostly gives equal
//! chunks. The cut is then moved up to the next multiple of 512: every tar entry starts at one,
//! so this loses no equality, and a chunk covers whole blocks of a presence map.
//!
//! # Invariants
//!
//! 1. The chunks, put together, are the fed bytes. They do not depend on how these were split
//!    over calls of `feed`.
//! 2. Every chunk but the last is a multiple of 512 bytes, and between the sizes' minimum and
//!    maximum.
//! 3. At most [`Chunker::BUFFERED_CHUNKS`] times the maximum is buffered.
//!
//! The cut points are not part of the format: a reader takes what the chunk table says. They are
//! pinned by a test, because conversions must be the same on every machine and in every release.

use bytes::Bytes;
use fastcdc::v2020;
use thiserror::Error;

use crate::chunk::{CHUNK_LEN_MAX, TAR_BLOCK_LEN};

/// Shortest, usual and longest chunk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    min: u32,
    average: u32,
    max: u32,
}

impl ChunkSizes {
    /// Makes sizes around an average: a quarter of it to four times it.
    ///
    /// # Errors
    ///
    /// [`InvalidAverage`] unless `average` is a power of two from 4 KiB to 1 MiB.
    pub fn around(average: u32) -> Result<Self, InvalidAverage> {
        let longest = CHUNK_LEN_MAX / 4;
        if !average.is_power_of_two() || !(4096..=longest).contains(&average) {
            return Err(InvalidAverage { average });
        }
        Ok(Self {
            min: average / 4,
            average,
            max: average * 4,
        })
    }

    /// Returns the shortest chunk, but for the last of a layer.
    pub fn min(&self) -> u32 {
        self.min
    }

    /// Returns the length that FastCDC aims at.
    pub fn average(&self) -> u32 {
        self.average
    }

    /// Returns the longest chunk.
    pub fn max(&self) -> u32 {
        self.max
    }
}

impl Default for ChunkSizes {
    /// 64 KiB, 256 KiB, 1 MiB. Why: `docs/decisions/0002-chunk-length.md`.
    fn default() -> Self {
        Self {
            min: 64 << 10,
            average: 256 << 10,
            max: 1 << 20,
        }
    }
}

/// The average is not one that chunks can be cut around.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("average chunk length {average} is not a power of two from 4096 to 1048576")]
pub struct InvalidAverage {
    average: u32,
}

/// Cuts a tar into chunks as its bytes are pushed in.
#[derive(Debug)]
pub struct Chunker {
    sizes: ChunkSizes,
    strict_mask: u64,
    relaxed_mask: u64,
    buffer: Vec<u8>,
    /// Where in `buffer` the bytes begin that are in no chunk yet.
    start: usize,
}

impl Chunker {
    /// How many longest chunks are buffered, so that the rest of one is moved seldom.
    pub const BUFFERED_CHUNKS: usize = 4;

    /// Makes a chunker that stands at the first byte of a tar.
    pub fn new(sizes: ChunkSizes) -> Self {
        let (strict_mask, relaxed_mask) =
            v2020::select_masks(sizes.average as usize, v2020::Normalization::Level1);
        Self {
            sizes,
            strict_mask,
            relaxed_mask,
            buffer: Vec::with_capacity(Self::BUFFERED_CHUNKS * sizes.max as usize),
            start: 0,
        }
    }

    /// Takes the next bytes of the tar and gives each chunk that they complete to `emit`.
    pub fn feed(&mut self, mut tar: &[u8], emit: &mut dyn FnMut(Bytes)) {
        while !tar.is_empty() {
            let room = Self::BUFFERED_CHUNKS * self.sizes.max as usize - self.buffer.len();
            let (now, later) = tar.split_at(room.min(tar.len()));
            self.buffer.extend_from_slice(now);
            tar = later;
            // Only with a longest chunk at hand is a cut the same however the bytes arrived.
            while self.buffer.len() - self.start >= self.sizes.max as usize {
                emit(self.cut());
            }
            if !tar.is_empty() {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
        }
    }

    /// Gives the last chunks to `emit`. A tar of no bytes has none.
    pub fn finish(mut self, emit: &mut dyn FnMut(Bytes)) {
        while self.start < self.buffer.len() {
            emit(self.cut());
        }
    }

    /// Cuts the next chunk off. There must be at least one byte.
    fn cut(&mut self) -> Bytes {
        let rest = &self.buffer[self.start..];
        debug_assert!(!rest.is_empty());
        let (_, point) = v2020::cut(
            rest,
            self.sizes.min as usize,
            self.sizes.average as usize,
            self.sizes.max as usize,
            self.strict_mask,
            self.relaxed_mask,
            self.strict_mask << 1,
            self.relaxed_mask << 1,
        );
        let len = point
            .next_multiple_of(TAR_BLOCK_LEN as usize)
            .min(rest.len());
        let chunk = Bytes::copy_from_slice(&rest[..len]);
        self.start += len;
        chunk
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::ChunkDigest;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed | 1;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(len)
        .collect()
    }

    fn chunks(sizes: ChunkSizes, pieces: &[&[u8]]) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        let mut chunker = Chunker::new(sizes);
        for piece in pieces {
            chunker.feed(piece, &mut |chunk| chunks.push(chunk));
        }
        chunker.finish(&mut |chunk| chunks.push(chunk));
        chunks
    }

    fn small() -> ChunkSizes {
        ChunkSizes::around(4096).unwrap()
    }

    #[test]
    fn the_cut_points_are_those_of_every_release() {
        let tar = noise(42, 3 << 20);
        let lens: Vec<usize> = chunks(ChunkSizes::default(), &[&tar])
            .iter()
            .map(Bytes::len)
            .collect();
        assert_eq!(
            lens,
            [
                593_920, 356_352, 356_352, 345_088, 633_344, 303_104, 340_992, 185_856, 30_720
            ],
            "changing these changes every converted image"
        );
    }

    #[test]
    fn equal_content_at_another_block_gives_equal_chunks() {
        let content = noise(3, 400_000);
        let shifted = [noise(4, 512 * 77), content.clone()].concat();
        let one = chunks(small(), &[&content]);
        let other = chunks(small(), &[&shifted]);
        let known: Vec<_> = other.iter().map(|chunk| ChunkDigest::of(chunk)).collect();
        let shared = one
            .iter()
            .filter(|chunk| known.contains(&ChunkDigest::of(chunk)))
            .count();
        assert!(shared * 10 >= one.len() * 9, "{shared} of {}", one.len());
    }

    #[test]
    fn zeros_are_cut_at_the_longest_length() {
        let lens: Vec<usize> = chunks(ChunkSizes::default(), &[&vec![0; (2 << 20) + 700]])
            .iter()
            .map(Bytes::len)
            .collect();
        assert_eq!(lens, [1 << 20, 1 << 20, 700]);
    }

    #[test]
    fn a_tar_of_no_bytes_has_no_chunks() {
        assert!(chunks(small(), &[b""]).is_empty());
    }

    #[test]
    fn averages_that_the_format_cannot_hold_are_refused() {
        for average in [0, 512, 5000, 2 << 20, u32::MAX] {
            assert_eq!(ChunkSizes::around(average), Err(InvalidAverage { average }));
        }
        assert_eq!(ChunkSizes::around(256 << 10), Ok(ChunkSizes::default()));
    }

    proptest! {
        /// Invariants 1 and 2.
        #[test]
        fn chunks_are_the_fed_bytes_however_they_were_split(
            seed: u64,
            len in 0_usize..100_000,
            borders in prop::collection::vec(0_usize..100_000, 0..5),
        ) {
            let tar = noise(seed, len);
            let mut borders: Vec<usize> = borders.into_iter().map(|at| at.min(len)).collect();
            borders.extend([0, len]);
            borders.sort_unstable();
            let pieces: Vec<&[u8]> = borders.windows(2).map(|pair| &tar[pair[0]..pair[1]]).collect();

            let split = chunks(small(), &pieces);
            prop_assert_eq!(&split, &chunks(small(), &[&tar]));
            prop_assert_eq!(split.concat(), tar);
            for chunk in split.iter().rev().skip(1) {
                prop_assert!(chunk.len().is_multiple_of(512));
                prop_assert!((1024..=16_384).contains(&chunk.len()));
            }
            prop_assert!(split.last().is_none_or(|chunk| chunk.len() <= 16_384));
        }
    }
}
