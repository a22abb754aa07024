//! One layer, unpacked by itself: what containerd would write into the layer's own directory.

use std::collections::{BTreeMap, BTreeSet};

use super::path::{Marker, clean};
use super::{Attributes, InodeKind, MergeErrorKind, NAME_LEN_MAX, TARGET_LEN_MAX};
use crate::tar::{DeviceNumber, EntryKind, TarEntry, Timestamp};

/// Most symbolic links that one path may lead through: Linux' own limit.
const SYMLINKS_MAX: usize = 40;

/// Longest path, in bytes: `PATH_MAX` of Linux without the NUL.
const PATH_LEN_MAX: usize = 4095;

/// Most components that are looked at for one path. Two bytes for each fill the longest path.
const STEPS_MAX: usize = PATH_LEN_MAX.div_ceil(2);

/// Most bytes of extended attributes of one inode. EROFS counts them in 16 bits of 4 bytes each;
/// Linux lists at most 64 KiB of names.
const XATTRS_LEN_MAX: usize = 255 << 10;

/// Longest value of an extended attribute, in bytes: EROFS has 16 bits for it.
const XATTR_VALUE_LEN_MAX: usize = 65_535;

/// The last point in time that 64 bits of nanoseconds reach.
const MTIME_MAX: Timestamp = Timestamp {
    seconds: i64::MAX / 1_000_000_000,
    nanos: 854_775_807,
};

/// One layer's own directory. Node 0 is its root.
#[derive(Debug)]
pub(super) struct LayerTree {
    pub(super) nodes: Vec<LayerNode>,
}

/// Index of a node within its layer.
pub(super) type NodeIndex = usize;

const ROOT: NodeIndex = 0;

#[derive(Debug)]
pub(super) enum LayerNode {
    Directory(LayerDirectory),
    /// Anything that is not a directory; `kind` never is one.
    Leaf {
        kind: InodeKind,
        attributes: Attributes,
    },
}

#[derive(Debug, Default)]
pub(super) struct LayerDirectory {
    /// `None` when the directory is only implied by what is in it.
    pub(super) attributes: Option<Attributes>,
    pub(super) children: BTreeMap<Vec<u8>, NodeIndex>,
    /// Names that are hidden in the layers below.
    pub(super) whiteouts: BTreeSet<Vec<u8>>,
    /// Hides everything that the layers below have here.
    pub(super) is_opaque: bool,
}

impl LayerTree {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![LayerNode::Directory(LayerDirectory::default())],
        }
    }

    /// Applies the next entry of the layer's tar.
    pub(super) fn apply(
        &mut self,
        entry: &TarEntry,
        layer_index: u32,
    ) -> Result<(), MergeErrorKind> {
        let components = clean(&entry.path);
        check_lengths(&components)?;
        let Some((name, parents)) = components.split_last() else {
            return Ok(());
        };
        if components
            .iter()
            .any(|component| Marker::of(component) == Marker::Ignored)
        {
            return Ok(());
        }
        let parent = self.make_directory(parents)?;
        match Marker::of(name) {
            Marker::Opaque => self.directory_mut(parent).is_opaque = true,
            Marker::Whiteout(b"" | b"." | b"..") => return Err(MergeErrorKind::WhiteoutOfNothing),
            Marker::Whiteout(hidden) => {
                self.directory_mut(parent).whiteouts.insert(hidden.to_vec());
            }
            Marker::None | Marker::Ignored => self.put(parent, name, entry, layer_index)?,
        }
        Ok(())
    }

    fn put(
        &mut self,
        parent: NodeIndex,
        name: &[u8],
        entry: &TarEntry,
        layer_index: u32,
    ) -> Result<(), MergeErrorKind> {
        let existing = self.child(parent, name);
        let kind = match &entry.kind {
            EntryKind::Directory => return self.put_directory(parent, name, existing, entry),
            EntryKind::HardLink { target } => return self.put_link(parent, name, target, entry),
            EntryKind::File { data } => InodeKind::File {
                layer_index,
                data: data.clone(),
            },
            EntryKind::Symlink { target } => InodeKind::Symlink {
                target: checked_target(target)?,
            },
            EntryKind::CharDevice {
                device: DeviceNumber { major: 0, minor: 0 },
            } => {
                let directory = self.directory_mut(parent);
                directory.children.remove(name);
                directory.whiteouts.insert(name.to_vec());
                return Ok(());
            }
            EntryKind::CharDevice { device } => InodeKind::CharDevice { device: *device },
            EntryKind::BlockDevice { device } => InodeKind::BlockDevice { device: *device },
            EntryKind::Fifo => InodeKind::Fifo,
        };
        let mut attributes = attributes_of(entry);
        if matches!(kind, InodeKind::Symlink { .. }) {
            attributes.mode = 0o777;
        }
        attributes.xattrs = kept_xattrs(entry, user_xattrs(&kind))?;
        self.add_child(parent, name, LayerNode::Leaf { kind, attributes });
        Ok(())
    }

    fn put_directory(
        &mut self,
        parent: NodeIndex,
        name: &[u8],
        existing: Option<NodeIndex>,
        entry: &TarEntry,
    ) -> Result<(), MergeErrorKind> {
        let mut attributes = attributes_of(entry);
        let xattrs = kept_xattrs(entry, UserXattrs::Kept)?;
        if let Some(LayerNode::Directory(directory)) = existing.map(|node| &mut self.nodes[node]) {
            // Attributes are only ever set, never taken away, when a directory is unpacked again.
            let earlier = directory.attributes.take();
            attributes.xattrs = earlier.map(|earlier| earlier.xattrs).unwrap_or_default();
            attributes.xattrs.extend(xattrs);
            check_xattrs_len(&attributes.xattrs)?;
            directory.attributes = Some(attributes);
            return Ok(());
        }
        attributes.xattrs = xattrs;
        let directory = LayerDirectory {
            attributes: Some(attributes),
            ..LayerDirectory::default()
        };
        self.add_child(parent, name, LayerNode::Directory(directory));
        Ok(())
    }

    fn put_link(
        &mut self,
        parent: NodeIndex,
        name: &[u8],
        target: &[u8],
        entry: &TarEntry,
    ) -> Result<(), MergeErrorKind> {
        // What had the name goes first, as on disk: a link to itself finds nothing.
        self.directory_mut(parent).children.remove(name);
        let missing = || MergeErrorKind::LinkTargetMissing(target.to_vec());
        let components = clean(target);
        let (target_name, target_parents) = components.split_last().ok_or_else(missing)?;
        let target_parent = self
            .resolve(target_parents)?
            .existing()
            .ok_or_else(missing)?;
        let node = self.child(target_parent, target_name).ok_or_else(missing)?;
        let LayerNode::Leaf { kind, attributes } = &mut self.nodes[node] else {
            return Err(MergeErrorKind::LinkToDirectory(target.to_vec()));
        };
        let xattrs = kept_xattrs(entry, user_xattrs(kind))?;
        attributes.xattrs.extend(xattrs);
        check_xattrs_len(&attributes.xattrs)?;
        (attributes.uid, attributes.gid) = (entry.uid, entry.gid);
        if !matches!(kind, InodeKind::Symlink { .. }) {
            attributes.mode = entry.mode;
        }
        attributes.mtime = bounded(entry.mtime);
        self.directory_mut(parent)
            .children
            .insert(name.to_vec(), node);
        Ok(())
    }

    /// Finds the directory that `components` lead to, and makes what is missing of it.
    fn make_directory(&mut self, components: &[&[u8]]) -> Result<NodeIndex, MergeErrorKind> {
        let place = self.resolve(components)?;
        let mut node = place.nodes.last().copied().unwrap_or(ROOT);
        for name in place.missing {
            node = self.add_child(node, &name, LayerNode::Directory(LayerDirectory::default()));
        }
        Ok(node)
    }

    /// Walks `components` from the root, through symbolic links of this layer, without leaving it.
    fn resolve(&self, components: &[&[u8]]) -> Result<Place, MergeErrorKind> {
        let mut place = Place::root();
        // What is still to walk, the next one last.
        let mut ahead: Vec<&[u8]> = components.iter().rev().copied().collect();
        let (mut steps, mut symlinks) = (0, 0);
        while let Some(name) = ahead.pop() {
            steps += 1;
            if steps > STEPS_MAX {
                return Err(MergeErrorKind::PathTooLong);
            }
            if name == b".." {
                place.leave();
                continue;
            }
            let known = place.existing().and_then(|node| self.child(node, name));
            let Some(node) = known else {
                // A symbolic link's target may hold what an entry's name may not.
                if name.len() > NAME_LEN_MAX {
                    return Err(MergeErrorKind::NameTooLong);
                }
                place.missing.push(name.to_vec());
                continue;
            };
            match &self.nodes[node] {
                LayerNode::Directory(_) => place.nodes.push(node),
                LayerNode::Leaf {
                    kind: InodeKind::Symlink { target },
                    ..
                } => {
                    symlinks += 1;
                    if symlinks > SYMLINKS_MAX {
                        return Err(MergeErrorKind::TooManySymlinks);
                    }
                    if target.starts_with(b"/") {
                        place = Place::root();
                    }
                    ahead.extend(target.split(|byte| *byte == b'/').rev().filter(is_step));
                }
                LayerNode::Leaf { .. } => {
                    return Err(MergeErrorKind::ParentNotDirectory(name.to_vec()));
                }
            }
        }
        Ok(place)
    }

    fn child(&self, parent: NodeIndex, name: &[u8]) -> Option<NodeIndex> {
        match &self.nodes[parent] {
            LayerNode::Directory(directory) => directory.children.get(name).copied(),
            LayerNode::Leaf { .. } => None,
        }
    }

    fn add_child(&mut self, parent: NodeIndex, name: &[u8], node: LayerNode) -> NodeIndex {
        let index = self.nodes.len();
        self.nodes.push(node);
        self.directory_mut(parent)
            .children
            .insert(name.to_vec(), index);
        index
    }

    fn directory_mut(&mut self, node: NodeIndex) -> &mut LayerDirectory {
        match &mut self.nodes[node] {
            LayerNode::Directory(directory) => directory,
            LayerNode::Leaf { .. } => unreachable!("only directories are resolved to"),
        }
    }
}

/// Where a path leads: existing directories from the root on, then names that do not exist yet.
#[derive(Debug)]
struct Place {
    /// Never empty: the root is the first.
    nodes: Vec<NodeIndex>,
    missing: Vec<Vec<u8>>,
}

impl Place {
    fn root() -> Self {
        Self {
            nodes: vec![ROOT],
            missing: Vec::new(),
        }
    }

    /// The directory itself, if all of it exists.
    fn existing(&self) -> Option<NodeIndex> {
        self.nodes
            .last()
            .copied()
            .filter(|_| self.missing.is_empty())
    }

    /// Goes to the parent; the root is its own.
    fn leave(&mut self) {
        if self.missing.pop().is_none() && self.nodes.len() > 1 {
            self.nodes.pop();
        }
    }
}

fn is_step(name: &&[u8]) -> bool {
    !matches!(*name, b"" | b".")
}

fn check_lengths(components: &[&[u8]]) -> Result<(), MergeErrorKind> {
    if components.iter().any(|name| name.len() > NAME_LEN_MAX) {
        return Err(MergeErrorKind::NameTooLong);
    }
    let len: usize = components.iter().map(|name| name.len() + 1).sum();
    if len > PATH_LEN_MAX {
        return Err(MergeErrorKind::PathTooLong);
    }
    Ok(())
}

fn checked_target(target: &[u8]) -> Result<Vec<u8>, MergeErrorKind> {
    if (1..=TARGET_LEN_MAX).contains(&target.len()) {
        return Ok(target.to_vec());
    }
    Err(MergeErrorKind::TargetLen(target.len()))
}

/// All of an entry's attributes but the extended ones.
fn attributes_of(entry: &TarEntry) -> Attributes {
    Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: bounded(entry.mtime),
        xattrs: BTreeMap::new(),
    }
}

fn bounded(mtime: Timestamp) -> Timestamp {
    if mtime < Timestamp::default() || mtime > MTIME_MAX {
        return Timestamp::default();
    }
    mtime
}

/// What becomes of `user.*` attributes: Linux has them only on files and directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UserXattrs {
    Kept,
    Dropped,
}

fn user_xattrs(kind: &InodeKind) -> UserXattrs {
    match kind {
        InodeKind::File { .. } | InodeKind::Directory { .. } => UserXattrs::Kept,
        InodeKind::Symlink { .. }
        | InodeKind::CharDevice { .. }
        | InodeKind::BlockDevice { .. }
        | InodeKind::Fifo => UserXattrs::Dropped,
    }
}

fn kept_xattrs(
    entry: &TarEntry,
    user: UserXattrs,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, MergeErrorKind> {
    let mut kept = BTreeMap::new();
    for (name, value) in &entry.xattrs {
        let is_kept = match name.as_slice() {
            b"system.posix_acl_access" | b"system.posix_acl_default" => true,
            name => {
                let is_user = name.len() > 5 && name.starts_with(b"user.");
                let is_security = name.len() > 9 && name.starts_with(b"security.");
                is_security || (is_user && user == UserXattrs::Kept)
            }
        };
        if !is_kept {
            continue;
        }
        if name.len() > NAME_LEN_MAX || value.len() > XATTR_VALUE_LEN_MAX {
            return Err(MergeErrorKind::XattrsTooLong);
        }
        kept.insert(name.clone(), value.clone());
    }
    check_xattrs_len(&kept)?;
    Ok(kept)
}

fn check_xattrs_len(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), MergeErrorKind> {
    // Eight bytes for each: four in front, and at most three to fill up.
    let len: usize = xattrs
        .iter()
        .map(|(name, value)| name.len() + value.len() + 8)
        .sum();
    if len > XATTRS_LEN_MAX {
        return Err(MergeErrorKind::XattrsTooLong);
    }
    Ok(())
}
