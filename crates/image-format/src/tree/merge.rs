//! Layers laid over each other, the way overlayfs does it.

use std::collections::BTreeMap;

use super::layer::{LayerDirectory, LayerNode, LayerTree, NodeIndex};
use super::{
    Attributes, Inode, InodeId, InodeKind, LAYERS_MAX, MergeError, MergeErrorKind, RootTree,
};
use crate::tar::{EntryName, LayerScan};

/// Merges the layers of an image, lowest first, into its root filesystem.
///
/// # Errors
///
/// [`MergeError`] with the entry that cannot be applied.
pub fn merge_layers(layers: &[LayerScan]) -> Result<RootTree, MergeError> {
    let mut merged = Merged::new();
    for (layer_index, layer) in layers.iter().enumerate() {
        let error = |entry: &[u8], kind| MergeError {
            layer_index,
            entry: EntryName(entry.to_vec()),
            kind,
        };
        if layer_index >= LAYERS_MAX {
            return Err(error(b"", MergeErrorKind::TooManyLayers));
        }
        let device =
            u32::try_from(layer_index).map_err(|_| error(b"", MergeErrorKind::TooManyLayers))?;
        let mut tree = LayerTree::new();
        for entry in &layer.entries {
            tree.apply(entry, device)
                .map_err(|kind| error(&entry.path, kind))?;
        }
        merged.lay_over(tree).map_err(|kind| error(b"", kind))?;
    }
    Ok(merged.finish())
}

/// The layers so far. Inodes that a later layer hid stay in `inodes`, named by no directory.
#[derive(Debug)]
struct Merged {
    inodes: Vec<Inode>,
}

impl Merged {
    fn new() -> Self {
        Self {
            inodes: vec![empty_directory(Attributes::implied_directory())],
        }
    }

    fn lay_over(&mut self, layer: LayerTree) -> Result<(), MergeErrorKind> {
        let mut nodes: Vec<Option<LayerNode>> = layer.nodes.into_iter().map(Some).collect();
        // Where a node was put: the names of one hard link group share it.
        let mut placed: Vec<Option<InodeId>> = vec![None; nodes.len()];
        let mut directories: Vec<(NodeIndex, InodeId)> = vec![(0, RootTree::ROOT)];
        while let Some((node, lower)) = directories.pop() {
            let Some(LayerNode::Directory(upper)) = nodes[node].take() else {
                continue;
            };
            let LayerDirectory {
                attributes,
                children,
                whiteouts,
                is_opaque,
            } = upper;
            if let Some(attributes) = attributes {
                self.inodes[lower.index()].attributes = attributes;
            }
            let known = self.children_mut(lower);
            if is_opaque {
                known.clear();
            }
            for name in &whiteouts {
                known.remove(name);
            }
            for (name, child) in children {
                let id = match (&nodes[child], placed[child]) {
                    (_, Some(id)) => id,
                    (Some(LayerNode::Directory(_)), None) => {
                        let id = self.directory_at(lower, &name)?;
                        directories.push((child, id));
                        id
                    }
                    (Some(LayerNode::Leaf { .. }) | None, None) => {
                        self.push_leaf(nodes[child].take())?
                    }
                };
                placed[child] = Some(id);
                self.children_mut(lower).insert(name, id);
            }
        }
        Ok(())
    }

    /// The directory that is there already, or a new one without attributes of its own.
    fn directory_at(&mut self, parent: InodeId, name: &[u8]) -> Result<InodeId, MergeErrorKind> {
        let known = self.children_mut(parent).get(name).copied();
        let is_directory =
            |id: &InodeId| matches!(self.inodes[id.index()].kind, InodeKind::Directory { .. });
        if let Some(id) = known.filter(is_directory) {
            return Ok(id);
        }
        self.push(empty_directory(Attributes::implied_directory()))
    }

    fn push_leaf(&mut self, node: Option<LayerNode>) -> Result<InodeId, MergeErrorKind> {
        match node {
            Some(LayerNode::Leaf { kind, attributes }) => self.push(Inode {
                kind,
                attributes,
                link_count: 0,
            }),
            Some(LayerNode::Directory(_)) | None => {
                unreachable!("a leaf is taken once, then it is placed")
            }
        }
    }

    fn push(&mut self, inode: Inode) -> Result<InodeId, MergeErrorKind> {
        let id = u32::try_from(self.inodes.len()).map_err(|_| MergeErrorKind::TooManyInodes)?;
        self.inodes.push(inode);
        Ok(InodeId(id))
    }

    fn children_mut(&mut self, id: InodeId) -> &mut BTreeMap<Vec<u8>, InodeId> {
        match &mut self.inodes[id.index()].kind {
            InodeKind::Directory { children } => children,
            InodeKind::File { .. }
            | InodeKind::Symlink { .. }
            | InodeKind::CharDevice { .. }
            | InodeKind::BlockDevice { .. }
            | InodeKind::Fifo => unreachable!("only directories are laid over each other"),
        }
    }

    /// Drops what no directory names, numbers the rest breadth first, and counts links.
    fn finish(self) -> RootTree {
        let mut old: Vec<Option<Inode>> = self.inodes.into_iter().map(Some).collect();
        let mut numbers: Vec<Option<InodeId>> = vec![None; old.len()];
        let mut inodes: Vec<Inode> = Vec::with_capacity(old.len());
        inodes.extend(old[0].take());
        let mut parents = vec![RootTree::ROOT];
        let mut next = 0;
        while next < inodes.len() {
            let children = match &mut inodes[next].kind {
                InodeKind::Directory { children } => std::mem::take(children),
                InodeKind::File { .. }
                | InodeKind::Symlink { .. }
                | InodeKind::CharDevice { .. }
                | InodeKind::BlockDevice { .. }
                | InodeKind::Fifo => {
                    next += 1;
                    continue;
                }
            };
            let mut link_count = 2;
            let mut numbered = children;
            for id in numbered.values_mut() {
                let number = *numbers[id.index()].get_or_insert_with(|| {
                    inodes.extend(old[id.index()].take());
                    parents.push(InodeId(u32::try_from(next).unwrap_or(u32::MAX)));
                    InodeId(u32::try_from(inodes.len() - 1).unwrap_or(u32::MAX))
                });
                *id = number;
                match &inodes[number.index()].kind {
                    InodeKind::Directory { .. } => link_count += 1,
                    InodeKind::File { .. }
                    | InodeKind::Symlink { .. }
                    | InodeKind::CharDevice { .. }
                    | InodeKind::BlockDevice { .. }
                    | InodeKind::Fifo => inodes[number.index()].link_count += 1,
                }
            }
            inodes[next].link_count = link_count;
            inodes[next].kind = InodeKind::Directory { children: numbered };
            next += 1;
        }
        RootTree { inodes, parents }
    }
}

fn empty_directory(attributes: Attributes) -> Inode {
    Inode {
        kind: InodeKind::Directory {
            children: BTreeMap::new(),
        },
        attributes,
        link_count: 0,
    }
}
