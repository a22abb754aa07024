//! Paths of the distribution API. Repository names have slashes, so a path is read from its end.

use oci::{Digest, RepositoryName, Selector};
use uuid::Uuid;

use super::OciError;

/// What a path names, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Repositories,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Selector),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(RepositoryName, Uuid),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
}

impl Route {
    /// Parses the path of a request.
    pub(super) fn parse(path: &str) -> Result<Self, OciError> {
        let path = percent_decode(path).ok_or_else(OciError::no_route)?;
        let path = path.strip_prefix("/v2").unwrap_or_default();
        let path = path.strip_prefix('/').unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        match parts.as_slice() {
            [""] => Ok(Self::Base),
            ["_catalog"] => Ok(Self::Repositories),
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "blobs", "uploads", id] => {
                let id = Uuid::parse_str(id).map_err(|_reason| OciError::upload_unknown())?;
                Ok(Self::Upload(repository(name)?, id))
            }
            [name @ .., "manifests", reference] => {
                Ok(Self::Manifest(repository(name)?, selector(reference)?))
            }
            [name @ .., "blobs", text] => Ok(Self::Blob(repository(name)?, digest(text)?)),
            [name @ .., "referrers", text] => Ok(Self::Referrers(repository(name)?, digest(text)?)),
            _ => Err(OciError::no_route()),
        }
    }
}

/// Parses a digest as clients send it.
pub(super) fn digest(text: &str) -> Result<Digest, OciError> {
    text.parse()
        .map_err(|reason| OciError::digest_invalid(text, &reason))
}

fn repository(parts: &[&str]) -> Result<RepositoryName, OciError> {
    let text = parts.join("/");
    text.parse()
        .map_err(|reason| OciError::name_invalid(&text, &reason))
}

fn selector(text: &str) -> Result<Selector, OciError> {
    if text.contains(':') {
        return Ok(Selector::Digest(digest(text)?));
    }
    let tag = text
        .parse()
        .map_err(|reason| OciError::tag_invalid(text, &reason))?;
    Ok(Selector::Tag(tag))
}

/// Decodes `%xx` once. What comes out is parsed by the grammars, so nothing odd survives.
fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_path_is_known() {
        let digest = Digest::of(b"");
        let id = Uuid::from_u128(7);
        let tag = Selector::Tag("1.0".parse().unwrap());
        for (path, expected) in [
            ("/v2".to_owned(), Route::Base),
            ("/v2/".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Repositories),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags(name("a/b"))),
            (
                "/v2/a/manifests/1.0".to_owned(),
                Route::Manifest(name("a"), tag),
            ),
            (
                format!("/v2/a/manifests/{digest}"),
                Route::Manifest(name("a"), Selector::Digest(digest)),
            ),
            (
                format!("/v2/a/b/blobs/{digest}"),
                Route::Blob(name("a/b"), digest),
            ),
            (
                format!("/v2/a/blobs/{}", digest.to_string().replace(':', "%3A")),
                Route::Blob(name("a"), digest),
            ),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            (
                format!("/v2/a/blobs/uploads/{id}"),
                Route::Upload(name("a"), id),
            ),
            (
                format!("/v2/a/referrers/{digest}"),
                Route::Referrers(name("a"), digest),
            ),
            // Names may be made of the very words of the routes.
            (
                "/v2/tags/list/tags/list".to_owned(),
                Route::Tags(name("tags/list")),
            ),
            (
                "/v2/blobs/uploads/blobs/uploads/".to_owned(),
                Route::Uploads(name("blobs/uploads")),
            ),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "/v2/a",
            "/v2/tags/list",
            "/v2/../a/tags/list",
            "/v2/a%2f..%2fb/tags/list",
            "/v2/A/tags/list",
            "/v2//a/tags/list",
            "/v2/a/manifests/",
            "/v2/a/manifests/-x",
            "/v2/a/blobs/sha256:bad",
            "/v2/a/blobs/uploads/not-an-id",
            "/v2/a/blobs/%zz",
            "/v2/a%00/tags/list",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
    }
}
