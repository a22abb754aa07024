//! The directory of an image that is being fetched.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lazy_mount::is_mounted;
use tracing::warn;

/// The directory of an image that has no record yet. Unless it is kept, nothing of it stays.
#[derive(Debug)]
pub(crate) struct NewImage {
    directory: PathBuf,
    fate: Fate,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Kept,
}

impl NewImage {
    /// Creates the directory.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory.join("root"))?;
        Ok(Self {
            directory: directory.to_owned(),
            fate: Fate::Open,
        })
    }

    /// The image is whole.
    pub(crate) fn keep(mut self) {
        self.fate = Fate::Kept;
    }
}

impl Drop for NewImage {
    fn drop(&mut self) {
        if self.fate == Fate::Open {
            remove_half_done(&self.directory);
        }
    }
}

/// Removes the directory of an image that was not fetched to its end.
pub(crate) fn remove_half_done(directory: &Path) {
    // Never look into a mounted tree from here: it may wait for ourselves.
    if is_mounted(&directory.join("root")).unwrap_or(true) {
        return;
    }
    if let Err(error) = fs::remove_dir_all(directory) {
        warn!(directory = %directory.display(), %error, "directory of an image that was not fetched not removed");
    }
}
