//! A file that appears under its name whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::FileError;

/// Tells the temporary files of this process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Names tried before giving up: a process that had our number may have left some behind.
const ATTEMPTS_MAX: usize = 10_000;

/// A file being written. Removed when dropped before [`Self::persist`].
#[derive(Debug)]
pub(super) struct TemporaryFile {
    file: File,
    path: PathBuf,
}

impl TemporaryFile {
    /// Creates an empty file in `directory`.
    pub(super) fn create(directory: &Path) -> Result<Self, FileError> {
        for _attempt in 0..ATTEMPTS_MAX {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!(".temporary-{}-{number}", process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(FileError::of("create", &path)(error)),
            }
        }
        let exhausted = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(FileError::of("create a temporary file in", directory)(
            exhausted,
        ))
    }

    /// Appends bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file
            .write_all(bytes)
            .map_err(FileError::of("write", &self.path))
    }

    /// Syncs the bytes, renames the file to `target` and syncs that.
    pub(super) fn persist(self, target: &Path) -> Result<(), FileError> {
        self.file
            .sync_all()
            .map_err(FileError::of("sync", &self.path))?;
        fs::rename(&self.path, target).map_err(FileError::of("rename a file to", target))?;
        let Some(directory) = target.parent() else {
            return Ok(());
        };
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(FileError::of("sync", directory))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // After the rename there is nothing to remove, and that is the common case.
        let _absent = fs::remove_file(&self.path);
    }
}
