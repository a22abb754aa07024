//! Names, references, digests, manifests, media types; the distribution client.
//!
//! Everything that the OCI specifications define and that more than one crate has to speak of.
//! Text and JSON from outside are parsed here once; a value that exists is well formed.
//!
//! # Invariants
//!
//! 1. No input makes a parser of this crate panic, loop or allocate beyond its limit.
//! 2. The client returns whole bodies only after their digest matched. A stream is not verified:
//!    its reader has to do that.
//!
//! # What is not here
//!
//! Serving the protocol (`registry`), and anything that knows of accelerated images
//! (`image-format`).

#[macro_use]
mod text_type;

pub mod layout;
pub mod media_type;

mod client;
mod descriptor;
mod digest;
mod image_config;
mod lenient_json;
mod manifest;
mod reference;
mod registry_host;
mod repository_name;
mod tag;

pub use client::{
    BlobStream, BuildClientError, ClientError, ClientOptions, Credentials, FetchedManifest,
    PlainHttp, RegistryClient, RepositoryClient, RequestFault,
};
pub use descriptor::{Descriptor, Platform};
pub use digest::{Digest, DigestHasher, ParseDigestError};
pub use image_config::{
    CONFIG_LEN_MAX, ContainerConfig, ImageConfig, ParseConfigError, RootFilesystem,
};
pub use layout::OciLayout;
pub use manifest::{
    ImageIndex, ImageManifest, MANIFEST_LEN_MAX, Manifest, ManifestKind, ParseManifestError,
};
pub use reference::{ImageReference, ParseReferenceError, ParseSelectorError, Selector};
pub use registry_host::{ParseHostError, RegistryHost};
pub use repository_name::{ParseRepositoryError, RepositoryName};
pub use tag::{ParseTagError, Tag};
