//! Trees written and read again, by us and by others, and damaged.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use proptest::prelude::*;
use test_images::{Entry, LayerBuilder, ReferenceContent, random_stack};
use zerocopy::FromBytes;

use super::format::Superblock;
use super::*;
use crate::tar::{LayerScan, TarScanner};
use crate::tree::{RootTree, merge_layers};

fn scan(tar: &[u8]) -> LayerScan {
    let mut scanner = TarScanner::new();
    scanner.feed(tar).unwrap();
    scanner.finish().unwrap()
}

fn merged(tars: &[Vec<u8>]) -> (RootTree, Vec<u64>) {
    let scans: Vec<LayerScan> = tars.iter().map(|tar| scan(tar)).collect();
    let lens = scans.iter().map(|scan| scan.tar_len).collect();
    (merge_layers(&scans).unwrap(), lens)
}

fn written(tars: &[Vec<u8>]) -> (Vec<u8>, Vec<u64>) {
    let (tree, lens) = merged(tars);
    (write_erofs(&tree, &lens).unwrap(), lens)
}

fn parsed(tar: Vec<u8>) -> ErofsTree {
    let (image, lens) = written(&[tar]);
    ErofsTree::parse(image, &lens).unwrap()
}

/// Reads a whole file through its extents.
fn content(tree: &ErofsTree, nid: Nid, tars: &[Vec<u8>]) -> Vec<u8> {
    let at = |offset: u64| usize::try_from(offset).unwrap();
    let mut whole = vec![0; at(tree.inode(nid).unwrap().size)];
    for extent in tree.extents(nid) {
        let range = at(extent.file_range.start)..at(extent.file_range.end);
        let tar = &tars[extent.layer_index as usize];
        let start = at(extent.tar_offset);
        whole[range.clone()].copy_from_slice(&tar[start..start + range.len()]);
    }
    whole
}

#[test]
fn an_empty_image_is_a_root() {
    let (image, lens) = written(&[]);
    let tree = ErofsTree::parse(image, &lens).unwrap();
    assert_eq!(tree.inode_count(), 1);
    assert_eq!(tree.parent(tree.root()), Some(tree.root()));
    assert_eq!(tree.inode(tree.root()).unwrap().link_count, 2);
}

#[test]
fn a_contiguous_file_has_one_extent_whatever_its_length() {
    let tar = LayerBuilder::new().file("f", vec![7; 3 << 20]).build();
    let tree = parsed(tar);
    let extent = Extent {
        file_range: 0..3 << 20,
        layer_index: 0,
        tar_offset: 512,
    };
    assert_eq!(tree.extents(tree.lookup(b"f").unwrap()), [extent]);
}

#[test]
fn directories_of_any_length_are_found_by_name() {
    for count in [0_usize, 1, 10, 20, 25, 35, 40, 100, 3000] {
        let mut layer = LayerBuilder::new().dir("d");
        for index in 0..count {
            layer = layer.file(format!("d/{index}{}", "-".repeat(index % 97)), "");
        }
        let tree = parsed(layer.build());
        let directory = tree.lookup(b"d").unwrap();
        assert_eq!(tree.entries(directory).count(), count);
        for index in 0..count {
            let name = format!("{index}{}", "-".repeat(index % 97));
            assert!(
                tree.child(directory, name.as_bytes()).is_some(),
                "{name} of {count}"
            );
        }
        assert_eq!(tree.child(directory, b"absent"), None);
        assert_eq!(tree.parent(directory), Some(tree.root()));
    }
}

#[test]
fn symlinks_of_every_length_keep_their_target() {
    for len in [1, 400, 448, 449, 512, 513, 1000, 4095] {
        let target = "t".repeat(len);
        let tree = parsed(LayerBuilder::new().symlink("s", &target).build());
        let nid = tree.lookup(b"s").unwrap();
        assert_eq!(tree.symlink_target(nid).unwrap(), target.as_bytes());
        assert_eq!(tree.inode(nid).unwrap().mode, 0o777);
    }
}

#[test]
fn attributes_of_every_length_come_back() {
    for len in [0, 1, 3, 4, 400, 448, 1000, 65_535] {
        let entry = Entry::dir("d")
            .xattr("user.a", vec![b'v'; len])
            .xattr("security.b", "x");
        let tree = parsed(LayerBuilder::new().entry(entry).file("d/f", "").build());
        let nid = tree.lookup(b"d").unwrap();
        let value = vec![b'v'; len];
        let wanted = [
            (b"user.a".to_vec(), value.as_slice()),
            (b"security.b".to_vec(), b"x"),
        ];
        assert_eq!(tree.xattrs(nid), wanted);
    }
}

#[test]
fn sparse_files_use_the_longest_chunks_that_fit() {
    let part = [1; 8192];
    let tar = LayerBuilder::new()
        .sparse("s", 1 << 20, &[(65_536, &part)])
        .build();
    let tree = parsed(tar);
    let extents = tree.extents(tree.lookup(b"s").unwrap());
    assert_eq!(extents.len(), 1);
    assert_eq!(extents[0].file_range, 65_536..65_536 + 8192);
}

#[test]
fn sparse_files_that_cannot_be_mapped_are_refused_by_name() {
    let tar = LayerBuilder::new()
        .sparse("d/s", 4096, &[(100, b"x")])
        .build();
    let (tree, lens) = merged(&[tar]);
    let error = write_erofs(&tree, &lens).unwrap_err();
    assert!(matches!(error, WriteTreeError::UnalignedSparse { .. }));
    assert!(error.to_string().contains("\"d/s\" of layer 0"), "{error}");
    let huge = LayerBuilder::new()
        .sparse_map_record("s", 1 << 40, &[(512, &[1; 512])])
        .build();
    let (tree, lens) = merged(&[huge]);
    let error = write_erofs(&tree, &lens).unwrap_err();
    assert!(matches!(error, WriteTreeError::TooManyChunks { .. }));
}

#[test]
fn a_file_of_terabytes_of_holes_fits() {
    let tar = LayerBuilder::new()
        .sparse_map_record("s", 5 << 40, &[])
        .build();
    let tree = parsed(tar);
    let nid = tree.lookup(b"s").unwrap();
    assert_eq!(
        (tree.inode(nid).unwrap().size, tree.extents(nid)),
        (5 << 40, Vec::new())
    );
}

#[test]
fn data_outside_the_layer_is_refused_by_both_sides() {
    let tars = [LayerBuilder::new()
        .file("f", vec![1; 2000])
        .build_unterminated()];
    let (tree, lens) = merged(&tars);
    let error = write_erofs(&tree, &[lens[0] - 600]).unwrap_err();
    assert!(matches!(error, WriteTreeError::DataOutsideLayer { .. }));
    let image = write_erofs(&tree, &lens).unwrap();
    // As many blocks, but not all of the bytes.
    assert!(ErofsTree::parse(image.clone(), &[lens[0] - 40]).is_ok());
    let error = ErofsTree::parse(image.clone(), &[lens[0] - 100]).unwrap_err();
    assert!(matches!(error, TreeError::Inode { .. }), "{error}");
    let error = ErofsTree::parse(image.clone(), &[lens[0] - 600]).unwrap_err();
    assert_eq!(error, TreeError::Device { layer_index: 0 });
    let error = ErofsTree::parse(image, &[lens[0], 512]).unwrap_err();
    assert_eq!(error, TreeError::Superblock("extra_devices"));
}

#[test]
fn devices_that_do_not_fit_are_refused() {
    let tars = [LayerBuilder::new().block_device("d", 4096, 0).build()];
    let (tree, lens) = merged(&tars);
    let error = write_erofs(&tree, &lens).unwrap_err();
    assert!(matches!(
        error,
        WriteTreeError::DeviceNumber { major: 4096, .. }
    ));
}

#[test]
fn the_superblock_says_what_the_kernel_needs() {
    let (image, _) = written(&vec![LayerBuilder::new().build(); 130]);
    let superblock = Superblock::ref_from_bytes(&image[1024..1152]).unwrap();
    assert_eq!(superblock.device_count.get(), 130);
    assert!(usize::from(superblock.root_nid.get()) * 32 % 512 + 64 <= 512);
    assert_eq!(&image[1152..1154], b"0\0");
    assert_eq!(&image[1152 + 129 * 128..1152 + 129 * 128 + 4], b"129\0");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_stacks_read_back_like_the_model(
        decisions in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let stack = random_stack(&decisions);
        let (image, lens) = written(&stack.tars);
        prop_assert_eq!(&image, &written(&stack.tars).0);
        let tree = ErofsTree::parse(image, &lens).unwrap();
        for (path, wanted) in &stack.tree.0 {
            let nid = tree.lookup(path).unwrap();
            let inode = tree.inode(nid).unwrap();
            prop_assert_eq!((inode.mode, (inode.uid, inode.gid)), (wanted.mode, wanted.owner));
            prop_assert_eq!((inode.mtime.seconds, inode.mtime.nanos), wanted.mtime);
            let xattrs: BTreeMap<Vec<u8>, Vec<u8>> =
                tree.xattrs(nid).into_iter().map(|(name, value)| (name, value.to_vec())).collect();
            prop_assert_eq!(&xattrs, &wanted.xattrs);
            let device = (inode.device.major, inode.device.minor);
            let found = match inode.file_type {
                FileType::File => ReferenceContent::File(content(&tree, nid, &stack.tars)),
                FileType::Directory => ReferenceContent::Directory,
                FileType::Symlink => ReferenceContent::Symlink(tree.symlink_target(nid).unwrap()),
                FileType::CharDevice => ReferenceContent::CharDevice(device.0, device.1),
                FileType::BlockDevice => ReferenceContent::BlockDevice(device.0, device.1),
                FileType::Fifo => ReferenceContent::Fifo,
            };
            prop_assert!(found == wanted.content, "{path:?}");
        }
        let mut reached = 0;
        let mut ahead = vec![tree.root()];
        while let Some(nid) = ahead.pop() {
            reached += 1;
            ahead.extend(tree.entries(nid).map(|entry| entry.nid));
        }
        prop_assert_eq!(reached, stack.tree.0.len());
    }

    /// The crate `erofs-rs` shares no code with ours.
    #[test]
    fn erofs_rs_reads_what_we_wrote(decisions in prop::collection::vec(any::<u8>(), 0..600)) {
        let stack = random_stack(&decisions);
        let (image, lens) = written(&stack.tars);
        let devices = stack.tars.iter().map(|tar| SliceImage::new(tar)).collect();
        let theirs = EroFS::new_with_devices(SliceImage::new(&image), devices).unwrap();
        let ours = ErofsTree::parse(image.as_slice(), &lens).unwrap();
        let root = theirs.get_inode(ours.root().0).unwrap();
        prop_assert_eq!(theirs.super_block().root_inode_id(), root.id());
        for (path, wanted) in &stack.tree.0 {
            let nid = ours.lookup(path).unwrap();
            let inode = theirs.get_inode(nid.0).unwrap();
            prop_assert_eq!(inode.permissions().mode() & 0o7777, wanted.mode);
            prop_assert_eq!((inode.uid(), inode.gid()), wanted.owner);
            prop_assert_eq!(inode.modified_unix(), wanted.mtime);
            match &wanted.content {
                ReferenceContent::File(bytes) => {
                    let mut found = vec![0; bytes.len()];
                    let mut file = theirs.open_inode_file(inode).unwrap();
                    std::io::Read::read_exact(&mut file, &mut found).unwrap();
                    prop_assert!(&found == bytes, "{path:?}");
                }
                ReferenceContent::Symlink(target) => {
                    let found = theirs.read_link_inode(inode).unwrap();
                    prop_assert_eq!(found.as_bytes(), target.as_slice());
                }
                ReferenceContent::CharDevice(major, minor)
                | ReferenceContent::BlockDevice(major, minor) => {
                    prop_assert_eq!(inode.device(), Some((*major, *minor)));
                }
                ReferenceContent::Directory => prop_assert!(inode.is_dir()),
                ReferenceContent::Fifo => prop_assert_eq!(inode.data_size(), 0),
            }
            let xattrs = theirs.xattrs_inode(theirs.get_inode(nid.0).unwrap()).unwrap();
            prop_assert_eq!(xattrs.len(), wanted.xattrs.len());
        }
        let walked = theirs.walk_dir("/").unwrap().flatten().count();
        prop_assert!(walked >= stack.tree.0.len() - 1);
    }

    /// A damaged tree is refused, or it still leads nowhere but into itself and the layers.
    #[test]
    fn damaged_trees_are_refused_or_stay_in_bounds(
        decisions in prop::collection::vec(any::<u8>(), 0..300),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut image, lens) = written(&random_stack(&decisions).tars);
        for (index, value) in &damage {
            // What lies before the superblock means nothing to anyone.
            let index = 1024 + index.index(image.len() - 1024);
            image[index] = *value;
        }
        let Ok(tree) = ErofsTree::parse(image, &lens) else {
            return Ok(());
        };
        for nid in tree.nids() {
            prop_assert!(tree.inode(nid).is_some());
            for extent in tree.extents(nid) {
                let len = extent.file_range.end - extent.file_range.start;
                prop_assert!(extent.tar_offset + len <= lens[extent.layer_index as usize]);
            }
            for entry in tree.entries(nid) {
                prop_assert!(tree.inode(entry.nid).is_some());
            }
        }
    }

    #[test]
    fn any_bytes_are_accepted_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..4096),
        graft in any::<bool>(),
    ) {
        if graft && bytes.len() >= 2048 {
            let (image, _) = written(&[]);
            bytes[1024..1152].copy_from_slice(&image[1024..1152]);
        }
        drop(ErofsTree::parse(bytes, &[]));
    }
}
