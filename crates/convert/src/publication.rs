//! What is put into the target, in its order: blobs, index artifacts, manifests, tag.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use oci::{Descriptor, Digest};

use crate::layer::StoredLayer;
use crate::ports::{ImageTarget, TargetError};
use crate::progress::{Phase, Progress};

/// Blobs that are put at the same time: enough to hide a registry's round trips for small ones, few
/// enough that the large ones do not fight for one disk.
const PUTS_AT_ONCE: usize = 4;

/// A finished image that nobody has yet.
#[derive(Debug, Default)]
pub(crate) struct Publication {
    blobs: Vec<(Descriptor, Content)>,
    blob_digests: HashSet<Digest>,
    index_artifacts: Vec<(Descriptor, Bytes)>,
    manifests: Vec<(Descriptor, Bytes)>,
}

#[derive(Debug)]
enum Content {
    Bytes(Bytes),
    Layer(Arc<StoredLayer>),
}

impl Publication {
    pub(crate) fn add_blob(&mut self, descriptor: Descriptor, bytes: Bytes) {
        self.add(descriptor, Content::Bytes(bytes));
    }

    pub(crate) fn add_layer(&mut self, descriptor: Descriptor, layer: Arc<StoredLayer>) {
        self.add(descriptor, Content::Layer(layer));
    }

    fn add(&mut self, descriptor: Descriptor, content: Content) {
        if self.blob_digests.insert(descriptor.digest) {
            self.blobs.push((descriptor, content));
        }
    }

    pub(crate) fn add_index_artifact(&mut self, descriptor: Descriptor, body: Bytes) {
        self.index_artifacts.push((descriptor, body));
    }

    /// Adds a manifest or an index; the one added last gets the tag.
    pub(crate) fn add_manifest(&mut self, descriptor: Descriptor, body: Bytes) {
        self.manifests.push((descriptor, body));
    }

    /// Puts everything.
    ///
    /// # Errors
    ///
    /// The first refusal of the target; what comes after it in the order is not put.
    pub(crate) async fn put(
        self,
        target: &dyn ImageTarget,
        progress: &dyn Progress,
    ) -> Result<(), TargetError> {
        let blob_count = self.blobs.len();
        progress.phase(Phase::Store { blob_count });
        stream::iter(self.blobs.into_iter().map(Ok))
            .try_for_each_concurrent(PUTS_AT_ONCE, |(descriptor, content)| async move {
                put_blob(target, &descriptor, content).await
            })
            .await?;
        progress.phase(Phase::Publish);
        let mut last = None;
        for (descriptor, body) in self.index_artifacts.into_iter().chain(self.manifests) {
            target.put_manifest(&descriptor, body.clone()).await?;
            last = Some((descriptor, body));
        }
        match last {
            Some((descriptor, body)) => target.tag(&descriptor, body).await,
            None => Ok(()),
        }
    }
}

async fn put_blob(
    target: &dyn ImageTarget,
    descriptor: &Descriptor,
    content: Content,
) -> Result<(), TargetError> {
    if target.has_blob(&descriptor.digest).await? {
        return Ok(());
    }
    match content {
        Content::Bytes(bytes) => target.put_blob_bytes(descriptor, bytes).await,
        Content::Layer(layer) => target.put_blob_file(descriptor, &layer.file).await,
    }
}
