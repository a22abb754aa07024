//! The stored form of a root tree: one zstd frame.
//!
//! The tree is fetched before anything of a container can start, so it is compressed harder than
//! chunks are.

use std::io;

use thiserror::Error;
use zstd::zstd_safe;

/// Longest root tree, in decoded bytes.
pub const ROOT_TREE_LEN_MAX: u64 = crate::erofs::TREE_LEN_MAX;

/// Level at which trees are compressed: part of what makes conversions repeatable.
const LEVEL: i32 = 9;

/// Compresses the bytes of a root tree.
///
/// # Errors
///
/// [`RootTreeBlobError`] if the tree is over [`ROOT_TREE_LEN_MAX`] or zstd refuses.
pub fn compress_root_tree(tree: &[u8]) -> Result<Vec<u8>, RootTreeBlobError> {
    check_len(tree.len() as u64)?;
    zstd::bulk::compress(tree, LEVEL).map_err(|source| RootTreeBlobError::Compress { source })
}

/// Decodes a stored root tree: exactly one frame that states its length.
///
/// The bytes are what was stored, no more: whether they are a tree is for the tree's parser.
///
/// # Errors
///
/// [`RootTreeBlobError`] says why the blob is not a root tree's.
pub fn decompress_root_tree(stored: &[u8]) -> Result<Vec<u8>, RootTreeBlobError> {
    if zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
        return Err(RootTreeBlobError::NotOneFrame);
    }
    let len = zstd_safe::get_frame_content_size(stored)
        .ok()
        .flatten()
        .ok_or(RootTreeBlobError::NotOneFrame)?;
    let capacity = check_len(len)?;
    zstd::bulk::decompress(stored, capacity)
        .map_err(|source| RootTreeBlobError::Decompress { source })
}

fn check_len(len: u64) -> Result<usize, RootTreeBlobError> {
    usize::try_from(len)
        .ok()
        .filter(|_| len <= ROOT_TREE_LEN_MAX)
        .ok_or(RootTreeBlobError::TooLong { len })
}

/// Why a root tree could not be stored or read back.
#[derive(Debug, Error)]
pub enum RootTreeBlobError {
    /// The tree is over the limit.
    #[error("a root tree of {len} bytes is over the limit of {ROOT_TREE_LEN_MAX}")]
    TooLong {
        /// Length of the tree in bytes.
        len: u64,
    },
    /// The blob is no zstd frame, a part of one, or more than one, or does not state its length.
    #[error("the root tree is not exactly one zstd frame of stated length")]
    NotOneFrame,
    /// Zstd did not compress the tree.
    #[error("could not compress the root tree")]
    Compress {
        /// What zstd said.
        source: io::Error,
    },
    /// Zstd could not decode the blob.
    #[error("could not decompress the root tree")]
    Decompress {
        /// What zstd said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_tree_comes_back_whole() {
        let tree = vec![7; 100_000];
        let stored = compress_root_tree(&tree).unwrap();
        assert_eq!(decompress_root_tree(&stored).unwrap(), tree);
    }

    #[test]
    fn a_blob_that_is_cut_or_has_a_tail_is_refused() {
        let stored = compress_root_tree(b"a tree").unwrap();
        let longer = [&stored[..], b"tail"].concat();
        for blob in [&stored[..stored.len() - 1], &longer, b""] {
            assert!(matches!(
                decompress_root_tree(blob),
                Err(RootTreeBlobError::NotOneFrame)
            ));
        }
    }

    #[test]
    fn a_frame_that_states_more_than_the_limit_is_not_decoded() {
        // Magic; a single segment with a content size of eight bytes; one empty last block.
        let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        bomb.extend_from_slice(&(1_u64 << 40).to_le_bytes());
        bomb.extend_from_slice(&[1, 0, 0]);
        assert!(matches!(
            decompress_root_tree(&bomb),
            Err(RootTreeBlobError::TooLong { len }) if len == 1 << 40
        ));
    }
}
