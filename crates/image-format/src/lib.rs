//! What an accelerated image is: tar scan, chunk table, root tree.
//!
//! `docs/formats/accelerated-image.md` is normative; this crate is what writes and reads it.
//!
//! # Invariants
//!
//! 1. No input makes a parser of this crate panic, loop or allocate beyond its limit.
//! 2. Bytes of a chunk are readable only after their digest matched ([`VerifiedChunk`]).
//! 3. The same input gives the same bytes, on every machine.
//!
//! # What is not here
//!
//! Any input or output but `Read` and `Write`: no file, no network, no clock, no thread.

mod accelerated_manifest;
pub mod annotations;
pub mod erofs;
pub mod tar;
pub mod tree;

mod chunk;
mod chunker;
mod layer_blob;
mod layer_decoder;
mod root_tree_blob;
mod seekable;
mod table;

pub use accelerated_manifest::{
    AcceleratedLayer, AcceleratedManifest, AnnotationError, EMPTY_CONFIG, LAYER_COUNT_MAX,
    ROOT_TREE_STORED_LEN_MAX, index_artifact,
};
pub use chunk::{
    CHUNK_LEN_MAX, ChunkCompressor, ChunkDecoder, ChunkDescriptor, ChunkDigest, ChunkMismatch,
    CompressChunkError, CreateDecoderError, DecodeChunkError, StoredChunk, TAR_BLOCK_LEN,
    UntrustedChunk, VerifiedChunk,
};
pub use chunker::{ChunkSizes, Chunker, InvalidAverage};
pub use layer_blob::{LayerBlobWriter, WriteBlobError};
pub use layer_decoder::{LayerCompression, LayerDecoder, WINDOW_LEN_MAX};
pub use root_tree_blob::{
    ROOT_TREE_LEN_MAX, RootTreeBlobError, compress_root_tree, decompress_root_tree,
};
pub use seekable::{DecodeSeekTableError, SeekFrame, SeekTable};
pub use table::{
    AddChunkError, CHUNK_COUNT_MAX, CHUNK_TABLE_LEN_MAX, ChunkTable, ChunkTableBuilder,
    DecodeTableError,
};
