//! What can go wrong with a layout.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{Digest, ParseManifestError};

/// A file operation that failed.
#[derive(Debug, Error)]
#[error("cannot {action} {}", .path.display())]
pub struct FileError {
    /// What should have been done.
    pub action: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// What the operating system says.
    pub source: io::Error,
}

impl FileError {
    /// Makes the error of doing `action` to `path`.
    pub(super) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Why a directory cannot be used as a layout.
#[derive(Debug, Error)]
pub enum OpenLayoutError {
    /// There is no `oci-layout` file in it.
    #[error("{} is no OCI image layout: it has no file oci-layout", .directory.display())]
    Absent {
        /// The directory.
        directory: PathBuf,
    },
    /// The layout has a version that we do not know.
    #[error("{} is an OCI image layout of version {actual:?}, not 1.0.0", .directory.display())]
    Version {
        /// The directory.
        directory: PathBuf,
        /// Its version.
        actual: String,
    },
    /// The `oci-layout` file is not the JSON it should be.
    #[error("{} is not the JSON it should be", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why something was not read from a layout.
#[derive(Debug, Error)]
pub enum ReadLayoutError {
    /// The index is malformed.
    #[error("{} is not valid", .path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ParseManifestError,
    },
    /// The index is the manifest of one image.
    #[error("{} is not an image index", .path.display())]
    NotAnIndex {
        /// The file.
        path: PathBuf,
    },
    /// There is no such blob.
    #[error("{} has no blob {digest}", .directory.display())]
    Absent {
        /// The blob.
        digest: Digest,
        /// The layout.
        directory: PathBuf,
    },
    /// The blob is over what the caller takes.
    #[error("blob {digest} is {size} bytes, the limit is {limit_len}")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// The limit in bytes.
        limit_len: u64,
    },
    /// The file does not hold the blob that its name says.
    #[error("{} has digest {actual}, or another length, instead of {expected}", .path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The blob.
        expected: Digest,
        /// The digest of what was read.
        actual: Digest,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why something was not written to a layout.
#[derive(Debug, Error)]
pub enum WriteLayoutError {
    /// The file is not the blob that it was put as.
    #[error("{} has digest {actual} instead of {expected}", .path.display())]
    DigestMismatch {
        /// The file.
        path: PathBuf,
        /// The blob.
        expected: Digest,
        /// The digest of the file.
        actual: Digest,
    },
    /// The index, which has to be read first, was not.
    #[error(transparent)]
    Read(#[from] ReadLayoutError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}
