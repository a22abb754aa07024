//! Why a blob was not stored or not read.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use oci::Digest;
use thiserror::Error;

/// Why a directory could not become a blob store.
#[derive(Debug, Error)]
pub enum OpenStoreError {
    /// The directory, or one of its parts, could not be made or read.
    #[error("blob store {} could not be opened", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The directory was written by another version.
    #[error(
        "blob store {} has format {actual:?}, this program knows {known:?}",
        path.display()
    )]
    Format {
        /// The directory.
        path: PathBuf,
        /// What its `FORMAT` file says.
        actual: String,
        /// What this program writes.
        known: &'static str,
    },
    /// The backend did not take the directory.
    #[error("blob store {} could not be opened", path.display())]
    Backend {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: object_store::Error,
    },
}

/// Why a blob could not be read.
#[derive(Debug, Error)]
pub enum ReadBlobError {
    /// The backend failed.
    #[error("blob {digest} could not be read")]
    Backend {
        /// The blob.
        digest: Digest,
        /// The cause.
        source: object_store::Error,
    },
    /// The disk failed.
    #[error("blob {digest} could not be read")]
    Disk {
        /// The blob.
        digest: Digest,
        /// The cause.
        source: io::Error,
    },
}

/// Why bytes could not be stored.
#[derive(Debug, Error)]
pub enum WriteBlobError {
    /// The backend failed.
    #[error("blob could not be written to the store")]
    Backend {
        /// The cause.
        source: object_store::Error,
    },
    /// The disk failed.
    #[error("{} could not be written", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A write of this upload failed before, or its task ended: there is nothing to go on with.
    #[error("the upload was broken off by an earlier failure")]
    Broken,
}

/// Why an upload did not become a blob.
#[derive(Debug, Error)]
pub enum CommitUploadError {
    /// The bytes are not those that the digest names.
    #[error("the {actual_len} bytes have digest {actual}, not {expected}")]
    Mismatch {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
        /// How many bytes came.
        actual_len: u64,
    },
    /// The bytes could not be stored.
    #[error("blob {digest} could not be stored")]
    Write {
        /// The blob.
        digest: Digest,
        /// The cause.
        source: WriteBlobError,
    },
}

/// Says whether a full disk or an exhausted quota is among the causes of `error`.
pub fn is_storage_full(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref().map(io::Error::kind);
        if let Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) = kind {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_below_other_causes() {
        let full = |kind| WriteBlobError::Disk {
            path: "x".into(),
            source: io::Error::from(kind),
        };
        assert!(is_storage_full(&full(io::ErrorKind::StorageFull)));
        assert!(!is_storage_full(&full(io::ErrorKind::PermissionDenied)));
    }
}
