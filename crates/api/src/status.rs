//! What the server says of itself.

use serde::{Deserialize, Serialize};

/// That the server runs, and how much it has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Version of the program.
    pub version: String,
    /// Conversion tasks that wait.
    pub tasks_pending: u64,
    /// Conversion tasks that run.
    pub tasks_running: u64,
}
