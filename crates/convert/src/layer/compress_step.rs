//! Fourth step, on several threads: chunks become zstd frames with a BLAKE3 digest.

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use image_format::{ChunkCompressor, StoredChunk};

use super::{LayerError, StepEnd};

/// A chunk to compress, and where its result goes.
#[derive(Debug)]
pub(super) struct CompressJob {
    pub(super) chunk: Bytes,
    pub(super) result: Sender<StoredChunk>,
}

/// Where the result of one job appears.
pub(super) type ChunkPlace = Receiver<StoredChunk>;

/// Compresses chunks until there are no more.
///
/// # Errors
///
/// [`LayerError::Compress`], if zstd cannot.
pub(super) fn compress(level: i32, jobs: &Receiver<CompressJob>) -> Result<(), StepEnd> {
    let mut compressor = ChunkCompressor::new(level).map_err(LayerError::Compress)?;
    for CompressJob { chunk, result } in jobs {
        let stored = compressor.compress(&chunk).map_err(LayerError::Compress)?;
        // A writer that is gone has its own reason.
        drop(result.send(stored));
    }
    Ok(())
}
