//! Manifests of a repository: found, deleted, and listed as referrers.

use oci::{Descriptor, Digest, RepositoryName, Selector, Tag};
use sqlx::sqlite::SqliteRow;

use super::{Catalog, repository_id, tags};
use crate::sql_value::{RowExt, digest_bytes};
use crate::{CatalogError, ManifestRecord};

/// Most referrers that are listed. Whoever attaches more to one manifest sees the oldest.
const REFERRERS_MAX: u32 = 10_000;

impl Catalog {
    /// Returns the manifest that `selector` names, `None` if there is no such.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        selector: &Selector,
    ) -> Result<Option<ManifestRecord>, CatalogError> {
        let query = match selector {
            Selector::Tag(tag) => sqlx::query(
                "SELECT manifests.digest, media_type, size FROM repositories \
                 JOIN tags ON tags.repository_id = repositories.id \
                 JOIN manifests ON manifests.repository_id = repositories.id \
                 AND manifests.digest = tags.digest \
                 WHERE repositories.name = ? AND tags.name = ?",
            )
            .bind(repository.as_str())
            .bind(tag.as_str()),
            Selector::Digest(digest) => sqlx::query(
                "SELECT digest, media_type, size FROM repositories \
                 JOIN manifests ON repository_id = id WHERE name = ? AND digest = ?",
            )
            .bind(repository.as_str())
            .bind(digest_bytes(digest)),
        };
        let row = query.fetch_optional(&self.reads).await?;
        row.as_ref().map(record_of).transpose()
    }

    /// Deletes a manifest, the tags that name it and their accelerated tags. Says whether it was
    /// there.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, CatalogError> {
        let now = self.now();
        let mut transaction = self.begin_write().await?;
        let Some(id) = repository_id(&mut transaction, repository).await? else {
            return Ok(false);
        };
        let named = sqlx::query("SELECT name FROM tags WHERE repository_id = ? AND digest = ?")
            .bind(id)
            .bind(digest_bytes(digest))
            .fetch_all(&mut *transaction)
            .await?;
        for row in named {
            let tag: Tag = row.parsed("name")?;
            tags::delete(&mut transaction, id, &tag, now).await?;
        }
        let done = sqlx::query("DELETE FROM manifests WHERE repository_id = ? AND digest = ?")
            .bind(id)
            .bind(digest_bytes(digest))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Lists the manifests whose subject is `subject`, of one artifact type or of any, as the
    /// referrers API shows them.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, CatalogError> {
        let rows = sqlx::query(
            "SELECT digest, media_type, size, artifact_type, annotations FROM repositories \
             JOIN manifests ON repository_id = id \
             WHERE name = ?1 AND subject = ?2 AND (?3 IS NULL OR artifact_type = ?3) \
             ORDER BY pushed_ms, digest LIMIT ?4",
        )
        .bind(repository.as_str())
        .bind(digest_bytes(subject))
        .bind(artifact_type)
        .bind(REFERRERS_MAX)
        .fetch_all(&self.reads)
        .await?;
        rows.iter().map(referrer_of).collect()
    }
}

fn record_of(row: &SqliteRow) -> Result<ManifestRecord, CatalogError> {
    Ok(ManifestRecord {
        digest: row.digest("digest")?,
        media_type: row.value("media_type")?,
        size: row.size("size")?,
    })
}

fn referrer_of(row: &SqliteRow) -> Result<Descriptor, CatalogError> {
    let record = record_of(row)?;
    let annotations: String = row.value("annotations")?;
    let mut descriptor = Descriptor::new(record.media_type, record.digest, record.size);
    descriptor.artifact_type = row.value("artifact_type")?;
    descriptor.annotations = serde_json::from_str(&annotations)
        .map_err(|_reason| CatalogError::Damaged { value: annotations })?;
    Ok(descriptor)
}
