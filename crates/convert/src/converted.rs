//! What a conversion made.

use oci::{Descriptor, Digest, Platform};
use serde::Serialize;

/// A finished conversion: the target is tagged.
#[derive(Debug, Clone, Serialize)]
pub struct Converted {
    /// The manifest or index that was read.
    pub source: Descriptor,
    /// The manifest or index that the tag names now.
    pub target: Descriptor,
    /// One for each converted platform, in the order of the source's index.
    pub platforms: Vec<ConvertedPlatform>,
    /// What the source's index names besides, and the target's does not.
    pub left_out: Vec<LeftOut>,
}

impl Converted {
    /// Length of the source's layers together, each distinct layer once for each platform.
    pub fn source_len(&self) -> u64 {
        self.layers().map(|layer| layer.source_len).sum()
    }

    /// Length of the stored layers together, counted as [`Converted::source_len`] counts.
    pub fn stored_len(&self) -> u64 {
        self.layers().map(|layer| layer.stored_len).sum()
    }

    fn layers(&self) -> impl Iterator<Item = &ConvertedLayer> {
        self.platforms.iter().flat_map(|platform| &platform.layers)
    }
}

/// One converted platform of an image.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertedPlatform {
    /// As the source's index says, or else as the config says.
    pub platform: Platform,
    /// The source's manifest of this platform.
    pub source: Digest,
    /// The accelerated manifest.
    pub manifest: Descriptor,
    /// The index artifact that keeps tables and tree alive.
    pub index_artifact: Descriptor,
    /// The layers, bottom to top.
    pub layers: Vec<ConvertedLayer>,
    /// Length of the root tree as it is mounted.
    pub tree_len: u64,
    /// Length of the root tree as it is stored.
    pub stored_tree_len: u64,
}

/// One converted layer.
#[derive(Debug, Clone, Serialize)]
pub struct ConvertedLayer {
    /// Digest of the layer's tar: the same before and after.
    pub diff_id: Digest,
    /// Length of the layer's tar.
    pub tar_len: u64,
    /// Digest of the source's blob.
    pub source: Digest,
    /// Length of the source's blob.
    pub source_len: u64,
    /// Digest of the stored blob.
    pub stored: Digest,
    /// Length of the stored blob.
    pub stored_len: u64,
    /// Chunks in the stored blob.
    pub chunk_count: u64,
    /// Length of the chunk table.
    pub table_len: u64,
}

/// A manifest of the source's index that is no image of a platform, and was left out.
#[derive(Debug, Clone, Serialize)]
pub struct LeftOut {
    /// The manifest.
    pub manifest: Digest,
    /// What it is, for a person.
    pub reason: String,
}
