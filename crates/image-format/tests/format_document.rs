//! Re-creates the worked example of `docs/formats/accelerated-image.md` and compares.
//!
//! When the format changes on purpose, the failing test prints the block to paste.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::fmt::Write;

use image_format::erofs::write_erofs;
use image_format::tar::TarScanner;
use image_format::tree::merge_layers;
use image_format::{
    AcceleratedLayer, AcceleratedManifest, ChunkCompressor, ChunkDecoder, ChunkTable,
    LayerBlobWriter, annotations, compress_root_tree, decompress_root_tree,
};
use oci::{Descriptor, Digest, ImageManifest, media_type};
use test_images::{Entry, LayerBuilder};

const DOCUMENT: &str = include_str!("../../../docs/formats/accelerated-image.md");

/// Where the example's tar is cut.
const CUT: usize = 1024;

struct Example {
    tar: Vec<u8>,
    blob: Vec<u8>,
    table: ChunkTable,
    tree: Vec<u8>,
}

impl Example {
    fn new() -> Self {
        let file = Entry::file("hello.txt", "Hello, Slipway!\n").mtime(1_700_000_000, 0);
        let tar = LayerBuilder::new().entry(file).build();
        let (blob, table) = store(&tar);
        let tree = tree_of(&tar);
        Self {
            tar,
            blob,
            table,
            tree,
        }
    }

    fn manifest(&self) -> ImageManifest {
        let stored_tree = compress_root_tree(&self.tree).unwrap();
        AcceleratedManifest::build(
            &Descriptor::of(media_type::OCI_MANIFEST, br#"{"schemaVersion":2}"#),
            &BTreeMap::new(),
            Descriptor::of(media_type::OCI_CONFIG, b"{}"),
            &Descriptor::of(annotations::ROOT_TREE, &stored_tree),
            &[AcceleratedLayer {
                stored: Descriptor::of(media_type::OCI_LAYER_ZSTD, &self.blob),
                chunk_table: Descriptor::of(annotations::CHUNK_TABLE, &self.table.encode()),
            }],
        )
    }
}

fn store(tar: &[u8]) -> (Vec<u8>, ChunkTable) {
    let mut compressor = ChunkCompressor::new(3).unwrap();
    let mut writer = LayerBlobWriter::new(Vec::new());
    for chunk in tar.chunks(CUT) {
        writer
            .write_chunk(&compressor.compress(chunk).unwrap())
            .unwrap();
    }
    writer.finish(Digest::of(tar)).unwrap()
}

fn tree_of(tar: &[u8]) -> Vec<u8> {
    let mut scanner = TarScanner::new();
    scanner.feed(tar).unwrap();
    let layers = [scanner.finish().unwrap()];
    write_erofs(&merge_layers(&layers).unwrap(), &[tar.len() as u64]).unwrap()
}

/// Returns the fenced block that follows the marker of this name.
fn documented(name: &str) -> &'static str {
    let marker = format!("<!-- example: {name} -->");
    let (_, after) = DOCUMENT
        .split_once(&marker)
        .expect("the document has the marker");
    let (_, fenced) = after.split_once("```").expect("a block follows");
    let (_, block) = fenced.split_once('\n').expect("the fence is a line");
    block.split_once("```").expect("the block ends").0
}

fn assert_documented(name: &str, actual: &str) {
    assert!(
        documented(name) == actual,
        "the document's example {name:?} differs; it is now:\n{actual}"
    );
}

/// Writes bytes as `hexdump -C` does, without the text at the side.
fn hex_dump(bytes: &[u8]) -> String {
    let mut dump = String::new();
    let mut last: Option<&[u8]> = None;
    let mut is_starred = false;
    for (index, line) in bytes.chunks(16).enumerate() {
        if last == Some(line) && line.iter().all(|byte| *byte == 0) {
            if !is_starred {
                dump.push_str("*\n");
            }
            is_starred = true;
            continue;
        }
        (last, is_starred) = (Some(line), false);
        write!(dump, "{:08x} ", index * 16).unwrap();
        for byte in line {
            write!(dump, " {byte:02x}").unwrap();
        }
        dump.push('\n');
    }
    writeln!(dump, "{:08x}", bytes.len()).unwrap();
    dump
}

/// Reads what [`hex_dump`] wrote.
fn parse_hex_dump(dump: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in dump.lines().filter(|line| *line != "*") {
        let mut words = line.split_whitespace();
        let offset = usize::from_str_radix(words.next().unwrap(), 16).unwrap();
        bytes.resize(offset, 0);
        bytes.extend(words.map(|word| u8::from_str_radix(word, 16).unwrap()));
    }
    bytes
}

#[test]
fn the_tar_is_the_documented_one() {
    assert_documented("tar", &hex_dump(&Example::new().tar));
}

#[test]
fn the_layer_blob_is_the_documented_one() {
    assert_documented("layer-blob", &hex_dump(&Example::new().blob));
}

#[test]
fn the_chunk_table_is_the_documented_one() {
    assert_documented("chunk-table", &hex_dump(&Example::new().table.encode()));
}

#[test]
fn the_root_tree_is_the_documented_one() {
    let tree = Example::new().tree;
    assert_documented("root-tree", &hex_dump(&tree));
    assert_documented(
        "root-tree-stored",
        &hex_dump(&compress_root_tree(&tree).unwrap()),
    );
}

#[test]
fn the_manifest_is_the_documented_one() {
    let manifest = Example::new().manifest();
    let pretty = serde_json::to_string_pretty(&manifest).unwrap();
    assert_documented("manifest", &format!("{pretty}\n"));
}

#[test]
fn the_documented_bytes_are_read() {
    let tar = parse_hex_dump(documented("tar"));
    let blob = parse_hex_dump(documented("layer-blob"));
    let table = ChunkTable::decode(&parse_hex_dump(documented("chunk-table"))).unwrap();
    assert_eq!(table.diff_id(), Digest::of(&tar));
    assert_eq!(table.blob_len(), blob.len() as u64);

    let mut decoder = ChunkDecoder::new().unwrap();
    let mut actual_tar = Vec::new();
    for chunk in table.iter() {
        let start = usize::try_from(chunk.stored_range.start).unwrap();
        let end = usize::try_from(chunk.stored_range.end).unwrap();
        let untrusted = decoder.decode(&blob[start..end], &chunk).unwrap();
        actual_tar.extend_from_slice(untrusted.verify(&chunk).unwrap().bytes());
    }
    assert_eq!(actual_tar, tar);

    let tree = decompress_root_tree(&parse_hex_dump(documented("root-tree-stored"))).unwrap();
    assert_eq!(tree, parse_hex_dump(documented("root-tree")));

    let manifest: ImageManifest = serde_json::from_str(documented("manifest")).unwrap();
    let accelerated = AcceleratedManifest::from_manifest(&manifest)
        .unwrap()
        .unwrap();
    assert_eq!(accelerated.layers[0].stored.digest, Digest::of(&blob));
}
