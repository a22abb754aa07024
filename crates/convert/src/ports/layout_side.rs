//! A tag of an OCI layout directory as source or target.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use oci::{Descriptor, Digest, MANIFEST_LEN_MAX, OciLayout};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::{
    BlobStream, BoxError, ImageSource, ImageTarget, SourceError, SourceManifest, TargetError,
};

/// Length of the pieces in which a blob is read: each costs a hop to a thread that may block.
const PIECE_LEN: usize = 512 << 10;

/// One tag of a layout directory.
#[derive(Debug, Clone)]
pub struct LayoutSide {
    layout: OciLayout,
    tag: String,
}

impl LayoutSide {
    /// Names `tag` of `layout`. Nothing is read yet.
    pub fn new(layout: OciLayout, tag: impl Into<String>) -> Self {
        let tag = tag.into();
        Self { layout, tag }
    }

    /// Runs `work`, which may block, on a thread for that.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&OciLayout) -> Result<T, BoxError> + Send + 'static,
    ) -> Result<T, BoxError> {
        let layout = self.layout.clone();
        match tokio::task::spawn_blocking(move || work(&layout)).await {
            Ok(result) => result,
            Err(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl ImageSource for LayoutSide {
    async fn manifest(&self, digest: Option<&Digest>) -> Result<SourceManifest, SourceError> {
        let (tag, digest) = (self.tag.clone(), digest.copied());
        let subject = match digest {
            Some(digest) => format!("manifest {digest} in {}", self.place()),
            None => format!("tag {tag} in {}", self.place()),
        };
        let read = self
            .blocking(move |layout| read_manifest(layout, &tag, digest))
            .await;
        match read {
            Ok(Some(manifest)) => Ok(manifest),
            Ok(None) => Err(SourceError::Absent { subject }),
            Err(source) => Err(SourceError::Read { subject, source }),
        }
    }

    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, SourceError> {
        let path = self.layout.blob_path(&blob.digest);
        let subject = format!("blob {} in {}", blob.digest, self.place());
        let file = File::open(&path)
            .await
            .map_err(|error| open_error(subject.clone(), error))?;
        let pieces = stream::try_unfold(file, |mut file| async move {
            let mut piece = BytesMut::with_capacity(PIECE_LEN);
            file.read_buf(&mut piece)
                .await
                .map(|len| (len > 0).then(|| (piece.freeze(), file)))
        });
        let pieces = pieces.map_err(move |error| SourceError::Read {
            subject: subject.clone(),
            source: error.into(),
        });
        Ok(pieces.boxed())
    }
}

#[async_trait]
impl ImageTarget for LayoutSide {
    async fn has_blob(&self, digest: &Digest) -> Result<bool, TargetError> {
        let path = self.layout.blob_path(digest);
        let exists = tokio::fs::try_exists(&path).await;
        exists.map_err(|error| self.target_error(&format!("blob {digest}"), error.into()))
    }

    async fn put_blob_file(&self, blob: &Descriptor, path: &Path) -> Result<(), TargetError> {
        let (digest, path) = (blob.digest, path.to_owned());
        let put = self
            .blocking(move |layout| put_file(layout, digest, &path))
            .await;
        put.map_err(|error| self.target_error(&format!("blob {digest}"), error))
    }

    async fn put_blob_bytes(&self, blob: &Descriptor, bytes: Bytes) -> Result<(), TargetError> {
        let digest = blob.digest;
        let put = self
            .blocking(move |layout| Ok(layout.put_blob_bytes(&bytes)?))
            .await;
        put.map(drop)
            .map_err(|error| self.target_error(&format!("blob {digest}"), error))
    }

    async fn put_manifest(&self, manifest: &Descriptor, body: Bytes) -> Result<(), TargetError> {
        self.put_blob_bytes(manifest, body).await
    }

    async fn tag(&self, manifest: &Descriptor, _body: Bytes) -> Result<(), TargetError> {
        let (tag, manifest) = (self.tag.clone(), manifest.clone());
        let put = self
            .blocking(move |layout| Ok(layout.set_tag(&tag, manifest)?))
            .await;
        put.map_err(|error| self.target_error(&format!("tag {}", self.tag), error))
    }
}

impl LayoutSide {
    fn place(&self) -> String {
        self.layout.directory().display().to_string()
    }

    fn target_error(&self, subject: &str, source: BoxError) -> TargetError {
        let subject = format!("{subject} in {}", self.place());
        TargetError { subject, source }
    }
}

/// Reads the manifest with `digest`, or the one that `tag` names; `None` if there is none.
fn read_manifest(
    layout: &OciLayout,
    tag: &str,
    digest: Option<Digest>,
) -> Result<Option<SourceManifest>, BoxError> {
    let descriptor = match digest {
        // A blob of a layout has no media type: the body has to tell.
        Some(digest) => match std::fs::metadata(layout.blob_path(&digest)) {
            Ok(metadata) => Descriptor::new("", digest, metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        },
        None => match layout.find_tag(tag)? {
            Some(descriptor) => descriptor,
            None => return Ok(None),
        },
    };
    let body = layout.read_blob(&descriptor, MANIFEST_LEN_MAX)?;
    Ok(Some(SourceManifest { descriptor, body }))
}

/// Gives the file at `path` a second name in the layout. Where that cannot be, on another disk for
/// example, it is copied.
///
/// The converter took the file's digest while it wrote it, and proved it: it is not read for that
/// again.
fn put_file(layout: &OciLayout, digest: Digest, path: &Path) -> Result<(), BoxError> {
    if link_file(path, &layout.blob_path(&digest)).is_err() {
        layout.put_blob_file(&digest, path)?;
    }
    Ok(())
}

fn link_file(path: &Path, target: &Path) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    // Temporary files are for their owner only, blobs are for everybody.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()?;
    std::fs::hard_link(path, target)?;
    let Some(directory) = target.parent() else {
        return Ok(());
    };
    std::fs::File::open(directory)?.sync_all()
}

fn open_error(subject: String, error: io::Error) -> SourceError {
    if error.kind() == io::ErrorKind::NotFound {
        return SourceError::Absent { subject };
    }
    SourceError::Read {
        subject,
        source: error.into(),
    }
}
