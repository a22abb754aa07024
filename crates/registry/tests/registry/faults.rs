//! Every write of the blob store fails once: the promises still hold.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::TaskState;
use async_trait::async_trait;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use blob_store::{
    BlobContent, BlobStore, BlobUpload, CommitUploadError, ObjectBlobStore, ReadBlobError,
    WriteBlobError,
};
use bytes::Bytes;
use oci::Digest;

use crate::support::{TestRegistry, image};

/// Writes that are left until one fails.
#[derive(Debug)]
struct Fuse(AtomicUsize);

impl Fuse {
    /// Fails the write that uses up the fuse; those before and after it go through.
    fn burn(&self) -> Result<(), WriteBlobError> {
        if self.0.fetch_sub(1, Ordering::SeqCst) != 0 {
            return Ok(());
        }
        let source = io::ErrorKind::StorageFull.into();
        Err(WriteBlobError::Disk {
            path: "injected".into(),
            source,
        })
    }
}

/// A store whose n-th write fails.
#[derive(Debug)]
struct FailsAt {
    store: ObjectBlobStore,
    fuse: Arc<Fuse>,
}

#[derive(Debug)]
struct FailsAtUpload {
    upload: Box<dyn BlobUpload>,
    fuse: Arc<Fuse>,
}

fn not_stored(digest: &Digest) -> impl FnOnce(WriteBlobError) -> CommitUploadError + use<> {
    let digest = *digest;
    move |source| CommitUploadError::Write { digest, source }
}

#[async_trait]
impl BlobStore for FailsAt {
    async fn size(&self, digest: &Digest) -> Result<Option<u64>, ReadBlobError> {
        self.store.size(digest).await
    }

    async fn read(
        &self,
        digest: &Digest,
        range: Option<Range<u64>>,
    ) -> Result<Option<BlobContent>, ReadBlobError> {
        self.store.read(digest, range).await
    }

    async fn begin_upload(&self) -> Result<Box<dyn BlobUpload>, WriteBlobError> {
        self.fuse.burn()?;
        let (upload, fuse) = (self.store.begin_upload().await?, Arc::clone(&self.fuse));
        Ok(Box::new(FailsAtUpload { upload, fuse }))
    }

    async fn put_file(&self, digest: &Digest, path: &Path) -> Result<u64, CommitUploadError> {
        self.fuse.burn().map_err(not_stored(digest))?;
        self.store.put_file(digest, path).await
    }

    async fn delete(&self, digest: &Digest) -> Result<(), WriteBlobError> {
        self.store.delete(digest).await
    }
}

#[async_trait]
impl BlobUpload for FailsAtUpload {
    fn received_len(&self) -> u64 {
        self.upload.received_len()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), WriteBlobError> {
        self.fuse.burn()?;
        self.upload.write(bytes).await
    }

    async fn commit(self: Box<Self>, digest: &Digest) -> Result<u64, CommitUploadError> {
        if let Err(cause) = self.fuse.burn() {
            self.upload.discard().await;
            return Err(not_stored(digest)(cause));
        }
        self.upload.commit(digest).await
    }

    async fn discard(self: Box<Self>) {
        self.upload.discard().await;
    }
}

async fn failing_at(write: usize) -> (TestRegistry, Arc<Fuse>) {
    let fuse = Arc::new(Fuse(AtomicUsize::new(write)));
    let burning = Arc::clone(&fuse);
    let registry = TestRegistry::with_store(|directory| {
        let store = ObjectBlobStore::on_disk(directory).unwrap();
        Arc::new(FailsAt {
            store,
            fuse: burning,
        })
    });
    (registry.await, fuse)
}

fn has_burnt(fuse: &Fuse) -> bool {
    fuse.0.load(Ordering::SeqCst) > usize::MAX / 2
}

#[tokio::test]
async fn a_push_that_fails_at_any_write_leaves_no_manifest_and_can_be_repeated() {
    let image = image(b"content");
    for write in 0.. {
        let (registry, fuse) = failing_at(write).await;
        let answer = registry.push_image("app", "1.0", &image).await;
        let found = registry.get("/v2/app/manifests/1.0").await;
        if !has_burnt(&fuse) {
            assert_eq!(
                (answer.status, found.status),
                (StatusCode::CREATED, StatusCode::OK)
            );
            assert!(
                write > 6,
                "a push of two blobs and a manifest has more than {write} writes"
            );
            break;
        }
        assert_eq!(
            answer.status,
            StatusCode::INSUFFICIENT_STORAGE,
            "write {write}"
        );
        assert_eq!(found.status, StatusCode::NOT_FOUND, "write {write}");
        assert_eq!(registry.upload_count(), 0, "write {write}");
        let again = registry.push_image("app", "1.0", &image).await;
        assert_eq!(again.status, StatusCode::CREATED, "write {write}");
        assert_eq!(
            registry.get("/v2/app/manifests/1.0").await.body,
            image.manifest.bytes
        );
    }
}

#[tokio::test]
async fn a_conversion_that_fails_at_any_write_sets_no_tag_and_can_be_retried() {
    let image = image(b"content");
    for write in 0.. {
        let (registry, fuse) = failing_at(usize::MAX / 2).await;
        registry.accelerate("app", r#"{"enabled":true}"#).await;
        registry.push_image("app", "1.0", &image).await;
        fuse.0.store(write, Ordering::SeqCst);
        let converter = registry.convert();
        let task = registry.settled_task().await;
        if !has_burnt(&fuse) {
            assert_eq!(task.state, TaskState::Succeeded);
            assert!(write > 6, "a conversion has more than {write} writes");
            converter.stop().await;
            break;
        }
        assert_eq!(task.state, TaskState::Failed, "write {write}");
        let tag = registry.get("/v2/app/manifests/1.0_accelerated").await;
        assert_eq!(tag.status, StatusCode::NOT_FOUND, "write {write}");
        let path = format!("/api/v1/tasks/{}/retry", task.id);
        registry.send(Method::POST, &path, &[], Body::empty()).await;
        let task = registry.settled_task().await;
        assert_eq!(
            (task.state, task.error),
            (TaskState::Succeeded, None),
            "write {write}"
        );
        converter.stop().await;
    }
}
