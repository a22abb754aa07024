//! The routes: the distribution API under `/v2/` and the management API under `/api/v1/`.
//!
//! The only place that knows HTTP: what goes wrong below becomes a status and a code here.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts as Head;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::registry::Parts;

mod blobs;
mod body;
mod byte_range;
mod management;
mod manifests;
mod oci_error;
mod parameters;
mod route;
mod uploads;

use oci_error::OciError;
use route::Route;

/// Says that this is a registry; old clients look for it.
const API_VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("docker-distribution-api-version"),
    HeaderValue::from_static("registry/2.0"),
);

/// A request, its head apart from its body: only the head can be lent across a wait.
type Split = (Head, Body);

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Returns all routes.
pub(crate) fn router(parts: Arc<Parts>) -> Router {
    Router::new()
        .route("/v2", any(distribution))
        .route("/v2/", any(distribution))
        .route("/v2/{*path}", any(distribution))
        .with_state(Arc::clone(&parts))
        .merge(management::router(parts))
}

async fn distribution(State(parts): State<Arc<Parts>>, request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let answer = dispatch(&parts, request).await;
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(API_VERSION.0, API_VERSION.1);
    tracing::debug!(%method, path = uri.path(), status = response.status().as_u16(), "answered");
    response
}

async fn dispatch(parts: &Arc<Parts>, request: Request) -> Result<Response, OciError> {
    let (head, body) = request.into_parts();
    let route = Route::parse(head.uri.path())?;
    let method = head.method.clone();
    match (route, method) {
        (Route::Base, Method::GET | Method::HEAD) => Ok(base()),
        (Route::Repositories, Method::GET) => manifests::repositories(parts, &head).await,
        (Route::Tags(repository), Method::GET) => manifests::tags(parts, &repository, &head).await,
        (Route::Referrers(repository, digest), Method::GET) => {
            manifests::referrers(parts, (&repository, &digest), &head).await
        }
        (Route::Manifest(repository, selector), _) => {
            manifests::answer(parts, (repository, selector), (head, body)).await
        }
        (Route::Blob(repository, digest), _) => {
            blobs::answer(parts, (&repository, &digest), &head).await
        }
        (Route::Uploads(repository), Method::POST) => {
            uploads::begin(parts, repository, (head, body)).await
        }
        (Route::Upload(repository, id), _) => {
            uploads::answer(parts, (repository, id), (head, body)).await
        }
        (
            Route::Base
            | Route::Repositories
            | Route::Tags(_)
            | Route::Referrers(..)
            | Route::Uploads(_),
            method,
        ) => Err(OciError::method(&method)),
    }
}

fn base() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], "{}").into_response()
}
