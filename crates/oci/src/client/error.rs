//! What can go wrong between us and a registry, said so that a person can act on it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use thiserror::Error;

use crate::{Digest, MANIFEST_LEN_MAX, ParseManifestError};

/// A request that did not do what it should: which one, to which URL, and why.
///
/// The text is complete: it names the innermost cause of a transport fault too, which is therefore
/// not repeated in the `source` chain.
pub struct ClientError(Box<Inner>);

struct Inner {
    method: Method,
    url: String,
    fault: RequestFault,
}

impl ClientError {
    pub(super) fn new(method: &Method, url: impl fmt::Display, fault: RequestFault) -> Self {
        Self(Box::new(Inner {
            method: method.clone(),
            url: url.to_string(),
            fault,
        }))
    }

    /// Returns the URL of the request. It holds no credentials.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Returns what went wrong.
    pub fn fault(&self) -> &RequestFault {
        &self.0.fault
    }

    /// Returns the HTTP status, if the registry answered with one that means failure.
    pub fn status(&self) -> Option<u16> {
        if let RequestFault::Status { status, .. } = self.fault() {
            return Some(status.as_u16());
        }
        None
    }

    /// Says whether the registry answered that it does not have what was asked for.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Says whether no answer came at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.fault(),
            RequestFault::Unreachable { .. }
                | RequestFault::Silent { .. }
                | RequestFault::Broken { .. }
        )
    }

    /// Says whether the same request may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        let status = self.status();
        self.is_unreachable()
            || matches!(status, Some(408 | 429 | 500 | 502 | 503 | 504))
            || matches!(
                self.fault(),
                RequestFault::Interrupted { .. } | RequestFault::ShortBody { .. }
            )
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { method, url, fault } = &*self.0;
        write!(formatter, "{method} {url}: {fault}")
    }
}

impl fmt::Debug for ClientError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ClientError({self})")
    }
}

impl StdError for ClientError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.fault.source()
    }
}

/// Why a request failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields are what the messages say they are")]
pub enum RequestFault {
    /// No connection could be made.
    #[error("cannot reach the registry: {}", root_cause(.cause))]
    Unreachable { cause: reqwest::Error },
    /// The connection broke before an answer came.
    #[error("no answer from the registry: {}", root_cause(.cause))]
    Broken { cause: reqwest::Error },
    /// Nothing moved for too long.
    #[error("the registry sent nothing for {} s", .after.as_secs_f32())]
    Silent { after: Duration },
    /// The connection broke within the body.
    #[error("the connection broke after {actual_len} bytes of the body: {}", root_cause(.cause))]
    Interrupted {
        actual_len: u64,
        cause: reqwest::Error,
    },
    /// The registry answered, but not what was asked for.
    #[error("the registry answered {status}{}{}", asked_as(*.status, .user.as_ref()), said(.code.as_ref(), .message.as_ref()))]
    Status {
        status: StatusCode,
        /// Who asked; none if nobody.
        user: Option<String>,
        /// Code of the first error in the body.
        code: Option<String>,
        /// Message of the first error in the body.
        message: Option<String>,
    },
    /// The body ended early.
    #[error("the body is {actual_len} bytes instead of {expected_len}")]
    ShortBody { expected_len: u64, actual_len: u64 },
    /// The body goes on after its end.
    #[error("the body is longer than the {expected_len} bytes it should have")]
    LongBody { expected_len: u64 },
    /// The body is over what the caller takes.
    #[error("the body is over the limit of {limit_len} bytes")]
    TooLarge { limit_len: u64 },
    /// The bytes are not those that were asked for.
    #[error("the body has digest {actual} instead of {expected}")]
    DigestMismatch { expected: Digest, actual: Digest },
    /// The registry sends whole blobs only.
    #[error("the registry does not support range requests: it answered 200 with the whole blob")]
    RangesNotSupported,
    /// The registry sent another range.
    #[error("asked for bytes {}-{} and got content range {actual:?}", .asked.start, .asked.end.saturating_sub(1))]
    ContentRange { asked: Range<u64>, actual: String },
    /// The body is no manifest, or not of the type it was sent with.
    #[error("the body is not a valid manifest (at most {MANIFEST_LEN_MAX} bytes)")]
    Manifest { source: ParseManifestError },
    /// The body is not the JSON it should be.
    #[error("the body is not the JSON it should be")]
    Json { source: serde_json::Error },
    /// An answer lacks a header, or it makes no sense.
    #[error("the answer has a missing or malformed {name} header: {value:?}")]
    Header { name: &'static str, value: String },
    /// There are more pages of a list than anybody reads.
    #[error("the list has over {limit} pages")]
    TooManyPages { limit: usize },
    /// The host or a header cannot be written into a request.
    #[error("the request cannot be written: {reason}")]
    Malformed { reason: String },
    /// The file that should be pushed cannot be read.
    #[error("cannot read {} to push it", .path.display())]
    File { path: PathBuf, source: io::Error },
    /// The file that should be pushed changed its length.
    #[error("{} is {actual_len} bytes instead of {expected_len}", .path.display())]
    FileLen {
        path: PathBuf,
        expected_len: u64,
        actual_len: u64,
    },
}

/// Why no client could be made.
#[derive(Debug, Error)]
pub enum BuildClientError {
    /// The TLS provider or the HTTP client did not start.
    #[error("cannot set up the HTTP client")]
    Http {
        /// What the HTTP client says.
        #[from]
        source: reqwest::Error,
    },
}

/// Returns the innermost cause: what the operating system or the peer said.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Says who asked, where that matters.
fn asked_as(status: StatusCode, user: Option<&String>) -> String {
    match (status, user) {
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(user)) => {
            format!(" to user {user:?}")
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
            " to a request without credentials".to_owned()
        }
        _ => String::new(),
    }
}

fn said(code: Option<&String>, message: Option<&String>) -> String {
    match (code, message) {
        (Some(code), Some(message)) => format!(": {message} ({code})"),
        (Some(text), None) | (None, Some(text)) => format!(": {text}"),
        (None, None) => String::new(),
    }
}
