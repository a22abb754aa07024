//! No blob makes the layer decoder panic or hang. Its length is for the reader to bound.

#![no_main]

use std::io::Read;

use image_format::LayerDecoder;
use libfuzzer_sys::fuzz_target;

const TAR_LEN_MAX: u64 = 1 << 20;

fuzz_target!(|blob: &[u8]| {
    let Ok(decoder) = LayerDecoder::new(blob) else {
        return;
    };
    let mut tar = Vec::new();
    drop(decoder.take(TAR_LEN_MAX).read_to_end(&mut tar));
});
