//! A container's writable root: overlayfs over one EROFS mount.
//!
//! The upper and work directories must lie on one filesystem that can be an upper one: ext4, xfs, btrfs
//! and tmpfs can, overlayfs itself cannot (so not inside a container's own root without a volume).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::mount::MountAttrFlags;
use thiserror::Error;

use crate::fs_context::{FsContext, FsContextError};

/// The directories that an overlay is made of. All must exist.
#[derive(Debug, Clone, Copy)]
pub struct OverlayLayout<'a> {
    /// The read-only lower tree.
    pub lower: &'a Path,
    /// Where changes are kept.
    pub upper: &'a Path,
    /// An empty directory on the filesystem of `upper`, for overlayfs itself.
    pub work: &'a Path,
    /// Where the union is mounted.
    pub target: &'a Path,
}

/// Mounts `layout.upper` over `layout.lower` at `layout.target`, read-write.
///
/// # Errors
///
/// [`MountOverlayError`] with the kernel's reason.
pub fn mount_overlay(layout: OverlayLayout<'_>) -> Result<(), MountOverlayError> {
    try_mount(layout).map_err(|source| MountOverlayError {
        upper: layout.upper.to_owned(),
        target: layout.target.to_owned(),
        source,
    })
}

/// The kernel did not make an overlay.
#[derive(Debug, Error)]
#[error("no overlay of {upper} can be mounted at {target}", upper = upper.display(), target = target.display())]
pub struct MountOverlayError {
    /// The upper directory.
    pub upper: PathBuf,
    /// Where it should have been mounted.
    pub target: PathBuf,
    /// Why.
    pub source: FsContextError,
}

fn try_mount(layout: OverlayLayout<'_>) -> Result<(), FsContextError> {
    let context = FsContext::open("overlay")?;
    context.set_path("source", Path::new("overlay"))?;
    context.set_path("lowerdir", &escaped(layout.lower))?;
    context.set_path("upperdir", &escaped(layout.upper))?;
    context.set_path("workdir", &escaped(layout.work))?;
    context.mount(MountAttrFlags::empty(), layout.target)
}

/// overlayfs separates lower directories by colons and takes a backslash as an escape.
fn escaped(path: &Path) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.as_os_str().len());
    for byte in path.as_os_str().as_bytes() {
        if matches!(byte, b':' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_and_backslashes_are_escaped() {
        assert_eq!(escaped(Path::new("/a:b\\c d")), Path::new("/a\\:b\\\\c d"));
    }
}
