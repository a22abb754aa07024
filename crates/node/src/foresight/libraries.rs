//! The programs and libraries of an image: where they are, and what they are called.

use std::{collections::HashMap, ops::Range};

use image_format::erofs::{ErofsTree, FileType, Nid};

/// Most files that are remembered for one image; the largest images have some ten thousand.
const FILES_MAX: usize = 65_536;

/// Links followed from a name to a file, as the kernel does (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

/// Files shorter than this are in the chunk that the first read fetches anyway.
const FILE_LEN_MIN: u64 = 16 << 10;

/// Where a program or library is.
#[derive(Debug)]
pub(crate) struct LibraryFile {
    /// Which layer of the image.
    pub(crate) layer_index: usize,
    /// Where its content is in the layer's tar.
    pub(crate) tar_range: Range<u64>,
    name: Box<[u8]>,
}

/// The programs and libraries of an image.
#[derive(Debug, Default)]
pub(crate) struct Libraries {
    files: Vec<LibraryFile>,
    /// By layer: where files begin, in order.
    beginnings: HashMap<usize, Vec<(u64, usize)>>,
    by_name: HashMap<Box<[u8]>, Vec<usize>>,
    by_path: HashMap<Box<[u8]>, usize>,
}

impl Libraries {
    /// Finds what may be a program or a library: what can be executed, or has `.so` in its name.
    pub(crate) fn find(tree: &ErofsTree<Vec<u8>>) -> Self {
        let mut found = Self::default();
        let mut by_nid: HashMap<Nid, usize> = HashMap::new();
        let mut links = Vec::new();
        let mut directories = vec![(tree.root(), Vec::new())];
        while let Some((directory, path)) = directories.pop() {
            for entry in tree.entries(directory) {
                let entry_path = [&path[..], b"/", entry.name].concat();
                match entry.file_type {
                    FileType::Directory => directories.push((entry.nid, entry_path)),
                    FileType::Symlink => links.push((directory, entry_path)),
                    FileType::File => {
                        let known = by_nid.get(&entry.nid).copied();
                        let file = known.or_else(|| found.add(tree, entry.nid, entry.name));
                        by_nid.extend(file.map(|file| (entry.nid, file)));
                        found.name_file(file, entry.name, &entry_path);
                    }
                    FileType::CharDevice | FileType::BlockDevice | FileType::Fifo => {}
                }
            }
        }
        for (directory, path) in links {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            if let Some(nid) = resolve(tree, directory, name, LINKS_MAX)
                && let Some(file) = by_nid.get(&nid)
            {
                found.name_file(Some(*file), name, &path);
            }
        }
        found
            .beginnings
            .values_mut()
            .for_each(|files| files.sort_unstable());
        found
    }

    fn add(&mut self, tree: &ErofsTree<Vec<u8>>, nid: Nid, name: &[u8]) -> Option<usize> {
        let inode = tree.inode(nid)?;
        let is_library = name.windows(3).any(|part| part == b".so");
        if self.files.len() >= FILES_MAX
            || inode.size < FILE_LEN_MIN
            || !is_library && inode.mode & 0o111 == 0
        {
            return None;
        }
        let [extent] = &tree.extents(nid)[..] else {
            return None;
        };
        let layer_index = usize::try_from(extent.layer_index).ok()?;
        let index = self.files.len();
        self.files.push(LibraryFile {
            layer_index,
            tar_range: extent.tar_offset..extent.tar_offset + inode.size,
            name: name.into(),
        });
        self.beginnings
            .entry(layer_index)
            .or_default()
            .push((extent.tar_offset, index));
        Some(index)
    }

    fn name_file(&mut self, file: Option<usize>, name: &[u8], path: &[u8]) {
        let Some(file) = file else {
            return;
        };
        let named = self.by_name.entry(name.into()).or_default();
        if !named.contains(&file) {
            named.push(file);
        }
        self.by_path.insert(path.into(), file);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// One of them.
    pub(crate) fn file(&self, index: usize) -> &LibraryFile {
        &self.files[index]
    }

    /// The name of one of them, for a log.
    pub(crate) fn name(&self, index: usize) -> String {
        String::from_utf8_lossy(&self.files[index].name).into_owned()
    }

    /// Those whose first byte lies in a range of a layer's tar.
    pub(crate) fn beginning_in(
        &self,
        layer_index: usize,
        range: &Range<u64>,
    ) -> impl Iterator<Item = usize> {
        let files = self
            .beginnings
            .get(&layer_index)
            .map_or(&[][..], Vec::as_slice);
        let first = files.partition_point(|(start, _)| *start < range.start);
        let end = range.end;
        files[first..]
            .iter()
            .take_while(move |(start, _)| *start < end)
            .map(|(_, index)| *index)
    }

    /// Those with this name, in whatever directory: where the linker looks is not worth being retold,
    /// images seldom have two libraries of one name.
    pub(crate) fn named(&self, name: &[u8]) -> impl Iterator<Item = usize> {
        self.by_name.get(name).into_iter().flatten().copied()
    }

    /// The file of a command, looked up in the `PATH` of `env` as a shell would.
    pub(crate) fn command(&self, command: &str, env: &[String]) -> Option<usize> {
        if command.contains('/') {
            return self.by_path.get(command.as_bytes()).copied();
        }
        let path = env
            .iter()
            .find_map(|variable| variable.strip_prefix("PATH="))?;
        path.split(':').find_map(|directory| {
            self.by_path
                .get(format!("{directory}/{command}").as_bytes())
                .copied()
        })
    }
}

/// What a name of a directory leads to, through links. Directories that are links themselves are
/// followed too; `None` where a link leads nowhere.
fn resolve(
    tree: &ErofsTree<Vec<u8>>,
    directory: Nid,
    name: &[u8],
    links_left: usize,
) -> Option<Nid> {
    let nid = tree.child(directory, name)?;
    let Some(target) = tree.symlink_target(nid) else {
        return Some(nid);
    };
    let links_left = links_left.checked_sub(1)?;
    let mut at = if target.starts_with(b"/") {
        tree.root()
    } else {
        directory
    };
    for part in target.split(|byte| *byte == b'/') {
        at = match part {
            b"" | b"." => at,
            b".." => tree.parent(at)?,
            part => resolve(tree, at, part, links_left)?,
        };
    }
    Some(at)
}
