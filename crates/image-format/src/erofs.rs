//! The root tree on disk: an EROFS image that holds only metadata.
//!
//! ```text
//! byte 0      zeros
//!      1024   superblock, 128 bytes
//!      1152   device slots, 128 bytes for each layer, the lowest first
//!      …      inodes, breadth first from the root; each is 64 bytes, then its extended attributes, then
//!             the indexes of its EROFS chunks (a file) or the tail of its data (a directory, a symlink)
//!      …      whole blocks of directories and symlinks that did not fit behind their inodes
//! ```
//!
//! Blocks are 512 bytes, as those of a tar. A file's EROFS chunk index says: device (layer) and start block, so
//! the bytes of a file are where the layer's tar has them. A file that lies in one piece has one index,
//! whatever its length.
//!
//! # Invariants
//!
//! 1. Equal trees give equal images, byte by byte.
//! 2. [`ErofsTree::parse`] refuses whatever [`write_erofs`] would not have written and the kernel would have to
//!    make sense of: other features, anything out of bounds, loops, things that overlap, data outside the tars.
//! 3. Parsing takes work in proportion to the image's length, and no bytes make it panic.
//!
//! # What is not here
//!
//! Mounting (`lazy-mount`), and the contents of files: those are in the layers.

mod chunks;
mod directory;
mod error;
mod format;
mod reader;
#[cfg(test)]
mod tests;
mod validate;
mod writer;
mod xattr;

pub use error::{TreeError, WriteTreeError};
pub use format::FileType;
pub use reader::{DirEntry, ErofsTree, Extent, Nid, NodeInode};
pub use writer::write_erofs;

/// Length of a block of the root tree, in bytes: that of a tar's block.
pub const EROFS_BLOCK_LEN: u64 = 512;

/// Longest root tree, in bytes. The tree of 60,000 inodes is 8 MB long.
pub const TREE_LEN_MAX: u64 = 1 << 30;

/// Most EROFS chunks of one file. Only sparse files have more than one.
pub const FILE_CHUNKS_MAX: u64 = 1 << 20;
