//! From converted layers to the manifests of an accelerated image. Pure: no file, no network.

use std::sync::Arc;

use bytes::Bytes;
use image_format::erofs::{ErofsTree, write_erofs};
use image_format::tar::LayerScan;
use image_format::tree::merge_layers;
use image_format::{
    AcceleratedLayer, AcceleratedManifest, ChunkTable, EMPTY_CONFIG, annotations,
    compress_root_tree, index_artifact,
};
use oci::{Descriptor, ImageIndex, ImageManifest, media_type};

use crate::converted::{Converted, ConvertedLayer, ConvertedPlatform};
use crate::error::ConvertError;
use crate::layer::{LayerJob, StoredLayer};
use crate::plan::{ImagePlan, PlatformPlan};
use crate::publication::Publication;

/// A platform whose layers are converted.
#[derive(Debug)]
pub(crate) struct PlatformParts {
    pub(crate) source: Descriptor,
    pub(crate) manifest: ImageManifest,
    pub(crate) layers: Vec<(LayerJob, Arc<StoredLayer>)>,
    pub(crate) scans: Vec<LayerScan>,
}

/// A platform whose manifests are made.
#[derive(Debug)]
pub(crate) struct AssembledPlatform {
    manifest: ImageManifest,
    artifact: ImageManifest,
    tree: (Descriptor, Bytes),
    tree_len: u64,
    tables: Vec<(Descriptor, Bytes)>,
    layers: Vec<(AcceleratedLayer, LayerJob, Arc<StoredLayer>)>,
}

/// Merges the layers into a root tree, and makes tables, manifest and index artifact.
///
/// # Errors
///
/// [`ConvertError::Merge`] and [`ConvertError::Tree`], if the layers cannot be one root filesystem.
pub(crate) fn assemble_platform(parts: PlatformParts) -> Result<AssembledPlatform, ConvertError> {
    let source = parts.source.digest;
    let unreadable = |error| ConvertError::Unreadable {
        manifest: source,
        source: error,
    };
    let tree = write_tree(&parts)?;
    let stored_tree = compress_root_tree(&tree).map_err(|error| ConvertError::StoreTree {
        manifest: source,
        source: error,
    })?;
    let tree_descriptor = Descriptor::of(annotations::ROOT_TREE, &stored_tree);
    let mut layers = Vec::with_capacity(parts.layers.len());
    let mut tables = Vec::with_capacity(parts.layers.len());
    for (job, stored) in parts.layers {
        let table = Bytes::from(stored.table.encode());
        ChunkTable::decode(&table).map_err(|error| unreadable(error.into()))?;
        let layer = AcceleratedLayer {
            stored: Descriptor::new(media_type::OCI_LAYER_ZSTD, stored.digest, stored.len),
            chunk_table: Descriptor::of(annotations::CHUNK_TABLE, &table),
        };
        tables.push((layer.chunk_table.clone(), table));
        layers.push((layer, job, stored));
    }
    let accelerated: Vec<_> = layers.iter().map(|(layer, _, _)| layer.clone()).collect();
    let manifest = AcceleratedManifest::build(
        &parts.source,
        &parts.manifest.annotations,
        oci_config(&parts.manifest.config),
        &tree_descriptor,
        &accelerated,
    );
    AcceleratedManifest::from_manifest(&manifest).map_err(|error| unreadable(error.into()))?;
    let subject = Descriptor::of(media_type::OCI_MANIFEST, &manifest.to_json());
    Ok(AssembledPlatform {
        artifact: index_artifact(&subject, &tree_descriptor, &accelerated),
        manifest,
        tree_len: tree.len() as u64,
        tree: (tree_descriptor, stored_tree.into()),
        tables,
        layers,
    })
}

/// Writes the root tree and reads it as a node will.
fn write_tree(parts: &PlatformParts) -> Result<Vec<u8>, ConvertError> {
    let manifest = parts.source.digest;
    let merged =
        merge_layers(&parts.scans).map_err(|source| ConvertError::Merge { manifest, source })?;
    let tar_lens: Vec<u64> = parts.scans.iter().map(|scan| scan.tar_len).collect();
    let tree = write_erofs(&merged, &tar_lens)
        .map_err(|source| ConvertError::Tree { manifest, source })?;
    drop(merged);
    match ErofsTree::parse(&tree, &tar_lens) {
        Ok(_readable) => Ok(tree),
        Err(error) => Err(ConvertError::Unreadable {
            manifest,
            source: error.into(),
        }),
    }
}

/// The source's config as an OCI manifest names it: the same bytes, so the same image ID. Docker's own type
/// would make podman and skopeo take the manifest for an artifact's.
fn oci_config(config: &Descriptor) -> Descriptor {
    let mut config = config.clone();
    media_type::OCI_CONFIG.clone_into(&mut config.media_type);
    config
}

/// Puts all platforms of an image together.
pub(crate) fn assemble_image(
    plan: ImagePlan,
    platforms: Vec<AssembledPlatform>,
) -> (Converted, Publication) {
    let mut publication = Publication::default();
    let mut converted = Vec::with_capacity(platforms.len());
    for (plan, assembled) in plan.platforms.iter().zip(platforms) {
        converted.push(publish_platform(plan, assembled, &mut publication));
    }
    let target = match &plan.index {
        Some(index) => {
            let index = assemble_index(&plan.source, index, &plan.platforms, &converted);
            let (target, body) = document(media_type::OCI_INDEX, index.to_json());
            publication.add_manifest(target.clone(), body);
            Some(target)
        }
        None => converted.first().map(|platform| platform.manifest.clone()),
    };
    let converted = Converted {
        // A plan has at least one platform.
        target: target.unwrap_or_else(|| plan.source.clone()),
        source: plan.source,
        platforms: converted,
        left_out: plan.left_out,
    };
    (converted, publication)
}

fn publish_platform(
    plan: &PlatformPlan,
    assembled: AssembledPlatform,
    publication: &mut Publication,
) -> ConvertedPlatform {
    let (empty, body) = document(media_type::OCI_EMPTY, EMPTY_CONFIG.to_vec());
    publication.add_blob(empty, body);
    publication.add_blob(assembled.manifest.config.clone(), plan.config.clone());
    let (tree, stored_tree) = assembled.tree;
    let stored_tree_len = tree.size;
    publication.add_blob(tree, stored_tree);
    for (table, bytes) in assembled.tables {
        publication.add_blob(table, bytes);
    }
    let mut layers = Vec::with_capacity(assembled.layers.len());
    for (layer, job, stored) in assembled.layers {
        layers.push(ConvertedLayer {
            diff_id: job.diff_id,
            tar_len: stored.table.tar_len(),
            source: job.blob.digest,
            source_len: job.blob.size,
            stored: stored.digest,
            stored_len: stored.len,
            chunk_count: stored.table.len().into(),
            table_len: layer.chunk_table.size,
        });
        publication.add_layer(layer.stored, stored);
    }
    let (manifest, body) = document(media_type::OCI_MANIFEST, assembled.manifest.to_json());
    publication.add_manifest(manifest.clone(), body);
    let (artifact, body) = document(media_type::OCI_MANIFEST, assembled.artifact.to_json());
    publication.add_index_artifact(artifact.clone(), body);
    ConvertedPlatform {
        platform: plan.platform.clone(),
        source: plan.source.digest,
        manifest,
        index_artifact: artifact,
        layers,
        tree_len: assembled.tree_len,
        stored_tree_len,
    }
}

/// Makes the index of the accelerated platforms, each described as the source's index describes it.
fn assemble_index(
    source: &Descriptor,
    index: &ImageIndex,
    plans: &[PlatformPlan],
    converted: &[ConvertedPlatform],
) -> ImageIndex {
    let entries = plans.iter().zip(converted).map(|(plan, converted)| {
        let mut entry = converted.manifest.clone();
        entry.platform = Some(converted.platform.clone());
        entry.annotations.clone_from(&plan.source.annotations);
        entry
    });
    let mut made = ImageIndex::new(entries.collect());
    made.artifact_type = Some(annotations::ARTIFACT_TYPE.to_owned());
    made.subject = Some(Descriptor::new(
        &source.media_type,
        source.digest,
        source.size,
    ));
    made.annotations.clone_from(&index.annotations);
    made.annotations
        .retain(|name, _| !name.starts_with(annotations::PREFIX));
    made.annotations.extend([
        (
            annotations::FORMAT.to_owned(),
            annotations::FORMAT_VERSION.to_owned(),
        ),
        (
            annotations::SOURCE_DIGEST.to_owned(),
            source.digest.to_string(),
        ),
    ]);
    made
}

fn document(media_type: &str, body: Vec<u8>) -> (Descriptor, Bytes) {
    (Descriptor::of(media_type, &body), body.into())
}
