//! One layer: from the source's blob to a stored blob on disk that is proven to be the same tar.
//!
//! ```text
//! source ─► blob check ─► inflate ─┬─► diff ID
//!           (SHA-256)              └─► scan + chunk ─► compress ×n ─► store ─► proof
//!                                                      (BLAKE3, zstd)  (SHA-256) (read back, decode, SHA-256)
//! ```
//!
//! # Invariants
//!
//! 1. A [`FinishedLayer`] exists only if the source blob had the length and digest of its descriptor, its
//!    tar had the diff ID, and the file on disk, read back, decoded to that diff ID.
//! 2. What is in flight is bounded: every arrow is a channel with a limit.
//!
//! # Concurrency
//!
//! Each step is a thread of its own. Threads end when the channel before or after them closes, or when
//! the stop token is cancelled; the scope waits for them, so no thread outlives its layer's pipeline.

use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use futures::StreamExt;
use image_format::tar::{LayerScan, ScanError};
use image_format::{
    ChunkMismatch, ChunkSizes, ChunkTable, CompressChunkError, CreateDecoderError,
    DecodeChunkError, WriteBlobError,
};
use oci::{Descriptor, Digest};
use tempfile::TempPath;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::options::ConvertOptions;
use crate::ports::{ImageSource, SourceError};
use crate::work_dir::WorkDir;

mod blob_check;
mod chunk_step;
mod compress_step;
mod handover;
mod inflate_step;
mod pipeline;
mod proof_step;
mod store_step;

/// Pieces of a source blob that wait for the pipeline. Sources give pieces of at most about 1 MiB.
const PIECES_WAITING_MAX: usize = 8;

/// Cores that one layer can use: its decompression, which cannot be split, takes one core for about a third
/// of the whole work.
const CORES_PER_LAYER: usize = 2;

/// Most layers at once. More would need more memory (`docs/decisions/0004-one-pass-conversion.md`), and images
/// with more than a few large layers are rare.
const LAYERS_AT_ONCE_MAX: usize = 3;

/// Most compressors of one layer: decompression gives no more work than this.
const COMPRESSORS_MAX: usize = 4;

/// What is to be done: one layer of the source.
#[derive(Debug, Clone)]
pub(crate) struct LayerJob {
    /// The source's blob.
    pub(crate) blob: Descriptor,
    /// What the config says that its tar is.
    pub(crate) diff_id: Digest,
}

/// How it is done: the same for every layer of a conversion.
#[derive(Debug, Clone)]
pub(crate) struct LayerSettings {
    pub(crate) work_dir: Arc<WorkDir>,
    pub(crate) layers_at_once: usize,
    pub(crate) compressor_count: usize,
    pub(crate) zstd_level: i32,
    pub(crate) chunk_sizes: ChunkSizes,
}

impl LayerSettings {
    pub(crate) fn new(options: &ConvertOptions, work_dir: Arc<WorkDir>) -> Self {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        let threads = NonZero::new(options.threads).map_or_else(cores, NonZero::get);
        let layers_at_once = (threads / CORES_PER_LAYER).clamp(1, LAYERS_AT_ONCE_MAX);
        Self {
            work_dir,
            layers_at_once,
            compressor_count: (threads / layers_at_once).clamp(1, COMPRESSORS_MAX),
            zstd_level: options.zstd_level,
            chunk_sizes: options.chunk_sizes,
        }
    }
}

/// A layer that was converted and proven.
#[derive(Debug)]
pub(crate) struct FinishedLayer {
    pub(crate) stored: StoredLayer,
    pub(crate) scan: LayerScan,
}

/// A stored blob on disk, and its table.
#[derive(Debug)]
pub(crate) struct StoredLayer {
    /// Removed when this is dropped.
    pub(crate) file: TempPath,
    pub(crate) digest: Digest,
    pub(crate) len: u64,
    pub(crate) table: ChunkTable,
    /// Keeps the directory of `file` as long as it.
    pub(crate) _work_dir: Arc<WorkDir>,
}

/// Why a layer was not converted.
#[derive(Debug, Error)]
pub enum LayerError {
    /// The source broke off, or does not have the blob.
    #[error("blob could not be read")]
    Source(#[from] SourceError),
    /// The blob is not as long as its descriptor says: truncated, or too long.
    #[error("blob {digest} should have {wanted} bytes and has {actual}")]
    BlobLength {
        /// The blob.
        digest: Digest,
        /// Its length in the manifest.
        wanted: u64,
        /// Its length, or where reading stopped.
        actual: u64,
    },
    /// The blob's bytes are other ones.
    #[error("blob {wanted} has other bytes: they have the digest {actual}")]
    BlobDigest {
        /// The digest in the manifest.
        wanted: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The blob is as its descriptor says, but cannot be decompressed.
    #[error("blob {digest} could not be decompressed")]
    Decompress {
        /// The blob.
        digest: Digest,
        /// Where the decoder gave up.
        source: io::Error,
    },
    /// The tar is longer than an accelerated image can address.
    #[error("tar is longer than {len_max} bytes")]
    TarTooLong {
        /// The limit.
        len_max: u64,
    },
    /// The tar is damaged, lies about its sizes, or holds what no runtime would unpack.
    #[error("tar could not be read")]
    Scan(#[from] ScanError),
    /// The tar is not the one that the config names.
    #[error("tar should have the diff ID {wanted} and has {actual}")]
    DiffId {
        /// The diff ID in the config.
        wanted: Digest,
        /// The digest of the tar.
        actual: Digest,
    },
    /// A chunk could not be compressed.
    #[error("chunk could not be compressed")]
    Compress(#[source] CompressChunkError),
    /// The stored layer could not be written or read back; the disk may be full.
    #[error("stored layer {} could not be written", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// For example that the disk is full.
        source: WriteBlobError,
    },
    /// The decoder for the proof could not be made.
    #[error("stored layer could not be proven")]
    Decoder(#[source] CreateDecoderError),
    /// A stored chunk does not decode.
    #[error("stored chunk {index} does not decode")]
    ProofDecode {
        /// The chunk.
        index: u32,
        /// What its reader would say.
        source: DecodeChunkError,
    },
    /// A stored chunk decodes to other bytes.
    #[error("stored chunk does not decode to its bytes")]
    ProofDigest(#[source] ChunkMismatch),
    /// The stored layer, decoded as a whole, is not the tar.
    #[error("stored layer decodes to {actual} instead of {wanted}")]
    Proof {
        /// The diff ID.
        wanted: Digest,
        /// What it decodes to.
        actual: Digest,
    },
    /// A thread could not be started.
    #[error("threads for the layer could not be started")]
    Threads(#[source] io::Error),
    /// The conversion was given up for another reason.
    #[error("conversion was stopped")]
    Stopped,
}

/// Converts one layer. `watch` is told how many bytes of the blob were read, piece by piece.
///
/// Dropping the future does not stop the threads by itself: the caller cancels `stop`.
pub(crate) async fn convert_layer(
    source: &dyn ImageSource,
    job: &LayerJob,
    settings: &LayerSettings,
    stop: CancellationToken,
    watch: impl Fn(u64),
) -> Result<FinishedLayer, LayerError> {
    if stop.is_cancelled() {
        return Err(LayerError::Stopped);
    }
    let mut blob = source.open_blob(&job.blob).await?;
    let (feed, pieces) = mpsc::channel(PIECES_WAITING_MAX);
    let input = pipeline::Input {
        job: job.clone(),
        settings: settings.clone(),
        pieces,
        stop,
    };
    let pipeline = tokio::task::spawn_blocking(move || pipeline::run(input));
    while let Some(piece) = blob.next().await {
        let len = piece.as_ref().map_or(0, Bytes::len) as u64;
        let failed = piece.is_err();
        let piece = piece.map_or_else(Piece::Failed, Piece::Bytes);
        if feed.send(piece).await.is_err() || failed {
            break;
        }
        watch(len);
    }
    // The pipeline may be gone already; then its own result says why.
    drop(feed.send(Piece::End).await);
    drop(blob);
    match pipeline.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => Err(LayerError::Stopped),
        },
    }
}

/// What the source says to the pipeline. A channel that closes without `End` means: stop.
#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    Failed(SourceError),
    End,
}

/// How a step ends when it does not finish its work.
#[derive(Debug)]
enum StepEnd {
    /// The step itself failed.
    Failed(LayerError),
    /// A step before or after it is gone, or the conversion is being stopped.
    Stopped,
}

impl<E: Into<LayerError>> From<E> for StepEnd {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
