//! Mounting a root tree: EROFS metadata whose files point into the layers.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::MountAttrFlags;
use thiserror::Error;

use crate::fs_context::{FsContext, FsContextError};
use crate::loop_device::{AttachLoopError, LoopDevice};
use crate::read_ahead::{BdiNames, ReadAhead};

/// Block size of our root trees, and so the unit in which a device's length counts.
const BLOCK_LEN: u64 = 512;

/// How the kernel gets at the tree and the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Road {
    /// EROFS mounted from files, Linux 6.12 and later. The files must not lie on tmpfs or overlayfs.
    File,
    /// The same files through read-only loop devices, Linux 5.16 and later.
    Loop,
}

/// A mounted root tree. Dropping this does not unmount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErofsMount {
    /// Where it is mounted.
    pub target: PathBuf,
    /// The road it came by.
    pub road: Road,
    /// The read-ahead of the mount; `None` where it could not be told which it is (two EROFS
    /// filesystems were mounted from files in the same moment).
    pub read_ahead: Option<ReadAhead>,
}

/// Mounts the root tree in the file `tree` read-only at the directory `target`.
///
/// `devices` are the layers in the order of the tree's device table: plain files, or files of the FUSE
/// directory. Opening those asks the worker, so the caller must not be the only thread that answers.
/// The tree must have been checked: the kernel's parser is not the place to learn about mistakes.
///
/// # Errors
///
/// [`MountErofsError`]; nothing stays mounted or attached then.
pub fn mount_erofs(
    road: Road,
    tree: &Path,
    devices: &[PathBuf],
    target: &Path,
) -> Result<ErofsMount, MountErofsError> {
    let bdi_names = BdiNames::read();
    match road {
        Road::File => mount_sources(tree, devices.iter().map(PathBuf::as_path), target)?,
        Road::Loop => mount_through_loops(tree, devices, target)?,
    }
    Ok(ErofsMount {
        target: target.to_owned(),
        road,
        read_ahead: match road {
            Road::File => bdi_names.new_one("erofs-"),
            Road::Loop => ReadAhead::of_mount(target).ok(),
        },
    })
}

/// Why a root tree could not be mounted.
#[derive(Debug, Error)]
pub enum MountErofsError {
    /// A path could not be made absolute or looked at.
    #[error("{path} cannot be used as a device", path = path.display())]
    Device {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A loop device has whole blocks only; the last bytes of this file would be out of reach.
    #[error("{path} has {len} bytes, which is not a multiple of 512, so it cannot be a loop device", path = path.display())]
    PartialBlock {
        /// The path as given.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// No loop device could be had for a file.
    #[error("{path} cannot be attached to a loop device", path = path.display())]
    Loop {
        /// The path as given.
        path: PathBuf,
        /// Why.
        source: AttachLoopError,
    },
    /// The kernel refused the mount.
    #[error("the root tree {tree} cannot be mounted at {target}", tree = tree.display(), target = target.display())]
    Mount {
        /// The tree's file.
        tree: PathBuf,
        /// Where it should have been mounted.
        target: PathBuf,
        /// Why.
        source: FsContextError,
    },
}

fn mount_through_loops(
    tree: &Path,
    devices: &[PathBuf],
    target: &Path,
) -> Result<(), MountErofsError> {
    let tree_loop = attach(tree)?;
    let mut device_loops = Vec::with_capacity(devices.len());
    for device in devices {
        device_loops.push(attach(device)?);
    }
    // The loop devices clear themselves with their last user: on success that is the mount, on
    // failure these handles.
    mount_sources(
        tree_loop.path(),
        device_loops.iter().map(LoopDevice::path),
        target,
    )
}

fn attach(path: &Path) -> Result<LoopDevice, MountErofsError> {
    let refused = |source| MountErofsError::Device {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(refused)?;
    let len = file.metadata().map_err(refused)?.len();
    if !len.is_multiple_of(BLOCK_LEN) {
        return Err(MountErofsError::PartialBlock {
            path: path.to_owned(),
            len,
        });
    }
    LoopDevice::attach(&file).map_err(|source| MountErofsError::Loop {
        path: path.to_owned(),
        source,
    })
}

fn mount_sources<'a>(
    tree: &Path,
    devices: impl Iterator<Item = &'a Path>,
    target: &Path,
) -> Result<(), MountErofsError> {
    let refused = |source| MountErofsError::Mount {
        tree: tree.to_owned(),
        target: target.to_owned(),
        source,
    };
    let context = FsContext::open("erofs").map_err(refused)?;
    context
        .set_path("source", &absolute(tree)?)
        .map_err(refused)?;
    for device in devices {
        // Always named, even where the kernel would find the file itself: without `device=` it takes
        // all devices as one flat address space.
        context
            .set_path("device", &absolute(device)?)
            .map_err(refused)?;
    }
    context.set_flag("ro").map_err(refused)?;
    context
        .mount(MountAttrFlags::MOUNT_ATTR_RDONLY, target)
        .map_err(refused)
}

fn absolute(path: &Path) -> Result<PathBuf, MountErofsError> {
    std::path::absolute(path).map_err(|source| MountErofsError::Device {
        path: path.to_owned(),
        source,
    })
}
