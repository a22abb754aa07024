//! Bytes that changed after they were written: in the registry's storage, in the node's cache.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::support::{Outcome, Sample, Server};

/// Changes one byte of a file in the middle.
fn flip(path: &Path, offset: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn len(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Makes the kernel forget what it read (proc(5), `drop_caches`).
fn drop_page_cache() {
    fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}

/// The blob of a layer of an accelerated image, as the registry keeps it.
fn layer_blob(server: &Server, layer: usize) -> PathBuf {
    let manifest = server.manifest("app:1_accelerated");
    server.blob_file(text(&manifest["layers"][layer]["digest"]))
}

fn read_all(server: &Server, image: &str) -> Outcome {
    server.slipway(&["run", image, "sh", "-c", Sample::READ_ALL])
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_chunk_that_does_not_match_is_an_error_and_named() {
    for road in ["erofs-file", "erofs-loop"] {
        let server = Server::start_with(&["--road", road]);
        let sample = Sample::small();
        let image = server.push_accelerated(sample, "app:1");
        // The upper layer is noise for the most part: its middle lies in /data/second.
        let blob = layer_blob(&server, 1);
        flip(&blob, len(&blob) / 2);
        let outcome = read_all(&server, &image);
        assert_ne!(outcome.code(), 0);
        assert!(
            outcome.stderr.contains("/data/second"),
            "{}",
            outcome.stderr
        );
        assert!(outcome.stderr.contains("error"), "{}", outcome.stderr);
        for line in outcome.stdout.lines() {
            assert!(sample.listing().contains(line), "a wrong byte: {line}");
        }
        assert!(outcome.stdout.contains("/data/first"), "{}", outcome.stdout);
        assert!(outcome.stdout.contains("/data/third"), "{}", outcome.stdout);
        let manifest = server.manifest("app:1_accelerated");
        let annotations = &manifest["layers"][1]["annotations"];
        let table = text(&annotations["dev.slipway.chunk-table.digest"]);
        let log = server.log();
        let named = |line: &&str| {
            line.contains("wrong bytes for chunk")
                && line.contains(table.trim_start_matches("sha256:"))
                && line.contains("the container gets EIO")
        };
        assert!(log.lines().any(|line| named(&line)), "{log}");

        // Once the blob is right again, so is the container.
        flip(&blob, len(&blob) / 2);
        assert_eq!(read_all(&server, &image).stdout, sample.listing());
    }
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_layer_blob_that_was_cut_is_an_error() {
    let server = Server::start_configured("[node]\nread_deadline_seconds = 3\n", &[]);
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    let blob = layer_blob(&server, 1);
    let file = fs::File::options().write(true).open(&blob).unwrap();
    file.set_len(len(&blob) / 2).unwrap();
    let outcome = read_all(&server, &image);
    assert_ne!(outcome.code(), 0);
    for line in outcome.stdout.lines() {
        assert!(sample.listing().contains(line), "a wrong byte: {line}");
    }
    assert!(outcome.stdout.contains("/data/first"), "{}", outcome.stdout);
    assert!(
        server.log().contains("the container gets EIO"),
        "{}",
        server.log()
    );
}

/// The cached tars of the node.
fn cached_tars(server: &Server) -> Vec<PathBuf> {
    let layers = fs::read_dir(server.data().join("node/cache/layers")).unwrap();
    layers
        .map(|layer| layer.unwrap().path().join("tar"))
        .collect()
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_cache_that_changed_is_fetched_again() {
    let server = Server::start();
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    assert_eq!(read_all(&server, &image).stdout, sample.listing());
    for tar in cached_tars(&server) {
        flip(&tar, len(&tar) / 2);
    }
    server.replace_worker();
    drop_page_cache();
    assert_eq!(server.usage().fetched_bytes, 0);
    assert_eq!(read_all(&server, &image).stdout, sample.listing());
    let fetched = server.usage().fetched_bytes;
    assert!(fetched > 0, "wrong bytes were not noticed");
    assert!(
        fetched < 4_000_000,
        "more was fetched than was lost: {fetched}"
    );
    let log = server.log();
    let named = |line: &str| line.contains("chunk") && line.contains("layer");
    assert!(log.lines().any(named), "{log}");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_cache_whose_files_are_gone_is_filled_again() {
    let server = Server::start();
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    assert_eq!(read_all(&server, &image).stdout, sample.listing());
    server.slipway(&["cache", "prune"]).expect_success();
    assert!(cached_tars(&server).is_empty());
    assert_eq!(read_all(&server, &image).stdout, sample.listing());
}

/// An index that changed: the start is refused and the part is named.
fn assert_index_refused(part: impl Fn(&serde_json::Value) -> String) {
    let server = Server::start();
    let image = server.push_accelerated(Sample::small(), "app:1");
    let digest = part(&server.manifest("app:1_accelerated"));
    let blob = server.blob_file(&digest);
    flip(&blob, len(&blob) / 2);
    let errors = server.slipway(&["run", &image]).expect_failure();
    assert!(
        errors.contains(&image) && errors.contains(&digest),
        "{errors}"
    );
    assert_eq!(server.node_status().unwrap().images, 0);
    flip(&blob, len(&blob) / 2);
    server.slipway(&["run", &image]).expect_success();
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_chunk_table_that_changed_is_refused() {
    assert_index_refused(|manifest| {
        let annotations = &manifest["layers"][0]["annotations"];
        text(&annotations["dev.slipway.chunk-table.digest"]).to_owned()
    });
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_root_tree_that_changed_is_refused() {
    assert_index_refused(|manifest| {
        text(&manifest["annotations"]["dev.slipway.root-tree.digest"]).to_owned()
    });
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_config_that_changed_is_refused() {
    assert_index_refused(|manifest| text(&manifest["config"]["digest"]).to_owned());
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_plain_layer_that_changed_is_refused_and_not_kept() {
    let server = Server::start();
    let sample = Sample::small();
    let image = server.push(sample, "app:1");
    let blob = server.blob_file(&sample.image.layers[1].digest);
    flip(&blob, len(&blob) / 2);
    let errors = server.slipway(&["run", &image]).expect_failure();
    assert!(errors.contains(&image), "{errors}");
    assert!(errors.contains(&sample.image.diff_ids[1]), "{errors}");
    assert_eq!(server.node_status().unwrap().images, 0);
    flip(&blob, len(&blob) / 2);
    assert_eq!(read_all(&server, &image).stdout, sample.listing());
}
