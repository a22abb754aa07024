//! One request and the head of its answer, with a limit on silence.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt, stream};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Method, Request, Response, Url};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::error::{ClientError, RequestFault};

/// Bytes of a body that are handed to the connection at once.
///
/// Large enough that the cost of a read is spread thin, small enough that progress is seen often
/// on a slow line.
const PIECE_LEN: usize = 256 << 10;

/// A request that can be sent more than once.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: CallBody,
}

/// What a request carries.
#[derive(Debug, Clone)]
pub(super) enum CallBody {
    /// Nothing, and it says so.
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file, streamed.
    File { path: PathBuf, len: u64 },
}

impl Call {
    /// Makes a request without headers and body.
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: CallBody::Empty,
        }
    }

    /// Adds a header.
    pub(super) fn with_header(
        mut self,
        name: HeaderName,
        value: &str,
    ) -> Result<Self, ClientError> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            let reason = format!("{value:?} cannot be the value of {name}");
            self.failed(RequestFault::Malformed { reason })
        })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Sets the body.
    pub(super) fn with_body(mut self, body: CallBody) -> Self {
        self.body = body;
        self
    }

    /// Makes the error of this request.
    pub(super) fn failed(&self, fault: RequestFault) -> ClientError {
        ClientError::new(&self.method, &self.url, fault)
    }

    /// Sends the request and waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// If no answer comes. An answer of any status is not an error here.
    pub(super) async fn send(
        &self,
        http: &reqwest::Client,
        authorization: Option<&HeaderValue>,
        silence_max: Duration,
    ) -> Result<Response, ClientError> {
        let mut request = Request::new(self.method.clone(), self.url.clone());
        request.headers_mut().clone_from(&self.headers);
        if let Some(authorization) = authorization {
            request
                .headers_mut()
                .insert(AUTHORIZATION, authorization.clone());
        }
        let sent = Arc::new(AtomicU64::new(0));
        if let Some((body, len)) = self.open_body(&sent).await? {
            request
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(len));
            *request.body_mut() = Some(body);
        }
        let answer = http.execute(request);
        tokio::pin!(answer);
        let mut sent_before = 0;
        loop {
            if let Ok(answer) = tokio::time::timeout(silence_max, &mut answer).await {
                return answer.map_err(|cause| self.failed(transport_fault(cause)));
            }
            let sent_now = sent.load(Ordering::Relaxed);
            if sent_now == sent_before {
                return Err(self.failed(RequestFault::Silent { after: silence_max }));
            }
            sent_before = sent_now;
        }
    }

    async fn open_body(&self, sent: &Arc<AtomicU64>) -> Result<Option<(Body, u64)>, ClientError> {
        let sent = Arc::clone(sent);
        match &self.body {
            // SPEC: RFC 9110, 8.6: a client SHOULD send Content-Length: 0 where the method
            // anticipates a body, and some registries insist.
            CallBody::Empty if matches!(self.method, Method::POST | Method::PUT) => {
                Ok(Some((Body::from(Bytes::new()), 0)))
            }
            CallBody::Empty => Ok(None),
            CallBody::Bytes(bytes) if bytes.len() <= PIECE_LEN => {
                Ok(Some((Body::from(bytes.clone()), bytes.len() as u64)))
            }
            CallBody::Bytes(bytes) => {
                let pieces = stream::iter(pieces(bytes.clone()).map(Ok::<_, std::io::Error>));
                Ok(Some((
                    Body::wrap_stream(counted(pieces, sent)),
                    bytes.len() as u64,
                )))
            }
            CallBody::File { path, len } => {
                let file = open_file(path, *len)
                    .await
                    .map_err(|fault| self.failed(fault))?;
                Ok(Some((
                    Body::wrap_stream(counted(file_pieces(file, *len), sent)),
                    *len,
                )))
            }
        }
    }
}

/// Tells a registry that is not there from one that hung up.
fn transport_fault(cause: reqwest::Error) -> RequestFault {
    let cause = cause.without_url();
    if cause.is_connect() {
        return RequestFault::Unreachable { cause };
    }
    RequestFault::Broken { cause }
}

async fn open_file(path: &Path, expected_len: u64) -> Result<File, RequestFault> {
    let fault = |source| RequestFault::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).await.map_err(fault)?;
    let actual_len = file.metadata().await.map_err(fault)?.len();
    if actual_len != expected_len {
        let path = path.to_owned();
        return Err(RequestFault::FileLen {
            path,
            expected_len,
            actual_len,
        });
    }
    Ok(file)
}

/// Reads a file piece by piece. The end of a file that shrank meanwhile fails the request.
fn file_pieces(file: File, len: u64) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    stream::try_unfold(file.take(len), |mut file| async move {
        let mut piece = BytesMut::with_capacity(PIECE_LEN);
        while piece.len() < PIECE_LEN && file.read_buf(&mut piece).await? > 0 {}
        Ok((!piece.is_empty()).then(|| (piece.freeze(), file)))
    })
}

fn pieces(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = bytes.split_to(bytes.len().min(PIECE_LEN));
        (!piece.is_empty()).then_some(piece)
    })
}

/// Counts the bytes that the connection took, so that a slow upload is told from a stuck one.
fn counted(
    pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    sent: Arc<AtomicU64>,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    pieces.inspect_ok(move |piece| {
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
    })
}
