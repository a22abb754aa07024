//! An image layout: a directory of blobs and an index, as OCI defines it.
//!
//! ```text
//! oci-layout            {"imageLayoutVersion":"1.0.0"}
//! index.json            the manifests, tagged by an annotation
//! blobs/sha256/<hex>    every blob, manifests too
//! ```
//!
//! # Invariants
//!
//! 1. A blob is renamed into place after its digest was checked and its bytes were synced.
//! 2. `index.json` is replaced as a whole: a crash leaves the old or the new one.
//!
//! # Concurrency
//!
//! Any number of readers and writers of blobs. One writer of tags at a time: the last one wins.
//! Every function blocks; async callers use a blocking thread.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;

use crate::{Descriptor, Digest, DigestHasher, ImageIndex, MANIFEST_LEN_MAX, Manifest};

mod error;
mod temporary_file;

pub use error::{FileError, OpenLayoutError, ReadLayoutError, WriteLayoutError};
use temporary_file::TemporaryFile;

/// The annotation of a descriptor in `index.json` that is its tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The version of the layout that this is.
const VERSION: &str = "1.0.0";

/// Bytes copied at once when a file is put.
const COPY_LEN: usize = 1 << 20;

/// An image layout on disk.
#[derive(Debug, Clone)]
pub struct OciLayout {
    directory: PathBuf,
}

impl OciLayout {
    /// Opens an existing layout.
    ///
    /// # Errors
    ///
    /// [`OpenLayoutError`] if `directory` is no layout, or of another version.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, OpenLayoutError> {
        let directory = directory.into();
        let path = directory.join("oci-layout");
        let text = match read_limited(&path, MANIFEST_LEN_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenLayoutError::Absent { directory });
            }
            text => text.map_err(FileError::of("read", &path))?,
        };
        let marker: Marker =
            serde_json::from_slice(&text).map_err(|source| OpenLayoutError::Json {
                path: path.clone(),
                source,
            })?;
        if marker.image_layout_version != VERSION {
            let actual = marker.image_layout_version;
            return Err(OpenLayoutError::Version { directory, actual });
        }
        Ok(Self { directory })
    }

    /// Opens a layout, or makes an empty one if there is none.
    ///
    /// # Errors
    ///
    /// [`OpenLayoutError`] if the directory cannot be made, or is a layout of another version.
    pub fn create(directory: impl Into<PathBuf>) -> Result<Self, OpenLayoutError> {
        let directory = directory.into();
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(FileError::of("create", &blobs))?;
        let layout = Self { directory };
        if !layout.index_path().exists() {
            layout.replace("index.json", &ImageIndex::new(Vec::new()).to_json())?;
        }
        // Written last: it is what makes the directory a layout.
        if !layout.directory.join("oci-layout").exists() {
            layout.replace("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Self::open(layout.directory)
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads the index.
    ///
    /// # Errors
    ///
    /// [`ReadLayoutError`].
    pub fn index(&self) -> Result<ImageIndex, ReadLayoutError> {
        let path = self.index_path();
        let text = read_limited(&path, MANIFEST_LEN_MAX).map_err(FileError::of("read", &path))?;
        match Manifest::parse(None, &text) {
            Ok(Manifest::Index(index)) => Ok(index),
            Ok(Manifest::Image(_)) => Err(ReadLayoutError::NotAnIndex { path }),
            Err(source) => Err(ReadLayoutError::Index { path, source }),
        }
    }

    /// Returns what `tag` points at; `None` if there is no such tag.
    ///
    /// # Errors
    ///
    /// [`ReadLayoutError`] if the index cannot be read.
    pub fn find_tag(&self, tag: &str) -> Result<Option<Descriptor>, ReadLayoutError> {
        let manifests = self.index()?.manifests;
        Ok(manifests
            .into_iter()
            .find(|descriptor| has_tag(descriptor, tag)))
    }

    /// Returns where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.to_hex())
    }

    /// Reads a whole blob of at most `limit_len` bytes and checks its digest.
    ///
    /// # Errors
    ///
    /// [`ReadLayoutError`], also if there is no such blob.
    pub fn read_blob(&self, blob: &Descriptor, limit_len: u64) -> Result<Bytes, ReadLayoutError> {
        let (digest, path) = (blob.digest, self.blob_path(&blob.digest));
        if blob.size > limit_len {
            return Err(ReadLayoutError::TooLarge {
                digest,
                size: blob.size,
                limit_len,
            });
        }
        let bytes = match read_limited(&path, blob.size.saturating_add(1)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReadLayoutError::Absent {
                    digest,
                    directory: self.directory.clone(),
                });
            }
            bytes => bytes.map_err(FileError::of("read", &path))?,
        };
        let actual = Digest::of(&bytes);
        if bytes.len() as u64 != blob.size || actual != digest {
            return Err(ReadLayoutError::Mismatch {
                path,
                expected: digest,
                actual,
            });
        }
        Ok(Bytes::from(bytes))
    }

    /// Puts a blob from memory and returns its digest. Safe to call twice.
    ///
    /// # Errors
    ///
    /// [`WriteLayoutError`].
    pub fn put_blob_bytes(&self, bytes: &[u8]) -> Result<Digest, WriteLayoutError> {
        let digest = Digest::of(bytes);
        let path = self.blob_path(&digest);
        if !holds(&path, bytes.len() as u64) {
            let mut temporary = TemporaryFile::create(&self.directory)?;
            temporary.append(bytes)?;
            temporary.persist(&path)?;
        }
        Ok(digest)
    }

    /// Puts a copy of the file at `source` as the blob `digest` and returns its length. Safe to
    /// call twice.
    ///
    /// # Errors
    ///
    /// [`WriteLayoutError`], also if the file has another digest.
    pub fn put_blob_file(&self, digest: &Digest, source: &Path) -> Result<u64, WriteLayoutError> {
        let mut from = File::open(source).map_err(FileError::of("open", source))?;
        let mut temporary = TemporaryFile::create(&self.directory)?;
        let (mut hasher, mut len) = (DigestHasher::new(), 0);
        let mut buffer = vec![0; COPY_LEN];
        loop {
            let read = match from.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(FileError::of("read", source))?,
            };
            let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
                break;
            };
            hasher.update(piece);
            temporary.append(piece)?;
            len += piece.len() as u64;
        }
        let (expected, actual) = (*digest, hasher.finish());
        if actual != expected {
            let path = source.to_owned();
            return Err(WriteLayoutError::DigestMismatch {
                path,
                expected,
                actual,
            });
        }
        temporary.persist(&self.blob_path(digest))?;
        Ok(len)
    }

    /// Points `tag` at a manifest that was put before. The tag's earlier manifest stays as a blob.
    ///
    /// # Errors
    ///
    /// [`WriteLayoutError`].
    pub fn set_tag(&self, tag: &str, mut manifest: Descriptor) -> Result<(), WriteLayoutError> {
        let mut index = self.index()?;
        manifest
            .annotations
            .insert(REF_NAME.to_owned(), tag.to_owned());
        index
            .manifests
            .retain(|descriptor| !has_tag(descriptor, tag));
        index.manifests.push(manifest);
        Ok(self.replace("index.json", &index.to_json())?)
    }

    fn index_path(&self) -> PathBuf {
        self.directory.join("index.json")
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let mut temporary = TemporaryFile::create(&self.directory)?;
        temporary.append(bytes)?;
        temporary.persist(&self.directory.join(name))
    }
}

/// The content of `oci-layout`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// Says whether a blob is there. Its length tells a blob from what a broken tool left.
fn holds(path: &Path, len: u64) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == len)
}

fn has_tag(descriptor: &Descriptor, tag: &str) -> bool {
    descriptor
        .annotations
        .get(REF_NAME)
        .is_some_and(|name| name == tag)
}

/// Reads a file, but no more than `limit_len` bytes of it.
fn read_limited(path: &Path, limit_len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit_len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
