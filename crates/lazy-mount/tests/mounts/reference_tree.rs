//! Random stacks of layers, mounted by the kernel and compared with the model, path by path.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use image_format::erofs::{ErofsTree, write_erofs};
use image_format::tar::TarScanner;
use image_format::tree::merge_layers;
use lazy_mount::{Road, Unmount, mount_erofs, unmount};
use proptest::prelude::*;
use rustix::fs::{lgetxattr, llistxattr};
use test_images::{
    Compression, Entry, LayerBuilder, RandomStack, ReferenceContent, ReferenceInode,
    ReferenceLayer, ReferenceTree, lay_over, random_stack,
};

/// Most bytes of attribute names or of one value that Linux gives.
const XATTR_LEN_MAX: usize = 64 << 10;

/// A mounted stack of layers; unmounted when dropped.
#[derive(Debug)]
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    fn new(stack: &RandomStack, road: Road) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (mut scans, mut devices) = (Vec::new(), Vec::new());
        for (index, tar) in stack.tars.iter().enumerate() {
            let mut scanner = TarScanner::new();
            scanner.feed(tar).unwrap();
            scans.push(scanner.finish().unwrap());
            let device = folder.path().join(format!("layer-{index}"));
            fs::write(&device, tar).unwrap();
            devices.push(device);
        }
        let lens: Vec<u64> = scans.iter().map(|scan| scan.tar_len).collect();
        let image = write_erofs(&merge_layers(&scans).unwrap(), &lens).unwrap();
        ErofsTree::parse(image.as_slice(), &lens).unwrap();
        let tree = folder.path().join("tree");
        fs::write(&tree, image).unwrap();
        let mounted = Self { folder };
        fs::create_dir(mounted.root()).unwrap();
        drop(mount_erofs(road, &tree, &devices, &mounted.root()).unwrap());
        mounted
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.root(), Unmount::Lazy).unwrap();
    }
}

/// Every path below `root`, as the kernel lists it.
fn listed(root: &Path) -> Vec<Vec<u8>> {
    let mut found = vec![Vec::new()];
    let mut ahead = vec![Vec::new()];
    while let Some(parent) = ahead.pop() {
        for entry in fs::read_dir(root.join(OsStr::from_bytes(&parent))).unwrap() {
            let entry = entry.unwrap();
            let separator: &[u8] = if parent.is_empty() { b"" } else { b"/" };
            let path = [&parent, separator, &entry.file_name().into_vec()].concat();
            if entry.file_type().unwrap().is_dir() {
                ahead.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; XATTR_LEN_MAX];
    let len = llistxattr(path, &mut names[..]).unwrap();
    let names = names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; XATTR_LEN_MAX];
            let len = lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(len);
            (name.to_vec(), value)
        })
        .collect()
}

fn content(path: &Path, metadata: &Metadata) -> ReferenceContent {
    let file_type = metadata.file_type();
    let device = metadata.rdev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    if file_type.is_dir() {
        ReferenceContent::Directory
    } else if file_type.is_symlink() {
        ReferenceContent::Symlink(fs::read_link(path).unwrap().into_os_string().into_vec())
    } else if file_type.is_char_device() {
        ReferenceContent::CharDevice(major, minor)
    } else if file_type.is_block_device() {
        ReferenceContent::BlockDevice(major, minor)
    } else if file_type.is_fifo() {
        ReferenceContent::Fifo
    } else {
        ReferenceContent::File(fs::read(path).unwrap())
    }
}

fn assert_same_inode(path: &Path, wanted: &ReferenceInode) {
    let metadata = fs::symlink_metadata(path).unwrap();
    assert!(
        content(path, &metadata) == wanted.content,
        "content of {}",
        path.display()
    );
    assert_eq!(
        metadata.mode() & 0o7777,
        wanted.mode,
        "mode of {}",
        path.display()
    );
    let owner = (metadata.uid(), metadata.gid());
    assert_eq!(owner, wanted.owner, "owner of {}", path.display());
    let mtime = (
        metadata.mtime(),
        u32::try_from(metadata.mtime_nsec()).unwrap(),
    );
    assert_eq!(mtime, wanted.mtime, "time of {}", path.display());
    assert_eq!(
        xattrs(path),
        wanted.xattrs,
        "attributes of {}",
        path.display()
    );
}

/// Names are hard links to each other in the mount exactly where they are in the model.
fn assert_same_links(root: &Path, wanted: &ReferenceTree) {
    let mut by_group: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    let mut by_number: BTreeMap<u64, usize> = BTreeMap::new();
    for (path, inode) in &wanted.0 {
        let metadata = fs::symlink_metadata(root.join(OsStr::from_bytes(path))).unwrap();
        if metadata.is_dir() {
            continue;
        }
        let group = by_group
            .entry(inode.link_group)
            .or_insert((metadata.ino(), 0));
        assert_eq!(group.0, metadata.ino());
        group.1 += 1;
        let known = by_number.entry(metadata.ino()).or_insert(inode.link_group);
        assert_eq!(*known, inode.link_group);
    }
    for (path, inode) in &wanted.0 {
        if let Some((_, count)) = by_group.get(&inode.link_group) {
            let metadata = fs::symlink_metadata(root.join(OsStr::from_bytes(path))).unwrap();
            assert!(metadata.is_dir() || metadata.nlink() == *count);
        }
    }
}

fn assert_same_tree(stack: &RandomStack, road: Road) {
    let mounted = Mounted::new(stack, road);
    let root = mounted.root();
    let names: Vec<Vec<u8>> = stack.tree.0.keys().cloned().collect();
    assert_eq!(listed(&root), names);
    for (path, wanted) in &stack.tree.0 {
        assert_same_inode(&root.join(OsStr::from_bytes(path)), wanted);
    }
    assert_same_links(&root, &stack.tree);
}

/// Layers of the same entries for us and for the model.
fn stack_of(layers: &[Vec<Entry>]) -> RandomStack {
    let mut models = Vec::new();
    let mut tars = Vec::new();
    for entries in layers {
        let mut model = ReferenceLayer::new();
        let mut builder = LayerBuilder::new();
        for entry in entries {
            model.apply(entry).unwrap();
            builder = builder.entry(entry.clone());
        }
        models.push(model);
        tars.push(Compression::None.apply(&builder.build()));
    }
    RandomStack {
        tree: lay_over(&models),
        tars,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    // S1
    #[test]
    #[ignore = "needs root and EROFS mounts from files"]
    fn privileged_the_kernel_shows_what_the_model_says(
        decisions in prop::collection::vec(any::<u8>(), 0..900),
    ) {
        assert_same_tree(&random_stack(&decisions), Road::File);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    #[ignore = "needs root, loop devices and EROFS"]
    fn privileged_the_kernel_shows_the_same_through_loop_devices(
        decisions in prop::collection::vec(any::<u8>(), 0..900),
    ) {
        assert_same_tree(&random_stack(&decisions), Road::Loop);
    }
}

#[test]
#[ignore = "needs root and EROFS mounts from files"]
fn privileged_a_hundred_and_thirty_layers_are_mounted() {
    let layers: Vec<Vec<Entry>> = (0..130_u8)
        .map(|index| {
            vec![
                Entry::file(format!("d/{index:03}"), vec![index; 3000]),
                Entry::file("last", [index]),
            ]
        })
        .collect();
    assert_same_tree(&stack_of(&layers), Road::File);
}

#[test]
#[ignore = "needs root and EROFS mounts from files"]
fn privileged_lengths_around_every_border_are_shown() {
    let mut entries = vec![Entry::dir("names")];
    for len in (1..=255).step_by(7).chain([254, 255]) {
        entries.push(Entry::file(
            format!("names/{}", "n".repeat(len)),
            vec![b'x'; len * 13],
        ));
    }
    for len in [1, 60, 447, 448, 449, 511, 512, 513, 1024, 4000, 4095] {
        entries.push(Entry::symlink(format!("link-{len}"), "t".repeat(len)));
    }
    for len in [0, 1, 2, 3, 100, 371, 372, 373, 448, 900, 4000, 40_000] {
        let value = vec![b'v'; len];
        entries.push(Entry::dir(format!("dir-{len}")).xattr("user.value", &value));
        entries.push(Entry::file(format!("dir-{len}/file"), "x").xattr("user.value", &value));
        let link = Entry::symlink(format!("dir-{len}/link"), "somewhere");
        entries.push(link.xattr("security.value", &value));
    }
    for count in [19, 20, 21, 22, 36, 37, 38, 1000] {
        for index in 0..count {
            entries.push(Entry::file(
                format!("count-{count}/{index:04}"),
                index.to_string(),
            ));
        }
    }
    assert_same_tree(&stack_of(&[entries]), Road::File);
}

#[test]
#[ignore = "needs root and EROFS mounts from files"]
fn privileged_access_lists_are_shown() {
    // Version 2; the owner rw, user 1000 r, the group r, the mask r, others none.
    let list: Vec<u8> = [
        &2_u32.to_le_bytes()[..],
        &[1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff],
        &[2, 0, 4, 0, 0xe8, 3, 0, 0],
        &[4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff],
        &[16, 0, 4, 0, 0xff, 0xff, 0xff, 0xff],
        &[32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    let entry = Entry::file("f", "x")
        .mode(0o640)
        .xattr("system.posix_acl_access", &list);
    let mut stack = stack_of(&[vec![Entry::file("f", "x")]]);
    stack.tars = vec![LayerBuilder::new().entry(entry).build()];
    let mounted = Mounted::new(&stack, Road::File);
    let found = xattrs(&mounted.root().join("f"));
    assert_eq!(found.get(&b"system.posix_acl_access"[..]), Some(&list));
}
