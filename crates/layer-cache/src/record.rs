//! `layer.json` and `complete`: what a layer directory says about itself.
//!
//! Neither is synced where a torn one can be found out: a `layer.json` that cannot be read counts as
//! one of another boot, a `complete` that cannot be read counts as absent.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use oci::Digest;

use crate::boot_id::BootId;
use crate::files::{Durability, LayerWrites, read_if_there, replace_file};
use crate::layer_key::LayerKey;

/// What `layer.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// The layer's name, again: a directory that was renamed by hand is found out.
    pub(crate) key: LayerKey,
    /// The digest that the whole tar has or is said to have.
    pub(crate) diff_id: Digest,
    /// Length of the tar, in bytes.
    pub(crate) tar_len: u64,
    /// The boot that `present` was last written in.
    pub(crate) boot_id: BootId,
}

impl LayerRecord {
    const FILE: &str = "layer.json";

    /// Reads it; `None` when it is absent or says nothing sensible.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<Self>> {
        let bytes = read_if_there(&directory.join(Self::FILE))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Writes it; it may be gone after a power failure.
    pub(crate) fn write(&self, writes: &dyn LayerWrites, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        replace_file(
            writes,
            &directory.join(Self::FILE),
            &text,
            Durability::PageCache,
        )
    }

    /// Notes that the layer was used just now: the time of `layer.json` is that of the last use.
    pub(crate) fn touch(directory: &Path) -> io::Result<()> {
        let now = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let times = rustix::fs::Timestamps {
            last_access: now,
            last_modification: now,
        };
        rustix::fs::utimensat(
            rustix::fs::CWD,
            directory.join(Self::FILE),
            &times,
            rustix::fs::AtFlags::empty(),
        )?;
        Ok(())
    }

    /// When [`LayerRecord::touch`] was last called.
    pub(crate) fn last_used(directory: &Path) -> io::Result<std::time::SystemTime> {
        std::fs::metadata(directory.join(Self::FILE))?.modified()
    }
}

/// How the proof that SHA-256(tar) equals the diff ID survives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The bytes were seen in the page cache of this boot, and may not be on the disk.
    Boot(BootId),
    /// The bytes were synced before this was written.
    Synced,
}

impl Proof {
    const FILE: &str = "complete";

    /// Reads it; `None` when there is no proof.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<Self>> {
        let bytes = read_if_there(&directory.join(Self::FILE))?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.and_then(|text| match text.trim().split_once(' ') {
            None if text.trim() == "synced" => Some(Self::Synced),
            Some(("boot", id)) => Some(Self::Boot(BootId::new(id))),
            None | Some(_) => None,
        }))
    }

    /// Writes it; [`Proof::Synced`] survives a power failure.
    pub(crate) fn write(&self, writes: &dyn LayerWrites, directory: &Path) -> io::Result<()> {
        let (text, durability) = match self {
            Self::Boot(id) => (format!("boot {}\n", id.as_str()), Durability::PageCache),
            Self::Synced => ("synced\n".to_owned(), Durability::Disk),
        };
        replace_file(
            writes,
            &directory.join(Self::FILE),
            text.as_bytes(),
            durability,
        )
    }

    /// Whether it still proves something in `current`.
    pub(crate) fn holds_in(&self, current: &BootId) -> bool {
        match self {
            Self::Boot(id) => id == current,
            Self::Synced => true,
        }
    }
}
