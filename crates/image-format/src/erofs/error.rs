//! Why a root tree could not be written, or was not accepted.

use thiserror::Error;

use super::{FILE_CHUNKS_MAX, TREE_LEN_MAX};
use crate::tar::EntryName;

/// Why a merged tree could not be written as EROFS.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteTreeError {
    /// A sparse file has borders within a block, so its bytes cannot be mapped.
    #[error(
        "the sparse file {path} of layer {layer_index} has parts that do not begin and end at multiples of 512"
    )]
    UnalignedSparse {
        /// One of its names.
        path: EntryName,
        /// The layer that it is in.
        layer_index: u32,
    },
    /// A sparse file has too many parts of too different places.
    #[error(
        "the sparse file {path} of layer {layer_index} needs {count} EROFS chunks, the limit is {FILE_CHUNKS_MAX}"
    )]
    TooManyChunks {
        /// One of its names.
        path: EntryName,
        /// The layer that it is in.
        layer_index: u32,
        /// How many it needs.
        count: u64,
    },
    /// A file's data is not within the layer's tar.
    #[error("the data of {path} is not within layer {layer_index}")]
    DataOutsideLayer {
        /// One of its names.
        path: EntryName,
        /// The layer that it should be in.
        layer_index: u32,
    },
    /// A device number has more bits than Linux has for it.
    #[error("the device {path} has the number {major}:{minor}, which does not fit")]
    DeviceNumber {
        /// One of its names.
        path: EntryName,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A layer's tar is longer than 32 bits of blocks.
    #[error("layer {layer_index} is {tar_len} bytes long, the limit is 2 TiB")]
    LayerTooLong {
        /// The layer.
        layer_index: usize,
        /// Its length, in bytes.
        tar_len: u64,
    },
    /// There are more layers than device slots.
    #[error("the image has {0} layers, which is too many")]
    TooManyLayers(usize),
    /// The tree is over the limit.
    #[error("the root tree would be {0} bytes long, the limit is {TREE_LEN_MAX}")]
    TooLong(u64),
}

/// Why bytes are not accepted as a root tree.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TreeError {
    /// The length is not that of any root tree.
    #[error("the root tree is {0} bytes long, which none can be")]
    Length(u64),
    /// The superblock is not ours.
    #[error("the superblock's field {0} is not what a root tree has")]
    Superblock(&'static str),
    /// A device slot is not that of the image's layer.
    #[error("the device slot of layer {layer_index} does not describe that layer")]
    Device {
        /// The layer.
        layer_index: usize,
    },
    /// An inode is not usable.
    #[error("inode {nid} is not usable: {problem}")]
    Inode {
        /// Its number.
        nid: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// Two things of the tree lie in the same place.
    #[error("two things overlap at byte {0}")]
    Overlap(u64),
}
