//! What an operator can set, with defaults: the only file that reads configuration files and the environment.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use crate::cli::RoadChoice;

/// Where a server's data is, if nothing else is said.
pub(crate) const DEFAULT_DATA_DIRECTORY: &str = "/var/lib/slipway";

/// Where a registry listens, if nothing else is said: this machine alone.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:5000";

/// The configuration file, `DIR/slipway.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The node part.
    pub(crate) node: NodeConfig,
}

/// What can be set of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeConfig {
    /// How the kernel reads layers: `auto`, `erofs-file` or `erofs-loop`. Default `auto`.
    pub(crate) road: RoadChoice,
    /// How long a read waits for data before it fails, in seconds. Default 60.
    pub(crate) read_deadline_seconds: u64,
    /// What the kernel reads ahead in a mounted tree, in KiB. Default 128.
    pub(crate) mount_read_ahead_kib: u32,
    /// The character device of FUSE. Default `/dev/fuse`.
    pub(crate) fuse_device: PathBuf,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            road: RoadChoice::Auto,
            read_deadline_seconds: 60,
            mount_read_ahead_kib: 128,
            fuse_device: "/dev/fuse".into(),
        }
    }
}

/// Why the configuration was not taken.
#[derive(Debug, Error)]
pub(crate) enum ReadConfigError {
    /// The file cannot be read.
    #[error("configuration file {} could not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file says something that is not known here.
    #[error("configuration file {} cannot be understood", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads `given`, or `slipway.toml` in the data directory if that exists.
    ///
    /// # Errors
    ///
    /// [`ReadConfigError`]. An absent default file is no error.
    pub(crate) fn read(given: Option<&Path>, data: &Path) -> Result<Self, ReadConfigError> {
        let path = given.map_or_else(|| data.join("slipway.toml"), Path::to_owned);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if given.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(ReadConfigError::Read { path, source }),
        };
        toml::from_str(&text).map_err(|source| ReadConfigError::Parse {
            path,
            source: Box::new(source),
        })
    }
}

/// The value of a variable of our own environment, for `run -e NAME`.
pub(crate) fn own_variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the file that may")]
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_default_file_means_the_defaults() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Config::read(None, data.path()).unwrap(), Config::default());
        assert!(Config::read(Some(&data.path().join("x.toml")), data.path()).is_err());
    }

    #[test]
    fn a_road_can_be_forced() {
        let data = tempfile::tempdir().unwrap();
        fs::write(
            data.path().join("slipway.toml"),
            "[node]\nroad = \"erofs-loop\"\n",
        )
        .unwrap();
        let config = Config::read(None, data.path()).unwrap();
        assert_eq!(config.node.road, RoadChoice::ErofsLoop);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let data = tempfile::tempdir().unwrap();
        fs::write(
            data.path().join("slipway.toml"),
            "[node]\nraod = \"auto\"\n",
        )
        .unwrap();
        assert!(Config::read(None, data.path()).is_err());
    }
}
