//! The database, and what is asked of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, SqliteConnection, Transaction};

use oci::RepositoryName;

use crate::sql_value::RowExt;
use crate::{CatalogError, Clock, OpenCatalogError, UnixMillis};

mod blobs;
mod images;
mod manifests;
mod push;
mod repositories;
mod tags;
mod tasks;

pub use push::{ManifestContent, PushedManifest};
pub use repositories::{AccelerationChange, Page};
pub use tasks::TaskFilter;

/// Connections that read. A read takes about 50 µs, so few serve many requests.
const READERS_MAX: u32 = 4;

/// Longest wait for a lock that another process holds, such as a backup's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// What the registry knows. Clones are handles to the same database.
#[derive(Debug, Clone)]
pub struct Catalog {
    reads: SqlitePool,
    writes: SqlitePool,
    clock: Arc<dyn Clock>,
}

impl Catalog {
    /// Opens the catalog in the file `path`, which is made if it is absent, and brings its tables to
    /// this version.
    ///
    /// # Errors
    ///
    /// [`OpenCatalogError`] if the file is no catalog, or a newer version's.
    pub async fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenCatalogError> {
        let failed = |source| OpenCatalogError::Database {
            path: path.to_owned(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writes = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        let migrated = sqlx::migrate!("./migrations").run(&writes).await;
        migrated.map_err(|source| OpenCatalogError::Migrate {
            path: path.to_owned(),
            source,
        })?;
        let reads = pool(READERS_MAX)
            .connect_with(options.read_only(true))
            .await
            .map_err(failed)?;
        Ok(Self {
            reads,
            writes,
            clock,
        })
    }

    /// Closes the database. Later calls fail.
    pub async fn close(&self) {
        self.reads.close().await;
        self.writes.close().await;
    }

    /// Begins a transaction that writes. Every write goes through here, single ones too.
    async fn begin_write(&self) -> Result<Transaction<'_, Sqlite>, CatalogError> {
        match self.writes.begin_with("BEGIN IMMEDIATE").await {
            // SQLite ends a transaction by itself when the disk is full, and the connection's own
            // count of transactions is then wrong for good: it is replaced.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writes.acquire().await?.close().await?;
                Ok(self.writes.begin_with("BEGIN IMMEDIATE").await?)
            }
            begun => Ok(begun?),
        }
    }

    fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

fn pool(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Returns the row number of a repository, `None` if there is no such repository.
async fn repository_id(
    connection: &mut SqliteConnection,
    name: &RepositoryName,
) -> Result<Option<i64>, CatalogError> {
    let row = sqlx::query("SELECT id FROM repositories WHERE name = ?")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await?;
    row.map(|row| row.value("id")).transpose()
}

/// Returns the row number of a repository, which is made if it is absent.
async fn ensure_repository(
    connection: &mut SqliteConnection,
    name: &RepositoryName,
    now: UnixMillis,
) -> Result<i64, CatalogError> {
    sqlx::query("INSERT INTO repositories (name, created_ms) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(name.as_str())
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
    let found = repository_id(connection, name).await?;
    found.ok_or_else(|| CatalogError::Damaged {
        value: name.to_string(),
    })
}

#[cfg(test)]
mod tests;
