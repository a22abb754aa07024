//! What a registry is opened with.

use std::path::PathBuf;

/// Everything that can be set about a registry.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Directory of blobs, catalog and conversions in progress. Made if it is absent; one process
    /// at a time.
    pub data_dir: PathBuf,
    /// Threads of one conversion; 0 is one for each core.
    pub conversion_threads: usize,
}

impl RegistryOptions {
    /// The defaults, in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            conversion_threads: 0,
        }
    }
}
