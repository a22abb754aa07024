//! Bodies on their way in.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::StatusCode;
use blob_store::{BlobUpload, WriteBlobError};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use oci::MANIFEST_LEN_MAX;
use thiserror::Error;
use tokio::time::timeout;

use super::OciError;
use crate::RegistryLimits;

/// Bytes that a refused client may still send before it is cut off: those on their way in buffers
/// of both sides, and the rest of all but large layers.
const DRAIN_LEN_MAX: u64 = 64 << 20;

/// How long a refused client is listened to.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Why a body did not come whole.
#[derive(Debug, Error)]
pub(super) enum ReceiveError {
    /// The client went away, or sent what is not HTTP.
    #[error("the body was cut off")]
    Cut(#[source] axum::Error),
    /// The client was silent for too long.
    #[error("the sender was silent for {} seconds", limit.as_secs())]
    Silent {
        /// The limit.
        limit: Duration,
    },
    /// The content is longer than the registry takes.
    #[error("the content is longer than the limit of {limit} bytes")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// The bytes could not be kept.
    #[error(transparent)]
    Write(#[from] WriteBlobError),
}

impl ReceiveError {
    /// Says whether the upload can go on with what came: its bytes are all there.
    pub(super) fn is_resumable(&self) -> bool {
        matches!(self, Self::Cut(_) | Self::Silent { .. })
    }
}

impl From<&ReceiveError> for OciError {
    fn from(cause: &ReceiveError) -> Self {
        let status = match cause {
            ReceiveError::Write(_) => return Self::internal(cause),
            ReceiveError::Cut(_) => StatusCode::BAD_REQUEST,
            ReceiveError::Silent { .. } => StatusCode::REQUEST_TIMEOUT,
            ReceiveError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        };
        Self::new(status, "BLOB_UPLOAD_INVALID", cause.to_string())
    }
}

/// Feeds a body to an upload.
pub(super) async fn receive(
    body: Body,
    upload: &mut dyn BlobUpload,
    limits: &RegistryLimits,
) -> Result<(), ReceiveError> {
    let mut pieces = body.into_data_stream();
    let received = write_pieces(&mut pieces, upload, limits).await;
    if received.as_ref().is_err_and(|cause| !cause.is_resumable()) {
        // A client that still writes when the connection is closed sees a broken pipe, not our answer.
        drop(timeout(DRAIN_TIME_MAX, drain(pieces)).await);
    }
    received
}

async fn write_pieces(
    pieces: &mut BodyDataStream,
    upload: &mut dyn BlobUpload,
    limits: &RegistryLimits,
) -> Result<(), ReceiveError> {
    let (limit, blob_len_max) = (limits.body_idle_max, limits.blob_len_max);
    loop {
        let next = timeout(limit, pieces.next()).await;
        let Some(piece) = next.map_err(|_elapsed| ReceiveError::Silent { limit })? else {
            return Ok(());
        };
        let piece = piece.map_err(ReceiveError::Cut)?;
        if upload.received_len().saturating_add(piece.len() as u64) > blob_len_max {
            return Err(ReceiveError::TooLong {
                limit: blob_len_max,
            });
        }
        upload.write(piece).await?;
    }
}

async fn drain(mut pieces: BodyDataStream) {
    let mut drained_len = 0;
    while let Some(Ok(piece)) = pieces.next().await {
        drained_len += piece.len() as u64;
        if drained_len > DRAIN_LEN_MAX {
            return;
        }
    }
}

/// Reads the body of a manifest.
// SPEC: distribution, "Pushing Manifests": a registry with a limit on the size of a manifest SHOULD
// answer 413 to a larger one.
pub(super) async fn collect_manifest(
    body: Body,
    limits: &RegistryLimits,
) -> Result<Bytes, ReceiveError> {
    let mut pieces = body.into_data_stream();
    let mut collected = BytesMut::new();
    let limit = limits.body_idle_max;
    loop {
        let next = timeout(limit, pieces.next()).await;
        let Some(piece) = next.map_err(|_elapsed| ReceiveError::Silent { limit })? else {
            return Ok(collected.freeze());
        };
        let piece = piece.map_err(ReceiveError::Cut)?;
        if (collected.len() + piece.len()) as u64 > MANIFEST_LEN_MAX {
            return Err(ReceiveError::TooLong {
                limit: MANIFEST_LEN_MAX,
            });
        }
        collected.extend_from_slice(&piece);
    }
}
