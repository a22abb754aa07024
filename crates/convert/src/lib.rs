//! Source image in, accelerated image out.
//!
//! [`convert_image`] reads an image from an [`ImageSource`], converts every layer in one pass, proves
//! that what it stored decodes to the layer's diff ID, and writes the accelerated image to an
//! [`ImageTarget`].
//!
//! # Invariants
//!
//! 1. The config is carried over byte for byte, and so are its `diff_ids`.
//! 2. Nothing is written to the target before every layer of the image was proven.
//! 3. The target is written in the order blobs, index artifacts, manifests, tag. The tag is what makes
//!    the rest visible.
//! 4. The same source bytes and the same options give the same target bytes, on every machine and with
//!    any number of threads.
//! 5. Memory does not grow with the length of a layer: every queue between two steps is bounded.
//!
//! # What is not here
//!
//! The format itself (`image-format`), and the decision which images are converted (`registry`).

mod assembly;
mod converted;
mod error;
mod image;
mod layer;
mod layer_stock;
mod options;
mod plan;
mod ports;
mod progress;
mod publication;
mod work_dir;

pub use converted::{Converted, ConvertedLayer, ConvertedPlatform, LeftOut};
pub use error::{ConvertError, UnreadableError};
pub use image::convert_image;
pub use layer::LayerError;
pub use options::ConvertOptions;
pub use ports::{
    BlobStream, BoxError, ImageSource, ImageTarget, LayoutSide, RegistrySide, SourceError,
    SourceManifest, TargetError,
};
pub use progress::{NoProgress, Phase, Progress};
