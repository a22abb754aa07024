//! A disk that is soon full.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::program::run;

/// A small filesystem of its own, unmounted when dropped.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    directory: TempDir,
    target: PathBuf,
}

impl SmallDisk {
    /// A filesystem in memory. EROFS does not mount files that are on it.
    pub(crate) fn tmpfs(mib: u64) -> Self {
        let disk = Self::unmounted();
        let options = std::ffi::CString::new(format!("size={mib}m")).unwrap();
        mount(
            "tmpfs",
            &disk.target,
            "tmpfs",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .unwrap();
        disk
    }

    /// An ext4 in a file, through a loop device.
    pub(crate) fn ext4(mib: u64) -> Self {
        let disk = Self::unmounted();
        let file = disk.directory.path().join("disk.ext4");
        File::create(&file).unwrap().set_len(mib << 20).unwrap();
        let file = file.to_str().unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", file]).expect_success();
        let target = disk.target.to_str().unwrap();
        run("mount", &["-o", "loop", file, target]).expect_success();
        disk
    }

    fn unmounted() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("slipway-disk-")
            .tempdir_in("/var/tmp")
            .unwrap();
        let target = directory.path().join("mounted");
        fs::create_dir(&target).unwrap();
        Self { directory, target }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.target
    }

    /// Bytes that can still be written.
    pub(crate) fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.target).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Fills it until only `left` bytes can be written. The file can be removed to make room again.
    pub(crate) fn fill(&self, left: u64) -> PathBuf {
        let filler = self.target.join("filler");
        let len = self.free_bytes().saturating_sub(left);
        let file = File::create(&filler).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len).unwrap();
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = unmount(&self.target, UnmountFlags::DETACH);
        if !std::thread::panicking() {
            unmounted.unwrap();
        }
    }
}
