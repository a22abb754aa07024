//! A layer that is filled chunk by chunk.
//!
//! # What a crash leaves
//!
//! Killed between data and bit: bytes in the file that nobody claims; they are fetched again.
//! Power lost: what the last checkpoint claims. In both cases each claimed chunk is hashed before its
//! first use, so a disk that lied costs a fetch and no wrong byte.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use thiserror::Error;
use tracing::warn;

use image_format::{ChunkDescriptor, ChunkDigest, ChunkTable, VerifiedChunk};
use oci::{Digest, DigestHasher};

use crate::files::{Durability, LayerWrites, replace_file};
use crate::layer_key::LayerKey;
use crate::presence::PresenceMap;
use crate::record::Proof;

/// Bytes read at once when a whole tar is hashed.
const HASH_BUFFER_LEN: usize = 1 << 20;

/// A layer of the cache, open. Clones are the same layer.
#[derive(Debug, Clone)]
pub struct CachedLayer {
    pub(crate) inner: Arc<CachedLayerInner>,
}

/// The one state of a layer in this process.
#[derive(Debug)]
pub(crate) struct CachedLayerInner {
    pub(crate) key: LayerKey,
    pub(crate) directory: PathBuf,
    pub(crate) table: Arc<ChunkTable>,
    /// The tar, locked shared as long as it is open.
    pub(crate) tar: File,
    pub(crate) presence: PresenceMap,
    pub(crate) writes: Arc<dyn LayerWrites>,
    pub(crate) checkpoint: Checkpoint,
}

/// What checkpoints share.
#[derive(Debug, Default)]
pub(crate) struct Checkpoint {
    /// One at a time: they write the same temporary name.
    running: Mutex<()>,
    /// After a failed sync the kernel forgets which pages it lost, so nothing may be claimed as synced.
    sync_failed: AtomicBool,
}

impl CachedLayer {
    /// The layer's name in the cache.
    pub fn key(&self) -> LayerKey {
        self.inner.key
    }

    /// The digest that the table says the whole tar has.
    pub fn diff_id(&self) -> Digest {
        self.inner.table.diff_id()
    }

    /// Length of the tar, in bytes.
    pub fn tar_len(&self) -> u64 {
        self.inner.table.tar_len()
    }

    /// The chunk table that decides which bytes are right.
    pub fn table(&self) -> &Arc<ChunkTable> {
        &self.inner.table
    }

    /// Path of the sparse tar. Reading it directly sees holes as zeros.
    pub fn path(&self) -> PathBuf {
        self.inner.directory.join("tar")
    }

    /// The sparse tar. Reading it directly sees holes as zeros.
    pub fn file(&self) -> &File {
        &self.inner.tar
    }

    /// Whether a read of `range` can be answered with [`CachedLayer::read_at`] at once.
    ///
    /// Costs a few atomic loads. `false` beyond the end of the tar.
    pub fn is_present(&self, range: Range<u64>) -> bool {
        self.inner.presence.is_trusted(&range)
    }

    /// Whether the disk claims all of chunk `index`. [`CachedLayer::recheck`] finds out if it is right.
    pub fn is_claimed(&self, index: u32) -> bool {
        let chunk = self.inner.table.chunk(index);
        chunk.is_some_and(|chunk| self.inner.presence.is_claimed(&chunk.tar_range))
    }

    /// The runs of `range` that are on no disk, in blocks of 512 bytes, cut at the end of the tar.
    pub fn missing_in(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.inner.presence.missing_in(&range)
    }

    /// How many bytes of the tar the disk claims.
    pub fn present_bytes(&self) -> u64 {
        self.inner.presence.present_bytes()
    }

    /// Reads exactly `buffer.len()` bytes at `offset`, without asking whether they are there.
    ///
    /// # Errors
    ///
    /// As `pread(2)`; the range must lie inside the tar.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.tar.read_exact_at(buffer, offset)
    }

    /// Tells the kernel that the cache file's own pages of `range` are not needed any more.
    ///
    /// # Errors
    ///
    /// As `posix_fadvise(2)`.
    pub fn drop_pages(&self, range: Range<u64>) -> io::Result<()> {
        let Some(len) = std::num::NonZeroU64::new(range.end.saturating_sub(range.start)) else {
            return Ok(());
        };
        let advice = rustix::fs::Advice::DontNeed;
        Ok(rustix::fs::fadvise(
            &self.inner.tar,
            range.start,
            Some(len),
            advice,
        )?)
    }

    /// Keeps a chunk that passed the gate: first its bytes, then its bits. Safe to repeat.
    ///
    /// When only the bits could not be written the chunk counts as admitted; it is fetched again
    /// after a restart.
    ///
    /// # Errors
    ///
    /// [`AdmitError::Full`] when the disk is; then nothing is claimed.
    pub fn admit(&self, chunk: &ChunkDescriptor, bytes: &VerifiedChunk) -> Result<(), AdmitError> {
        let inner = &self.inner;
        let range = &chunk.tar_range;
        let len = u64::try_from(bytes.bytes().len()).unwrap_or(u64::MAX);
        if inner.table.chunk(chunk.index).as_ref() != Some(chunk) || len != range.end - range.start
        {
            return Err(AdmitError::Foreign {
                key: inner.key,
                index: chunk.index,
            });
        }
        inner
            .writes
            .write_all_at(
                crate::WriteStep::Data,
                &inner.tar,
                bytes.bytes(),
                range.start,
            )
            .map_err(|source| AdmitError::from_write(inner.key, chunk.index, source))?;
        if let Err(error) = inner.presence.admit(inner.writes.as_ref(), range) {
            warn!(layer = %inner.key, %error, "presence bits could not be written");
        }
        Ok(())
    }

    /// Hashes chunk `index` if the disk claims it and this process has not checked it yet.
    ///
    /// Wrong bytes, and bytes that the disk does not give back, are forgotten, so that they are fetched
    /// again; the log says which.
    pub fn recheck(&self, index: u32) -> Recheck {
        let inner = &self.inner;
        let Some(chunk) = inner.table.chunk(index) else {
            return Recheck::Absent;
        };
        let range = &chunk.tar_range;
        if inner.presence.is_trusted(range) {
            return Recheck::Right;
        }
        if !inner.presence.is_claimed(range) {
            return Recheck::Absent;
        }
        let mut buffer = vec![0; usize::try_from(chunk.tar_len()).unwrap_or(0)];
        let read = inner.tar.read_exact_at(&mut buffer, range.start);
        if read.is_ok() && ChunkDigest::of(&buffer) == chunk.digest {
            inner.presence.trust(range);
            return Recheck::Right;
        }
        warn!(
            layer = %inner.key,
            chunk = index,
            tar.offset = range.start,
            error = read.err().map(tracing::field::display),
            "cache file does not hold the chunk's bytes, it is forgotten"
        );
        if let Err(error) = inner.presence.forget(inner.writes.as_ref(), range) {
            warn!(layer = %inner.key, %error, "presence bits could not be written");
        }
        Recheck::Wrong
    }

    /// Hashes every chunk that the disk claims, also those already trusted, and forgets the wrong ones.
    ///
    /// Readers that come meanwhile hash what they need themselves.
    pub fn scrub(&self) -> Scrubbed {
        let mut report = Scrubbed::default();
        for chunk in self.inner.table.iter() {
            self.inner.presence.distrust(&chunk.tar_range);
            match self.recheck(chunk.index) {
                Recheck::Right => report.right += 1,
                Recheck::Wrong => report.wrong.push(chunk.index),
                Recheck::Absent => {}
            }
        }
        report
    }

    /// Makes what is there now survive a power failure: syncs the tar, then notes the bits.
    ///
    /// Blocks for as long as the disk needs.
    ///
    /// # Errors
    ///
    /// The disk did not take it. After a failed sync of the tar all later checkpoints fail too.
    pub fn checkpoint(&self) -> Result<(), CheckpointError> {
        let inner = &self.inner;
        let _running = inner.checkpoint.running.lock();
        if inner.checkpoint.sync_failed.load(Ordering::Acquire) {
            return Err(CheckpointError::SyncFailedBefore { key: inner.key });
        }
        // Invariant 2: these bits are of bytes written before the sync begins.
        let bits = inner.presence.snapshot();
        if let Err(source) = inner
            .writes
            .sync_data(crate::WriteStep::SyncData, &inner.tar)
        {
            inner.checkpoint.sync_failed.store(true, Ordering::Release);
            return Err(CheckpointError::Sync {
                key: inner.key,
                source,
            });
        }
        let path = inner.directory.join("present.synced");
        replace_file(inner.writes.as_ref(), &path, &bits, Durability::Disk)
            .map_err(|source| CheckpointError::Bits { path, source })
    }

    /// Whether the tar was once proven whole.
    pub fn is_complete(&self) -> bool {
        matches!(Proof::read(&self.inner.directory), Ok(Some(Proof::Synced)))
    }

    /// When nothing is missing any more, proves that the tar has its diff ID and notes it.
    ///
    /// Hashes the whole tar: call it from a thread that may block for seconds.
    ///
    /// # Errors
    ///
    /// The disk failed, or the tar is not what the table says it is.
    pub fn try_complete(&self) -> Result<Completion, CompleteError> {
        let inner = &self.inner;
        if !inner.presence.is_full() {
            return Ok(Completion::Partial);
        }
        if self.is_complete() {
            return Ok(Completion::Complete);
        }
        let fail = |source| CompleteError::Io {
            key: inner.key,
            source,
        };
        let actual = hash_file(&inner.tar, self.tar_len()).map_err(fail)?;
        if actual != self.diff_id() {
            let expected = self.diff_id();
            return Err(CompleteError::OtherDiffId {
                key: inner.key,
                expected,
                actual,
            });
        }
        self.checkpoint()
            .map_err(|source| CompleteError::Checkpoint { source })?;
        Proof::Synced
            .write(inner.writes.as_ref(), &inner.directory)
            .map_err(fail)?;
        Ok(Completion::Complete)
    }
}

/// What [`CachedLayer::recheck`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recheck {
    /// The bytes are there and right; reads may use them.
    Right,
    /// The bytes were wrong and are forgotten.
    Wrong,
    /// The chunk is not there, or not in full.
    Absent,
}

/// What [`CachedLayer::try_complete`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// Something is still missing.
    Partial,
    /// The whole tar is there and has its diff ID.
    Complete,
}

/// What [`CachedLayer::scrub`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// How many chunks were right.
    pub right: u32,
    /// The chunks that were wrong and are forgotten.
    pub wrong: Vec<u32>,
}

/// Why a chunk was not kept.
#[derive(Debug, Error)]
pub enum AdmitError {
    /// The disk, or the quota, is full.
    #[error("no space for chunk {index} of layer {key}")]
    Full {
        /// The layer.
        key: LayerKey,
        /// The chunk.
        index: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The disk failed.
    #[error("chunk {index} of layer {key} could not be written")]
    Io {
        /// The layer.
        key: LayerKey,
        /// The chunk.
        index: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The chunk is not one of this layer's table.
    #[error("chunk {index} is not one of layer {key}")]
    Foreign {
        /// The layer.
        key: LayerKey,
        /// The chunk.
        index: u32,
    },
}

impl AdmitError {
    fn from_write(key: LayerKey, index: u32, source: io::Error) -> Self {
        if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            return Self::Full { key, index, source };
        }
        Self::Io { key, index, source }
    }
}

/// Why a checkpoint was not made. What was claimed before is still claimed.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The tar could not be synced.
    #[error("tar of layer {key} could not be synced")]
    Sync {
        /// The layer.
        key: LayerKey,
        /// What the kernel said.
        source: io::Error,
    },
    /// An earlier sync failed, so it is unknown what is on the disk.
    #[error("an earlier sync of layer {key} failed")]
    SyncFailedBefore {
        /// The layer.
        key: LayerKey,
    },
    /// The bits could not be written.
    #[error("presence bits {path} could not be written")]
    Bits {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why a layer whose chunks are all there is not complete.
#[derive(Debug, Error)]
pub enum CompleteError {
    /// Reading the tar or writing the proof failed.
    #[error("layer {key} could not be completed")]
    Io {
        /// The layer.
        key: LayerKey,
        /// What the kernel said.
        source: io::Error,
    },
    /// The tar could not be synced.
    #[error("complete layer could not be synced")]
    Checkpoint {
        /// Why.
        source: CheckpointError,
    },
    /// Every chunk is what the table says, and the whole is not: the table is wrong.
    #[error("layer {key} has diff ID {actual}, its table says {expected}")]
    OtherDiffId {
        /// The layer.
        key: LayerKey,
        /// What the table says.
        expected: Digest,
        /// What the tar has.
        actual: Digest,
    },
}

/// SHA-256 of the first `len` bytes.
pub(crate) fn hash_file(file: &File, len: u64) -> io::Result<Digest> {
    let mut hasher = DigestHasher::new();
    let mut buffer = vec![0; HASH_BUFFER_LEN];
    let mut offset = 0;
    while offset < len {
        let part = usize::try_from(len - offset)
            .unwrap_or(usize::MAX)
            .min(HASH_BUFFER_LEN);
        file.read_exact_at(&mut buffer[..part], offset)?;
        hasher.update(&buffer[..part]);
        offset += part as u64;
    }
    Ok(hasher.finish())
}

/// Name of the tar in a layer's directory.
pub(crate) fn tar_path(directory: &Path) -> PathBuf {
    directory.join("tar")
}
