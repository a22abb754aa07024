//! What the catalog answers.

use std::fmt;

use oci::{Digest, RepositoryName, Tag};

use crate::UnixMillis;

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRecord {
    /// Its name.
    pub name: RepositoryName,
    /// Whether each pushed tag is converted.
    pub is_accelerated: bool,
    /// How many tags it has.
    pub tag_count: u64,
    /// When it came to be.
    pub created: UnixMillis,
}

/// A manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRecord {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Length of its body in bytes.
    pub size: u64,
}

/// A tag with what it points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// The manifest.
    pub digest: Digest,
    /// Media type of the manifest.
    pub media_type: String,
    /// Bytes of config and layers, of all platforms together.
    pub content_size: u64,
    /// When the tag was last set.
    pub updated: UnixMillis,
    /// What the converter made the tag from; `None` if somebody pushed it.
    pub source: Option<Digest>,
    /// The tag's accelerated image.
    pub accelerated: Option<AcceleratedRecord>,
}

/// The accelerated image of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratedRecord {
    /// Its tag.
    pub tag: Tag,
    /// Its manifest.
    pub digest: Digest,
    /// What it was made from.
    pub source: Digest,
}

/// A conversion task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// Its number.
    pub id: i64,
    /// The repository.
    pub repository: RepositoryName,
    /// The source tag.
    pub tag: Tag,
    /// The manifest to convert.
    pub source: Digest,
    /// Where it is.
    pub state: TaskState,
    /// How often it was started.
    pub attempts: u32,
    /// When it was made.
    pub created: UnixMillis,
    /// When it was last started.
    pub started: Option<UnixMillis>,
    /// When it ended.
    pub finished: Option<UnixMillis>,
    /// The accelerated manifest, after it succeeded.
    pub accelerated: Option<Digest>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// It waits.
    Pending,
    /// It is worked on.
    Running,
    /// The accelerated tag was set.
    Succeeded,
    /// It ended without.
    Failed,
}

impl TaskState {
    /// Returns the state as the database holds it.
    pub(crate) const fn as_sql(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_sql())
    }
}

/// How many tasks there are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskCounts {
    /// Those that wait.
    pub pending: u64,
    /// Those that run.
    pub running: u64,
}
