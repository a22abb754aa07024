//! Manifests, and the lists of tags, referrers and repositories.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use catalog::{ManifestRecord, Page};
use oci::{Digest, ImageIndex, RepositoryName, Selector, Tag, media_type};
use serde_json::json;

use super::body::collect_manifest;
use super::oci_error::location;
use super::parameters::{Parameters, header_text};
use super::{DIGEST, OciError, Split};
use crate::manifest_push::{ManifestPush, PutManifestError};
use crate::registry::Parts;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Most names in one answer; the rest is behind its `Link`.
const PAGE_LEN_MAX: u32 = 10_000;

/// Most tags that one manifest is pushed with. The specification asks for ten at least.
const TAGS_PER_PUSH_MAX: usize = 64;

type Place = (RepositoryName, Selector);

/// A `Link` header, or nothing.
type PageLink = HeaderMap;

pub(super) async fn answer(
    parts: &Arc<Parts>,
    place: Place,
    request: Split,
) -> Result<Response, OciError> {
    match request.0.method {
        Method::GET => {
            let record = find(parts, &place).await?;
            let body = parts.content.manifest_body(&record.digest).await?;
            headed(&record, body.into())
        }
        Method::HEAD => headed(&find(parts, &place).await?, Body::empty()),
        Method::PUT => push(parts, place, request).await,
        Method::DELETE => delete(parts, &place).await,
        _ => Err(OciError::method(&request.0.method)),
    }
}

async fn find(parts: &Parts, (repository, selector): &Place) -> Result<ManifestRecord, OciError> {
    let found = parts.content.catalog.manifest(repository, selector).await?;
    found.ok_or_else(|| OciError::manifest_unknown(selector))
}

fn headed(record: &ManifestRecord, body: Body) -> Result<Response, OciError> {
    let headers = [
        (header::CONTENT_TYPE, location(record.media_type.clone())?),
        (header::CONTENT_LENGTH, HeaderValue::from(record.size)),
        (header::ETAG, location(format!("\"{}\"", record.digest))?),
        (DIGEST, location(record.digest.to_string())?),
    ];
    Ok((headers, body).into_response())
}

/// Pushes a manifest. Once its body is here this runs to its end, whatever the client does.
async fn push(
    parts: &Arc<Parts>,
    (repository, selector): Place,
    (head, body): Split,
) -> Result<Response, OciError> {
    let tags = further_tags(&head)?;
    let body = collect_manifest(body, &parts.limits).await;
    let body = body.map_err(|cause| OciError::from(&cause))?;
    let content_type = header_text(&head.headers, header::CONTENT_TYPE);
    let mut push = ManifestPush::parse(&selector, content_type, body)?;
    push.add_tags(tags.iter().cloned());
    let (digest, subject) = (push.pushed().digest, push.pushed().subject);
    let owner = Arc::clone(parts);
    let target = repository.clone();
    let running = parts.requests.spawn(async move {
        owner.content.push_manifest(&target, push).await?;
        owner.conversions.notice_change();
        Ok::<_, PutManifestError>(())
    });
    running
        .await
        .map_err(|cause| OciError::internal(&cause))??;
    let path = location(format!("/v2/{repository}/manifests/{digest}"))?;
    let headers = [
        (header::LOCATION, path),
        (DIGEST, location(digest.to_string())?),
    ];
    let mut response = (StatusCode::CREATED, headers).into_response();
    // SPEC: distribution, "Pushing Manifests with Subject": a registry that supports referrers MUST
    // set OCI-Subject.
    if let Some(subject) = subject {
        response
            .headers_mut()
            .insert(SUBJECT, location(subject.to_string())?);
    }
    for tag in tags {
        response
            .headers_mut()
            .append(TAG, location(tag.to_string())?);
    }
    Ok(response)
}

fn further_tags(head: &Head) -> Result<Vec<Tag>, OciError> {
    let parameters = Parameters::of(&head.uri)?;
    let parsed = parameters
        .all("tag")
        .take(TAGS_PER_PUSH_MAX + 1)
        .map(|text| {
            text.parse()
                .map_err(|reason| OciError::tag_invalid(text, &reason))
        });
    let tags: Vec<Tag> = parsed.collect::<Result<_, _>>()?;
    if tags.len() > TAGS_PER_PUSH_MAX {
        let message = format!("a manifest is pushed with at most {TAGS_PER_PUSH_MAX} tags");
        return Err(OciError::new(
            StatusCode::URI_TOO_LONG,
            "MANIFEST_INVALID",
            message,
        ));
    }
    Ok(tags)
}

async fn delete(parts: &Parts, (repository, selector): &Place) -> Result<Response, OciError> {
    let was_there = match selector {
        Selector::Tag(tag) => parts.content.catalog.delete_tag(repository, tag).await?,
        Selector::Digest(digest) => {
            parts
                .content
                .catalog
                .delete_manifest(repository, digest)
                .await?
        }
    };
    parts.conversions.notice_change();
    if was_there {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    Err(OciError::manifest_unknown(selector))
}

pub(super) async fn tags(
    parts: &Parts,
    repository: &RepositoryName,
    head: &Head,
) -> Result<Response, OciError> {
    let parameters = Parameters::of(&head.uri)?;
    let wanted = Wanted::of(&parameters)?;
    let found = parts
        .content
        .catalog
        .tags(repository, wanted.page_and_one())
        .await?;
    let found = found.ok_or_else(|| OciError::name_unknown(repository))?;
    let names = found.iter().map(ToString::to_string).collect();
    let (names, link) = wanted.cut(names, &format!("/v2/{repository}/tags/list"))?;
    Ok((link, Json(json!({ "name": repository, "tags": names }))).into_response())
}

pub(super) async fn repositories(parts: &Parts, head: &Head) -> Result<Response, OciError> {
    let parameters = Parameters::of(&head.uri)?;
    let wanted = Wanted::of(&parameters)?;
    let found = parts
        .content
        .catalog
        .repositories(wanted.page_and_one())
        .await?;
    let names = found.iter().map(|found| found.name.to_string()).collect();
    let (names, link) = wanted.cut(names, "/v2/_catalog")?;
    Ok((link, Json(json!({ "repositories": names }))).into_response())
}

pub(super) async fn referrers(
    parts: &Parts,
    (repository, subject): (&RepositoryName, &Digest),
    head: &Head,
) -> Result<Response, OciError> {
    let parameters = Parameters::of(&head.uri)?;
    let wanted = parameters.first("artifactType");
    let found = parts
        .content
        .catalog
        .referrers(repository, subject, wanted)
        .await?;
    let index = ImageIndex::new(found);
    let content_type = [(header::CONTENT_TYPE, media_type::OCI_INDEX)];
    let mut response = (content_type, index.to_json()).into_response();
    if wanted.is_some() {
        let filters = HeaderValue::from_static("artifactType");
        response.headers_mut().insert(FILTERS, filters);
    }
    Ok(response)
}

/// The part of a list that a request asks for.
struct Wanted<'request> {
    last: Option<&'request str>,
    count: u32,
}

impl<'request> Wanted<'request> {
    fn of(parameters: &'request Parameters) -> Result<Self, OciError> {
        let count = match parameters.first("n") {
            None => PAGE_LEN_MAX,
            Some(text) => {
                let invalid = |_reason| {
                    let message = format!("n is {text:?} and no number");
                    OciError::new(StatusCode::BAD_REQUEST, "UNSUPPORTED", message)
                };
                text.parse::<u64>()
                    .map_err(invalid)?
                    .min(PAGE_LEN_MAX.into())
                    .try_into()
                    .unwrap_or(PAGE_LEN_MAX)
            }
        };
        Ok(Self {
            last: parameters.first("last"),
            count,
        })
    }

    /// One more than is wanted, to see whether there is more.
    fn page_and_one(&self) -> Page<'request> {
        Page {
            after: self.last,
            limit: self.count + 1,
        }
    }

    /// Cuts the one more off, and names the place of the rest.
    fn cut(&self, mut names: Vec<String>, path: &str) -> Result<(Vec<String>, PageLink), OciError> {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        let has_more = names.len() > count;
        names.truncate(count);
        let Some(last) = names.last().filter(|_| has_more) else {
            return Ok((names, PageLink::default()));
        };
        let link = format!("<{path}?n={count}&last={last}>; rel=\"next\"");
        let link = location(link)?;
        Ok((names, [(header::LINK, link)].into_iter().collect()))
    }
}
