//! A chunk's frame never decodes to more than its descriptor says, and never passes the gate
//! with other bytes.

#![no_main]

use image_format::{CHUNK_LEN_MAX, ChunkDescriptor, ChunkDigest, UntrustedChunk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u32, &[u8])| {
    let (tar_len, stored) = input;
    let descriptor = ChunkDescriptor {
        index: 0,
        tar_range: 0..u64::from(tar_len),
        stored_range: 0..stored.len() as u64,
        digest: ChunkDigest::of(b"the bytes that were meant"),
    };
    if let Ok(chunk) = UntrustedChunk::decode(stored, &descriptor) {
        assert!(tar_len <= CHUNK_LEN_MAX);
        if let Ok(verified) = chunk.verify(&descriptor) {
            assert_eq!(&verified.bytes()[..], b"the bytes that were meant");
        }
    }
});
