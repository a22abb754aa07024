//! Where a layer's tar is cut.
//!
//! The content says where, as in `FastCDC`, so equal content in two layers mostly gives equal chunks. But
//! a chunk has to be whole blocks of the tar, and every entry of a tar starts at a block: so
//! the only places looked at are the ends of blocks, and what is hashed is the block before.
//! That finds equal content as well as a hash that rolls over every byte does, at many times its
//! speed: `docs/decisions/0002-chunk-length.md` has the measurements.
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

use std::ops::Range;

use bytes::Bytes;
use thiserror::Error;

use crate::chunk::{CHUNK_LEN_MAX, TAR_BLOCK_LEN};

/// Length of a tar block as an index.
const BLOCK_LEN: usize = TAR_BLOCK_LEN as usize;

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

    /// Returns the length that is aimed at.
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
    cut_below: CutBelow,
    buffer: Vec<u8>,
    /// Where in `buffer` the bytes begin that are in no chunk yet.
    start: usize,
}

impl Chunker {
    /// How many longest chunks are buffered, so that the rest of one is moved seldom.
    pub const BUFFERED_CHUNKS: usize = 4;

    /// Makes a chunker that stands at the first byte of a tar.
    pub fn new(sizes: ChunkSizes) -> Self {
        Self {
            sizes,
            cut_below: CutBelow::new(sizes),
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
        let rest = &rest[..rest.len().min(self.sizes.max as usize)];
        let len = self.cut_below.find(rest, self.sizes).unwrap_or(rest.len());
        let chunk = Bytes::copy_from_slice(&rest[..len]);
        self.start += len;
        chunk
    }
}

/// A block is the last of its chunk if its hash is below a threshold: a lower one before the
/// average length than after it, which keeps most chunks near the average.
#[derive(Debug, Clone, Copy)]
struct CutBelow {
    before_average: u64,
    after_average: u64,
}

impl CutBelow {
    /// Before the average a cut is half as likely as one for each average length, after it
    /// four times as likely. Measured, the mean is then within some percent of the average.
    fn new(sizes: ChunkSizes) -> Self {
        let average_blocks = u64::from(sizes.average / TAR_BLOCK_LEN);
        Self {
            before_average: u64::MAX / (average_blocks * 2),
            after_average: u64::MAX / average_blocks * 4,
        }
    }

    /// Returns the length of the chunk that begins `rest`, or `None` if no block ends it.
    fn find(self, rest: &[u8], sizes: ChunkSizes) -> Option<usize> {
        let (blocks, _) = rest.as_chunks::<BLOCK_LEN>();
        let min = sizes.min as usize / BLOCK_LEN;
        let average = sizes.average as usize / BLOCK_LEN;
        let ends_below = |threshold: u64, counts: Range<usize>| {
            blocks
                .get(counts.start - 1..counts.end.min(blocks.len() + 1) - 1)?
                .iter()
                .position(|block| block_hash(block) < threshold)
                .map(|position| (counts.start + position) * BLOCK_LEN)
        };
        ends_below(self.before_average, min..average)
            .or_else(|| ends_below(self.after_average, average..usize::MAX))
    }
}

/// Hashes a block. Not against an adversary: one who chooses the content chooses the cuts, within
/// the minimum and the maximum.
///
/// Four chains, so that a processor multiplies four words at a time.
fn block_hash(block: &[u8; BLOCK_LEN]) -> u64 {
    /// Odd, and as irregular as the golden ratio: 2^64 divided by it.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, _) = block.as_chunks::<8>();
    let (quads, _) = words.as_chunks::<4>();
    let mut chains = [1, 2, 3, 4_u64];
    for quad in quads {
        for (chain, word) in chains.iter_mut().zip(quad) {
            *chain = (*chain ^ u64::from_le_bytes(*word))
                .wrapping_mul(FACTOR)
                .rotate_left(29);
        }
    }
    let folded = chains.iter().fold(0_u64, |folded, chain| {
        (folded ^ chain).wrapping_mul(FACTOR).rotate_left(32)
    });
    folded.wrapping_mul(FACTOR)
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
                486_400, 264_704, 403_968, 303_616, 166_912, 162_816, 279_552, 242_176, 358_400,
                227_840, 249_344
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
