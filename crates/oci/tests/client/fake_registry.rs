//! A small registry in memory that remembers what it was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use oci::{Descriptor, Digest, ImageIndex, ImageManifest, RegistryHost, media_type};
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// How the registry wants to be authenticated to.
#[derive(Debug, Clone, Default)]
pub(crate) enum Auth {
    #[default]
    Open,
    /// The header `Authorization` must be this.
    Basic(&'static str),
    /// The newest token of the token service at this realm; `{host}` is this registry.
    Bearer(&'static str),
}

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) auth: Auth,
    pub(crate) blobs: BTreeMap<String, Bytes>,
    pub(crate) manifests: BTreeMap<String, (String, Bytes)>,
    pub(crate) referrers: Option<ImageIndex>,
    pub(crate) tokens: u32,
    /// `METHOD path?query` of each request.
    pub(crate) requests: Vec<String>,
    /// `Authorization` of each request to the token service.
    pub(crate) token_authorizations: Vec<Option<String>>,
    pub(crate) connections: BTreeSet<SocketAddr>,
}

#[derive(Clone)]
pub(crate) struct FakeRegistry {
    pub(crate) host: RegistryHost,
    pub(crate) content: Arc<Mutex<Content>>,
}

impl FakeRegistry {
    pub(crate) async fn start() -> Self {
        Self::start_with(Auth::Open).await
    }

    pub(crate) async fn start_with(auth: Auth) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string().parse().unwrap();
        let content = Content {
            auth,
            ..Content::default()
        };
        let registry = Self {
            host,
            content: Arc::new(Mutex::new(content)),
        };
        let router = Router::new().fallback(answer).with_state(registry.clone());
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        registry
    }

    pub(crate) fn add_blob(&self, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let blob = Descriptor::of("application/octet-stream", &bytes);
        self.content
            .lock()
            .blobs
            .insert(blob.digest.to_string(), bytes);
        blob
    }

    /// Adds an image of no layers under `selector` and returns its bytes.
    pub(crate) fn add_manifest(&self, selector: &str) -> Bytes {
        let config = Descriptor::of(media_type::OCI_EMPTY, selector.as_bytes());
        let body = Bytes::from(ImageManifest::new(config, Vec::new()).to_json());
        let entry = (media_type::OCI_MANIFEST.to_owned(), body.clone());
        let mut content = self.content.lock();
        content
            .manifests
            .insert(Digest::of(&body).to_string(), entry.clone());
        content.manifests.insert(selector.to_owned(), entry);
        body
    }

    /// Returns how many requests began with `prefix`.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        let content = self.content.lock();
        content
            .requests
            .iter()
            .filter(|request| request.starts_with(prefix))
            .count()
    }
}

async fn answer(
    State(registry): State<FakeRegistry>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, 64 << 20).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let mut content = registry.content.lock();
    content.connections.insert(peer);
    content
        .requests
        .push(format!("{} {}", head.method, head.uri));
    let authorization = head.headers.get("authorization");
    let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
    if head.uri.path() == "/token" {
        content.token_authorizations.push(authorization);
        content.tokens += 1;
        return format!(r#"{{"token":"t{}"}}"#, content.tokens).into_response();
    }
    if let Some(challenge) = content.challenge(&registry.host, authorization.as_deref()) {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response();
    }
    let query = head.uri.query().unwrap_or_default();
    content.route(&head.method, head.uri.path(), query, &head.headers, body)
}

impl Content {
    fn challenge(&self, host: &RegistryHost, authorization: Option<&str>) -> Option<String> {
        let (wanted, challenge) = match &self.auth {
            Auth::Open => return None,
            Auth::Basic(header) => ((*header).to_owned(), "Basic realm=\"fake\"".to_owned()),
            Auth::Bearer(realm) => {
                let realm = realm.replace("{host}", host.as_str());
                let challenge = format!("Bearer realm=\"{realm}\",service=\"fake\"");
                (format!("Bearer t{}", self.tokens), challenge)
            }
        };
        (authorization != Some(&wanted)).then_some(challenge)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request")]
    fn route(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Response {
        let path = path.strip_prefix("/v2/team/app/").unwrap_or_default();
        let (kind, name) = path.split_once('/').unwrap_or((path, ""));
        match (method.as_str(), kind) {
            ("GET" | "HEAD", "blobs") => self.blob(name, headers),
            ("GET" | "HEAD", "manifests") => self.manifest(name),
            ("GET", "referrers") => match &self.referrers {
                Some(index) => {
                    ([("content-type", media_type::OCI_INDEX)], index.to_json()).into_response()
                }
                None => StatusCode::NOT_FOUND.into_response(),
            },
            ("GET", "tags") => tags(query),
            ("POST", "blobs") => {
                let location = "/v2/team/app/blobs/uploads/1?state=x";
                (StatusCode::ACCEPTED, [("location", location)]).into_response()
            }
            ("PUT", "blobs") => self.put_blob(query, body),
            ("PUT", "manifests") => {
                let media_type = headers["content-type"].to_str().unwrap().to_owned();
                self.manifests.insert(name.to_owned(), (media_type, body));
                StatusCode::CREATED.into_response()
            }
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }

    fn blob(&self, digest: &str, headers: &HeaderMap) -> Response {
        let Some(blob) = self.blobs.get(digest) else {
            let body = r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"no such blob"}]}"#;
            return (StatusCode::NOT_FOUND, body).into_response();
        };
        let Some(range) = headers.get("range") else {
            return blob.clone().into_response();
        };
        let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let last = last.min(blob.len() - 1);
        let content_range = format!("bytes {first}-{last}/{}", blob.len());
        let headers = [("content-range", content_range)];
        (
            StatusCode::PARTIAL_CONTENT,
            headers,
            blob.slice(first..=last),
        )
            .into_response()
    }

    fn manifest(&self, selector: &str) -> Response {
        let Some((media_type, body)) = self.manifests.get(selector) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        let digest = Digest::of(body).to_string();
        let headers = [
            ("content-type", media_type),
            ("docker-content-digest", &digest),
        ];
        (headers, body.clone()).into_response()
    }

    fn put_blob(&mut self, query: &str, body: Bytes) -> Response {
        let digest = Digest::of(&body).to_string();
        let asked = format!("state=x&digest={}", digest.replace(':', "%3A"));
        if query != asked {
            let body = r#"{"errors":[{"code":"DIGEST_INVALID","message":"other bytes came"}]}"#;
            return (StatusCode::BAD_REQUEST, body).into_response();
        }
        self.blobs.insert(digest, body);
        StatusCode::CREATED.into_response()
    }
}

/// Three pages of one tag each.
fn tags(query: &str) -> Response {
    let page: u32 = query
        .strip_prefix("page=")
        .map_or(0, |page| page.parse().unwrap());
    let mut response = Response::builder();
    if page < 2 {
        let mut link = String::new();
        write!(
            link,
            "</v2/team/app/tags/list?page={}>; rel=\"next\"",
            page + 1
        )
        .unwrap();
        response = response.header("link", link);
    }
    let body = format!(r#"{{"name":"team/app","tags":["v{page}"]}}"#);
    response.body(Body::from(body)).unwrap()
}
