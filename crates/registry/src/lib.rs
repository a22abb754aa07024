//! Push, pull, acceleration rules: the OCI distribution server.
//!
//! [`Registry`] is opened on a directory and gives the routes that a program serves, and the
//! converter that turns each pushed tag of an accelerating repository into an accelerated one.
//!
//! # Invariants
//!
//! 1. Order of writes: blob, then manifest, then tag; each is synced before the next is begun, and
//!    before it is acknowledged.
//! 2. A repository reads only what was pushed to it or mounted into it.
//! 3. No blob is ever held in memory whole.
//! 4. An accelerated tag changes in one step, and only while its source tag points at what was
//!    converted.
//!
//! # What is not here
//!
//! Listening and configuration (the program), how an image is converted (`convert`), users and
//! access, garbage collection: a blob that nothing names any more stays on the disk.

mod content;
mod conversion;
mod error_chain;
mod http;
mod manifest_push;
mod options;
mod registry;
mod upload_sessions;

pub use options::{RegistryLimits, RegistryOptions};
pub use registry::{OpenRegistryError, Registry};
