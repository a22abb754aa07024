//! What was acknowledged survives `kill -9`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use oci::{ClientOptions, Digest, RegistryClient, RepositoryClient, Selector};

use crate::support::{host, image, name, noise, tag};

/// The example `serve`, which is built with the tests.
fn server_program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/serve");
    assert!(
        program.exists(),
        "build the examples first: {}",
        program.display()
    );
    program
}

/// A server in a process of its own, killed when dropped.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(directory: &Path) -> Self {
        let mut process = Command::new(server_program())
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        Self {
            process,
            address: address.trim().to_owned(),
        }
    }

    fn repository(&self) -> RepositoryClient {
        let client = RegistryClient::new(ClientOptions::default()).unwrap();
        client.repository(&host(&self.address), &name("app"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What the server said that it has.
#[derive(Default)]
struct Acknowledged {
    blobs: Vec<(Digest, u64)>,
    tags: Vec<(String, Digest)>,
}

/// Pushes blobs and images until the server is gone.
async fn push_until_killed(repository: RepositoryClient, round: usize) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    for number in 0.. {
        let mut content = noise(300_000);
        content.extend(format!("{round} {number}").into_bytes());
        let image = image(&content);
        for blob in image.blobs() {
            let digest = blob.digest.parse().unwrap();
            let bytes = Bytes::from(blob.bytes.clone());
            if repository.push_blob_bytes(digest, bytes).await.is_err() {
                return acknowledged;
            }
            acknowledged.blobs.push((digest, blob.bytes.len() as u64));
        }
        let tag_text = format!("{round}.{number}");
        let selector = Selector::Tag(tag(&tag_text));
        let (media_type, body) = (image.manifest.media_type, image.manifest.bytes.into());
        match repository.put_manifest(&selector, media_type, body).await {
            Ok(digest) => acknowledged.tags.push((tag_text, digest)),
            Err(_) => return acknowledged,
        }
    }
    acknowledged
}

async fn check(repository: &RepositoryClient, acknowledged: &Acknowledged) {
    for (digest, size) in &acknowledged.blobs {
        let descriptor = oci::Descriptor::new("application/octet-stream", *digest, *size);
        repository
            .fetch_blob_bytes(&descriptor, *size)
            .await
            .unwrap();
    }
    for (text, digest) in &acknowledged.tags {
        let found = repository
            .fetch_manifest(&Selector::Tag(tag(text)))
            .await
            .unwrap();
        assert_eq!(found.unwrap().descriptor().digest, *digest, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = Acknowledged::default();
    for round in 0..4_u64 {
        let server = Server::start(directory.path());
        let pushing = tokio::spawn(push_until_killed(server.repository(), all.tags.len()));
        // The moment of the kill moves over the steps of a push.
        tokio::time::sleep(std::time::Duration::from_millis(700 + 83 * round)).await;
        drop(server);
        let acknowledged = pushing.await.unwrap();
        all.blobs.extend(acknowledged.blobs);
        all.tags.extend(acknowledged.tags);
        let server = Server::start(directory.path());
        check(&server.repository(), &all).await;
    }
    assert!(
        !all.tags.is_empty(),
        "no push was acknowledged before the kills"
    );
}
