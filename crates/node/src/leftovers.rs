//! Mounts of images that outlive their node.
//!
//! An image's tree reads its layers through the FUSE directory. When nobody serves that any more
//! and nobody can take it over, the tree is dead: the next node must mount a new one in its place.

use std::{fs, path::PathBuf};

use lazy_mount::{Unmount, is_mounted, unmount};
use tracing::warn;

use crate::{container::sweep, directories::NodeDirectories};

/// Takes the trees out whose FUSE directory a dead node left behind. To be called before the
/// directory is served again.
pub fn detach_dead_images(directories: &NodeDirectories) {
    let files = directories.files();
    // A worker that outlived its keeper answers this; its keeper's successor takes it over.
    let is_served = is_mounted(&files).unwrap_or(true) && fs::metadata(&files).is_ok();
    if !is_served {
        detach_images(directories);
    }
}

/// Takes all trees out: containers that still use one keep it, without data that is not in memory.
pub fn detach_images(directories: &NodeDirectories) {
    if let Err(error) = sweep(directories) {
        warn!(%error, "directories of containers that ended not removed");
    }
    for target in mounted_images(directories) {
        if let Err(error) = unmount(&target, Unmount::Lazy) {
            warn!(target = %target.display(), %error, "image not unmounted");
        }
    }
}

fn mounted_images(directories: &NodeDirectories) -> Vec<PathBuf> {
    let entries = fs::read_dir(directories.images());
    let roots = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("root"));
    roots
        .filter(|root| is_mounted(root).unwrap_or(false))
        .collect()
}
