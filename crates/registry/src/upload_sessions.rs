//! Pushes in progress.
//!
//! A session lives in memory: after a restart the client begins its blob again. Within a process it
//! survives a cut connection, with every byte that came.
//!
//! # Concurrency
//!
//! One request works on a session at a time; a second one waits for it, then is refused as busy.

use std::collections::HashMap;
use std::sync::Arc;

use blob_store::{BlobStore, BlobUpload, WriteBlobError};
use oci::RepositoryName;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::RegistryLimits;

/// The sessions of a registry.
#[derive(Debug)]
pub(crate) struct UploadSessions {
    store: Arc<dyn BlobStore>,
    limits: RegistryLimits,
    sessions: Mutex<HashMap<Uuid, Session>>,
}

#[derive(Debug)]
struct Session {
    repository: RepositoryName,
    /// `None` once it was committed, or lost bytes.
    upload: Arc<tokio::sync::Mutex<Option<Box<dyn BlobUpload>>>>,
    used: Instant,
}

/// A session, held by one request. Its `Option` is emptied by whoever ends the session.
pub(crate) type HeldSession = OwnedMutexGuard<Option<Box<dyn BlobUpload>>>;

impl UploadSessions {
    pub(crate) fn new(store: Arc<dyn BlobStore>, limits: RegistryLimits) -> Self {
        Self {
            store,
            limits,
            sessions: Mutex::default(),
        }
    }

    /// Begins a session.
    pub(crate) async fn begin(&self, repository: &RepositoryName) -> Result<Uuid, SessionError> {
        self.remove_idle();
        if self.sessions.lock().len() >= self.limits.upload_sessions_max {
            return Err(SessionError::TooMany {
                limit: self.limits.upload_sessions_max,
            });
        }
        let upload = self.store.begin_upload().await?;
        let id = Uuid::new_v4();
        let session = Session {
            repository: repository.clone(),
            upload: Arc::new(tokio::sync::Mutex::new(Some(upload))),
            used: Instant::now(),
        };
        self.sessions.lock().insert(id, session);
        Ok(id)
    }

    /// Takes hold of a session of this very repository.
    pub(crate) async fn hold(
        &self,
        repository: &RepositoryName,
        id: Uuid,
    ) -> Result<HeldSession, SessionError> {
        let absent = || SessionError::Absent { id };
        let upload = {
            let mut sessions = self.sessions.lock();
            let session = sessions.get_mut(&id).ok_or_else(absent)?;
            if session.repository != *repository {
                return Err(absent());
            }
            session.used = Instant::now();
            Arc::clone(&session.upload)
        };
        let held = timeout(self.limits.upload_busy_max, upload.lock_owned()).await;
        let held = held.map_err(|_elapsed| SessionError::Busy { id })?;
        if held.is_none() {
            return Err(absent());
        }
        Ok(held)
    }

    /// Notes that the session was worked on just now.
    pub(crate) fn touch(&self, id: Uuid) {
        if let Some(session) = self.sessions.lock().get_mut(&id) {
            session.used = Instant::now();
        }
    }

    /// Forgets a session. What it took is freed once nobody holds it any more.
    pub(crate) fn forget(&self, id: Uuid) {
        let forgotten = self.sessions.lock().remove(&id);
        drop(forgotten);
    }

    fn remove_idle(&self) {
        let is_live = |_: &Uuid, session: &mut Session| {
            session.used.elapsed() < self.limits.upload_idle_max
                || session.upload.try_lock().is_err()
        };
        self.sessions.lock().retain(is_live);
    }
}

/// Why there is no session to work on.
#[derive(Debug, Error)]
pub(crate) enum SessionError {
    /// There is no such session in this repository.
    #[error("upload session {id} does not exist")]
    Absent {
        /// The session.
        id: Uuid,
    },
    /// Another request works on it.
    #[error("upload session {id} is used by another request")]
    Busy {
        /// The session.
        id: Uuid,
    },
    /// No session can be added now.
    #[error("there are {limit} upload sessions already")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The store failed.
    #[error("upload session could not be begun")]
    Store(#[from] WriteBlobError),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use blob_store::ObjectBlobStore;
    use tempfile::TempDir;

    use super::*;

    fn sessions(limits: RegistryLimits) -> (UploadSessions, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = ObjectBlobStore::on_disk(directory.path()).unwrap();
        (UploadSessions::new(Arc::new(store), limits), directory)
    }

    fn app() -> RepositoryName {
        "app".parse().unwrap()
    }

    #[tokio::test]
    async fn a_session_belongs_to_its_repository() {
        let (sessions, _directory) = sessions(RegistryLimits::default());
        let id = sessions.begin(&app()).await.unwrap();
        let other = sessions.hold(&"other".parse().unwrap(), id).await;
        assert!(matches!(other, Err(SessionError::Absent { .. })));
        assert!(sessions.hold(&app(), id).await.is_ok());
    }

    #[tokio::test]
    async fn a_session_beyond_the_limit_is_refused() {
        let limits = RegistryLimits {
            upload_sessions_max: 1,
            ..RegistryLimits::default()
        };
        let (sessions, _directory) = sessions(limits);
        sessions.begin(&app()).await.unwrap();
        let refused = sessions.begin(&app()).await;
        assert!(matches!(refused, Err(SessionError::TooMany { limit: 1 })));
    }

    #[tokio::test]
    async fn an_idle_session_makes_room_for_another() {
        let limits = RegistryLimits {
            upload_sessions_max: 1,
            upload_idle_max: Duration::ZERO,
            ..RegistryLimits::default()
        };
        let (sessions, _directory) = sessions(limits);
        let first = sessions.begin(&app()).await.unwrap();
        sessions.begin(&app()).await.unwrap();
        let gone = sessions.hold(&app(), first).await;
        assert!(matches!(gone, Err(SessionError::Absent { .. })));
    }

    #[tokio::test]
    async fn a_second_request_on_a_session_waits_and_is_then_refused() {
        let (sessions, _directory) = sessions(RegistryLimits {
            upload_busy_max: Duration::ZERO,
            ..RegistryLimits::default()
        });
        let id = sessions.begin(&app()).await.unwrap();
        let _held = sessions.hold(&app(), id).await.unwrap();
        let second = sessions.hold(&app(), id).await;
        assert!(matches!(second, Err(SessionError::Busy { .. })));
    }
}
