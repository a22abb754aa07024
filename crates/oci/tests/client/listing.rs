//! Reading lists of referrers and tags.

use bytes::Bytes;
use oci::{Descriptor, Digest, ImageIndex, media_type};

use crate::fake_registry::FakeRegistry;
use crate::repository;

fn two_referrers() -> ImageIndex {
    let referrer = |text: &str| Descriptor {
        artifact_type: Some(format!("application/{text}")),
        ..Descriptor::of(media_type::OCI_MANIFEST, text.as_bytes())
    };
    ImageIndex::new(vec![referrer("a"), referrer("b")])
}

#[tokio::test]
async fn referrers_are_filtered_even_if_the_registry_does_not() {
    let registry = FakeRegistry::start().await;
    registry.content.lock().referrers = Some(two_referrers());
    let client = repository(&registry.host);
    let subject = Digest::of(b"subject");
    assert_eq!(
        client.referrers(&subject, None).await.unwrap(),
        two_referrers()
    );
    let found = client
        .referrers(&subject, Some("application/b"))
        .await
        .unwrap();
    assert_eq!(found.manifests, two_referrers().manifests[1..]);
}

#[tokio::test]
async fn a_registry_without_the_referrers_api_is_asked_for_the_tag() {
    let registry = FakeRegistry::start().await;
    let client = repository(&registry.host);
    let subject = Digest::of(b"subject");
    assert!(
        client
            .referrers(&subject, None)
            .await
            .unwrap()
            .manifests
            .is_empty()
    );
    let entry = (
        media_type::OCI_INDEX.to_owned(),
        Bytes::from(two_referrers().to_json()),
    );
    let tag = format!("sha256-{}", subject.to_hex());
    registry.content.lock().manifests.insert(tag, entry);
    assert_eq!(
        client.referrers(&subject, None).await.unwrap(),
        two_referrers()
    );
}

#[tokio::test]
async fn tags_of_all_pages_are_listed() {
    let registry = FakeRegistry::start().await;
    let tags = repository(&registry.host).list_tags().await.unwrap();
    let texts: Vec<&str> = tags.iter().map(AsRef::as_ref).collect();
    assert_eq!(texts, ["v0", "v1", "v2"]);
}
