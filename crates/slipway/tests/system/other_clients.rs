//! The accelerated image is an ordinary image: clients that have never heard of it run it.

use std::fs;

use serde_json::Value;

use crate::support::{Containerd, Sample, Server, run};

#[test]
#[ignore = "needs root, /dev/fuse, runc, skopeo and podman"]
fn privileged_podman_runs_the_accelerated_image_and_knows_it_as_the_same() {
    let server = Server::start();
    let sample = Sample::whole();
    let accelerated = server.push_accelerated(sample, "app:1");
    let plain = accelerated.trim_end_matches("_accelerated");
    let (root, state) = (
        server.scratch().join("root"),
        server.scratch().join("state"),
    );
    let storage = [
        "--root",
        root.to_str().unwrap(),
        "--runroot",
        state.to_str().unwrap(),
        "--storage-driver",
        "vfs",
    ];
    let runtime = ["--runtime", "runc", "--cgroup-manager", "cgroupfs"];
    let podman = |arguments: &[&str]| run("podman", &[&storage[..], &runtime, arguments].concat());
    let ids = [accelerated.as_str(), plain].map(|image| {
        podman(&["pull", "--quiet", "--tls-verify=false", image])
            .expect_success()
            .trim()
            .to_owned()
    });
    assert_eq!(ids[0], ids[1], "the image ID differs");
    assert_eq!(format!("sha256:{}", ids[0]), sample.image.config.digest);
    let limits = [
        "--ulimit",
        "nofile=4096:4096",
        "--ulimit",
        "nproc=4096:4096",
    ];
    let options = ["run", "--rm", "--network", "none"];
    let command = [accelerated.as_str(), "sh", "-c", Sample::READ_ALL];
    let outcome = podman(&[&options[..], &limits, &command].concat());
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root, /dev/fuse, runc, skopeo and containerd"]
fn privileged_containerd_runs_the_accelerated_image() {
    let server = Server::start();
    let sample = Sample::small();
    let image = server.push_accelerated(sample, "app:1");
    let containerd = Containerd::start();
    let native = ["--snapshotter", "native"];
    containerd
        .ctr(&[&["images", "pull", "--plain-http"], &native[..], &[&image]].concat())
        .expect_success();
    let options = ["run", "--rm", "--net-host", "--snapshotter", "native"];
    let command = [image.as_str(), "reader", "sh", "-c", Sample::READ_ALL];
    let outcome = containerd.ctr(&[&options[..], &command].concat());
    assert_eq!(outcome.stdout, sample.listing(), "{}", outcome.stderr);
}

#[test]
#[ignore = "needs root, /dev/fuse, runc and skopeo"]
fn privileged_config_and_diff_ids_are_those_of_the_source() {
    let server = Server::start();
    let sample = Sample::small();
    server.push_accelerated(sample, "app:1");
    let manifest = server.manifest("app:1_accelerated");
    assert_eq!(
        manifest["config"]["digest"].as_str(),
        Some(&*sample.image.config.digest)
    );
    let config = fs::read(server.blob_file(&sample.image.config.digest)).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    for (layer, diff_id) in layers
        .iter()
        .zip(config["rootfs"]["diff_ids"].as_array().unwrap())
    {
        let blob = server.blob_file(layer["digest"].as_str().unwrap());
        let tar = server.scratch().join("layer.tar");
        let (blob, tar) = (blob.to_str().unwrap(), tar.to_str().unwrap());
        run("zstd", &["-d", "-q", "-f", "-o", tar, blob]).expect_success();
        let digest = test_images::sha256(&fs::read(tar).unwrap());
        assert_eq!(diff_id.as_str(), Some(&*digest));
    }
}
