//! Where an image comes from and where it goes: the two ports of the converter.
//!
//! # What is not here
//!
//! Retries: an implementation that can retry does so inside.

use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use oci::{Descriptor, Digest};
use thiserror::Error;

mod layout_side;
mod registry_side;

pub use layout_side::LayoutSide;
pub use registry_side::RegistrySide;

/// The typed cause that an implementation of a port hands on.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of a blob in order, in pieces of any length. Nothing about them was checked.
pub type BlobStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// Something that holds a source image.
#[async_trait]
pub trait ImageSource: Send + Sync {
    /// Fetches the manifest with `digest`, or the one that the source was opened for.
    ///
    /// The descriptor's media type is what the source says the body is. The converter checks the body
    /// against the digest itself.
    ///
    /// # Errors
    ///
    /// [`SourceError::Absent`] if there is none, [`SourceError::Read`] if that could not be told.
    async fn manifest(&self, digest: Option<&Digest>) -> Result<SourceManifest, SourceError>;

    /// Opens the blob that `blob` names, from its first byte.
    ///
    /// Dropping the stream ends the transfer. The converter checks length and digest itself.
    ///
    /// # Errors
    ///
    /// [`SourceError::Absent`] if there is none, [`SourceError::Read`] if that could not be told.
    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, SourceError>;
}

/// Something that takes an accelerated image.
///
/// Every method may be called again with the same content. A future that is dropped half-way leaves at
/// most content that nothing refers to.
#[async_trait]
pub trait ImageTarget: Send + Sync {
    /// Tells whether the blob is there already, so that it need not be put.
    ///
    /// # Errors
    ///
    /// [`TargetError`] if the target could not tell.
    async fn has_blob(&self, digest: &Digest) -> Result<bool, TargetError>;

    /// Stores the file at `path` as `blob`. The file stays the caller's.
    ///
    /// # Errors
    ///
    /// [`TargetError`] if the blob was not stored.
    async fn put_blob_file(&self, blob: &Descriptor, path: &Path) -> Result<(), TargetError>;

    /// Stores `bytes` as `blob`.
    ///
    /// # Errors
    ///
    /// [`TargetError`] if the blob was not stored.
    async fn put_blob_bytes(&self, blob: &Descriptor, bytes: Bytes) -> Result<(), TargetError>;

    /// Stores a manifest or an index under its digest. What it names was put before.
    ///
    /// # Errors
    ///
    /// [`TargetError`] if the manifest was not stored.
    async fn put_manifest(&self, manifest: &Descriptor, body: Bytes) -> Result<(), TargetError>;

    /// Makes the tag that the target was opened for name `manifest`: the last step, and the one that
    /// makes the image visible. `body` was already put by [`ImageTarget::put_manifest`].
    ///
    /// # Errors
    ///
    /// [`TargetError`] if the tag was not set.
    async fn tag(&self, manifest: &Descriptor, body: Bytes) -> Result<(), TargetError>;
}

/// A manifest or an index as the source gave it.
#[derive(Debug, Clone)]
pub struct SourceManifest {
    /// Media type, digest and length. Other fields are not looked at.
    pub descriptor: Descriptor,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// Why a source did not give something.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The source was asked and does not have it.
    #[error("{subject} does not exist")]
    Absent {
        /// What was asked for, with the place: "manifest latest of 127.0.0.1:5000/app".
        subject: String,
    },
    /// The source could not be asked, or broke off.
    #[error("{subject} could not be read")]
    Read {
        /// What was asked for, with the place.
        subject: String,
        /// The cause, as the implementation had it.
        source: BoxError,
    },
}

/// Why a target did not take something.
#[derive(Debug, Error)]
#[error("{subject} could not be stored")]
pub struct TargetError {
    /// What was put, with the place: "blob sha256:… in /srv/layout".
    pub subject: String,
    /// The cause, as the implementation had it.
    pub source: BoxError,
}
