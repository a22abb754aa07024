//! The stored form of a layer: its tar as zstd frames, then a seek table.
//!
//! Any zstd decoder gives the tar back: frames decode one after the other, and the seek table is
//! a skippable frame.

use std::io::{self, Write};

use oci::Digest;
use thiserror::Error;

use crate::chunk::StoredChunk;
use crate::table::{AddChunkError, ChunkTable, ChunkTableBuilder};

/// Writes a layer blob in order and notes its chunk table.
///
/// After an error the blob is of no use; what was written of it stays with the writer below.
#[derive(Debug)]
pub struct LayerBlobWriter<W> {
    blob: W,
    table: ChunkTableBuilder,
}

impl<W: Write> LayerBlobWriter<W> {
    /// Makes a writer of a blob that begins where `blob` stands.
    pub fn new(blob: W) -> Self {
        Self {
            blob,
            table: ChunkTableBuilder::new(),
        }
    }

    /// Writes the next chunk of the tar.
    ///
    /// # Errors
    ///
    /// [`WriteBlobError`] if the chunk cannot follow those before it or `blob` fails.
    pub fn write_chunk(&mut self, chunk: &StoredChunk) -> Result<(), WriteBlobError> {
        let stored_len = u32::try_from(chunk.frame.len()).unwrap_or(u32::MAX);
        self.table.add(chunk.tar_len, stored_len, chunk.digest)?;
        self.blob.write_all(&chunk.frame)?;
        Ok(())
    }

    /// Writes the seek table, flushes, and returns what was written to and the chunk table.
    ///
    /// # Errors
    ///
    /// [`WriteBlobError::Write`] if `blob` fails.
    pub fn finish(mut self, diff_id: Digest) -> Result<(W, ChunkTable), WriteBlobError> {
        let table = self.table.finish(diff_id);
        self.blob.write_all(&table.to_seek_table().encode())?;
        self.blob.flush()?;
        Ok((self.blob, table))
    }
}

/// Why a layer blob could not be written.
#[derive(Debug, Error)]
pub enum WriteBlobError {
    /// The chunk breaks a rule of the format.
    #[error("the chunk does not fit into the layer")]
    Chunk {
        /// Which rule.
        #[from]
        source: AddChunkError,
    },
    /// The blob's file, or whatever it is, did not take the bytes.
    #[error("could not write the layer blob")]
    Write {
        /// What it said.
        #[from]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::chunk::{ChunkCompressor, ChunkDecoder};
    use crate::chunker::{ChunkSizes, Chunker};
    use crate::seekable::SeekTable;

    fn tar() -> Vec<u8> {
        (0..200_000_u32)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
            .collect()
    }

    fn stored(tar: &[u8]) -> (Vec<u8>, ChunkTable) {
        let mut compressor = ChunkCompressor::new(3).unwrap();
        let mut writer = LayerBlobWriter::new(Vec::new());
        let mut chunks = Vec::new();
        let mut chunker = Chunker::new(ChunkSizes::around(16 << 10).unwrap());
        chunker.feed(tar, &mut |chunk| chunks.push(chunk));
        chunker.finish(&mut |chunk| chunks.push(chunk));
        for chunk in chunks {
            writer
                .write_chunk(&compressor.compress(&chunk).unwrap())
                .unwrap();
        }
        writer.finish(Digest::of(tar)).unwrap()
    }

    #[test]
    fn an_ordinary_zstd_decoder_reads_the_tar() {
        for tar in [tar(), Vec::new()] {
            let (blob, _) = stored(&tar);
            let mut decoded = Vec::new();
            zstd::stream::read::Decoder::new(&blob[..])
                .unwrap()
                .read_to_end(&mut decoded)
                .unwrap();
            assert_eq!(decoded, tar);
        }
    }

    #[test]
    fn each_chunk_is_read_on_its_own() {
        let tar = tar();
        let (blob, table) = stored(&tar);
        let mut decoder = ChunkDecoder::new().unwrap();
        assert!(table.len() > 3);
        for chunk in table.iter() {
            let range = |range: std::ops::Range<u64>| {
                usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
            };
            let frame = &blob[range(chunk.stored_range.clone())];
            let verified = decoder
                .decode(frame, &chunk)
                .unwrap()
                .verify(&chunk)
                .unwrap();
            assert_eq!(&verified.bytes()[..], &tar[range(chunk.tar_range.clone())]);
        }
    }

    #[test]
    fn the_blob_ends_in_the_seek_table_that_the_chunk_table_foretells() {
        let (blob, table) = stored(&tar());
        assert_eq!(blob.len() as u64, table.blob_len());
        let at = usize::try_from(table.stored_len()).unwrap();
        assert_eq!(
            SeekTable::decode(&blob[at..]).unwrap(),
            table.to_seek_table()
        );
    }
}
