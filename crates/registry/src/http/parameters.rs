//! The query of a request.

use axum::extract::Query;
use axum::http::{HeaderMap, HeaderName, Uri};

use super::OciError;

/// The parameters of a query, in order. Clients send them escaped and unescaped.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of(uri: &Uri) -> Result<Self, OciError> {
        let Query(pairs) = Query::try_from_uri(uri).map_err(|reason| {
            OciError::upload_invalid(format!("the query is not valid: {reason}"))
        })?;
        Ok(Self(pairs))
    }

    /// Returns the first value of `name`.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Returns each value of `name`.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }
}

/// Returns a header as text; what is no text counts as absent.
pub(super) fn header_text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
