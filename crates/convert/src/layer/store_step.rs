//! Fifth step: the frames are written in the order of the tar, and the table of them is made.

use std::fs::File;
use std::io::{self, Write};

use image_format::{ChunkDescriptor, ChunkTable, LayerBlobWriter, StoredChunk, WriteBlobError};
use oci::{Digest, DigestHasher};
use tempfile::{NamedTempFile, TempPath};
use tokio_util::sync::CancellationToken;

use super::compress_step::ChunkPlace;
use super::handover::{Giver, Taker};
use super::{LayerError, StepEnd};
use crate::work_dir::WorkDir;

/// The file of a stored layer; removed when it is dropped.
#[derive(Debug)]
pub(super) struct LayerFile(NamedTempFile);

impl LayerFile {
    pub(super) fn new_in(work_dir: &WorkDir) -> Result<Self, LayerError> {
        let file = work_dir.new_file();
        file.map(Self).map_err(|source| LayerError::Store {
            path: work_dir.path().to_owned(),
            source: source.into(),
        })
    }

    pub(super) fn file(&self) -> &File {
        self.0.as_file()
    }

    /// Puts the file's name before an error.
    pub(super) fn failed(&self, source: impl Into<WriteBlobError>) -> LayerError {
        LayerError::Store {
            path: self.0.path().to_owned(),
            source: source.into(),
        }
    }

    /// Closes the file and keeps its name.
    pub(super) fn into_path(self) -> TempPath {
        self.0.into_temp_path()
    }
}

/// What was written.
#[derive(Debug)]
pub(super) struct WrittenLayer {
    pub(super) digest: Digest,
    pub(super) len: u64,
    pub(super) table: ChunkTable,
}

/// Writes the stored layer into `file` and tells `proof` of each chunk once it is written.
///
/// # Errors
///
/// [`LayerError::Store`], if the file cannot be written. The layer's conversion is then stopped: nothing
/// that is still to come can help.
pub(super) fn store(
    file: &LayerFile,
    diff_id: Digest,
    chunks: &Taker<ChunkPlace>,
    proof: Giver<ChunkDescriptor>,
    stop: &CancellationToken,
) -> Result<WrittenLayer, StepEnd> {
    let failed = |error: WriteBlobError| {
        stop.cancel();
        file.failed(error)
    };
    let mut blob = LayerBlobWriter::new(HashingFile::new(file.file()));
    let mut next = Place::default();
    while let Some(place) = chunks.take()? {
        let chunk = place.recv().map_err(|_gone| StepEnd::Stopped)?;
        blob.write_chunk(&chunk).map_err(failed)?;
        proof.give(next.take(&chunk))?;
    }
    proof.finish()?;
    let (written, table) = blob.finish(diff_id).map_err(failed)?;
    let (digest, len) = (written.hasher.finish(), written.len);
    Ok(WrittenLayer { digest, len, table })
}

/// Where the next chunk lies.
#[derive(Debug, Default)]
struct Place {
    index: u32,
    tar_offset: u64,
    stored_offset: u64,
}

impl Place {
    /// Describes `chunk`, which lies here, and moves on behind it.
    fn take(&mut self, chunk: &StoredChunk) -> ChunkDescriptor {
        let tar_end = self.tar_offset + u64::from(chunk.tar_len);
        let stored_end = self.stored_offset + chunk.frame.len() as u64;
        let descriptor = ChunkDescriptor {
            index: self.index,
            tar_range: self.tar_offset..tar_end,
            stored_range: self.stored_offset..stored_end,
            digest: chunk.digest,
        };
        *self = Self {
            index: self.index + 1,
            tar_offset: tar_end,
            stored_offset: stored_end,
        };
        descriptor
    }
}

/// Takes the digest of what goes into the file.
#[derive(Debug)]
struct HashingFile<'a> {
    file: &'a File,
    hasher: DigestHasher,
    len: u64,
}

impl<'a> HashingFile<'a> {
    fn new(file: &'a File) -> Self {
        Self {
            file,
            hasher: DigestHasher::new(),
            len: 0,
        }
    }
}

impl Write for HashingFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.file.write(bytes)?;
        self.hasher.update(&bytes[..len]);
        self.len += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
