//! A disk that is full: while an image is pushed, converted, read.

use std::fs;

use crate::support::{Sample, Server, SmallDisk, skopeo_push, wait_for};

/// Bytes left free on a full disk: enough for databases and logs, not for a layer.
const LEFT: u64 = 1 << 20;

/// What was given up is removed by whoever was at it, a moment later.
fn wait_until_freed(disk: &SmallDisk) {
    wait_for("room", || (disk.free_bytes() > LEFT / 2).then_some(()));
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_push_to_a_full_disk_fails_and_can_be_repeated() {
    let disk = SmallDisk::ext4(128);
    let server = Server::start_in(&disk.path().join("data"), &[]);
    let sample = Sample::small();
    let layout = tempfile::tempdir_in(server.scratch()).unwrap();
    sample.image.write_layout(layout.path(), "latest").unwrap();
    let image = format!("{}/app:1", server.address());
    let filler = disk.fill(LEFT);
    let errors = skopeo_push(layout.path(), "latest", &image).expect_failure();
    assert!(errors.contains("507 Insufficient Storage"), "{errors}");
    let list = server
        .slipway(&["image", "list", "--output", "json"])
        .json();
    assert_eq!(list["images"], serde_json::json!([]));
    wait_until_freed(&disk);
    fs::remove_file(filler).unwrap();
    skopeo_push(layout.path(), "latest", &image).expect_success();
    let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_conversion_on_a_full_disk_fails_and_can_be_retried() {
    let disk = SmallDisk::ext4(128);
    let server = Server::start_in(&disk.path().join("data"), &[]);
    let sample = Sample::small();
    let image = server.push(sample, "app:1");
    let filler = disk.fill(LEFT);
    server
        .slipway(&["repo", "accelerate", "app", "on"])
        .expect_success();
    let watch = ["task", "list", "--watch", "--output", "json"];
    let tasks = server.slipway(&watch).json();
    assert_eq!(tasks["tasks"][0]["state"], "FAILED", "{tasks:#}");
    let reason = tasks["tasks"][0]["error"].as_str().unwrap();
    assert!(reason.contains("No space left"), "{reason}");
    fs::remove_file(filler).unwrap();
    let task = tasks["tasks"][0]["id"].to_string();
    server.slipway(&["task", "retry", &task]).expect_success();
    let tasks = server.slipway(&watch).json();
    assert_eq!(tasks["tasks"][0]["state"], "SUCCEEDED", "{tasks:#}");
    let accelerated = format!("{image}_accelerated");
    let outcome = server.slipway(&["run", &accelerated, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_reads_on_a_full_disk_are_right_or_fail() {
    for filesystem in [SmallDisk::ext4, SmallDisk::tmpfs] {
        let origin = Server::start();
        let sample = Sample::small();
        let image = origin.push_accelerated(sample, "app:1");
        let disk = filesystem(64);
        let server = Server::start_in(&disk.path().join("data"), &[]);
        // The index and the container's own directories fit, its data does not.
        server.slipway(&["run", &image, "true"]).expect_success();
        let filler = disk.fill(LEFT);
        let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
        for line in outcome.stdout.lines() {
            assert!(sample.listing().contains(line), "a wrong byte: {line}");
        }
        let is_whole = outcome.stdout == sample.listing();
        assert!(is_whole || outcome.code() != 0, "{outcome:?}");
        let log = server.log();
        assert!(log.contains("cache takes no more"), "{log}");
        fs::remove_file(filler).unwrap();
        let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
        assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
    }
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_plain_image_that_does_not_fit_is_refused_and_leaves_nothing() {
    let origin = Server::start();
    let sample = Sample::small();
    let image = origin.push(sample, "app:1");
    let disk = SmallDisk::ext4(64);
    let server = Server::start_in(&disk.path().join("data"), &[]);
    let filler = disk.fill(LEFT);
    let errors = server.slipway(&["run", &image]).expect_failure();
    assert!(errors.contains("No space left"), "{errors}");
    assert!(errors.contains(&image), "{errors}");
    assert!(errors.contains("hint: "), "{errors}");
    assert_eq!(server.node_status().unwrap().images, 0);
    wait_until_freed(&disk);
    fs::remove_file(filler).unwrap();
    let outcome = server.slipway(&["run", &image, "sh", "-c", Sample::READ_ALL]);
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_container_that_fills_the_disk_gets_an_error_of_its_own() {
    let origin = Server::start();
    let image = origin.push_accelerated(Sample::small(), "app:1");
    let disk = SmallDisk::ext4(64);
    let server = Server::start_in(&disk.path().join("data"), &[]);
    let script = "dd if=/dev/zero of=/tmp/large bs=1M count=100";
    let outcome = server.slipway(&["run", &image, "sh", "-c", script]);
    assert_ne!(outcome.code(), 0);
    assert!(outcome.stderr.contains("No space left"), "{outcome:?}");
    server.slipway(&["run", &image, "true"]).expect_success();
}
