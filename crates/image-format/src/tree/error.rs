//! Why layers could not be merged.

use thiserror::Error;

use super::{LAYERS_MAX, NAME_LEN_MAX, TARGET_LEN_MAX};
use crate::tar::EntryName;

/// Why layers could not be merged, and at which entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("entry {entry} of layer {layer_index} cannot be applied")]
pub struct MergeError {
    /// The layer: 0 is the lowest.
    pub layer_index: usize,
    /// Name of the entry.
    pub entry: EntryName,
    /// What is wrong with it.
    #[source]
    pub kind: MergeErrorKind,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeErrorKind {
    /// A component of its name is longer than Linux allows.
    #[error("a name in it is longer than {NAME_LEN_MAX} bytes")]
    NameTooLong,
    /// Its name as a whole, or the place that it leads to, is longer than Linux allows.
    #[error("its path is longer than 4095 bytes")]
    PathTooLong,
    /// A parent is something else than a directory, in this layer.
    #[error("its parent {} is not a directory", EntryName(.0.clone()))]
    ParentNotDirectory(Vec<u8>),
    /// Its parents lead through too many symbolic links.
    #[error("its path leads through too many symbolic links")]
    TooManySymlinks,
    /// A hard link's target is not in the same layer.
    #[error("its target {} is not in the same layer", EntryName(.0.clone()))]
    LinkTargetMissing(Vec<u8>),
    /// A hard link's target is a directory.
    #[error("its target {} is a directory", EntryName(.0.clone()))]
    LinkToDirectory(Vec<u8>),
    /// A symbolic link's target is empty or longer than Linux allows.
    #[error("its target has {0} bytes, it must have 1 to {TARGET_LEN_MAX}")]
    TargetLen(usize),
    /// Its extended attributes are longer than Linux or EROFS can hold.
    #[error("its extended attributes are too long")]
    XattrsTooLong,
    /// A whiteout that deletes nothing that can exist.
    #[error("it is a whiteout of no name")]
    WhiteoutOfNothing,
    /// The image has too many layers.
    #[error("the image has more than {LAYERS_MAX} layers")]
    TooManyLayers,
    /// The merged tree has too many inodes.
    #[error("the layers have more than 4294967295 entries")]
    TooManyInodes,
}
