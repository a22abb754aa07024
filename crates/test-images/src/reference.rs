//! The model: what containerd and overlayfs make of layers, path by path.
//!
//! A layer is unpacked into a flat map from paths to inodes; a stack of them is folded into another
//! such map. Every question is a scan over all paths. It is slow and has no cleverness to be wrong in.

use std::collections::{BTreeMap, BTreeSet};

use crate::Entry;
use crate::entry::Facts;

/// A path: its components from the root on. The root is the empty path.
type Path = Vec<Vec<u8>>;

/// One file, directory or other thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceInode {
    /// What it is, and what is in it.
    pub content: ReferenceContent,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Names with the same number are hard links to each other.
    pub link_group: usize,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceContent {
    /// A regular file and all of its bytes.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
}

/// A whole root filesystem: paths without a slash in front; the root is the empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceTree(pub BTreeMap<Vec<u8>, ReferenceInode>);

/// An entry that containerd would refuse to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub &'static str);

/// One layer's own directory.
#[derive(Debug, Clone, Default)]
pub struct ReferenceLayer {
    /// Inodes; implied directories have none.
    names: BTreeMap<Path, Option<usize>>,
    inodes: Vec<ReferenceInode>,
    whiteouts: BTreeSet<Path>,
    opaque: BTreeSet<Path>,
}

impl ReferenceLayer {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Unpacks the next entry.
    ///
    /// # Errors
    ///
    /// [`Refused`]; the layer is as it was then.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Refused> {
        let mut next = self.clone();
        next.unpack(&entry.facts())?;
        *self = next;
        Ok(())
    }

    fn unpack(&mut self, facts: &Facts<'_>) -> Result<(), Refused> {
        let mut parent = clean(facts.path);
        let Some(name) = parent.pop() else {
            return Ok(());
        };
        if name.starts_with(b".wh..wh.") && name != b".wh..wh..opq" {
            return Ok(());
        }
        let parent = self.resolve(parent)?;
        self.imply(&parent)?;
        if name == b".wh..wh..opq" {
            self.opaque.insert(parent);
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            self.whiteouts.insert(joined(&parent, hidden));
            return Ok(());
        }
        let path = joined(&parent, &name);
        let is_merge = facts.type_flag == b'5' && self.is_directory(&path);
        if !is_merge {
            self.names.retain(|known, _| !known.starts_with(&path));
            // What was marked below it goes with it; a mark on the name itself is about lower layers.
            self.opaque.retain(|known| !known.starts_with(&path));
            self.whiteouts
                .retain(|known| !known.starts_with(&path) || *known == path);
        }
        if facts.type_flag == b'3' && facts.device == (0, 0) {
            self.whiteouts.insert(path);
            return Ok(());
        }
        if facts.type_flag == b'1' {
            return self.link(path, facts);
        }
        let mut inode = new_inode(facts, self.inodes.len());
        if let Some(Some(earlier)) = self.names.get(&path) {
            let mut xattrs = self.inodes[*earlier].xattrs.clone();
            xattrs.append(&mut inode.xattrs);
            inode.xattrs = xattrs;
        }
        self.names.insert(path, Some(self.inodes.len()));
        self.inodes.push(inode);
        Ok(())
    }

    fn link(&mut self, path: Path, facts: &Facts<'_>) -> Result<(), Refused> {
        let mut target = clean(facts.link_name);
        let name = target.pop().ok_or(Refused("link to the root"))?;
        let target = joined(&self.resolve(target)?, &name);
        let Some(Some(index)) = self.names.get(&target).copied() else {
            return Err(Refused("link to nothing, or to a directory"));
        };
        let inode = &mut self.inodes[index];
        if inode.content == ReferenceContent::Directory {
            return Err(Refused("link to a directory"));
        }
        let fresh = new_inode(facts, 0);
        (inode.owner, inode.mtime) = (fresh.owner, fresh.mtime);
        if !matches!(inode.content, ReferenceContent::Symlink(_)) {
            inode.mode = fresh.mode;
        }
        inode.xattrs.extend(kept_xattrs(facts, &inode.content));
        self.names.insert(path, Some(index));
        Ok(())
    }

    /// Replaces the first symbolic link of this layer on the way, until there is none.
    fn resolve(&self, mut path: Path) -> Result<Path, Refused> {
        for _ in 0..=40 {
            let link = (1..=path.len()).find_map(|len| {
                if let Some(ReferenceContent::Symlink(target)) = self.content(&path[..len]) {
                    return Some((len, target.clone()));
                }
                None
            });
            let Some((len, target)) = link else {
                return Ok(path);
            };
            let mut text = Vec::new();
            if !target.starts_with(b"/") {
                text = path[..len - 1].join(&b'/');
            }
            text.push(b'/');
            text.extend_from_slice(&target);
            let rest = path.split_off(len);
            path = clean(&text);
            path.extend(rest);
        }
        Err(Refused("too many symbolic links"))
    }

    fn imply(&mut self, path: &[Vec<u8>]) -> Result<(), Refused> {
        for len in 1..=path.len() {
            let parent = &path[..len];
            if path[len - 1].len() > 255 {
                return Err(Refused("a name is too long"));
            }
            if self.names.contains_key(parent) && !self.is_directory(parent) {
                return Err(Refused("a parent is not a directory"));
            }
            self.names.entry(parent.to_vec()).or_insert(None);
        }
        Ok(())
    }

    fn content(&self, path: &[Vec<u8>]) -> Option<&ReferenceContent> {
        let index = (*self.names.get(path)?)?;
        Some(&self.inodes[index].content)
    }

    fn is_directory(&self, path: &[Vec<u8>]) -> bool {
        self.names.contains_key(path)
            && matches!(self.content(path), None | Some(ReferenceContent::Directory))
    }
}

/// Lays the layers over each other, the lowest first.
pub fn lay_over(layers: &[ReferenceLayer]) -> ReferenceTree {
    let mut merged: BTreeMap<Path, ReferenceInode> = BTreeMap::new();
    merged.insert(Path::new(), implied_directory(0));
    let mut group_base = 1;
    for layer in layers {
        merged.retain(|path, _| !is_hidden(layer, path));
        for (path, index) in &layer.names {
            let is_kept_directory = merged
                .get(path)
                .is_some_and(|known| known.content == ReferenceContent::Directory);
            let inode = match index {
                None if is_kept_directory => continue,
                None => implied_directory(0),
                Some(index) => layer.inodes[*index].clone(),
            };
            let link_group = match index {
                None => group_base + layer.inodes.len() + merged.len(),
                Some(index) => group_base + index,
            };
            merged.insert(
                path.clone(),
                ReferenceInode {
                    link_group,
                    ..inode
                },
            );
        }
        group_base += layer.inodes.len() + merged.len() + layer.names.len() + 1;
    }
    ReferenceTree(
        merged
            .into_iter()
            .map(|(path, inode)| (path.join(&b'/'), inode))
            .collect(),
    )
}

/// Whether a layer hides a path of the layers below it, itself or with one of its parents.
fn is_hidden(layer: &ReferenceLayer, path: &[Vec<u8>]) -> bool {
    let is_cut = |len: usize| {
        let part = &path[..len];
        let is_replaced = layer.names.contains_key(part) && !layer.is_directory(part);
        // A directory stays only where both are one; whether the lower is one shows in what is in it.
        layer.whiteouts.contains(part) || is_replaced || layer.opaque.contains(&path[..len - 1])
    };
    (1..=path.len()).any(is_cut)
}

fn new_inode(facts: &Facts<'_>, link_group: usize) -> ReferenceInode {
    let content = match facts.type_flag {
        b'5' => ReferenceContent::Directory,
        b'2' => ReferenceContent::Symlink(facts.link_name.to_vec()),
        b'3' => ReferenceContent::CharDevice(facts.device.0, facts.device.1),
        b'4' => ReferenceContent::BlockDevice(facts.device.0, facts.device.1),
        b'6' => ReferenceContent::Fifo,
        _ => ReferenceContent::File(facts.content.to_vec()),
    };
    let is_symlink = facts.type_flag == b'2';
    ReferenceInode {
        xattrs: kept_xattrs(facts, &content),
        content,
        mode: if is_symlink { 0o777 } else { facts.mode },
        owner: (small(facts.owner.0), small(facts.owner.1)),
        mtime: if facts.mtime.0 < 0 {
            (0, 0)
        } else {
            facts.mtime
        },
        link_group,
    }
}

fn kept_xattrs(facts: &Facts<'_>, content: &ReferenceContent) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let takes_user = matches!(
        content,
        ReferenceContent::File(_) | ReferenceContent::Directory
    );
    let is_kept =
        |name: &[u8]| name.starts_with(b"security.") || (takes_user && name.starts_with(b"user."));
    let kept = facts.xattrs.iter().filter(|(name, _)| is_kept(name));
    kept.map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

fn implied_directory(link_group: usize) -> ReferenceInode {
    ReferenceInode {
        content: ReferenceContent::Directory,
        mode: 0o755,
        owner: (0, 0),
        mtime: (0, 0),
        xattrs: BTreeMap::new(),
        link_group,
    }
}

fn clean(path: &[u8]) -> Path {
    let mut cleaned = Path::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => drop(cleaned.pop()),
            name => cleaned.push(name.to_vec()),
        }
    }
    cleaned
}

fn joined(parent: &[Vec<u8>], name: &[u8]) -> Path {
    let mut path = parent.to_vec();
    path.push(name.to_vec());
    path
}

fn small(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}
