//! Writing blobs and manifests.

use bytes::Bytes;
use oci::{Digest, RequestFault, Selector, media_type};

use crate::fake_registry::FakeRegistry;
use crate::{canned, impatient, repository, repository_with};

#[tokio::test]
async fn a_blob_is_pushed_once() {
    let registry = FakeRegistry::start().await;
    let client = repository(&registry.host);
    for bytes in [
        Bytes::new(),
        Bytes::from_static(b"small"),
        Bytes::from(vec![7; 3_000_001]),
    ] {
        let digest = Digest::of(&bytes);
        client.push_blob_bytes(digest, bytes.clone()).await.unwrap();
        client.push_blob_bytes(digest, bytes.clone()).await.unwrap();
        assert_eq!(registry.content.lock().blobs[&digest.to_string()], bytes);
    }
    assert_eq!(registry.count("PUT"), 3);
}

#[tokio::test]
async fn a_file_is_pushed_as_a_blob() {
    let registry = FakeRegistry::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layer");
    let bytes: Vec<u8> = (0_u32..500_000).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &bytes).unwrap();
    let digest = Digest::of(&bytes);
    let client = repository(&registry.host);
    client
        .push_blob_file(&digest, 2_000_000, &path)
        .await
        .unwrap();
    assert_eq!(registry.content.lock().blobs[&digest.to_string()], bytes);
}

#[tokio::test]
async fn a_file_of_another_length_or_absent_is_named() {
    let registry = FakeRegistry::start().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layer");
    let client = repository(&registry.host);
    let error = client
        .push_blob_file(&Digest::of(b"x"), 1, &path)
        .await
        .unwrap_err();
    assert!(
        matches!(error.fault(), RequestFault::File { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("layer to push it"), "{error}");
    std::fs::write(&path, b"xy").unwrap();
    let error = client
        .push_blob_file(&Digest::of(b"x"), 1, &path)
        .await
        .unwrap_err();
    assert!(
        matches!(error.fault(), RequestFault::FileLen { actual_len: 2, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_blob_of_other_bytes_is_refused_by_the_registry_and_we_say_so() {
    let registry = FakeRegistry::start().await;
    let client = repository(&registry.host);
    let pushed = client
        .push_blob_bytes(Digest::of(b"x"), Bytes::from_static(b"y"))
        .await;
    let text = pushed.unwrap_err().to_string();
    assert!(text.starts_with("PUT http://127.0.0.1:"), "{text}");
    assert!(
        text.ends_with("answered 400 Bad Request: other bytes came (DIGEST_INVALID)"),
        "{text}"
    );
}

#[tokio::test]
async fn a_manifest_that_was_put_can_be_fetched() {
    let registry = FakeRegistry::start().await;
    let body = registry.add_manifest("other");
    let client = repository(&registry.host);
    let tag = Selector::Tag("v1".parse().unwrap());
    let digest = client
        .put_manifest(&tag, media_type::OCI_MANIFEST, body.clone())
        .await
        .unwrap();
    assert_eq!(digest, Digest::of(&body));
    assert_eq!(
        client.fetch_manifest(&tag).await.unwrap().unwrap().body,
        body
    );
}

#[tokio::test]
async fn an_upload_without_a_location_is_refused() {
    let absent = "HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n".to_owned();
    let accepted = "HTTP/1.1 202 x\r\ncontent-length: 0\r\n\r\n".to_owned();
    let host = canned::answers_in_turn(vec![absent, accepted]).await;
    let pushed = repository(&host)
        .push_blob_bytes(Digest::of(b"x"), Bytes::from_static(b"x"))
        .await;
    let error = pushed.unwrap_err();
    assert!(
        matches!(
            error.fault(),
            RequestFault::Header {
                name: "Location",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_upload_that_nobody_reads_fails_after_the_read_timeout() {
    let host = canned::answers_and_stalls("").await;
    let client = repository_with(&host, impatient());
    let body = Bytes::from(vec![0; 16 << 20]);
    let tag = Selector::Tag("v1".parse().unwrap());
    let error = client.put_manifest(&tag, "x/y", body).await.unwrap_err();
    assert!(
        matches!(error.fault(), RequestFault::Silent { .. }),
        "{error}"
    );
}
