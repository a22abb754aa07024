//! Blobs in anything that the `object_store` crate can speak to.
//!
//! ```text
//! DIRECTORY/
//! ├── FORMAT                       the number of this layout
//! ├── uploads/                     bytes on their way in; emptied when the store is opened
//! └── blobs/sha256/4e/4e67ea…      one blob, named by its digest
//! ```
//!
//! # Concurrency
//!
//! Any number of readers and writers in one process. Two writers of one blob write the same bytes;
//! the later one replaces the earlier one's file, which heals a file that the disk has spoiled.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt};
use tokio::io::AsyncReadExt;
use uuid::Uuid;

use oci::Digest;

use crate::content::stream_file;
use crate::{
    BlobContent, BlobStore, BlobUpload, CommitUploadError, OpenStoreError, ReadBlobError,
    WriteBlobError,
};

mod directory;
mod upload;

use upload::ObjectUpload;

/// Bytes handed to a local disk at a time. Twice that is held for each upload.
const DISK_PART_LEN: usize = 1 << 20;

/// Bytes handed to any other backend at a time: S3 takes no part under 5 MiB but the last.
const REMOTE_PART_LEN: usize = 8 << 20;

/// Blobs in an object store.
#[derive(Debug, Clone)]
pub struct ObjectBlobStore {
    objects: Arc<dyn ObjectStore>,
    part_len: usize,
    /// The directory, if the objects are files on a local disk.
    disk: Option<PathBuf>,
}

impl ObjectBlobStore {
    /// Opens the store in `directory`, which is made if it is absent. Uploads that an earlier
    /// process left are removed: only one process may have the directory open.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError`] if the directory cannot be made or read, or has another format.
    pub fn on_disk(directory: &Path) -> Result<Self, OpenStoreError> {
        directory::prepare(directory)?;
        let files = LocalFileSystem::new_with_prefix(directory).map_err(|source| {
            OpenStoreError::Backend {
                path: directory.to_owned(),
                source,
            }
        })?;
        Ok(Self {
            objects: Arc::new(files.with_fsync(true)),
            part_len: DISK_PART_LEN,
            disk: Some(directory.to_owned()),
        })
    }

    /// Keeps blobs in `objects`, which must make an object visible only when it is whole.
    pub fn new(objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            objects,
            part_len: REMOTE_PART_LEN,
            disk: None,
        }
    }

    async fn open(
        &self,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<BlobContent, object_store::Error> {
        let range = range.map(GetRange::Bounded);
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        let found = self
            .objects
            .get_opts(&blob_location(digest), options)
            .await?;
        let digest = *digest;
        let stream = match found.payload {
            GetResultPayload::File(file, _) => stream_file(file, found.range.clone(), digest),
            GetResultPayload::Stream(stream) => stream
                .map(move |piece| piece.map_err(|source| ReadBlobError::Backend { digest, source }))
                .boxed(),
        };
        Ok(BlobContent {
            size: found.meta.size,
            range: found.range,
            stream,
        })
    }

    /// Copies the file into the store, hashing it on its way.
    async fn copy_file(&self, digest: &Digest, path: &Path) -> Result<u64, CommitUploadError> {
        let digest = *digest;
        let failed = |source| CommitUploadError::Write { digest, source };
        let unreadable = |source| {
            failed(WriteBlobError::Disk {
                path: path.to_owned(),
                source,
            })
        };
        let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let mut upload = self.begin_upload().await.map_err(failed)?;
        loop {
            let mut piece = bytes::BytesMut::with_capacity(self.part_len);
            if file.read_buf(&mut piece).await.map_err(unreadable)? == 0 {
                return upload.commit(&digest).await;
            }
            upload.write(piece.freeze()).await.map_err(failed)?;
        }
    }
}

#[async_trait]
impl BlobStore for ObjectBlobStore {
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, ReadBlobError> {
        let found = self.objects.head(&blob_location(digest)).await;
        absent_is_none(found.map(|meta| meta.size), digest)
    }

    async fn read(
        &self,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<BlobContent>, ReadBlobError> {
        absent_is_none(self.open(digest, range).await, digest)
    }

    async fn begin_upload(&self) -> Result<Box<dyn BlobUpload>, WriteBlobError> {
        let location = ObjectPath::from(format!("uploads/{}", Uuid::new_v4()));
        let started = self.objects.put_multipart(&location).await;
        let parts = started.map_err(|source| WriteBlobError::Backend { source })?;
        let objects = Arc::clone(&self.objects);
        Ok(Box::new(ObjectUpload::new(
            objects,
            parts,
            location,
            self.part_len,
        )))
    }

    async fn put_file(&self, digest: &Digest, path: &Path) -> Result<u64, CommitUploadError> {
        let Some(directory) = self.disk.clone() else {
            return self.copy_file(digest, path).await;
        };
        let (source, target) = (path.to_owned(), blob_location(digest));
        let adopted = tokio::task::spawn_blocking(move || {
            directory::adopt_file(&directory, &source, target.as_ref())
        });
        match adopted.await.map_err(io::Error::other).flatten() {
            Ok(len) => Ok(len),
            Err(cause) if cause.kind() == io::ErrorKind::CrossesDevices => {
                self.copy_file(digest, path).await
            }
            Err(source) => Err(CommitUploadError::Write {
                digest: *digest,
                source: WriteBlobError::Disk {
                    path: path.to_owned(),
                    source,
                },
            }),
        }
    }

    async fn delete(&self, digest: &Digest) -> Result<(), WriteBlobError> {
        match self.objects.delete(&blob_location(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(WriteBlobError::Backend { source }),
        }
    }
}

fn blob_location(digest: &Digest) -> ObjectPath {
    let hex = digest.to_hex();
    let shard: String = hex.chars().take(2).collect();
    ObjectPath::from(format!("blobs/sha256/{shard}/{hex}"))
}

fn absent_is_none<T>(
    found: Result<T, object_store::Error>,
    digest: &Digest,
) -> Result<Option<T>, ReadBlobError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(source) => Err(ReadBlobError::Backend {
            digest: *digest,
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
