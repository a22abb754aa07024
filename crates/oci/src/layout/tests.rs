//! Tests of layouts on disk: what is written is read back, and nothing else is left.

use tempfile::tempdir;

use super::*;
use crate::media_type;

fn manifest(text: &str) -> Descriptor {
    Descriptor::of(media_type::OCI_MANIFEST, text.as_bytes())
}

/// Everything in the layout that is no part of it.
fn leftovers(layout: &OciLayout) -> usize {
    let names = fs::read_dir(layout.directory()).unwrap();
    names
        .filter(|name| name.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.')
        .count()
}

#[test]
fn a_blob_comes_back_whole() {
    let directory = tempdir().unwrap();
    let layout = OciLayout::create(directory.path()).unwrap();
    let digest = layout.put_blob_bytes(b"layer").unwrap();
    assert_eq!(layout.put_blob_bytes(b"layer").unwrap(), digest);
    let blob = Descriptor::of("x/y", b"layer");
    assert_eq!(&layout.read_blob(&blob, 5).unwrap()[..], b"layer");
    assert_eq!(fs::read(layout.blob_path(&digest)).unwrap(), b"layer");
    assert_eq!(leftovers(&layout), 0);
}

#[test]
fn a_file_becomes_a_blob_only_under_its_own_digest() {
    let directory = tempdir().unwrap();
    let layout = OciLayout::create(directory.path().join("layout")).unwrap();
    let source = directory.path().join("file");
    fs::write(&source, vec![7; 3 << 20]).unwrap();
    let (right, wrong) = (Digest::of(&vec![7; 3 << 20]), Digest::of(b"other"));
    let error = layout.put_blob_file(&wrong, &source).unwrap_err();
    assert!(
        matches!(error, WriteLayoutError::DigestMismatch { .. }),
        "{error}"
    );
    assert!(!layout.blob_path(&wrong).exists());
    assert_eq!(layout.put_blob_file(&right, &source).unwrap(), 3 << 20);
    assert!(layout.blob_path(&right).exists());
    assert_eq!(leftovers(&layout), 0);
}

#[test]
fn a_blob_that_is_absent_changed_or_too_large_is_not_read() {
    let directory = tempdir().unwrap();
    let layout = OciLayout::create(directory.path()).unwrap();
    let blob = Descriptor::of("x/y", b"layer");
    let read = |limit_len| layout.read_blob(&blob, limit_len).unwrap_err();
    assert!(matches!(read(5), ReadLayoutError::Absent { .. }));
    assert!(matches!(
        read(4),
        ReadLayoutError::TooLarge { limit_len: 4, .. }
    ));
    for other in ["Layer", "laye", "layers"] {
        fs::write(layout.blob_path(&blob.digest), other).unwrap();
        assert!(
            matches!(read(5), ReadLayoutError::Mismatch { .. }),
            "{other}"
        );
    }
}

#[test]
fn a_tag_points_at_what_was_set_last() {
    let directory = tempdir().unwrap();
    let layout = OciLayout::create(directory.path()).unwrap();
    layout.set_tag("a", manifest("1")).unwrap();
    layout.set_tag("b", manifest("1")).unwrap();
    layout.set_tag("a", manifest("2")).unwrap();
    let layout = OciLayout::open(directory.path()).unwrap();
    let digest = |tag: &str| layout.find_tag(tag).unwrap().map(|found| found.digest);
    assert_eq!(digest("a"), Some(Digest::of(b"2")));
    assert_eq!(digest("b"), Some(Digest::of(b"1")));
    assert_eq!(digest("c"), None);
    assert_eq!(layout.index().unwrap().manifests.len(), 2);
}

#[test]
fn creating_a_layout_again_keeps_it() {
    let directory = tempdir().unwrap();
    OciLayout::create(directory.path())
        .unwrap()
        .set_tag("a", manifest("1"))
        .unwrap();
    let layout = OciLayout::create(directory.path()).unwrap();
    assert!(layout.find_tag("a").unwrap().is_some());
}

#[test]
fn what_is_no_layout_is_not_opened() {
    let directory = tempdir().unwrap();
    let open = || OciLayout::open(directory.path()).unwrap_err();
    assert!(matches!(open(), OpenLayoutError::Absent { .. }));
    fs::write(directory.path().join("oci-layout"), "{}").unwrap();
    assert!(matches!(open(), OpenLayoutError::Json { .. }));
    fs::write(
        directory.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"2"}"#,
    )
    .unwrap();
    assert!(matches!(open(), OpenLayoutError::Version { .. }));
}

#[test]
fn an_index_that_is_an_image_is_refused() {
    let directory = tempdir().unwrap();
    let layout = OciLayout::create(directory.path()).unwrap();
    let image = crate::ImageManifest::new(manifest("config"), Vec::new());
    fs::write(directory.path().join("index.json"), image.to_json()).unwrap();
    assert!(matches!(
        layout.index(),
        Err(ReadLayoutError::NotAnIndex { .. })
    ));
}
