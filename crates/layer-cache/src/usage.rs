//! What the cache holds, and how it is made smaller.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use thiserror::Error;

use crate::layer_key::LayerKey;

/// One layer's share of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerUsage {
    /// The layer.
    pub key: LayerKey,
    /// Length of its tar, in bytes.
    pub tar_len: u64,
    /// How many bytes of the tar are there.
    pub present_bytes: u64,
    /// What the directory takes on the disk, in bytes.
    pub disk_bytes: u64,
    /// When it was last opened.
    pub last_used: SystemTime,
}

/// What a prune did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// The layers that are gone.
    pub removed: Vec<LayerKey>,
    /// What they took on the disk, in bytes.
    pub freed_bytes: u64,
    /// The layers that were to go and are open in some process.
    pub in_use: Vec<LayerKey>,
}

/// What [`LayerCache::remove`](crate::LayerCache::remove) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The layer is gone.
    Gone,
    /// It was not there.
    Absent,
    /// Some process has it open; it stays.
    InUse,
}

/// Why layers could not be listed or removed.
#[derive(Debug, Error)]
#[error("cache directory {path} could not be read or changed")]
pub struct RemoveError {
    /// The directory or file.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}
