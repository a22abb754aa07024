//! Everything that can be seen of a directory tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{lgetxattr, llistxattr};
use test_images::sha256;

/// Everything that can be seen of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeEntry {
    /// Type and permission bits.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    pub(crate) device: u64,
    pub(crate) links: u64,
    /// The first name, in order, of the same file.
    pub(crate) first_name: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Digest of a file's bytes, a link's target, nothing for others.
    pub(crate) content: String,
}

/// All names below a directory, without a slash in front; the directory itself is the empty name.
pub(crate) fn read_tree(root: &Path) -> BTreeMap<Vec<u8>, TreeEntry> {
    let mut tree = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        }
        tree.insert(
            name.to_owned(),
            (metadata.ino(), entry_of(&path, &metadata)),
        );
    }
    let mut first_names = BTreeMap::new();
    let named = tree.into_iter().map(|(name, (inode, mut entry))| {
        let first = first_names.entry(inode).or_insert_with(|| name.clone());
        entry.first_name.clone_from(first);
        (name, entry)
    });
    named.collect()
}

fn entry_of(path: &Path, metadata: &fs::Metadata) -> TreeEntry {
    let kind = metadata.file_type();
    let content = if kind.is_file() {
        sha256(&fs::read(path).unwrap())
    } else if kind.is_symlink() {
        fs::read_link(path).unwrap().display().to_string()
    } else {
        String::new()
    };
    let is_device = kind.is_char_device() || kind.is_block_device();
    TreeEntry {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        device: if is_device { metadata.rdev() } else { 0 },
        // Filesystems differ in whether they count the directories in a directory.
        links: if kind.is_dir() { 0 } else { metadata.nlink() },
        first_name: Vec::new(),
        xattrs: xattrs_of(path),
        content,
    }
}

fn xattrs_of(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = llistxattr(path, &mut names[..]).unwrap();
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let len = lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(len);
        value
    };
    names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| (name.to_vec(), value(name)))
        .collect()
}
