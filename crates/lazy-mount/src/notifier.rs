//! Telling the kernel what it should no longer remember about the directory.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use thiserror::Error;
use zerocopy::{Immutable, IntoBytes};

use crate::fuse_worker::write_whole;
use crate::protocol::{OutHeader, ROOT_NODE};

/// `FUSE_NOTIFY_INVAL_INODE` and `FUSE_NOTIFY_INVAL_ENTRY` of linux/fuse.h.
const INVALIDATE_DATA: i32 = 2;
const INVALIDATE_ENTRY: i32 = 3;

/// Sends notices to the kernel. A notice may block on a read in flight, so it is not to be sent by
/// whoever has to finish that read.
#[derive(Debug, Clone)]
pub struct Notifier {
    fuse: Arc<OwnedFd>,
}

impl Notifier {
    pub(crate) fn new(fuse: Arc<OwnedFd>) -> Self {
        Self { fuse }
    }

    /// Makes the kernel forget a name, after its file was removed.
    ///
    /// # Errors
    ///
    /// [`NotifyError`]. Success, if the kernel did not know the name.
    pub fn forget_name(&self, name: &[u8]) -> Result<(), NotifyError> {
        let too_long = |_| NotifyError(Errno::NAMETOOLONG);
        let notice = EntryNotice {
            parent: ROOT_NODE,
            name_len: u32::try_from(name.len()).map_err(too_long)?,
            flags: 0,
        };
        self.send(INVALIDATE_ENTRY, &[notice.as_bytes(), name, &[0]])
    }

    /// Makes the kernel drop the pages it holds of a file.
    ///
    /// # Errors
    ///
    /// [`NotifyError`]. Success, if the kernel did not know the file.
    pub fn forget_data(&self, node: u64) -> Result<(), NotifyError> {
        // A length of 0 or less means: to the end.
        self.send(
            INVALIDATE_DATA,
            &[DataNotice {
                node,
                offset: 0,
                len: 0,
            }
            .as_bytes()],
        )
    }

    fn send(&self, code: i32, body: &[&[u8]]) -> Result<(), NotifyError> {
        let body_len: usize = body.iter().map(|part| part.len()).sum();
        let len = u32::try_from(size_of::<OutHeader>() + body_len)
            .map_err(|_too_long| NotifyError(Errno::TOOBIG))?;
        // A notice is an answer to request 0, with its code in the place of the error.
        let header = OutHeader {
            len,
            error: code,
            unique: 0,
        };
        let mut parts = vec![IoSlice::new(header.as_bytes())];
        parts.extend(body.iter().map(|part| IoSlice::new(part)));
        match write_whole(&self.fuse, &parts) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(NotifyError(errno)),
        }
    }
}

/// The kernel did not take a notice.
#[derive(Debug, Error)]
#[error("the kernel did not take a notice about the FUSE directory")]
pub struct NotifyError(#[source] Errno);

/// `struct fuse_notify_inval_entry_out`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct EntryNotice {
    parent: u64,
    name_len: u32,
    flags: u32,
}

/// `struct fuse_notify_inval_inode_out`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct DataNotice {
    node: u64,
    offset: i64,
    len: i64,
}
