//! A reference in a registry as source or target.

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use oci::{ClientError, Descriptor, Digest, RepositoryClient, Selector};

use super::{BlobStream, ImageSource, ImageTarget, SourceError, SourceManifest, TargetError};

/// One tag or digest of a repository in a registry.
#[derive(Debug, Clone)]
pub struct RegistrySide {
    repository: RepositoryClient,
    selector: Selector,
}

impl RegistrySide {
    /// Names `selector` of `repository`. Nothing is asked yet.
    pub fn new(repository: RepositoryClient, selector: Selector) -> Self {
        Self {
            repository,
            selector,
        }
    }
}

#[async_trait]
impl ImageSource for RegistrySide {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<SourceManifest, SourceError> {
        let selector = digest.map_or_else(|| self.selector.clone(), |it| Selector::Digest(*it));
        let subject = format!("manifest {selector}");
        let fetched = self.repository.fetch_manifest(&selector).await;
        match fetched.map_err(|error| source_error(subject.clone(), error))? {
            Some(fetched) => Ok(SourceManifest {
                descriptor: fetched.descriptor(),
                body: fetched.body,
            }),
            None => Err(SourceError::Absent { subject }),
        }
    }

    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, SourceError> {
        let subject = format!("blob {}", blob.digest);
        let stream = self.repository.fetch_blob(blob).await;
        let stream = stream.map_err(|error| source_error(subject.clone(), error))?;
        let pieces =
            stream.map(move |piece| piece.map_err(|error| source_error(subject.clone(), error)));
        Ok(pieces.boxed())
    }
}

#[async_trait]
impl ImageTarget for RegistrySide {
    async fn has_blob(&self, digest: &Digest) -> Result<bool, TargetError> {
        let held = self.repository.has_blob(digest).await;
        Ok(held.map_err(|error| target_error(digest, error))?.is_some())
    }

    async fn put_blob_file(&self, blob: &Descriptor, path: &Path) -> Result<(), TargetError> {
        let pushed = self
            .repository
            .push_blob_file(&blob.digest, blob.size, path)
            .await;
        pushed.map_err(|error| target_error(&blob.digest, error))
    }

    async fn put_blob_bytes(&self, blob: &Descriptor, bytes: Bytes) -> Result<(), TargetError> {
        let pushed = self.repository.push_blob_bytes(blob.digest, bytes).await;
        pushed.map_err(|error| target_error(&blob.digest, error))
    }

    async fn put_manifest(&self, manifest: &Descriptor, body: Bytes) -> Result<(), TargetError> {
        let selector = Selector::Digest(manifest.digest);
        let put = self
            .repository
            .put_manifest(&selector, &manifest.media_type, body)
            .await;
        put.map(drop)
            .map_err(|error| target_error(&manifest.digest, error))
    }

    async fn tag(&self, manifest: &Descriptor, body: Bytes) -> Result<(), TargetError> {
        let put = self
            .repository
            .put_manifest(&self.selector, &manifest.media_type, body)
            .await;
        put.map(drop).map_err(|error| TargetError {
            subject: format!("tag {}", self.selector),
            source: error.into(),
        })
    }
}

fn source_error(subject: String, error: ClientError) -> SourceError {
    if error.is_not_found() {
        return SourceError::Absent { subject };
    }
    SourceError::Read {
        subject,
        source: error.into(),
    }
}

fn target_error(digest: &Digest, error: ClientError) -> TargetError {
    TargetError {
        subject: digest.to_string(),
        source: error.into(),
    }
}
