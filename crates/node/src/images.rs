//! The images that the node has open.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use layer_cache::{LayerKey, WholeLayer};
use layer_fetch::LazyLayer;
use oci::Digest;
use parking_lot::Mutex;

use crate::{image_record::ImageRecord, layer_files::LayerTable};

/// An image whose layers are open: it can be mounted, and its mount can be served.
#[derive(Debug)]
pub(crate) struct OpenImage {
    /// What is on disk about it.
    pub(crate) record: ImageRecord,
    /// Its layers, lowest first.
    pub(crate) layers: Vec<OpenLayer>,
}

/// A layer of an open image.
#[derive(Debug)]
pub(crate) enum OpenLayer {
    /// It is loaded as it is read.
    Lazy(Arc<LazyLayer>),
    /// It is here.
    Whole(WholeLayer),
}

impl OpenImage {
    /// The layers that are loaded as they are read.
    pub(crate) fn lazy_layers(&self) -> impl Iterator<Item = &Arc<LazyLayer>> {
        self.layers.iter().filter_map(|layer| match layer {
            OpenLayer::Lazy(lazy) => Some(lazy),
            OpenLayer::Whole(_) => None,
        })
    }
}

impl OpenLayer {
    /// The file that EROFS reads: one of the FUSE directory at `files`, or the whole tar itself.
    pub(crate) fn device(&self, files: &Path) -> PathBuf {
        match self {
            Self::Lazy(lazy) => files.join(LayerTable::file_name(&lazy.cached().key())),
            Self::Whole(whole) => whole.path(),
        }
    }

    /// Its name in the cache.
    pub(crate) fn key(&self) -> LayerKey {
        match self {
            Self::Lazy(lazy) => lazy.cached().key(),
            Self::Whole(whole) => whole.key(),
        }
    }

    /// Length of its tar in bytes.
    pub(crate) fn tar_len(&self) -> u64 {
        match self {
            Self::Lazy(lazy) => lazy.tar_len(),
            Self::Whole(whole) => whole.tar_len(),
        }
    }

    /// Bytes of it that are here.
    pub(crate) fn present_bytes(&self) -> u64 {
        match self {
            Self::Lazy(lazy) => lazy.cached().present_bytes(),
            Self::Whole(whole) => whole.tar_len(),
        }
    }
}

/// One lock for each image that is being prepared, so that two who ask for it do the work once.
#[derive(Debug, Default)]
pub(crate) struct ImageLocks {
    locks: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl ImageLocks {
    /// The lock of one image.
    pub(crate) fn of(&self, manifest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&manifest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(manifest, Arc::downgrade(&lock));
        lock
    }
}
