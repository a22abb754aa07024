//! Why the catalog did not do something.

use std::path::PathBuf;

use oci::{Digest, Tag};
use thiserror::Error;

use crate::TaskState;

/// `SQLITE_FULL`: no room on the disk.
const SQLITE_FULL: &str = "13";

/// Why a catalog could not be opened.
#[derive(Debug, Error)]
pub enum OpenCatalogError {
    /// The file is no database, cannot be made, or is locked.
    #[error("catalog {} could not be opened", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: sqlx::Error,
    },
    /// The tables could not be brought to this program's version.
    #[error("catalog {} could not be brought to this version", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: sqlx::migrate::MigrateError,
    },
}

/// Why a question or a change failed, whatever it was.
#[derive(Debug, Error)]
pub enum CatalogError {
    /// The database failed.
    #[error("catalog could not be read or written")]
    Database(#[from] sqlx::Error),
    /// A row holds what this program would not have written.
    #[error("catalog holds the damaged value {value:?}")]
    Damaged {
        /// The value.
        value: String,
    },
}

/// Says whether the catalog had no room on the disk, somewhere among the causes of `error`.
pub fn is_catalog_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(sqlx::Error::Database(database)) = error.downcast_ref()
            && database.code().as_deref() == Some(SQLITE_FULL)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Why a manifest was not accepted.
#[derive(Debug, Error)]
pub enum PushManifestError {
    /// The repository does not have a blob that the manifest needs.
    #[error("manifest {manifest} needs blob {blob}, which the repository does not have")]
    BlobAbsent {
        /// The manifest.
        manifest: Digest,
        /// The blob.
        blob: Digest,
    },
    /// Only the converter sets such a tag.
    #[error(
        "tag {tag} is reserved: the repository has image acceleration on, and the converter sets \
         tags that end in {}",
        crate::ACCELERATED_SUFFIX
    )]
    Reserved {
        /// The tag.
        tag: Tag,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Why a conversion's result was not tagged.
#[derive(Debug, Error)]
pub enum FinishTaskError {
    /// The tag was pushed again or deleted, or acceleration was turned off.
    #[error("task {id} was overtaken: its tag does not point at {source_digest} any more")]
    Overtaken {
        /// The task.
        id: i64,
        /// What was converted.
        source_digest: Digest,
    },
    /// Somebody pushed a tag of that name before acceleration was turned on.
    #[error("tag {tag} was pushed by somebody and is never overwritten")]
    TagTaken {
        /// The tag.
        tag: Tag,
    },
    /// There is no room for the suffix.
    #[error("tag {tag} is too long to put {} behind it", crate::ACCELERATED_SUFFIX)]
    TagTooLong {
        /// The source tag.
        tag: Tag,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Why a task was not put back in the queue.
#[derive(Debug, Error)]
pub enum RetryTaskError {
    /// There is no such task.
    #[error("task {id} does not exist")]
    Absent {
        /// The task.
        id: i64,
    },
    /// Only a failed task can be retried.
    #[error("task {id} is {state}, only a failed one can be retried")]
    NotFailed {
        /// The task.
        id: i64,
        /// Its state.
        state: TaskState,
    },
    /// There is nothing to convert any more.
    #[error("tag {tag} of task {id} was deleted")]
    TagGone {
        /// The task.
        id: i64,
        /// The tag.
        tag: Tag,
    },
    /// A later task does the same work.
    #[error("tag {tag} of task {id} already has a task that waits or runs")]
    Overtaken {
        /// The task.
        id: i64,
        /// The tag.
        tag: Tag,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

macro_rules! from_sqlx {
    ($($error:ident),+) => {
        $(impl From<sqlx::Error> for $error {
            fn from(cause: sqlx::Error) -> Self {
                Self::Catalog(cause.into())
            }
        })+
    };
}

from_sqlx!(PushManifestError, FinishTaskError, RetryTaskError);
