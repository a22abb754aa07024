//! The layers that a node holds, whole or in part.
//!
//! A layer is one sparse file: its own tar, with holes where nothing was fetched yet.
//!
//! ```text
//! FORMAT                  the number of this layout
//! layers/
//! ├── table-<hex>/         a layer that is filled chunk by chunk, named by its chunk table's digest
//! │   ├── tar              the tar, sparse
//! │   ├── table            the chunk table
//! │   ├── present          one bit for each 512 bytes of the tar; set after the bytes were written
//! │   ├── present.synced   the bits whose bytes had reached the disk at the last checkpoint
//! │   ├── layer.json       what this is, and the boot that `present` belongs to
//! │   └── complete         exists once SHA-256(tar) was seen to equal the diff ID
//! └── diff-<hex>/          a layer that came whole, named by its diff ID: tar, layer.json, complete
//! incoming/                whole layers on their way in
//! removed/                 layers on their way out
//! ```
//!
//! A partly filled layer is named by its *table*, not by its diff ID: the table decides which bytes
//! are right, and a table that lies about its diff ID must not decide for another image.
//!
//! # Invariants
//!
//! 1. A read is answered only with bytes that passed the gate in this process: they were admitted by
//!    it, or they were read back from the disk and their BLAKE3 matched.
//! 2. A bit is set only after its bytes were written; after a reboot only the bits of the last
//!    checkpoint count, and those were written after their bytes were synced.
//! 3. A tar never gets shorter, so a mounted tree never sees its end move.
//! 4. A layer that a process has open is not removed (`flock`, so a killed process holds nothing).
//!
//! # Concurrency
//!
//! Any number of readers and writers. Two writers of one range write the same bytes.
//!
//! # What is not here
//!
//! Fetching on a miss (`layer-fetch`), and mounting (`lazy-mount`).

mod bitmap;
mod boot_id;
mod cache;
mod cached_layer;
mod files;
mod layer_key;
mod open_error;
mod presence;
mod record;
mod usage;
mod whole_layer;

pub use boot_id::BootId;
pub use cache::{CacheOptions, LayerCache};
pub use cached_layer::{
    AdmitError, CachedLayer, CheckpointError, CompleteError, Completion, Recheck, Scrubbed,
};
pub use files::{DirectWrites, LayerWrites, WriteStep};
pub use layer_key::{LayerKey, ParseLayerKeyError};
pub use open_error::{OpenCacheError, OpenLayerError};
pub use usage::{LayerUsage, PruneReport, RemoveError, Removed};
pub use whole_layer::{ImportError, WholeLayer, WholeLayerWriter};
