//! A repository of this registry as the source and the target of a conversion.

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use catalog::TaskRecord;
use convert::{
    BlobStream, BoxError, ImageSource, ImageTarget, SourceError, SourceManifest, TargetError,
};
use futures::StreamExt;
use oci::{Descriptor, Digest, Selector};

use crate::content::{Content, ReadContentError};
use crate::manifest_push::ManifestPush;

/// The repository of a task, read at the task's source and written at its accelerated tag.
#[derive(Debug)]
pub(super) struct RepositorySide {
    pub(super) content: Content,
    pub(super) task: TaskRecord,
}

impl RepositorySide {
    fn subject(&self, kind: &str, digest: &Digest) -> String {
        format!("{kind} {digest} of {}", self.task.repository)
    }

    fn not_stored(
        &self,
        kind: &str,
        digest: &Digest,
    ) -> impl FnOnce(BoxError) -> TargetError + use<> {
        let subject = self.subject(kind, digest);
        move |source| TargetError { subject, source }
    }

    async fn read_manifest(
        &self,
        digest: &Digest,
    ) -> Result<Option<SourceManifest>, ReadContentError> {
        let selector = Selector::Digest(*digest);
        let found = self
            .content
            .catalog
            .manifest(&self.task.repository, &selector)
            .await?;
        let Some(record) = found else { return Ok(None) };
        let body = self.content.manifest_body(digest).await?;
        let descriptor = Descriptor::new(record.media_type, record.digest, record.size);
        Ok(Some(SourceManifest { descriptor, body }))
    }
}

#[async_trait]
impl ImageSource for RepositorySide {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<SourceManifest, SourceError> {
        let digest = digest.unwrap_or(&self.task.source);
        let subject = self.subject("manifest", digest);
        match self.read_manifest(digest).await {
            Ok(Some(manifest)) => Ok(manifest),
            Ok(None) => Err(SourceError::Absent { subject }),
            Err(cause) => Err(SourceError::Read {
                subject,
                source: cause.into(),
            }),
        }
    }

    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, SourceError> {
        let subject = self.subject("blob", &blob.digest);
        let content = match self
            .content
            .open_blob(&self.task.repository, &blob.digest)
            .await
        {
            Ok(Some(content)) => content,
            Ok(None) => return Err(SourceError::Absent { subject }),
            Err(cause) => {
                return Err(SourceError::Read {
                    subject,
                    source: cause.into(),
                });
            }
        };
        let failed = move |cause: blob_store::ReadBlobError| SourceError::Read {
            subject: subject.clone(),
            source: cause.into(),
        };
        Ok(content
            .stream
            .map(move |piece| piece.map_err(&failed))
            .boxed())
    }
}

#[async_trait]
impl ImageTarget for RepositorySide {
    async fn has_blob(&self, digest: &Digest) -> Result<bool, TargetError> {
        let found = self.content.blob_size(&self.task.repository, digest).await;
        let found = found.map_err(|cause| self.not_stored("blob", digest)(cause.into()))?;
        Ok(found.is_some())
    }

    async fn put_blob_file(&self, blob: &Descriptor, path: &Path) -> Result<(), TargetError> {
        let put = self
            .content
            .push_file(&self.task.repository, &blob.digest, path)
            .await;
        put.map_err(|cause| self.not_stored("blob", &blob.digest)(cause.into()))?;
        Ok(())
    }

    async fn put_blob_bytes(&self, blob: &Descriptor, bytes: Bytes) -> Result<(), TargetError> {
        let put = self
            .content
            .push_bytes(&self.task.repository, &blob.digest, bytes)
            .await;
        put.map_err(|cause| self.not_stored("blob", &blob.digest)(cause.into()))?;
        Ok(())
    }

    async fn put_manifest(&self, manifest: &Descriptor, body: Bytes) -> Result<(), TargetError> {
        let failed = self.not_stored("manifest", &manifest.digest);
        let selector = Selector::Digest(manifest.digest);
        let push = match ManifestPush::parse(&selector, Some(&manifest.media_type), body) {
            Ok(push) => push,
            Err(cause) => return Err(failed(cause.into())),
        };
        let pushed = self
            .content
            .push_manifest(&self.task.repository, push)
            .await;
        pushed.map_err(|cause| failed(cause.into()))
    }

    async fn tag(&self, manifest: &Descriptor, _body: Bytes) -> Result<(), TargetError> {
        let finished = self
            .content
            .catalog
            .finish_task(&self.task, &manifest.digest)
            .await;
        finished
            .map_err(|cause| self.not_stored("accelerated tag of", &manifest.digest)(cause.into()))
    }
}
