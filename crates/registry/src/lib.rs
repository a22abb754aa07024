//! Push, pull, acceleration rules: the OCI distribution server.

mod options;
mod registry;

pub use options::RegistryOptions;
pub use registry::{OpenRegistryError, Registry};
