//! The names under which an accelerated image's manifest points at what was added to it.

/// Artifact type of the manifest of an accelerated image.
pub const ARTIFACT_TYPE: &str = "application/vnd.slipway.accelerated.v1+json";

/// Artifact type of the manifest that keeps tables and tree alive in any registry.
pub const INDEX_ARTIFACT_TYPE: &str = "application/vnd.slipway.accelerated.index.v1+json";

/// Media type of a root tree: an EROFS image as one zstd frame.
pub const ROOT_TREE: &str = "application/vnd.slipway.root-tree.v1.erofs+zstd";

/// Media type of a chunk table.
pub const CHUNK_TABLE: &str = "application/vnd.slipway.chunk-table.v1";

/// What each annotation of ours begins with.
pub const PREFIX: &str = "dev.slipway.";

/// On the manifest: the version of the format.
pub const FORMAT: &str = "dev.slipway.format";

/// The version of the format that is written, and the only one that is read.
pub const FORMAT_VERSION: &str = "1";

/// On the manifest: digest of the root tree's blob.
pub const ROOT_TREE_DIGEST: &str = "dev.slipway.root-tree.digest";

/// On the manifest: length of the root tree's blob, decimal.
pub const ROOT_TREE_SIZE: &str = "dev.slipway.root-tree.size";

/// On the manifest: digest of the manifest that was converted.
pub const SOURCE_DIGEST: &str = "dev.slipway.source.digest";

/// On a layer's descriptor: digest of its chunk table's blob.
pub const CHUNK_TABLE_DIGEST: &str = "dev.slipway.chunk-table.digest";

/// On a layer's descriptor: length of its chunk table's blob, decimal.
pub const CHUNK_TABLE_SIZE: &str = "dev.slipway.chunk-table.size";
