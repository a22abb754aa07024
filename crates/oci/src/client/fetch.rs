//! Reads manifests and blobs.

use std::ops::Range;

use bytes::Bytes;
use futures::stream;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE};
use reqwest::{Method, StatusCode};

use super::auth::Access;
use super::blob_body::{Body, collect};
use super::error::{ClientError, RequestFault};
use super::repository_client::{FetchedManifest, RepositoryClient, header};
use super::{BlobStream, exchange::Call};
use crate::{Descriptor, Digest, MANIFEST_LEN_MAX, Manifest, Selector};

/// The header that names the digest of the content.
pub(super) const DOCKER_CONTENT_DIGEST: HeaderName =
    HeaderName::from_static("docker-content-digest");

/// Every manifest that we can read. One line: some registries look at the first only.
const ACCEPTED_MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

impl RepositoryClient {
    /// Fetches a manifest; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ClientError`], also if the bytes do not have the digest asked for, or the one that the
    /// registry says they have.
    pub async fn fetch_manifest(
        &self,
        selector: &Selector,
    ) -> Result<Option<FetchedManifest>, ClientError> {
        let call = self.manifest_call(Method::GET, selector)?;
        let answer = self.send(&call, Access::Pull).await?;
        let Some(mut answer) = self.expect_found(answer).await? else {
            return Ok(None);
        };
        let body = answer.read_all(MANIFEST_LEN_MAX).await?;
        let headers = answer.response.headers();
        let digest = Digest::of(&body);
        if let Some(expected) = promised_digest(selector, &answer)
            && expected != digest
        {
            return Err(call.failed(RequestFault::DigestMismatch {
                expected,
                actual: digest,
            }));
        }
        let content_type = header(headers, &CONTENT_TYPE);
        let manifest = Manifest::parse(content_type.as_deref(), &body)
            .map_err(|source| call.failed(RequestFault::Manifest { source }))?;
        let media_type = media_type_of(&manifest, content_type);
        Ok(Some(FetchedManifest {
            digest,
            media_type,
            body,
            manifest,
        }))
    }

    /// Asks what a manifest is without fetching it; `None` if there is none.
    ///
    /// A registry that does not say the digest is asked for the whole manifest instead.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn head_manifest(
        &self,
        selector: &Selector,
    ) -> Result<Option<Descriptor>, ClientError> {
        let call = self.manifest_call(Method::HEAD, selector)?;
        let answer = self.send(&call, Access::Pull).await?;
        let Some(answer) = self.expect_found(answer).await? else {
            return Ok(None);
        };
        let headers = answer.response.headers();
        let media_type = header(headers, &CONTENT_TYPE);
        let digest = promised_digest(selector, &answer);
        let size = header(headers, &CONTENT_LENGTH).and_then(|size| size.parse().ok());
        if let (Some(media_type), Some(digest), Some(size)) = (media_type, digest, size) {
            return Ok(Some(Descriptor::new(media_type, digest, size)));
        }
        Ok(self
            .fetch_manifest(selector)
            .await?
            .map(|fetched| fetched.descriptor()))
    }

    /// Asks whether the repository has a blob, and how many bytes it has; `None` if it has not.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn has_blob(&self, digest: &Digest) -> Result<Option<u64>, ClientError> {
        self.blob_len(digest, Access::Pull).await
    }

    /// Asks for the length of a blob, as one who wants to push does or one who wants to pull.
    pub(super) async fn blob_len(
        &self,
        digest: &Digest,
        access: Access,
    ) -> Result<Option<u64>, ClientError> {
        let call = self.call(Method::HEAD, &format!("blobs/{digest}"))?;
        let answer = self.send(&call, access).await?;
        let Some(answer) = self.expect_found(answer).await? else {
            return Ok(None);
        };
        let value = header(answer.response.headers(), &CONTENT_LENGTH).unwrap_or_default();
        match value.parse() {
            Ok(size) => Ok(Some(size)),
            Err(_) => Err(call.failed(RequestFault::Header {
                name: "Content-Length",
                value,
            })),
        }
    }

    /// Fetches a blob as a stream, which is not verified but for its length.
    ///
    /// # Errors
    ///
    /// [`ClientError`], also if there is no such blob. The stream fails if the connection breaks,
    /// and if there are fewer or more bytes than the descriptor says.
    pub async fn fetch_blob(&self, blob: &Descriptor) -> Result<BlobStream, ClientError> {
        let call = self.call(Method::GET, &format!("blobs/{}", blob.digest))?;
        let answer = self.send(&call, Access::Pull).await?;
        self.expect(answer, &[StatusCode::OK])
            .await?
            .into_stream(blob.size)
    }

    /// Fetches a whole blob of at most `limit_len` bytes and checks its digest.
    ///
    /// # Errors
    ///
    /// [`ClientError`], also if there is no such blob. Nothing is asked for over the limit.
    pub async fn fetch_blob_bytes(
        &self,
        blob: &Descriptor,
        limit_len: u64,
    ) -> Result<Bytes, ClientError> {
        let call = self.call(Method::GET, &format!("blobs/{}", blob.digest))?;
        if blob.size > limit_len {
            return Err(call.failed(RequestFault::TooLarge { limit_len }));
        }
        let bytes = collect(self.fetch_blob(blob).await?, blob.size).await?;
        let (expected, actual) = (blob.digest, Digest::of(&bytes));
        if actual != expected {
            return Err(call.failed(RequestFault::DigestMismatch { expected, actual }));
        }
        Ok(bytes)
    }

    /// Fetches bytes `range` of a blob as a stream, which is not verified but for its length.
    ///
    /// An empty range is an empty stream, and nothing is asked for.
    ///
    /// # Errors
    ///
    /// [`ClientError`], also if there is no such blob, if the registry sends the whole blob
    /// ([`RequestFault::RangesNotSupported`]) or another range. The stream fails if the connection
    /// breaks or the length is wrong.
    pub async fn fetch_blob_range(
        &self,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<BlobStream, ClientError> {
        if range.is_empty() {
            return Ok(Box::pin(stream::empty()));
        }
        let asked = format!("bytes={}-{}", range.start, range.end - 1);
        let call = self.call(Method::GET, &format!("blobs/{digest}"))?;
        let call = call.with_header(RANGE, &asked)?;
        let answer = self.send(&call, Access::Pull).await?;
        if answer.response.status() == StatusCode::OK {
            return Err(call.failed(RequestFault::RangesNotSupported));
        }
        let answer = self.expect(answer, &[StatusCode::PARTIAL_CONTENT]).await?;
        let content_range = header(answer.response.headers(), &CONTENT_RANGE).unwrap_or_default();
        if parse_content_range(&content_range) != Some(range.clone()) {
            let fault = RequestFault::ContentRange {
                asked: range,
                actual: content_range,
            };
            return Err(call.failed(fault));
        }
        answer.into_stream(range.end - range.start)
    }

    fn manifest_call(&self, method: Method, selector: &Selector) -> Result<Call, ClientError> {
        let call = self.call(method, &format!("manifests/{selector}"))?;
        call.with_header(ACCEPT, ACCEPTED_MANIFESTS)
    }
}

/// Returns the digest that the bytes have to have: the one asked for, else the one stated.
///
/// A stated digest of an algorithm that we do not know cannot be checked; we compute our own.
fn promised_digest(selector: &Selector, answer: &Body) -> Option<Digest> {
    match selector {
        Selector::Digest(digest) => Some(*digest),
        Selector::Tag(_) => header(answer.response.headers(), &DOCKER_CONTENT_DIGEST)?
            .parse()
            .ok(),
    }
}

/// Returns the media type that a manifest states, else the one it came with, else its kind's.
fn media_type_of(manifest: &Manifest, content_type: Option<String>) -> String {
    let stated = match manifest {
        Manifest::Image(image) => image.media_type.clone(),
        Manifest::Index(index) => index.media_type.clone(),
    };
    let without_parameters =
        |text: String| text.split(';').next().unwrap_or_default().trim().to_owned();
    let came_with = content_type.map(without_parameters);
    let known = stated
        .into_iter()
        .chain(came_with)
        .find(|known| !known.is_empty());
    known.unwrap_or_else(|| manifest.media_type().to_owned())
}

/// Reads `bytes 0-99/1234` or `bytes 0-99/*` as the half-open range.
fn parse_content_range(text: &str) -> Option<Range<u64>> {
    let (range, _total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some(first.trim().parse().ok()?..last.trim().parse::<u64>().ok()?.checked_add(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(parse_content_range("bytes 0-99/1234"), Some(0..100));
        assert_eq!(parse_content_range("bytes 5-5/*"), Some(5..6));
        for text in [
            "",
            "bytes */10",
            "bytes 0-99",
            "0-99/100",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }
}
