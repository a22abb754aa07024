//! No bytes make the seek table's decoder panic or allocate beyond them.

#![no_main]

use image_format::SeekTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|encoded: &[u8]| {
    let Ok(table) = SeekTable::decode(encoded) else {
        return;
    };
    assert!(table.frames().len() * 8 <= encoded.len());
    assert_eq!(SeekTable::decode(&table.encode()).as_ref(), Ok(&table));
});
