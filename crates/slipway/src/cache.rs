//! `slipway cache`: what the node holds.

use std::path::Path;

use node::{
    ImageKind, NodeDirectories,
    control::{CacheContents, CachedImageEntry, Reply, Request, ask},
};

use crate::{cli::OutputFormat, failure::Failure, table, units};

/// Lists what the cache holds.
pub(crate) fn list(data: &Path, output: OutputFormat) -> Result<(), Failure> {
    let Reply::Cache(contents) = ask_node(data, &Request::CacheList)? else {
        return Err(unexpected());
    };
    if output == OutputFormat::Text {
        let rows: Vec<_> = contents.images.iter().map(image_row).collect();
        let header = ["IMAGE", "KIND", "HERE ", "OF ", "CONTAINERS "];
        table::print_text(&table::align(&header, &rows))?;
        table::print_text("\n")?;
    }
    let header = ["LAYER", "HERE ", "OF ", "ON DISK ", "IMAGES "];
    table::print(&contents, output, &header, layer_rows)
}

/// Removes the images that no container uses.
pub(crate) fn prune(data: &Path, output: OutputFormat) -> Result<(), Failure> {
    let Reply::Pruned(pruned) = ask_node(data, &Request::CachePrune)? else {
        return Err(unexpected());
    };
    let header = ["IMAGES ", "LAYERS ", "FREED ", "IN USE "];
    table::print(&pruned, output, &header, |pruned| {
        vec![vec![
            pruned.images.to_string(),
            pruned.layers.to_string(),
            units::bytes(pruned.freed_bytes),
            pruned.in_use.to_string(),
        ]]
    })
}

fn ask_node(data: &Path, request: &Request) -> Result<Reply, Failure> {
    let socket = NodeDirectories::of_data(data).control_socket();
    Ok(ask(&socket, request, &mut |_| {})?)
}

/// The node answered another question than the one that was asked.
pub(crate) fn unexpected() -> Failure {
    Failure::message("the node gave an unexpected answer")
        .hint("are this program and the running server of the same version?")
}

fn image_row(image: &CachedImageEntry) -> Vec<String> {
    let kind = match image.kind {
        ImageKind::Accelerated => "accelerated",
        ImageKind::Plain => "plain",
    };
    vec![
        image.reference.clone(),
        kind.to_owned(),
        units::bytes(image.present_bytes),
        units::bytes(image.tar_bytes),
        image.containers.to_string(),
    ]
}

fn layer_rows(contents: &CacheContents) -> Vec<Vec<String>> {
    let row = |layer: &node::control::CachedLayerEntry| {
        vec![
            layer.layer.clone(),
            units::bytes(layer.present_bytes),
            units::bytes(layer.tar_bytes),
            units::bytes(layer.disk_bytes),
            layer.images.to_string(),
        ]
    };
    contents.layers.iter().map(row).collect()
}
