//! The bytes of a chunk table; `docs/formats/accelerated-image.md` has them as tables.

use std::mem::size_of;

use oci::Digest;
use thiserror::Error;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{AddChunkError, CHUNK_COUNT_MAX, ChunkTable, ChunkTableBuilder, len_u32};
use crate::chunk::ChunkDigest;

/// What a chunk table begins with.
const MAGIC: [u8; 8] = *b"SLIPCHNK";

/// The version of the table that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Length of the header in bytes.
pub(super) const HEADER_LEN: usize = size_of::<Header>();

/// Length of a row in bytes.
pub(super) const ROW_LEN: usize = size_of::<EncodedRow>();

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    chunk_count: U32,
    diff_id: [u8; 32],
    tar_len: U64,
    stored_len: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EncodedRow {
    tar_len: U32,
    stored_len: U32,
    digest: [u8; ChunkDigest::LEN],
}

const _: () = assert!(HEADER_LEN == 64);
const _: () = assert!(ROW_LEN == 40);

pub(super) fn encode(table: &ChunkTable) -> Vec<u8> {
    let header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        chunk_count: table.len().into(),
        diff_id: *table.diff_id().as_bytes(),
        tar_len: table.tar_len().into(),
        stored_len: table.stored_len().into(),
    };
    let mut encoded = Vec::with_capacity(HEADER_LEN + table.rows.len() * ROW_LEN);
    encoded.extend_from_slice(header.as_bytes());
    for chunk in table.iter() {
        let row = EncodedRow {
            tar_len: len_u32(chunk.tar_len()).into(),
            stored_len: len_u32(chunk.stored_len()).into(),
            digest: *chunk.digest.as_bytes(),
        };
        encoded.extend_from_slice(row.as_bytes());
    }
    encoded
}

pub(super) fn decode(encoded: &[u8]) -> Result<ChunkTable, DecodeTableError> {
    let (header, rows) =
        Header::ref_from_prefix(encoded).map_err(|_| DecodeTableError::Length {
            actual_len: encoded.len(),
            expected_len: HEADER_LEN,
        })?;
    check_header(header)?;
    let chunk_count = header.chunk_count.get() as usize;
    // The count was checked, so this neither overflows nor allocates beyond the limit.
    let rows = <[EncodedRow]>::ref_from_bytes_with_elems(rows, chunk_count).map_err(|_| {
        DecodeTableError::Length {
            actual_len: encoded.len(),
            expected_len: HEADER_LEN + chunk_count * ROW_LEN,
        }
    })?;
    let table = decode_rows(rows)?.finish(Digest::from_bytes(header.diff_id));
    check_sum("tar", header.tar_len.get(), table.tar_len())?;
    check_sum("stored", header.stored_len.get(), table.stored_len())?;
    Ok(table)
}

fn check_header(header: &Header) -> Result<(), DecodeTableError> {
    if header.magic != MAGIC {
        return Err(DecodeTableError::Magic);
    }
    if header.version.get() != VERSION {
        return Err(DecodeTableError::Version {
            actual: header.version.get(),
        });
    }
    if header.chunk_count.get() > CHUNK_COUNT_MAX {
        return Err(DecodeTableError::TooMany {
            chunk_count: header.chunk_count.get(),
        });
    }
    Ok(())
}

fn decode_rows(rows: &[EncodedRow]) -> Result<ChunkTableBuilder, DecodeTableError> {
    let mut builder = ChunkTableBuilder {
        rows: Vec::with_capacity(rows.len()),
    };
    for (index, row) in rows.iter().enumerate() {
        builder
            .add(
                row.tar_len.get(),
                row.stored_len.get(),
                ChunkDigest::from_bytes(row.digest),
            )
            .map_err(|source| DecodeTableError::Chunk { index, source })?;
    }
    Ok(builder)
}

fn check_sum(field: &'static str, stated: u64, actual: u64) -> Result<(), DecodeTableError> {
    if stated == actual {
        return Ok(());
    }
    Err(DecodeTableError::Sum {
        field,
        stated,
        actual,
    })
}

/// Why bytes are not a chunk table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeTableError {
    /// There are too few or too many bytes.
    #[error("a chunk table is {actual_len} bytes long instead of {expected_len}")]
    Length {
        /// How many there are.
        actual_len: usize,
        /// How many the header asks for, or the length of a header.
        expected_len: usize,
    },
    /// The bytes are something else.
    #[error("the bytes do not begin as a chunk table does")]
    Magic,
    /// A version that is newer, or never was.
    #[error("chunk table version {actual} is not supported, only version {VERSION} is")]
    Version {
        /// What the header says.
        actual: u32,
    },
    /// More chunks than a layer may have.
    #[error("a chunk table of {chunk_count} chunks is over the limit of {CHUNK_COUNT_MAX}")]
    TooMany {
        /// What the header says.
        chunk_count: u32,
    },
    /// A row breaks the rules.
    #[error("chunk {index} of the table is not valid")]
    Chunk {
        /// 0-based row.
        index: usize,
        /// In what way.
        source: AddChunkError,
    },
    /// The header's sum is not that of the rows.
    #[error("the chunk table states {stated} {field} bytes, its chunks have {actual}")]
    Sum {
        /// `tar` or `stored`.
        field: &'static str,
        /// What the header says.
        stated: u64,
        /// What the rows add up to.
        actual: u64,
    },
}
