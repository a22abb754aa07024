//! A source layer's blob in, its tar out.
//!
//! The compression is told from the first bytes, not from the media type, as containerd does:
//! registries hold layers whose type is wrong.
//!
//! # Limits
//!
//! Memory is bounded whatever the blob says (a zstd window of at most [`WINDOW_LEN_MAX`]). The
//! length of the tar is not: whoever reads counts.

use std::fmt;
use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// Greatest zstd window that is accepted, as a power of two: what `zstd -d` accepts by default.
const WINDOW_LOG_MAX: u32 = 27;

/// Greatest zstd window that is accepted, in bytes.
pub const WINDOW_LEN_MAX: u64 = 1 << WINDOW_LOG_MAX;

/// How much of the compressed blob is read at a time. Fewer, larger reads keep a hashing or
/// channel reader below cheap.
const READ_LEN: usize = 256 << 10;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// How a layer's blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCompression {
    /// The blob is the tar.
    Plain,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames, skippable ones among them.
    Zstd,
}

impl LayerCompression {
    /// Tells the compression from the first four bytes, or fewer if there are no more.
    fn of(head: &[u8]) -> Self {
        // Skippable frames have sixteen magic numbers, 0x184D2A50 to 0x184D2A5F.
        let is_skippable = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18]);
        if head.starts_with(&ZSTD_MAGIC) || is_skippable {
            Self::Zstd
        } else if head.starts_with(&GZIP_MAGIC) {
            Self::Gzip
        } else {
            Self::Plain
        }
    }
}

impl fmt::Display for LayerCompression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Reads the tar of a layer out of its blob.
///
/// The blob is read to its very end before the end of the tar is reported, so a hash of the
/// blob is complete by then. A blob that is cut or has other bytes after it gives an error.
pub struct LayerDecoder<R: Read> {
    decoder: Decoder<R>,
}

/// The blob, with the bytes in front that were read to tell the compression.
type Blob<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum Decoder<R: Read> {
    Plain(Blob<R>),
    Gzip(Box<MultiGzDecoder<Blob<R>>>),
    Zstd(ZstdDecoder<'static, Blob<R>>),
}

impl<R: Read> LayerDecoder<R> {
    /// Reads the first bytes of `blob` and chooses the decoder.
    ///
    /// # Errors
    ///
    /// What `blob` says if it cannot be read.
    pub fn new(mut blob: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(ZSTD_MAGIC.len());
        blob.by_ref()
            .take(ZSTD_MAGIC.len() as u64)
            .read_to_end(&mut head)?;
        let compression = LayerCompression::of(&head);
        let blob = BufReader::with_capacity(READ_LEN, Cursor::new(head).chain(blob));
        let decoder = match compression {
            LayerCompression::Plain => Decoder::Plain(blob),
            LayerCompression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(blob))),
            LayerCompression::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(blob)?;
                decoder.window_log_max(WINDOW_LOG_MAX)?;
                Decoder::Zstd(decoder)
            }
        };
        Ok(Self { decoder })
    }

    /// Returns how the blob is compressed.
    pub fn compression(&self) -> LayerCompression {
        match &self.decoder {
            Decoder::Plain(_) => LayerCompression::Plain,
            Decoder::Gzip(_) => LayerCompression::Gzip,
            Decoder::Zstd(_) => LayerCompression::Zstd,
        }
    }
}

impl<R: Read> Read for LayerDecoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.decoder {
            Decoder::Plain(decoder) => decoder.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: Read> fmt::Debug for LayerDecoder<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LayerDecoder")
            .field("compression", &self.compression())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// Gives one byte at a time, as the slowest of networks would.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 3).unwrap()
    }

    fn decode(blob: &[u8]) -> io::Result<(LayerCompression, Vec<u8>)> {
        let mut decoder = LayerDecoder::new(Trickle(blob))?;
        let mut tar = Vec::new();
        decoder.read_to_end(&mut tar)?;
        Ok((decoder.compression(), tar))
    }

    #[test]
    fn the_compression_is_told_from_the_bytes() {
        let skippable = [0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let cases: [(Vec<u8>, LayerCompression, &[u8]); 8] = [
            (b"a tar".to_vec(), LayerCompression::Plain, b"a tar"),
            (Vec::new(), LayerCompression::Plain, b""),
            (vec![0x28], LayerCompression::Plain, &[0x28]),
            (gzip(b"one"), LayerCompression::Gzip, b"one"),
            (
                [gzip(b"one"), gzip(b"two")].concat(),
                LayerCompression::Gzip,
                b"onetwo",
            ),
            (zstd_frame(b"one"), LayerCompression::Zstd, b"one"),
            (
                [zstd_frame(b"one"), skippable.to_vec(), zstd_frame(b"two")].concat(),
                LayerCompression::Zstd,
                b"onetwo",
            ),
            (
                [skippable.to_vec(), zstd_frame(b"one")].concat(),
                LayerCompression::Zstd,
                b"one",
            ),
        ];
        for (blob, compression, tar) in cases {
            assert_eq!(decode(&blob).unwrap(), (compression, tar.to_vec()));
        }
    }

    #[test]
    fn a_blob_that_is_cut_or_has_a_tail_is_an_error() {
        let bytes: Vec<u8> = (0..5000_u32)
            .map(|index| (index % 241).to_le_bytes()[0])
            .collect();
        for blob in [gzip(&bytes), zstd_frame(&bytes)] {
            for len in 4..blob.len() {
                assert!(decode(&blob[..len]).is_err(), "cut to {len}");
            }
            assert!(decode(&[&blob[..], b"tail"].concat()).is_err());
        }
    }

    #[test]
    fn a_window_over_the_limit_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(WINDOW_LOG_MAX + 1).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&vec![7; 100_000]).unwrap();
        let blob = encoder.finish().unwrap();
        let error = decode(&blob).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }
}
