//! What the distribution API answers when it cannot do what was asked.

use std::error::Error;
use std::fmt::Display;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use blob_store::CommitUploadError;
use catalog::{CatalogError, PushManifestError};
use serde::Serialize;
use uuid::Uuid;

use crate::content::{PushBlobError, ReadContentError};
use crate::error_chain::{chain_text, is_storage_full};
use crate::manifest_push::PutManifestError;
use crate::upload_sessions::SessionError;

/// Seconds after which a client that was told to come again should do so.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// A status, a code of the specification, and a message.
#[derive(Debug)]
pub(super) struct OciError {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl OciError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    /// Adds a header to the answer.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The path names nothing.
    pub(super) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            "the path names nothing of this API",
        )
    }

    /// The method cannot be used on the path.
    pub(super) fn method(method: &Method) -> Self {
        let message = format!("{method} cannot be used here");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(super) fn name_invalid(text: &str, reason: &dyn Display) -> Self {
        let message = format!("repository name {text:?} is not valid: {reason}");
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", message)
    }

    pub(super) fn name_unknown(name: &dyn Display) -> Self {
        let message = format!("repository {name} does not exist");
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message)
    }

    pub(super) fn tag_invalid(text: &str, reason: &dyn Display) -> Self {
        let message = format!("tag {text:?} is not valid: {reason}");
        Self::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", message)
    }

    pub(super) fn digest_invalid(text: &str, reason: &dyn Display) -> Self {
        let message = format!("digest {text:?} is not valid: {reason}");
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(super) fn blob_unknown(digest: &dyn Display) -> Self {
        let message = format!("blob {digest} does not exist in this repository");
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", message)
    }

    pub(super) fn manifest_unknown(selector: &dyn Display) -> Self {
        let message = format!("manifest {selector} does not exist in this repository");
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", message)
    }

    pub(super) fn upload_unknown() -> Self {
        let message = "the upload session does not exist";
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message)
    }

    pub(super) fn upload_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message)
    }

    /// Something of ours failed. The disk being full is the one cause that the client hears by a
    /// status of its own.
    pub(super) fn internal(cause: &(dyn Error + 'static)) -> Self {
        let message = chain_text(cause);
        tracing::error!(error = message, "request failed");
        if is_storage_full(cause) {
            let message = format!("the registry has no room left on its disk: {message}");
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", message);
        }
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", message)
    }
}

impl IntoResponse for OciError {
    fn into_response(self) -> Response {
        let detail = Detail {
            code: self.code,
            message: self.message,
        };
        let mut response = (self.status, Json(Envelope { errors: [detail] })).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

// SPEC: distribution, "Error Codes": a 4XX response body in JSON MUST have this form.
#[derive(Serialize)]
struct Envelope {
    errors: [Detail; 1],
}

#[derive(Serialize)]
struct Detail {
    code: &'static str,
    message: String,
}

impl From<CatalogError> for OciError {
    fn from(cause: CatalogError) -> Self {
        Self::internal(&cause)
    }
}

impl From<ReadContentError> for OciError {
    fn from(cause: ReadContentError) -> Self {
        Self::internal(&cause)
    }
}

impl From<PushBlobError> for OciError {
    fn from(cause: PushBlobError) -> Self {
        match &cause {
            PushBlobError::Commit(CommitUploadError::Mismatch { .. }) => Self::new(
                StatusCode::BAD_REQUEST,
                "DIGEST_INVALID",
                chain_text(&cause),
            ),
            PushBlobError::Commit(CommitUploadError::Write { .. })
            | PushBlobError::Catalog(_)
            | PushBlobError::Read(_) => Self::internal(&cause),
        }
    }
}

impl From<PutManifestError> for OciError {
    fn from(cause: PutManifestError) -> Self {
        let (status, code) = match &cause {
            PutManifestError::Invalid { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            PutManifestError::Mismatch { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            PutManifestError::Refused {
                source: PushManifestError::BlobAbsent { .. },
                ..
            } => (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN"),
            PutManifestError::Refused {
                source: PushManifestError::Reserved { .. },
                ..
            } => (StatusCode::FORBIDDEN, "DENIED"),
            PutManifestError::Refused {
                source: PushManifestError::Catalog(_),
                ..
            }
            | PutManifestError::Store { .. } => return Self::internal(&cause),
        };
        Self::new(status, code, chain_text(&cause))
    }
}

impl From<SessionError> for OciError {
    fn from(cause: SessionError) -> Self {
        match &cause {
            SessionError::Absent { .. } => Self::upload_unknown(),
            SessionError::Busy { .. } => Self::new(
                StatusCode::CONFLICT,
                "BLOB_UPLOAD_INVALID",
                chain_text(&cause),
            ),
            SessionError::TooMany { .. } => {
                let (status, code) = (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS");
                let refused = Self::new(status, code, chain_text(&cause));
                refused.with_header(header::RETRY_AFTER, RETRY_AFTER)
            }
            SessionError::Store(_) => Self::internal(&cause),
        }
    }
}

/// Makes the value of a `Location` header. Locations are relative, so that it does not matter under
/// which name the client reached us.
pub(super) fn location(path: String) -> Result<HeaderValue, OciError> {
    HeaderValue::try_from(path).map_err(|cause| OciError::internal(&cause))
}

/// Returns the path of an upload session.
pub(super) fn upload_path(repository: &oci::RepositoryName, id: Uuid) -> String {
    format!("/v2/{repository}/blobs/uploads/{id}")
}
