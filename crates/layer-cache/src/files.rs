//! How bytes reach the files of the cache, with a seam at which tests make each write fail.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// Which write of the crash story this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteStep {
    /// Verified bytes into the tar.
    Data,
    /// Bits into `present`, after their data.
    PresentBits,
    /// `fdatasync` of the tar, before `present.synced` is written.
    SyncData,
    /// A small file written under a temporary name, synced and renamed.
    Replace,
}

/// The writes of the cache. [`DirectWrites`] does them; tests put faults in between.
pub trait LayerWrites: Debug + Send + Sync {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// As `pwrite(2)`; some of the bytes may have been written.
    fn write_all_at(
        &self,
        step: WriteStep,
        file: &File,
        bytes: &[u8],
        offset: u64,
    ) -> io::Result<()> {
        let _: WriteStep = step;
        file.write_all_at(bytes, offset)
    }

    /// Waits until the file's data is on the disk.
    ///
    /// # Errors
    ///
    /// As `fdatasync(2)`.
    fn sync_data(&self, step: WriteStep, file: &File) -> io::Result<()> {
        let _: WriteStep = step;
        file.sync_data()
    }
}

/// Writes straight to the file.
#[derive(Debug, Clone, Copy, Default)]
pub struct DirectWrites;

impl LayerWrites for DirectWrites {}

/// How sure a replaced file must be after a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Gone or torn is found out and repaired, so nobody waits for the disk.
    PageCache,
    /// Old or new, never torn.
    Disk,
}

/// Replaces `path` by `bytes`: a temporary name in the same directory, then a rename.
pub(crate) fn replace_file(
    writes: &dyn LayerWrites,
    path: &Path,
    bytes: &[u8],
    durability: Durability,
) -> io::Result<()> {
    let temporary = with_suffix(path, ".new");
    let file = File::create(&temporary)?;
    writes.write_all_at(WriteStep::Replace, &file, bytes, 0)?;
    if durability == Durability::Disk {
        writes.sync_data(WriteStep::Replace, &file)?;
    }
    std::fs::rename(&temporary, path)?;
    match (durability, path.parent()) {
        (Durability::Disk, Some(parent)) => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Reads a file; `None` when it does not exist.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the lock that keeps an open layer from being removed. `false`: somebody removes it.
pub(crate) fn lock_shared(file: &File) -> io::Result<bool> {
    lock(file, FlockOperation::NonBlockingLockShared)
}

/// Takes the lock that a remover needs. `false`: somebody uses the layer.
pub(crate) fn lock_exclusive(file: &File) -> io::Result<bool> {
    lock(file, FlockOperation::NonBlockingLockExclusive)
}

fn lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// `path` with `suffix` behind its last component.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
