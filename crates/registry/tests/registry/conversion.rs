//! From a pushed tag to its accelerated tag.

use std::sync::Arc;

use api::{ExistingTags, Freshness, ImageKind, SetAcceleration, TaskPhase, TaskState};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use catalog::{Catalog, SystemClock};
use image_format::AcceleratedManifest;
use oci::{ImageManifest, Manifest};
use serde_json::Value;
use test_images::{Compression, Image, ImageBuilder, IndexBuilder, LayerBuilder};

use crate::support::{TestRegistry, image, noise};

const ON: &str = r#"{"enabled":true}"#;

async fn manifest_of(registry: &TestRegistry, reference: &str) -> ImageManifest {
    let answer = registry
        .get(&format!("/v2/app/manifests/{reference}"))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    match Manifest::parse(None, &answer.body).unwrap() {
        Manifest::Image(image) => image,
        Manifest::Index(index) => panic!("{index:?}"),
    }
}

/// An image whose layer's gzip stream is damaged in the middle.
fn corrupt_image() -> Image {
    let tar = LayerBuilder::new().file("content", noise(100_000)).build();
    let mut image = ImageBuilder::new().layer(tar, Compression::Gzip).build();
    let mut bytes = image.layers[0].bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    let layer = test_images::Blob::new(image.layers[0].media_type, bytes);
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    manifest["layers"][0] = layer.descriptor();
    let bytes = manifest.to_string().into_bytes();
    image.manifest = test_images::Blob::new(image.manifest.media_type, bytes);
    image.layers = vec![layer];
    image
}

#[tokio::test]
async fn a_pushed_tag_gets_its_accelerated_tag() {
    let registry = TestRegistry::new().await;
    registry.accelerate("app", ON).await;
    let converter = registry.convert();
    let pushed = image(b"content");
    registry.push_image("app", "1.0", &pushed).await;
    let task = registry.settled_task().await;
    assert_eq!(
        (task.state, task.error.as_deref()),
        (TaskState::Succeeded, None)
    );
    let made = manifest_of(&registry, "1.0_accelerated").await;
    assert_eq!(made.config.digest.to_string(), pushed.config.digest);
    let accelerated = AcceleratedManifest::from_manifest(&made).unwrap().unwrap();
    for blob in accelerated
        .layers
        .iter()
        .flat_map(|layer| [&layer.stored, &layer.chunk_table])
    {
        let answer = registry
            .get(&format!("/v2/app/blobs/{}", blob.digest))
            .await;
        assert_eq!(oci::Digest::of(&answer.body), blob.digest);
    }
    let referrers = registry
        .get(&format!("/v2/app/referrers/{}", pushed.manifest.digest))
        .await;
    let made_digest = task.accelerated.unwrap().to_string();
    assert_eq!(
        referrers.json::<Value>()["manifests"][0]["digest"],
        made_digest
    );
    let images = registry.images().await;
    assert_eq!(
        images[0].accelerated.as_ref().unwrap().freshness,
        Freshness::Fresh
    );
    assert_eq!(images[1].kind, ImageKind::Accelerated);
    converter.stop().await;
}

#[tokio::test]
async fn an_index_gets_an_accelerated_index() {
    let registry = TestRegistry::new().await;
    registry.accelerate("app", ON).await;
    let tar = |text: &str| LayerBuilder::new().file("arch", text).build();
    let of = |architecture: &str| {
        let layer = (tar(architecture), Compression::Zstd);
        ImageBuilder::new()
            .platform(architecture, None)
            .layer(layer.0, layer.1)
    };
    let index = IndexBuilder::new()
        .image(of("amd64"))
        .image(of("arm64"))
        .build();
    for image in &index.images {
        registry
            .push_image("app", &image.manifest.digest, image)
            .await;
    }
    registry.push_manifest("app", "multi", &index.index).await;
    let converter = registry.convert();
    let task = registry.settled_task().await;
    assert_eq!(
        (task.state, task.error.as_deref()),
        (TaskState::Succeeded, None)
    );
    let answer = registry.get("/v2/app/manifests/multi_accelerated").await;
    let Manifest::Index(made) = Manifest::parse(None, &answer.body).unwrap() else {
        panic!()
    };
    assert_eq!(made.manifests.len(), 2);
    converter.stop().await;
}

#[tokio::test]
async fn a_corrupt_layer_fails_with_the_reason_and_the_original_works_on() {
    let registry = TestRegistry::new().await;
    registry.accelerate("app", ON).await;
    let converter = registry.convert();
    let pushed = corrupt_image();
    assert_eq!(
        registry.push_image("app", "1.0", &pushed).await.status,
        StatusCode::CREATED
    );
    let task = registry.settled_task().await;
    assert_eq!(task.state, TaskState::Failed);
    let reason = task.error.unwrap();
    assert!(reason.contains(&pushed.layers[0].digest), "{reason}");
    assert_eq!(
        registry.get("/v2/app/manifests/1.0").await.body,
        pushed.manifest.bytes
    );
    let absent = registry.get("/v2/app/manifests/1.0_accelerated").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    let path = format!("/api/v1/tasks/{}/retry", task.id);
    let retried = registry.send(Method::POST, &path, &[], Body::empty()).await;
    assert_eq!(retried.status, StatusCode::OK);
    let task = registry.settled_task().await;
    assert_eq!((task.state, task.attempts), (TaskState::Failed, 2));
    let work = std::fs::read_dir(registry.directory.join("work")).unwrap();
    assert_eq!(work.count(), 0);
    converter.stop().await;
}

#[tokio::test]
async fn a_tag_pushed_again_is_stale_until_its_conversion_replaces_it() {
    let registry = TestRegistry::new().await;
    registry.accelerate("app", ON).await;
    registry.push_image("app", "1.0", &image(b"first")).await;
    let converter = registry.convert();
    let first = registry.settled_task().await.accelerated.unwrap();
    converter.stop().await;
    registry.push_image("app", "1.0", &image(b"second")).await;
    let stale = registry.images().await.remove(0).accelerated.unwrap();
    assert_eq!((stale.freshness, stale.digest), (Freshness::Stale, first));
    let converter = registry.convert();
    let second = registry.settled_task().await.accelerated.unwrap();
    let fresh = registry.images().await.remove(0).accelerated.unwrap();
    assert_eq!((fresh.freshness, fresh.digest), (Freshness::Fresh, second));
    assert_ne!(first, second);
    converter.stop().await;
}

#[tokio::test]
async fn an_image_converted_before_is_only_tagged() {
    let registry = TestRegistry::new().await;
    registry.accelerate("app", ON).await;
    let converter = registry.convert();
    registry.push_image("app", "1.0", &image(b"content")).await;
    let first = registry.settled_task().await;
    registry
        .push_image("app", "latest", &image(b"content"))
        .await;
    let second = registry.settled_task().await;
    assert_ne!(first.id, second.id);
    assert_eq!(first.accelerated, second.accelerated);
    converter.stop().await;
}

#[tokio::test]
async fn a_task_that_ran_when_the_process_died_runs_again() {
    let directory = tempfile::tempdir().unwrap();
    let registry = TestRegistry::open(directory.path()).await;
    registry.accelerate("app", ON).await;
    registry.push_image("app", "1.0", &image(b"content")).await;
    registry.registry.close().await;
    drop(registry);
    let path = directory.path().join("catalog.sqlite");
    let catalog = Catalog::open(&path, Arc::new(SystemClock)).await.unwrap();
    catalog.take_task().await.unwrap().unwrap();
    catalog.close().await;
    let registry = TestRegistry::open(directory.path()).await;
    let converter = registry.convert();
    let task = registry.settled_task().await;
    assert_eq!((task.state, task.attempts), (TaskState::Succeeded, 2));
    converter.stop().await;
}

#[tokio::test]
async fn a_pushed_accelerated_tag_is_refused_with_the_reason() {
    let registry = TestRegistry::new().await;
    registry.accelerate("app", ON).await;
    let answer = registry
        .push_image("app", "1.0_accelerated", &image(b"own"))
        .await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::FORBIDDEN, "DENIED")
    );
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(text.contains("reserved"), "{text}");
    let absent = registry.get("/v2/app/manifests/1.0_accelerated").await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_deleted_tag_takes_its_accelerated_tag_along() {
    let registry = TestRegistry::new().await;
    registry.accelerate("app", ON).await;
    let converter = registry.convert();
    registry.push_image("app", "1.0", &image(b"content")).await;
    registry.settled_task().await;
    let deleted = registry.delete("/v2/app/manifests/1.0").await;
    assert_eq!(deleted.status, StatusCode::ACCEPTED);
    let gone = registry.get("/v2/app/manifests/1.0_accelerated").await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    converter.stop().await;
}

#[tokio::test]
async fn an_artifact_is_no_task() {
    let registry = TestRegistry::new().await;
    registry.accelerate("app", ON).await;
    let subject = image(b"subject").descriptor();
    let signature = ImageBuilder::new().subject(subject).build();
    registry.push_image("app", "signature", &signature).await;
    assert_eq!(registry.tasks().await, []);
}

#[tokio::test]
async fn tags_that_are_there_are_converted_when_the_switch_is_turned_on_unless_told_otherwise() {
    let registry = TestRegistry::new().await;
    registry.push_image("app", "1.0", &image(b"content")).await;
    let leave = SetAcceleration {
        enabled: true,
        existing_tags: ExistingTags::Leave,
    };
    registry
        .accelerate("app", &serde_json::to_string(&leave).unwrap())
        .await;
    assert_eq!(registry.tasks().await, []);
    registry.accelerate("app", ON).await;
    assert_eq!(registry.tasks().await.len(), 1);
    registry.accelerate("app", r#"{"enabled":false}"#).await;
    assert_eq!(registry.tasks().await[0].state, TaskState::Failed);
}

#[tokio::test]
async fn the_progress_of_a_running_task_can_be_read() {
    let registry = TestRegistry::new().await;
    registry.accelerate("app", ON).await;
    registry
        .push_image("app", "1.0", &image(&noise(40 << 20)))
        .await;
    let converter = registry.convert();
    let mut seen = Vec::new();
    while registry.tasks().await[0].state != TaskState::Succeeded {
        let task = registry.tasks().await.remove(0);
        assert_ne!(task.state, TaskState::Failed, "{task:?}");
        seen.extend(task.progress);
        tokio::task::yield_now().await;
    }
    let converting: Vec<_> = seen
        .iter()
        .filter(|progress| progress.phase == TaskPhase::Converting)
        .collect();
    assert!(!converting.is_empty(), "{seen:?}");
    assert!(
        converting
            .iter()
            .all(|progress| progress.total_bytes > 40 << 20)
    );
    assert!(
        seen.iter()
            .all(|progress| progress.done_bytes <= progress.total_bytes),
        "{seen:?}"
    );
    assert!(registry.tasks().await[0].progress.is_none());
    converter.stop().await;
}

#[tokio::test]
async fn the_management_api_names_what_is_wrong() {
    let registry = TestRegistry::new().await;
    for (path, status) in [
        ("/api/v1/repositories/absent", StatusCode::NOT_FOUND),
        ("/api/v1/repositories/App", StatusCode::BAD_REQUEST),
        ("/api/v1/tasks/7", StatusCode::NOT_FOUND),
        ("/api/v1/tasks/x", StatusCode::BAD_REQUEST),
        ("/api/v1/tasks?state=UNKNOWN", StatusCode::BAD_REQUEST),
    ] {
        let answer = registry.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(!answer.json::<api::Failure>().error.message.is_empty());
    }
}
