//! Sources and targets that misbehave on purpose, around real ones.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use convert::{
    BlobStream, ImageSource, ImageTarget, LayoutSide, SourceError, SourceManifest, TargetError,
};
use futures::{StreamExt, stream};
use oci::{Descriptor, Digest};
use tokio::sync::Notify;

/// A target whose n-th write fails, counted from 0.
pub(crate) struct FailsAt {
    inner: LayoutSide,
    failing_write: usize,
    writes: AtomicUsize,
}

impl FailsAt {
    pub(crate) fn new(inner: LayoutSide, failing_write: usize) -> Self {
        Self {
            inner,
            failing_write,
            writes: AtomicUsize::new(0),
        }
    }

    fn write(&self) -> Result<(), TargetError> {
        if self.writes.fetch_add(1, Ordering::SeqCst) != self.failing_write {
            return Ok(());
        }
        Err(TargetError {
            subject: format!("write {}", self.failing_write),
            source: io::Error::from(io::ErrorKind::StorageFull).into(),
        })
    }
}

#[async_trait]
impl ImageTarget for FailsAt {
    async fn has_blob(&self, digest: &Digest) -> Result<bool, TargetError> {
        self.inner.has_blob(digest).await
    }

    async fn put_blob_file(&self, blob: &Descriptor, path: &Path) -> Result<(), TargetError> {
        self.write()?;
        self.inner.put_blob_file(blob, path).await
    }

    async fn put_blob_bytes(&self, blob: &Descriptor, bytes: Bytes) -> Result<(), TargetError> {
        self.write()?;
        self.inner.put_blob_bytes(blob, bytes).await
    }

    async fn put_manifest(&self, manifest: &Descriptor, body: Bytes) -> Result<(), TargetError> {
        self.write()?;
        self.inner.put_manifest(manifest, body).await
    }

    async fn tag(&self, manifest: &Descriptor, body: Bytes) -> Result<(), TargetError> {
        self.write()?;
        self.inner.tag(manifest, body).await
    }
}

/// A source whose blobs over 64 KiB stop half-way and never end.
pub(crate) struct Stalls {
    pub(crate) inner: LayoutSide,
    /// Told when a blob has stalled.
    pub(crate) stalled: std::sync::Arc<Notify>,
}

#[async_trait]
impl ImageSource for Stalls {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<SourceManifest, SourceError> {
        self.inner.manifest(digest).await
    }

    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, SourceError> {
        let pieces = self.inner.open_blob(blob).await?;
        if blob.size < 64 << 10 {
            return Ok(pieces);
        }
        let stalled = std::sync::Arc::clone(&self.stalled);
        let stall = stream::once(async move {
            stalled.notify_one();
            std::future::pending().await
        });
        Ok(pieces.take(1).chain(stall).boxed())
    }
}

/// A source whose blobs over 64 KiB break off with an error after their first piece.
pub(crate) struct BreaksOff(pub(crate) LayoutSide);

#[async_trait]
impl ImageSource for BreaksOff {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<SourceManifest, SourceError> {
        self.0.manifest(digest).await
    }

    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, SourceError> {
        let pieces = self.0.open_blob(blob).await?;
        if blob.size < 64 << 10 {
            return Ok(pieces);
        }
        let error = SourceError::Read {
            subject: "the blob".into(),
            source: io::Error::from(io::ErrorKind::ConnectionReset).into(),
        };
        Ok(pieces.take(1).chain(stream::iter([Err(error)])).boxed())
    }
}
