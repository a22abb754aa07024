//! No bytes make the tar scanner panic, and it says the same however they are split.

#![no_main]

use image_format::tar::{LayerScan, ScanError, TarScanner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (piece_len, tar) = input;
    let whole = scan(tar, tar.len());
    let split = scan(tar, usize::from(piece_len));
    assert_eq!(whole.is_ok(), split.is_ok());
    if let (Ok(whole), Ok(split)) = (whole, split) {
        assert_eq!(whole.tar_len, split.tar_len);
        assert_eq!(whole.entries.len(), split.entries.len());
    }
});

fn scan(tar: &[u8], piece_len: usize) -> Result<LayerScan, ScanError> {
    let mut scanner = TarScanner::new();
    for piece in tar.chunks(piece_len.max(1)) {
        scanner.feed(piece)?;
    }
    scanner.finish()
}
