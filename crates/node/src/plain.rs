//! An ordinary image on the same road: its layers come whole, are decompressed to the tar and never
//! unpacked; the tree is built from the tar's headers.
//!
//! ```text
//! registry ─ async ─► pieces ─► [ SHA-256 of the blob · decompress ] ─► tar ─► [ scan · SHA-256 · write ]
//!                               one thread                              one thread
//! ```
//!
//! A layer counts only after both digests matched: the manifest's for the blob, the
//! configuration's for the tar.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};
use futures::{StreamExt, TryStreamExt, stream};
use image_format::{
    LayerDecoder,
    tar::{LayerScan, ScanError, TarScanner},
};
use layer_cache::{ImportError, LayerCache, WholeLayer};
use oci::{ClientError, Descriptor, Digest, DigestHasher, RepositoryClient};
use thiserror::Error;
use tokio::task::spawn_blocking;

/// Layers that are loaded side by side: enough to hide small layers behind a large one.
const LAYERS_AT_ONCE: usize = 3;

/// Pieces of a blob or tar that wait between two threads; with pieces of up to 256 KiB this bounds
/// a layer's memory to some 8 MiB.
const QUEUE_LEN: usize = 16;

/// Bytes of the tar handed over at a time.
const PIECE_LEN: usize = 256 << 10;

/// A layer that is here whole, and what its tar says.
#[derive(Debug)]
pub(crate) struct LoadedLayer {
    /// The tar.
    pub(crate) layer: WholeLayer,
    /// Its entries.
    pub(crate) scan: LayerScan,
}

/// Why a layer could not be loaded.
#[derive(Debug, Error)]
pub(crate) enum LoadLayerError {
    /// The registry.
    #[error("its data could not be fetched")]
    Fetch(#[from] ClientError),
    /// The blob is not the one that the manifest names.
    #[error("the registry sent a blob with digest {actual}")]
    OtherBlob {
        /// What came.
        actual: Digest,
    },
    /// The blob cannot be decompressed, or ends early.
    #[error("its data cannot be decompressed")]
    Decompress {
        /// The cause.
        source: io::Error,
    },
    /// The tar.
    #[error("its tar cannot be read")]
    Scan(#[from] ScanError),
    /// The cache.
    #[error("it could not be kept")]
    Import(#[from] ImportError),
    /// The cache's disk.
    #[error("it could not be written to the cache")]
    Write {
        /// The cause.
        source: io::Error,
    },
    /// A worker thread ended early; another error says why.
    #[error("its loading was given up")]
    Abandoned,
}

/// Loads all `layers` (blob and diff ID), those that the cache has from there.
///
/// `fetched` is told of each piece that came from the registry, in bytes.
pub(crate) async fn load_layers(
    cache: &LayerCache,
    repository: &RepositoryClient,
    layers: Vec<(Descriptor, Digest)>,
    fetched: impl Fn(u64) + Clone + Send + Sync + 'static,
) -> Result<Vec<LoadedLayer>, (Digest, LoadLayerError)> {
    stream::iter(layers)
        .map(|(blob, diff_id)| {
            let (cache, repository, fetched) = (cache.clone(), repository.clone(), fetched.clone());
            async move {
                load_layer(cache, &repository, &blob, diff_id, fetched)
                    .await
                    .map_err(|error| (diff_id, error))
            }
        })
        .buffered(LAYERS_AT_ONCE)
        .try_collect()
        .await
}

async fn load_layer(
    cache: LayerCache,
    repository: &RepositoryClient,
    blob: &Descriptor,
    diff_id: Digest,
    fetched: impl Fn(u64) + Send + 'static,
) -> Result<LoadedLayer, LoadLayerError> {
    let from_cache = cache.clone();
    if let Some(loaded) = run(move || rescan(&from_cache, &diff_id)).await? {
        return Ok(loaded);
    }
    let (blob_sender, blob_receiver) = bounded::<Bytes>(QUEUE_LEN);
    let (tar_sender, tar_receiver) = bounded::<Vec<u8>>(QUEUE_LEN);
    let expected = blob.digest;
    let decompressing = run(move || {
        decompress(blob_receiver, &expected, &|piece| {
            tar_sender.send(piece).is_ok()
        })
    });
    let keeping = run(move || keep(&cache, &diff_id, &tar_receiver));
    let fetching = fetch(repository, blob, blob_sender, fetched);
    let (fetching, decompressing, keeping) = tokio::join!(fetching, decompressing, keeping);
    // The first cause counts: an early end of one step makes those behind it fail too.
    fetching?;
    decompressing?;
    keeping
}

async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadLayerError> + Send + 'static,
) -> Result<T, LoadLayerError> {
    spawn_blocking(work)
        .await
        .unwrap_or(Err(LoadLayerError::Abandoned))
}

async fn fetch(
    repository: &RepositoryClient,
    blob: &Descriptor,
    pieces: crossbeam_channel::Sender<Bytes>,
    fetched: impl Fn(u64),
) -> Result<(), LoadLayerError> {
    let pieces = Arc::new(pieces);
    let mut stream = repository.fetch_blob(blob).await?;
    while let Some(piece) = stream.next().await {
        let piece = piece?;
        fetched(piece.len() as u64);
        let queue = Arc::clone(&pieces);
        // A full queue blocks: that must not hold up the event loop.
        let has_gone = match pieces.try_send(piece) {
            Ok(()) => false,
            Err(crossbeam_channel::TrySendError::Full(piece)) => {
                run(move || Ok(queue.send(piece).is_err())).await?
            }
            Err(crossbeam_channel::TrySendError::Disconnected(_)) => true,
        };
        if has_gone {
            // The next step failed and says why.
            return Ok(());
        }
    }
    Ok(())
}

/// Decompresses the blob and hands the tar on, piece by piece, as long as `hand_on` says so.
fn decompress(
    pieces: Receiver<Bytes>,
    expected: &Digest,
    hand_on: &dyn Fn(Vec<u8>) -> bool,
) -> Result<(), LoadLayerError> {
    let failed = |source| LoadLayerError::Decompress { source };
    let mut blob = HashedPieces {
        pieces,
        current: Bytes::new(),
        hasher: DigestHasher::new(),
    };
    let mut decoder =
        LayerDecoder::new(io::BufReader::with_capacity(PIECE_LEN, &mut blob)).map_err(failed)?;
    loop {
        let mut piece = Vec::with_capacity(PIECE_LEN);
        let len = (&mut decoder)
            .take(PIECE_LEN as u64)
            .read_to_end(&mut piece)
            .map_err(failed)?;
        if len == 0 {
            break;
        }
        if !hand_on(piece) {
            return Ok(());
        }
    }
    drop(decoder);
    io::copy(&mut blob, &mut io::sink()).map_err(failed)?;
    let actual = blob.hasher.finish();
    if actual == *expected {
        Ok(())
    } else {
        Err(LoadLayerError::OtherBlob { actual })
    }
}

fn keep(
    cache: &LayerCache,
    diff_id: &Digest,
    pieces: &Receiver<Vec<u8>>,
) -> Result<LoadedLayer, LoadLayerError> {
    let write_failed = |source| LoadLayerError::Write { source };
    let mut writer = cache.import_whole(diff_id).map_err(write_failed)?;
    let mut scanner = TarScanner::new();
    for piece in pieces {
        scanner.feed(&piece)?;
        io::Write::write_all(&mut writer, &piece).map_err(write_failed)?;
    }
    // The scan first: a tar that cannot be read is not kept.
    let scan = scanner.finish()?;
    let layer = writer.finish()?;
    Ok(LoadedLayer { layer, scan })
}

/// A layer that is whole in the cache already: only its headers have to be found again.
fn rescan(cache: &LayerCache, diff_id: &Digest) -> Result<Option<LoadedLayer>, LoadLayerError> {
    let failed = |source| LoadLayerError::Write { source };
    let Some(layer) = cache.whole(diff_id).map_err(failed)? else {
        return Ok(None);
    };
    let mut scanner = TarScanner::new();
    let mut buffer = vec![0; PIECE_LEN];
    let mut offset = 0;
    while offset < layer.tar_len() {
        let len = usize::try_from(layer.tar_len() - offset)
            .unwrap_or(usize::MAX)
            .min(PIECE_LEN);
        layer.read_at(&mut buffer[..len], offset).map_err(failed)?;
        scanner.feed(&buffer[..len])?;
        offset += len as u64;
    }
    Ok(Some(LoadedLayer {
        layer,
        scan: scanner.finish()?,
    }))
}

/// The blob's pieces as a reader that hashes what passes.
struct HashedPieces {
    pieces: Receiver<Bytes>,
    current: Bytes,
    hasher: DigestHasher,
}

impl Read for HashedPieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => {
                    self.hasher.update(&piece);
                    self.current = piece;
                }
                Err(_) => return Ok(0),
            }
        }
        let len = self.current.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.current.split_to(len));
        Ok(len)
    }
}
