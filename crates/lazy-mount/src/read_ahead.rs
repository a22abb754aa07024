//! The read-ahead of a mount, as the kernel shows it under `/sys/class/bdi`.
//!
//! A mount with a device number of its own (FUSE, loop devices) is found by that number. EROFS mounted from
//! files is named `erofs-N`, N counting mounts, and nothing leads from the mount to N: the name that is new
//! after the mount is it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::mount_table::{ReadMountTableError, read_mount_table};

const BDI_DIRECTORY: &str = "/sys/class/bdi";

/// The read-ahead setting of one mounted filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAhead {
    bdi_name: String,
}

impl ReadAhead {
    /// Finds the setting of the mount at `target` by its device number.
    ///
    /// # Errors
    ///
    /// [`SetReadAheadError`] if nothing is mounted there or the mount's setting has another name.
    pub fn of_mount(target: &Path) -> Result<Self, SetReadAheadError> {
        let mounts = read_mount_table()?;
        let mount = mounts
            .iter()
            .rev()
            .find(|mount| mount.target == target)
            .ok_or_else(|| SetReadAheadError::NotMounted {
                target: target.to_owned(),
            })?;
        let found = Self {
            bdi_name: format!("{}:{}", mount.device.0, mount.device.1),
        };
        if !found.path().exists() {
            return Err(SetReadAheadError::Unnamed {
                target: target.to_owned(),
            });
        }
        Ok(found)
    }

    /// Takes up the name that an earlier process got from [`ReadAhead::bdi_name`].
    pub fn from_bdi_name(bdi_name: &str) -> Option<Self> {
        let is_plain =
            !bdi_name.is_empty() && !bdi_name.contains('/') && !bdi_name.starts_with('.');
        is_plain.then(|| Self {
            bdi_name: bdi_name.to_owned(),
        })
    }

    /// Name of the setting; it stays the same for as long as the filesystem is mounted.
    pub fn bdi_name(&self) -> &str {
        &self.bdi_name
    }

    /// Sets the read-ahead in KiB.
    ///
    /// # Errors
    ///
    /// [`SetReadAheadError::Write`], for example if `/sys` is read-only.
    pub fn set_kib(&self, kib: u32) -> Result<(), SetReadAheadError> {
        std::fs::write(self.path(), kib.to_string()).map_err(|source| SetReadAheadError::Write {
            path: self.path(),
            source,
        })
    }

    fn path(&self) -> PathBuf {
        Path::new(BDI_DIRECTORY)
            .join(&self.bdi_name)
            .join("read_ahead_kb")
    }
}

/// Why a read-ahead could not be set.
#[derive(Debug, Error)]
pub enum SetReadAheadError {
    /// The mount table could not be read.
    #[error(transparent)]
    MountTable(#[from] ReadMountTableError),
    /// Nothing is mounted there.
    #[error("nothing is mounted at {target}", target = target.display())]
    NotMounted {
        /// The path as given.
        target: PathBuf,
    },
    /// The mount's setting is not named after its device number.
    #[error("the read-ahead of {target} is not found by its device number", target = target.display())]
    Unnamed {
        /// The path as given.
        target: PathBuf,
    },
    /// The setting could not be written.
    #[error("{path} cannot be written", path = path.display())]
    Write {
        /// The setting.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The settings that exist at one moment.
#[derive(Debug)]
pub(crate) struct BdiNames(BTreeSet<String>);

impl BdiNames {
    /// Lists them; none where `/sys` is not mounted.
    pub(crate) fn read() -> Self {
        let entries = std::fs::read_dir(BDI_DIRECTORY)
            .into_iter()
            .flatten()
            .flatten();
        Self(
            entries
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect(),
        )
    }

    /// The only one with this prefix that exists now and did not exist then.
    pub(crate) fn new_one(&self, prefix: &str) -> Option<ReadAhead> {
        let mut new = Self::read().0;
        new.retain(|name| name.starts_with(prefix) && !self.0.contains(name));
        let bdi_name = new.pop_first()?;
        new.is_empty().then_some(ReadAhead { bdi_name })
    }
}
