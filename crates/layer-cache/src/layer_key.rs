//! What a layer in the cache is named by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use oci::Digest;

/// The name of a layer in the cache: what its bytes are checked against.
///
/// Written as the name of its directory: `table-<hex>` or `diff-<hex>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LayerKey {
    /// A layer filled chunk by chunk; the digest is that of its encoded chunk table.
    ChunkTable(Digest),
    /// A layer that came whole; the digest is that of its tar.
    DiffId(Digest),
}

impl fmt::Display for LayerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChunkTable(digest) => write!(formatter, "table-{}", digest.to_hex()),
            Self::DiffId(digest) => write!(formatter, "diff-{}", digest.to_hex()),
        }
    }
}

impl FromStr for LayerKey {
    type Err = ParseLayerKeyError;

    fn from_str(text: &str) -> Result<Self, ParseLayerKeyError> {
        let parse = |hex: &str| {
            Digest::from_hex(hex).map_err(|source| ParseLayerKeyError::Digest { source })
        };
        if let Some(hex) = text.strip_prefix("table-") {
            return Ok(Self::ChunkTable(parse(hex)?));
        }
        let hex = text.strip_prefix("diff-").ok_or(ParseLayerKeyError::Kind)?;
        Ok(Self::DiffId(parse(hex)?))
    }
}

impl Serialize for LayerKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LayerKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Why a text is no [`LayerKey`].
#[derive(Debug, Error)]
pub enum ParseLayerKeyError {
    /// It begins with neither `table-` nor `diff-`.
    #[error("layer key begins with neither `table-` nor `diff-`")]
    Kind,
    /// What follows is not a SHA-256.
    #[error("layer key has no valid digest")]
    Digest {
        /// What is wrong with it.
        source: oci::ParseDigestError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_text() {
        for key in [
            LayerKey::ChunkTable(Digest::of(b"a")),
            LayerKey::DiffId(Digest::of(b"b")),
        ] {
            assert_eq!(key.to_string().parse::<LayerKey>().unwrap(), key);
        }
        assert!("table-12".parse::<LayerKey>().is_err());
        assert!("sha256:12".parse::<LayerKey>().is_err());
    }
}
