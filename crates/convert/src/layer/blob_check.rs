//! First step: the source's blob has the length and the digest that the manifest gives it.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use oci::{Descriptor, DigestHasher};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::handover::{Giver, Taker};
use super::{LayerError, Piece, StepEnd};

/// Passes the pieces of `blob` on to `next` and judges them at the end.
///
/// When the next step is gone the rest is still read and judged: damage in transfer shows as an error of
/// the decoder or of the scanner first, and the wrong digest is the better explanation.
pub(super) fn check_blob(
    blob: &Descriptor,
    mut pieces: mpsc::Receiver<Piece>,
    next: Giver<Bytes>,
    stop: &CancellationToken,
) -> Result<(), StepEnd> {
    let mut next = Some(next);
    let mut hasher = DigestHasher::new();
    let mut len = 0_u64;
    loop {
        if stop.is_cancelled() {
            return Err(StepEnd::Stopped);
        }
        let piece = match pieces.blocking_recv() {
            Some(Piece::Bytes(piece)) => piece,
            Some(Piece::Failed(error)) => return Err(error.into()),
            Some(Piece::End) => break,
            None => return Err(StepEnd::Stopped),
        };
        len += piece.len() as u64;
        if len > blob.size {
            return Err(wrong_length(blob, len));
        }
        next = next.filter(|next| next.give(piece.clone()).is_ok());
        hasher.update(&piece);
    }
    if len != blob.size {
        return Err(wrong_length(blob, len));
    }
    let actual = hasher.finish();
    if actual != blob.digest {
        let wanted = blob.digest;
        return Err(LayerError::BlobDigest { wanted, actual }.into());
    }
    next.map_or(Ok(()), Giver::finish)
}

fn wrong_length(blob: &Descriptor, actual: u64) -> StepEnd {
    StepEnd::Failed(LayerError::BlobLength {
        digest: blob.digest,
        wanted: blob.size,
        actual,
    })
}

/// The blob as the decoder reads it.
#[derive(Debug)]
pub(super) struct BlobReader {
    pieces: Taker<Bytes>,
    current: Bytes,
    has_ended: bool,
}

impl BlobReader {
    pub(super) fn new(pieces: Taker<Bytes>) -> Self {
        Self {
            pieces,
            current: Bytes::new(),
            has_ended: false,
        }
    }
}

impl Read for BlobReader {
    /// Gives the next bytes, or [`BlobCut`] when the first step found the blob wrong.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.has_ended {
            match self.pieces.take() {
                Ok(Some(piece)) => self.current = piece,
                Ok(None) => self.has_ended = true,
                Err(_stopped) => return Err(io::Error::other(BlobCut)),
            }
        }
        let len = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

/// The first step is gone, and says itself why.
#[derive(Debug, Error)]
#[error("blob was cut off")]
pub(super) struct BlobCut;

impl BlobCut {
    /// Tells whether `error` is this one, passed on by a decoder.
    pub(super) fn is_in(error: &io::Error) -> bool {
        let inner = error.get_ref();
        inner
            .and_then(|inner| inner.downcast_ref::<Self>())
            .is_some()
    }
}
