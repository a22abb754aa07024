//! The promises that every [`BlobStore`](crate::BlobStore) must keep, as tests.

/// Declares the tests that every [`BlobStore`](crate::BlobStore) must pass. `$new_store` gives a
/// pair of an empty store and whatever has to live as long as it.
#[macro_export]
macro_rules! blob_store_conformance {
    ($module:ident, $new_store:expr) => {
        mod $module {
            use bytes::Bytes;
            use futures::TryStreamExt;
            use oci::Digest;
            use $crate::{BlobStore, CommitUploadError};

            #[allow(
                unused_imports,
                reason = "the expression may name what stands beside it"
            )]
            use super::*;

            async fn read_all(
                store: &dyn BlobStore,
                digest: &Digest,
                range: Option<std::ops::Range<u64>>,
            ) -> Option<Vec<u8>> {
                let content = store.read(digest, range).await.unwrap()?;
                let pieces: Vec<Bytes> = content.stream.try_collect().await.unwrap();
                Some(pieces.concat())
            }

            fn long_blob() -> Vec<u8> {
                (0..3_000_017_u32)
                    .flat_map(|word| word.to_le_bytes())
                    .collect()
            }

            #[tokio::test]
            async fn a_stored_blob_comes_back_whole() {
                let (store, _guard) = $new_store;
                let blob = long_blob();
                let digest = Digest::of(&blob);
                let mut upload = store.begin_upload().await.unwrap();
                for piece in blob.chunks(65_521) {
                    upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
                }
                assert_eq!(upload.received_len(), blob.len() as u64);
                assert_eq!(upload.commit(&digest).await.unwrap(), blob.len() as u64);
                assert_eq!(store.size(&digest).await.unwrap(), Some(blob.len() as u64));
                assert_eq!(read_all(&store, &digest, None).await, Some(blob));
            }

            #[tokio::test]
            async fn a_part_comes_back_as_asked() {
                let (store, _guard) = $new_store;
                let blob = long_blob();
                let digest = Digest::of(&blob);
                store.put_bytes(&digest, blob.clone().into()).await.unwrap();
                for (start, end) in [(0, 1), (1, 2_000_000), (11_999_000, 12_000_068)] {
                    let part = read_all(&store, &digest, Some(start..end)).await.unwrap();
                    let (start, end) = (
                        usize::try_from(start).unwrap(),
                        usize::try_from(end).unwrap(),
                    );
                    assert!(part == blob[start..end], "{start}..{end}");
                }
            }

            #[tokio::test]
            async fn a_discarded_upload_is_no_blob() {
                let (store, _guard) = $new_store;
                let mut upload = store.begin_upload().await.unwrap();
                upload.write(Bytes::from_static(b"blob")).await.unwrap();
                upload.discard().await;
                assert_eq!(store.size(&Digest::of(b"blob")).await.unwrap(), None);
            }

            #[tokio::test]
            async fn an_empty_blob_is_a_blob() {
                let (store, _guard) = $new_store;
                let digest = Digest::of(b"");
                store.put_bytes(&digest, Bytes::new()).await.unwrap();
                assert_eq!(read_all(&store, &digest, None).await, Some(Vec::new()));
            }

            #[tokio::test]
            async fn a_blob_that_is_not_there_is_none_and_no_error() {
                let (store, _guard) = $new_store;
                let digest = Digest::of(b"absent");
                assert_eq!(store.size(&digest).await.unwrap(), None);
                assert!(store.read(&digest, None).await.unwrap().is_none());
                store.delete(&digest).await.unwrap();
            }

            #[tokio::test]
            async fn bytes_with_another_digest_do_not_become_a_blob() {
                let (store, _guard) = $new_store;
                let digest = Digest::of(b"promised");
                let refused = store.put_bytes(&digest, Bytes::from_static(b"sent")).await;
                assert!(matches!(refused, Err(CommitUploadError::Mismatch { .. })));
                assert_eq!(store.size(&digest).await.unwrap(), None);
                assert_eq!(store.size(&Digest::of(b"sent")).await.unwrap(), None);
            }

            #[tokio::test]
            async fn a_blob_may_be_stored_again() {
                let (store, _guard) = $new_store;
                let digest = Digest::of(b"twice");
                store
                    .put_bytes(&digest, Bytes::from_static(b"twice"))
                    .await
                    .unwrap();
                store
                    .put_bytes(&digest, Bytes::from_static(b"twice"))
                    .await
                    .unwrap();
                assert_eq!(
                    read_all(&store, &digest, None).await.as_deref(),
                    Some(&b"twice"[..])
                );
            }

            #[tokio::test]
            async fn a_file_becomes_a_blob_more_than_once() {
                let (store, _guard) = $new_store;
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("layer");
                std::fs::write(&path, b"layer").unwrap();
                let digest = Digest::of(b"layer");
                for _ in 0..2 {
                    assert_eq!(store.put_file(&digest, &path).await.unwrap(), 5);
                }
                std::fs::remove_file(&path).unwrap();
                assert_eq!(
                    read_all(&store, &digest, None).await.as_deref(),
                    Some(&b"layer"[..])
                );
            }

            #[tokio::test]
            async fn a_deleted_blob_is_gone_and_can_come_again() {
                let (store, _guard) = $new_store;
                let digest = Digest::of(b"blob");
                store
                    .put_bytes(&digest, Bytes::from_static(b"blob"))
                    .await
                    .unwrap();
                store.delete(&digest).await.unwrap();
                assert_eq!(store.size(&digest).await.unwrap(), None);
                store
                    .put_bytes(&digest, Bytes::from_static(b"blob"))
                    .await
                    .unwrap();
                assert_eq!(store.size(&digest).await.unwrap(), Some(4));
            }
        }
    };
}
