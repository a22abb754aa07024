//! Blobs and manifests: their bytes in the store and their rows in the catalog, kept in step.
//!
//! # Invariants
//!
//! 1. The bytes are stored before the catalog names them.
//! 2. If the catalog then refuses, the bytes are removed again, unless the catalog names them
//!    already. Both happen under one lock for each digest, so that nobody can come to rely on bytes
//!    that are being removed.

use std::path::Path;
use std::sync::Arc;

use blob_store::{BlobContent, BlobStore, BlobUpload, CommitUploadError, ReadBlobError};
use bytes::{Bytes, BytesMut};
use catalog::{Catalog, CatalogError};
use futures::TryStreamExt;
use oci::{Digest, RepositoryName};
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};

use crate::manifest_push::{ManifestPush, PutManifestError};

/// Locks for digests. Two digests that share one wait for each other's sync, some milliseconds.
const LOCK_COUNT: usize = 64;

/// Blobs and manifests. Clones are handles to the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) catalog: Catalog,
    locks: Arc<[Mutex<()>; LOCK_COUNT]>,
}

impl Content {
    pub(crate) fn new(store: Arc<dyn BlobStore>, catalog: Catalog) -> Self {
        let locks = Arc::new(std::array::from_fn(|_| Mutex::new(())));
        Self {
            store,
            catalog,
            locks,
        }
    }

    /// Makes what was uploaded a blob of the repository.
    pub(crate) async fn push_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        upload: Box<dyn BlobUpload>,
    ) -> Result<u64, PushBlobError> {
        let _lock = self.lock(digest).await;
        let size = upload.commit(digest).await?;
        self.link_or_remove(repository, digest, size).await
    }

    /// Makes a file of this machine, whose digest is known, a blob of the repository.
    pub(crate) async fn push_file(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        path: &Path,
    ) -> Result<u64, PushBlobError> {
        let _lock = self.lock(digest).await;
        let size = self.store.put_file(digest, path).await?;
        self.link_or_remove(repository, digest, size).await
    }

    /// Makes bytes a blob of the repository.
    pub(crate) async fn push_bytes(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<u64, PushBlobError> {
        let _lock = self.lock(digest).await;
        let size = bytes.len() as u64;
        self.store.put_bytes(digest, bytes).await?;
        self.link_or_remove(repository, digest, size).await
    }

    /// Lets `target` have a blob of `source` too, and says whether `source` has it.
    pub(crate) async fn mount_blob(
        &self,
        source: &RepositoryName,
        target: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, PushBlobError> {
        let _lock = self.lock(digest).await;
        let Some(size) = self.blob_size(source, digest).await? else {
            return Ok(false);
        };
        self.catalog.link_blob(target, digest, size).await?;
        Ok(true)
    }

    /// Accepts a manifest: its body first, then its row and its tags.
    pub(crate) async fn push_manifest(
        &self,
        repository: &RepositoryName,
        push: ManifestPush,
    ) -> Result<(), PutManifestError> {
        let (body, pushed) = push.into_parts();
        let digest = pushed.digest;
        let _lock = self.lock(&digest).await;
        self.store
            .put_bytes(&digest, body)
            .await
            .map_err(|source| PutManifestError::Store {
                digest,
                source: Box::new(source),
            })?;
        if let Err(source) = self.catalog.push_manifest(repository, &pushed).await {
            self.remove_if_unknown(&digest).await;
            return Err(PutManifestError::Refused { digest, source });
        }
        Ok(())
    }

    /// Returns the length of a blob that the repository has and the store can read.
    pub(crate) async fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, ReadContentError> {
        if self.catalog.blob_size(repository, digest).await?.is_none() {
            return Ok(None);
        }
        // A blob that the disk has lost is absent: whoever hears so pushes it again.
        Ok(self.store.size(digest).await?)
    }

    /// Opens a blob of the repository.
    pub(crate) async fn open_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<BlobContent>, ReadContentError> {
        if self.catalog.blob_size(repository, digest).await?.is_none() {
            return Ok(None);
        }
        Ok(self.store.read(digest, None).await?)
    }

    /// Reads the body of a manifest that the catalog has named.
    pub(crate) async fn manifest_body(&self, digest: &Digest) -> Result<Bytes, ReadContentError> {
        let found = self.store.read(digest, None).await?;
        let content = found.ok_or(ReadContentError::Lost { digest: *digest })?;
        let body = content
            .stream
            .try_fold(BytesMut::new(), async |mut body, piece| {
                body.extend_from_slice(&piece);
                Ok(body)
            });
        Ok(body.await?.freeze())
    }

    async fn lock(&self, digest: &Digest) -> MutexGuard<'_, ()> {
        let index = usize::from(digest.as_bytes()[0]) % LOCK_COUNT;
        self.locks[index].lock().await
    }

    async fn link_or_remove(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<u64, PushBlobError> {
        if let Err(cause) = self.catalog.link_blob(repository, digest, size).await {
            self.remove_if_unknown(digest).await;
            return Err(cause.into());
        }
        Ok(size)
    }

    /// Removes bytes that were just stored and that nothing names. Called under the digest's lock.
    async fn remove_if_unknown(&self, digest: &Digest) {
        // If the catalog cannot tell, somebody may rely on the bytes: they stay.
        if self.catalog.knows_content(digest).await.unwrap_or(true) {
            return;
        }
        if let Err(cause) = self.store.delete(digest).await {
            tracing::warn!(blob.digest = %digest, error = %cause, "a refused blob was not removed");
        }
    }
}

/// Why a blob was not accepted.
#[derive(Debug, Error)]
pub(crate) enum PushBlobError {
    /// The bytes were wrong or could not be stored.
    #[error(transparent)]
    Commit(#[from] CommitUploadError),
    /// The catalog did not take it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It could not be told whether it is there.
    #[error(transparent)]
    Read(#[from] ReadContentError),
}

/// Why content could not be read.
#[derive(Debug, Error)]
pub(crate) enum ReadContentError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] ReadBlobError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The catalog names it and the store does not have it.
    #[error("content {digest} is lost: the catalog names it and the store does not have it")]
    Lost {
        /// The content.
        digest: Digest,
    },
}
