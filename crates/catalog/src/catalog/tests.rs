//! Tests of the catalog over a database file of their own.

use std::collections::BTreeMap;

use oci::{Selector, Tag};
use tempfile::TempDir;

use super::*;
use crate::{
    FinishTaskError, PushManifestError, RetryTaskError, SystemClock, TaskRecord, TaskState,
};

struct Opened {
    catalog: Catalog,
    directory: TempDir,
}

async fn open() -> Opened {
    let directory = tempfile::tempdir().unwrap();
    let catalog = reopen(&directory).await;
    Opened { catalog, directory }
}

async fn reopen(directory: &TempDir) -> Catalog {
    let path = directory.path().join("catalog.sqlite");
    Catalog::open(&path, Arc::new(SystemClock)).await.unwrap()
}

fn app() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn image(content: &[u8], tags: &[&str]) -> PushedManifest {
    PushedManifest {
        digest: oci::Digest::of(content),
        media_type: oci::media_type::OCI_MANIFEST.to_owned(),
        size: content.len() as u64,
        content: ManifestContent::Image {
            blobs: Vec::new(),
            size: 1000,
        },
        subject: None,
        artifact_type: None,
        annotations: BTreeMap::new(),
        tags: tags.iter().map(|text| tag(text)).collect(),
    }
}

async fn push(catalog: &Catalog, content: &[u8], tags: &[&str]) -> oci::Digest {
    let pushed = image(content, tags);
    catalog.push_manifest(&app(), &pushed).await.unwrap();
    pushed.digest
}

async fn accelerate(catalog: &Catalog, change: AccelerationChange) {
    catalog.set_acceleration(&app(), change).await.unwrap();
}

async fn all_tasks(catalog: &Catalog) -> Vec<TaskRecord> {
    catalog
        .tasks(&TaskFilter {
            limit: 100,
            ..TaskFilter::default()
        })
        .await
        .unwrap()
}

async fn digest_of(catalog: &Catalog, name: &str) -> Option<oci::Digest> {
    let found = catalog
        .manifest(&app(), &Selector::Tag(tag(name)))
        .await
        .unwrap();
    found.map(|found| found.digest)
}

/// Runs the next task to its end as the converter would.
async fn convert_next(catalog: &Catalog) -> oci::Digest {
    let task = catalog.take_task().await.unwrap().unwrap();
    let made = push(catalog, task.source.to_string().as_bytes(), &[]).await;
    catalog.finish_task(&task, &made).await.unwrap();
    made
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let Opened { catalog, directory } = open().await;
    let blob = oci::Digest::of(b"blob");
    catalog.link_blob(&app(), &blob, 4).await.unwrap();
    let digest = push(&catalog, b"image", &["latest"]).await;
    catalog.close().await;
    let catalog = reopen(&directory).await;
    assert_eq!(catalog.blob_size(&app(), &blob).await.unwrap(), Some(4));
    assert_eq!(digest_of(&catalog, "latest").await, Some(digest));
}

#[tokio::test]
async fn a_blob_belongs_to_the_repositories_that_have_it_and_to_no_other() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    let (blob, other) = (oci::Digest::of(b"blob"), "other".parse().unwrap());
    catalog.link_blob(&app(), &blob, 4).await.unwrap();
    assert_eq!(catalog.blob_size(&other, &blob).await.unwrap(), None);
    assert!(catalog.knows_content(&blob).await.unwrap());
    assert!(catalog.unlink_blob(&app(), &blob).await.unwrap());
    assert!(!catalog.unlink_blob(&app(), &blob).await.unwrap());
    assert_eq!(catalog.blob_size(&app(), &blob).await.unwrap(), None);
    assert!(!catalog.knows_content(&blob).await.unwrap());
}

#[tokio::test]
async fn a_manifest_without_its_blobs_is_refused_and_leaves_nothing() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    let blobs = vec![oci::Digest::of(b"never pushed")];
    let mut pushed = image(b"image", &["latest"]);
    pushed.content = ManifestContent::Image { blobs, size: 4 };
    let refused = catalog.push_manifest(&app(), &pushed).await;
    assert!(matches!(refused, Err(PushManifestError::BlobAbsent { .. })));
    assert_eq!(digest_of(&catalog, "latest").await, None);
    assert!(catalog.repository(&app()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_pushed_tag_becomes_a_task_and_then_an_accelerated_tag() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    let source = push(&catalog, b"image", &["1.0"]).await;
    let made = convert_next(&catalog).await;
    assert_eq!(digest_of(&catalog, "1.0_accelerated").await, Some(made));
    let tasks = all_tasks(&catalog).await;
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].state, TaskState::Succeeded);
    assert_eq!(
        (tasks[0].source, tasks[0].accelerated),
        (source, Some(made))
    );
}

#[tokio::test]
async fn the_same_image_pushed_again_is_not_converted_again() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    push(&catalog, b"image", &["1.0"]).await;
    push(&catalog, b"image", &["1.0"]).await;
    assert_eq!(all_tasks(&catalog).await.len(), 1);
    convert_next(&catalog).await;
    push(&catalog, b"image", &["1.0"]).await;
    assert_eq!(catalog.task_counts().await.unwrap().pending, 0);
}

#[tokio::test]
async fn a_tag_pushed_again_leaves_the_old_accelerated_tag_stale_until_the_new_one_is_made() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    let first = push(&catalog, b"first", &["1.0"]).await;
    let first_made = convert_next(&catalog).await;
    let second = push(&catalog, b"second", &["1.0"]).await;
    let images = catalog.images(Some(&app())).await.unwrap();
    let stale = images[0].accelerated.as_ref().unwrap();
    assert_eq!(
        (stale.digest, stale.source, images[0].digest),
        (first_made, first, second)
    );
    let second_made = convert_next(&catalog).await;
    assert_eq!(
        digest_of(&catalog, "1.0_accelerated").await,
        Some(second_made)
    );
}

#[tokio::test]
async fn a_running_task_whose_tag_is_pushed_again_is_overtaken() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    push(&catalog, b"first", &["1.0"]).await;
    let task = catalog.take_task().await.unwrap().unwrap();
    let second = push(&catalog, b"second", &["1.0"]).await;
    assert!(!catalog.is_current(&task).await.unwrap());
    let made = push(&catalog, b"made of first", &[]).await;
    let refused = catalog.finish_task(&task, &made).await;
    assert!(matches!(refused, Err(FinishTaskError::Overtaken { .. })));
    assert!(!catalog.fail_task(&task, "late").await.unwrap());
    assert_eq!(digest_of(&catalog, "1.0_accelerated").await, None);
    let tasks = all_tasks(&catalog).await;
    assert_eq!(
        (tasks.len(), tasks[0].state, tasks[0].source),
        (1, TaskState::Pending, second)
    );
}

#[tokio::test]
async fn a_deleted_tag_takes_its_accelerated_tag_and_its_task_along() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    push(&catalog, b"image", &["1.0"]).await;
    convert_next(&catalog).await;
    push(&catalog, b"second", &["1.0"]).await;
    assert!(catalog.delete_tag(&app(), &tag("1.0")).await.unwrap());
    assert_eq!(digest_of(&catalog, "1.0_accelerated").await, None);
    let task = &all_tasks(&catalog).await[0];
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(task.error.as_deref(), Some("the tag was deleted"));
    let refused = catalog.retry_task(task.id).await;
    assert!(matches!(refused, Err(RetryTaskError::TagGone { .. })));
}

#[tokio::test]
async fn a_manifest_deleted_by_digest_takes_its_tags_and_their_accelerated_tags_along() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    let digest = push(&catalog, b"image", &["1.0", "latest"]).await;
    convert_next(&catalog).await;
    convert_next(&catalog).await;
    assert!(catalog.delete_manifest(&app(), &digest).await.unwrap());
    let page = Page {
        after: None,
        limit: 10,
    };
    assert_eq!(catalog.tags(&app(), page).await.unwrap(), Some(Vec::new()));
    assert!(!catalog.delete_manifest(&app(), &digest).await.unwrap());
}

#[tokio::test]
async fn a_reserved_tag_is_refused_only_where_acceleration_is_on() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    let own = push(&catalog, b"own", &["1.0_accelerated"]).await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    let pushed = image(b"other", &["1.0_accelerated"]);
    let refused = catalog.push_manifest(&app(), &pushed).await;
    assert!(matches!(refused, Err(PushManifestError::Reserved { .. })));
    assert_eq!(digest_of(&catalog, "1.0_accelerated").await, Some(own));
}

#[tokio::test]
async fn a_tag_that_somebody_pushed_is_never_overwritten_by_the_converter() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    let own = push(&catalog, b"own", &["1.0_accelerated"]).await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    push(&catalog, b"image", &["1.0"]).await;
    let task = catalog.take_task().await.unwrap().unwrap();
    assert!(matches!(
        catalog.check_task(&task).await,
        Err(FinishTaskError::TagTaken { .. })
    ));
    let refused = catalog.finish_task(&task, &own).await;
    assert!(matches!(refused, Err(FinishTaskError::TagTaken { .. })));
}

#[tokio::test]
async fn turning_acceleration_on_converts_what_is_there_and_off_ends_what_waits() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    push(&catalog, b"image", &["1.0", "2.0_accelerated", "2.0"]).await;
    accelerate(&catalog, AccelerationChange::OnForAll).await;
    accelerate(&catalog, AccelerationChange::OnForAll).await;
    // A tag that ends as accelerated ones do is not converted itself.
    assert_eq!(catalog.task_counts().await.unwrap().pending, 2);
    accelerate(&catalog, AccelerationChange::Off).await;
    assert_eq!(catalog.task_counts().await.unwrap().pending, 0);
    assert!(
        all_tasks(&catalog)
            .await
            .iter()
            .all(|task| task.state == TaskState::Failed)
    );
}

#[tokio::test]
async fn a_failed_task_is_retried_once_and_not_beside_another() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    push(&catalog, b"image", &["1.0"]).await;
    let task = catalog.take_task().await.unwrap().unwrap();
    let refused = catalog.retry_task(task.id).await;
    assert!(matches!(refused, Err(RetryTaskError::NotFailed { .. })));
    assert!(
        catalog
            .fail_task(&task, "layer 1 is corrupt")
            .await
            .unwrap()
    );
    catalog.retry_task(task.id).await.unwrap();
    let again = catalog.take_task().await.unwrap().unwrap();
    assert_eq!(
        (again.id, again.attempts, again.error.clone()),
        (task.id, 2, None)
    );
    catalog
        .fail_task(&again, "layer 1 is corrupt")
        .await
        .unwrap();
    push(&catalog, b"second", &["1.0"]).await;
    let refused = catalog.retry_task(task.id).await;
    assert!(matches!(refused, Err(RetryTaskError::Overtaken { .. })));
}

#[tokio::test]
async fn a_task_that_ran_when_the_process_died_waits_again() {
    let Opened { catalog, directory } = open().await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    push(&catalog, b"image", &["1.0"]).await;
    let task = catalog.take_task().await.unwrap().unwrap();
    catalog.close().await;
    let catalog = reopen(&directory).await;
    assert_eq!(catalog.release_tasks().await.unwrap(), 1);
    assert_eq!(catalog.take_task().await.unwrap().unwrap().id, task.id);
}

#[tokio::test]
async fn tags_come_in_pages_in_order_of_their_bytes() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    push(&catalog, b"image", &["b", "a", "B", "_", "1"]).await;
    let page = |after, limit| Page { after, limit };
    let names = |tags: Option<Vec<Tag>>| {
        tags.unwrap()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let first = catalog.tags(&app(), page(None, 3)).await.unwrap();
    assert_eq!(names(first), ["1", "B", "_"]);
    let rest = catalog.tags(&app(), page(Some("_"), 3)).await.unwrap();
    assert_eq!(names(rest), ["a", "b"]);
    let absent = catalog
        .tags(&"absent".parse().unwrap(), page(None, 1))
        .await
        .unwrap();
    assert_eq!(absent, None);
}

#[tokio::test]
async fn referrers_show_what_the_manifest_says_of_itself() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    let subject = oci::Digest::of(b"subject, never pushed");
    let mut signature = image(b"signature", &[]);
    signature.subject = Some(subject);
    signature.artifact_type = Some("application/signature".to_owned());
    signature
        .annotations
        .insert("key".to_owned(), "value".to_owned());
    catalog.push_manifest(&app(), &signature).await.unwrap();
    let found = catalog.referrers(&app(), &subject, None).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].digest, signature.digest);
    assert_eq!(found[0].annotations["key"], "value");
    let other = catalog
        .referrers(&app(), &subject, Some("application/sbom"))
        .await
        .unwrap();
    assert_eq!(other, []);
}

#[tokio::test]
async fn an_index_is_converted_if_one_of_its_manifests_is_an_image() {
    let Opened {
        catalog,
        directory: _directory,
    } = open().await;
    accelerate(&catalog, AccelerationChange::OnForNew).await;
    let child = push(&catalog, b"image", &[]).await;
    let mut index = image(b"index", &["multi"]);
    let absent = oci::Digest::of(b"another platform, not copied");
    index.content = ManifestContent::Index {
        manifests: vec![child, absent],
    };
    catalog.push_manifest(&app(), &index).await.unwrap();
    assert_eq!(catalog.task_counts().await.unwrap().pending, 1);
    assert_eq!(catalog.images(None).await.unwrap()[0].content_size, 1000);
    let mut sparse = image(b"sparse index", &["sparse"]);
    sparse.content = ManifestContent::Index {
        manifests: vec![absent],
    };
    catalog.push_manifest(&app(), &sparse).await.unwrap();
    assert_eq!(catalog.task_counts().await.unwrap().pending, 1);
}
