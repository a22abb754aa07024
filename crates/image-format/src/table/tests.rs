//! Tables in and out, and lookups against a byte-by-byte model.

use proptest::prelude::*;

use super::*;

fn table(chunks: &[(u32, u32)]) -> ChunkTable {
    let mut builder = ChunkTableBuilder::new();
    for (index, (tar_len, stored_len)) in chunks.iter().enumerate() {
        let digest = ChunkDigest::of(&index.to_le_bytes());
        builder.add(*tar_len, *stored_len, digest).unwrap();
    }
    builder.finish(Digest::of(b"tar"))
}

fn three_chunks() -> ChunkTable {
    table(&[(1024, 100), (512, 50), (700, 70)])
}

/// Encodes the three chunks, changes the bytes and decodes them.
fn decode_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<ChunkTable, DecodeTableError> {
    let mut encoded = three_chunks().encode();
    change(&mut encoded);
    ChunkTable::decode(&encoded)
}

#[test]
fn a_table_says_where_each_chunk_lies() {
    let table = three_chunks();
    let chunk = table.chunk(1).unwrap();
    assert_eq!(chunk.tar_range, 1024..1536);
    assert_eq!(chunk.stored_range, 100..150);
    assert_eq!(table.chunk_at(1535).unwrap().index, 1);
    assert_eq!(table.chunk_at(2235).unwrap().index, 2);
    assert_eq!(table.chunk_at(2236), None);
    assert_eq!(table.chunk(3), None);
    assert_eq!((table.tar_len(), table.stored_len()), (2236, 220));
    assert_eq!(table.blob_len(), 220 + 8 + 3 * 8 + 9);
}

#[test]
fn the_empty_tar_has_an_empty_table() {
    let table = ChunkTable::decode(&table(&[]).encode()).unwrap();
    assert!(table.is_empty());
    assert_eq!((table.tar_len(), table.len()), (0, 0));
    assert_eq!(table.chunks_in(0..10), 0..0);
}

#[test]
fn only_the_last_chunk_may_end_inside_a_block() {
    let mut builder = ChunkTableBuilder::new();
    builder.add(700, 70, ChunkDigest::of(b"")).unwrap();
    assert_eq!(
        builder.add(512, 50, ChunkDigest::of(b"")),
        Err(AddChunkError::Unaligned { tar_offset: 700 })
    );
}

#[test]
fn chunks_of_impossible_lengths_are_refused() {
    let mut builder = ChunkTableBuilder::new();
    for (tar_len, stored_len) in [(0, 9), (512, 0), (512, 4096), (CHUNK_LEN_MAX + 512, 9)] {
        assert!(
            builder
                .add(tar_len, stored_len, ChunkDigest::of(b""))
                .is_err()
        );
    }
}

#[test]
fn wrong_headers_are_named() {
    use DecodeTableError as Wrong;
    assert_eq!(decode_changed(|bytes| bytes[0] = 0), Err(Wrong::Magic));
    assert_eq!(
        decode_changed(|bytes| bytes[8] = 2),
        Err(Wrong::Version { actual: 2 })
    );
    assert_eq!(
        decode_changed(|bytes| bytes[12..16].fill(0xff)),
        Err(Wrong::TooMany {
            chunk_count: u32::MAX
        })
    );
    assert_eq!(
        decode_changed(|bytes| bytes[12] = 2),
        Err(Wrong::Length {
            actual_len: 184,
            expected_len: 144
        })
    );
    assert_eq!(
        decode_changed(|bytes| bytes[48] ^= 1),
        Err(Wrong::Sum {
            field: "tar",
            stated: 2237,
            actual: 2236
        })
    );
    assert_eq!(
        decode_changed(|bytes| bytes[56] ^= 1),
        Err(Wrong::Sum {
            field: "stored",
            stated: 221,
            actual: 220
        })
    );
    assert!(matches!(
        decode_changed(|bytes| bytes[64] = 1),
        Err(Wrong::Chunk {
            index: 1,
            source: AddChunkError::Unaligned { tar_offset: 1025 }
        })
    ));
    assert_eq!(
        decode_changed(|bytes| bytes.truncate(63)),
        Err(Wrong::Length {
            actual_len: 63,
            expected_len: 64
        })
    );
}

fn any_chunks() -> impl Strategy<Value = Vec<(u32, u32)>> {
    let blocks = prop::collection::vec((1_u32..6, 1_u32..500), 0..20);
    (blocks, 1_u32..512).prop_map(|(blocks, tail)| {
        let mut chunks: Vec<_> = blocks
            .into_iter()
            .map(|(blocks, stored_len)| (blocks * 512, stored_len))
            .collect();
        chunks.push((tail, 9));
        chunks
    })
}

proptest! {
    #[test]
    fn decoding_an_encoded_table_gives_it_back(chunks in any_chunks()) {
        let table = table(&chunks);
        prop_assert_eq!(ChunkTable::decode(&table.encode()).unwrap(), table);
    }

    /// The chunks of a range are exactly those that hold one of its bytes.
    #[test]
    fn chunks_in_a_range_equal_the_byte_model(
        chunks in any_chunks(),
        start in 0_u64..20_000,
        len in 0_u64..5000,
    ) {
        let table = table(&chunks);
        let range = start..start + len;
        let model: Vec<u32> = table
            .iter()
            .filter(|chunk| range.clone().any(|byte| chunk.tar_range.contains(&byte)))
            .map(|chunk| chunk.index)
            .collect();
        prop_assert_eq!(table.chunks_in(range).collect::<Vec<_>>(), model);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(change in prop::collection::vec((0_usize..184, any::<u8>()), 0..4)) {
        drop(decode_changed(|bytes| {
            for (at, value) in change {
                bytes[at] = value;
            }
        }));
    }
}
