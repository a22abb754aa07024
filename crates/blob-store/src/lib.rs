//! Where blobs are kept, and the promises every backend keeps.
//!
//! A blob is named by its digest and never changes. [`BlobStore`] is the port; [`ObjectBlobStore`]
//! keeps blobs in anything that the `object_store` crate can speak to, a local directory first of
//! all.
//!
//! # Invariants
//!
//! 1. A blob is visible whole or not at all: its bytes were hashed on their way in, and it gets its
//!    name only after the hash matched and the bytes were synced.
//! 2. A blob that was stored survives the loss of the process, and on a local disk the loss of
//!    power.
//! 3. No method holds a whole blob in memory.
//!
//! # What is not here
//!
//! Which repository may read which blob (`catalog`), and any knowledge of images.

mod content;
mod error;
mod object_store_backend;
mod port;

#[cfg(any(test, feature = "conformance"))]
mod conformance;

pub use content::{BlobContent, BlobStream};
pub use error::{
    CommitUploadError, OpenStoreError, ReadBlobError, WriteBlobError, is_storage_full,
};
pub use object_store_backend::ObjectBlobStore;
pub use port::{BlobStore, BlobUpload};
