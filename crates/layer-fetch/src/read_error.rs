//! Why a reader gets an error instead of bytes.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use layer_cache::LayerKey;

use crate::source::SourceError;

/// Why a read has no bytes. The container gets EIO for each.
#[derive(Debug, Clone, Error)]
pub enum ReadError {
    /// The range does not lie inside the tar.
    #[error("{len} bytes at {offset} are not inside the {tar_len} bytes of layer {key}")]
    BeyondEnd {
        /// The layer.
        key: LayerKey,
        /// Where the read begins.
        offset: u64,
        /// How long it is.
        len: usize,
        /// How long the tar is.
        tar_len: u64,
    },
    /// The source sent other bytes than the chunk table says, twice.
    #[error("source sends wrong bytes for chunk {chunk} of layer {key}")]
    Mismatch {
        /// The layer.
        key: LayerKey,
        /// The chunk.
        chunk: u32,
    },
    /// The source will not send it, and asking again will not help.
    #[error("source refuses layer {key}")]
    Refused {
        /// The layer.
        key: LayerKey,
        /// What it said.
        source: Arc<SourceError>,
    },
    /// It did not come in time.
    #[error("layer {key} at {offset} did not arrive in time")]
    Deadline {
        /// The layer.
        key: LayerKey,
        /// Where the read begins.
        offset: u64,
        /// The latest failure, if there was one.
        source: Option<Arc<SourceError>>,
    },
    /// The cache file could not be read.
    #[error("cache file of layer {key} could not be read")]
    Disk {
        /// The layer.
        key: LayerKey,
        /// What the kernel said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The engine was stopped.
    #[error("fetching was stopped")]
    Stopped,
}
