//! Conversion tasks: one pushed tag on its way to its accelerated tag.

use oci::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

/// Which tasks to list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskQuery {
    /// Only those of this repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryName>,
    /// Only those in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    /// At most so many; the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Tasks, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskList {
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// One conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its number, growing with time.
    pub id: i64,
    /// The repository.
    pub repository: RepositoryName,
    /// The source tag.
    pub tag: Tag,
    /// What the source tag pointed at when the task was made or last aimed anew.
    pub source: Digest,
    /// Where it is.
    pub state: TaskState,
    /// How often it was started.
    pub attempts: u32,
    /// When it was made.
    pub created_unix_ms: i64,
    /// When it was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_unix_ms: Option<i64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_unix_ms: Option<i64>,
    /// How far it is; only while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<TaskProgress>,
    /// The accelerated manifest; only after it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerated: Option<Digest>,
    /// Why it failed, with the chain of causes; only after it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskState {
    /// It waits for the converter.
    Pending,
    /// The converter works on it.
    Running,
    /// The accelerated tag is there.
    Succeeded,
    /// It ended without one; the source tag works as ever.
    Failed,
}

/// How far a running task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskProgress {
    /// What it does now.
    pub phase: TaskPhase,
    /// Stored bytes of the source's layers that were read.
    pub done_bytes: u64,
    /// Stored bytes of the source's layers in all, of all platforms together.
    pub total_bytes: u64,
}

/// What a running task does now, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPhase {
    /// It reads manifests and configs.
    Resolving,
    /// It reads layers, writes them anew and proves each.
    Converting,
    /// It stores what it made.
    Storing,
    /// It puts manifests and the tag.
    Publishing,
}
