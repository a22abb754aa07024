//! Layers and images for tests, made by code: no binary fixtures in the repository.
//!
//! [`LayerBuilder`] makes the tar of a layer, in every dialect that is met in the field;
//! [`ImageBuilder`] makes an image of such layers, as blobs or as an OCI layout on disk;
//! [`IndexBuilder`] joins images into a multi-platform index. [`random_stack`] makes stacks of layers
//! from random bytes, and [`ReferenceTree`] says what their root filesystem is: a model too simple
//! to be wrong, which shares no code with the crates under test.
//!
//! What is written here is written from the specifications, not with our own format crates: it is
//! what they are tested against. Equal calls give equal bytes.
//!
//! # What is not here
//!
//! Reading. And speed: contents are held in memory.

#![expect(clippy::expect_used, reason = "compressing into memory cannot fail")]

mod compress;
mod entry;
mod image;
mod index;
mod layer;
mod random;
mod reference;
mod tar_header;

pub use compress::{Compression, gzip, zstd};
pub use entry::{Dialect, Entry};
pub use image::{Blob, Flavour, Image, ImageBuilder, sha256};
pub use index::{Index, IndexBuilder};
pub use layer::LayerBuilder;
pub use random::{RandomStack, random_stack};
pub use reference::{
    ReferenceContent, ReferenceInode, ReferenceLayer, ReferenceTree, Refused, lay_over,
};
