//! What a machine does with images: prepare one, mount it, run containers from it.
//!
//! The worker process holds a [`Node`]: the layer cache, the images that were prepared, and the
//! files that the FUSE directory serves. Other programs reach it through the control socket
//! ([`control`]). A container is started by the program that asked for it ([`container`]), not by
//! the worker: killing the worker kills no container.
//!
//! # Invariants
//!
//! 1. A root tree is mounted only after our own reader accepted every byte of it.
//! 2. What is on disk under `images/` is written whole or not at all; a new worker finds there
//!    all that it needs to serve the mounts of its predecessor, without the network.
//! 3. One mount for an image, shared by all its containers.

mod accelerated;
mod clock;
pub mod container;
pub mod control;
mod directories;
mod error;
mod image_record;
mod images;
mod layer_files;
mod leftovers;
mod lock;
mod new_image;
mod node;
mod plain;
mod resolve;
mod runtime_spec;
mod server;
mod user;

pub use clock::Stopwatch;
pub use directories::NodeDirectories;
pub use error::{NodeError, OpenNodeError};
pub use image_record::{ImageKind, ImageRecord, LayerRecord};
pub use leftovers::{detach_dead_images, detach_images};
pub use lock::FileLock;
pub use node::{Node, NodeOptions};
pub use server::serve_control;
