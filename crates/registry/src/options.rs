//! What a registry is opened with.

use std::path::PathBuf;
use std::time::Duration;

/// Everything that can be set about a registry.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Directory of blobs, catalog and conversions in progress. Made if it is absent; one process
    /// at a time.
    pub data_dir: PathBuf,
    /// Threads of one conversion; 0 is one for each core.
    pub conversion_threads: usize,
    /// What the registry takes at most.
    pub limits: RegistryLimits,
}

impl RegistryOptions {
    /// The defaults, in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            conversion_threads: 0,
            limits: RegistryLimits::default(),
        }
    }
}

/// What the registry takes at most, and what it does at the limit.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_field_names,
    reason = "each is a maximum, and qualifiers come last in names"
)]
pub struct RegistryLimits {
    /// Longest blob in bytes. A longer one is refused while it comes.
    pub blob_len_max: u64,
    /// Most upload sessions at a time. One more is told to come again later: each may hold 2 MiB.
    pub upload_sessions_max: usize,
    /// An upload session that nobody touches for so long is removed when another one begins.
    pub upload_idle_max: Duration,
    /// Longest wait for another request on the same session, before a request is refused as busy.
    pub upload_busy_max: Duration,
    /// A sender that is silent for so long within one request is cut off. Its session stays.
    pub body_idle_max: Duration,
}

impl Default for RegistryLimits {
    fn default() -> Self {
        Self {
            // Far above the longest layers seen (models of some hundred GB), far below 2⁶³.
            blob_len_max: 1 << 40,
            // 50 clients with five uploads each, as Docker has.
            upload_sessions_max: 256,
            upload_idle_max: Duration::from_hours(1),
            // A client that was cut off may come back before its old connection is seen to be gone.
            upload_busy_max: Duration::from_secs(10),
            // Clients give up by themselves after 30 to 60 s.
            body_idle_max: Duration::from_mins(1),
        }
    }
}
