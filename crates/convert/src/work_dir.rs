//! The directory of one conversion: made at its start, removed at its end, however it ends.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::error::ConvertError;

/// A directory that is removed, with everything in it, when the last one who holds it drops it.
#[derive(Debug)]
pub(crate) struct WorkDir {
    dir: TempDir,
}

impl WorkDir {
    /// Makes a new directory in `parent`, which must exist.
    pub(crate) fn new_in(parent: &Path) -> Result<Self, ConvertError> {
        let dir = tempfile::Builder::new()
            .prefix("convert-")
            .tempdir_in(parent);
        let dir = dir.map_err(|source| ConvertError::WorkDir {
            path: PathBuf::from(parent),
            source,
        })?;
        Ok(Self { dir })
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes an empty file, removed when it is dropped.
    pub(crate) fn new_file(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix("layer-")
            .tempfile_in(self.path())
    }
}
