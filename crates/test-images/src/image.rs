//! One image for one platform.

use std::path::Path;
use std::{fs, io};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::Compression;

/// Whose media types an image uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flavour {
    /// OCI image manifest.
    #[default]
    Oci,
    /// Docker image manifest, version 2, schema 2.
    Docker,
}

/// A blob, as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its media type.
    pub media_type: &'static str,
    /// `sha256:` and 64 hexadecimal digits, of `bytes`.
    pub digest: String,
    /// The bytes as they are stored.
    pub bytes: Vec<u8>,
}

/// An image that was built: everything that a registry would hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The manifest; its digest is the image's.
    pub manifest: Blob,
    /// The config.
    pub config: Blob,
    /// The layers, lowest first.
    pub layers: Vec<Blob>,
    /// The digests of the layers' tars, lowest first.
    pub diff_ids: Vec<String>,
    /// The tars of the layers, lowest first.
    pub tars: Vec<Vec<u8>>,
    pub(crate) platform: Value,
}

/// Makes an image of layers.
///
/// ```
/// use test_images::{Compression, ImageBuilder, LayerBuilder};
///
/// let tar = LayerBuilder::new().file("hello", "world").build();
/// let image = ImageBuilder::new().layer(tar, Compression::Gzip).command(["/hello"]).build();
/// assert_eq!(image.layers.len(), 1);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ImageBuilder {
    layers: Vec<(Vec<u8>, Compression)>,
    flavour: Flavour,
    platform: Option<(String, Option<String>)>,
    config: Map<String, Value>,
    subject: Option<Value>,
    annotations: Map<String, Value>,
}

impl ImageBuilder {
    /// Starts an OCI image for `linux/amd64` without layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer on top.
    #[must_use]
    pub fn layer(mut self, tar: Vec<u8>, compression: Compression) -> Self {
        self.layers.push((tar, compression));
        self
    }

    /// Chooses the media types.
    #[must_use]
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    /// Sets the processor, and its variant where there is one.
    #[must_use]
    pub fn platform(mut self, architecture: &str, variant: Option<&str>) -> Self {
        self.platform = Some((architecture.into(), variant.map(Into::into)));
        self
    }

    /// Sets the default command (`Cmd`).
    #[must_use]
    pub fn command<const N: usize>(self, command: [&str; N]) -> Self {
        self.config("Cmd", json!(command.to_vec()))
    }

    /// Sets the entry point (`Entrypoint`).
    #[must_use]
    pub fn entrypoint<const N: usize>(self, entrypoint: [&str; N]) -> Self {
        self.config("Entrypoint", json!(entrypoint.to_vec()))
    }

    /// Sets the environment (`Env`), each as `NAME=value`.
    #[must_use]
    pub fn env<const N: usize>(self, env: [&str; N]) -> Self {
        self.config("Env", json!(env.to_vec()))
    }

    /// Sets the user (`User`).
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.config("User", json!(user))
    }

    /// Sets the working directory (`WorkingDir`).
    #[must_use]
    pub fn working_dir(self, dir: &str) -> Self {
        self.config("WorkingDir", json!(dir))
    }

    /// Sets any field of the config's `config` object.
    #[must_use]
    pub fn config(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.into(), value);
        self
    }

    /// Adds an annotation to the manifest.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), json!(value));
        self
    }

    /// Makes the image a referrer of another manifest, named by its descriptor.
    #[must_use]
    pub fn subject(mut self, descriptor: Value) -> Self {
        self.subject = Some(descriptor);
        self
    }

    /// Returns the image.
    pub fn build(self) -> Image {
        let diff_ids: Vec<String> = self.layers.iter().map(|(tar, _)| sha256(tar)).collect();
        let layers: Vec<Blob> = self
            .layers
            .iter()
            .map(|layer| self.stored_layer(layer))
            .collect();
        let config = self.config_blob(&diff_ids);
        let manifest = self.manifest_blob(&config, &layers);
        Image {
            manifest,
            config,
            layers,
            diff_ids,
            platform: self.platform_object(),
            tars: self.layers.into_iter().map(|(tar, _)| tar).collect(),
        }
    }

    /// Builds the image into a new OCI layout at `dir`, as `tag`.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn write_layout(self, dir: &Path, tag: &str) -> io::Result<Image> {
        let image = self.build();
        image.write_layout(dir, tag)?;
        Ok(image)
    }

    fn stored_layer(&self, (tar, compression): &(Vec<u8>, Compression)) -> Blob {
        let media_type = match (self.flavour, compression) {
            (Flavour::Oci, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (Flavour::Oci, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Flavour::Oci, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Flavour::Docker, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (Flavour::Docker, Compression::Gzip) => {
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
            }
            (Flavour::Docker, Compression::Zstd) => {
                "application/vnd.docker.image.rootfs.diff.tar.zstd"
            }
        };
        Blob::new(media_type, compression.apply(tar))
    }

    fn platform_object(&self) -> Value {
        let mut platform = json!({ "architecture": "amd64", "os": "linux" });
        if let Some((architecture, variant)) = &self.platform {
            platform["architecture"] = json!(architecture);
            if let Some(variant) = variant {
                platform["variant"] = json!(variant);
            }
        }
        platform
    }

    fn config_blob(&self, diff_ids: &[String]) -> Blob {
        let mut config = self.platform_object();
        config["created"] = json!("2024-01-01T00:00:00Z");
        config["config"] = Value::Object(self.config.clone());
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        config["history"] = diff_ids
            .iter()
            .map(|_| json!({ "created_by": "test" }))
            .collect();
        let media_type = match self.flavour {
            Flavour::Oci => "application/vnd.oci.image.config.v1+json",
            Flavour::Docker => "application/vnd.docker.container.image.v1+json",
        };
        Blob::new(media_type, config.to_string().into_bytes())
    }

    fn manifest_blob(&self, config: &Blob, layers: &[Blob]) -> Blob {
        let media_type = match self.flavour {
            Flavour::Oci => "application/vnd.oci.image.manifest.v1+json",
            Flavour::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        };
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        if let Some(subject) = &self.subject {
            manifest["subject"] = subject.clone();
        }
        if !self.annotations.is_empty() {
            manifest["annotations"] = Value::Object(self.annotations.clone());
        }
        Blob::new(media_type, manifest.to_string().into_bytes())
    }
}

impl Image {
    /// Returns every blob but the manifest: the config, then the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// Returns the descriptor of the manifest, with its platform.
    pub fn descriptor(&self) -> Value {
        let mut descriptor = self.manifest.descriptor();
        descriptor["platform"] = self.platform.clone();
        descriptor
    }

    /// Writes the image into a new OCI layout at `dir`, as `tag`.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn write_layout(&self, dir: &Path, tag: &str) -> io::Result<()> {
        self.write_blobs(dir)?;
        write_layout_index(dir, tag, self.descriptor())
    }

    pub(crate) fn write_blobs(&self, dir: &Path) -> io::Result<()> {
        self.blobs()
            .chain([&self.manifest])
            .try_for_each(|blob| blob.write(dir))
    }
}

impl Blob {
    /// Names the bytes.
    pub fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        let digest = sha256(&bytes);
        Self {
            media_type,
            digest,
            bytes,
        }
    }

    /// Returns the blob's descriptor.
    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.bytes.len(),
        })
    }

    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        fs::write(
            blobs.join(self.digest.trim_start_matches("sha256:")),
            &self.bytes,
        )
    }
}

/// Returns the digest of `bytes`: `sha256:` and 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    let hex: Vec<String> = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{}", hex.concat())
}

/// Writes `oci-layout` and `index.json`, in which `tag` is the only image.
pub(crate) fn write_layout_index(dir: &Path, tag: &str, mut descriptor: Value) -> io::Result<()> {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor],
    });
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(dir.join("index.json"), index.to_string())
}
