//! Fourth step, on several threads: chunks become zstd frames with a BLAKE3 digest.

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use image_format::{ChunkCompressor, ChunkDigest};

use super::{LayerError, StepEnd};

/// A chunk to compress, and where its result goes.
#[derive(Debug)]
pub(super) struct CompressJob {
    pub(super) chunk: Bytes,
    pub(super) result: Sender<StoredChunk>,
}

/// A chunk as it is stored.
#[derive(Debug)]
pub(super) struct StoredChunk {
    pub(super) frame: Vec<u8>,
    pub(super) tar_len: u32,
    pub(super) digest: ChunkDigest,
}
