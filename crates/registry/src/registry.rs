//! The registry as a whole.

use axum::Router;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::RegistryOptions;

/// A registry that is open. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Registry {}

impl Registry {
    /// Opens the registry in the options' directory.
    ///
    /// # Errors
    ///
    /// [`OpenRegistryError`] if the directory is in use, damaged or cannot be made.
    #[expect(clippy::unused_async, reason = "not there yet")]
    pub async fn open(_options: RegistryOptions) -> Result<Self, OpenRegistryError> {
        Ok(Self {})
    }

    /// Returns the routes `/v2/…` and `/api/v1/…`.
    pub fn router(&self) -> Router {
        Router::new()
    }

    /// Takes conversion tasks, one after the other, until `shutdown` is cancelled. The task that is
    /// interrupted waits again.
    pub async fn run_converter(&self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
    }

    /// Waits until requests that were cut off have finished what must not be left half-done.
    pub async fn close(&self) {}
}

/// Why a registry could not be opened.
#[derive(Debug, Error)]
pub enum OpenRegistryError {}
