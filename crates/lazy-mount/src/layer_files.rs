//! What the FUSE directory shows: one flat directory of read-only files, one for each layer.
//!
//! # What is not here
//!
//! Where the bytes come from. `node` implements the port with `layer-cache` and `layer-fetch`.

use rustix::io::Errno;

/// One file of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEntry {
    /// Node id, at least 2. It stays the same in every worker that serves the directory.
    pub node: u64,
    /// Length of the file in bytes. It never changes while the directory is mounted.
    pub len: u64,
}

/// The files of the directory.
///
/// Called by many threads at once. Entries and attributes are cached by the kernel for ever, so a
/// file that was named once keeps its node and length.
pub trait LayerFiles: Send + Sync {
    /// Finds a file by its name; `None` says that there is no such file now.
    ///
    /// An absence is not remembered by the kernel: a later lookup asks again.
    fn lookup(&self, name: &[u8]) -> Option<FileEntry>;

    /// Finds a file by its node.
    fn attributes(&self, node: u64) -> Option<FileEntry>;

    /// Lists the names of all files with their nodes, in any order that stays the same.
    fn names(&self) -> Vec<(Vec<u8>, u64)>;

    /// Reads into the whole of `buffer`, which never reaches past the end of the file.
    ///
    /// May block for as long as it takes to get the bytes: it blocks only its own thread. May be
    /// called again for a range that a killed worker was reading.
    ///
    /// # Errors
    ///
    /// What the reader in the container shall see, as a rule [`Errno::IO`]. Returning fewer bytes
    /// than `buffer` holds counts as [`Errno::IO`] too, as the kernel would fill up with zeros.
    fn read(&self, node: u64, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno>;
}
