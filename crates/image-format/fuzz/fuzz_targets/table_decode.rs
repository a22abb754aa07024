//! Whatever decodes as a chunk table is one, and encodes to the same bytes.

#![no_main]

use image_format::ChunkTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|encoded: &[u8]| {
    let Ok(table) = ChunkTable::decode(encoded) else {
        return;
    };
    assert_eq!(table.encode(), encoded);
    let all = table.chunks_in(0..u64::MAX);
    assert_eq!(all, 0..table.len());
    for chunk in table.iter() {
        assert_eq!(table.chunk_at(chunk.tar_range.start), Some(chunk));
    }
});
