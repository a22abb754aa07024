//! Last step: what was written is read back and decoded as a node would, and must be the tar.
//!
//! It runs a little behind the writer, so that its work is done when the layer is. It takes the bytes from
//! the file and shares nothing with the steps before it but the row of the table.

use std::os::unix::fs::FileExt;

use image_format::{ChunkDecoder, ChunkDescriptor};
use oci::{Digest, DigestHasher};

use super::handover::Taker;
use super::store_step::LayerFile;
use super::{LayerError, StepEnd};

/// Decodes and verifies each chunk as it is written, and the diff ID at the end.
///
/// # Errors
///
/// [`LayerError::ProofChunk`] or [`LayerError::Proof`], if what is stored is not the tar, and
/// [`LayerError::Store`], if it cannot be read back.
pub(super) fn prove(
    wanted: Digest,
    file: &LayerFile,
    written: &Taker<ChunkDescriptor>,
) -> Result<(), StepEnd> {
    let mut decoder = ChunkDecoder::new().map_err(LayerError::Decoder)?;
    let mut hasher = DigestHasher::new();
    let mut frame = Vec::new();
    while let Some(chunk) = written.take()? {
        let stored_len = usize::try_from(chunk.stored_len()).unwrap_or(usize::MAX);
        frame.resize(stored_len, 0);
        let read = file
            .file()
            .read_exact_at(&mut frame, chunk.stored_range.start);
        read.map_err(|error| file.failed(error))?;
        let index = chunk.index;
        let untrusted = decoder
            .decode(&frame, &chunk)
            .map_err(|source| LayerError::ProofDecode { index, source })?;
        let verified = untrusted.verify(&chunk).map_err(LayerError::ProofDigest)?;
        hasher.update(verified.bytes());
    }
    let actual = hasher.finish();
    if actual != wanted {
        return Err(LayerError::Proof { wanted, actual }.into());
    }
    Ok(())
}
