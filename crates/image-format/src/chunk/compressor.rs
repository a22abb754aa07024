//! Chunk in, zstd frame out.

use std::fmt;
use std::io;

use thiserror::Error;
use zstd::bulk::Compressor;

use super::{CHUNK_LEN_MAX, ChunkDigest};

/// A chunk as it is stored, with what its row of the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredChunk {
    /// One zstd frame with the content size in its header.
    pub frame: Vec<u8>,
    /// Length of the decoded chunk in bytes.
    pub tar_len: u32,
    /// The BLAKE3 of the decoded bytes.
    pub digest: ChunkDigest,
}

/// Compresses chunks one after the other, with one context.
///
/// The frame depends on the bytes and the level alone, not on what was compressed before: the
/// same layer gives the same blob, whichever thread compressed which chunk.
pub struct ChunkCompressor {
    level: i32,
    context: Compressor<'static>,
}

impl ChunkCompressor {
    /// Makes a compressor for a zstd level.
    ///
    /// # Errors
    ///
    /// [`CompressChunkError::Level`] if zstd has no such level, [`CompressChunkError::Context`] if
    /// there is no memory for the context.
    pub fn new(level: i32) -> Result<Self, CompressChunkError> {
        if !zstd::compression_level_range().contains(&level) {
            return Err(CompressChunkError::Level { level });
        }
        let context =
            Compressor::new(level).map_err(|source| CompressChunkError::Context { source })?;
        Ok(Self { level, context })
    }

    /// Hashes and compresses `decoded`.
    ///
    /// # Errors
    ///
    /// [`CompressChunkError`] if the chunk is empty or longer than [`CHUNK_LEN_MAX`], or if zstd
    /// refuses.
    pub fn compress(&mut self, decoded: &[u8]) -> Result<StoredChunk, CompressChunkError> {
        let tar_len = u32::try_from(decoded.len())
            .ok()
            .filter(|len| (1..=CHUNK_LEN_MAX).contains(len))
            .ok_or(CompressChunkError::Length { len: decoded.len() })?;
        let frame = self
            .context
            .compress(decoded)
            .map_err(|source| CompressChunkError::Frame { source })?;
        Ok(StoredChunk {
            frame,
            tar_len,
            digest: ChunkDigest::of(decoded),
        })
    }
}

impl fmt::Debug for ChunkCompressor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ChunkCompressor")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

/// Why a chunk could not be compressed.
#[derive(Debug, Error)]
pub enum CompressChunkError {
    /// The level is outside of zstd's range.
    #[error("zstd has no compression level {level}")]
    Level {
        /// The level asked for.
        level: i32,
    },
    /// The context could not be made.
    #[error("could not make a zstd compression context")]
    Context {
        /// What zstd said.
        source: io::Error,
    },
    /// The chunk is empty or too long.
    #[error("a chunk of {len} bytes is outside of 1 to {CHUNK_LEN_MAX}")]
    Length {
        /// Length of the chunk in bytes.
        len: usize,
    },
    /// Zstd did not compress the chunk.
    #[error("could not compress a chunk")]
    Frame {
        /// What zstd said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed_bytes(seed: u32, len: usize) -> Vec<u8> {
        let mut state = seed;
        (0..len)
            .map(|index| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noisy = (index / 97) % 3 == 0;
                if noisy {
                    state.to_be_bytes()[0]
                } else {
                    state.to_be_bytes()[0] & 3
                }
            })
            .collect()
    }

    #[test]
    fn a_reused_context_makes_the_same_frame_as_a_fresh_one() {
        for level in [1, 3, 5, 9] {
            let mut reused = ChunkCompressor::new(level).unwrap();
            for (seed, len) in [
                (1, 300_000),
                (2, 70_000),
                (3, 1 << 20),
                (4, 512),
                (5, 200_000),
            ] {
                let chunk = mixed_bytes(seed, len);
                let fresh = ChunkCompressor::new(level)
                    .unwrap()
                    .compress(&chunk)
                    .unwrap();
                assert_eq!(
                    reused.compress(&chunk).unwrap(),
                    fresh,
                    "level {level}, len {len}"
                );
            }
        }
    }

    #[test]
    fn empty_and_overlong_chunks_and_unknown_levels_are_refused() {
        let mut compressor = ChunkCompressor::new(3).unwrap();
        let overlong = vec![0; CHUNK_LEN_MAX as usize + 1];
        for chunk in [&[][..], &overlong] {
            assert!(matches!(
                compressor.compress(chunk),
                Err(CompressChunkError::Length { .. })
            ));
        }
        assert!(matches!(
            ChunkCompressor::new(99),
            Err(CompressChunkError::Level { level: 99 })
        ));
    }

    #[test]
    fn incompressible_bytes_stay_within_the_bound_of_the_table() {
        let mut state = 7_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(1 << 20)
        .collect();
        for len in [1, 511, 512, 4096, 131_071, 1 << 20] {
            let stored = ChunkCompressor::new(3)
                .unwrap()
                .compress(&noise[..len])
                .unwrap();
            assert!(stored.frame.len() <= super::super::stored_len_max(stored.tar_len) as usize);
        }
    }
}
