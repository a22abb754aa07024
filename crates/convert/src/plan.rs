//! What has to be converted: the image's manifests and configs, read and judged.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use image_format::AcceleratedManifest;
use oci::{
    Descriptor, Digest, ImageConfig, ImageIndex, ImageManifest, Manifest, Platform, media_type,
};

use crate::converted::LeftOut;
use crate::error::ConvertError;
use crate::layer::LayerJob;
use crate::ports::{ImageSource, SourceManifest};

/// Longest manifest, index or config: what registries take (the distribution specification asks for 4 MiB).
const DOCUMENT_LEN_MAX: u64 = 8 << 20;

/// Most manifests of an index. The largest official images have about 20, attestations included.
const INDEX_LEN_MAX: usize = 1024;

/// Most layers of an image: the root tree numbers its devices with 16 bits, and no runtime takes as many.
const LAYER_COUNT_MAX: usize = 4096;

/// What docker's attestation manifests say of themselves in an index.
const ATTESTATION_ANNOTATION: &str = "vnd.docker.reference.type";

/// Platform of a manifest that is for none, in docker's indexes.
const UNKNOWN_PLATFORM: &str = "unknown";

/// An image that can be converted, as far as its manifests and configs show.
#[derive(Debug)]
pub(crate) struct ImagePlan {
    /// The manifest or index that the source was opened for.
    pub(crate) source: Descriptor,
    /// The index, if it is one.
    pub(crate) index: Option<ImageIndex>,
    /// At least one.
    pub(crate) platforms: Vec<PlatformPlan>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// One platform of it.
#[derive(Debug)]
pub(crate) struct PlatformPlan {
    /// The platform's manifest; in an index, as the index names it.
    pub(crate) source: Descriptor,
    pub(crate) manifest: ImageManifest,
    pub(crate) config: Bytes,
    pub(crate) platform: Platform,
    /// Bottom to top.
    pub(crate) layers: Vec<LayerJob>,
}

/// Reads the image's manifests and configs.
///
/// # Errors
///
/// Whatever shows without reading a layer that the image cannot be converted.
pub(crate) async fn resolve(source: &dyn ImageSource) -> Result<ImagePlan, ConvertError> {
    let top = source.manifest(None).await?;
    let descriptor = top.descriptor.clone();
    match parse_manifest(&top)? {
        Manifest::Image(manifest) => {
            let platform = plan_platform(source, &descriptor, manifest).await?;
            Ok(ImagePlan {
                source: descriptor,
                index: None,
                platforms: vec![platform],
                left_out: Vec::new(),
            })
        }
        Manifest::Index(index) => plan_index(source, descriptor, index).await,
    }
}

async fn plan_index(
    source: &dyn ImageSource,
    descriptor: Descriptor,
    index: ImageIndex,
) -> Result<ImagePlan, ConvertError> {
    if index.manifests.len() > INDEX_LEN_MAX {
        let reason = format!("its index has more than {INDEX_LEN_MAX} manifests");
        return Err(unsupported(&descriptor, reason));
    }
    let mut platforms = Vec::new();
    let mut left_out = Vec::new();
    let mut seen = HashSet::new();
    for entry in &index.manifests {
        if !seen.insert(entry.digest) {
            continue;
        }
        match plan_entry(source, entry).await {
            Ok(platform) => platforms.push(platform),
            Err(ConvertError::NotAnImage { digest, reason }) => left_out.push(LeftOut {
                manifest: digest,
                reason,
            }),
            Err(error) => return Err(error),
        }
    }
    if platforms.is_empty() {
        return Err(not_an_image(&descriptor, "its index names no image"));
    }
    Ok(ImagePlan {
        source: descriptor,
        index: Some(index),
        platforms,
        left_out,
    })
}

async fn plan_entry(
    source: &dyn ImageSource,
    entry: &Descriptor,
) -> Result<PlatformPlan, ConvertError> {
    if is_attestation(entry) {
        return Err(not_an_image(entry, "it is an attestation about the source image"));
    }
    let manifest = source.manifest(Some(&entry.digest)).await?;
    match parse_manifest(&manifest)? {
        Manifest::Image(manifest) => plan_platform(source, entry, manifest).await,
        Manifest::Index(_) => Err(unsupported(entry, "it is an index inside an index")),
    }
}

fn is_attestation(entry: &Descriptor) -> bool {
    let is_unknown = |platform: &Platform| {
        platform.os == UNKNOWN_PLATFORM && platform.architecture == UNKNOWN_PLATFORM
    };
    entry.annotations.contains_key(ATTESTATION_ANNOTATION)
        || entry.platform.as_ref().is_some_and(is_unknown)
}

async fn plan_platform(
    source: &dyn ImageSource,
    descriptor: &Descriptor,
    manifest: ImageManifest,
) -> Result<PlatformPlan, ConvertError> {
    refuse_unsuitable(descriptor, &manifest)?;
    let body = fetch_document(source, &manifest.config).await?;
    let config = ImageConfig::parse(&body).map_err(|source| ConvertError::Config {
        digest: manifest.config.digest,
        source,
    })?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let (layers, diff_ids) = (manifest.layers.len(), diff_ids.len());
        let reason = format!("its manifest has {layers} layers, its config {diff_ids} diff IDs");
        return Err(unsupported(descriptor, reason));
    }
    let layers = manifest.layers.iter().zip(diff_ids);
    let layers = layers.map(|(blob, diff_id)| LayerJob {
        blob: blob.clone(),
        diff_id: *diff_id,
    });
    Ok(PlatformPlan {
        source: descriptor.clone(),
        platform: descriptor.platform.clone().unwrap_or_else(|| platform_of(&config)),
        layers: layers.collect(),
        config: body,
        manifest,
    })
}
