//! Which roads this machine really has: each is tried with a tiny image.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use image_format::erofs::{WriteTreeError, write_erofs};
use image_format::tar::{DataMap, EntryKind, LayerScan, TarEntry, Timestamp};
use image_format::tree::{MergeError, merge_layers};
use thiserror::Error;

use crate::erofs_mount::{MountErofsError, Road, mount_erofs};
use crate::mount_table::{Unmount, unmount};

/// The only file of the probe's image; its bytes are the whole layer.
const FILE_NAME: &str = "probe";
/// Length of the probe's layer in bytes: some pages.
const LAYER_LEN: u64 = 16 << 10;

/// What was found out. A road that failed says why.
#[derive(Debug)]
pub struct RoadReport {
    /// The FUSE device. Without it nothing can be read lazily.
    pub fuse: Result<(), ProbeRoadError>,
    /// [`Road::File`].
    pub file: Result<(), ProbeRoadError>,
    /// [`Road::Loop`].
    pub loop_devices: Result<(), ProbeRoadError>,
}

impl RoadReport {
    /// The best road that works.
    pub fn best(&self) -> Option<Road> {
        match (&self.file, &self.loop_devices) {
            (Ok(()), _) => Some(Road::File),
            (Err(_), Ok(())) => Some(Road::Loop),
            (Err(_), Err(_)) => None,
        }
    }
}

/// Why a road cannot be used.
#[derive(Debug, Error)]
pub enum ProbeRoadError {
    /// The FUSE device is missing or not ours to open.
    #[error("the FUSE device {device} cannot be opened", device = device.display())]
    FuseDevice {
        /// The device.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tiny image could not be written.
    #[error("{path} cannot be written", path = path.display())]
    Prepare {
        /// What could not be made.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tiny image could not be made.
    #[error("the image for the probe cannot be made")]
    Merge(#[from] MergeError),
    /// As [`ProbeRoadError::Merge`].
    #[error("the image for the probe cannot be made")]
    Write(#[from] WriteTreeError),
    /// The kernel refused the mount.
    #[error(transparent)]
    Mount(#[from] MountErofsError),
    /// The mounted file could not be read.
    #[error("the mounted file {path} cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mounted file has other bytes than it should.
    #[error("the mounted file {path} has other bytes than the layer", path = path.display())]
    WrongBytes {
        /// The file.
        path: PathBuf,
    },
}

/// Tries every road with files in `dir`, which should lie where the layer cache does.
pub fn probe_roads(dir: &Path, fuse_device: &Path) -> RoadReport {
    RoadReport {
        fuse: probe_fuse(fuse_device),
        file: probe_erofs(dir, Road::File),
        loop_devices: probe_erofs(dir, Road::Loop),
    }
}

fn probe_fuse(device: &Path) -> Result<(), ProbeRoadError> {
    match OpenOptions::new().read(true).write(true).open(device) {
        Ok(_opened) => Ok(()),
        Err(source) => Err(ProbeRoadError::FuseDevice {
            device: device.to_owned(),
            source,
        }),
    }
}

fn probe_erofs(dir: &Path, road: Road) -> Result<(), ProbeRoadError> {
    let probe = Probe::prepare(dir)?;
    mount_erofs(road, &probe.tree(), &[probe.layer()], &probe.mount_point())?;
    let path = probe.mount_point().join(FILE_NAME);
    let bytes = std::fs::read(&path).map_err(|source| ProbeRoadError::Read {
        path: path.clone(),
        source,
    })?;
    if bytes == layer_bytes() {
        Ok(())
    } else {
        Err(ProbeRoadError::WrongBytes { path })
    }
}

/// A tiny image in a folder of its own, which goes away with its mount.
struct Probe {
    folder: PathBuf,
}

impl Probe {
    fn prepare(dir: &Path) -> Result<Self, ProbeRoadError> {
        // One probe at a time in a process; a dead process's folder is replaced.
        let probe = Self {
            folder: dir.join(format!("probe-{}", std::process::id())),
        };
        let written = |path: PathBuf, outcome: io::Result<()>| {
            outcome.map_err(|source| ProbeRoadError::Prepare { path, source })
        };
        probe.clear();
        written(
            probe.mount_point(),
            std::fs::create_dir_all(probe.mount_point()),
        )?;
        written(probe.layer(), std::fs::write(probe.layer(), layer_bytes()))?;
        written(probe.tree(), std::fs::write(probe.tree(), tree_bytes()?))?;
        Ok(probe)
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn layer(&self) -> PathBuf {
        self.folder.join("layer")
    }

    fn mount_point(&self) -> PathBuf {
        self.folder.join("mount")
    }

    fn clear(&self) {
        // Nothing is mounted there as a rule, and what cannot be removed does no harm.
        drop(unmount(&self.mount_point(), Unmount::Lazy));
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.clear();
    }
}

fn layer_bytes() -> Vec<u8> {
    (0..LAYER_LEN)
        .map(|index| (index % 251).to_le_bytes()[0])
        .collect()
}

fn tree_bytes() -> Result<Vec<u8>, ProbeRoadError> {
    let file = TarEntry {
        path: FILE_NAME.into(),
        kind: EntryKind::File {
            data: DataMap::contiguous(0, LAYER_LEN),
        },
        mode: 0o444,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        xattrs: Vec::new(),
    };
    let scan = LayerScan {
        tar_len: LAYER_LEN,
        entries: vec![file],
    };
    Ok(write_erofs(&merge_layers(&[scan])?, &[LAYER_LEN])?)
}
