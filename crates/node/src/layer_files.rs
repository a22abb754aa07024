//! The lazy layers as files of the FUSE directory.
//!
//! # Invariants
//!
//! 1. A layer's node number is made of its name, so every worker gives it the same one.
//! 2. A layer that a mount uses stays in the table until the mount is gone.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use layer_cache::LayerKey;
use layer_fetch::LazyLayer;
use lazy_mount::{Errno, FileEntry, LayerFiles};
use oci::Digest;
use parking_lot::RwLock;
use tracing::{error, trace};

/// The layers that the FUSE directory shows.
#[derive(Debug)]
pub(crate) struct LayerTable {
    layers: RwLock<HashMap<u64, Arc<LazyLayer>>>,
    read_deadline: Duration,
}

impl LayerTable {
    /// An empty table whose reads fail when data has not come after `read_deadline`.
    pub(crate) fn new(read_deadline: Duration) -> Self {
        Self {
            layers: RwLock::default(),
            read_deadline,
        }
    }

    /// The layer with this chunk table, if it is shown.
    pub(crate) fn layer(&self, table: &Digest) -> Option<Arc<LazyLayer>> {
        self.layers
            .read()
            .get(&node_of(table))
            .filter(|layer| is_layer(layer, table))
            .cloned()
    }

    /// Shows a layer. One that is shown already stays: its flights go on.
    ///
    /// Returns the layer that is shown, or `None` if another one has the same node number.
    pub(crate) fn show(&self, table: &Digest, layer: LazyLayer) -> Option<Arc<LazyLayer>> {
        let mut layers = self.layers.write();
        let shown = layers
            .entry(node_of(table))
            .or_insert_with(|| Arc::new(layer));
        is_layer(shown, table).then(|| Arc::clone(shown))
    }

    /// Takes a layer out: no mount uses it any more.
    pub(crate) fn hide(&self, table: &Digest) {
        self.layers.write().remove(&node_of(table));
    }

    /// The file's name in the directory.
    pub(crate) fn file_name(key: &LayerKey) -> String {
        key.to_string()
    }

    fn by_node(&self, node: u64) -> Option<Arc<LazyLayer>> {
        self.layers.read().get(&node).cloned()
    }
}

fn is_layer(layer: &LazyLayer, table: &Digest) -> bool {
    layer.cached().key() == LayerKey::ChunkTable(*table)
}

/// Invariant 1. The first node numbers belong to the directory itself.
fn node_of(table: &Digest) -> u64 {
    let prefix = table.as_bytes().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(prefix).max(2)
}

impl LayerFiles for LayerTable {
    fn lookup(&self, name: &[u8]) -> Option<FileEntry> {
        let key: LayerKey = std::str::from_utf8(name).ok()?.parse().ok()?;
        let LayerKey::ChunkTable(table) = key else {
            return None;
        };
        let layer = self.layer(&table)?;
        Some(FileEntry {
            node: node_of(&table),
            len: layer.tar_len(),
        })
    }

    fn attributes(&self, node: u64) -> Option<FileEntry> {
        self.by_node(node).map(|layer| FileEntry {
            node,
            len: layer.tar_len(),
        })
    }

    fn names(&self) -> Vec<(Vec<u8>, u64)> {
        let layers = self.layers.read();
        let mut names: Vec<_> = layers
            .iter()
            .map(|(node, layer)| (layer.cached().key().to_string().into_bytes(), *node))
            .collect();
        names.sort();
        names
    }

    fn read(&self, node: u64, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let layer = self.by_node(node).ok_or(Errno::NOENT)?;
        trace!(layer = %layer.cached().key(), offset, len = buffer.len(), "read");
        let deadline = Instant::now() + self.read_deadline;
        match layer.read_into(buffer, offset, deadline) {
            Ok(()) => Ok(buffer.len()),
            // The one place where a failed read becomes what the container sees.
            Err(error) => {
                error!(
                    layer = %layer.cached().key(),
                    offset,
                    len = buffer.len(),
                    error = &error as &dyn std::error::Error,
                    "read failed, the container gets EIO"
                );
                Err(Errno::IO)
            }
        }
    }
}
