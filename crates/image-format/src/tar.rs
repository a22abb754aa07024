//! What a layer's tar holds, found by one pass over its bytes.
//!
//! [`TarScanner`] is pushed the tar in pieces of any length and keeps what the headers say, and
//! *where* the data of each file lies, never the data itself.
//!
//! Dialects: Unix version 7, ustar, star, GNU (long names, numbers in base 256) and pax (names, sizes,
//! owners, times, `SCHILY.xattr.*`, GNU sparse files of the versions 0.0, 0.1 and 1.0). Global pax
//! headers are skipped. The judge in doubt is Go's `archive/tar` with containerd's `archive.Apply`:
//! what they refuse (old GNU sparse files, type `7`) is refused here.
//!
//! # Invariants
//!
//! 1. Memory grows with the headers, not with the data, and each kind of header has a limit.
//! 2. Each [`Segment`] lies within the tar, and its `tar_offset` is a multiple of 512 unless the
//!    file is sparse.
//! 3. The segments of a file are sorted, do not overlap, and lie within its size.
//!
//! # What is not here
//!
//! What an entry *means*: whiteouts, cleaned names and hard links are for [`crate::tree`].

mod error;
mod header;
mod number;
mod pax;
mod scanner;
mod sparse;
#[cfg(test)]
mod tests;

pub use error::{EntryName, ScanError, ScanErrorKind};
pub use scanner::TarScanner;

/// Length of a tar block, in bytes.
pub const TAR_BLOCK_LEN: u64 = 512;

/// What one layer's tar holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerScan {
    /// Length of the whole tar, in bytes, whatever follows its end marker included.
    pub tar_len: u64,
    /// The entries, in the order of the tar.
    pub entries: Vec<TarEntry>,
}

/// One entry of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarEntry {
    /// The name as the tar gives it: not cleaned, any bytes but NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, with set-user-ID, set-group-ID and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Timestamp,
    /// Extended attributes: names with their namespace, and values, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a tar entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Where its bytes lie.
        data: DataMap,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// What it points at, as written.
        target: Vec<u8>,
    },
    /// Another name of an entry of the same tar.
    HardLink {
        /// That entry's name, as written.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Its numbers.
        device: DeviceNumber,
    },
    /// A block device.
    BlockDevice {
        /// Its numbers.
        device: DeviceNumber,
    },
    /// A named pipe.
    Fifo,
}

/// The numbers of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The unit.
    pub minor: u32,
}

/// A point in time, as tar and EROFS keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanos: u32,
}

/// Where in the tar the bytes of a file lie. What no segment covers is zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataMap {
    /// Length of the file, in bytes.
    pub size: u64,
    /// Its parts, sorted, none of them empty.
    pub segments: Vec<Segment>,
}

/// A run of bytes that lie in the tar as they lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file, in bytes.
    pub file_offset: u64,
    /// Where it begins in the tar, in bytes.
    pub tar_offset: u64,
    /// Its length, in bytes; never 0.
    pub len: u64,
}

impl DataMap {
    /// The map of a file whose bytes lie together from `tar_offset` on.
    pub fn contiguous(tar_offset: u64, size: u64) -> Self {
        let whole = Segment {
            file_offset: 0,
            tar_offset,
            len: size,
        };
        Self {
            size,
            segments: if size == 0 { Vec::new() } else { vec![whole] },
        }
    }
}
