//! Bodies of answers: streamed with their length checked, or whole within a limit.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt, stream};
use reqwest::{Method, Response, Url};

use super::BlobStream;
use super::error::{ClientError, RequestFault};

/// The body of an answer, not read yet.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) response: Response,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) silence_max: Duration,
}

impl Body {
    /// Makes the error of the request that this answers.
    pub(super) fn failed(&self, fault: RequestFault) -> ClientError {
        ClientError::new(&self.method, &self.url, fault)
    }

    /// Returns the next bytes; `None` at the end. `actual_len` is how many came before.
    async fn next(&mut self, actual_len: u64) -> Result<Option<Bytes>, ClientError> {
        let next = tokio::time::timeout(self.silence_max, self.response.chunk()).await;
        let Ok(next) = next else {
            return Err(self.failed(RequestFault::Silent {
                after: self.silence_max,
            }));
        };
        next.map_err(|cause| {
            let cause = cause.without_url();
            self.failed(RequestFault::Interrupted { actual_len, cause })
        })
    }

    /// Returns the body as a stream of exactly `expected_len` bytes.
    ///
    /// # Errors
    ///
    /// If the head already says another length. The stream fails if the body has one.
    pub(super) fn into_stream(self, expected_len: u64) -> Result<BlobStream, ClientError> {
        match self.response.content_length() {
            Some(actual_len) if actual_len < expected_len => {
                return Err(self.failed(RequestFault::ShortBody {
                    expected_len,
                    actual_len,
                }));
            }
            Some(actual_len) if actual_len > expected_len => {
                return Err(self.failed(RequestFault::LongBody { expected_len }));
            }
            Some(_) | None => {}
        }
        let start = (self, 0_u64);
        Ok(Box::pin(stream::try_unfold(
            start,
            move |(mut body, actual_len)| async move {
                let Some(bytes) = body.next(actual_len).await? else {
                    if actual_len < expected_len {
                        return Err(body.failed(RequestFault::ShortBody {
                            expected_len,
                            actual_len,
                        }));
                    }
                    return Ok(None);
                };
                let actual_len = actual_len + bytes.len() as u64;
                if actual_len > expected_len {
                    return Err(body.failed(RequestFault::LongBody { expected_len }));
                }
                Ok(Some((bytes, (body, actual_len))))
            },
        )))
    }

    /// Reads the whole body, of unknown length, up to `limit_len`.
    pub(super) async fn read_all(&mut self, limit_len: u64) -> Result<Bytes, ClientError> {
        let too_large = RequestFault::TooLarge { limit_len };
        if self
            .response
            .content_length()
            .is_some_and(|len| len > limit_len)
        {
            return Err(self.failed(too_large));
        }
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.next(whole.len() as u64).await? {
            if whole.len() as u64 + bytes.len() as u64 > limit_len {
                return Err(self.failed(too_large));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }
}

/// Collects a stream whose length was checked against `expected_len` and the caller's limit.
pub(super) async fn collect(
    mut stream: BlobStream,
    expected_len: u64,
) -> Result<Bytes, ClientError> {
    let mut whole = BytesMut::with_capacity(usize::try_from(expected_len).unwrap_or_default());
    while let Some(bytes) = stream.try_next().await? {
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.freeze())
}
