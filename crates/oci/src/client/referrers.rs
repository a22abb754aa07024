//! Reads lists: referrers and tags.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LINK};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::auth::Access;
use super::error::{ClientError, RequestFault};
use super::exchange::Call;
use super::repository_client::{RepositoryClient, header};
use crate::lenient_json::null_as_empty;
use crate::{
    Descriptor, Digest, ImageIndex, MANIFEST_LEN_MAX, Manifest, ParseManifestError, Selector, Tag,
};

/// Pages of one list that are read: a million tags at a thousand each.
const PAGES_MAX: usize = 1000;

/// Tags asked for at once; what most registries allow at most.
const TAGS_PER_PAGE: usize = 1000;

impl RepositoryClient {
    /// Lists the manifests that have `subject` as their subject, of one artifact type or of all.
    ///
    /// The list is empty if there are none. A registry without the referrers API is asked for the
    /// tag that stands in for it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn referrers(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<ImageIndex, ClientError> {
        let mut call = self.call(Method::GET, &format!("referrers/{subject}"))?;
        if let Some(artifact_type) = artifact_type {
            call.url
                .query_pairs_mut()
                .append_pair("artifactType", artifact_type);
        }
        let mut found = Vec::new();
        for _page in 0..PAGES_MAX {
            let Some(page) = self.page(&call).await? else {
                return self.referrers_by_tag(subject, artifact_type).await;
            };
            found.extend(page.index(&call)?.manifests);
            let Some(next) = page.next else {
                return Ok(ImageIndex::new(of_type(found, artifact_type)));
            };
            call = next;
        }
        Err(call.failed(RequestFault::TooManyPages { limit: PAGES_MAX }))
    }

    /// Lists the tags of the repository, in the registry's order. What is no tag is left out.
    ///
    /// # Errors
    ///
    /// [`ClientError`], also if there is no such repository.
    pub async fn list_tags(&self) -> Result<Vec<Tag>, ClientError> {
        let mut call = self.call(Method::GET, &format!("tags/list?n={TAGS_PER_PAGE}"))?;
        let mut tags = Vec::new();
        for _page in 0..PAGES_MAX {
            let answer = self.send(&call, Access::Pull).await?;
            let mut answer = self.expect(answer, &[StatusCode::OK]).await?;
            let body = answer.read_all(MANIFEST_LEN_MAX).await?;
            let page: TagPage = serde_json::from_slice(&body)
                .map_err(|source| call.failed(RequestFault::Json { source }))?;
            tags.extend(page.tags.iter().filter_map(|tag| tag.parse::<Tag>().ok()));
            let Some(next) = next_page(&call, answer.response.headers()) else {
                return Ok(tags);
            };
            call = next;
        }
        Err(call.failed(RequestFault::TooManyPages { limit: PAGES_MAX }))
    }

    async fn page(&self, call: &Call) -> Result<Option<Page>, ClientError> {
        let answer = self.send(call, Access::Pull).await?;
        let Some(mut answer) = self.expect_found(answer).await? else {
            return Ok(None);
        };
        let body = answer.read_all(MANIFEST_LEN_MAX).await?;
        let headers = answer.response.headers();
        let (content_type, next) = (header(headers, &CONTENT_TYPE), next_page(call, headers));
        Ok(Some(Page {
            body,
            content_type,
            next,
        }))
    }

    // SPEC: distribution, "Unavailable Referrers API": a 404 means that the client MUST fall back
    // to the referrers tag schema: <alg>-<ref>.
    async fn referrers_by_tag(
        &self,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<ImageIndex, ClientError> {
        let tag = format!("sha256-{}", subject.to_hex()).parse::<Tag>();
        let Ok(tag) = tag else {
            return Ok(ImageIndex::new(Vec::new()));
        };
        let found = match self.fetch_manifest(&Selector::Tag(tag)).await? {
            Some(fetched) => match fetched.manifest {
                Manifest::Index(index) => index.manifests,
                // Somebody's own tag happens to have this name.
                Manifest::Image(_) => Vec::new(),
            },
            None => Vec::new(),
        };
        Ok(ImageIndex::new(of_type(found, artifact_type)))
    }
}

/// One page of referrers.
struct Page {
    body: Bytes,
    content_type: Option<String>,
    next: Option<Call>,
}

impl Page {
    fn index(&self, call: &Call) -> Result<ImageIndex, ClientError> {
        let fault = |source| call.failed(RequestFault::Manifest { source });
        match Manifest::parse(self.content_type.as_deref(), &self.body).map_err(fault)? {
            Manifest::Index(index) => Ok(index),
            Manifest::Image(image) => Err(fault(ParseManifestError::Unknown {
                media_type: image.media_type.unwrap_or_default(),
            })),
        }
    }
}

/// One page of tags.
#[derive(Deserialize)]
struct TagPage {
    #[serde(default, deserialize_with = "null_as_empty")]
    tags: Vec<String>,
}

/// Filters, which a registry may do and need not.
fn of_type(mut found: Vec<Descriptor>, artifact_type: Option<&str>) -> Vec<Descriptor> {
    if let Some(artifact_type) = artifact_type {
        found.retain(|descriptor| descriptor.artifact_type.as_deref() == Some(artifact_type));
    }
    found
}

/// Returns the request for the page that `Link` names, if it is at the same registry.
fn next_page(call: &Call, headers: &HeaderMap) -> Option<Call> {
    let target = next_target(&header(headers, &LINK)?)?;
    let url: Url = call.url.join(&target).ok()?;
    (url.origin() == call.url.origin()).then(|| Call {
        url,
        ..call.clone()
    })
}

/// Reads `<target>; rel="next"`.
fn next_target(link: &str) -> Option<String> {
    link.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let compact: String = parameter
                .chars()
                .filter(|c| !matches!(c, ' ' | '"'))
                .collect();
            compact.eq_ignore_ascii_case("rel=next")
        });
        is_next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_read_from_a_link() {
        for (link, target) in [
            (
                r#"</v2/a/tags/list?n=1&last=b>; rel="next""#,
                Some("/v2/a/tags/list?n=1&last=b"),
            ),
            (r"<x>; rel=next", Some("x")),
            (r#"<x>; rel="prev", <y>; rel="next""#, Some("y")),
            (r#"<x>; rel="prev""#, None),
            ("x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_target(link).as_deref(), target, "{link}");
        }
    }
}
