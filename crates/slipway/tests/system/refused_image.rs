//! Images that are not there, or are not what they should be: what is said, and what is left behind.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use test_images::{Compression, Entry, ImageBuilder, LayerBuilder, gzip};

use crate::support::{Sample, Server, noise, skopeo_push};

/// Files in a directory of the node; nothing of a failed start may be there.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn assert_nothing_left(server: &Server) {
    assert_eq!(server.node_status().unwrap().images, 0);
    assert!(names_in(&server.data().join("node/images")).is_empty());
    assert!(names_in(&server.data().join("node/containers")).is_empty());
    let layers = names_in(&server.data().join("node/cache/layers"));
    assert!(layers.is_empty(), "{layers:?}");
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_an_image_that_cannot_be_found_is_named_with_a_hint() {
    let server = Server::start();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let missing = format!("{}/app:1", server.address());
    let unreachable = format!("{closed}/app:1");
    let cases = [
        (unreachable.as_str(), "check that the registry runs"),
        (&missing, "`slipway image list`"),
        ("ml/torch:1", "write HOST[:PORT]/REPOSITORY"),
        ("127.0.0.1:1/UPPER:1", "write HOST[:PORT]/REPOSITORY"),
    ];
    for (image, hint) in cases {
        let errors = server.slipway(&["run", image]).expect_failure();
        assert!(errors.contains(image), "{errors}");
        assert!(
            errors.contains("hint: ") && errors.contains(hint),
            "{errors}"
        );
        assert_nothing_left(&server);
    }
    let target = format!("oci:{}:latest", server.scratch().join("out").display());
    for image in [&unreachable, &missing] {
        let source = format!("docker://{image}");
        let errors = server
            .slipway(&["image", "convert", &source, &target])
            .expect_failure();
        assert!(errors.contains(&source), "{errors}");
    }
}

/// Pushes an image whose layer cannot be used. Its conversion and its plain start must fail and
/// name each of `words`.
fn assert_refused(server: &Server, image: ImageBuilder, words: &[&str]) {
    server
        .slipway(&["repo", "accelerate", "bad", "on"])
        .expect_success();
    let layout = tempfile::tempdir_in(server.scratch()).unwrap();
    image.write_layout(layout.path(), "latest").unwrap();
    assert_layout_refused(server, layout.path(), words);
}

fn assert_layout_refused(server: &Server, layout: &Path, words: &[&str]) {
    let image = format!("{}/bad:1", server.address());
    skopeo_push(layout, "latest", &image).expect_success();
    let tasks = server
        .slipway(&["task", "list", "--watch", "--output", "json"])
        .json();
    let task = &tasks["tasks"][0];
    assert_eq!(task["state"], "FAILED", "{tasks:#}");
    let reason = task["error"].as_str().unwrap();
    let source = format!("oci:{}:latest", layout.display());
    let target = server.scratch().join("converted");
    let target_side = format!("oci:{}:latest", target.display());
    let converted = server.slipway(&["image", "convert", &source, &target_side]);
    let started = server.slipway(&["run", &image, "sh"]);
    let texts = [
        reason,
        &converted.expect_failure(),
        &started.expect_failure(),
    ];
    for text in texts {
        for word in words {
            assert!(text.contains(word), "{word} is not in: {text}");
        }
    }
    assert_nothing_left(server);
    let tagged = fs::read_to_string(target.join("index.json")).unwrap_or_default();
    assert!(!tagged.contains("latest"), "{tagged}");
    let list = server
        .slipway(&["image", "list", "--output", "json"])
        .json();
    assert_eq!(list["images"].as_array().unwrap().len(), 1, "{list:#}");
}

fn layer(tar: Vec<u8>) -> ImageBuilder {
    ImageBuilder::new()
        .layer(tar, Compression::Gzip)
        .command(["sh"])
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_entries_that_containerd_refuses_are_named_with_their_layer() {
    let old_sparse =
        LayerBuilder::new()
            .dir("var")
            .sparse_old_gnu("var/holes", 100_000, &[(50_000, b"data")]);
    let contiguous = LayerBuilder::new().entry(Entry::new(b'7', "var/old").content("data"));
    for (tar, name) in [
        (old_sparse.build(), "var/holes"),
        (contiguous.build(), "var/old"),
    ] {
        let server = Server::start();
        let diff_id = test_images::sha256(&tar);
        assert_refused(&server, layer(tar), &[name, &diff_id]);
    }
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_tar_that_lies_about_its_sizes_is_refused() {
    let server = Server::start();
    let entry = Entry::file("etc/passwd", "root").lying_size(1 << 40);
    let tar = LayerBuilder::new().entry(entry).build();
    let diff_id = test_images::sha256(&tar);
    assert_refused(&server, layer(tar), &[&diff_id]);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_layer_that_is_cut_or_is_another_one_is_refused() {
    let tar = LayerBuilder::new()
        .file("data", noise(2_000_000, 1))
        .build();
    let diff_id = test_images::sha256(&tar);
    let whole = gzip(&tar);
    let mut flipped = whole.clone();
    flipped[1_000_000] ^= 1;
    let other = gzip(&LayerBuilder::new().file("other", "other").build());
    for stored in [whole[..1_000_000].to_vec(), flipped, other] {
        let server = Server::start();
        server
            .slipway(&["repo", "accelerate", "bad", "on"])
            .expect_success();
        // A registry takes what its digest says: here the layer was wrong before it was pushed.
        let mut image = layer(tar.clone()).build();
        let stored = test_images::Blob::new(image.layers[0].media_type, stored);
        let text = String::from_utf8(image.manifest.bytes.clone()).unwrap();
        let size = |len: usize| format!("\"size\":{len}");
        let manifest = text
            .replace(&image.layers[0].digest, &stored.digest)
            .replace(
                &size(image.layers[0].bytes.len()),
                &size(stored.bytes.len()),
            );
        image.manifest = test_images::Blob::new(image.manifest.media_type, manifest.into_bytes());
        image.layers = vec![stored];
        let layout = tempfile::tempdir_in(server.scratch()).unwrap();
        image.write_layout(layout.path(), "latest").unwrap();
        assert_layout_refused(&server, layout.path(), &[&diff_id]);
    }
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_an_image_for_another_machine_is_named() {
    let server = Server::start();
    let layout = tempfile::tempdir_in(server.scratch()).unwrap();
    let tar = LayerBuilder::new().file("file", "content").build();
    let foreign = layer(tar).platform("s390x", None);
    let index = test_images::IndexBuilder::new().image(foreign);
    index.write_layout(layout.path(), "latest").unwrap();
    let image = format!("{}/foreign:1", server.address());
    let source = format!("oci:{}:latest", layout.path().display());
    let target = format!("docker://{image}");
    let copy = [
        "copy",
        "--quiet",
        "--all",
        "--dest-tls-verify=false",
        &source,
        &target,
    ];
    crate::support::run("skopeo", &copy).expect_success();
    let errors = server.slipway(&["run", &image, "sh"]).expect_failure();
    assert!(errors.contains("has no manifest for linux/"), "{errors}");
    assert!(
        errors.contains(&image) && errors.contains("hint: "),
        "{errors}"
    );
    assert_nothing_left(&server);
}

#[test]
#[ignore = "needs root, /dev/fuse and runc"]
fn privileged_a_container_that_cannot_be_made_leaves_nothing() {
    let server = Server::start();
    let image = server.push_accelerated(Sample::small(), "app:1");
    let cases = [
        (vec!["run", "-u", "nobody-knows", &image], "nobody-knows", 1),
        (
            vec!["run", "-v", "/does/not/exist:/x", &image],
            "/does/not/exist",
            1,
        ),
        (
            vec!["run", "-v", "not-absolute:/x", &image],
            "not-absolute",
            2,
        ),
        (
            vec!["run", "--runtime", "nope", &image],
            "runtime nope was not found",
            1,
        ),
    ];
    for (arguments, word, code) in cases {
        let outcome = server.slipway(&arguments);
        assert_eq!(outcome.code(), code, "{outcome:?}");
        assert!(outcome.stderr.contains(word), "{outcome:?}");
        assert!(outcome.stderr.contains("error: "), "{outcome:?}");
        assert!(names_in(&server.data().join("node/containers")).is_empty());
    }
}
