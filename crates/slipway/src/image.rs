//! `slipway image`: convert and list.

use std::path::{Path, PathBuf};

use api::{Freshness, Image, ImageList};
use convert::{
    ConvertOptions, Converted, ImageSource, ImageTarget, LayoutSide, RegistrySide, convert_image,
};
use oci::{ClientOptions, OciLayout, RegistryClient};

use crate::{
    api_client::{ApiClient, current_thread_runtime},
    cli::{ConvertArgs, OutputFormat},
    failure::Failure,
    image_side::ImageSide,
    progress::ConversionBars,
    table, units,
};

/// Converts one image.
pub(crate) fn convert(args: &ConvertArgs, output: OutputFormat) -> Result<(), Failure> {
    let source: ImageSide = args.source.parse()?;
    let target: ImageSide = args.target.parse()?;
    let source = open_source(source)?;
    let target = open_target(target)?;
    let options = ConvertOptions {
        zstd_level: args.level,
        ..ConvertOptions::in_dir(args.work_dir.clone().unwrap_or_else(default_work_dir))
    };
    let bars = ConversionBars::default();
    let converting = convert_image(source.as_ref(), target.as_ref(), &options, &bars);
    let converted = current_thread_runtime()?
        .block_on(converting)
        .map_err(|error| {
            Failure::while_doing(&error, format!("{} could not be converted", args.source))
        })?;
    print(&converted, output)
}

/// `/var/tmp`, not `/tmp`: layers are large, and `/tmp` is often kept in memory.
fn default_work_dir() -> PathBuf {
    let large = PathBuf::from("/var/tmp");
    if large.is_dir() {
        large
    } else {
        std::env::temp_dir()
    }
}

fn open_source(side: ImageSide) -> Result<Box<dyn ImageSource>, Failure> {
    match side {
        ImageSide::Registry(reference) => Ok(Box::new(registry_side(reference)?)),
        ImageSide::Layout { directory, tag } => {
            let layout = OciLayout::open(directory).map_err(|error| Failure::of(&error))?;
            Ok(Box::new(LayoutSide::new(layout, tag)))
        }
    }
}

fn open_target(side: ImageSide) -> Result<Box<dyn ImageTarget>, Failure> {
    match side {
        ImageSide::Registry(reference) => Ok(Box::new(registry_side(reference)?)),
        ImageSide::Layout { directory, tag } => {
            let layout = OciLayout::create(directory).map_err(|error| Failure::of(&error))?;
            Ok(Box::new(LayoutSide::new(layout, tag)))
        }
    }
}

fn registry_side(reference: oci::ImageReference) -> Result<RegistrySide, Failure> {
    let client =
        RegistryClient::new(ClientOptions::default()).map_err(|error| Failure::of(&error))?;
    Ok(RegistrySide::new(
        client.for_image(&reference),
        reference.selector,
    ))
}

fn print(converted: &Converted, output: OutputFormat) -> Result<(), Failure> {
    let header = [
        "PLATFORM", "LAYERS ", "SOURCE ", "STORED ", "TREE ", "MANIFEST",
    ];
    table::print(converted, output, &header, |converted| {
        let row = |platform: &convert::ConvertedPlatform| {
            let sum =
                |len: fn(&convert::ConvertedLayer) -> u64| platform.layers.iter().map(len).sum();
            vec![
                format!(
                    "{}/{}",
                    platform.platform.os, platform.platform.architecture
                ),
                platform.layers.len().to_string(),
                units::bytes(sum(|layer| layer.source_len)),
                units::bytes(sum(|layer| layer.stored_len)),
                units::bytes(platform.stored_tree_len),
                platform.manifest.digest.to_string(),
            ]
        };
        converted.platforms.iter().map(row).collect()
    })
}

/// Lists the images of the registry.
pub(crate) fn list(data: &Path, output: OutputFormat) -> Result<(), Failure> {
    let list: ImageList = ApiClient::find(data)?.get("/api/v1/images")?;
    let header = ["IMAGE", "SIZE ", "ACCELERATED", "DIGEST"];
    table::print(&list, output, &header, |list| {
        list.images.iter().map(row).collect()
    })
}

fn row(image: &Image) -> Vec<String> {
    let accelerated = match (&image.accelerated, image.kind) {
        (_, api::ImageKind::Accelerated) => "is",
        (None, api::ImageKind::Pushed) => "no",
        (Some(twin), api::ImageKind::Pushed) => match twin.freshness {
            Freshness::Fresh => "yes",
            Freshness::Stale => "stale",
        },
    };
    vec![
        format!("{}:{}", image.repository, image.tag),
        units::bytes(image.content_bytes),
        accelerated.to_owned(),
        image.digest.to_string(),
    ]
}
