//! The config blob of an image: its diff IDs and how to run it.
//!
//! Parsed only. The image ID is the digest of the bytes, so who has to keep a config keeps those.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use thiserror::Error;

use crate::Digest;
use crate::lenient_json::{keys, null_as_empty};

/// Longest config that is parsed, in bytes: the limit of a manifest, which no known one reaches.
pub const CONFIG_LEN_MAX: u64 = 8 << 20;

/// What an image is made of and how it wants to be run. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    /// The processor, in Go's words. Empty if not stated.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, in Go's words. Empty if not stated.
    #[serde(default)]
    pub os: String,
    /// Variant of the processor.
    #[serde(default)]
    pub variant: Option<String>,
    /// The layers' diff IDs.
    pub rootfs: RootFilesystem,
    /// How to run a container of the image.
    #[serde(default)]
    pub config: Option<ContainerConfig>,
}

impl ImageConfig {
    /// Parses a config blob.
    ///
    /// # Errors
    ///
    /// [`ParseConfigError`] if it is over [`CONFIG_LEN_MAX`] or no image config.
    pub fn parse(body: &[u8]) -> Result<Self, ParseConfigError> {
        let actual_len = body.len() as u64;
        if actual_len > CONFIG_LEN_MAX {
            return Err(ParseConfigError::TooLarge { actual_len });
        }
        Ok(serde_json::from_slice(body)?)
    }
}

/// The root filesystem as a stack of layers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RootFilesystem {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digests of the uncompressed layers, the lowest first.
    #[serde(deserialize_with = "null_as_empty")]
    pub diff_ids: Vec<Digest>,
}

/// How a container of the image is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    /// `user[:group]`, as names or numbers. Empty means root.
    #[serde(deserialize_with = "null_as_empty")]
    pub user: String,
    /// The environment, each `NAME=value`.
    #[serde(deserialize_with = "null_as_empty")]
    pub env: Vec<String>,
    /// The command that is always run.
    #[serde(deserialize_with = "null_as_empty")]
    pub entrypoint: Vec<String>,
    /// Arguments of the entrypoint, or the command if there is none.
    #[serde(deserialize_with = "null_as_empty")]
    pub cmd: Vec<String>,
    /// Where the command starts. Empty means `/`.
    #[serde(deserialize_with = "null_as_empty")]
    pub working_dir: String,
    /// The signal that asks the command to end.
    pub stop_signal: Option<String>,
    /// Directories that want a volume.
    #[serde(deserialize_with = "keys")]
    pub volumes: BTreeSet<String>,
    /// Free text by key.
    #[serde(deserialize_with = "null_as_empty")]
    pub labels: BTreeMap<String, String>,
    /// Ports that the command listens on: `8080`, `53/udp`.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: BTreeSet<String>,
}

/// Why a blob is no image config.
#[derive(Debug, Error)]
pub enum ParseConfigError {
    /// The blob is over the limit.
    #[error("image config is {actual_len} bytes, the limit is {CONFIG_LEN_MAX}")]
    TooLarge {
        /// Length of the blob in bytes.
        actual_len: u64,
    },
    /// The blob is not JSON, or lacks a field, or a field has the wrong form.
    #[error("image config is not the JSON it should be")]
    Json(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_docker_config_is_understood() {
        let diff_id = Digest::of(b"tar");
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z",
            "rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}},"history":[{{}}],
            "config":{{"User":"app","Env":["A=b"],"Entrypoint":null,"Cmd":["sh"],"WorkingDir":"/w",
            "Volumes":{{"/data":{{}}}},"ExposedPorts":{{"80/tcp":{{}}}},"Labels":null,"OnBuild":[]}}}}"#
        );
        let image = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(image.rootfs.diff_ids, [diff_id]);
        let config = image.config.unwrap();
        assert_eq!(
            (config.user.as_str(), config.working_dir.as_str()),
            ("app", "/w")
        );
        assert_eq!(
            (config.env, config.cmd),
            (vec!["A=b".to_owned()], vec!["sh".to_owned()])
        );
        assert!(config.entrypoint.is_empty() && config.labels.is_empty());
        assert!(config.volumes.contains("/data") && config.exposed_ports.contains("80/tcp"));
    }

    #[test]
    fn a_config_without_diff_ids_is_refused() {
        for text in ["{}", r#"{"rootfs":{"type":"layers"}}"#, "[]", ""] {
            assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
