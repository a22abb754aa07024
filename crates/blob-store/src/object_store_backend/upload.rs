//! The bytes of a blob on their way into an object store.
//!
//! Bytes are gathered to parts. While one part is hashed and written, the next one is gathered: at
//! most two parts are held.

use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::task::JoinHandle;

use oci::{Digest, DigestHasher};

use crate::{BlobUpload, CommitUploadError, WriteBlobError};

/// An upload in progress.
#[derive(Debug)]
pub(super) struct ObjectUpload {
    objects: Arc<dyn ObjectStore>,
    parts: Box<dyn MultipartUpload>,
    location: ObjectPath,
    part_len: usize,
    received_len: u64,
    gathered: Vec<Bytes>,
    gathered_len: usize,
    tail: Tail,
}

/// The part before the one that is gathered.
enum Tail {
    /// It was hashed and written.
    Settled(DigestHasher),
    /// It is being hashed and written.
    Flying(JoinHandle<Result<DigestHasher, WriteBlobError>>),
    /// It was lost.
    Broken,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Settled(_) => "Settled",
            Self::Flying(_) => "Flying",
            Self::Broken => "Broken",
        })
    }
}

impl ObjectUpload {
    pub(super) fn new(
        objects: Arc<dyn ObjectStore>,
        parts: Box<dyn MultipartUpload>,
        location: ObjectPath,
        part_len: usize,
    ) -> Self {
        Self {
            objects,
            parts,
            location,
            part_len,
            received_len: 0,
            gathered: Vec::new(),
            gathered_len: 0,
            tail: Tail::Settled(DigestHasher::new()),
        }
    }

    /// Waits until the part before was written. A future dropped here loses nothing.
    async fn settle(&mut self) -> Result<(), WriteBlobError> {
        if let Tail::Flying(flying) = &mut self.tail {
            let landed = flying.await.unwrap_or(Err(WriteBlobError::Broken));
            self.tail = Tail::Broken;
            self.tail = Tail::Settled(landed?);
        }
        match self.tail {
            Tail::Broken => Err(WriteBlobError::Broken),
            Tail::Settled(_) | Tail::Flying(_) => Ok(()),
        }
    }

    /// Sends the gathered part off. The part before must have settled.
    fn launch(&mut self) {
        let Tail::Settled(hasher) = mem::replace(&mut self.tail, Tail::Broken) else {
            return;
        };
        let part = mem::take(&mut self.gathered);
        self.gathered_len = 0;
        let written = self
            .parts
            .put_part(part.iter().cloned().collect::<PutPayload>());
        let updated = tokio::task::spawn_blocking(move || hash_part(hasher, &part));
        self.tail = Tail::Flying(tokio::spawn(async move {
            let (written, updated) = futures::join!(written, updated);
            written.map_err(|source| WriteBlobError::Backend { source })?;
            updated.map_err(|_panic| WriteBlobError::Broken)
        }));
    }

    /// Writes what is left and returns the digest of all bytes.
    async fn finish(&mut self) -> Result<Digest, WriteBlobError> {
        self.settle().await?;
        if self.gathered_len > 0 {
            self.launch();
            self.settle().await?;
        }
        match mem::replace(&mut self.tail, Tail::Broken) {
            Tail::Settled(hasher) => Ok(hasher.finish()),
            Tail::Flying(_) | Tail::Broken => Err(WriteBlobError::Broken),
        }
    }

    /// Makes the bytes an object, first under the upload's name, then under its own.
    async fn publish(&mut self, target: &ObjectPath) -> Result<(), object_store::Error> {
        self.parts.complete().await?;
        let renamed = self.objects.rename(&self.location, target).await;
        if renamed.is_err() {
            // The first cause is the one to tell; what stays is removed at the next start.
            drop(self.objects.delete(&self.location).await);
        }
        renamed
    }

    async fn abort(&mut self) {
        if let Err(cause) = self.parts.abort().await {
            tracing::debug!(error = %cause, "an upload could not be removed at once");
        }
    }
}

#[async_trait]
impl BlobUpload for ObjectUpload {
    fn received_len(&self) -> u64 {
        self.received_len
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), WriteBlobError> {
        if self.gathered_len >= self.part_len {
            self.settle().await?;
            self.launch();
        }
        if matches!(self.tail, Tail::Broken) {
            return Err(WriteBlobError::Broken);
        }
        self.received_len += bytes.len() as u64;
        self.gathered_len += bytes.len();
        if !bytes.is_empty() {
            self.gathered.push(bytes);
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>, digest: &Digest) -> Result<u64, CommitUploadError> {
        let digest = *digest;
        let failed = |source| CommitUploadError::Write { digest, source };
        let actual = match self.finish().await {
            Ok(actual) => actual,
            Err(source) => {
                self.abort().await;
                return Err(failed(source));
            }
        };
        if actual != digest {
            self.abort().await;
            let (expected, actual_len) = (digest, self.received_len);
            return Err(CommitUploadError::Mismatch {
                expected,
                actual,
                actual_len,
            });
        }
        let published = self.publish(&super::blob_location(&digest)).await;
        published.map_err(|source| failed(WriteBlobError::Backend { source }))?;
        Ok(self.received_len)
    }

    async fn discard(mut self: Box<Self>) {
        self.abort().await;
    }
}

fn hash_part(mut hasher: DigestHasher, part: &[Bytes]) -> DigestHasher {
    for piece in part {
        hasher.update(piece);
    }
    hasher
}
