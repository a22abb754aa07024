//! A multi-platform image.

use std::io;
use std::path::Path;

use serde_json::json;

use crate::image::write_layout_index;
use crate::{Blob, Flavour, Image, ImageBuilder};

/// A multi-platform image that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The image index (or Docker's manifest list).
    pub index: Blob,
    /// Its images, in order.
    pub images: Vec<Image>,
}

/// Joins images into a multi-platform image.
#[derive(Debug, Clone, Default)]
pub struct IndexBuilder {
    images: Vec<Image>,
    flavour: Flavour,
}

impl IndexBuilder {
    /// Starts an OCI image index without images.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image; its platform is what its builder was told.
    #[must_use]
    pub fn image(mut self, image: ImageBuilder) -> Self {
        self.images.push(image.build());
        self
    }

    /// Chooses the media type of the index itself.
    #[must_use]
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    /// Returns the index with its images.
    pub fn build(self) -> Index {
        let media_type = match self.flavour {
            Flavour::Oci => "application/vnd.oci.image.index.v1+json",
            Flavour::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "manifests": self.images.iter().map(Image::descriptor).collect::<Vec<_>>(),
        });
        Index {
            index: Blob::new(media_type, index.to_string().into_bytes()),
            images: self.images,
        }
    }

    /// Builds the index into a new OCI layout at `dir`, as `tag`.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn write_layout(self, dir: &Path, tag: &str) -> io::Result<Index> {
        let index = self.build();
        index
            .images
            .iter()
            .try_for_each(|image| image.write_blobs(dir))?;
        index.index.write(dir)?;
        write_layout_index(dir, tag, index.index.descriptor())?;
        Ok(index)
    }
}
