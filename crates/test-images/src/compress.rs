//! The compressions that layers are stored with.

use std::io::Write as _;

/// How a layer is stored in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// The tar as it is.
    None,
    /// One gzip member.
    Gzip,
    /// One zstd frame.
    Zstd,
}

impl Compression {
    /// Returns `tar` compressed this way.
    pub fn apply(self, tar: &[u8]) -> Vec<u8> {
        match self {
            Self::None => tar.to_vec(),
            Self::Gzip => gzip(tar),
            Self::Zstd => zstd(tar),
        }
    }
}

/// Compresses `bytes` into one gzip member without a time.
///
/// # Panics
///
/// Never: writing to memory does not fail.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes every byte");
    encoder.finish().expect("memory takes every byte")
}

/// Compresses `bytes` into one zstd frame.
///
/// # Panics
///
/// Never: compressing into memory does not fail.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 3).expect("memory takes every byte")
}
