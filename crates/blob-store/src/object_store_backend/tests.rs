//! Tests of the object store backend, on a disk, in memory and over failing stores.

use std::fs;

use bytes::Bytes;
use object_store::memory::InMemory;
use tempfile::TempDir;

use super::*;

fn on_disk() -> (ObjectBlobStore, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (
        ObjectBlobStore::on_disk(directory.path()).unwrap(),
        directory,
    )
}

crate::blob_store_conformance!(disk, on_disk());
crate::blob_store_conformance!(
    memory,
    (ObjectBlobStore::new(Arc::new(InMemory::new())), ())
);

fn upload_count(directory: &TempDir) -> usize {
    fs::read_dir(directory.path().join("uploads"))
        .unwrap()
        .count()
}

#[tokio::test]
async fn opening_removes_the_uploads_of_a_dead_process() {
    let (store, directory) = on_disk();
    let mut upload = store.begin_upload().await.unwrap();
    upload
        .write(vec![7; 3 * DISK_PART_LEN].into())
        .await
        .unwrap();
    assert_eq!(upload_count(&directory), 1);
    std::mem::forget(upload);
    ObjectBlobStore::on_disk(directory.path()).unwrap();
    assert_eq!(upload_count(&directory), 0);
}

#[tokio::test]
async fn no_upload_leaves_a_file_behind() {
    let (store, directory) = on_disk();
    store
        .put_bytes(&Digest::of(b"a"), Bytes::from_static(b"a"))
        .await
        .unwrap();
    store
        .put_bytes(&Digest::of(b"b"), Bytes::from_static(b"not b"))
        .await
        .unwrap_err();
    let path = directory.path().join("file");
    fs::write(&path, b"c").unwrap();
    store.put_file(&Digest::of(b"c"), &path).await.unwrap();
    store.put_file(&Digest::of(b"c"), &path).await.unwrap();
    assert_eq!(upload_count(&directory), 0);
}

#[test]
fn a_directory_of_another_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("FORMAT"), "slipway-blobs 99\n").unwrap();
    let refused = ObjectBlobStore::on_disk(directory.path()).unwrap_err();
    assert!(
        matches!(refused, OpenStoreError::Format { actual, .. } if actual == "slipway-blobs 99")
    );
}

#[tokio::test]
async fn a_file_cut_while_it_is_read_ends_in_an_error() {
    let (store, directory) = on_disk();
    let blob = vec![1; 4 << 20];
    let digest = Digest::of(&blob);
    store.put_bytes(&digest, blob.into()).await.unwrap();
    let content = store.read(&digest, None).await.unwrap().unwrap();
    let path = directory.path().join(blob_location(&digest).as_ref());
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(10)
        .unwrap();
    let read: Vec<_> = content.stream.collect().await;
    assert!(read.last().unwrap().is_err());
}
