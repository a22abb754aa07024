//! Blobs: pulled, looked for, deleted.

use axum::body::Body;
use axum::http::request::Parts as Head;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use blob_store::BlobContent;
use oci::{Digest, RepositoryName};

use super::byte_range::RangeRequest;
use super::parameters::header_text;
use super::{DIGEST, OciError};
use crate::registry::Parts;

/// Blobs have no type of their own.
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

const BYTES: HeaderValue = HeaderValue::from_static("bytes");

type Place<'request> = (&'request RepositoryName, &'request Digest);

pub(super) async fn answer(
    parts: &Parts,
    place: Place<'_>,
    head: &Head,
) -> Result<Response, OciError> {
    match head.method {
        Method::GET => pull(parts, place, head).await,
        Method::HEAD => look(parts, place).await,
        Method::DELETE => delete(parts, place).await,
        _ => Err(OciError::method(&head.method)),
    }
}

async fn look(parts: &Parts, (repository, digest): Place<'_>) -> Result<Response, OciError> {
    let found = parts.content.blob_size(repository, digest).await?;
    let size = found.ok_or_else(|| OciError::blob_unknown(digest))?;
    headed(StatusCode::OK, digest, size, Body::empty())
}

async fn pull(
    parts: &Parts,
    (repository, digest): Place<'_>,
    head: &Head,
) -> Result<Response, OciError> {
    let found = parts.content.catalog.blob_size(repository, digest).await?;
    let size = found.ok_or_else(|| OciError::blob_unknown(digest))?;
    let asked = match wanted_range(head, digest) {
        None => RangeRequest::Whole,
        Some(value) => RangeRequest::parse(Some(value), size),
    };
    let range = match asked {
        RangeRequest::Whole => None,
        RangeRequest::Part(range) => Some(range),
        RangeRequest::Unsatisfiable => {
            let refused = OciError::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "SIZE_INVALID",
                format!("blob {digest} has {size} bytes and not the range that was asked for"),
            );
            let all = HeaderValue::try_from(format!("bytes */{size}"));
            let all = all.map_err(|cause| OciError::internal(&cause))?;
            return Err(refused.with_header(header::CONTENT_RANGE, all));
        }
    };
    let is_part = range.is_some();
    let opened = parts.content.store.read(digest, range).await;
    let opened = opened.map_err(|cause| OciError::internal(&cause))?;
    let Some(content) = opened else {
        tracing::error!(blob.digest = %digest, "the catalog names a blob that the store lost");
        return Err(OciError::blob_unknown(digest));
    };
    if is_part {
        part(digest, content)
    } else {
        whole(digest, content)
    }
}

/// Returns the `Range` header, unless it is meant for other content than this.
fn wanted_range<'request>(head: &'request Head, digest: &Digest) -> Option<&'request str> {
    let range = header_text(&head.headers, header::RANGE)?;
    match header_text(&head.headers, header::IF_RANGE) {
        Some(condition) if condition.trim_matches('"') != digest.to_string() => None,
        _ => Some(range),
    }
}

fn whole(digest: &Digest, content: BlobContent) -> Result<Response, OciError> {
    headed(
        StatusCode::OK,
        digest,
        content.size,
        Body::from_stream(content.stream),
    )
}

fn part(digest: &Digest, content: BlobContent) -> Result<Response, OciError> {
    let (range, size) = (content.range, content.size);
    let shown = format!("bytes {}-{}/{size}", range.start, range.end - 1);
    let shown = HeaderValue::try_from(shown).map_err(|cause| OciError::internal(&cause))?;
    let body = Body::from_stream(content.stream);
    let len = range.end - range.start;
    let mut response = headed(StatusCode::PARTIAL_CONTENT, digest, len, body)?;
    response.headers_mut().insert(header::CONTENT_RANGE, shown);
    Ok(response)
}

fn headed(status: StatusCode, digest: &Digest, len: u64, body: Body) -> Result<Response, OciError> {
    let text =
        |text: String| HeaderValue::try_from(text).map_err(|cause| OciError::internal(&cause));
    let headers = [
        (header::CONTENT_TYPE, OCTETS),
        (header::CONTENT_LENGTH, HeaderValue::from(len)),
        (header::ACCEPT_RANGES, BYTES),
        (header::ETAG, text(format!("\"{digest}\""))?),
        (DIGEST, text(digest.to_string())?),
    ];
    Ok((status, headers, body).into_response())
}

async fn delete(parts: &Parts, (repository, digest): Place<'_>) -> Result<Response, OciError> {
    if parts
        .content
        .catalog
        .unlink_blob(repository, digest)
        .await?
    {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    Err(OciError::blob_unknown(digest))
}
