//! Tests of the manifest parser: what is accepted, what is refused, and that no bytes panic.

use proptest::prelude::*;

use super::*;
use crate::Digest;

fn descriptor() -> String {
    let digest = Digest::of(b"");
    format!(r#"{{"mediaType":"x/y","digest":"{digest}","size":0}}"#)
}

fn image(more: &str) -> Vec<u8> {
    let config = descriptor();
    format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{config}]{more}}}"#).into()
}

fn index(more: &str) -> Vec<u8> {
    format!(
        r#"{{"schemaVersion":2,"manifests":[{}]{more}}}"#,
        descriptor()
    )
    .into()
}

fn refusal(media_type: Option<&str>, body: impl AsRef<[u8]>) -> ParseManifestError {
    Manifest::parse(media_type, body.as_ref()).unwrap_err()
}

#[test]
fn the_content_type_or_the_fields_say_which_kind_it_is() {
    for content_type in [
        None,
        Some(media_type::OCI_MANIFEST),
        Some(media_type::DOCKER_MANIFEST),
    ] {
        let manifest = Manifest::parse(content_type, &image("")).unwrap();
        assert_eq!(manifest.kind(), ManifestKind::Image);
    }
    for content_type in [
        None,
        Some(media_type::OCI_INDEX),
        Some(media_type::DOCKER_MANIFEST_LIST),
    ] {
        let manifest = Manifest::parse(content_type, &index("")).unwrap();
        assert_eq!(manifest.kind(), ManifestKind::Index);
    }
}

#[test]
fn parameters_of_a_content_type_do_not_matter() {
    let content_type = format!("{}; charset=utf-8", media_type::OCI_MANIFEST);
    let stated = format!(r#","mediaType":"{}""#, media_type::OCI_MANIFEST);
    assert!(Manifest::parse(Some(&content_type), &image(&stated)).is_ok());
}

#[test]
fn a_body_of_both_kinds_is_refused() {
    for more in [r#","manifests":[]"#, r#","manifests":null"#] {
        assert!(matches!(
            refusal(None, image(more)),
            ParseManifestError::Ambiguous
        ));
    }
    for more in [r#","layers":[]"#, r#","config":{}"#, r#","fsLayers":[]"#] {
        assert!(matches!(
            refusal(None, index(more)),
            ParseManifestError::Ambiguous
        ));
    }
}

#[test]
fn a_body_that_disagrees_with_its_content_type_is_refused() {
    let stated = format!(r#","mediaType":"{}""#, media_type::DOCKER_MANIFEST);
    let error = refusal(Some(media_type::OCI_MANIFEST), image(&stated));
    assert!(
        matches!(error, ParseManifestError::MediaType { .. }),
        "{error}"
    );
    let error = refusal(Some(media_type::OCI_INDEX), image(""));
    assert!(
        matches!(
            error,
            ParseManifestError::Field {
                field: "manifests",
                ..
            }
        ),
        "{error}"
    );
    let error = refusal(Some(media_type::OCI_MANIFEST), index(""));
    assert!(
        matches!(
            error,
            ParseManifestError::Field {
                field: "config",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_is_no_manifest_is_refused_with_the_reason() {
    let json = |text: &str| refusal(None, text);
    assert!(matches!(json("no"), ParseManifestError::Json(_)));
    assert!(matches!(
        json("{}"),
        ParseManifestError::SchemaVersion { actual: 0 }
    ));
    assert!(matches!(
        json(r#"{"schemaVersion":1,"fsLayers":[]}"#),
        ParseManifestError::SchemaVersion { actual: 1 }
    ));
    assert!(matches!(
        json(r#"{"schemaVersion":2}"#),
        ParseManifestError::Shapeless
    ));
    let error = refusal(Some("text/plain"), image(""));
    assert!(
        matches!(error, ParseManifestError::Unknown { .. }),
        "{error}"
    );
    let error = refusal(
        Some(media_type::OCI_MANIFEST),
        r#"{"schemaVersion":2,"config":{}}"#,
    );
    assert!(
        matches!(
            error,
            ParseManifestError::Field {
                field: "layers",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_manifest_over_the_limit_is_refused_before_it_is_read() {
    let body = vec![b' '; 8 * 1024 * 1024 + 1];
    assert!(matches!(
        refusal(None, body),
        ParseManifestError::TooLarge { .. }
    ));
}

#[test]
fn null_lists_of_go_writers_are_empty() {
    let body = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":null,"annotations":null}}"#,
        descriptor()
    );
    let Manifest::Image(image) = Manifest::parse(None, body.as_bytes()).unwrap() else {
        panic!("an image was written");
    };
    assert!(image.layers.is_empty() && image.annotations.is_empty());
    let body = br#"{"schemaVersion":2,"manifests":null}"#;
    assert!(Manifest::parse(Some(media_type::OCI_INDEX), body).is_ok());
}

#[test]
fn a_manifest_without_an_artifact_type_has_its_configs() {
    let manifest = Manifest::parse(None, &image("")).unwrap();
    assert_eq!(manifest.artifact_type(), Some("x/y"));
    let manifest = Manifest::parse(None, &image(r#","artifactType":"a/b""#)).unwrap();
    assert_eq!(manifest.artifact_type(), Some("a/b"));
    assert_eq!(
        Manifest::parse(None, &index("")).unwrap().artifact_type(),
        None
    );
}

#[test]
fn empty_fields_are_not_written() {
    let config = Descriptor::of(media_type::OCI_EMPTY, b"{}");
    let text = String::from_utf8(ImageManifest::new(config, Vec::new()).to_json()).unwrap();
    let digest = Digest::of(b"{}");
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{digest}","size":2}},"layers":[]}}"#,
        media_type::OCI_MANIFEST,
        media_type::OCI_EMPTY
    );
    assert_eq!(text, expected);
}

proptest! {
    #[test]
    fn writing_then_parsing_is_identity(
        sizes in proptest::collection::vec(any::<u64>(), 0..5),
        annotations in proptest::collection::btree_map(".{0,9}", ".{0,9}", 0..4),
        artifact_type in proptest::option::of("[a-z]{1,9}/[a-z]{1,9}"),
    ) {
        let layer = |size| Descriptor::new("x/y", Digest::of(b"x"), size);
        let mut manifest = ImageManifest::new(layer(1), sizes.into_iter().map(layer).collect());
        manifest.annotations = annotations;
        manifest.artifact_type = artifact_type;
        manifest.subject = manifest.layers.first().cloned();
        let parsed = Manifest::parse(Some(media_type::OCI_MANIFEST), &manifest.to_json());
        prop_assert_eq!(parsed.unwrap(), Manifest::Image(manifest));
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let parsed = Manifest::parse(None, &body);
        prop_assert!(parsed.is_err());
    }
}
