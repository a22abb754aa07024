//! Reading manifests and blobs.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use oci::{BlobStream, ClientError, Digest, RequestFault, Selector, media_type};

use crate::fake_registry::FakeRegistry;
use crate::{canned, impatient, repository, repository_with};

async fn whole(stream: BlobStream) -> Result<Bytes, ClientError> {
    let collect = |mut whole: BytesMut, piece: Bytes| async move {
        whole.extend_from_slice(&piece);
        Ok(whole)
    };
    stream
        .try_fold(BytesMut::new(), collect)
        .await
        .map(BytesMut::freeze)
}

fn tag(text: &str) -> Selector {
    Selector::Tag(text.parse().unwrap())
}

#[tokio::test]
async fn a_manifest_is_fetched_by_tag_and_by_digest() {
    let registry = FakeRegistry::start().await;
    let body = registry.add_manifest("v1");
    let client = repository(&registry.host);
    let by_tag = client.fetch_manifest(&tag("v1")).await.unwrap().unwrap();
    assert_eq!((by_tag.digest, &by_tag.body), (Digest::of(&body), &body));
    assert_eq!(by_tag.media_type, media_type::OCI_MANIFEST);
    let by_digest = client
        .fetch_manifest(&by_tag.digest.into())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(by_digest, by_tag);
    let head = client.head_manifest(&tag("v1")).await.unwrap().unwrap();
    assert_eq!(head, by_tag.descriptor());
}

#[tokio::test]
async fn what_is_absent_is_none() {
    let registry = FakeRegistry::start().await;
    let client = repository(&registry.host);
    assert_eq!(client.fetch_manifest(&tag("v1")).await.unwrap(), None);
    assert_eq!(client.head_manifest(&tag("v1")).await.unwrap(), None);
    assert_eq!(client.has_blob(&Digest::of(b"")).await.unwrap(), None);
}

#[tokio::test]
async fn a_manifest_of_another_digest_is_refused() {
    let registry = FakeRegistry::start().await;
    registry.add_manifest("v1");
    let wanted = Digest::of(b"wanted");
    let entry = registry.content.lock().manifests["v1"].clone();
    registry
        .content
        .lock()
        .manifests
        .insert(wanted.to_string(), entry);
    let error = repository(&registry.host)
        .fetch_manifest(&wanted.into())
        .await
        .unwrap_err();
    assert!(
        matches!(error.fault(), RequestFault::DigestMismatch { expected, .. } if *expected == wanted)
    );
}

#[tokio::test]
async fn a_manifest_by_tag_has_the_digest_that_the_registry_states() {
    let stated = Digest::of(b"stated");
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {}\r\ndocker-content-digest: {stated}\r\n\
         content-length: 2\r\n\r\n{{}}",
        media_type::OCI_MANIFEST
    );
    let host = canned::answers(answer).await;
    let error = repository(&host)
        .fetch_manifest(&tag("v1"))
        .await
        .unwrap_err();
    assert!(
        matches!(error.fault(), RequestFault::DigestMismatch { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_blob_is_streamed_whole_and_in_ranges() {
    let registry = FakeRegistry::start().await;
    let bytes: Vec<u8> = (0_u32..300_000).flat_map(u32::to_le_bytes).collect();
    let blob = registry.add_blob(bytes.clone());
    let client = repository(&registry.host);
    assert_eq!(
        client.has_blob(&blob.digest).await.unwrap(),
        Some(1_200_000)
    );
    assert_eq!(
        whole(client.fetch_blob(&blob).await.unwrap())
            .await
            .unwrap(),
        bytes
    );
    let range = client
        .fetch_blob_range(&blob.digest, 1000..900_000)
        .await
        .unwrap();
    assert_eq!(whole(range).await.unwrap(), bytes[1000..900_000]);
    assert_eq!(
        client.fetch_blob_bytes(&blob, 2_000_000).await.unwrap(),
        bytes
    );
}

#[tokio::test]
async fn an_empty_range_asks_nobody() {
    let registry = FakeRegistry::start().await;
    let client = repository(&registry.host);
    let range = client
        .fetch_blob_range(&Digest::of(b"x"), 7..7)
        .await
        .unwrap();
    assert!(whole(range).await.unwrap().is_empty());
    assert_eq!(registry.count(""), 0);
}

#[tokio::test]
async fn a_blob_of_other_bytes_is_refused() {
    let registry = FakeRegistry::start().await;
    let blob = registry.add_blob("good");
    registry
        .content
        .lock()
        .blobs
        .insert(blob.digest.to_string(), "evil".into());
    let error = repository(&registry.host)
        .fetch_blob_bytes(&blob, 100)
        .await
        .unwrap_err();
    assert!(
        matches!(error.fault(), RequestFault::DigestMismatch { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_blob_over_the_limit_is_not_asked_for() {
    let registry = FakeRegistry::start().await;
    let blob = registry.add_blob("bytes");
    let error = repository(&registry.host)
        .fetch_blob_bytes(&blob, 4)
        .await
        .unwrap_err();
    assert!(
        matches!(error.fault(), RequestFault::TooLarge { limit_len: 4 }),
        "{error}"
    );
    assert_eq!(registry.count(""), 0);
}

#[tokio::test]
async fn a_range_past_the_end_is_refused() {
    let registry = FakeRegistry::start().await;
    let blob = registry.add_blob("0123456789");
    let asked = repository(&registry.host)
        .fetch_blob_range(&blob.digest, 5..20)
        .await;
    let error = asked.err().unwrap();
    assert!(
        matches!(error.fault(), RequestFault::ContentRange { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("bytes 5-19 and got content range \"bytes 5-9/10\"")
    );
}

#[tokio::test]
async fn a_registry_that_ignores_ranges_is_found_out() {
    let host = canned::answers("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nblob").await;
    let asked = repository(&host)
        .fetch_blob_range(&Digest::of(b"blob"), 0..4)
        .await;
    assert!(matches!(
        asked.err().unwrap().fault(),
        RequestFault::RangesNotSupported
    ));
}

#[tokio::test]
async fn a_body_of_another_length_is_refused() {
    let blob = oci::Descriptor::of("x/y", b"12345");
    for (answer, retryable) in [
        ("content-length: 4\r\n\r\n1234", true),
        ("content-length: 6\r\n\r\n123456", false),
        ("content-length: 5\r\n\r\n123", true),
        ("\r\n123", true),
        ("\r\n1234567", false),
    ] {
        let host = canned::answers(format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        let error = repository(&host)
            .fetch_blob_bytes(&blob, 100)
            .await
            .unwrap_err();
        assert_eq!(error.is_retryable(), retryable, "{answer:?}: {error}");
        assert!(error.to_string().contains("bytes"), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_stalls_fails_after_the_read_timeout() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n123";
    let host = canned::answers_and_stalls(answer).await;
    let client = repository_with(&host, impatient());
    let stream = client
        .fetch_blob(&oci::Descriptor::of("x/y", b"12345"))
        .await
        .unwrap();
    let error = whole(stream).await.unwrap_err();
    assert!(
        matches!(error.fault(), RequestFault::Silent { .. }) && error.is_retryable(),
        "{error}"
    );
}

#[tokio::test]
async fn requests_in_turn_share_one_connection() {
    let registry = FakeRegistry::start().await;
    let blob = registry.add_blob(vec![1; 1 << 20]);
    let client = repository(&registry.host);
    for _ in 0..20 {
        whole(
            client
                .fetch_blob_range(&blob.digest, 5..500_000)
                .await
                .unwrap(),
        )
        .await
        .unwrap();
        client.fetch_blob_bytes(&blob, 1 << 20).await.unwrap();
        client.has_blob(&blob.digest).await.unwrap();
    }
    assert_eq!(registry.content.lock().connections.len(), 1);
}
