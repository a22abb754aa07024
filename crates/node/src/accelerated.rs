//! An accelerated image: its index is fetched, its layers are opened and stay where they are.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures::future::{try_join, try_join_all};
use image_format::{
    AcceleratedManifest, CHUNK_TABLE_LEN_MAX, ChunkTable, ROOT_TREE_STORED_LEN_MAX,
    decompress_root_tree, erofs::ErofsTree,
};
use oci::{Descriptor, Digest, ImageConfig, RepositoryClient};
use tokio::task::spawn_blocking;

use crate::{
    NodeError,
    image_record::{LayerRecord, write_atomically},
    resolve::ResolvedImage,
};

/// Everything that a mount of an accelerated image needs, fetched and checked.
pub(crate) struct FetchedIndex {
    /// The layers, lowest first, each with its chunk table's bytes.
    pub(crate) layers: Vec<(LayerRecord, Bytes)>,
    /// Bytes fetched.
    pub(crate) fetched_bytes: u64,
}

/// Fetches configuration, tree and tables side by side, checks them and writes the tree and the
/// configuration to `directory`.
///
/// # Errors
///
/// [`NodeError`], which names the image and the part of it.
pub(crate) async fn fetch_index(
    resolved: &ResolvedImage,
    accelerated: &AcceleratedManifest,
    directory: &Path,
) -> Result<FetchedIndex, NodeError> {
    let config = fetch(resolved, &accelerated.config, oci::CONFIG_LEN_MAX);
    let tree = fetch(resolved, &accelerated.root_tree, ROOT_TREE_STORED_LEN_MAX);
    let tables = try_join_all(
        accelerated
            .layers
            .iter()
            .map(|layer| fetch(resolved, &layer.chunk_table, CHUNK_TABLE_LEN_MAX)),
    );
    let ((config, tree), tables) = try_join(try_join(config, tree), tables).await?;
    let fetched_bytes = [&config, &tree]
        .into_iter()
        .chain(&tables)
        .map(|part| part.len() as u64)
        .sum();
    let records = layer_records(resolved, accelerated, &config, &tables)?;
    let tar_lens: Vec<u64> = records.iter().map(|layer| layer.tar_len).collect();
    let image = resolved.reference.to_string();
    let directory = directory.to_owned();
    let kept = spawn_blocking(move || keep(&image, &directory, &config, &tree, &tar_lens)).await;
    kept.unwrap_or_else(|panic| Err(invalid(resolved, "its root tree", panic)))?;
    Ok(FetchedIndex {
        layers: records.into_iter().zip(tables).collect(),
        fetched_bytes,
    })
}

async fn fetch(
    resolved: &ResolvedImage,
    part: &Descriptor,
    len_max: u64,
) -> Result<Bytes, NodeError> {
    let fetched = resolved.repository.fetch_blob_bytes(part, len_max).await;
    fetched.map_err(|source| NodeError::Fetch {
        image: resolved.reference.to_string(),
        source,
    })
}

fn layer_records(
    resolved: &ResolvedImage,
    accelerated: &AcceleratedManifest,
    config: &Bytes,
    tables: &[Bytes],
) -> Result<Vec<LayerRecord>, NodeError> {
    let config = ImageConfig::parse(config)
        .map_err(|error| invalid(resolved, "its configuration", error))?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != accelerated.layers.len() {
        let text = format!(
            "{} layers, but {} diff IDs",
            accelerated.layers.len(),
            diff_ids.len()
        );
        return Err(invalid(resolved, "its configuration", text));
    }
    let layers = accelerated.layers.iter().zip(tables).zip(diff_ids);
    layers
        .map(|((layer, table), diff_id)| {
            let part = || {
                format!(
                    "chunk table {} of layer {diff_id}",
                    layer.chunk_table.digest
                )
            };
            let header =
                ChunkTable::decode(table).map_err(|error| invalid(resolved, part(), error))?;
            if header.diff_id() != diff_id {
                return Err(invalid(
                    resolved,
                    part(),
                    format!("it is for layer {}", header.diff_id()),
                ));
            }
            if header.blob_len() != layer.stored.size {
                let text = format!("it is for a blob of {} bytes", header.blob_len());
                return Err(invalid(resolved, part(), text));
            }
            Ok(LayerRecord {
                diff_id,
                tar_len: header.tar_len(),
                stored: layer.stored.clone(),
                chunk_table: Some(layer.chunk_table.clone()),
            })
        })
        .collect()
}

/// Invariant 1 of the crate: the tree is read by us before the kernel sees it.
fn keep(
    image: &str,
    directory: &Path,
    config: &[u8],
    stored: &[u8],
    tar_lens: &[u64],
) -> Result<(), NodeError> {
    let tree = decompress_root_tree(stored)
        .map_err(|error| invalid_part(image, "its root tree", error))?;
    ErofsTree::parse(&tree, tar_lens)
        .map_err(|error| invalid_part(image, "its root tree", error))?;
    keep_tree(directory, config, &tree)
}

/// Writes the tree and the configuration of an image.
pub(crate) fn keep_tree(directory: &Path, config: &[u8], tree: &[u8]) -> Result<(), NodeError> {
    for (name, bytes) in [("config.json", config), ("tree.erofs", tree)] {
        let path = directory.join(name);
        write_atomically(&path, bytes).map_err(|error| NodeError::Store {
            what: path.display().to_string(),
            source: Box::new(error),
        })?;
    }
    Ok(())
}

/// The error of a part of an image that is not what it should be.
pub(crate) fn invalid(
    resolved: &ResolvedImage,
    part: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> NodeError {
    invalid_part(&resolved.reference.to_string(), part, source)
}

fn invalid_part(
    image: &str,
    part: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> NodeError {
    NodeError::Invalid {
        image: image.to_owned(),
        part: part.into(),
        source: source.into(),
    }
}

/// Where the data of a layer comes from.
pub(crate) fn source_of(
    repository: &RepositoryClient,
    layer: &LayerRecord,
) -> Arc<dyn layer_fetch::RangeSource> {
    Arc::new(layer_fetch::RegistrySource::new(
        repository.clone(),
        layer.stored.digest,
    ))
}

/// The digest of a lazy layer's chunk table.
pub(crate) fn table_of(layer: &LayerRecord) -> Option<Digest> {
    layer.chunk_table.as_ref().map(|table| table.digest)
}
