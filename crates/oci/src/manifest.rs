//! Manifests: of one image or artifact, and indexes of several.
//!
//! OCI's and Docker's second schema have the same fields. Unknown fields are ignored: who has to
//! keep a manifest keeps its bytes, since the digest is over them.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::lenient_json::null_as_empty;
use crate::{Descriptor, media_type};

/// Longest manifest that is parsed, in bytes.
///
/// Registries must take 4 MiB; the largest known to be served is under 8.
pub const MANIFEST_LEN_MAX: u64 = 8 << 20;

/// A manifest of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "they are few and short-lived; a box would be noise"
)]
pub enum Manifest {
    /// Of one image or artifact.
    Image(ImageManifest),
    /// An index of several.
    Index(ImageIndex),
}

impl Manifest {
    /// Parses `body`, which came with the content type `media_type`, if it came with one.
    ///
    /// # Errors
    ///
    /// [`ParseManifestError`] if the body is over [`MANIFEST_LEN_MAX`], is no manifest, could be
    /// read as either kind, or disagrees with `media_type`.
    pub fn parse(media_type: Option<&str>, body: &[u8]) -> Result<Self, ParseManifestError> {
        let actual_len = body.len() as u64;
        if actual_len > MANIFEST_LEN_MAX {
            return Err(ParseManifestError::TooLarge { actual_len });
        }
        let outline: Outline = serde_json::from_slice(body)?;
        match outline.kind(media_type.map(without_parameters))? {
            ManifestKind::Image => Ok(Self::Image(serde_json::from_slice(body)?)),
            ManifestKind::Index => Ok(Self::Index(serde_json::from_slice(body)?)),
        }
    }

    /// Returns the kind.
    pub fn kind(&self) -> ManifestKind {
        match self {
            Self::Image(_) => ManifestKind::Image,
            Self::Index(_) => ManifestKind::Index,
        }
    }

    /// Returns the media type that the body states, or OCI's of its kind if it states none.
    pub fn media_type(&self) -> &str {
        match self {
            Self::Image(image) => image
                .media_type
                .as_deref()
                .unwrap_or(media_type::OCI_MANIFEST),
            Self::Index(index) => index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX),
        }
    }

    /// Returns what the manifest refers to as a referrer.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => image.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }

    /// Returns the artifact type as the referrers API shows it: an image manifest without one has
    /// its config's media type.
    // SPEC: distribution, "Listing Referrers": if the artifactType is empty or missing in the
    // image manifest, the value of artifactType MUST be set to the config descriptor mediaType.
    pub fn artifact_type(&self) -> Option<&str> {
        match self {
            Self::Image(image) => {
                let own = image.artifact_type.as_deref().filter(|own| !own.is_empty());
                Some(own.unwrap_or(&image.config.media_type))
            }
            Self::Index(index) => index.artifact_type.as_deref().filter(|own| !own.is_empty()),
        }
    }

    /// Returns the annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Image(image) => &image.annotations,
            Self::Index(index) => &index.annotations,
        }
    }
}

/// The two kinds of manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestKind {
    /// Of one image or artifact.
    Image,
    /// An index of several.
    Index,
}

/// The manifest of one image or artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type, if it states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What the artifact is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(deserialize_with = "null_as_empty")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text by key.
    #[serde(
        default,
        deserialize_with = "null_as_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// Makes an OCI manifest without artifact type, subject and annotations.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Writes the manifest: the same value always gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

/// An index of manifests, mostly one per platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own media type, if it states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What the artifact is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests, in order of preference.
    #[serde(deserialize_with = "null_as_empty")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text by key.
    #[serde(
        default,
        deserialize_with = "null_as_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    /// Makes an OCI index without artifact type, subject and annotations.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Writes the index: the same value always gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

/// Why a body is not a manifest.
#[derive(Debug, Error)]
pub enum ParseManifestError {
    /// The body is over the limit.
    #[error("manifest is {actual_len} bytes, the limit is {MANIFEST_LEN_MAX}")]
    TooLarge {
        /// Length of the body in bytes.
        actual_len: u64,
    },
    /// The body is not JSON, or lacks a field, or a field has the wrong form.
    #[error("manifest is not the JSON it should be")]
    Json(#[from] serde_json::Error),
    /// The schema version is not 2: Docker's first schema, or something else.
    #[error("manifest has schema version {actual}, only 2 is supported")]
    SchemaVersion {
        /// The version stated; 0 if none is.
        actual: u64,
    },
    /// The body could be read as an image or as an index, so that two readers may see two images.
    #[error("manifest has the fields of an image and of an index: it is refused as ambiguous")]
    Ambiguous,
    /// The body states another media type than it was sent with.
    #[error("manifest states media type {stated:?} but came as {received:?}")]
    MediaType {
        /// What the body states.
        stated: String,
        /// What it came as.
        received: String,
    },
    /// The media type is no manifest's.
    #[error("media type {media_type:?} is not one of a manifest")]
    Unknown {
        /// The media type.
        media_type: String,
    },
    /// Nothing says what the body is.
    #[error("manifest has no media type, and neither \"manifests\" nor \"config\"")]
    Shapeless,
    /// The media type is that of one kind and the fields those of the other.
    #[error("manifest of media type {media_type:?} lacks the field {field:?}")]
    Field {
        /// The media type.
        media_type: String,
        /// The field.
        field: &'static str,
    },
}

/// The fields that tell what a body is, read before anything is believed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    #[serde(default)]
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    layers: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

/// Reads a field that is there, even as `null`, as `Some`.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<IgnoredAny>, D::Error> {
    IgnoredAny::deserialize(deserializer).map(Some)
}

impl Outline {
    fn kind(&self, received: Option<&str>) -> Result<ManifestKind, ParseManifestError> {
        if self.schema_version != 2 {
            return Err(ParseManifestError::SchemaVersion {
                actual: self.schema_version,
            });
        }
        let has_image_field =
            self.config.is_some() || self.layers.is_some() || self.fs_layers.is_some();
        if self.manifests.is_some() && has_image_field {
            return Err(ParseManifestError::Ambiguous);
        }
        let stated = self
            .media_type
            .as_deref()
            .filter(|stated| !stated.is_empty());
        if let (Some(stated), Some(received)) = (stated, received)
            && stated != received
        {
            let (stated, received) = (stated.to_owned(), received.to_owned());
            return Err(ParseManifestError::MediaType { stated, received });
        }
        match stated.or(received) {
            Some(media_type) => self.kind_of(media_type),
            None if self.manifests.is_some() => Ok(ManifestKind::Index),
            None if self.config.is_some() => Ok(ManifestKind::Image),
            None => Err(ParseManifestError::Shapeless),
        }
    }

    fn kind_of(&self, media_type: &str) -> Result<ManifestKind, ParseManifestError> {
        let lacks = |field| ParseManifestError::Field {
            media_type: media_type.to_owned(),
            field,
        };
        if media_type::is_image_manifest(media_type) {
            self.config.as_ref().ok_or_else(|| lacks("config"))?;
            self.layers.as_ref().ok_or_else(|| lacks("layers"))?;
            return Ok(ManifestKind::Image);
        }
        if media_type::is_index(media_type) {
            self.manifests.as_ref().ok_or_else(|| lacks("manifests"))?;
            return Ok(ManifestKind::Index);
        }
        Err(ParseManifestError::Unknown {
            media_type: media_type.to_owned(),
        })
    }
}

/// Cuts `; charset=utf-8` off a content type.
fn without_parameters(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[expect(
    clippy::expect_used,
    reason = "the fields are strings, numbers, lists and string maps"
)]
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers, lists and string maps become JSON")
}

#[cfg(test)]
mod tests;
