//! Blobs and manifests on their way in.

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use bytes::Bytes;
use oci::Digest;
use serde_json::{Value, json};
use test_images::Blob;

use crate::support::{Answer, TestRegistry, image};

async fn begin(registry: &TestRegistry) -> String {
    let path = "/v2/team/app/blobs/uploads/";
    let begun = registry.send(Method::POST, path, &[], Body::empty()).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED);
    begun.header("location").to_owned()
}

async fn patch(registry: &TestRegistry, path: &str, range: &str, bytes: &'static [u8]) -> Answer {
    let headers = [(header::CONTENT_RANGE, range)];
    registry.send(Method::PATCH, path, &headers, bytes).await
}

#[tokio::test]
async fn the_base_says_that_this_is_a_registry() {
    let registry = TestRegistry::new().await;
    let answer = registry.get("/v2/").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.header("docker-distribution-api-version"),
        "registry/2.0"
    );
}

#[tokio::test]
async fn a_blob_comes_whole_with_its_post() {
    let registry = TestRegistry::new().await;
    let digest = Digest::of(b"blob");
    let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    let answer = registry.send(Method::POST, &path, &[], "blob").await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(registry.get(answer.header("location")).await.body, "blob");
}

#[tokio::test]
async fn a_blob_comes_in_pieces_with_and_without_their_ranges() {
    let registry = TestRegistry::new().await;
    let path = begin(&registry).await;
    let first = patch(&registry, &path, "0-3", b"one-").await;
    assert_eq!(
        (first.status, first.header("range")),
        (StatusCode::ACCEPTED, "0-3")
    );
    let second = registry.send(Method::PATCH, &path, &[], "two-").await;
    assert_eq!(second.header("range"), "0-7");
    let whole = "one-two-three";
    let path = format!("{path}?digest={}", Digest::of(whole.as_bytes()));
    let headers = [(header::CONTENT_RANGE, "8-12")];
    let done = registry.send(Method::PUT, &path, &headers, "three").await;
    assert_eq!(done.status, StatusCode::CREATED);
    assert_eq!(registry.get(done.header("location")).await.body, whole);
}

#[tokio::test]
async fn a_piece_out_of_order_is_refused_and_the_upload_goes_on() {
    let registry = TestRegistry::new().await;
    let path = begin(&registry).await;
    patch(&registry, &path, "0-3", b"one-").await;
    let early = patch(&registry, &path, "8-12", b"three").await;
    assert_eq!(
        (early.status, early.header("range")),
        (StatusCode::RANGE_NOT_SATISFIABLE, "0-3")
    );
    let whole = format!("{path}?digest={}", Digest::of(b"one-two"));
    let headers = [(header::CONTENT_RANGE, "5-7")];
    let late = registry.send(Method::PUT, &whole, &headers, "two").await;
    assert_eq!(late.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let shown = registry.get(&path).await;
    assert_eq!(
        (shown.status, shown.header("range")),
        (StatusCode::NO_CONTENT, "0-3")
    );
    let done = registry.send(Method::PUT, &whole, &[], "two").await;
    assert_eq!(done.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_cut_connection_keeps_what_came() {
    let registry = TestRegistry::new().await;
    let path = begin(&registry).await;
    let cut = futures::stream::iter([
        Ok(Bytes::from_static(b"one-")),
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
    ]);
    let answer = registry
        .send(Method::PATCH, &path, &[], Body::from_stream(cut))
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(registry.get(&path).await.header("range"), "0-3");
    let path = format!("{path}?digest={}", Digest::of(b"one-two"));
    assert_eq!(
        registry.send(Method::PUT, &path, &[], "two").await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_wrong_digest_is_refused_and_leaves_nothing() {
    let registry = TestRegistry::new().await;
    let (promised, sent) = (Digest::of(b"promised"), Digest::of(b"sent"));
    let answer = registry
        .push_blob("team/app", &promised.to_string(), b"sent")
        .await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
    );
    for digest in [promised, sent] {
        let path = format!("/v2/team/app/blobs/{digest}");
        assert_eq!(registry.head(&path).await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(registry.upload_count(), 0);
}

#[tokio::test]
async fn a_cancelled_upload_is_gone_with_its_bytes() {
    let registry = TestRegistry::new().await;
    let path = begin(&registry).await;
    patch(&registry, &path, "0-3", b"one-").await;
    assert_eq!(registry.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(registry.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_session_of_one_repository_is_unknown_in_another() {
    let registry = TestRegistry::new().await;
    let path = begin(&registry).await.replace("team/app", "team/other");
    let answer = registry.get(&path).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN")
    );
}

#[tokio::test]
async fn a_blob_is_mounted_only_from_a_repository_that_has_it() {
    let registry = TestRegistry::new().await;
    let digest = Digest::of(b"blob");
    registry
        .push_blob("team/app", &digest.to_string(), b"blob")
        .await;
    for (query, expected) in [
        (format!("mount={digest}&from=team/app"), StatusCode::CREATED),
        (
            format!("mount={digest}&from=team%2Fapp"),
            StatusCode::CREATED,
        ),
        (format!("mount={digest}&from=nobody"), StatusCode::ACCEPTED),
        (format!("mount={digest}"), StatusCode::ACCEPTED),
        (
            format!("mount={}&from=team/app", Digest::of(b"absent")),
            StatusCode::ACCEPTED,
        ),
    ] {
        let path = format!("/v2/other/blobs/uploads/?{query}");
        let answer = registry.send(Method::POST, &path, &[], Body::empty()).await;
        assert_eq!(answer.status, expected, "{query}");
    }
    let path = format!("/v2/third/blobs/{digest}");
    assert_eq!(registry.head(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_manifest_needs_its_blobs_and_its_digest() {
    let registry = TestRegistry::new().await;
    let image = image(b"content");
    let early = registry.push_manifest("app", "1.0", &image.manifest).await;
    assert_eq!(
        (early.status, early.error_code().as_str()),
        (StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN")
    );
    assert_eq!(
        registry.get("/v2/app/manifests/1.0").await.status,
        StatusCode::NOT_FOUND
    );
    let other = Digest::of(b"other").to_string();
    let wrong = registry.push_image("app", &other, &image).await;
    assert_eq!(
        (wrong.status, wrong.error_code().as_str()),
        (StatusCode::BAD_REQUEST, "DIGEST_INVALID")
    );
    let right = registry.push_image("app", "1.0", &image).await;
    assert_eq!(right.status, StatusCode::CREATED);
    assert_eq!(right.header("docker-content-digest"), image.manifest.digest);
}

#[tokio::test]
async fn a_manifest_over_the_limit_is_refused() {
    let registry = TestRegistry::new().await;
    let manifest = Blob::new(oci::media_type::OCI_MANIFEST, vec![b' '; (8 << 20) + 1]);
    let answer = registry.push_manifest("app", "1.0", &manifest).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_manifest_pushed_by_digest_takes_the_tags_of_its_query() {
    let registry = TestRegistry::new().await;
    let image = image(b"content");
    let reference = format!("{}?tag=1.0&tag=latest", image.manifest.digest);
    let answer = registry.push_image("app", &reference, &image).await;
    let tags: Vec<_> = answer.headers.get_all("oci-tag").iter().collect();
    assert_eq!(tags, ["1.0", "latest"]);
    let listed: Value = registry.get("/v2/app/tags/list").await.json();
    assert_eq!(listed, json!({ "name": "app", "tags": ["1.0", "latest"] }));
}
