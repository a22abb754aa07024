//! No bytes make the reader of root trees panic, and what it accepts can be walked.

#![no_main]

use image_format::erofs::ErofsTree;
use libfuzzer_sys::fuzz_target;

const TAR_LENS: [u64; 2] = [1 << 20, 4096];

fuzz_target!(|bytes: &[u8]| {
    let Ok(tree) = ErofsTree::parse(bytes, &TAR_LENS) else {
        return;
    };
    for nid in tree.nids() {
        let inode = tree.inode(nid);
        assert!(inode.is_some());
        drop((tree.xattrs(nid), tree.symlink_target(nid)));
        assert!(tree.entries(nid).count() < bytes.len());
        for extent in tree.extents(nid) {
            assert!(extent.layer_index as usize <= TAR_LENS.len());
        }
    }
});
