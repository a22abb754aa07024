//! Every kind of image that can be converted, and every kind that cannot.

use std::fs;

use convert::ConvertError;
use image_format::annotations;
use oci::{Descriptor, Digest, Manifest, media_type};
use serde_json::{Value, json};
use test_images::{Blob, Compression, Flavour, ImageBuilder, IndexBuilder, sha256};

use crate::fixture::{Place, TAG, chain, check_layers, large_layer, small_layer};

#[tokio::test]
async fn every_compression_of_either_flavour_is_converted_without_loss() {
    let tars = [small_layer(), large_layer(1), small_layer(), large_layer(2)];
    for flavour in [Flavour::Oci, Flavour::Docker] {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let place = Place::new();
            let mut image = ImageBuilder::new().flavour(flavour).command(["/bin/sh"]);
            for tar in &tars {
                image = image.layer(tar.clone(), compression);
            }
            let image = image.write_layout(&place.source_dir(), TAG).unwrap();
            let converted = place.convert().await.unwrap();

            let manifest = place.target_image(&converted.target);
            check_layers(&place, &manifest, &tars);
            assert_eq!(manifest.config.digest.to_string(), image.config.digest);
            assert_eq!(manifest.config.media_type, media_type::OCI_CONFIG);
            let config = place.target().read_blob(&manifest.config, 1 << 20).unwrap();
            assert_eq!(config[..], image.config.bytes);
            assert_eq!(
                manifest.subject.unwrap().digest.to_string(),
                image.manifest.digest
            );
            assert_eq!(
                place.target().find_tag(TAG).unwrap().unwrap().digest,
                converted.target.digest
            );
        }
    }
}

#[tokio::test]
async fn the_index_artifact_names_the_manifest_and_keeps_tables_and_tree() {
    let place = Place::new();
    let image = ImageBuilder::new().layer(small_layer(), Compression::Gzip);
    image.write_layout(&place.source_dir(), TAG).unwrap();
    let converted = place.convert().await.unwrap();
    let artifact = place.target_image(&converted.platforms[0].index_artifact);
    assert_eq!(
        artifact.artifact_type.as_deref(),
        Some(annotations::INDEX_ARTIFACT_TYPE)
    );
    assert_eq!(artifact.subject.unwrap().digest, converted.target.digest);
    for blob in artifact.layers.iter().chain([&artifact.config]) {
        place.target().read_blob(blob, 1 << 24).unwrap();
    }
}

#[tokio::test]
async fn an_index_gives_an_index_of_its_platforms_and_shared_layers_are_converted_once() {
    let (shared, own) = (large_layer(3), small_layer());
    for flavour in [Flavour::Oci, Flavour::Docker] {
        let place = Place::new();
        let image = |architecture: &str, variant| {
            ImageBuilder::new()
                .flavour(flavour)
                .platform(architecture, variant)
                .layer(shared.clone(), Compression::Gzip)
                .layer(own.clone(), Compression::Gzip)
                .env(["ARCHITECTURE=any"])
        };
        let images = IndexBuilder::new()
            .flavour(flavour)
            .image(image("amd64", None))
            .image(image("arm64", Some("v8")));
        let source = images.write_layout(&place.source_dir(), TAG).unwrap();
        let converted = place.convert().await.unwrap();

        let Manifest::Index(index) = place.target_manifest(&converted.target) else {
            panic!("not an index");
        };
        assert_eq!(
            index.subject.unwrap().digest.to_string(),
            source.index.digest
        );
        let platforms: Vec<String> = index
            .manifests
            .iter()
            .map(|entry| entry.platform.as_ref().unwrap().to_string())
            .collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64/v8"]);
        for (entry, image) in index.manifests.iter().zip(&source.images) {
            let manifest = place.target_image(entry);
            check_layers(&place, &manifest, &[shared.clone(), own.clone()]);
            assert_eq!(manifest.config.digest.to_string(), image.config.digest);
        }
        let layers = |at: usize| {
            converted.platforms[at]
                .layers
                .iter()
                .map(|layer| layer.stored)
        };
        assert!(layers(0).eq(layers(1)));
    }
}

#[tokio::test]
async fn attestations_and_other_systems_are_left_out_of_the_index_and_listed() {
    let place = Place::new();
    let image = || ImageBuilder::new().layer(small_layer(), Compression::Gzip);
    let index = IndexBuilder::new().image(image());
    let source = index.write_layout(&place.source_dir(), TAG).unwrap();
    let mut index: Value = serde_json::from_slice(&source.index.bytes).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    entries.push(json!({
        "mediaType": media_type::OCI_MANIFEST,
        "digest": sha256(b"an attestation that is never fetched"),
        "size": 36,
        "platform": { "architecture": "unknown", "os": "unknown" },
    }));
    entries.push(windows_image(&place, image()));
    replace_top(&place, media_type::OCI_INDEX, &index);

    let converted = place.convert().await.unwrap();
    assert_eq!(converted.platforms.len(), 1);
    let reasons: Vec<_> = converted
        .left_out
        .iter()
        .map(|it| it.reason.as_str())
        .collect();
    assert_eq!(reasons.len(), 2);
    assert!(
        reasons[0].contains("attestation") && reasons[1].contains("windows"),
        "{reasons:?}"
    );
}

/// Writes `image` as one for Windows into the source, and describes it.
fn windows_image(place: &Place, image: ImageBuilder) -> Value {
    let image = image.build();
    let mut config: Value = serde_json::from_slice(&image.config.bytes).unwrap();
    config["os"] = json!("windows");
    let config = Blob::new(media_type::OCI_CONFIG, config.to_string().into_bytes());
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    manifest["config"] = config.descriptor();
    let manifest = Blob::new(media_type::OCI_MANIFEST, manifest.to_string().into_bytes());
    for blob in [config, manifest.clone()] {
        fs::write(place.source_blob(&blob.digest), &blob.bytes).unwrap();
    }
    manifest.descriptor()
}

#[tokio::test]
async fn an_accelerated_image_is_not_converted_again() {
    let place = Place::new();
    let images =
        IndexBuilder::new().image(ImageBuilder::new().layer(small_layer(), Compression::Gzip));
    images.write_layout(&place.source_dir(), TAG).unwrap();
    let converted = place.convert().await.unwrap();
    for manifest in [&converted.target, &converted.platforms[0].manifest] {
        place.target().set_tag(TAG, manifest.clone()).unwrap();
        let again = Place::new();
        fs::remove_dir(again.source_dir()).unwrap();
        fs::rename(place.target().directory(), again.source_dir()).unwrap();
        let error = again.convert().await.unwrap_err();
        assert!(
            matches!(error, ConvertError::AlreadyAccelerated { .. }),
            "{}",
            chain(&error)
        );
        fs::rename(again.source_dir(), place.dir.path().join("target")).unwrap();
        fs::create_dir(again.source_dir()).unwrap();
    }
}

/// What a test does to a manifest.
type Change = fn(&mut Value);

#[tokio::test]
async fn what_is_no_image_or_cannot_be_converted_says_so() {
    let cases: [(Change, &str); 7] = [
        (
            |it| it["artifactType"] = json!("application/x.chart"),
            "an artifact of type application/x.chart",
        ),
        (
            |it| it["config"]["mediaType"] = json!("application/x.chart"),
            "its config has the type application/x.chart",
        ),
        (
            |it| it["layers"][0]["mediaType"] = json!("application/vnd.in-toto+json"),
            "is an attestation",
        ),
        (
            |it| it["layers"][0]["urls"] = json!(["https://elsewhere.test/layer"]),
            "is kept elsewhere",
        ),
        (
            |it| it["layers"][0]["mediaType"] = json!(media_type::DOCKER_FOREIGN_LAYER_GZIP),
            "is kept elsewhere",
        ),
        (
            |it| it["layers"][0]["mediaType"] = json!("application/x.tar+lz4"),
            "has the media type application/x.tar+lz4",
        ),
        (|it| it["layers"] = json!([]), "it has 0 layers"),
    ];
    for (change, wanted) in cases {
        let place = Place::new();
        let image = ImageBuilder::new().layer(small_layer(), Compression::Gzip);
        let image = image.write_layout(&place.source_dir(), TAG).unwrap();
        let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        change(&mut manifest);
        replace_top(&place, media_type::OCI_MANIFEST, &manifest);
        let error = chain(&place.convert().await.unwrap_err());
        assert!(error.contains(wanted), "{error}");
        assert!(place.target_blobs().is_empty());
    }
}

#[tokio::test]
async fn a_missing_tag_and_a_missing_blob_are_named() {
    let place = Place::new();
    let image = ImageBuilder::new().layer(small_layer(), Compression::Gzip);
    let image = image.write_layout(&place.source_dir(), "other").unwrap();
    let error = chain(&place.convert().await.unwrap_err());
    assert!(
        error.contains("tag latest in") && error.contains("does not exist"),
        "{error}"
    );

    let image = ImageBuilder::new()
        .layer(small_layer(), Compression::Gzip)
        .write_layout(&place.source_dir(), TAG)
        .map(|_| image)
        .unwrap();
    fs::remove_file(place.source_blob(&image.layers[0].digest)).unwrap();
    let error = chain(&place.convert().await.unwrap_err());
    assert!(
        error.contains(&image.layers[0].digest) && error.contains("does not exist"),
        "{error}"
    );
}

/// Makes `document` what the source's tag names.
pub(crate) fn replace_top(place: &Place, kind: &'static str, document: &Value) {
    let body = document.to_string().into_bytes();
    let blob = Blob::new(kind, body.clone());
    fs::write(place.source_blob(&blob.digest), &body).unwrap();
    let layout = oci::OciLayout::open(place.source_dir()).unwrap();
    layout
        .set_tag(
            TAG,
            Descriptor::new(kind, Digest::of(&body), body.len() as u64),
        )
        .unwrap();
}
