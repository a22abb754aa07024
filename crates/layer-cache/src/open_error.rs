//! Why a cache or a layer in it was not opened.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use image_format::DecodeTableError;
use oci::Digest;

use crate::cache::FORMAT;

/// Why a cache was not opened.
#[derive(Debug, Error)]
pub enum OpenCacheError {
    /// The directory or a file in it could not be used.
    #[error("cache directory {path} could not be opened")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is a cache, of a layout that this program does not know.
    #[error("{path} says `{found}`, this program reads `{wanted}`", wanted = FORMAT.trim_end())]
    Format {
        /// The file `FORMAT`.
        path: PathBuf,
        /// The beginning of what it says.
        found: String,
    },
    /// There are files in it, and no `FORMAT`.
    #[error("{path} is not empty and not a layer cache")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel did not tell which boot this is.
    #[error("boot id could not be read")]
    BootId {
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a layer was not opened.
#[derive(Debug, Error)]
pub enum OpenLayerError {
    /// The table is not the one that the manifest names.
    #[error("chunk table has digest {actual}, the manifest says {expected}")]
    OtherTable {
        /// What the manifest says.
        expected: Digest,
        /// What the bytes have.
        actual: Digest,
    },
    /// The table cannot be decoded.
    #[error("chunk table {digest} is not valid")]
    Table {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        source: DecodeTableError,
    },
    /// The cache file is longer than the tar: it is not this layer's.
    #[error("{path} is {actual_len} bytes long, the layer's tar is {expected_len}")]
    TarLen {
        /// The file.
        path: PathBuf,
        /// How long it is.
        actual_len: u64,
        /// How long the table says that it is.
        expected_len: u64,
    },
    /// A file of the layer could not be used.
    #[error("layer directory {path} could not be opened")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}
