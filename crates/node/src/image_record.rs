//! What the node remembers of one prepared image.
//!
//! The record is the last file written of an image's directory: if it is there, all is.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use oci::{Descriptor, Digest, ImageReference, RegistryHost, RepositoryName};
use serde::{Deserialize, Serialize};

/// How an image's data comes to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// Chunk by chunk, as it is read.
    Accelerated,
    /// Whole, before the start.
    Plain,
}

/// What the node remembers of one prepared image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// What it was asked for by.
    pub reference: String,
    /// Where its blobs are.
    pub registry: RegistryHost,
    /// Where its blobs are.
    pub repository: RepositoryName,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Accelerated or plain.
    pub kind: ImageKind,
    /// The layers, lowest first.
    pub layers: Vec<LayerRecord>,
}

/// One layer of a prepared image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Digest of the tar.
    pub diff_id: Digest,
    /// Length of the tar in bytes.
    pub tar_len: u64,
    /// The layer as it is stored in the registry.
    pub stored: Descriptor,
    /// Its chunk table, if it is loaded chunk by chunk.
    pub chunk_table: Option<Descriptor>,
}

impl ImageRecord {
    /// Reads the record of the image in `directory`. `None`: it was not prepared to the end.
    ///
    /// # Errors
    ///
    /// The operating system's error, or `InvalidData` if the record cannot be understood.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read(record_path(directory)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the record, after all that it speaks of.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        write_atomically(&record_path(directory), &serde_json::to_vec_pretty(self)?)
    }

    /// The reference by which the image's own registry knows it for ever.
    pub fn pinned(&self) -> ImageReference {
        ImageReference {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            selector: oci::Selector::Digest(self.manifest),
        }
    }
}

fn record_path(directory: &Path) -> PathBuf {
    directory.join("image.json")
}

/// Writes a file whole or not at all, and synced.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    fs::File::open(directory)?.sync_all()
}
