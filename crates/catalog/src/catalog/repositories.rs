//! Repositories and their switch *image acceleration*.

use oci::{RepositoryName, Tag};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::{Catalog, ensure_repository, tasks};
use crate::sql_value::RowExt;
use crate::{CatalogError, RepositoryRecord, UnixMillis, is_reserved};

/// A part of a sorted list.
#[derive(Debug, Clone, Copy)]
pub struct Page<'name> {
    /// Only what comes after this name.
    pub after: Option<&'name str>,
    /// At most so many.
    pub limit: u32,
}

/// What becomes of the switch, and of the tags that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccelerationChange {
    /// On; the tags that are there are converted too.
    OnForAll,
    /// On, for what is pushed from now on.
    OnForNew,
    /// Off; tasks that wait or run end. Accelerated tags stay.
    Off,
}

impl Catalog {
    /// Lists repositories by name.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn repositories(
        &self,
        page: Page<'_>,
    ) -> Result<Vec<RepositoryRecord>, CatalogError> {
        let rows = sqlx::query(
            "SELECT name, is_accelerated, created_ms, \
             (SELECT count(*) FROM tags WHERE repository_id = repositories.id) AS tag_count \
             FROM repositories WHERE name > ? ORDER BY name LIMIT ?",
        )
        .bind(page.after.unwrap_or_default())
        .bind(page.limit)
        .fetch_all(&self.reads)
        .await?;
        rows.iter().map(record_of).collect()
    }

    /// Returns one repository, `None` if there is no such.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn repository(
        &self,
        name: &RepositoryName,
    ) -> Result<Option<RepositoryRecord>, CatalogError> {
        let row = sqlx::query(
            "SELECT name, is_accelerated, created_ms, \
             (SELECT count(*) FROM tags WHERE repository_id = repositories.id) AS tag_count \
             FROM repositories WHERE name = ?",
        )
        .bind(name.as_str())
        .fetch_optional(&self.reads)
        .await?;
        row.as_ref().map(record_of).transpose()
    }

    /// Turns image acceleration of a repository on or off. The repository is made if it is absent.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn set_acceleration(
        &self,
        name: &RepositoryName,
        change: AccelerationChange,
    ) -> Result<(), CatalogError> {
        let now = self.now();
        let mut transaction = self.begin_write().await?;
        let id = ensure_repository(&mut transaction, name, now).await?;
        sqlx::query("UPDATE repositories SET is_accelerated = ? WHERE id = ?")
            .bind(change != AccelerationChange::Off)
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        match change {
            AccelerationChange::OnForNew => {}
            AccelerationChange::OnForAll => add_tasks(&mut transaction, id, now).await?,
            AccelerationChange::Off => {
                let reason = "image acceleration of the repository was turned off";
                tasks::end_live(&mut transaction, id, None, (reason, now)).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Makes a task for each tag that is there and has no fresh accelerated tag.
async fn add_tasks(
    connection: &mut SqliteConnection,
    repository: i64,
    now: UnixMillis,
) -> Result<(), CatalogError> {
    let rows = sqlx::query(
        "SELECT tags.name, tags.digest FROM tags JOIN manifests USING (repository_id, digest) \
         WHERE repository_id = ? AND source IS NULL AND is_convertible ORDER BY updated_ms",
    )
    .bind(repository)
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let tag: Tag = row.parsed("name")?;
        let digest = row.digest("digest")?;
        if !is_reserved(&tag) {
            tasks::want(&mut *connection, repository, (&tag, &digest), now).await?;
        }
    }
    Ok(())
}

fn record_of(row: &SqliteRow) -> Result<RepositoryRecord, CatalogError> {
    Ok(RepositoryRecord {
        name: row.parsed("name")?,
        is_accelerated: row.value("is_accelerated")?,
        tag_count: row.size("tag_count")?,
        created: row.time("created_ms")?,
    })
}
