//! First step: the source's blob has the length and the digest that the manifest gives it.

use crossbeam_channel::{Receiver, Sender};
use std::io::{self, Read};

use bytes::{Buf, Bytes};
use oci::{Descriptor, DigestHasher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{LayerError, Piece, StepEnd};

/// Passes the pieces of `blob` on to `next` and judges them at the end.
///
/// When the next step is gone the rest is still read and judged: damage in transfer shows as an error of
/// the decoder or of the scanner first, and the wrong digest is the better explanation.
pub(super) fn check_blob(
    blob: &Descriptor,
    mut pieces: mpsc::Receiver<Piece>,
    next: Sender<Bytes>,
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
        if next.as_ref().is_some_and(|next| next.send(piece.clone()).is_err()) {
            next = None;
        }
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
    Ok(())
}

fn wrong_length(blob: &Descriptor, actual: u64) -> StepEnd {
    StepEnd::Failed(LayerError::BlobLength {
        digest: blob.digest,
        wanted: blob.size,
        actual,
    })
}

/// The blob as the decoder reads it: ends where the first step ends, well or not.
#[derive(Debug)]
pub(super) struct BlobReader {
    pieces: Receiver<Bytes>,
    current: Bytes,
}

impl BlobReader {
    pub(super) fn new(pieces: Receiver<Bytes>) -> Self {
        let current = Bytes::new();
        Self { pieces, current }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => self.current = piece,
                Err(_ended) => return Ok(0),
            }
        }
        let len = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}
