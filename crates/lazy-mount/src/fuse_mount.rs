//! Mounting the FUSE directory.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use thiserror::Error;

use crate::protocol::READ_LEN_MAX;

/// Opens the FUSE device and mounts an empty-looking directory at `target`; whoever reads the device
/// from now on decides what is in it.
pub(crate) fn mount_fuse(device: &Path, target: &Path) -> Result<OwnedFd, MountFuseError> {
    let fuse: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .map_err(|source| MountFuseError::Device {
            device: device.to_owned(),
            source,
        })?;
    let options = format!(
        "fd={fd},rootmode=40555,user_id=0,group_id=0,allow_other,default_permissions,max_read={READ_LEN_MAX}",
        fd = fuse.as_raw_fd(),
    );
    let options = CString::new(options).unwrap_or_default();
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    mount("slipway", target, "fuse.slipway", flags, options.as_c_str()).map_err(|source| {
        MountFuseError::Mount {
            target: target.to_owned(),
            source,
        }
    })?;
    Ok(fuse.into())
}

/// Why there is no FUSE directory.
#[derive(Debug, Error)]
pub enum MountFuseError {
    /// The device is missing or not ours to open.
    #[error("the FUSE device {device} cannot be opened; lazy loading needs a kernel with FUSE and the right to use it", device = device.display())]
    Device {
        /// The device.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused the mount.
    #[error("the FUSE directory cannot be mounted at {target}", target = target.display())]
    Mount {
        /// Where it should have been mounted.
        target: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
}
