//! A tag of an OCI layout directory as source or target.

use std::io;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use oci::layout::OciLayout;
use oci::{Descriptor, Digest};
use tokio::io::AsyncReadExt;

use super::{
    BlobStream, BoxError, ImageSource, ImageTarget, SourceError, SourceManifest, TargetError,
};

/// Length of the pieces in which a blob is read.
const PIECE_LEN: usize = 256 << 10;

/// One tag of a layout directory.
#[derive(Debug, Clone)]
pub struct LayoutSide {
    layout: OciLayout,
    tag: String,
}
