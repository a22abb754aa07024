//! Any bytes as a tar: scanned in two different cuts, merged, written as a tree and read again.
#![no_main]

use image_format::erofs::{ErofsTree, write_erofs};
use image_format::tar::{LayerScan, ScanError, TarScanner};
use image_format::tree::merge_layers;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = scan(bytes, bytes.len().max(1));
    assert_eq!(whole, scan(bytes, 100), "the pieces make no difference");
    let Ok(scan) = whole else {
        return;
    };
    let lens = [scan.tar_len, scan.tar_len];
    let Ok(tree) = merge_layers(&[scan.clone(), scan]) else {
        return;
    };
    if let Ok(image) = write_erofs(&tree, &lens) {
        let read = ErofsTree::parse(image, &lens).expect("what is written is accepted");
        assert_eq!(read.inode_count(), tree.inode_count());
    }
});

fn scan(bytes: &[u8], piece_len: usize) -> Result<LayerScan, ScanError> {
    let mut scanner = TarScanner::new();
    for piece in bytes.chunks(piece_len) {
        scanner.feed(piece)?;
    }
    scanner.finish()
}
