//! Tags.

use oci::{Digest, RepositoryName, Tag};
use sqlx::SqliteConnection;

use super::{Catalog, Page, repository_id, tasks};
use crate::sql_value::{RowExt, digest_bytes};
use crate::{CatalogError, UnixMillis, accelerated_tag};

impl Catalog {
    /// Lists tags in order of their bytes, `None` if there is no such repository.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        page: Page<'_>,
    ) -> Result<Option<Vec<Tag>>, CatalogError> {
        let mut connection = self.reads.acquire().await?;
        let Some(id) = repository_id(&mut connection, repository).await? else {
            return Ok(None);
        };
        let rows = sqlx::query(
            "SELECT name FROM tags WHERE repository_id = ? AND name > ? ORDER BY name LIMIT ?",
        )
        .bind(id)
        .bind(page.after.unwrap_or_default())
        .bind(page.limit)
        .fetch_all(&mut *connection)
        .await?;
        rows.iter()
            .map(|row| row.parsed("name"))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Deletes a tag and its accelerated tag. Says whether it was there.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn delete_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<bool, CatalogError> {
        let now = self.now();
        let mut transaction = self.begin_write().await?;
        let Some(id) = repository_id(&mut transaction, repository).await? else {
            return Ok(false);
        };
        let was_there = delete(&mut transaction, id, tag, now).await?;
        transaction.commit().await?;
        Ok(was_there)
    }
}

/// Points a tag at a manifest. `source` is what the converter made that from; `None` if it was
/// pushed.
pub(super) async fn set(
    connection: &mut SqliteConnection,
    repository: i64,
    tag: &Tag,
    (digest, source): (&Digest, Option<&Digest>),
    now: UnixMillis,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO tags (repository_id, name, digest, source, updated_ms) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (repository_id, name) DO UPDATE SET \
         digest = excluded.digest, source = excluded.source, updated_ms = excluded.updated_ms",
    )
    .bind(repository)
    .bind(tag.as_str())
    .bind(digest_bytes(digest))
    .bind(source.map(digest_bytes))
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes a tag, the accelerated tag made from it, and ends its task.
pub(super) async fn delete(
    connection: &mut SqliteConnection,
    repository: i64,
    tag: &Tag,
    now: UnixMillis,
) -> Result<bool, CatalogError> {
    let done = sqlx::query("DELETE FROM tags WHERE repository_id = ? AND name = ?")
        .bind(repository)
        .bind(tag.as_str())
        .execute(&mut *connection)
        .await?;
    if let Some(accelerated) = accelerated_tag(tag) {
        sqlx::query("DELETE FROM tags WHERE repository_id = ? AND name = ? AND source IS NOT NULL")
            .bind(repository)
            .bind(accelerated.as_str())
            .execute(&mut *connection)
            .await?;
    }
    let reason = "the tag was deleted";
    tasks::end_live(connection, repository, Some(tag), (reason, now)).await?;
    Ok(done.rows_affected() > 0)
}
