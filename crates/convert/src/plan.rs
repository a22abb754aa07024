//! What has to be converted: the image's manifests and configs, read and judged.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use image_format::LAYER_COUNT_MAX;
use image_format::annotations::{ARTIFACT_TYPE, INDEX_ARTIFACT_TYPE};
use oci::{
    CONFIG_LEN_MAX, Descriptor, Digest, ImageConfig, ImageIndex, ImageManifest, Manifest, Platform,
    media_type,
};

use crate::converted::LeftOut;
use crate::error::ConvertError;
use crate::layer::LayerJob;
use crate::ports::{ImageSource, SourceManifest};

/// Most manifests of an index. The largest official images have about 20, attestations included.
const INDEX_LEN_MAX: usize = 1024;

/// What docker's attestation manifests say of themselves in an index.
const ATTESTATION_ANNOTATION: &str = "vnd.docker.reference.type";

/// Layers that are statements about an image.
const IN_TOTO_TYPES: [&str; 1] = ["application/vnd.in-toto+json"];

/// Layers that a registry need not hold.
const FOREIGN_LAYER_TYPES: [&str; 4] = [
    media_type::OCI_NONDISTRIBUTABLE_LAYER_TAR,
    media_type::OCI_NONDISTRIBUTABLE_LAYER_GZIP,
    media_type::OCI_NONDISTRIBUTABLE_LAYER_ZSTD,
    media_type::DOCKER_FOREIGN_LAYER_GZIP,
];

/// What some builders call a zstd layer of a Docker image; no specification has it.
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

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
    if is_ours(index.artifact_type.as_deref()) {
        let digest = descriptor.digest;
        return Err(ConvertError::AlreadyAccelerated { digest });
    }
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
        return Err(not_an_image(
            entry,
            "it is an attestation about the source image",
        ));
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
    if !config.os.is_empty() && config.os != "linux" {
        return Err(not_an_image(
            descriptor,
            format!("it is for {}, not for linux", config.os),
        ));
    }
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
        platform: descriptor
            .platform
            .clone()
            .unwrap_or_else(|| platform_of(&config)),
        layers: layers.collect(),
        config: body,
        manifest,
    })
}

/// Refuses what is no image, what was converted before, and what cannot be converted.
fn refuse_unsuitable(
    descriptor: &Descriptor,
    manifest: &ImageManifest,
) -> Result<(), ConvertError> {
    let digest = descriptor.digest;
    if is_ours(manifest.artifact_type.as_deref()) {
        return Err(ConvertError::AlreadyAccelerated { digest });
    }
    if let Some(kind) = manifest
        .artifact_type
        .as_deref()
        .filter(|kind| !kind.is_empty())
    {
        return Err(not_an_image(
            descriptor,
            format!("it is an artifact of type {kind}"),
        ));
    }
    let config_type = manifest.config.media_type.as_str();
    if !media_type::is_config(config_type) {
        return Err(not_an_image(
            descriptor,
            format!("its config has the type {config_type}"),
        ));
    }
    if !(1..=LAYER_COUNT_MAX).contains(&manifest.layers.len()) {
        let reason = format!(
            "it has {} layers, not 1 to {LAYER_COUNT_MAX}",
            manifest.layers.len()
        );
        return Err(unsupported(descriptor, reason));
    }
    manifest
        .layers
        .iter()
        .try_for_each(|layer| refuse_layer(descriptor, layer))
}

fn refuse_layer(descriptor: &Descriptor, layer: &Descriptor) -> Result<(), ConvertError> {
    let (digest, kind) = (layer.digest, &layer.media_type);
    if IN_TOTO_TYPES.contains(&kind.as_str()) {
        return Err(not_an_image(
            descriptor,
            format!("its layer {digest} is an attestation"),
        ));
    }
    if !layer.urls.is_empty() || FOREIGN_LAYER_TYPES.contains(&kind.as_str()) {
        let reason = format!("its layer {digest} is kept elsewhere (foreign, {kind})");
        return Err(unsupported(descriptor, reason));
    }
    if !media_type::is_layer(kind) && kind != DOCKER_LAYER_ZSTD {
        let reason = format!("its layer {digest} has the media type {kind}");
        return Err(unsupported(descriptor, reason));
    }
    Ok(())
}

/// Tells whether an artifact type is one of this format's.
fn is_ours(artifact_type: Option<&str>) -> bool {
    artifact_type.is_some_and(|kind| kind == ARTIFACT_TYPE || kind == INDEX_ARTIFACT_TYPE)
}

/// Checks a manifest's body against its digest, and parses it.
fn parse_manifest(manifest: &SourceManifest) -> Result<Manifest, ConvertError> {
    check_content(&manifest.body, manifest.descriptor.digest)?;
    let media_type = Some(manifest.descriptor.media_type.as_str()).filter(|kind| !kind.is_empty());
    Manifest::parse(media_type, &manifest.body).map_err(|source| ConvertError::Manifest {
        digest: manifest.descriptor.digest,
        source,
    })
}

/// Reads a whole blob that is a document, and checks it.
async fn fetch_document(
    source: &dyn ImageSource,
    document: &Descriptor,
) -> Result<Bytes, ConvertError> {
    let mut body = BytesMut::new();
    let mut pieces = source.open_blob(document).await?;
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece?);
        if body.len() as u64 > CONFIG_LEN_MAX {
            return Err(ConvertError::TooLong {
                digest: document.digest,
                len: body.len() as u64,
                len_max: CONFIG_LEN_MAX,
            });
        }
    }
    check_content(&body, document.digest)?;
    Ok(body.freeze())
}

fn check_content(body: &[u8], wanted: Digest) -> Result<(), ConvertError> {
    let actual = Digest::of(body);
    if actual == wanted {
        return Ok(());
    }
    Err(ConvertError::WrongContent {
        wanted,
        actual,
        actual_len: body.len() as u64,
    })
}

fn platform_of(config: &ImageConfig) -> Platform {
    let mut platform = Platform::new(config.os.clone(), config.architecture.clone());
    platform.variant.clone_from(&config.variant);
    platform
}

fn not_an_image(descriptor: &Descriptor, reason: impl Into<String>) -> ConvertError {
    ConvertError::NotAnImage {
        digest: descriptor.digest,
        reason: reason.into(),
    }
}

fn unsupported(descriptor: &Descriptor, reason: impl Into<String>) -> ConvertError {
    ConvertError::Unsupported {
        digest: descriptor.digest,
        reason: reason.into(),
    }
}
