//! Any bytes as a root tree: refused, or all of it can be looked at and stays in bounds.
#![no_main]

use image_format::erofs::ErofsTree;
use libfuzzer_sys::fuzz_target;

const LAYER_LENS: [u64; 2] = [4096, 1 << 20];

fuzz_target!(|bytes: &[u8]| {
    // One input in two is put behind a head that is right, or hardly any would get past it.
    let grafted = graft(bytes);
    let Ok(tree) = ErofsTree::parse(grafted.as_deref().unwrap_or(bytes), &LAYER_LENS) else {
        return;
    };
    for nid in tree.nids() {
        let inode = tree.inode(nid).expect("accepted inodes are read");
        for extent in tree.extents(nid) {
            let len = extent.file_range.end - extent.file_range.start;
            let tar_len = LAYER_LENS[extent.layer_index as usize];
            assert!(extent.tar_offset + len <= tar_len && extent.file_range.end <= inode.size);
        }
        for entry in tree.entries(nid) {
            assert_eq!(tree.child(nid, entry.name), Some(entry.nid));
        }
        let _ = (tree.xattrs(nid), tree.symlink_target(nid));
    }
});

/// Puts `bytes` behind the superblock and the slots of an image of the two layers.
fn graft(bytes: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = bytes.split_first()?;
    if first % 2 == 0 {
        return None;
    }
    let empty = image_format::tree::merge_layers(&[]).ok()?;
    let mut image = image_format::erofs::write_erofs(&empty, &LAYER_LENS).ok()?;
    let head_len = 1152 + 2 * 128;
    image.truncate(head_len);
    image.extend_from_slice(rest);
    image.resize(image.len().next_multiple_of(512), 0);
    let blocks = u32::try_from(image.len() / 512).ok()?;
    image[1024 + 36..1024 + 40].copy_from_slice(&blocks.to_le_bytes());
    Some(image)
}
