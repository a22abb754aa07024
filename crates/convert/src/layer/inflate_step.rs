//! Second step: the tar comes out of its compression, and its digest is taken.

use std::io::{ErrorKind, Read};

use bytes::Bytes;
use image_format::LayerDecoder;
use oci::{Digest, DigestHasher};

use super::blob_check::{BlobCut, BlobReader};
use super::handover::{Giver, Taker};
use super::{LayerError, StepEnd};

/// Length of the blocks in which the tar goes on. It stays in a core's second cache, and a block is
/// enough work for its receiver to make the hand-over cheap.
const BLOCK_LEN: usize = 256 << 10;

/// Longest tar of a layer: the root tree addresses 512-byte blocks with 32 bits, of which the last number means a hole.
const TAR_LEN_MAX: u64 = (u32::MAX as u64 - 1) * 512;

/// Decompresses the blob `digest` and gives every block of its tar to both next steps.
///
/// # Errors
///
/// [`LayerError::Decompress`], if the blob cannot be decompressed, and [`LayerError::TarTooLong`].
pub(super) fn inflate(
    digest: Digest,
    blob: BlobReader,
    next: [Giver<Bytes>; 2],
) -> Result<(), StepEnd> {
    let failed = |source| {
        if BlobCut::is_in(&source) {
            return StepEnd::Stopped;
        }
        StepEnd::Failed(LayerError::Decompress { digest, source })
    };
    let mut decoder = LayerDecoder::new(blob).map_err(failed)?;
    let mut len = 0_u64;
    loop {
        let block = read_block(&mut decoder).map_err(failed)?;
        if block.is_empty() {
            break;
        }
        len += block.len() as u64;
        if len > TAR_LEN_MAX {
            let len_max = TAR_LEN_MAX;
            return Err(LayerError::TarTooLong { len_max }.into());
        }
        next.iter().try_for_each(|next| next.give(block.clone()))?;
    }
    next.into_iter().try_for_each(Giver::finish)
}

/// Reads a whole block, or what is left; nothing at the end.
fn read_block(decoder: &mut impl Read) -> std::io::Result<Bytes> {
    let mut block = vec![0; BLOCK_LEN];
    let mut len = 0;
    while len < block.len() {
        match decoder.read(&mut block[len..]) {
            Ok(0) => break,
            Ok(read_len) => len += read_len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    block.truncate(len);
    Ok(block.into())
}

/// Takes the digest of the tar and compares it with the config's.
///
/// # Errors
///
/// [`LayerError::DiffId`], if they differ.
pub(super) fn check_diff_id(wanted: Digest, blocks: &Taker<Bytes>) -> Result<(), StepEnd> {
    let mut hasher = DigestHasher::new();
    while let Some(block) = blocks.take()? {
        hasher.update(&block);
    }
    let actual = hasher.finish();
    if actual != wanted {
        return Err(LayerError::DiffId { wanted, actual }.into());
    }
    Ok(())
}
