//! A chunk: the unit in which a layer is fetched and verified.
//!
//! A layer's tar is cut into chunks; each is stored as one zstd frame. The chunk table says where
//! each lies and what its decoded bytes hash to.
//!
//! # Invariants
//!
//! 1. A [`VerifiedChunk`] holds bytes whose BLAKE3 equals that of the descriptor it was verified
//!    against. Nothing else makes one.
//! 2. Decoding never allocates more than the descriptor's tar length, which is at most
//!    [`CHUNK_LEN_MAX`].
//!
//! # What is not here
//!
//! Where to cut (`chunker`), the table (`table`), and fetching (`layer-fetch`).

use std::fmt;
use std::ops::Range;

mod compressor;
mod decoder;

pub use compressor::{ChunkCompressor, CompressChunkError, StoredChunk};
pub use decoder::{
    ChunkDecoder, ChunkMismatch, CreateDecoderError, DecodeChunkError, UntrustedChunk,
    VerifiedChunk,
};

/// Length of a tar block, in bytes. Every chunk but the last of a layer is a multiple of it long.
pub const TAR_BLOCK_LEN: u32 = 512;

/// Longest chunk that the format allows, in decoded bytes.
///
/// A reader holds some decoded chunks at a time, so this bounds its memory. Our own writer stays
/// at [`ChunkSizes::default`](crate::ChunkSizes): the rest is room for writers that want longer
/// chunks. How it was measured: `docs/decisions/0002-chunk-length.md`.
pub const CHUNK_LEN_MAX: u32 = 4 << 20;

/// The BLAKE3 of a chunk's decoded bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkDigest([u8; Self::LEN]);

impl ChunkDigest {
    /// Length of a digest in bytes.
    pub const LEN: usize = 32;

    /// Hashes `decoded`.
    pub fn of(decoded: &[u8]) -> Self {
        Self(*blake3::hash(decoded).as_bytes())
    }

    /// Takes a digest as a chunk table holds it.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the digest as a chunk table holds it.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for ChunkDigest {
    /// Writes `blake3:` and 64 lowercase hex digits.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("blake3:")?;
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// One row of a chunk table: where a chunk lies and what its bytes must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkDescriptor {
    /// 0-based place of the chunk in its layer.
    pub index: u32,
    /// The bytes of the tar that the chunk holds.
    pub tar_range: Range<u64>,
    /// The bytes of the stored blob that are the chunk's zstd frame.
    pub stored_range: Range<u64>,
    /// The BLAKE3 of the decoded bytes.
    pub digest: ChunkDigest,
}

impl ChunkDescriptor {
    /// Returns the length of the decoded chunk in bytes.
    pub fn tar_len(&self) -> u64 {
        self.tar_range.end.saturating_sub(self.tar_range.start)
    }

    /// Returns the length of the chunk's frame in bytes.
    pub fn stored_len(&self) -> u64 {
        self.stored_range
            .end
            .saturating_sub(self.stored_range.start)
    }
}

/// Returns the greatest length of the frame of a chunk of `tar_len` decoded bytes.
///
/// It is zstd's own bound (`ZSTD_COMPRESSBOUND`), rounded up: a frame that is longer was not made
/// by a compressor.
pub(crate) const fn stored_len_max(tar_len: u32) -> u32 {
    tar_len.saturating_add(tar_len / 256).saturating_add(64)
}
