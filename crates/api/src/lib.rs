//! The management API: its requests and answers as types.
//!
//! ```text
//! GET  /api/v1/status                                    ServerStatus
//! GET  /api/v1/repositories                              RepositoryList
//! GET  /api/v1/repositories/{repository}                 Repository
//! PUT  /api/v1/repositories/{repository}/acceleration    SetAcceleration -> Repository
//! GET  /api/v1/images?repository=                        ImageList
//! GET  /api/v1/tasks?repository=&state=&limit=           TaskList, newest first
//! GET  /api/v1/tasks/{id}                                Task
//! POST /api/v1/tasks/{id}/retry                          Task
//! ```
//!
//! Every answer that is not 2xx carries a [`Failure`].
//!
//! # Invariants
//!
//! 1. A name in an answer was parsed: it is a valid repository, tag or digest.
//! 2. Times are milliseconds since 1970, UTC. Sizes are bytes. Both say so in their names.
//!
//! # What is not here
//!
//! The routes themselves (`registry::http`), and the distribution API (`/v2/`), whose types are
//! those of `oci`.

mod failure;
mod image;
mod repository;
mod status;
mod task;

pub use failure::{Failure, FailureDetail};
pub use image::{AcceleratedImage, Freshness, Image, ImageKind, ImageList, ImageQuery};
pub use repository::{ExistingTags, Repository, RepositoryList, SetAcceleration};
pub use status::ServerStatus;
pub use task::{Task, TaskList, TaskPhase, TaskProgress, TaskQuery, TaskState};
