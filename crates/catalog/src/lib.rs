//! What the registry knows: repositories, tags, manifests, tasks.
//!
//! [`Catalog`] is an `SQLite` database. Each of its methods is one transaction.
//!
//! # Invariants
//!
//! 1. Once a method that changes something has returned, the change survives the loss of power:
//!    write-ahead log, `synchronous = FULL`.
//! 2. A tag names a manifest of its repository, and a manifest was accepted only with every blob
//!    that it needs linked to the repository.
//! 3. At most one task is pending or running for a tag, and it aims at what the tag points at.
//! 4. A tag that the converter made never replaces one that somebody pushed.
//!
//! # Concurrency
//!
//! One connection writes, so that writers queue here instead of failing as busy; several read. A
//! future that is dropped half-way leaves its transaction undone.
//!
//! # What is not here
//!
//! The bytes of blobs and manifests (`blob-store`): they are stored before the catalog hears of
//! them.

mod acceleration;
mod catalog;
mod clock;
mod error;
mod record;
mod sql_value;

pub use acceleration::{ACCELERATED_SUFFIX, accelerated_tag, is_reserved};
pub use catalog::{AccelerationChange, Catalog, ManifestContent, Page, PushedManifest, TaskFilter};
pub use clock::{Clock, SystemClock, UnixMillis};
pub use error::{
    CatalogError, FinishTaskError, OpenCatalogError, PushManifestError, RetryTaskError,
    is_catalog_full,
};
pub use record::{
    AcceleratedRecord, ImageRecord, ManifestRecord, RepositoryRecord, TaskCounts, TaskRecord,
    TaskState,
};
