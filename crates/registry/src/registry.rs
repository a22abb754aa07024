//! The registry as a whole.
//!
//! ```text
//! DATA_DIR/
//! ├── lock              held by the process that has the registry open
//! ├── catalog.sqlite    repositories, tags, manifests, tasks
//! ├── content/          blobs and the bodies of manifests
//! └── work/             conversions in progress; emptied at the start
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use blob_store::{BlobStore, ObjectBlobStore, OpenStoreError};
use catalog::{Catalog, CatalogError, OpenCatalogError, SystemClock};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::content::Content;
use crate::conversion::Conversions;
use crate::upload_sessions::UploadSessions;
use crate::{RegistryLimits, RegistryOptions, http};

/// A registry that is open. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Registry {
    parts: Arc<Parts>,
}

/// What the routes and the converter share.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) content: Content,
    pub(crate) uploads: UploadSessions,
    pub(crate) conversions: Conversions,
    pub(crate) limits: RegistryLimits,
    /// Requests that go on when their client is gone: they must not be left half-done.
    pub(crate) requests: TaskTracker,
    _lock: File,
}

impl Registry {
    /// Opens the registry in the options' directory.
    ///
    /// # Errors
    ///
    /// [`OpenRegistryError`] if the directory is in use, damaged or cannot be made.
    pub async fn open(options: RegistryOptions) -> Result<Self, OpenRegistryError> {
        let lock = lock_directory(&options.data_dir)?;
        let store = ObjectBlobStore::on_disk(&options.data_dir.join("content"))?;
        Self::assemble(options, Arc::new(store), lock).await
    }

    /// Opens the registry with catalog and work in the options' directory and content in `store`.
    ///
    /// # Errors
    ///
    /// [`OpenRegistryError`] if the directory is in use, damaged or cannot be made.
    pub async fn open_with_store(
        options: RegistryOptions,
        store: Arc<dyn BlobStore>,
    ) -> Result<Self, OpenRegistryError> {
        let lock = lock_directory(&options.data_dir)?;
        Self::assemble(options, store, lock).await
    }

    async fn assemble(
        options: RegistryOptions,
        store: Arc<dyn BlobStore>,
        lock: File,
    ) -> Result<Self, OpenRegistryError> {
        let work_dir = options.data_dir.join("work");
        empty_directory(&work_dir).map_err(|source| OpenRegistryError::Directory {
            path: work_dir.clone(),
            source,
        })?;
        let path = options.data_dir.join("catalog.sqlite");
        let catalog = Catalog::open(&path, Arc::new(SystemClock)).await?;
        let released = catalog.release_tasks().await?;
        if released > 0 {
            tracing::info!(
                task.count = released,
                "conversions that were interrupted wait again"
            );
        }
        let content = Content::new(Arc::clone(&store), catalog);
        let conversions = Conversions::new(content.clone(), work_dir, options.conversion_threads);
        Ok(Self {
            parts: Arc::new(Parts {
                uploads: UploadSessions::new(store, options.limits),
                limits: options.limits,
                requests: TaskTracker::new(),
                content,
                conversions,
                _lock: lock,
            }),
        })
    }

    /// Returns the routes `/v2/…` and `/api/v1/…`.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.parts))
    }

    /// Takes conversion tasks, one after the other, until `shutdown` is cancelled. The task that is
    /// interrupted waits again.
    pub async fn run_converter(&self, shutdown: CancellationToken) {
        self.parts.conversions.run(&shutdown).await;
    }

    /// Waits until requests that were cut off have finished what must not be left half-done, and
    /// closes the catalog. Requests that come later fail.
    pub async fn close(&self) {
        self.parts.requests.close();
        self.parts.requests.wait().await;
        self.parts.content.catalog.close().await;
    }
}

/// Why a registry could not be opened.
#[derive(Debug, Error)]
pub enum OpenRegistryError {
    /// Another process, or another [`Registry`] of this one, has the directory open.
    #[error("registry directory {} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A directory or file could not be made.
    #[error("registry directory {} could not be opened", path.display())]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The content could not be opened.
    #[error("registry content could not be opened")]
    Store(#[from] OpenStoreError),
    /// The catalog could not be opened.
    #[error("registry catalog could not be opened")]
    OpenCatalog(#[from] OpenCatalogError),
    /// The catalog could not be read.
    #[error("registry catalog could not be read")]
    Catalog(#[from] CatalogError),
}

fn lock_directory(directory: &Path) -> Result<File, OpenRegistryError> {
    let failed = |source| OpenRegistryError::Directory {
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let lock = File::create(directory.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenRegistryError::InUse {
            path: directory.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn empty_directory(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => fs::create_dir(directory),
    }
}
