//! An example image as the bench sees it: an OCI layout with one tag, `latest`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// Above this many stored bytes a full download is measured once, however many runs are asked for.
const LARGE_BYTES: u64 = 1 << 30;

/// One image to measure.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its short name: `mid`.
    pub name: String,
    /// Its OCI layout.
    pub layout: PathBuf,
    /// Sizes of its layers as they are stored, in bytes.
    pub layers: LayerSizes,
}

/// How many layers an image has and how large they are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSizes {
    /// Number of layers.
    pub count: usize,
    /// Sum of their stored sizes.
    pub bytes: u64,
}

impl Image {
    /// Reads the image `name` in `directory`.
    ///
    /// # Errors
    ///
    /// The layout is missing or not as expected.
    pub fn open(directory: &Path, name: &str) -> Result<Self> {
        let layout = directory.join(name);
        let layers = layer_sizes_of_layout(&layout)
            .with_context(|| format!("could not read image {name} in {}", layout.display()))?;
        Ok(Self {
            name: name.to_owned(),
            layout,
            layers,
        })
    }

    /// Returns how often a full download of it is measured when `runs` are asked for.
    pub fn full_runs(&self, runs: usize) -> usize {
        if self.layers.bytes > LARGE_BYTES {
            1
        } else {
            runs
        }
    }

    /// Returns the command to run: one that does its work and ends. Empty is the image's own.
    pub fn command(&self) -> &'static [&'static str] {
        // The image's own command is a server.
        if self.name == "small" {
            &["nginx", "-v"]
        } else {
            &[]
        }
    }
}

/// Returns the layer sizes of the first manifest of an OCI layout.
///
/// # Errors
///
/// A file is missing or is not what it should be.
pub fn layer_sizes_of_layout(layout: &Path) -> Result<LayerSizes> {
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let digest = index["manifests"][0]["digest"]
        .as_str()
        .and_then(|digest| digest.strip_prefix("sha256:"))
        .context("index.json names no manifest")?;
    let manifest = serde_json::from_slice(&fs::read(layout.join("blobs/sha256").join(digest))?)?;
    layer_sizes(&manifest)
}

/// Returns the layer sizes of a manifest.
///
/// # Errors
///
/// It is not the manifest of an image.
pub fn layer_sizes(manifest: &Value) -> Result<LayerSizes> {
    let layers = manifest["layers"]
        .as_array()
        .context("the manifest has no layers")?;
    let bytes = layers
        .iter()
        .map(|layer| layer["size"].as_u64().context("a layer has no size"));
    Ok(LayerSizes {
        count: layers.len(),
        bytes: bytes.sum::<Result<u64>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_summed() {
        let manifest = serde_json::json!({"layers": [{"size": 3}, {"size": 4}]});
        assert_eq!(
            layer_sizes(&manifest).unwrap(),
            LayerSizes { count: 2, bytes: 7 }
        );
        assert!(layer_sizes(&serde_json::json!({"manifests": []})).is_err());
    }

    #[test]
    fn a_large_image_is_downloaded_in_full_once() {
        let layers = LayerSizes {
            count: 1,
            bytes: LARGE_BYTES + 1,
        };
        let image = Image {
            name: "ml".into(),
            layout: PathBuf::new(),
            layers,
        };
        assert_eq!(image.full_runs(3), 1);
    }
}
