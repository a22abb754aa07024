//! What the node holds, and how it lets go of it.
//!
//! # Invariants
//!
//! 1. What a container or a mount uses is never removed.

use std::{collections::HashSet, sync::Arc};

use layer_cache::LayerKey;
use lazy_mount::{Unmount, is_mounted, unmount};
use oci::Digest;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{Node, store_error};
use crate::{
    NodeError,
    accelerated::table_of,
    container::sweep,
    control::{CacheContents, CachedImageEntry, CachedLayerEntry, Pruned},
    images::{OpenImage, OpenLayer},
};

impl Node {
    /// What the cache holds.
    pub(crate) fn cache_contents(&self) -> Result<CacheContents, NodeError> {
        let used = sweep(&self.options.directories)
            .map_err(store_error(self.options.directories.root()))?;
        let images = self.open_images();
        let layers = self.cache.usage().map_err(|error| NodeError::Store {
            what: "the list of layers".to_owned(),
            source: error.into(),
        })?;
        let image_entry = |image: &Arc<OpenImage>| CachedImageEntry {
            reference: image.record.reference.clone(),
            manifest: image.record.manifest,
            kind: image.record.kind,
            tar_bytes: image.layers.iter().map(OpenLayer::tar_len).sum(),
            present_bytes: image.layers.iter().map(OpenLayer::present_bytes).sum(),
            containers: used
                .iter()
                .filter(|manifest| **manifest == image.record.manifest)
                .count(),
        };
        let users = |key: &LayerKey| {
            images
                .iter()
                .filter(|image| image.layers.iter().any(|layer| layer.key() == *key))
                .count()
        };
        Ok(CacheContents {
            layers: layers
                .iter()
                .map(|layer| CachedLayerEntry {
                    layer: layer.key.to_string(),
                    tar_bytes: layer.tar_len,
                    present_bytes: layer.present_bytes,
                    disk_bytes: layer.disk_bytes,
                    images: users(&layer.key),
                })
                .collect(),
            images: images.iter().map(image_entry).collect(),
        })
    }

    /// Forgets the images that no container uses, and the layers that no image uses.
    pub(crate) async fn prune(self: &Arc<Self>) -> Result<Pruned, NodeError> {
        let node = Arc::clone(self);
        let pruned = spawn_blocking(move || node.prune_blocking()).await;
        pruned.unwrap_or_else(|panic| {
            Err(NodeError::Store {
                what: "the cache".to_owned(),
                source: panic.into(),
            })
        })
    }

    fn prune_blocking(&self) -> Result<Pruned, NodeError> {
        let mut pruned = Pruned::default();
        let used: HashSet<Digest> = sweep(&self.options.directories)
            .map_err(store_error(self.options.directories.root()))?
            .into_iter()
            .collect();
        for image in self.open_images() {
            if !used.contains(&image.record.manifest) && self.forget(&image) {
                pruned.images += 1;
            } else {
                pruned.in_use += 1;
            }
        }
        let kept = self.open_images();
        let keep: HashSet<LayerKey> = kept
            .iter()
            .flat_map(|image| image.layers.iter().map(OpenLayer::key))
            .collect();
        let report = self.cache.prune(&keep).map_err(|error| NodeError::Store {
            what: "the cache".to_owned(),
            source: error.into(),
        })?;
        pruned.layers = report.removed.len();
        pruned.freed_bytes = report.freed_bytes;
        Ok(pruned)
    }

    /// Forgets an image, unless its mount is in use.
    fn forget(&self, image: &OpenImage) -> bool {
        let directory = self.options.directories.image(&image.record.manifest);
        let target = directory.join("root");
        if is_mounted(&target).unwrap_or(true)
            && let Err(error) = unmount(&target, Unmount::Unused)
        {
            info!(image = %image.record.reference, %error, "image kept");
            return false;
        }
        self.images.lock().remove(&image.record.manifest);
        for table in image.record.layers.iter().filter_map(table_of) {
            let key = LayerKey::ChunkTable(table);
            let is_used =
                |other: &Arc<OpenImage>| other.layers.iter().any(|layer| layer.key() == key);
            if !self.open_images().iter().any(is_used) {
                self.layers.hide(&table);
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&directory) {
            warn!(directory = %directory.display(), %error, "directory of a forgotten image not removed");
        }
        true
    }

    /// Unmounts every image that nothing uses any more: before a clean stop.
    pub fn unmount_unused(&self) {
        drop(sweep(&self.options.directories));
        for image in self.open_images() {
            let target = self
                .options
                .directories
                .image(&image.record.manifest)
                .join("root");
            if is_mounted(&target).unwrap_or(false)
                && let Err(error) = unmount(&target, Unmount::Unused)
            {
                warn!(image = %image.record.reference, %error, "image is in use and stays mounted");
            }
        }
    }
}
