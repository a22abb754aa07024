//! A full disk during push.

use std::fs;
use std::path::Path;

use api::TaskState;
use axum::body::Body;
use axum::http::{Method, StatusCode};
use oci::Digest;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::support::{TestRegistry, image, noise};

/// A small disk, unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Some(c"size=16m");
        mount(
            "tmpfs",
            directory.path(),
            "tmpfs",
            MountFlags::empty(),
            options,
        )
        .unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
#[ignore = "needs root and mounts a tmpfs"]
async fn privileged_a_blob_that_does_not_fit_is_refused_and_its_room_is_freed() {
    let disk = SmallDisk::new();
    let registry = TestRegistry::open(disk.path()).await;
    let free_before = disk.free_bytes();
    let blob = noise(32 << 20);
    let digest = Digest::of(&blob).to_string();
    let answer = registry.push_blob("app", &digest, &blob).await;
    assert_eq!(answer.status, StatusCode::INSUFFICIENT_STORAGE);
    assert!(
        String::from_utf8_lossy(&answer.body).contains("no room left"),
        "{answer:?}"
    );
    assert_eq!(registry.upload_count(), 0);
    assert!(
        disk.free_bytes() + (1 << 20) > free_before,
        "room was not freed"
    );
    let path = format!("/v2/app/blobs/{digest}");
    assert_eq!(registry.head(&path).await.status, StatusCode::NOT_FOUND);
    let pushed = registry.push_image("app", "1.0", &image(b"content")).await;
    assert_eq!(pushed.status, StatusCode::CREATED);
}

#[tokio::test]
#[ignore = "needs root and mounts a tmpfs"]
async fn privileged_a_disk_that_fills_up_at_any_point_of_a_push_leaves_nothing_half_visible() {
    let image = image(&noise(200_000));
    for free_kib in (0..400).step_by(25) {
        let disk = SmallDisk::new();
        let registry = TestRegistry::open(disk.path()).await;
        let filler = disk.path().join("filler");
        let filler_len = disk.free_bytes().saturating_sub(free_kib << 10);
        fs::write(&filler, vec![1; usize::try_from(filler_len).unwrap()]).unwrap();
        let answer = registry.push_image("app", "1.0", &image).await;
        let found = registry.get("/v2/app/manifests/1.0").await;
        let is_pushed = answer.status == StatusCode::CREATED;
        assert!(
            is_pushed || answer.status == StatusCode::INSUFFICIENT_STORAGE,
            "{answer:?}"
        );
        assert_eq!(
            found.status == StatusCode::OK,
            is_pushed,
            "{free_kib} KiB free"
        );
        assert_eq!(registry.upload_count(), 0, "{free_kib} KiB free");
        fs::remove_file(&filler).unwrap();
        let again = registry.push_image("app", "1.0", &image).await;
        assert_eq!(
            again.status,
            StatusCode::CREATED,
            "{free_kib} KiB free: {again:?}"
        );
    }
}

#[tokio::test]
#[ignore = "needs root and mounts a tmpfs"]
async fn privileged_a_conversion_on_a_full_disk_fails_and_succeeds_once_there_is_room() {
    let disk = SmallDisk::new();
    let registry = TestRegistry::open(disk.path()).await;
    registry.accelerate("app", r#"{"enabled":true}"#).await;
    registry
        .push_image("app", "1.0", &image(&noise(4 << 20)))
        .await;
    let filler = disk.path().join("filler");
    let filler_len = disk.free_bytes() - (2 << 20);
    fs::write(&filler, vec![1; usize::try_from(filler_len).unwrap()]).unwrap();
    let converter = registry.convert();
    let task = registry.settled_task().await;
    assert_eq!(task.state, TaskState::Failed);
    let reason = task.error.unwrap();
    assert!(reason.contains("No space left on device"), "{reason}");
    assert_eq!(fs::read_dir(disk.path().join("work")).unwrap().count(), 0);
    fs::remove_file(&filler).unwrap();
    let path = format!("/api/v1/tasks/{}/retry", task.id);
    registry.send(Method::POST, &path, &[], Body::empty()).await;
    let task = registry.settled_task().await;
    assert_eq!((task.state, task.error), (TaskState::Succeeded, None));
    converter.stop().await;
}
