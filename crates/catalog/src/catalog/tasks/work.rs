//! What the converter does with tasks.

use oci::{Digest, Tag};
use sqlx::SqliteConnection;

use super::{Catalog, find};
use crate::catalog::{repository_id, tags};
use crate::sql_value::{RowExt, digest_bytes};
use crate::{
    CatalogError, FinishTaskError, ManifestRecord, RetryTaskError, TaskRecord, TaskState,
    accelerated_tag,
};

impl Catalog {
    /// Takes the oldest task that waits; it runs from now on. `None` if none waits.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn take_task(&self) -> Result<Option<TaskRecord>, CatalogError> {
        let now = self.now();
        let mut transaction = self.begin_write().await?;
        let taken = sqlx::query(
            "UPDATE tasks SET state = 'RUNNING', attempts = attempts + 1, started_ms = ? \
             WHERE id = (SELECT min(id) FROM tasks WHERE state = 'PENDING') RETURNING id",
        )
        .bind(now.0)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = taken else { return Ok(None) };
        let task = find(&mut transaction, row.value("id")?).await?;
        transaction.commit().await?;
        Ok(task)
    }

    /// Lets every running task wait again: nobody works on them. For the start and for a clean stop.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn release_tasks(&self) -> Result<u64, CatalogError> {
        let mut transaction = self.begin_write().await?;
        let done = sqlx::query("UPDATE tasks SET state = 'PENDING' WHERE state = 'RUNNING'")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(done.rows_affected())
    }

    /// Says whether `task` still runs and still aims at the same manifest.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn is_current(&self, task: &TaskRecord) -> Result<bool, CatalogError> {
        let mut connection = self.reads.acquire().await?;
        let found = find(&mut connection, task.id).await?;
        Ok(found.is_some_and(|found| is_same_run(&found, task)))
    }

    /// Returns what an earlier task made from the same manifest in the same repository.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn converted_before(
        &self,
        task: &TaskRecord,
    ) -> Result<Option<ManifestRecord>, CatalogError> {
        let row = sqlx::query(
            "SELECT digest, media_type, size FROM tasks \
             JOIN repositories ON repositories.id = tasks.repository_id \
             JOIN manifests ON manifests.repository_id = tasks.repository_id \
             AND manifests.digest = tasks.accelerated \
             WHERE name = ? AND source = ? AND state = 'SUCCEEDED' ORDER BY tasks.id DESC LIMIT 1",
        )
        .bind(task.repository.as_str())
        .bind(digest_bytes(&task.source))
        .fetch_optional(&self.reads)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(ManifestRecord {
            digest: row.digest("digest")?,
            media_type: row.value("media_type")?,
            size: row.size("size")?,
        }))
    }

    /// Says whether [`Catalog::finish_task`] would find nothing in its way now.
    ///
    /// # Errors
    ///
    /// [`FinishTaskError`] that it would fail with.
    pub async fn check_task(&self, task: &TaskRecord) -> Result<(), FinishTaskError> {
        let mut connection = self.reads.acquire().await?;
        target_of(&mut connection, task).await?;
        Ok(())
    }

    /// Points the task's accelerated tag at `accelerated` and marks the task as succeeded: both or
    /// neither.
    ///
    /// # Errors
    ///
    /// [`FinishTaskError`]; nothing has changed then.
    pub async fn finish_task(
        &self,
        task: &TaskRecord,
        accelerated: &Digest,
    ) -> Result<(), FinishTaskError> {
        let now = self.now();
        let mut transaction = self.begin_write().await?;
        let (repository, tag) = target_of(&mut transaction, task).await?;
        let made = (accelerated, Some(&task.source));
        tags::set(&mut transaction, repository, &tag, made, now).await?;
        sqlx::query(
            "UPDATE tasks SET state = 'SUCCEEDED', accelerated = ?, error = NULL, finished_ms = ? \
             WHERE id = ?",
        )
        .bind(digest_bytes(accelerated))
        .bind(now.0)
        .bind(task.id)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Marks the task as failed. Says whether it did: a task that was overtaken is left alone.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn fail_task(&self, task: &TaskRecord, reason: &str) -> Result<bool, CatalogError> {
        let mut transaction = self.begin_write().await?;
        let done = sqlx::query(
            "UPDATE tasks SET state = 'FAILED', error = ?, finished_ms = ? \
             WHERE id = ? AND source = ? AND state = 'RUNNING'",
        )
        .bind(reason)
        .bind(self.now().0)
        .bind(task.id)
        .bind(digest_bytes(&task.source))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Lets a failed task wait again, aimed at what its tag points at now.
    ///
    /// # Errors
    ///
    /// [`RetryTaskError`]; nothing has changed then.
    pub async fn retry_task(&self, id: i64) -> Result<(), RetryTaskError> {
        let mut transaction = self.begin_write().await?;
        let found = find(&mut transaction, id).await?;
        let task = found.ok_or(RetryTaskError::Absent { id })?;
        if task.state != TaskState::Failed {
            return Err(RetryTaskError::NotFailed {
                id,
                state: task.state,
            });
        }
        let retried = sqlx::query(
            "UPDATE tasks SET state = 'PENDING', error = NULL, finished_ms = NULL, \
             started_ms = NULL, source = tags.digest FROM tags \
             WHERE tasks.id = ? AND tags.repository_id = tasks.repository_id \
             AND tags.name = tasks.tag",
        )
        .bind(id)
        .execute(&mut *transaction)
        .await;
        match retried {
            Ok(done) if done.rows_affected() > 0 => {}
            Ok(_) => return Err(RetryTaskError::TagGone { id, tag: task.tag }),
            Err(sqlx::Error::Database(cause)) if cause.is_unique_violation() => {
                return Err(RetryTaskError::Overtaken { id, tag: task.tag });
            }
            Err(cause) => return Err(cause.into()),
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Returns where a running task's result goes: the repository's row number and the tag.
async fn target_of(
    connection: &mut SqliteConnection,
    task: &TaskRecord,
) -> Result<(i64, Tag), FinishTaskError> {
    let found = find(&mut *connection, task.id).await?;
    let id = repository_id(&mut *connection, &task.repository).await?;
    let (Some(repository), true) = (id, found.is_some_and(|found| is_same_run(&found, task)))
    else {
        let (id, source_digest) = (task.id, task.source);
        return Err(FinishTaskError::Overtaken { id, source_digest });
    };
    let tag = accelerated_tag(&task.tag).ok_or_else(|| FinishTaskError::TagTooLong {
        tag: task.tag.clone(),
    })?;
    if is_pushed(connection, repository, &tag).await? {
        return Err(FinishTaskError::TagTaken { tag });
    }
    Ok((repository, tag))
}

fn is_same_run(found: &TaskRecord, task: &TaskRecord) -> bool {
    found.state == TaskState::Running
        && found.source == task.source
        && found.attempts == task.attempts
}

async fn is_pushed(
    connection: &mut SqliteConnection,
    repository: i64,
    tag: &Tag,
) -> Result<bool, CatalogError> {
    let row =
        sqlx::query("SELECT 1 FROM tags WHERE repository_id = ? AND name = ? AND source IS NULL")
            .bind(repository)
            .bind(tag.as_str())
            .fetch_optional(connection)
            .await?;
    Ok(row.is_some())
}
