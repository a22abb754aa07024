//! Where the stored bytes of a layer come from.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use thiserror::Error;

use oci::{ClientError, Digest, RepositoryClient};

/// Stored bytes as they arrive. Nothing of it is verified.
pub type StoredStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// A place that has the stored blob of one layer. It is trusted with nothing.
#[async_trait]
pub trait RangeSource: Debug + Send + Sync {
    /// Name of the source in logs.
    fn name(&self) -> &str;

    /// Begins to fetch a range of the stored blob. Dropping the future or the stream ends the request.
    ///
    /// # Errors
    ///
    /// [`SourceError::Refused`] when asking again will not help.
    async fn fetch(&self, stored_range: Range<u64>) -> Result<StoredStream, SourceError>;
}

/// Why stored bytes did not come.
#[derive(Debug, Error)]
pub enum SourceError {
    /// No answer, a broken one, or one that says "later".
    #[error("source did not deliver")]
    Unavailable {
        /// What happened.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// An answer that will not change: not found, not allowed.
    #[error("source refuses")]
    Refused {
        /// What it said.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The body ended before the range did.
    #[error("source sent {missing_len} bytes too few")]
    Short {
        /// How many are missing.
        missing_len: u64,
    },
    /// Nothing came for too long.
    #[error("source sent nothing for {waited:?}")]
    Stalled {
        /// How long that was.
        waited: Duration,
    },
}

impl SourceError {
    /// Whether the same request may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::Short { .. } | Self::Stalled { .. } => true,
            Self::Refused { .. } => false,
        }
    }
}

impl From<ClientError> for SourceError {
    fn from(error: ClientError) -> Self {
        if error.is_retryable() {
            return Self::Unavailable {
                source: Box::new(error),
            };
        }
        Self::Refused {
            source: Box::new(error),
        }
    }
}

/// A layer's blob in a registry, read by HTTP ranges.
#[derive(Debug, Clone)]
pub struct RegistrySource {
    repository: RepositoryClient,
    blob: Digest,
    name: String,
}

impl RegistrySource {
    /// Names the blob; asks nobody yet.
    pub fn new(repository: RepositoryClient, blob: Digest) -> Self {
        Self {
            repository,
            blob,
            name: format!("registry blob {blob}"),
        }
    }
}

#[async_trait]
impl RangeSource for RegistrySource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn fetch(&self, stored_range: Range<u64>) -> Result<StoredStream, SourceError> {
        let body = self
            .repository
            .fetch_blob_range(&self.blob, stored_range)
            .await?;
        Ok(body.map(|piece| piece.map_err(SourceError::from)).boxed())
    }
}
