//! A manifest is pushed: the one transaction that makes an image visible.

use std::collections::BTreeMap;

use oci::{Digest, RepositoryName, Tag};
use sqlx::{Row, SqliteConnection};

use super::{Catalog, ensure_repository, tags, tasks};
use crate::sql_value::{RowExt, digest_bytes, size_value};
use crate::{CatalogError, PushManifestError, UnixMillis, is_reserved};

/// A manifest whose body is in the store.
#[derive(Debug, Clone)]
pub struct PushedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Length of its body in bytes.
    pub size: u64,
    /// What it holds.
    pub content: ManifestContent,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
    /// What it is, as the referrers API shows it.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The tags that name it from now on.
    pub tags: Vec<Tag>,
}

/// What a manifest holds.
#[derive(Debug, Clone)]
pub enum ManifestContent {
    /// Config and layers of an image that can be converted.
    Image {
        /// The blobs it needs.
        blobs: Vec<Digest>,
        /// Their bytes together.
        size: u64,
    },
    /// Config and layers of anything else.
    Artifact {
        /// The blobs it needs.
        blobs: Vec<Digest>,
        /// Their bytes together.
        size: u64,
    },
    /// Other manifests, which may be absent: a copy of some platforms only is a valid index.
    Index {
        /// The manifests.
        manifests: Vec<Digest>,
    },
}

impl Catalog {
    /// Accepts a manifest and points its tags at it. In a repository with acceleration on, each tag
    /// gets a task if the manifest is an image's.
    ///
    /// # Errors
    ///
    /// [`PushManifestError`]; nothing has changed then.
    pub async fn push_manifest(
        &self,
        repository: &RepositoryName,
        pushed: &PushedManifest,
    ) -> Result<(), PushManifestError> {
        let now = self.now();
        let mut transaction = self.begin_write().await?;
        let id = ensure_repository(&mut transaction, repository, now).await?;
        let is_accelerated = is_accelerated(&mut transaction, id).await?;
        if let Some(tag) = pushed
            .tags
            .iter()
            .find(|tag| is_accelerated && is_reserved(tag))
        {
            return Err(PushManifestError::Reserved { tag: tag.clone() });
        }
        let weight = weigh(&mut transaction, id, pushed).await?;
        insert(&mut transaction, id, (pushed, &weight), now).await?;
        for tag in &pushed.tags {
            tags::set(&mut transaction, id, tag, (&pushed.digest, None), now).await?;
            if is_accelerated && weight.is_convertible {
                tasks::want(&mut transaction, id, (tag, &pushed.digest), now).await?;
            } else {
                let reason = "the tag was pushed again with something that is not converted";
                tasks::end_live(&mut transaction, id, Some(tag), (reason, now)).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// What is known of a manifest only by looking at what it names.
struct Weight {
    content_size: u64,
    is_convertible: bool,
}

async fn is_accelerated(
    connection: &mut SqliteConnection,
    repository: i64,
) -> Result<bool, CatalogError> {
    let row = sqlx::query("SELECT is_accelerated FROM repositories WHERE id = ?")
        .bind(repository)
        .fetch_one(connection)
        .await?;
    row.value("is_accelerated")
}

async fn weigh(
    connection: &mut SqliteConnection,
    repository: i64,
    pushed: &PushedManifest,
) -> Result<Weight, PushManifestError> {
    let (blobs, content_size, is_convertible) = match &pushed.content {
        ManifestContent::Image { blobs, size } => (blobs, *size, true),
        ManifestContent::Artifact { blobs, size } => (blobs, *size, false),
        ManifestContent::Index { manifests } => {
            return Ok(weigh_index(connection, repository, manifests).await?);
        }
    };
    for blob in blobs {
        let found =
            sqlx::query("SELECT 1 FROM repository_blobs WHERE repository_id = ? AND digest = ?")
                .bind(repository)
                .bind(digest_bytes(blob))
                .fetch_optional(&mut *connection)
                .await?;
        if found.is_none() {
            let (manifest, blob) = (pushed.digest, *blob);
            return Err(PushManifestError::BlobAbsent { manifest, blob });
        }
    }
    Ok(Weight {
        content_size,
        is_convertible,
    })
}

async fn weigh_index(
    connection: &mut SqliteConnection,
    repository: i64,
    manifests: &[Digest],
) -> Result<Weight, CatalogError> {
    let mut weight = Weight {
        content_size: 0,
        is_convertible: false,
    };
    for manifest in manifests {
        let found = sqlx::query(
            "SELECT content_size, is_convertible FROM manifests \
             WHERE repository_id = ? AND digest = ?",
        )
        .bind(repository)
        .bind(digest_bytes(manifest))
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = found else { continue };
        weight.content_size = weight
            .content_size
            .saturating_add(row.size("content_size")?);
        weight.is_convertible |= row.try_get::<bool, _>("is_convertible")?;
    }
    Ok(weight)
}

async fn insert(
    connection: &mut SqliteConnection,
    repository: i64,
    (pushed, weight): (&PushedManifest, &Weight),
    now: UnixMillis,
) -> Result<(), CatalogError> {
    let annotations =
        serde_json::to_string(&pushed.annotations).map_err(|_reason| CatalogError::Damaged {
            value: "annotations".to_owned(),
        })?;
    // Pushed again, an index may have more of its manifests by now. Its media type may be another
    // one too, if the body states none.
    sqlx::query(
        "INSERT INTO manifests (repository_id, digest, media_type, size, content_size, \
         is_convertible, subject, artifact_type, annotations, pushed_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (repository_id, digest) DO UPDATE SET \
         media_type = excluded.media_type, content_size = excluded.content_size, \
         is_convertible = excluded.is_convertible",
    )
    .bind(repository)
    .bind(digest_bytes(&pushed.digest))
    .bind(&pushed.media_type)
    .bind(size_value(pushed.size))
    .bind(size_value(weight.content_size))
    .bind(weight.is_convertible)
    .bind(pushed.subject.as_ref().map(digest_bytes))
    .bind(&pushed.artifact_type)
    .bind(annotations)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}
