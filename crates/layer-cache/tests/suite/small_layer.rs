//! A small layer made by code, and disks that fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use image_format::{
    ChunkCompressor, ChunkDescriptor, ChunkTable, LayerBlobWriter, UntrustedChunk, VerifiedChunk,
};
use layer_cache::{BootId, CacheOptions, CachedLayer, LayerCache, LayerWrites, WriteStep};
use oci::Digest;

/// Chunk lengths of the small layer, each a multiple of a block but the last.
const CHUNK_LENS: [usize; 6] = [1024, 4096, 512, 65536, 12800, 777];

/// A layer whose chunks differ.
pub(crate) struct SmallLayer {
    pub(crate) tar: Vec<u8>,
    pub(crate) table: ChunkTable,
    pub(crate) encoded: Vec<u8>,
}

impl SmallLayer {
    pub(crate) fn new(seed: u8) -> Self {
        let mut tar = Vec::new();
        let mut compressor = ChunkCompressor::new(1).unwrap();
        let mut writer = LayerBlobWriter::new(Vec::new());
        for (number, len) in CHUNK_LENS.iter().enumerate() {
            let byte = |index: usize| u8::try_from((index * 7 + number * 31) % 251).unwrap() ^ seed;
            let bytes: Vec<u8> = (0..*len).map(byte).collect();
            writer
                .write_chunk(&compressor.compress(&bytes).unwrap())
                .unwrap();
            tar.extend(bytes);
        }
        let (_, table) = writer.finish(Digest::of(&tar)).unwrap();
        let encoded = table.encode();
        Self {
            tar,
            table,
            encoded,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.encoded)
    }

    pub(crate) fn open(&self, cache: &LayerCache) -> CachedLayer {
        cache.open_lazy(&self.digest(), &self.encoded).unwrap()
    }

    pub(crate) fn chunk(&self, index: u32) -> (ChunkDescriptor, VerifiedChunk) {
        let chunk = self.table.chunk(index).unwrap();
        let range = usize::try_from(chunk.tar_range.start).unwrap()
            ..usize::try_from(chunk.tar_range.end).unwrap();
        let bytes = self.tar[range].to_vec().into();
        let verified = UntrustedChunk::from_decoded(bytes).verify(&chunk).unwrap();
        (chunk, verified)
    }

    pub(crate) fn admit(&self, layer: &CachedLayer, index: u32) {
        let (chunk, bytes) = self.chunk(index);
        layer.admit(&chunk, &bytes).unwrap();
    }

    /// Everything that the layer gives out now is right; returns how many chunks that is.
    pub(crate) fn check(&self, layer: &CachedLayer) -> usize {
        let mut right = 0;
        for chunk in self.table.iter() {
            layer.recheck(chunk.index);
            if layer.is_present(chunk.tar_range.clone()) {
                let mut bytes = vec![0; usize::try_from(chunk.tar_len()).unwrap()];
                layer.read_at(&mut bytes, chunk.tar_range.start).unwrap();
                let start = usize::try_from(chunk.tar_range.start).unwrap();
                assert_eq!(bytes, self.tar[start..start + bytes.len()]);
                right += 1;
            }
        }
        right
    }
}

/// Opens the cache as in boot `boot`.
pub(crate) fn open_in_boot(directory: &Path, boot: &str) -> LayerCache {
    open_with(directory, boot, Arc::new(layer_cache::DirectWrites))
}

/// Opens the cache on a disk of one's own.
pub(crate) fn open_with(directory: &Path, boot: &str, writes: Arc<dyn LayerWrites>) -> LayerCache {
    LayerCache::open_with(
        directory,
        CacheOptions {
            boot_id: BootId::new(boot),
            writes,
        },
    )
    .unwrap()
}

/// What happens at the chosen write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Half of it is written, then the process is killed.
    Kill,
    /// Half of it is written, then the disk is full.
    Full,
}

/// A disk on which the n-th write or sync goes wrong.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    left: AtomicUsize,
    fault: Fault,
}

impl FaultyDisk {
    pub(crate) fn new(nth: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(nth),
            fault,
        })
    }

    /// Whether the fault has not happened yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.left.load(Ordering::SeqCst) > 0
    }

    fn step(&self) -> io::Result<()> {
        let before = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                Some(left.saturating_sub(1))
            });
        if before != Ok(1) {
            return Ok(());
        }
        match self.fault {
            Fault::Full => Err(io::ErrorKind::StorageFull.into()),
            Fault::Kill => {
                let me = rustix::process::getpid();
                rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
                unreachable!("killed");
            }
        }
    }
}

impl LayerWrites for FaultyDisk {
    fn write_all_at(&self, _: WriteStep, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all_at(first, offset)?;
        self.step()?;
        file.write_all_at(second, offset + first.len() as u64)
    }

    fn sync_data(&self, _: WriteStep, file: &File) -> io::Result<()> {
        self.step()?;
        file.sync_data()
    }
}
