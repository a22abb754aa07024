//! What a caller can choose about a conversion.

use std::path::PathBuf;

use image_format::ChunkSizes;

/// The zstd level of stored chunks unless the caller says otherwise.
///
/// How it was measured: `docs/decisions/0004-one-pass-conversion.md`.
const ZSTD_LEVEL_DEFAULT: i32 = 3;

/// Everything that can be chosen about a conversion.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// Directory for stored layers until the target has them. It must exist. Each conversion makes a
    /// directory of its own in it and removes that at the end, however it ends. It takes about as many
    /// bytes as the image's compressed layers.
    pub work_dir: PathBuf,
    /// How many cores to use; 0 means all of them. Does not change the result.
    pub threads: usize,
    /// The zstd level of the stored chunks. Changes the result.
    pub zstd_level: i32,
    /// The lengths of chunks. Changes the result.
    pub chunk_sizes: ChunkSizes,
}

impl ConvertOptions {
    /// The defaults, with files in `work_dir`.
    pub fn in_dir(work_dir: impl Into<PathBuf>) -> Self {
        Self {
            work_dir: work_dir.into(),
            threads: 0,
            zstd_level: ZSTD_LEVEL_DEFAULT,
            chunk_sizes: ChunkSizes::default(),
        }
    }
}
