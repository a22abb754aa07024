//! Writes blobs and manifests.

use std::path::Path;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Method, StatusCode, Url};

use super::auth::Access;
use super::error::{ClientError, RequestFault};
use super::exchange::{Call, CallBody};
use super::fetch::DOCKER_CONTENT_DIGEST;
use super::repository_client::{RepositoryClient, header};
use crate::{Digest, Selector};

impl RepositoryClient {
    /// Pushes a blob from memory, unless the repository has it. Safe to call twice.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn push_blob_bytes(&self, digest: Digest, bytes: Bytes) -> Result<(), ClientError> {
        self.push_blob(&digest, CallBody::Bytes(bytes)).await
    }

    /// Pushes a blob of `size` bytes from a file, unless the repository has it. Safe to call
    /// twice. The registry checks the digest; the file is read once, as it is sent.
    ///
    /// # Errors
    ///
    /// [`ClientError`], also if the file cannot be read or has another length.
    pub async fn push_blob_file(
        &self,
        digest: &Digest,
        size: u64,
        path: &Path,
    ) -> Result<(), ClientError> {
        self.push_blob(
            digest,
            CallBody::File {
                path: path.to_owned(),
                len: size,
            },
        )
        .await
    }

    /// Puts a manifest and returns its digest. The blobs and manifests it names come first.
    ///
    /// # Errors
    ///
    /// [`ClientError`], also if the registry says that it stored other bytes.
    pub async fn put_manifest(
        &self,
        selector: &Selector,
        media_type: &str,
        body: Bytes,
    ) -> Result<Digest, ClientError> {
        let expected = Digest::of(&body);
        let call = self.call(Method::PUT, &format!("manifests/{selector}"))?;
        let call = call
            .with_header(CONTENT_TYPE, media_type)?
            .with_body(CallBody::Bytes(body));
        let answer = self.send(&call, Access::Push).await?;
        let answer = self.expect(answer, &[StatusCode::CREATED]).await?;
        let stated = header(answer.response.headers(), &DOCKER_CONTENT_DIGEST);
        match stated.and_then(|stated| stated.parse().ok()) {
            Some(actual) if actual != expected => {
                Err(call.failed(RequestFault::DigestMismatch { expected, actual }))
            }
            Some(_) | None => Ok(expected),
        }
    }

    // SPEC: distribution, "POST then PUT": the whole blob in one request, which every registry
    // takes and which is the fewest round trips.
    async fn push_blob(&self, digest: &Digest, body: CallBody) -> Result<(), ClientError> {
        if self.blob_len(digest, Access::Push).await?.is_some() {
            return Ok(());
        }
        let mut location = self.begin_upload().await?;
        location
            .query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let call = Call::new(Method::PUT, location).with_body(body);
        let call = call.with_header(CONTENT_TYPE, "application/octet-stream")?;
        let answer = self.send(&call, Access::Push).await?;
        self.expect(answer, &[StatusCode::CREATED]).await?;
        Ok(())
    }

    /// Opens an upload session and returns where to put the bytes.
    async fn begin_upload(&self) -> Result<Url, ClientError> {
        let call = self.call(Method::POST, "blobs/uploads/")?;
        let answer = self.send(&call, Access::Push).await?;
        let answer = self.expect(answer, &[StatusCode::ACCEPTED]).await?;
        let value = header(answer.response.headers(), &LOCATION).unwrap_or_default();
        let location = answer.response.url().join(&value).ok();
        location.filter(|_| !value.is_empty()).ok_or_else(|| {
            call.failed(RequestFault::Header {
                name: "Location",
                value,
            })
        })
    }
}
