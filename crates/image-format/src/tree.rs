//! The root filesystem that a stack of layers makes.
//!
//! [`merge_layers`] does in memory what containerd does on disk: it unpacks each layer into a directory of its
//! own and lays overlayfs over them. No byte of any file is touched; files keep the place of their data.
//!
//! # What a layer's entries mean
//!
//! 1. Names are cleaned lexically; `..` never leaves the root. Entries that name the root itself are ignored, as by
//!    containerd: the root is `0755 root:root` of time 0.
//! 2. A later entry of a layer replaces an earlier one of the same name, except a directory over a directory:
//!    that changes its attributes and keeps what is in it.
//! 3. A parent that no entry names keeps the attributes that the directory has in the layers below; where there is none it is
//!    `0755 root:root` of time 0, on every conversion.
//! 4. A parent that is a symbolic link *of the same layer* is followed, inside the root. One of a lower layer is
//!    replaced by a directory.
//! 5. `.wh.x` hides the `x` of the layers below, `.wh..wh..opq` everything that they have in its directory; what the same
//!    layer brings stays, whatever the order. Other names in `.wh..wh.` are ignored. A character device 0:0 is
//!    overlayfs' own mark for a whiteout, and is one here.
//! 6. A hard link's target is in the same layer. Its mode, owner, time and attributes are applied to the inode that it
//!    shares (the mode not to a symbolic link, which has none of its own).
//! 7. Times before 1970, and later than nanoseconds in 64 bits reach (the year 2262), become 0, as with containerd.
//! 8. Extended attributes are kept in `user.`, `security.`, `system.posix_acl_access` and
//!    `system.posix_acl_default`. `trusted.*` is dropped since containerd refuses to set it, other namespaces since Linux
//!    has no place for them, and `user.*` where Linux has none either: on anything but files and directories.
//!
//! # Invariants
//!
//! 1. Inode 0 is the root directory. Each other inode is in exactly one directory if it is one itself, and in
//!    `link_count` places otherwise.
//! 2. Equal scans give equal trees, inode by inode.
//!
//! # Where this differs from containerd
//!
//! In layers that hold both `.wh.x` and `x`: containerd fails or, if `x` is a directory, shows what the layers below have in
//! it. The image specification says that a whiteout hides the lower `x`, and so do we. And where an implied parent replaces
//! a symbolic link of a lower layer, containerd gives it the attributes of the directory that the link leads to; here
//! it is an implied directory as any other.

mod error;
mod layer;
mod merge;
mod path;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use error::{MergeError, MergeErrorKind};
pub use merge::merge_layers;

use crate::tar::{DataMap, DeviceNumber, Timestamp};

/// Longest name of a directory entry, in bytes: `NAME_MAX` of Linux and EROFS.
pub const NAME_LEN_MAX: usize = 255;

/// Longest target of a symbolic link, in bytes: `PATH_MAX` of Linux without the NUL.
pub const TARGET_LEN_MAX: usize = 4095;

/// Most layers of an image. Each costs a slot of the tree's device table and a file on a node.
pub const LAYERS_MAX: usize = 4096;

/// A merged root filesystem: all of its metadata, and where its files' bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootTree {
    inodes: Vec<Inode>,
    /// For each inode the directory that it was first found in; the root is its own.
    parents: Vec<InodeId>,
}

/// Names an inode within its [`RootTree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(u32);

/// One file, directory or other thing of a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: InodeKind,
    /// Mode, owner, time and extended attributes.
    pub attributes: Attributes,
    /// In how many places it is. For a directory: 2 and one for each directory in it.
    pub link_count: u32,
}

/// What any inode has, whatever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change, never before 1970.
    pub mtime: Timestamp,
    /// Extended attributes: name with namespace, and value.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InodeKind {
    /// A regular file.
    File {
        /// The layer that its bytes are in: 0 is the lowest.
        layer_index: u32,
        /// Where in that layer's tar they lie.
        data: DataMap,
    },
    /// A directory.
    Directory {
        /// What is in it, sorted by name.
        children: BTreeMap<Vec<u8>, InodeId>,
    },
    /// A symbolic link.
    Symlink {
        /// What it points at.
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

impl RootTree {
    /// The root directory.
    pub const ROOT: InodeId = InodeId(0);

    /// Returns an inode of this tree.
    ///
    /// # Panics
    ///
    /// If `id` comes from another tree with more inodes.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.index()]
    }

    /// How many inodes there are, the root included.
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// Returns what a directory holds, sorted by name; nothing for other inodes.
    pub fn children(&self, id: InodeId) -> impl Iterator<Item = (&[u8], InodeId)> {
        let children = match &self.inode(id).kind {
            InodeKind::Directory { children } => Some(children),
            InodeKind::File { .. }
            | InodeKind::Symlink { .. }
            | InodeKind::CharDevice { .. }
            | InodeKind::BlockDevice { .. }
            | InodeKind::Fifo => None,
        };
        children
            .into_iter()
            .flatten()
            .map(|(name, id)| (name.as_slice(), *id))
    }

    /// Returns all inodes, the root first, breadth first.
    pub fn inodes(&self) -> impl Iterator<Item = (InodeId, &Inode)> {
        (0..).map(InodeId).zip(&self.inodes)
    }

    /// Returns the directory that a directory is in; the root is its own parent.
    pub(crate) fn parent(&self, id: InodeId) -> InodeId {
        self.parents[id.index()]
    }

    /// Returns one of the paths of an inode, without a slash in front. Slow: for errors.
    pub fn path_of(&self, id: InodeId) -> Vec<u8> {
        let mut names = Vec::new();
        let mut current = id;
        while current != Self::ROOT {
            let parent = self.parent(current);
            let name = self.children(parent).find(|(_, child)| *child == current);
            names.push(name.map(|(name, _)| name.to_vec()).unwrap_or_default());
            current = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Finds what a path names, without following symbolic links.
    pub fn lookup(&self, path: &[u8]) -> Option<InodeId> {
        let mut names = path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty());
        names.try_fold(Self::ROOT, |parent, name| {
            self.children(parent)
                .find(|(known, _)| *known == name)
                .map(|(_, id)| id)
        })
    }
}

impl InodeId {
    /// The inode's place, 0 for the root, below [`RootTree::inode_count`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Attributes {
    /// What a directory has that no entry describes.
    pub(crate) fn implied_directory() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: BTreeMap::new(),
        }
    }
}
