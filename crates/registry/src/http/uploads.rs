//! Blobs on their way in: upload sessions, monolithic uploads and mounts.
//!
//! Whatever reads a body or commits runs as a task of its own: when the client goes away in the
//! middle, the bytes that came stay with the session, and a commit is never left half-done.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use blob_store::BlobUpload;
use oci::{Digest, RepositoryName};
use uuid::Uuid;

use super::body::receive;
use super::byte_range::parse_content_range;
use super::oci_error::{location, upload_path};
use super::parameters::{Parameters, header_text};
use super::route::digest as parse_digest;
use super::{DIGEST, OciError, Split};
use crate::registry::Parts;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

type Place = (RepositoryName, Uuid);

/// Begins a session, or takes a whole blob, or mounts one.
pub(super) async fn begin(
    parts: &Arc<Parts>,
    repository: RepositoryName,
    (head, body): Split,
) -> Result<Response, OciError> {
    let parameters = Parameters::of(&head.uri)?;
    check_algorithm(&parameters)?;
    if let Some(response) = mount(parts, &repository, &parameters).await? {
        return Ok(response);
    }
    let whole = parameters.first("digest").map(parse_digest).transpose()?;
    let id = parts.uploads.begin(&repository).await?;
    match whole {
        Some(digest) => {
            let place = (repository, id);
            let piece = Piece {
                headers: head.headers,
                body,
            };
            let owner = Arc::clone(parts);
            run(parts, async move {
                finish(&owner, &place, piece, &digest).await
            })
            .await
        }
        None => accepted(&repository, id, 0),
    }
}

/// Works on a session.
pub(super) async fn answer(
    parts: &Arc<Parts>,
    place: Place,
    (head, body): Split,
) -> Result<Response, OciError> {
    match head.method {
        Method::GET | Method::HEAD => show(parts, &place).await,
        Method::PATCH => {
            let piece = Piece {
                headers: head.headers,
                body,
            };
            let owner = Arc::clone(parts);
            run(parts, async move { append(&owner, &place, piece).await }).await
        }
        Method::PUT => {
            let parameters = Parameters::of(&head.uri)?;
            let text = parameters.first("digest").unwrap_or_default();
            let digest = parse_digest(text)?;
            let piece = Piece {
                headers: head.headers,
                body,
            };
            let owner = Arc::clone(parts);
            run(parts, async move {
                finish(&owner, &place, piece, &digest).await
            })
            .await
        }
        Method::DELETE => cancel(parts, &place).await,
        _ => Err(OciError::method(&head.method)),
    }
}

/// The bytes that a request brings, and where they belong.
struct Piece {
    headers: HeaderMap,
    body: Body,
}

impl Piece {
    /// Checks that the piece begins where the upload ends.
    // SPEC: distribution, "Pushing a blob in chunks": a chunk that is uploaded out of order MUST be
    // answered with 416 Range Not Satisfiable.
    fn check_order(&self, place: &Place, received_len: u64) -> Result<(), OciError> {
        let Some(value) = header_text(&self.headers, header::CONTENT_RANGE) else {
            return Ok(());
        };
        let Some(range) = parse_content_range(value) else {
            let message = format!("Content-Range {value:?} is not valid");
            return Err(OciError::upload_invalid(message));
        };
        if range.start != received_len {
            return out_of_order(place, received_len, range.start);
        }
        let len = header_text(&self.headers, header::CONTENT_LENGTH);
        let len = len.and_then(|len| len.parse::<u64>().ok());
        if len.is_some_and(|len| len != range.end - range.start) {
            let message = "Content-Range and Content-Length name different lengths";
            return Err(OciError::new(
                StatusCode::BAD_REQUEST,
                "SIZE_INVALID",
                message,
            ));
        }
        Ok(())
    }
}

fn out_of_order(place: &Place, received_len: u64, start: u64) -> Result<(), OciError> {
    let message = format!("the upload has {received_len} bytes, the piece begins at {start}");
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    let mut refused = OciError::new(status, "BLOB_UPLOAD_INVALID", message);
    for (name, value) in session_headers(&place.0, place.1, received_len)? {
        refused = refused.with_header(name, value);
    }
    Err(refused)
}

/// Runs a step to its end, even if the request that asked for it is dropped.
async fn run(
    parts: &Parts,
    step: impl Future<Output = Result<Response, OciError>> + Send + 'static,
) -> Result<Response, OciError> {
    let running = parts.requests.spawn(step);
    running
        .await
        .unwrap_or_else(|cause| Err(OciError::internal(&cause)))
}

async fn append(parts: &Parts, place: &Place, piece: Piece) -> Result<Response, OciError> {
    let (repository, id) = place;
    let mut held = parts.uploads.hold(repository, *id).await?;
    let Some(upload) = held.as_deref_mut() else {
        return Err(OciError::upload_unknown());
    };
    piece.check_order(place, upload.received_len())?;
    let received = receive(piece.body, upload, &parts.limits).await;
    let received_len = upload.received_len();
    parts.uploads.touch(*id);
    match received {
        Ok(()) => accepted(repository, *id, received_len),
        Err(cause) => {
            if !cause.is_resumable() {
                parts.uploads.forget(*id);
                discard(held.take()).await;
            }
            Err((&cause).into())
        }
    }
}

async fn finish(
    parts: &Parts,
    place: &Place,
    piece: Piece,
    digest: &Digest,
) -> Result<Response, OciError> {
    let (repository, id) = place;
    let mut held = parts.uploads.hold(repository, *id).await?;
    let Some(mut upload) = held.take() else {
        return Err(OciError::upload_unknown());
    };
    let order = piece.check_order(place, upload.received_len());
    if let Err(refused) = order {
        *held = Some(upload);
        return Err(refused);
    }
    if let Err(cause) = receive(piece.body, upload.as_mut(), &parts.limits).await {
        if cause.is_resumable() {
            *held = Some(upload);
        } else {
            parts.uploads.forget(*id);
            upload.discard().await;
        }
        return Err((&cause).into());
    }
    parts.uploads.forget(*id);
    parts.content.push_blob(repository, digest, upload).await?;
    created(repository, digest)
}

async fn show(parts: &Parts, (repository, id): &Place) -> Result<Response, OciError> {
    let held = parts.uploads.hold(repository, *id).await?;
    let received_len = held.as_deref().map_or(0, BlobUpload::received_len);
    let headers = session_headers(repository, *id, received_len)?;
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

async fn cancel(parts: &Parts, (repository, id): &Place) -> Result<Response, OciError> {
    let mut held = parts.uploads.hold(repository, *id).await?;
    parts.uploads.forget(*id);
    discard(held.take()).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn discard(upload: Option<Box<dyn BlobUpload>>) {
    if let Some(upload) = upload {
        upload.discard().await;
    }
}

/// Mounts a blob of another repository. `None` if there is nothing to mount: then the blob is
/// uploaded as any other, since a client must not be stopped by a mount that did not work.
///
/// Without `from` nothing is mounted: knowing a digest is no right to read.
async fn mount(
    parts: &Parts,
    repository: &RepositoryName,
    parameters: &Parameters,
) -> Result<Option<Response>, OciError> {
    let (Some(digest), Some(source)) = (parameters.first("mount"), parameters.first("from")) else {
        return Ok(None);
    };
    let (Ok(digest), Ok(source)) = (digest.parse(), source.parse()) else {
        return Ok(None);
    };
    if !parts
        .content
        .mount_blob(&source, repository, &digest)
        .await?
    {
        return Ok(None);
    }
    created(repository, &digest).map(Some)
}

fn check_algorithm(parameters: &Parameters) -> Result<(), OciError> {
    match parameters.first("digest-algorithm") {
        None | Some("sha256") => Ok(()),
        Some(other) => {
            let message = format!("digest algorithm {other:?} is not supported, sha256 is");
            Err(OciError::new(
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                message,
            ))
        }
    }
}

fn accepted(
    repository: &RepositoryName,
    id: Uuid,
    received_len: u64,
) -> Result<Response, OciError> {
    let headers = session_headers(repository, id, received_len)?;
    Ok((StatusCode::ACCEPTED, headers).into_response())
}

fn session_headers(
    repository: &RepositoryName,
    id: Uuid,
    received_len: u64,
) -> Result<[(HeaderName, HeaderValue); 3], OciError> {
    // The range is inclusive, so none is exact before the first byte; clients expect `0-0`.
    let range = format!("0-{}", received_len.saturating_sub(1));
    Ok([
        (header::LOCATION, location(upload_path(repository, id))?),
        (header::RANGE, location(range)?),
        (UPLOAD_ID, location(id.to_string())?),
    ])
}

fn created(repository: &RepositoryName, digest: &Digest) -> Result<Response, OciError> {
    let headers = [
        (
            header::LOCATION,
            location(format!("/v2/{repository}/blobs/{digest}"))?,
        ),
        (DIGEST, location(digest.to_string())?),
    ];
    Ok((StatusCode::CREATED, headers).into_response())
}
