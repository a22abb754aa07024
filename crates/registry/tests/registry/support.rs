//! A registry in a temporary directory, and ways to talk to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use blob_store::BlobStore;
use bytes::Bytes;
use oci::{RegistryHost, RepositoryName, Tag};
use registry::{Registry, RegistryOptions};
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use test_images::{Compression, Image, ImageBuilder, LayerBuilder};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Longest wait for a conversion of a small image on a busy machine.
const CONVERSION_PATIENCE: Duration = Duration::from_mins(2);

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {self:?}"))
            .to_str()
            .unwrap()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|cause| panic!("{cause}: {self:?}"))
    }

    pub(crate) fn error_code(&self) -> String {
        let envelope: serde_json::Value = self.json();
        envelope["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

/// An open registry that is asked without a network.
pub(crate) struct TestRegistry {
    pub(crate) registry: Registry,
    pub(crate) router: Router,
    pub(crate) directory: PathBuf,
    _owned: Option<TempDir>,
}

impl TestRegistry {
    pub(crate) async fn new() -> Self {
        let owned = tempfile::tempdir().unwrap();
        let opened = Self::open(owned.path()).await;
        Self {
            _owned: Some(owned),
            ..opened
        }
    }

    pub(crate) async fn open(directory: &Path) -> Self {
        let registry = Registry::open(RegistryOptions::new(directory))
            .await
            .unwrap();
        let (router, directory) = (registry.router(), directory.to_owned());
        Self {
            registry,
            router,
            directory,
            _owned: None,
        }
    }

    /// Opens a registry whose content is in the store that `open` makes in its directory.
    pub(crate) async fn with_store(open: impl FnOnce(&Path) -> Arc<dyn BlobStore>) -> Self {
        let owned = tempfile::tempdir().unwrap();
        let store = open(&owned.path().join("content"));
        let options = RegistryOptions::new(owned.path());
        let registry = Registry::open_with_store(options, store).await.unwrap();
        let (router, directory) = (registry.router(), owned.path().to_owned());
        Self {
            registry,
            router,
            directory,
            _owned: Some(owned),
        }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        self.send(Method::HEAD, path, &[], Body::empty()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Body::empty()).await
    }

    /// Pushes a blob as containerd does: POST, then one PUT.
    pub(crate) async fn push_blob(&self, repository: &str, digest: &str, bytes: &[u8]) -> Answer {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let begun = self.send(Method::POST, &path, &[], Body::empty()).await;
        if begun.status != StatusCode::ACCEPTED {
            return begun;
        }
        let path = format!("{}?digest={digest}", begun.header("location"));
        self.send(Method::PUT, &path, &[], bytes.to_vec()).await
    }

    pub(crate) async fn push_manifest(
        &self,
        repository: &str,
        reference: &str,
        manifest: &test_images::Blob,
    ) -> Answer {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let headers = [(header::CONTENT_TYPE, manifest.media_type)];
        self.send(Method::PUT, &path, &headers, manifest.bytes.clone())
            .await
    }

    /// Pushes an image, and returns the first answer that is not 201, or the last one.
    pub(crate) async fn push_image(
        &self,
        repository: &str,
        reference: &str,
        image: &Image,
    ) -> Answer {
        for blob in image.blobs() {
            let answer = self.push_blob(repository, &blob.digest, &blob.bytes).await;
            if answer.status != StatusCode::CREATED {
                return answer;
            }
        }
        self.push_manifest(repository, reference, &image.manifest)
            .await
    }

    pub(crate) async fn accelerate(&self, repository: &str, wanted: &str) {
        let path = format!("/api/v1/repositories/{repository}/acceleration");
        let headers = [(header::CONTENT_TYPE, "application/json")];
        let answer = self
            .send(Method::PUT, &path, &headers, wanted.to_owned())
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    pub(crate) async fn tasks(&self) -> Vec<api::Task> {
        self.get("/api/v1/tasks")
            .await
            .json::<api::TaskList>()
            .tasks
    }

    pub(crate) async fn images(&self) -> Vec<api::Image> {
        self.get("/api/v1/images")
            .await
            .json::<api::ImageList>()
            .images
    }

    /// Waits until no task waits or runs, and returns the newest.
    pub(crate) async fn settled_task(&self) -> api::Task {
        let settle = async {
            loop {
                let tasks = self.tasks().await;
                let is_over = |task: &api::Task| {
                    matches!(
                        task.state,
                        api::TaskState::Succeeded | api::TaskState::Failed
                    )
                };
                if tasks.iter().all(is_over) {
                    return tasks.into_iter().next().unwrap();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(CONVERSION_PATIENCE, settle)
            .await
            .unwrap()
    }

    pub(crate) fn convert(&self) -> Converter {
        let (shutdown, registry) = (CancellationToken::new(), self.registry.clone());
        let token = shutdown.clone();
        let task = tokio::spawn(async move { registry.run_converter(token).await });
        Converter { shutdown, task }
    }

    /// Files of uploads in progress.
    pub(crate) fn upload_count(&self) -> usize {
        std::fs::read_dir(self.directory.join("content/uploads"))
            .unwrap()
            .count()
    }

    /// Serves the registry on a port of the loopback interface.
    pub(crate) async fn serve(&self) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = self.router.clone();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Served { address, task }
    }
}

/// A converter that runs.
pub(crate) struct Converter {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Converter {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// A registry that listens until this is dropped.
pub(crate) struct Served {
    pub(crate) address: String,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An image with one gzip layer that holds `content`.
pub(crate) fn image(content: &[u8]) -> Image {
    let tar = LayerBuilder::new()
        .dir("etc")
        .file("etc/content", content)
        .build();
    ImageBuilder::new()
        .layer(tar, Compression::Gzip)
        .command(["/bin/true"])
        .build()
}

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}

pub(crate) fn host(address: &str) -> RegistryHost {
    address.parse().unwrap()
}

pub(crate) fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}
