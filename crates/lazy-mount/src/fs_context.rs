//! A filesystem in the making: fsopen, fsconfig, fsmount, `move_mount`, with the kernel's own words on failure.
//!
//! mount(2) takes one page of options, which is about 60 to 100 `device=` paths. This way takes any number.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};
use thiserror::Error;

/// Most messages that are read back after a failure. The kernel keeps 8.
const MESSAGES_MAX: usize = 8;

/// A filesystem that is being configured.
#[derive(Debug)]
pub(crate) struct FsContext {
    fs_type: &'static str,
    fd: OwnedFd,
}

impl FsContext {
    /// Begins a filesystem of this type.
    pub(crate) fn open(fs_type: &'static str) -> Result<Self, FsContextError> {
        match fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(fd) => Ok(Self { fs_type, fd }),
            Err(Errno::NODEV) => Err(FsContextError::UnknownType { fs_type }),
            Err(source) => Err(FsContextError::Step {
                fs_type,
                step: "fsopen".to_owned(),
                messages: String::new(),
                source,
            }),
        }
    }

    /// Sets an option without a value.
    pub(crate) fn set_flag(&self, key: &str) -> Result<(), FsContextError> {
        fsconfig_set_flag(&self.fd, key).map_err(|source| self.refused(key.to_owned(), source))
    }

    /// Sets (or, for some keys, appends) an option with a value.
    pub(crate) fn set_path(&self, key: &str, value: &Path) -> Result<(), FsContextError> {
        fsconfig_set_string(&self.fd, key, value)
            .map_err(|source| self.refused(format!("{key}={}", value.display()), source))
    }

    /// Makes the filesystem and attaches it at `target`.
    pub(crate) fn mount(
        self,
        attributes: MountAttrFlags,
        target: &Path,
    ) -> Result<(), FsContextError> {
        fsconfig_create(&self.fd)
            .map_err(|source| self.refused("create the filesystem".to_owned(), source))?;
        let mount = fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|source| self.refused("fsmount".to_owned(), source))?;
        move_mount(
            &mount,
            "",
            CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .map_err(|source| FsContextError::Attach {
            target: target.to_owned(),
            source,
        })
    }

    fn refused(&self, step: String, source: Errno) -> FsContextError {
        FsContextError::Step {
            fs_type: self.fs_type,
            step,
            messages: self.messages(),
            source,
        }
    }

    /// What the kernel has to say, each message ": "-prefixed so that it can be appended.
    fn messages(&self) -> String {
        let mut text = String::new();
        let mut buffer = [0_u8; 1024];
        for _ in 0..MESSAGES_MAX {
            let Ok(len) = rustix::io::read(&self.fd, &mut buffer) else {
                break;
            };
            let message = String::from_utf8_lossy(&buffer[..len]);
            text.push_str(": ");
            text.push_str(
                message
                    .trim_end()
                    .trim_start_matches(['e', 'w', 'i'])
                    .trim_start(),
            );
        }
        text
    }
}

/// Why a filesystem could not be mounted.
#[derive(Debug, Error)]
pub enum FsContextError {
    /// The kernel has no such filesystem.
    #[error("this kernel has no filesystem {fs_type:?}")]
    UnknownType {
        /// Type of the filesystem.
        fs_type: &'static str,
    },
    /// The kernel refused a step.
    #[error("{fs_type} refused {step:?}{messages}")]
    Step {
        /// Type of the filesystem.
        fs_type: &'static str,
        /// The option or the action.
        step: String,
        /// What the kernel said beside the error's number; empty as a rule.
        messages: String,
        /// The error's number.
        source: Errno,
    },
    /// It was made but could not be attached.
    #[error("the new mount could not be attached at {target}", target = target.display())]
    Attach {
        /// Where it should have been.
        target: PathBuf,
        /// What the kernel said.
        source: Errno,
    },
}
