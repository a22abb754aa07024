//! A manifest that is about to be pushed: parsed, weighed, not stored yet.

use std::collections::BTreeMap;

use blob_store::CommitUploadError;
use bytes::Bytes;
use catalog::{ManifestContent, PushManifestError, PushedManifest};
use oci::{
    Descriptor, Digest, ImageManifest, Manifest, ParseManifestError, Selector, Tag, media_type,
};
use thiserror::Error;

/// A manifest with its body.
#[derive(Debug)]
pub(crate) struct ManifestPush {
    body: Bytes,
    pushed: PushedManifest,
}

impl ManifestPush {
    /// Parses `body`, which was sent as `content_type` to be stored under `selector`.
    pub(crate) fn parse(
        selector: &Selector,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Self, PutManifestError> {
        let digest = Digest::of(&body);
        let invalid = |source| PutManifestError::Invalid { digest, source };
        let manifest = Manifest::parse(content_type, &body).map_err(invalid)?;
        let tags = match selector {
            Selector::Tag(tag) => vec![tag.clone()],
            Selector::Digest(expected) if *expected == digest => Vec::new(),
            Selector::Digest(expected) => {
                let (expected, actual) = (*expected, digest);
                return Err(PutManifestError::Mismatch { expected, actual });
            }
        };
        let pushed = PushedManifest {
            digest,
            media_type: received_type(content_type)
                .unwrap_or(manifest.media_type())
                .to_owned(),
            size: body.len() as u64,
            content: content_of(&manifest),
            subject: manifest.subject().map(|subject| subject.digest),
            artifact_type: manifest.artifact_type().map(str::to_owned),
            annotations: manifest.annotations().clone(),
            tags,
        };
        Ok(Self { body, pushed })
    }

    /// Adds tags to point at the manifest.
    pub(crate) fn add_tags(&mut self, tags: impl IntoIterator<Item = Tag>) {
        self.pushed.tags.extend(tags);
    }

    pub(crate) fn pushed(&self) -> &PushedManifest {
        &self.pushed
    }

    pub(crate) fn into_parts(self) -> (Bytes, PushedManifest) {
        (self.body, self.pushed)
    }
}

/// Why a manifest was not accepted.
#[derive(Debug, Error)]
pub(crate) enum PutManifestError {
    /// The body is not the manifest its media type says it is.
    #[error("manifest {digest} is not valid")]
    Invalid {
        /// Digest of the body.
        digest: Digest,
        /// Where it is wrong.
        source: ParseManifestError,
    },
    /// The body is another one.
    #[error("manifest has digest {actual}, not {expected}")]
    Mismatch {
        /// The digest it was pushed as.
        expected: Digest,
        /// The digest of the body.
        actual: Digest,
    },
    /// The body could not be stored.
    #[error("manifest {digest} could not be stored")]
    Store {
        /// The manifest.
        digest: Digest,
        /// The cause.
        source: Box<CommitUploadError>,
    },
    /// The catalog did not take it.
    #[error("manifest {digest} was not accepted")]
    Refused {
        /// The manifest.
        digest: Digest,
        /// The cause.
        source: PushManifestError,
    },
}

/// Cuts the parameters off a content type. It is the body's own media type, if that states one.
fn received_type(content_type: Option<&str>) -> Option<&str> {
    let essence = content_type?.split(';').next().unwrap_or_default().trim();
    Some(essence).filter(|essence| !essence.is_empty())
}

fn content_of(manifest: &Manifest) -> ManifestContent {
    match manifest {
        Manifest::Index(index) => ManifestContent::Index {
            manifests: index.manifests.iter().map(|child| child.digest).collect(),
        },
        Manifest::Image(image) => {
            let needed = needed_blobs(image);
            let size = needed
                .values()
                .fold(0_u64, |sum, size| sum.saturating_add(*size));
            let blobs = needed.into_keys().collect();
            if is_convertible(image) {
                ManifestContent::Image { blobs, size }
            } else {
                ManifestContent::Artifact { blobs, size }
            }
        }
    }
}

/// Returns the blobs that must be there, each once, with their sizes.
fn needed_blobs(image: &ImageManifest) -> BTreeMap<Digest, u64> {
    let all = std::iter::once(&image.config).chain(&image.layers);
    let own = all.filter(|blob| !is_foreign(blob));
    own.map(|blob| (blob.digest, blob.size)).collect()
}

// SPEC: image, "Non-Distributable Layers": such layers are not pushed with the image. Their URLs
// are kept and never followed.
fn is_foreign(blob: &Descriptor) -> bool {
    let is_nondistributable = matches!(
        blob.media_type.as_str(),
        media_type::OCI_NONDISTRIBUTABLE_LAYER_TAR
            | media_type::OCI_NONDISTRIBUTABLE_LAYER_GZIP
            | media_type::OCI_NONDISTRIBUTABLE_LAYER_ZSTD
            | media_type::DOCKER_FOREIGN_LAYER_GZIP
    );
    is_nondistributable || !blob.urls.is_empty()
}

/// Says whether the manifest is that of an image with a root filesystem. Signatures and attestations
/// come with an image's config too, but not with its layers.
fn is_convertible(image: &ImageManifest) -> bool {
    image.artifact_type.is_none()
        && media_type::is_config(&image.config.media_type)
        && !image.layers.is_empty()
        && image
            .layers
            .iter()
            .all(|layer| media_type::is_layer(&layer.media_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(config: &str, layer: &str) -> ImageManifest {
        let config = Descriptor::of(config, b"{}");
        ImageManifest::new(config, vec![Descriptor::of(layer, b"layer")])
    }

    #[test]
    fn only_an_image_with_layers_is_convertible() {
        use media_type::{OCI_CONFIG, OCI_EMPTY, OCI_LAYER_GZIP};
        let image = manifest(OCI_CONFIG, OCI_LAYER_GZIP);
        assert!(is_convertible(&image));
        let mut artifact = image.clone();
        artifact.artifact_type = Some("application/sbom".to_owned());
        let mut empty = image;
        empty.layers.clear();
        let signature = manifest(
            OCI_CONFIG,
            "application/vnd.dev.cosign.simplesigning.v1+json",
        );
        let chart = manifest(OCI_EMPTY, OCI_LAYER_GZIP);
        for other in [artifact, empty, signature, chart] {
            assert!(!is_convertible(&other), "{other:?}");
        }
    }

    #[test]
    fn a_foreign_layer_need_not_be_pushed() {
        let mut image = manifest(media_type::OCI_CONFIG, media_type::OCI_LAYER_GZIP);
        image.layers[0]
            .urls
            .push("https://example.com/layer".to_owned());
        assert_eq!(
            needed_blobs(&image).into_keys().collect::<Vec<_>>(),
            [Digest::of(b"{}")]
        );
    }
}
