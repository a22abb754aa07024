//! Blobs, manifests and lists on their way out.

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use oci::Digest;
use serde_json::{Value, json};
use test_images::ImageBuilder;

use crate::support::{TestRegistry, image, noise};

#[tokio::test]
async fn parts_of_a_blob_come_as_asked() {
    let registry = TestRegistry::new().await;
    let blob = noise(2048);
    let digest = Digest::of(&blob);
    registry.push_blob("app", &digest.to_string(), &blob).await;
    let path = format!("/v2/app/blobs/{digest}");
    for (range, start, end) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=-500", 1548, 2048),
        ("bytes=2000-5000", 2000, 2048),
    ] {
        let answer = registry
            .send(Method::GET, &path, &[(header::RANGE, range)], Body::empty())
            .await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(
            answer.header("content-range"),
            format!("bytes {start}-{}/2048", end - 1)
        );
        assert_eq!(answer.header("content-length"), (end - start).to_string());
        assert_eq!(answer.body, blob[start..end]);
    }
    let beyond = [(header::RANGE, "bytes=5000-10000")];
    let answer = registry
        .send(Method::GET, &path, &beyond, Body::empty())
        .await;
    assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(answer.header("content-range"), "bytes */2048");
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let registry = TestRegistry::new().await;
    let image = image(b"content");
    registry.push_image("app", "1.0", &image).await;
    for path in [
        "/v2/app/manifests/1.0".to_owned(),
        format!("/v2/app/blobs/{}", image.config.digest),
    ] {
        let (get, head) = (registry.get(&path).await, registry.head(&path).await);
        assert_eq!(get.status, StatusCode::OK);
        assert_eq!(head.headers, get.headers);
        assert_eq!(get.header("content-length"), get.body.len().to_string());
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte_by_tag_and_by_digest() {
    let registry = TestRegistry::new().await;
    let image = image(b"content");
    registry.push_image("app", "1.0", &image).await;
    for reference in ["1.0", &image.manifest.digest] {
        let answer = registry
            .get(&format!("/v2/app/manifests/{reference}"))
            .await;
        assert_eq!(answer.body, image.manifest.bytes);
        assert_eq!(answer.header("content-type"), image.manifest.media_type);
        assert_eq!(
            answer.header("docker-content-digest"),
            image.manifest.digest
        );
    }
}

#[tokio::test]
async fn what_is_deleted_is_gone_at_once() {
    let registry = TestRegistry::new().await;
    let image = image(b"content");
    registry.push_image("app", "1.0", &image).await;
    for path in [
        "/v2/app/manifests/1.0".to_owned(),
        format!("/v2/app/manifests/{}", image.manifest.digest),
        format!("/v2/app/blobs/{}", image.config.digest),
    ] {
        assert_eq!(registry.delete(&path).await.status, StatusCode::ACCEPTED);
        assert_eq!(registry.get(&path).await.status, StatusCode::NOT_FOUND);
        assert_eq!(registry.delete(&path).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_blob_that_the_disk_lost_is_absent_and_can_be_pushed_again() {
    let registry = TestRegistry::new().await;
    let digest = Digest::of(b"blob").to_string();
    registry.push_blob("app", &digest, b"blob").await;
    let hex = digest.trim_start_matches("sha256:");
    let file = registry
        .directory
        .join("content/blobs/sha256")
        .join(hex.split_at(2).0)
        .join(hex);
    std::fs::remove_file(file).unwrap();
    let path = format!("/v2/app/blobs/{digest}");
    assert_eq!(registry.head(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(registry.get(&path).await.status, StatusCode::NOT_FOUND);
    registry.push_blob("app", &digest, b"blob").await;
    assert_eq!(registry.get(&path).await.body, "blob");
}

#[tokio::test]
async fn tags_come_in_pages_that_name_the_next() {
    let registry = TestRegistry::new().await;
    let image = image(b"content");
    for tag in ["c", "a", "b"] {
        registry.push_image("team/app", tag, &image).await;
    }
    let first = registry.get("/v2/team/app/tags/list?n=2").await;
    assert_eq!(first.json::<Value>()["tags"], json!(["a", "b"]));
    let link = first.header("link");
    assert_eq!(link, "</v2/team/app/tags/list?n=2&last=b>; rel=\"next\"");
    let last = registry.get("/v2/team/app/tags/list?n=2&last=b").await;
    assert_eq!(last.json::<Value>()["tags"], json!(["c"]));
    assert!(!last.headers.contains_key("link"));
    let none = registry.get("/v2/team/app/tags/list?n=0").await;
    assert_eq!(none.json::<Value>()["tags"], json!([]));
    assert!(!none.headers.contains_key("link"));
    assert_eq!(
        registry.get("/v2/absent/tags/list").await.status,
        StatusCode::NOT_FOUND
    );
    let all: Value = registry.get("/v2/_catalog").await.json();
    assert_eq!(all, json!({ "repositories": ["team/app"] }));
}

#[tokio::test]
async fn referrers_list_what_names_the_subject_even_if_that_is_absent() {
    let registry = TestRegistry::new().await;
    let subject = image(b"subject");
    let signature = ImageBuilder::new()
        .subject(subject.descriptor())
        .annotation("k", "v")
        .build();
    let pushed = registry.push_image("app", "signature", &signature).await;
    assert_eq!(pushed.header("oci-subject"), subject.manifest.digest);
    let path = format!("/v2/app/referrers/{}", subject.manifest.digest);
    let listed = registry.get(&path).await;
    assert_eq!(listed.header("content-type"), oci::media_type::OCI_INDEX);
    let manifests = &listed.json::<Value>()["manifests"];
    assert_eq!(manifests[0]["digest"], signature.manifest.digest);
    assert_eq!(manifests[0]["annotations"], json!({ "k": "v" }));
    let other = registry
        .get(&format!("{path}?artifactType=application/other"))
        .await;
    assert_eq!(other.header("oci-filters-applied"), "artifactType");
    assert_eq!(other.json::<Value>()["manifests"], json!([]));
}

#[tokio::test]
async fn wrong_names_and_methods_get_codes_of_the_specification() {
    let registry = TestRegistry::new().await;
    for (method, path, status, code) in [
        (
            Method::GET,
            "/v2/App/tags/list",
            StatusCode::BAD_REQUEST,
            "NAME_INVALID",
        ),
        (
            Method::GET,
            "/v2/app/blobs/sha256:bad",
            StatusCode::BAD_REQUEST,
            "DIGEST_INVALID",
        ),
        (
            Method::GET,
            "/v2/app/manifests/absent",
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
        ),
        (
            Method::GET,
            "/v2/app/nothing",
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
        ),
        (
            Method::POST,
            "/v2/app/tags/list",
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
        ),
        (
            Method::GET,
            "/v2/app/tags/list?n=x",
            StatusCode::BAD_REQUEST,
            "UNSUPPORTED",
        ),
        (
            Method::POST,
            "/v2/app/blobs/uploads/?digest-algorithm=sha512",
            StatusCode::BAD_REQUEST,
            "DIGEST_INVALID",
        ),
    ] {
        let answer = registry.send(method, path, &[], Body::empty()).await;
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (status, code),
            "{path}"
        );
    }
}
