//! Why an image was not converted.

use std::io;
use std::path::PathBuf;

use image_format::erofs::{TreeError, WriteTreeError};
use image_format::tree::MergeError;
use image_format::{AnnotationError, DecodeTableError, RootTreeBlobError};
use oci::{Digest, ParseConfigError, ParseManifestError};
use thiserror::Error;

use crate::layer::LayerError;
use crate::ports::{SourceError, TargetError};

/// Why an image was not converted. The target's tag is unchanged.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The source did not give a manifest, a config or a layer.
    #[error("source image could not be read")]
    Source {
        /// What the source said.
        #[from]
        source: SourceError,
    },
    /// A manifest or config is not what its descriptor says.
    #[error("source gave other bytes for {wanted}: {actual_len} bytes with {actual}")]
    WrongContent {
        /// The digest that was asked for.
        wanted: Digest,
        /// The digest of what came.
        actual: Digest,
        /// The length of what came.
        actual_len: u64,
    },
    /// A manifest or config is longer than any should be.
    #[error("{digest} is {len} bytes, the limit is {len_max}")]
    TooLong {
        /// The manifest or config.
        digest: Digest,
        /// Its length, or more than this.
        len: u64,
        /// The limit.
        len_max: u64,
    },
    /// The body is no manifest that can be read.
    #[error("manifest {digest} is not valid")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// Where it is wrong.
        source: ParseManifestError,
    },
    /// The config is no image config that can be read.
    #[error("config {digest} is not valid")]
    Config {
        /// The config.
        digest: Digest,
        /// Where it is wrong.
        source: ParseConfigError,
    },
    /// The image was converted before.
    #[error("image {digest} is accelerated already")]
    AlreadyAccelerated {
        /// The manifest or index.
        digest: Digest,
    },
    /// The manifest is an artifact: no image, so nothing to start.
    #[error("{digest} is not an image ({reason})")]
    NotAnImage {
        /// The manifest or index.
        digest: Digest,
        /// Why, for a person.
        reason: String,
    },
    /// The manifest cannot be converted for a reason of its own.
    #[error("image {digest} cannot be converted: {reason}")]
    Unsupported {
        /// The manifest or index.
        digest: Digest,
        /// Why, for a person.
        reason: String,
    },
    /// A layer could not be converted.
    #[error("layer {index} ({diff_id}) could not be converted")]
    Layer {
        /// 0 is the bottom one.
        index: usize,
        /// The digest of its tar, as the config says.
        diff_id: Digest,
        /// Why.
        #[source]
        source: Box<LayerError>,
    },
    /// The layers do not fit together.
    #[error("layers of {manifest} could not be merged")]
    Merge {
        /// The source's manifest.
        manifest: Digest,
        /// Which entry, and why.
        source: MergeError,
    },
    /// The merged tree cannot be expressed.
    #[error("root tree of {manifest} could not be written")]
    Tree {
        /// The source's manifest.
        manifest: Digest,
        /// Which entry, and why.
        source: WriteTreeError,
    },
    /// The root tree cannot be stored: it is too long.
    #[error("root tree of {manifest} could not be stored")]
    StoreTree {
        /// The source's manifest.
        manifest: Digest,
        /// Why.
        source: RootTreeBlobError,
    },
    /// What was built does not pass the checks of those who read it: a bug, found before it is stored.
    #[error("index of {manifest} does not read back")]
    Unreadable {
        /// The source's manifest.
        manifest: Digest,
        /// What a reader would say.
        source: UnreadableError,
    },
    /// A file of the conversion's own could not be written or read.
    #[error("work directory {} could not be used", path.display())]
    WorkDir {
        /// The directory.
        path: PathBuf,
        /// For example that the disk is full.
        source: io::Error,
    },
    /// The target did not take the image.
    #[error("accelerated image could not be stored")]
    Target {
        /// What the target said.
        #[from]
        source: TargetError,
    },
}

/// What a reader of the new image would refuse.
#[derive(Debug, Error)]
pub enum UnreadableError {
    /// The chunk table.
    #[error("chunk table is not valid")]
    Table(#[from] DecodeTableError),
    /// The root tree.
    #[error("root tree is not valid")]
    Tree(#[from] TreeError),
    /// The manifest.
    #[error("accelerated manifest is not valid")]
    Manifest(#[from] AnnotationError),
}
