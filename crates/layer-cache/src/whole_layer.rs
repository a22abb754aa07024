//! A layer that came whole: written in order, proven by SHA-256, then renamed into place.
//!
//! # What a crash leaves
//!
//! Before the rename: a directory in `incoming/` that nobody locks; the next start removes it. After
//! it, and before [`WholeLayer::sync`]: a proof that holds until the machine reboots; then the tar is
//! hashed again.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use oci::{Digest, DigestHasher};

use crate::cache::LayerCache;
use crate::cached_layer::{hash_file, tar_path};
use crate::files::{LayerWrites, WriteStep};
use crate::layer_key::LayerKey;
use crate::record::{LayerRecord, Proof};

/// A layer whose tar is all there. Clones are the same layer.
#[derive(Debug, Clone)]
pub struct WholeLayer {
    pub(crate) inner: Arc<WholeLayerInner>,
}

#[derive(Debug)]
pub(crate) struct WholeLayerInner {
    pub(crate) key: LayerKey,
    pub(crate) diff_id: Digest,
    pub(crate) directory: PathBuf,
    pub(crate) tar: File,
    pub(crate) tar_len: u64,
    pub(crate) writes: Arc<dyn LayerWrites>,
}

impl WholeLayer {
    /// The layer's name in the cache: a table's digest if it was completed chunk by chunk.
    pub fn key(&self) -> LayerKey {
        self.inner.key
    }

    /// SHA-256 of the tar.
    pub fn diff_id(&self) -> Digest {
        self.inner.diff_id
    }

    /// Length of the tar, in bytes.
    pub fn tar_len(&self) -> u64 {
        self.inner.tar_len
    }

    /// Path of the tar, complete.
    pub fn path(&self) -> PathBuf {
        tar_path(&self.inner.directory)
    }

    /// The tar, complete.
    pub fn file(&self) -> &File {
        &self.inner.tar
    }

    /// Reads exactly `buffer.len()` bytes at `offset`.
    ///
    /// # Errors
    ///
    /// As `pread(2)`.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.tar.read_exact_at(buffer, offset)
    }

    /// Makes the layer survive a power failure. Blocks for as long as the disk needs.
    ///
    /// # Errors
    ///
    /// The disk did not take it.
    pub fn sync(&self) -> io::Result<()> {
        let inner = &self.inner;
        if Proof::read(&inner.directory)? == Some(Proof::Synced) {
            return Ok(());
        }
        inner.writes.sync_data(WriteStep::SyncData, &inner.tar)?;
        Proof::Synced.write(inner.writes.as_ref(), &inner.directory)
    }

    /// Hashes the tar again: whether it still has its diff ID.
    ///
    /// # Errors
    ///
    /// The tar could not be read.
    pub fn verify(&self) -> io::Result<bool> {
        Ok(hash_file(&self.inner.tar, self.inner.tar_len)? == self.inner.diff_id)
    }
}

/// A whole layer on its way in. Dropped before [`WholeLayerWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct WholeLayerWriter {
    pub(crate) cache: LayerCache,
    pub(crate) diff_id: Digest,
    pub(crate) directory: PathBuf,
    pub(crate) tar: File,
    pub(crate) hasher: DigestHasher,
    pub(crate) written_len: u64,
}

impl WholeLayerWriter {
    /// Checks that what was written has its diff ID, and makes it a layer of the cache.
    ///
    /// Does not wait for the disk; [`WholeLayer::sync`] does.
    ///
    /// # Errors
    ///
    /// [`ImportError::OtherDiffId`] when something else was written. Nothing is kept then.
    pub fn finish(mut self) -> Result<WholeLayer, ImportError> {
        let actual = std::mem::replace(&mut self.hasher, DigestHasher::new()).finish();
        if actual != self.diff_id {
            return Err(ImportError::OtherDiffId {
                expected: self.diff_id,
                actual,
            });
        }
        let fail = |source| ImportError::Io {
            diff_id: self.diff_id,
            source,
        };
        let record = LayerRecord {
            key: LayerKey::DiffId(self.diff_id),
            diff_id: self.diff_id,
            tar_len: self.written_len,
            boot_id: self.cache.boot_id().clone(),
        };
        let writes = self.cache.writes();
        record
            .write(writes.as_ref(), &self.directory)
            .map_err(fail)?;
        Proof::Boot(record.boot_id)
            .write(writes.as_ref(), &self.directory)
            .map_err(fail)?;
        self.cache
            .place_whole(self.diff_id, &self.directory)
            .map_err(fail)
    }
}

impl Write for WholeLayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let writes = self.cache.writes();
        writes.write_all_at(WriteStep::Data, &self.tar, bytes, self.written_len)?;
        self.hasher.update(bytes);
        self.written_len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for WholeLayerWriter {
    fn drop(&mut self) {
        // Renamed away by `finish`: then there is nothing. Else what stays is removed at the next start.
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// Why a whole layer was not kept.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The disk failed or is full.
    #[error("layer {diff_id} could not be kept")]
    Io {
        /// The layer.
        diff_id: Digest,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else was written.
    #[error("layer decodes to {actual}, the image says {expected}")]
    OtherDiffId {
        /// What the image says.
        expected: Digest,
        /// What was written.
        actual: Digest,
    },
}
