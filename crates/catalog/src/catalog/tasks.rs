//! Conversion tasks.
//!
//! ```text
//!            want                take              finish
//!   (tag) ─────────▶ PENDING ───────────▶ RUNNING ───────▶ SUCCEEDED
//!                     ▲  ▲                │  │ fail, end_live
//!                     │  └────────────────┘  └───────────▶ FAILED
//!                     │  release, or want                    │
//!                     │  with another source                 │
//!                     └──────────────────────────────────────┘ retry
//! ```

use oci::{Digest, RepositoryName, Tag};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::Catalog;
use crate::sql_value::{RowExt, digest_bytes};
use crate::{CatalogError, TaskCounts, TaskRecord, TaskState, UnixMillis, accelerated_tag};

mod work;

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only those of this repository.
    pub repository: Option<RepositoryName>,
    /// Only those in this state.
    pub state: Option<TaskState>,
    /// At most so many; the newest.
    pub limit: u32,
}

impl Catalog {
    /// Lists tasks, newest first.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn tasks(&self, filter: &TaskFilter) -> Result<Vec<TaskRecord>, CatalogError> {
        let rows = sqlx::query(
            "SELECT tasks.*, name FROM tasks JOIN repositories ON repositories.id = repository_id \
             WHERE (?1 IS NULL OR name = ?1) AND (?2 IS NULL OR state = ?2) \
             ORDER BY tasks.id DESC LIMIT ?3",
        )
        .bind(filter.repository.as_ref().map(RepositoryName::as_str))
        .bind(filter.state.map(TaskState::as_sql))
        .bind(filter.limit)
        .fetch_all(&self.reads)
        .await?;
        rows.iter().map(record_of).collect()
    }

    /// Returns one task, `None` if there is no such.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn task(&self, id: i64) -> Result<Option<TaskRecord>, CatalogError> {
        let mut connection = self.reads.acquire().await?;
        find(&mut connection, id).await
    }

    /// Counts the tasks that are not done.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn task_counts(&self) -> Result<TaskCounts, CatalogError> {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE state = 'PENDING') AS pending, \
             count(*) FILTER (WHERE state = 'RUNNING') AS running \
             FROM tasks WHERE state IN ('PENDING', 'RUNNING')",
        )
        .fetch_one(&self.reads)
        .await?;
        Ok(TaskCounts {
            pending: row.size("pending")?,
            running: row.size("running")?,
        })
    }
}

/// Aims the tag's task at `source`, or makes one, unless the accelerated tag is fresh.
pub(super) async fn want(
    connection: &mut SqliteConnection,
    repository: i64,
    (tag, source): (&Tag, &Digest),
    now: UnixMillis,
) -> Result<(), CatalogError> {
    // A tag without room for the suffix gets its task too, which then says so.
    let accelerated = accelerated_tag(tag);
    let aimed = sqlx::query(
        "UPDATE tasks SET state = iif(source = ?3, state, 'PENDING'), source = ?3 \
         WHERE repository_id = ?1 AND tag = ?2 AND state IN ('PENDING', 'RUNNING')",
    )
    .bind(repository)
    .bind(tag.as_str())
    .bind(digest_bytes(source))
    .execute(&mut *connection)
    .await?;
    if aimed.rows_affected() > 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO tasks (repository_id, tag, source, state, created_ms) \
         SELECT ?1, ?2, ?3, 'PENDING', ?4 WHERE NOT EXISTS \
         (SELECT 1 FROM tags WHERE repository_id = ?1 AND name = ?5 AND source = ?3)",
    )
    .bind(repository)
    .bind(tag.as_str())
    .bind(digest_bytes(source))
    .bind(now.0)
    .bind(accelerated.as_ref().map(Tag::as_str))
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the tasks that wait or run for a tag, or for any tag of the repository, as failed.
pub(super) async fn end_live(
    connection: &mut SqliteConnection,
    repository: i64,
    tag: Option<&Tag>,
    (reason, now): (&str, UnixMillis),
) -> Result<(), CatalogError> {
    sqlx::query(
        "UPDATE tasks SET state = 'FAILED', error = ?3, finished_ms = ?4 \
         WHERE repository_id = ?1 AND (?2 IS NULL OR tag = ?2) AND state IN ('PENDING', 'RUNNING')",
    )
    .bind(repository)
    .bind(tag.map(Tag::as_str))
    .bind(reason)
    .bind(now.0)
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns one task.
async fn find(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<TaskRecord>, CatalogError> {
    let row = sqlx::query(
        "SELECT tasks.*, name FROM tasks JOIN repositories ON repositories.id = repository_id \
         WHERE tasks.id = ?",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(record_of).transpose()
}

fn record_of(row: &SqliteRow) -> Result<TaskRecord, CatalogError> {
    Ok(TaskRecord {
        id: row.value("id")?,
        repository: row.parsed("name")?,
        tag: row.parsed("tag")?,
        source: row.digest("source")?,
        state: row.state("state")?,
        attempts: row.value("attempts")?,
        created: row.time("created_ms")?,
        started: row.time_or_none("started_ms")?,
        finished: row.time_or_none("finished_ms")?,
        accelerated: row.digest_or_none("accelerated")?,
        error: row.value("error")?,
    })
}
