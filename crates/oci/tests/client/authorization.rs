//! Who we say we are, and to whom.

use bytes::Bytes;
use futures::future::try_join_all;
use oci::{ClientOptions, Credentials, Digest, RegistryHost};

use crate::fake_registry::{Auth, FakeRegistry};
use crate::{repository, repository_with};

const OWN_TOKEN_SERVICE: Auth = Auth::Bearer("http://{host}/token");

/// `alice:secret` in base64.
const ALICE: &str = "Basic YWxpY2U6c2VjcmV0";

fn as_alice(host: &RegistryHost) -> ClientOptions {
    let credentials = vec![Credentials::new(host.clone(), "alice", "secret")];
    ClientOptions {
        credentials,
        ..ClientOptions::default()
    }
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_once_and_reused() {
    let registry = FakeRegistry::start_with(OWN_TOKEN_SERVICE).await;
    let blob = registry.add_blob("bytes");
    let client = repository(&registry.host);
    for _ in 0..3 {
        client.fetch_blob_bytes(&blob, 5).await.unwrap();
    }
    let content = registry.content.lock();
    assert_eq!(content.token_authorizations, [None]);
    let asked = "GET /token?service=fake&scope=repository%3Ateam%2Fapp%3Apull";
    assert_eq!(content.requests[1], asked);
    assert_eq!(content.requests.len(), 5);
}

#[tokio::test]
async fn a_token_that_expired_is_replaced() {
    let registry = FakeRegistry::start_with(OWN_TOKEN_SERVICE).await;
    let blob = registry.add_blob("bytes");
    let client = repository(&registry.host);
    client.fetch_blob_bytes(&blob, 5).await.unwrap();
    registry.content.lock().tokens += 1;
    client.fetch_blob_bytes(&blob, 5).await.unwrap();
    assert_eq!(registry.count("GET /token"), 2);
}

#[tokio::test]
async fn many_refused_requests_fetch_one_token() {
    let registry = FakeRegistry::start_with(OWN_TOKEN_SERVICE).await;
    let blob = registry.add_blob("bytes");
    let client = repository(&registry.host);
    try_join_all((0..20).map(|_| client.fetch_blob_bytes(&blob, 5)))
        .await
        .unwrap();
    assert_eq!(registry.count("GET /token"), 1);
}

#[tokio::test]
async fn a_push_asks_for_a_token_that_may_push() {
    let registry = FakeRegistry::start_with(OWN_TOKEN_SERVICE).await;
    let client = repository_with(&registry.host, as_alice(&registry.host));
    client
        .push_blob_bytes(Digest::of(b"x"), Bytes::from_static(b"x"))
        .await
        .unwrap();
    let asked = "GET /token?service=fake&scope=repository%3Ateam%2Fapp%3Apull%2Cpush&account=alice";
    assert_eq!(registry.count(asked), 1);
    let content = registry.content.lock();
    assert!(
        content
            .token_authorizations
            .iter()
            .all(|sent| sent.as_deref() == Some(ALICE))
    );
}

#[tokio::test]
async fn a_password_is_sent_to_its_registry() {
    let registry = FakeRegistry::start_with(Auth::Basic(ALICE)).await;
    let blob = registry.add_blob("bytes");
    let client = repository_with(&registry.host, as_alice(&registry.host));
    client.fetch_blob_bytes(&blob, 5).await.unwrap();
    client.fetch_blob_bytes(&blob, 5).await.unwrap();
    assert_eq!(registry.count("GET"), 3);
}

#[tokio::test]
async fn a_password_is_not_sent_to_a_strangers_token_service() {
    let stranger = FakeRegistry::start().await;
    let port = stranger.host.port().unwrap();
    let realm = format!("http://localhost:{port}/token").leak();
    let registry = FakeRegistry::start_with(Auth::Bearer(realm)).await;
    let blob = registry.add_blob("bytes");
    registry.content.lock().tokens = 1;
    let client = repository_with(&registry.host, as_alice(&registry.host));
    client.fetch_blob_bytes(&blob, 5).await.unwrap();
    assert_eq!(stranger.content.lock().token_authorizations, [None]);
}

#[tokio::test]
async fn a_refusal_says_who_asked_and_hides_the_password() {
    let registry = FakeRegistry::start_with(Auth::Basic("Basic other")).await;
    let digest = Digest::of(b"x");
    let error = repository(&registry.host)
        .has_blob(&digest)
        .await
        .unwrap_err();
    let expected = "the registry answered 401 Unauthorized to a request without credentials";
    assert!(error.to_string().contains(expected), "{error}");
    let options = as_alice(&registry.host);
    let shown = format!("{options:?}");
    let client = repository_with(&registry.host, options);
    let error = client.has_blob(&digest).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("401 Unauthorized to user \"alice\""),
        "{error}"
    );
    assert!(!shown.contains("secret") && !format!("{client:?} {error:?}").contains("secret"));
}
