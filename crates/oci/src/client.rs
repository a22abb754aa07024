//! The client of a registry: the OCI distribution protocol over HTTP/1.1.
//!
//! ```text
//! RegistryClient ── one pool of connections, options, tokens
//!   └── RepositoryClient ── one repository: manifests, blobs, referrers, tags
//! ```
//!
//! # Invariants
//!
//! 1. A whole body ([`RepositoryClient::fetch_manifest`], [`RepositoryClient::fetch_blob_bytes`])
//!    was checked against its digest. A [`BlobStream`] was not: its length only.
//! 2. Credentials go to the registry they are for and to its own token service, to nobody else,
//!    and are in no error, URL or `Debug` text.
//! 3. Nothing is retried, except once after a token was fetched: retries are the caller's.
//! 4. Absence is `None`, never an error, where the protocol answers 404 to a question.
//!
//! # Concurrency
//!
//! Clients are cheap to clone and share everything. Each future may be dropped half-way; a dropped
//! push leaves an upload session behind, which the registry forgets in time.
//!
//! # What is not here
//!
//! Serving the protocol (`registry`), mirrors and peers (`layer-fetch`).

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;

mod auth;
mod blob_body;
mod challenge;
mod error;
mod exchange;
mod fetch;
mod options;
mod push;
mod referrers;
mod registry_client;
mod repository_client;

pub use error::{BuildClientError, ClientError, RequestFault};
pub use options::{ClientOptions, Credentials, PlainHttp};
pub use registry_client::RegistryClient;
pub use repository_client::{FetchedManifest, RepositoryClient};

/// The bytes of a blob as they arrive. Not verified; exactly as many as promised, or an error.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, ClientError>> + Send>>;
