//! The chunk table: which bytes of a layer's tar lie where in its stored blob.
//!
//! # Invariants
//!
//! 1. Chunks follow each other without gaps, in the tar and in the blob, from offset 0.
//! 2. Every chunk but the last is a multiple of 512 tar bytes long; none is empty or longer than
//!    [`CHUNK_LEN_MAX`].
//! 3. There are at most [`CHUNK_COUNT_MAX`] chunks.
//!
//! A table that exists holds them, whether it was built or decoded. Whether it tells the truth
//! about a blob is another question: each chunk's digest answers that.

use std::ops::Range;

use oci::Digest;
use thiserror::Error;

use crate::chunk::{CHUNK_LEN_MAX, ChunkDescriptor, ChunkDigest, TAR_BLOCK_LEN, stored_len_max};
use crate::seekable::{SeekFrame, SeekTable};

mod encoding;

pub use encoding::DecodeTableError;

/// Most chunks in a layer.
///
/// 256 GiB of tar at the usual chunk length; the table is then 40 MiB encoded and 48 MiB in memory.
pub const CHUNK_COUNT_MAX: u32 = 1 << 20;

/// Longest encoded table, in bytes: what a reader has to fetch at most.
pub const CHUNK_TABLE_LEN_MAX: u64 =
    (encoding::HEADER_LEN + CHUNK_COUNT_MAX as usize * encoding::ROW_LEN) as u64;

/// The chunks of one layer, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkTable {
    diff_id: Digest,
    rows: Vec<Row>,
}

/// What is kept of a chunk; its start is the end of the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    tar_end: u64,
    stored_end: u64,
    digest: ChunkDigest,
}

// A node holds the tables of all layers that are in use, so a row stays small.
const _: () = assert!(size_of::<Row>() == 48);

impl ChunkTable {
    /// Returns the SHA-256 of the whole tar.
    pub fn diff_id(&self) -> Digest {
        self.diff_id
    }

    /// Returns the length of the tar in bytes.
    pub fn tar_len(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.tar_end)
    }

    /// Returns the length of all frames in bytes. The seek table follows them in the blob.
    pub fn stored_len(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.stored_end)
    }

    /// Returns the length of the whole stored blob in bytes: frames and seek table.
    pub fn blob_len(&self) -> u64 {
        self.stored_len() + SeekTable::encoded_len(self.rows.len())
    }

    /// Returns how many chunks there are.
    pub fn len(&self) -> u32 {
        // Invariant 3: it fits.
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// Returns whether there are no chunks: the tar has no bytes.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the chunk with this index, if there is one.
    pub fn chunk(&self, index: u32) -> Option<ChunkDescriptor> {
        let row = self.rows.get(index as usize)?;
        let before = index
            .checked_sub(1)
            .and_then(|before| self.rows.get(before as usize));
        let (tar_start, stored_start) = before.map_or((0, 0), |row| (row.tar_end, row.stored_end));
        Some(ChunkDescriptor {
            index,
            tar_range: tar_start..row.tar_end,
            stored_range: stored_start..row.stored_end,
            digest: row.digest,
        })
    }

    /// Returns the chunk that holds the tar's byte at `tar_offset`, if the tar is that long.
    pub fn chunk_at(&self, tar_offset: u64) -> Option<ChunkDescriptor> {
        self.chunk(self.index_at(tar_offset))
    }

    /// Returns the indexes of the chunks that cover `tar_range`, cut at the end of the tar.
    ///
    /// An empty range is covered by no chunk.
    pub fn chunks_in(&self, tar_range: Range<u64>) -> Range<u32> {
        let first = self.index_at(tar_range.start);
        if tar_range.is_empty() || first == self.len() {
            return first..first;
        }
        let last = self.index_at(tar_range.end - 1);
        first..last.saturating_add(1).min(self.len())
    }

    /// Returns the chunks in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = ChunkDescriptor> + '_ {
        (0..self.len()).filter_map(|index| self.chunk(index))
    }

    /// Returns the seek table that ends the stored blob.
    pub fn to_seek_table(&self) -> SeekTable {
        SeekTable::new(self.iter().map(|chunk| SeekFrame {
            stored_len: len_u32(chunk.stored_len()),
            decoded_len: len_u32(chunk.tar_len()),
        }))
    }

    /// Encodes the table as the format says.
    pub fn encode(&self) -> Vec<u8> {
        encoding::encode(self)
    }

    /// Decodes a table and checks everything that can be checked without the blob.
    ///
    /// # Errors
    ///
    /// [`DecodeTableError`] names the field and the chunk that is wrong.
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeTableError> {
        encoding::decode(encoded)
    }

    /// Returns the index of the chunk that holds `tar_offset`, or the count past the end.
    fn index_at(&self, tar_offset: u64) -> u32 {
        let index = self.rows.partition_point(|row| row.tar_end <= tar_offset);
        u32::try_from(index).unwrap_or(u32::MAX)
    }
}

/// Builds a table chunk by chunk.
#[derive(Debug, Default)]
pub struct ChunkTableBuilder {
    rows: Vec<Row>,
}

impl ChunkTableBuilder {
    /// Makes a builder without chunks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next chunk.
    ///
    /// # Errors
    ///
    /// [`AddChunkError`] if the chunk would break an invariant of the table. The builder is
    /// unchanged then.
    pub fn add(
        &mut self,
        tar_len: u32,
        stored_len: u32,
        digest: ChunkDigest,
    ) -> Result<(), AddChunkError> {
        if tar_len == 0 || tar_len > CHUNK_LEN_MAX {
            return Err(AddChunkError::TarLength { tar_len });
        }
        if stored_len == 0 || stored_len > stored_len_max(tar_len) {
            return Err(AddChunkError::StoredLength {
                stored_len,
                tar_len,
            });
        }
        if self.rows.len() >= CHUNK_COUNT_MAX as usize {
            return Err(AddChunkError::TooMany);
        }
        let (tar_end, stored_end) = self
            .rows
            .last()
            .map_or((0, 0), |row| (row.tar_end, row.stored_end));
        if !tar_end.is_multiple_of(u64::from(TAR_BLOCK_LEN)) {
            return Err(AddChunkError::Unaligned {
                tar_offset: tar_end,
            });
        }
        // No overflow: invariants 2 and 3 bound both sums far below 2^64.
        self.rows.push(Row {
            tar_end: tar_end + u64::from(tar_len),
            stored_end: stored_end + u64::from(stored_len),
            digest,
        });
        Ok(())
    }

    /// Makes the table of the layer whose tar has this SHA-256.
    pub fn finish(mut self, diff_id: Digest) -> ChunkTable {
        self.rows.shrink_to_fit();
        ChunkTable {
            diff_id,
            rows: self.rows,
        }
    }
}

/// Why a chunk cannot follow those that a table has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddChunkError {
    /// The chunk is empty or too long.
    #[error("a chunk of {tar_len} tar bytes is outside of 1 to {CHUNK_LEN_MAX}")]
    TarLength {
        /// Length of the chunk in the tar.
        tar_len: u32,
    },
    /// No compressor makes a frame of this length from a chunk of that length.
    #[error("a chunk of {tar_len} tar bytes cannot be a frame of {stored_len} bytes")]
    StoredLength {
        /// Length of the frame.
        stored_len: u32,
        /// Length of the chunk in the tar.
        tar_len: u32,
    },
    /// The chunk before this one, which ends here, may only be the last one.
    #[error("a chunk begins at tar offset {tar_offset}, which is no multiple of {TAR_BLOCK_LEN}")]
    Unaligned {
        /// Where the chunk begins.
        tar_offset: u64,
    },
    /// The table is full.
    #[error("a layer has more than {CHUNK_COUNT_MAX} chunks")]
    TooMany,
}

/// Narrows the length of a chunk. Invariant 2: it fits.
fn len_u32(len: u64) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
