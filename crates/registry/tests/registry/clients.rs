//! Clients that others wrote.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::support::{TestRegistry, noise};
use test_images::{Compression, ImageBuilder, LayerBuilder};

/// Runs a command to its end and returns what it printed.
async fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn write_image(directory: &Path) -> String {
    let tar = LayerBuilder::new()
        .dir("data")
        .file("data/noise", noise(5 << 20))
        .build();
    let other = LayerBuilder::new().file("hello", "hello").build();
    let image = ImageBuilder::new()
        .layer(tar, Compression::Gzip)
        .layer(other, Compression::Gzip);
    let image = image.write_layout(directory, "latest").unwrap();
    image.manifest.digest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs skopeo"]
async fn privileged_skopeo_pushes_inspects_copies_pulls_and_deletes() {
    let registry = TestRegistry::new().await;
    let served = registry.serve().await;
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("source");
    let digest = write_image(&layout);
    let source = format!("oci:{}:latest", layout.display());
    let image = format!("docker://{}/team/app:1.0", served.address);
    let copy = format!("docker://{}/team/copy:2.0", served.address);
    let pulled = format!("oci:{}:latest", directory.path().join("pulled").display());
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let [from, to] = insecure;
    run(
        "skopeo",
        &["copy", to, "--preserve-digests", &source, &image],
    )
    .await;
    let shown = run("skopeo", &["inspect", "--tls-verify=false", &image]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["Digest"], digest);
    run(
        "skopeo",
        &["copy", from, to, "--preserve-digests", &image, &copy],
    )
    .await;
    run(
        "skopeo",
        &["copy", from, "--preserve-digests", &copy, &pulled],
    )
    .await;
    let list = format!("docker://{}/team/copy", served.address);
    let tags = run("skopeo", &["list-tags", "--tls-verify=false", &list]).await;
    assert!(tags.contains("2.0"), "{tags}");
    run("skopeo", &["delete", "--tls-verify=false", &image]).await;
    let gone = registry.get("/v2/team/app/manifests/1.0").await;
    assert_eq!(gone.status, axum::http::StatusCode::NOT_FOUND);
    let stays = registry.get("/v2/team/copy/manifests/2.0").await;
    assert_eq!(stays.header("docker-content-digest"), digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs podman"]
async fn privileged_podman_pulls_what_skopeo_pushed_and_pushes_it_again() {
    let registry = TestRegistry::new().await;
    let served = registry.serve().await;
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("source");
    write_image(&layout);
    let source = format!("oci:{}:latest", layout.display());
    let image = format!("{}/team/app:1.0", served.address);
    let target = format!("docker://{image}");
    run(
        "skopeo",
        &["copy", "--dest-tls-verify=false", &source, &target],
    )
    .await;
    let (root, state) = (
        directory.path().join("root"),
        directory.path().join("state"),
    );
    let (root, state) = (root.display().to_string(), state.display().to_string());
    let storage = [
        "--root",
        &root,
        "--runroot",
        &state,
        "--storage-driver",
        "vfs",
    ];
    let podman = async |arguments: &[&str]| run("podman", &[&storage, arguments].concat()).await;
    podman(&["pull", "--tls-verify=false", &image]).await;
    let again = format!("{}/team/again:1.0", served.address);
    podman(&["push", "--tls-verify=false", &image, &again]).await;
    let pushed = registry.get("/v2/team/again/manifests/1.0").await;
    assert_eq!(pushed.status, axum::http::StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs buildah"]
async fn privileged_buildah_pulls_commits_and_pushes() {
    let registry = TestRegistry::new().await;
    let served = registry.serve().await;
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("source");
    write_image(&layout);
    let source = format!("oci:{}:latest", layout.display());
    let image = format!("{}/team/base:1.0", served.address);
    let target = format!("docker://{image}");
    run(
        "skopeo",
        &["copy", "--dest-tls-verify=false", &source, &target],
    )
    .await;
    let (root, state) = (
        directory.path().join("root"),
        directory.path().join("state"),
    );
    let (root, state) = (root.display().to_string(), state.display().to_string());
    let storage = [
        "--root",
        &root,
        "--runroot",
        &state,
        "--storage-driver",
        "vfs",
    ];
    let buildah = async |arguments: &[&str]| run("buildah", &[&storage, arguments].concat()).await;
    let container = buildah(&["from", "--tls-verify=false", &image]).await;
    let container = container.trim();
    buildah(&["config", "--label", "built=yes", container]).await;
    let built = format!("docker://{}/team/built:1.0", served.address);
    buildah(&["commit", "--tls-verify=false", container, &built]).await;
    let pushed = registry.get("/v2/team/built/manifests/1.0").await;
    assert_eq!(pushed.status, axum::http::StatusCode::OK);
}

/// A containerd with everything in a directory of its own.
struct Containerd {
    socket: String,
    _process: tokio::process::Child,
}

impl Containerd {
    async fn start(directory: &Path) -> Self {
        let socket = directory.join("containerd.sock");
        let at = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ntemp = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            at("root"),
            at("state"),
            at("temp"),
            socket.display().to_string(),
            at("opt"),
        );
        std::fs::write(directory.join("config.toml"), config).unwrap();
        let process = Command::new("containerd")
            .args(["--config", &at("config.toml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ready = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ready)
            .await
            .unwrap();
        let socket = socket.display().to_string();
        Self {
            socket,
            _process: process,
        }
    }

    async fn ctr(&self, arguments: &[&str]) -> String {
        run("ctr", &[&["-a", &self.socket], arguments].concat()).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and containerd"]
async fn privileged_ctr_pulls_and_pushes() {
    let registry = TestRegistry::new().await;
    let served = registry.serve().await;
    let directory = tempfile::tempdir().unwrap();
    let layout = directory.path().join("source");
    let digest = write_image(&layout);
    let source = format!("oci:{}:latest", layout.display());
    let image = format!("{}/team/app:1.0", served.address);
    let target = format!("docker://{image}");
    let preserve = ["copy", "--dest-tls-verify=false", "--preserve-digests"];
    run("skopeo", &[&preserve[..], &[&source, &target]].concat()).await;
    let containerd = Containerd::start(directory.path()).await;
    containerd
        .ctr(&[
            "images",
            "pull",
            "--plain-http",
            "--snapshotter",
            "native",
            &image,
        ])
        .await;
    let again = format!("{}/team/again:1.0", served.address);
    containerd
        .ctr(&["images", "push", "--plain-http", &again, &image])
        .await;
    let pushed = registry.head("/v2/team/again/manifests/1.0").await;
    assert_eq!(pushed.header("docker-content-digest"), digest);
}
