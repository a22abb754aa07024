//! The client of one repository: what its requests have in common.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::blob_body::Body;
use super::error::{ClientError, RequestFault};
use super::exchange::Call;
use super::registry_client::Shared;
use crate::{Descriptor, Digest, Manifest, RegistryHost, RepositoryName};

/// Longest error body that is read, in bytes; only its first message is shown.
const ERROR_LEN_MAX: u64 = 64 << 10;

/// Longest error message that is shown, in characters.
const MESSAGE_LEN_MAX: usize = 300;

/// A client of one repository. Clones share everything.
#[derive(Clone)]
pub struct RepositoryClient {
    pub(super) shared: Arc<Shared>,
    pub(super) registry: RegistryHost,
    pub(super) repository: RepositoryName,
    /// `scheme://host/v2/repository/`, to which the rest of each URL is joined.
    pub(super) base: Arc<Url>,
    /// Held while a token is fetched.
    pub(super) authorizing: Arc<tokio::sync::Mutex<()>>,
    /// Why no URL can be made of the names; each request then fails with it.
    malformed: Option<Arc<str>>,
}

/// A manifest whose bytes were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The digest of the bytes.
    pub digest: Digest,
    /// The media type: the one it states, else the one it came with.
    pub media_type: String,
    /// The bytes as they came.
    pub body: Bytes,
    /// What they say.
    pub manifest: Manifest,
}

impl FetchedManifest {
    /// Returns what points at this manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.body.len() as u64)
    }
}

impl RepositoryClient {
    pub(super) fn new(
        shared: Arc<Shared>,
        registry: RegistryHost,
        repository: RepositoryName,
    ) -> Self {
        let scheme = shared.options.plain_http.scheme(&registry);
        let text = format!(
            "{scheme}://{}/v2/{repository}/",
            api_host(registry.as_str())
        );
        let (base, malformed) = match Url::parse(&text) {
            Ok(base) => (base, None),
            Err(error) => (unusable_url(), Some(format!("{text}: {error}").into())),
        };
        let (base, authorizing) = (Arc::new(base), Arc::default());
        Self {
            shared,
            registry,
            repository,
            base,
            authorizing,
            malformed,
        }
    }

    /// Returns the registry.
    pub fn registry(&self) -> &RegistryHost {
        &self.registry
    }

    /// Returns the repository.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// Makes a request for a path below the repository.
    pub(super) fn call(&self, method: Method, path: &str) -> Result<Call, ClientError> {
        let malformed =
            |reason| ClientError::new(&method, &self.registry, RequestFault::Malformed { reason });
        if let Some(reason) = &self.malformed {
            return Err(malformed(reason.to_string()));
        }
        // A digest has a colon, which makes a URL of its own if it stood at the beginning.
        let url = Url::parse(&format!("{}{path}", self.base));
        let url = url.map_err(|error| malformed(error.to_string()))?;
        Ok(Call::new(method, url))
    }

    /// Returns the answer if its status is one of `wanted`, else the error that it says.
    pub(super) async fn expect(
        &self,
        body: Body,
        wanted: &[StatusCode],
    ) -> Result<Body, ClientError> {
        if wanted.contains(&body.response.status()) {
            return Ok(body);
        }
        Err(self.refusal(body).await)
    }

    /// Like [`Self::expect`] for 200, with 404 as `None`.
    pub(super) async fn expect_found(&self, body: Body) -> Result<Option<Body>, ClientError> {
        if body.response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.expect(body, &[StatusCode::OK]).await.map(Some)
    }

    /// Reads why the registry refused.
    async fn refusal(&self, mut body: Body) -> ClientError {
        let status = body.response.status();
        let user = self
            .shared
            .credentials(&self.registry)
            .map(|known| known.user.clone());
        // A body that cannot be read says nothing; the status still does.
        let envelope = body.read_all(ERROR_LEN_MAX).await.unwrap_or_default();
        let first = first_error(&envelope);
        let (code, message) = (
            first.code.as_deref().and_then(shown),
            first.message.as_deref().and_then(shown),
        );
        body.failed(RequestFault::Status {
            status,
            user,
            code,
            message,
        })
    }
}

impl fmt::Debug for RepositoryClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "RepositoryClient({}/{})",
            self.registry, self.repository
        )
    }
}

/// Returns a header as text; `None` if it is absent or no text.
pub(super) fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Returns the host that serves the API of `registry`: Docker Hub's is not its name.
fn api_host(registry: &str) -> &str {
    match registry {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    }
}

#[expect(clippy::expect_used, reason = "the text is constant")]
fn unusable_url() -> Url {
    Url::parse("http://invalid./").expect("the URL is well formed")
}

/// The error body of the specification.
#[derive(Deserialize)]
struct Envelope {
    errors: Vec<EnvelopeError>,
}

#[derive(Deserialize, Default)]
struct EnvelopeError {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

fn first_error(body: &[u8]) -> EnvelopeError {
    let envelope = serde_json::from_slice(body).ok();
    envelope
        .and_then(|envelope: Envelope| envelope.errors.into_iter().next())
        .unwrap_or_default()
}

/// Makes a foreign text fit to be shown: no control characters, not too long, not empty.
fn shown(text: &str) -> Option<String> {
    let printable = text.chars().filter(|character| !character.is_control());
    let text: String = printable.take(MESSAGE_LEN_MAX).collect();
    (!text.is_empty()).then_some(text)
}
