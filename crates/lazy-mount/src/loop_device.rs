//! Read-only loop devices that clear themselves with their last user.
//!
//! A machine may have eight device nodes and a `/dev` that makes no more by itself: then the node is
//! made here, and removed again once nobody needs its name (the mount keeps the device, not the name).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Setter, ioctl};
use thiserror::Error;

/// Major number of loop devices (Documentation/admin-guide/devices.txt).
const LOOP_MAJOR: u32 = 7;
/// `LOOP_CONFIGURE` and `LOOP_CTL_GET_FREE` of linux/loop.h.
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;
/// `LO_FLAGS_…` of linux/loop.h.
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// The block size of our root trees: the device must not round its length down any further.
const BLOCK_LEN: u32 = 512;
/// How often another process may snatch the free device from us before we give up.
const ATTEMPTS_MAX: usize = 64;

/// A file attached to a loop device. Once this is dropped and no mount uses it, it is free again.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    path: PathBuf,
    _device: File,
    _node: Option<OwnNode>,
}

impl LoopDevice {
    /// Attaches `backing` to a free loop device, with direct I/O where the file can do it.
    pub(crate) fn attach(backing: &File) -> Result<Self, AttachLoopError> {
        Self::attach_in(Path::new("/dev"), backing)
    }

    fn attach_in(nodes: &Path, backing: &File) -> Result<Self, AttachLoopError> {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/loop-control")
            .map_err(AttachLoopError::Control)?;
        for _ in 0..ATTEMPTS_MAX {
            // JUSTIFICATION: the number of the free device is the return value of an ioctl.
            // SAFETY: LOOP_CTL_GET_FREE takes no argument and touches no memory of ours.
            let number = unsafe { ioctl(&control, GetFree) }.map_err(AttachLoopError::NoneFree)?;
            let (path, device, node) = open_node(nodes, number)?;
            match configure(&device, backing) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        _device: device,
                        _node: node,
                    });
                }
                Err(Errno::BUSY) => {}
                Err(source) => return Err(AttachLoopError::Configure { path, source }),
            }
        }
        Err(AttachLoopError::Contended)
    }

    /// The device's node.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Why a file could not be attached to a loop device.
#[derive(Debug, Error)]
pub enum AttachLoopError {
    /// There are no loop devices here, or no right to use them.
    #[error("/dev/loop-control cannot be opened")]
    Control(#[source] io::Error),
    /// The kernel has no free device and makes no more.
    #[error("the kernel has no free loop device")]
    NoneFree(#[source] Errno),
    /// The device has no node and it could not be made.
    #[error("the device node {path} cannot be made", path = path.display())]
    MakeNode {
        /// The node.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// The device could not be opened.
    #[error("{path} cannot be opened", path = path.display())]
    Open {
        /// The node.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The device does not take the file.
    #[error("{path} does not take the file", path = path.display())]
    Configure {
        /// The node.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// Each free device was taken by somebody else before we could.
    #[error("other processes took every free loop device first, {ATTEMPTS_MAX} times")]
    Contended,
}

/// A device node that was made here.
#[derive(Debug)]
struct OwnNode(PathBuf);

impl Drop for OwnNode {
    fn drop(&mut self) {
        // Whoever raced for the same number has it open by now, or makes it anew.
        drop(std::fs::remove_file(&self.0));
    }
}

fn open_node(
    nodes: &Path,
    number: u32,
) -> Result<(PathBuf, File, Option<OwnNode>), AttachLoopError> {
    let path = nodes.join(format!("loop{number}"));
    let mut node = None;
    loop {
        match File::open(&path) {
            Ok(device) => return Ok((path, device, node)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && node.is_none() => {
                let device = makedev(LOOP_MAJOR, number);
                match mknodat(
                    CWD,
                    &path,
                    FileType::BlockDevice,
                    Mode::from_raw_mode(0o600),
                    device,
                ) {
                    Ok(()) => node = Some(OwnNode(path.clone())),
                    // Somebody else made it meanwhile: theirs to remove.
                    Err(Errno::EXIST) => {}
                    Err(source) => return Err(AttachLoopError::MakeNode { path, source }),
                }
            }
            Err(source) => return Err(AttachLoopError::Open { path, source }),
        }
    }
}

fn configure(device: &File, backing: &File) -> Result<(), Errno> {
    // Direct I/O spares one of the two copies in the page cache. Files that cannot do it, or whose
    // disk has larger sectors, are refused by some kernels and quietly buffered by others.
    match configure_with(device, backing, READ_ONLY | AUTOCLEAR | DIRECT_IO) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => {
            configure_with(device, backing, READ_ONLY | AUTOCLEAR)
        }
        outcome => outcome,
    }
}

fn configure_with(device: &File, backing: &File, flags: u32) -> Result<(), Errno> {
    let config = LoopConfig {
        fd: backing.as_raw_fd().cast_unsigned(),
        block_len: BLOCK_LEN,
        info: LoopInfo {
            flags,
            ..LoopInfo::ZERO
        },
        reserved: [0; 8],
    };
    // JUSTIFICATION: loop devices are configured by ioctl only; rustix has no call for it.
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, which `LoopConfig` lays out as linux/loop.h does.
    unsafe { ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_len: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64` of linux/loop.h.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

const _: () = assert!(size_of::<LoopInfo>() == 232);
const _: () = assert!(size_of::<LoopConfig>() == 304);

impl LoopInfo {
    const ZERO: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `LOOP_CTL_GET_FREE`: its answer is the return value.
struct GetFree;

// JUSTIFICATION: rustix's ready-made patterns throw the return value away.
// SAFETY: the opcode takes no pointer, so there is nothing to be valid.
unsafe impl Ioctl for GetFree {
    type Output = u32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        LOOP_CTL_GET_FREE
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(
        answer: IoctlOutput,
        _extract: *mut rustix::ffi::c_void,
    ) -> rustix::io::Result<Self::Output> {
        u32::try_from(answer).map_err(|_negative| Errno::NODEV)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root and loop devices"]
    fn privileged_a_missing_node_is_made_and_removed_again() {
        let nodes = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut backing = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut backing, &[7; 8192]).unwrap();
        let devices: Vec<_> = (0..12)
            .map(|_| LoopDevice::attach_in(nodes.path(), &backing).unwrap())
            .collect();
        for device in &devices {
            assert!(device.path().starts_with(nodes.path()));
            assert_eq!(std::fs::read(device.path()).unwrap(), [7; 8192]);
        }
        drop(devices);
        assert_eq!(std::fs::read_dir(nodes.path()).unwrap().count(), 0);
    }
}
