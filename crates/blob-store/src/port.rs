//! The port: what every place for blobs can do.

use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use oci::Digest;

use crate::{BlobContent, CommitUploadError, ReadBlobError, WriteBlobError};

/// A place where blobs are kept.
#[async_trait]
pub trait BlobStore: Send + Sync + Debug {
    /// Returns the length of the blob in bytes, `None` if there is no such blob.
    ///
    /// # Errors
    ///
    /// [`ReadBlobError`] if the store could not tell.
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, ReadBlobError>;

    /// Opens the blob, or the part of it in `range`, which must lie within the blob and not be
    /// empty. `None` if there is no such blob.
    ///
    /// # Errors
    ///
    /// [`ReadBlobError`] if the store could not tell, or the range is outside.
    async fn read(
        &self,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<BlobContent>, ReadBlobError>;

    /// Begins to take the bytes of a blob whose digest is not known yet.
    ///
    /// # Errors
    ///
    /// [`WriteBlobError`] if there is no room, or the store failed.
    async fn begin_upload(&self) -> Result<Box<dyn BlobUpload>, WriteBlobError>;

    /// Stores the file at `path` as the blob `digest` and returns its length.
    ///
    /// The caller has computed the digest from the file, and does not write to it any more: a store
    /// on the same disk may keep the very file. The name `path` stays the caller's. Storing a blob
    /// that is there already is fine.
    ///
    /// # Errors
    ///
    /// [`CommitUploadError`] if the blob is not stored.
    async fn put_file(&self, digest: &Digest, path: &Path) -> Result<u64, CommitUploadError>;

    /// Forgets the blob. Readers that have it open may read on. No error if there is no such blob.
    ///
    /// # Errors
    ///
    /// [`WriteBlobError`] if the blob may still be there.
    async fn delete(&self, digest: &Digest) -> Result<(), WriteBlobError>;

    /// Stores `bytes` as the blob `digest`. Storing a blob that is there already is fine.
    ///
    /// # Errors
    ///
    /// [`CommitUploadError`] if the bytes have another digest, or were not stored.
    async fn put_bytes(&self, digest: &Digest, bytes: Bytes) -> Result<(), CommitUploadError> {
        let digest = *digest;
        let failed = |source| CommitUploadError::Write { digest, source };
        let mut upload = self.begin_upload().await.map_err(failed)?;
        upload.write(bytes).await.map_err(failed)?;
        upload.commit(&digest).await?;
        Ok(())
    }
}

/// The bytes of a blob on their way in. Dropping it frees what they took, some time later.
///
/// A call whose future is dropped half-way loses nothing: the upload can go on.
#[async_trait]
pub trait BlobUpload: Send + Debug {
    /// Returns how many bytes were taken so far.
    fn received_len(&self) -> u64;

    /// Takes the next bytes. They may be written later: a failure may show at the next call.
    ///
    /// # Errors
    ///
    /// [`WriteBlobError`] if bytes were lost; the upload cannot go on then.
    async fn write(&mut self, bytes: Bytes) -> Result<(), WriteBlobError>;

    /// Makes the bytes the blob `digest` and returns their count. Once this has returned, the blob
    /// is there and stays, whatever happens to the process.
    ///
    /// # Errors
    ///
    /// [`CommitUploadError`] if the bytes have another digest, or could not be stored. What they
    /// took is freed.
    async fn commit(self: Box<Self>, digest: &Digest) -> Result<u64, CommitUploadError>;

    /// Gives the bytes up. What they took is freed when this returns.
    async fn discard(self: Box<Self>);
}
