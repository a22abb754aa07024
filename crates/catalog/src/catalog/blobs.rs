//! Which repository may read which blob.

use oci::{Digest, RepositoryName};

use super::{Catalog, ensure_repository};
use crate::CatalogError;
use crate::sql_value::{RowExt, digest_bytes, size_value};

impl Catalog {
    /// Returns the length of a blob of the repository, `None` if the repository does not have it.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, CatalogError> {
        let row = sqlx::query(
            "SELECT size FROM repository_blobs JOIN repositories ON id = repository_id \
             WHERE name = ? AND digest = ?",
        )
        .bind(repository.as_str())
        .bind(digest_bytes(digest))
        .fetch_optional(&self.reads)
        .await?;
        row.map(|row| row.size("size")).transpose()
    }

    /// Lets the repository read the blob, which the store already has. The repository is made if it
    /// is absent.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn link_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<(), CatalogError> {
        let now = self.now();
        let mut transaction = self.begin_write().await?;
        let id = ensure_repository(&mut transaction, repository, now).await?;
        sqlx::query(
            "INSERT INTO repository_blobs (repository_id, digest, size, linked_ms) \
             VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(id)
        .bind(digest_bytes(digest))
        .bind(size_value(size))
        .bind(now.0)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Forbids the repository to read the blob. Says whether it was allowed before.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn unlink_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, CatalogError> {
        let mut transaction = self.begin_write().await?;
        let done = sqlx::query(
            "DELETE FROM repository_blobs WHERE digest = ? \
             AND repository_id = (SELECT id FROM repositories WHERE name = ?)",
        )
        .bind(digest_bytes(digest))
        .bind(repository.as_str())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Says whether any repository has the content, as a blob or as a manifest.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] if the database failed.
    pub async fn knows_content(&self, digest: &Digest) -> Result<bool, CatalogError> {
        let row = sqlx::query(
            "SELECT EXISTS (SELECT 1 FROM repository_blobs WHERE digest = ?1) \
             OR EXISTS (SELECT 1 FROM manifests WHERE digest = ?1) AS is_known",
        )
        .bind(digest_bytes(digest))
        .fetch_one(&self.reads)
        .await?;
        row.value("is_known")
    }
}
