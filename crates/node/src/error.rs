//! Why the node could not do what it was asked for, and what to do about it.

use oci::{ClientError, ParseReferenceError};
use thiserror::Error;

use crate::control::Failed;

/// Why a node did not start.
#[derive(Debug, Error)]
pub enum OpenNodeError {
    /// Its cache.
    #[error("the layer cache could not be opened")]
    Cache(#[from] layer_cache::OpenCacheError),
    /// Its client of registries.
    #[error("no connections to registries can be made")]
    Client(#[from] oci::BuildClientError),
    /// Its threads.
    #[error("fetching could not be started")]
    Engine(#[from] layer_fetch::StartEngineError),
}

/// Why the node could not do what it was asked for.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The name of the image.
    #[error("{text:?} does not name an image")]
    Reference {
        /// What was given.
        text: String,
        /// The cause.
        source: ParseReferenceError,
    },
    /// The registry says no or nothing.
    #[error("image {image} could not be fetched")]
    Fetch {
        /// The image.
        image: String,
        /// The cause.
        source: ClientError,
    },
    /// There is no such image.
    #[error("image {image} does not exist")]
    Absent {
        /// The image.
        image: String,
    },
    /// The image exists for other machines.
    #[error("image {image} has no manifest for linux/{architecture}")]
    Platform {
        /// The image.
        image: String,
        /// What this machine is.
        architecture: &'static str,
    },
    /// What the registry gave is not what it should be.
    #[error("image {image} cannot be used: {part}")]
    Invalid {
        /// The image.
        image: String,
        /// Which part of it.
        part: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The mount failed.
    #[error("image {image} could not be mounted")]
    Mount {
        /// The image.
        image: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The node's own disk.
    #[error("{what} could not be stored on this machine")]
    Store {
        /// What.
        what: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl NodeError {
    /// The error as it is shown to whoever asked.
    pub(crate) fn to_failed(&self) -> Failed {
        Failed {
            hint: self.hint().map(str::to_owned),
            ..Failed::of(self)
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Reference { .. } => {
                Some("write HOST[:PORT]/REPOSITORY[:TAG], for example 127.0.0.1:5000/ml/torch:2.15")
            }
            Self::Fetch { source, .. } if source.is_unreachable() => {
                Some("check that the registry runs and that its address and port are right")
            }
            Self::Absent { .. } => Some(
                "list what the registry has with `slipway image list`; an accelerated tag appears when its task is done (`slipway task list`)",
            ),
            Self::Platform { .. } => {
                Some("push the image for this machine's architecture, or run it on another machine")
            }
            Self::Invalid { .. } => Some(
                "the image was damaged or was not made by this version: convert or push it again",
            ),
            Self::Store { .. } => Some(
                "check free space and permissions (`df -h`), and empty the cache with `slipway cache prune`",
            ),
            Self::Mount { .. } => Some(
                "the kernel's log (`dmesg`) may say more; another road can be forced with `--road`",
            ),
            Self::Fetch { .. } => None,
        }
    }
}
