//! The seek table of the published zstd seekable format, version 0.1.0.
//!
//! A skippable frame at the end of a blob: decoders that do not know it step over it.
//!
//! ```text
//! 0x184D2A5E  u32     magic of a skippable frame
//! length      u32     of all that follows
//! entries     count × (stored length u32, decoded length u32 [, checksum u32])
//! count       u32 ┐
//! descriptor  u8  │   footer, 9 bytes; bit 7 of the descriptor: entries have checksums
//! 0x8F92EAB1  u32 ┘
//! ```
//!
//! Our own readers go by the chunk table, which says more. The seek table makes the blob readable
//! at any offset by other tools.

use std::mem::size_of;

use thiserror::Error;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const FOOTER_MAGIC: u32 = 0x8F92_EAB1;
const CHECKSUM_FLAG: u8 = 0x80;

/// Bits 2 to 6 of the descriptor must be zero; 0 and 1 are for whoever wants them.
const RESERVED_BITS: u8 = 0x7c;

/// Most frames in a seek table: the format's own limit.
const FRAME_COUNT_MAX: u32 = 0x0800_0000;

const HEADER_LEN: usize = size_of::<Header>();
const ENTRY_LEN: usize = size_of::<Entry>();

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    magic: U32,
    frame_len: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Entry {
    stored_len: U32,
    decoded_len: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Footer {
    frame_count: U32,
    descriptor: u8,
    magic: U32,
}

const _: () = assert!(size_of::<Footer>() == SeekTable::FOOTER_LEN);

/// Lengths of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeekFrame {
    /// Length of the frame in the blob, in bytes.
    pub stored_len: u32,
    /// Length of what the frame decodes to, in bytes.
    pub decoded_len: u32,
}

/// The frames of a blob, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeekTable {
    frames: Vec<SeekFrame>,
}

impl SeekTable {
    /// How many bytes at the end of a blob tell how long its seek table is.
    pub const FOOTER_LEN: usize = 9;

    /// Makes the table of these frames.
    pub fn new(frames: impl IntoIterator<Item = SeekFrame>) -> Self {
        Self {
            frames: frames.into_iter().collect(),
        }
    }

    /// Returns the frames in order.
    pub fn frames(&self) -> &[SeekFrame] {
        &self.frames
    }

    /// Returns how long the table of `frame_count` frames is as a skippable frame, in bytes.
    pub const fn encoded_len(frame_count: usize) -> u64 {
        (HEADER_LEN + Self::FOOTER_LEN) as u64 + frame_count as u64 * ENTRY_LEN as u64
    }

    /// Encodes the table as a skippable frame without checksums.
    pub fn encode(&self) -> Vec<u8> {
        let count = u32::try_from(self.frames.len()).unwrap_or(FRAME_COUNT_MAX);
        debug_assert!(count < FRAME_COUNT_MAX);
        let body_len = self.frames.len() * ENTRY_LEN + Self::FOOTER_LEN;
        let header = Header {
            magic: SKIPPABLE_MAGIC.into(),
            frame_len: u32::try_from(body_len).unwrap_or(u32::MAX).into(),
        };
        let footer = Footer {
            frame_count: count.into(),
            descriptor: 0,
            magic: FOOTER_MAGIC.into(),
        };
        let mut encoded = Vec::with_capacity(HEADER_LEN + body_len);
        encoded.extend_from_slice(header.as_bytes());
        for frame in &self.frames {
            let entry = Entry {
                stored_len: frame.stored_len.into(),
                decoded_len: frame.decoded_len.into(),
            };
            encoded.extend_from_slice(entry.as_bytes());
        }
        encoded.extend_from_slice(footer.as_bytes());
        encoded
    }

    /// Returns how long the seek table is of the blob that ends in `footer`, in bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeSeekTableError`] if the blob ends otherwise.
    pub fn len_from_footer(footer: &[u8; Self::FOOTER_LEN]) -> Result<u64, DecodeSeekTableError> {
        let (count, entry_len) = read_footer(footer)?;
        Ok((HEADER_LEN + Self::FOOTER_LEN) as u64 + u64::from(count) * entry_len as u64)
    }

    /// Decodes a whole seek table, from its skippable frame's magic to the end of the blob.
    ///
    /// # Errors
    ///
    /// [`DecodeSeekTableError`] says which field is wrong.
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeSeekTableError> {
        let short = || DecodeSeekTableError::Length {
            actual_len: encoded.len(),
        };
        let (header, rest) = Header::ref_from_prefix(encoded).map_err(|_| short())?;
        let (entries, footer) = rest
            .split_last_chunk::<{ Self::FOOTER_LEN }>()
            .ok_or_else(short)?;
        let (count, entry_len) = read_footer(footer)?;
        if header.magic.get() != SKIPPABLE_MAGIC {
            return Err(DecodeSeekTableError::HeaderMagic);
        }
        // The bytes at hand bound what is allocated, whatever the count says.
        let is_consistent = header.frame_len.get() as usize == rest.len()
            && entries.len() as u64 == u64::from(count) * entry_len as u64;
        if !is_consistent {
            return Err(short());
        }
        let frames = entries.chunks_exact(entry_len).filter_map(read_entry);
        Ok(Self::new(frames))
    }
}

/// Returns the count of frames and the length of an entry.
fn read_footer(footer: &[u8; SeekTable::FOOTER_LEN]) -> Result<(u32, usize), DecodeSeekTableError> {
    let footer: &Footer = zerocopy::transmute_ref!(footer);
    if footer.magic.get() != FOOTER_MAGIC {
        return Err(DecodeSeekTableError::FooterMagic);
    }
    if footer.descriptor & RESERVED_BITS != 0 {
        return Err(DecodeSeekTableError::Reserved {
            descriptor: footer.descriptor,
        });
    }
    let count = footer.frame_count.get();
    if count > FRAME_COUNT_MAX {
        return Err(DecodeSeekTableError::TooMany { frame_count: count });
    }
    let has_checksums = footer.descriptor & CHECKSUM_FLAG != 0;
    let checksum_len = if has_checksums { size_of::<U32>() } else { 0 };
    Ok((count, ENTRY_LEN + checksum_len))
}

/// Reads an entry; a checksum after it is of no use to whoever has digests.
fn read_entry(entry: &[u8]) -> Option<SeekFrame> {
    let (entry, _) = Entry::ref_from_prefix(entry).ok()?;
    Some(SeekFrame {
        stored_len: entry.stored_len.get(),
        decoded_len: entry.decoded_len.get(),
    })
}

/// Why bytes are not a seek table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeSeekTableError {
    /// The length is not what header and footer say.
    #[error("a seek table of {actual_len} bytes does not have the length that it states")]
    Length {
        /// How many bytes there are.
        actual_len: usize,
    },
    /// The bytes are not the skippable frame of a seek table.
    #[error("the seek table does not begin as one")]
    HeaderMagic,
    /// The blob does not end in a seek table.
    #[error("the bytes do not end as a seek table does")]
    FooterMagic,
    /// Reserved bits are set.
    #[error("seek table descriptor {descriptor:#04x} has reserved bits set")]
    Reserved {
        /// The descriptor byte.
        descriptor: u8,
    },
    /// More frames than the seekable format allows.
    #[error("a seek table of {frame_count} frames is over the limit of {FRAME_COUNT_MAX}")]
    TooMany {
        /// What the footer says.
        frame_count: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_frames() -> SeekTable {
        SeekTable::new([
            SeekFrame {
                stored_len: 100,
                decoded_len: 1024,
            },
            SeekFrame {
                stored_len: 9,
                decoded_len: 5,
            },
        ])
    }

    fn footer_of(encoded: &[u8]) -> [u8; SeekTable::FOOTER_LEN] {
        *encoded.last_chunk().unwrap()
    }

    #[test]
    fn decoding_an_encoded_table_gives_it_back() {
        for table in [two_frames(), SeekTable::default()] {
            let encoded = table.encode();
            assert_eq!(
                encoded.len() as u64,
                SeekTable::encoded_len(table.frames().len())
            );
            assert_eq!(
                SeekTable::len_from_footer(&footer_of(&encoded)),
                Ok(encoded.len() as u64)
            );
            assert_eq!(SeekTable::decode(&encoded), Ok(table));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_seekable_format() {
        assert_eq!(
            two_frames().encode(),
            [
                0x5e, 0x2a, 0x4d, 0x18, 25, 0, 0, 0, 100, 0, 0, 0, 0, 4, 0, 0, 9, 0, 0, 0, 5, 0, 0,
                0, 2, 0, 0, 0, 0, 0xb1, 0xea, 0x92, 0x8f
            ]
        );
    }

    #[test]
    fn entries_with_checksums_are_read() {
        let encoded = [
            &[0x5e, 0x2a, 0x4d, 0x18, 21, 0, 0, 0][..],
            &[100, 0, 0, 0, 0, 4, 0, 0, 1, 2, 3, 4],
            &[1, 0, 0, 0, 0x80, 0xb1, 0xea, 0x92, 0x8f],
        ]
        .concat();
        let table = SeekTable::decode(&encoded).unwrap();
        assert_eq!(table.frames(), &two_frames().frames()[..1]);
    }

    #[test]
    fn any_changed_or_missing_structure_byte_is_noticed() {
        let encoded = two_frames().encode();
        let structure = (0..8).chain(24..encoded.len());
        // Bits 0 and 1 of the descriptor mean nothing.
        for at in structure.filter(|at| *at != 28) {
            let mut changed = encoded.clone();
            changed[at] ^= 1;
            assert!(SeekTable::decode(&changed).is_err(), "byte {at}");
        }
        for len in 0..encoded.len() {
            assert!(SeekTable::decode(&encoded[..len]).is_err(), "cut to {len}");
        }
    }
}
