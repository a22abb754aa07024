//! What a person reads when it does not work.

use std::error::Error as _;

use oci::{ClientOptions, Digest, PlainHttp, RequestFault, Selector};

use crate::fake_registry::FakeRegistry;
use crate::{canned, impatient, repository, repository_with};

#[tokio::test]
async fn an_unreachable_registry_is_named_with_the_reason() {
    let host = canned::nobody().await;
    let error = repository(&host)
        .has_blob(&Digest::of(b""))
        .await
        .unwrap_err();
    let url = format!("http://{host}/v2/team/app/blobs/{}", Digest::of(b""));
    let start = format!("HEAD {url}: cannot reach the registry: Connection refused");
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(error.is_unreachable() && error.is_retryable() && !error.is_not_found());
    assert!(error.source().is_none(), "the cause is in the text already");
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_unreachable() {
    let host = canned::answers_and_stalls("").await;
    let error = repository_with(&host, impatient())
        .list_tags()
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("the registry sent nothing for 0.05 s"),
        "{error}"
    );
    assert!(error.is_unreachable() && error.is_retryable());
}

#[tokio::test]
async fn a_registry_that_hangs_up_is_unreachable() {
    let host = canned::answers("").await;
    let error = repository(&host).list_tags().await.unwrap_err();
    assert!(
        matches!(error.fault(), RequestFault::Broken { .. }),
        "{error}"
    );
    assert!(error.is_unreachable() && error.is_retryable());
}

#[tokio::test]
async fn a_missing_blob_is_not_found_in_the_registrys_words() {
    let registry = FakeRegistry::start().await;
    let blob = oci::Descriptor::of("x/y", b"x");
    let error = repository(&registry.host)
        .fetch_blob(&blob)
        .await
        .err()
        .unwrap();
    assert!(error.is_not_found() && !error.is_retryable());
    assert_eq!(error.status(), Some(404));
    assert!(
        error
            .to_string()
            .ends_with("404 Not Found: no such blob (BLOB_UNKNOWN)"),
        "{error}"
    );
}

#[tokio::test]
async fn an_error_page_does_not_hide_the_status() {
    let page = "<html>\u{1b}[2J</html>";
    let answer = format!(
        "HTTP/1.1 503 x\r\ncontent-length: {}\r\n\r\n{page}",
        page.len()
    );
    let host = canned::answers(answer).await;
    let tag = Selector::Tag("v1".parse().unwrap());
    let error = repository(&host).fetch_manifest(&tag).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("answered 503 Service Unavailable"),
        "{error}"
    );
    assert!(error.is_retryable() && !error.is_unreachable());
}

#[tokio::test]
async fn a_message_of_the_registry_is_cleaned_and_cut() {
    let message = format!("\\u001b[2J{}", "x".repeat(5000));
    let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"{message}"}}]}}"#);
    let answer = format!(
        "HTTP/1.1 403 x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let host = canned::answers(answer).await;
    let text = repository(&host).list_tags().await.unwrap_err().to_string();
    assert!(
        text.contains("403 Forbidden to a request without credentials: [2Jxxx"),
        "{text}"
    );
    assert!(text.len() < 600 && !text.contains('\u{1b}'), "{text}");
}

#[tokio::test]
async fn what_is_no_manifest_is_refused_with_its_cause() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>";
    let host = canned::answers(answer).await;
    let tag = Selector::Tag("v1".parse().unwrap());
    let error = repository(&host).fetch_manifest(&tag).await.unwrap_err();
    assert!(
        error.to_string().contains("is not a valid manifest"),
        "{error}"
    );
    assert!(
        error.source().unwrap().to_string().contains("not the JSON"),
        "{error}"
    );
}

#[tokio::test]
async fn plain_http_is_not_spoken_where_it_is_forbidden() {
    let registry = FakeRegistry::start().await;
    let options = ClientOptions {
        plain_http: PlainHttp::Never,
        ..ClientOptions::default()
    };
    let error = repository_with(&registry.host, options)
        .list_tags()
        .await
        .unwrap_err();
    assert!(
        error.url().starts_with("https://") && error.is_unreachable(),
        "{error}"
    );
    assert_eq!(registry.count(""), 0);
}

#[tokio::test]
async fn a_redirect_is_followed_and_its_loop_is_not() {
    let registry = FakeRegistry::start().await;
    let blob = registry.add_blob("bytes");
    let target = format!("http://{}/v2/team/app/blobs/{}", registry.host, blob.digest);
    let redirect = |location: &str| {
        format!("HTTP/1.1 307 x\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
    };
    let host = canned::answers(redirect(&target)).await;
    assert_eq!(
        repository(&host).fetch_blob_bytes(&blob, 5).await.unwrap(),
        "bytes"
    );
    let host = canned::answers(redirect("/again")).await;
    let error = repository(&host)
        .fetch_blob_bytes(&blob, 5)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
}
