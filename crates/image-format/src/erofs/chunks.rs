//! How the data of a file is cut into EROFS chunks.

use super::FILE_CHUNKS_MAX;
use super::format::{BLOCK_BITS, BLOCK_LEN};
use crate::tar::{DataMap, Segment};

/// Most bits that an EROFS chunk's length can have above a block's.
const CHUNK_BITS_MAX: u32 = 31;

/// How one file is cut: `count` chunks of 512 << `bits` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkPlan {
    pub(super) bits: u32,
    pub(super) count: u64,
}

/// Why a file cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkProblem {
    /// A border lies within a block.
    Unaligned,
    /// It takes more than [`FILE_CHUNKS_MAX`].
    TooMany(u64),
}

impl ChunkPlan {
    /// Finds the longest chunks that no border of the data lies within. `data` is not empty.
    pub(super) fn new(data: &DataMap) -> Result<Self, ChunkProblem> {
        let bits = bits_for(data.size).min(alignment_bits(data)?);
        let count = data.size.div_ceil((BLOCK_LEN as u64) << bits);
        if count > FILE_CHUNKS_MAX {
            return Err(ChunkProblem::TooMany(count));
        }
        Ok(Self { bits, count })
    }

    /// Length of a chunk, in bytes.
    pub(super) fn chunk_len(self) -> u64 {
        (BLOCK_LEN as u64) << self.bits
    }

    /// Returns for each chunk where in the tar it begins, `None` for a hole.
    pub(super) fn tar_offsets(self, data: &DataMap) -> impl Iterator<Item = Option<u64>> {
        let mut segments = data.segments.iter().copied().peekable();
        (0..self.count).map(move |index| {
            let offset = index * self.chunk_len();
            while segments
                .next_if(|segment| segment_end(segment) <= offset)
                .is_some()
            {}
            let segment = segments
                .peek()
                .filter(|segment| segment.file_offset <= offset)?;
            Some(segment.tar_offset + (offset - segment.file_offset))
        })
    }
}

/// The bits of a chunk that is as long as the whole file.
fn bits_for(size: u64) -> u32 {
    let blocks = size.div_ceil(BLOCK_LEN as u64).max(1);
    blocks
        .next_power_of_two()
        .trailing_zeros()
        .min(CHUNK_BITS_MAX)
}

/// The most bits that all borders between data, other data and holes are aligned to.
fn alignment_bits(data: &DataMap) -> Result<u32, ChunkProblem> {
    let mut bits = CHUNK_BITS_MAX + u32::from(BLOCK_BITS);
    let mut limit = |offset: u64| bits = bits.min(offset.trailing_zeros());
    for (index, segment) in data.segments.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| &data.segments[before]);
        if before.is_none_or(|before| !continues(before, segment)) {
            if segment.tar_offset % BLOCK_LEN as u64 != 0 {
                return Err(ChunkProblem::Unaligned);
            }
            limit(segment.file_offset);
        }
        let end = segment_end(segment);
        let after = data.segments.get(index + 1);
        if end != data.size && after.is_none_or(|after| !continues(segment, after)) {
            limit(end);
        }
    }
    bits.checked_sub(u32::from(BLOCK_BITS))
        .ok_or(ChunkProblem::Unaligned)
}

fn continues(before: &Segment, after: &Segment) -> bool {
    segment_end(before) == after.file_offset && before.tar_offset + before.len == after.tar_offset
}

fn segment_end(segment: &Segment) -> u64 {
    segment.file_offset + segment.len
}
