//! Images: what the tags of the repositories point at.

use oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

/// Which images to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageQuery {
    /// Only those of this repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
}

/// Images, by repository and tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageList {
    /// The images.
    pub images: Vec<Image>,
}

/// One tag of one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// Digest of the manifest that the tag points at.
    pub digest: Digest,
    /// Media type of that manifest.
    pub media_type: String,
    /// Bytes of config and layers as stored, of all platforms together.
    pub content_bytes: u64,
    /// When the tag was last pointed at something.
    pub pushed_unix_ms: i64,
    /// Whether somebody pushed the tag or the converter made it.
    pub kind: ImageKind,
    /// The accelerated image of this tag, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerated: Option<AcceleratedImage>,
}

/// Where a tag comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// Somebody pushed it.
    Pushed,
    /// The converter made it.
    Accelerated,
}

/// The accelerated image of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratedImage {
    /// Its tag.
    pub tag: Tag,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Whether it was made from what the source tag points at now.
    pub freshness: Freshness,
}

/// Whether an accelerated image was made from what its source tag points at now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freshness {
    /// It was.
    Fresh,
    /// The source tag was pushed again since; the new conversion has not replaced it yet.
    Stale,
}
