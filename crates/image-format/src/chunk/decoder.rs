//! The gate: stored bytes in, verified bytes out.

use std::fmt;
use std::io;

use bytes::Bytes;
use thiserror::Error;
use zstd::bulk::Decompressor;
use zstd::zstd_safe;

use super::{CHUNK_LEN_MAX, ChunkDescriptor, ChunkDigest};

/// Bytes that claim to be a chunk: from a peer, the registry or the disk.
///
/// They have no accessor. The only way on is [`UntrustedChunk::verify`].
#[derive(Debug)]
pub struct UntrustedChunk {
    decoded: Bytes,
}

impl UntrustedChunk {
    /// Takes bytes that were decoded before, for example from a cache's disk.
    pub fn from_decoded(decoded: Bytes) -> Self {
        Self { decoded }
    }

    /// Decodes one frame with a context made for it. Many frames: [`ChunkDecoder::decode`].
    ///
    /// # Errors
    ///
    /// [`DecodeChunkError`] as [`ChunkDecoder::decode`] gives it.
    pub fn decode(stored: &[u8], expected: &ChunkDescriptor) -> Result<Self, DecodeChunkError> {
        ChunkDecoder::new()
            .map_err(|source| DecodeChunkError::Context { source })?
            .decode(stored, expected)
    }

    /// Checks the bytes against `expected` and makes them readable.
    ///
    /// # Errors
    ///
    /// [`ChunkMismatch`] if the digest differs. The bytes are dropped: a source that lied once has
    /// nothing else to say about this chunk.
    pub fn verify(self, expected: &ChunkDescriptor) -> Result<VerifiedChunk, ChunkMismatch> {
        let actual = ChunkDigest::of(&self.decoded);
        if actual == expected.digest {
            return Ok(VerifiedChunk {
                decoded: self.decoded,
            });
        }
        Err(ChunkMismatch {
            index: expected.index,
            expected: expected.digest,
            actual,
            decoded_len: self.decoded.len(),
        })
    }
}

/// Decoded bytes whose digest was checked. Only [`UntrustedChunk::verify`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedChunk {
    decoded: Bytes,
}

impl VerifiedChunk {
    /// Returns the bytes of the tar that the chunk holds.
    pub fn bytes(&self) -> &Bytes {
        &self.decoded
    }

    /// Gives the bytes away.
    pub fn into_bytes(self) -> Bytes {
        self.decoded
    }
}

/// Decodes frames one after the other, with one context.
///
/// A context is about 150 KiB and makes no sense to share: one for each thread.
pub struct ChunkDecoder {
    context: Decompressor<'static>,
}

impl ChunkDecoder {
    /// Makes a decoder.
    ///
    /// # Errors
    ///
    /// [`CreateDecoderError`] if there is no memory for the context.
    pub fn new() -> Result<Self, CreateDecoderError> {
        let context = Decompressor::new().map_err(|source| CreateDecoderError { source })?;
        Ok(Self { context })
    }

    /// Decodes `stored`, which must be exactly one frame of exactly the described lengths.
    ///
    /// At most the described length is allocated, whatever the frame says.
    ///
    /// # Errors
    ///
    /// [`DecodeChunkError`] says in what the frame differs from its descriptor. The decoder stays
    /// usable.
    pub fn decode(
        &mut self,
        stored: &[u8],
        expected: &ChunkDescriptor,
    ) -> Result<UntrustedChunk, DecodeChunkError> {
        let index = expected.index;
        let decoded_len = check_lengths(stored, expected)?;
        let mut decoded = Vec::with_capacity(decoded_len);
        self.context
            .decompress_to_buffer(stored, &mut decoded)
            .map_err(|source| DecodeChunkError::Frame { index, source })?;
        if decoded.len() != decoded_len {
            return Err(DecodeChunkError::DecodedLength {
                index,
                expected_len: expected.tar_len(),
                actual_len: Some(decoded.len() as u64),
            });
        }
        Ok(UntrustedChunk {
            decoded: decoded.into(),
        })
    }
}

impl fmt::Debug for ChunkDecoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ChunkDecoder")
            .finish_non_exhaustive()
    }
}

/// Checks everything that can be known before decoding and returns the length to decode.
fn check_lengths(stored: &[u8], expected: &ChunkDescriptor) -> Result<usize, DecodeChunkError> {
    let index = expected.index;
    let expected_len = expected.tar_len();
    let stored_len = stored.len() as u64;
    if stored_len != expected.stored_len() {
        return Err(DecodeChunkError::StoredLength {
            index,
            expected_len: expected.stored_len(),
            actual_len: stored_len,
        });
    }
    let decoded_len = u32::try_from(expected_len)
        .ok()
        .filter(|len| *len <= CHUNK_LEN_MAX)
        .ok_or(DecodeChunkError::TooLong {
            index,
            len: expected_len,
        })?;
    // Zstd would decode several frames in a row; a chunk is one, so that a frame is a chunk's
    // whole truth and the seek table agrees with the chunk table.
    if zstd_safe::find_frame_compressed_size(stored) != Ok(stored.len()) {
        return Err(DecodeChunkError::NotOneFrame { index });
    }
    let actual_len = zstd_safe::get_frame_content_size(stored).ok().flatten();
    if actual_len != Some(expected_len) {
        return Err(DecodeChunkError::DecodedLength {
            index,
            expected_len,
            actual_len,
        });
    }
    Ok(decoded_len as usize)
}

/// Why a decoder could not be made.
#[derive(Debug, Error)]
#[error("could not make a zstd decompression context")]
pub struct CreateDecoderError {
    source: io::Error,
}

/// Why stored bytes are not the chunk they should be, before any hash was looked at.
#[derive(Debug, Error)]
pub enum DecodeChunkError {
    /// There is no context to decode with.
    #[error("could not decode a chunk")]
    Context {
        /// Why there is none.
        source: CreateDecoderError,
    },
    /// More or fewer bytes were given than the table says.
    #[error("chunk {index} is {actual_len} stored bytes, the table says {expected_len}")]
    StoredLength {
        /// Which chunk.
        index: u32,
        /// What the table says.
        expected_len: u64,
        /// How many bytes there were.
        actual_len: u64,
    },
    /// The descriptor names more bytes than any chunk may have.
    #[error("chunk {index} is described as {len} bytes long, the limit is {CHUNK_LEN_MAX}")]
    TooLong {
        /// Which chunk.
        index: u32,
        /// What the descriptor says.
        len: u64,
    },
    /// The stored bytes are no zstd frame, a part of one, or more than one.
    #[error("chunk {index} is not exactly one zstd frame")]
    NotOneFrame {
        /// Which chunk.
        index: u32,
    },
    /// The frame decodes to another length than the table says.
    #[error("chunk {index} decodes to {} bytes, the table says {expected_len}", ShownLen(*actual_len))]
    DecodedLength {
        /// Which chunk.
        index: u32,
        /// What the table says.
        expected_len: u64,
        /// What the frame has, if it says so.
        actual_len: Option<u64>,
    },
    /// Zstd could not decode the frame.
    #[error("chunk {index} could not be decoded")]
    Frame {
        /// Which chunk.
        index: u32,
        /// What zstd said.
        source: io::Error,
    },
}

/// A length, or the words that there is none.
struct ShownLen(Option<u64>);

impl fmt::Display for ShownLen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(len) => len.fmt(formatter),
            None => formatter.write_str("an unknown number of"),
        }
    }
}

/// The bytes are not those that the table vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("chunk {index} is {decoded_len} bytes with digest {actual}, the table says {expected}")]
pub struct ChunkMismatch {
    /// Which chunk.
    pub index: u32,
    /// What the table says.
    pub expected: ChunkDigest,
    /// What the bytes hash to.
    pub actual: ChunkDigest,
    /// How many bytes were hashed.
    pub decoded_len: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::ChunkCompressor;
    use super::*;

    fn stored(decoded: &[u8]) -> (Vec<u8>, ChunkDescriptor) {
        let chunk = ChunkCompressor::new(3).unwrap().compress(decoded).unwrap();
        let descriptor = ChunkDescriptor {
            index: 7,
            tar_range: 512..512 + decoded.len() as u64,
            stored_range: 90..90 + chunk.frame.len() as u64,
            digest: chunk.digest,
        };
        (chunk.frame, descriptor)
    }

    #[test]
    fn a_chunk_comes_back_whole_from_a_reused_context() {
        let mut decoder = ChunkDecoder::new().unwrap();
        for len in [1, 512, 300_000] {
            let bytes: Vec<u8> = (0..len).map(|index: u32| index.to_le_bytes()[1]).collect();
            let (frame, descriptor) = stored(&bytes);
            let verified = decoder
                .decode(&frame, &descriptor)
                .unwrap()
                .verify(&descriptor);
            assert_eq!(&verified.unwrap().bytes()[..], &bytes[..]);
        }
    }

    #[test]
    fn other_bytes_of_the_right_length_do_not_pass_the_gate() {
        let (_, descriptor) = stored(b"good");
        let (evil, evil_descriptor) = stored(b"evil");
        let described = ChunkDescriptor {
            stored_range: evil_descriptor.stored_range,
            ..descriptor
        };
        let mismatch = UntrustedChunk::decode(&evil, &described)
            .unwrap()
            .verify(&described)
            .unwrap_err();
        assert_eq!(mismatch.actual, ChunkDigest::of(b"evil"));
        assert_eq!(mismatch.index, 7);
    }

    #[test]
    fn a_frame_that_decodes_to_more_than_the_table_says_is_not_decoded() {
        let (frame, mut descriptor) = stored(&vec![0; 1 << 20]);
        descriptor.tar_range.end = descriptor.tar_range.start + 512;
        assert!(matches!(
            UntrustedChunk::decode(&frame, &descriptor),
            Err(DecodeChunkError::DecodedLength {
                expected_len: 512,
                actual_len: Some(1_048_576),
                ..
            })
        ));
    }

    #[test]
    fn a_description_over_the_limit_is_refused_before_it_is_allocated() {
        let (frame, mut descriptor) = stored(b"small");
        descriptor.tar_range = 0..u64::MAX;
        assert!(matches!(
            UntrustedChunk::decode(&frame, &descriptor),
            Err(DecodeChunkError::TooLong { len: u64::MAX, .. })
        ));
    }

    #[test]
    fn two_frames_are_not_a_chunk() {
        let (mut frames, _) = stored(b"one");
        frames.extend_from_slice(&stored(b"two").0);
        let descriptor = ChunkDescriptor {
            index: 0,
            tar_range: 0..6,
            stored_range: 0..frames.len() as u64,
            digest: ChunkDigest::of(b"onetwo"),
        };
        assert!(matches!(
            UntrustedChunk::decode(&frames, &descriptor),
            Err(DecodeChunkError::NotOneFrame { .. })
        ));
    }

    proptest! {
        /// Whatever is done to a stored chunk, the gate gives its bytes or an error.
        #[test]
        fn a_flipped_byte_never_gives_other_bytes(at in 0_usize..4096, flip in 1_u8..) {
            let decoded: Vec<u8> = (0..9000_u32).map(|index| (index % 251).to_le_bytes()[0]).collect();
            let (mut frame, descriptor) = stored(&decoded);
            let at = at % frame.len();
            frame[at] ^= flip;
            let verified = UntrustedChunk::decode(&frame, &descriptor)
                .ok()
                .and_then(|chunk| chunk.verify(&descriptor).ok());
            if let Some(verified) = verified {
                prop_assert_eq!(&verified.bytes()[..], &decoded[..]);
            }
        }
    }
}
