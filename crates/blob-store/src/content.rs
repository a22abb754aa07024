//! The bytes of a blob on their way out.
//!
//! A file is read in large pieces on the blocking pool, one piece ahead of the reader. So a slow
//! reader occupies no thread, and a fast one finds its next piece ready.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::task::JoinHandle;

use oci::Digest;

use crate::ReadBlobError;

/// Bytes read from a file at a time.
///
/// Each piece costs one hand-over to the blocking pool (about 10 µs) and one `writev`. At 512 KiB
/// that is lost in the time of the copy itself, and two pieces per transfer are little memory.
const PIECE_LEN: u64 = 512 << 10;

/// The bytes of a blob in order, in pieces of any length.
pub type BlobStream = BoxStream<'static, Result<Bytes, ReadBlobError>>;

/// A blob, or a part of one, opened for reading.
pub struct BlobContent {
    /// Length of the whole blob in bytes.
    pub size: u64,
    /// The part that `stream` gives.
    pub range: Range<u64>,
    /// The bytes. Nothing was checked against the digest since they were stored.
    pub stream: BlobStream,
}

impl std::fmt::Debug for BlobContent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("BlobContent");
        shown
            .field("size", &self.size)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// Streams `range` of `file`.
pub(crate) fn stream_file(file: File, range: Range<u64>, digest: Digest) -> BlobStream {
    let first = FileReader {
        file,
        range,
        is_placed: false,
    };
    let started = first.spawn_next();
    stream::try_unfold(started, move |flying| async move {
        let Some(flying) = flying else {
            return Ok(None);
        };
        let read = flying.await.map_err(io::Error::other).flatten();
        let (piece, reader) = read.map_err(|source| ReadBlobError::Disk { digest, source })?;
        Ok(Some((piece, reader.spawn_next())))
    })
    .boxed()
}

type ReadPiece = JoinHandle<io::Result<(Bytes, FileReader)>>;

/// A file and what is still to be read of it.
struct FileReader {
    file: File,
    range: Range<u64>,
    is_placed: bool,
}

impl FileReader {
    fn spawn_next(self) -> Option<ReadPiece> {
        if self.range.is_empty() {
            return None;
        }
        Some(tokio::task::spawn_blocking(move || self.read_piece()))
    }

    fn read_piece(mut self) -> io::Result<(Bytes, Self)> {
        if !self.is_placed {
            self.file.seek(SeekFrom::Start(self.range.start))?;
            self.is_placed = true;
        }
        let wanted_len = PIECE_LEN.min(self.range.end - self.range.start);
        let mut piece = Vec::with_capacity(usize::try_from(wanted_len).unwrap_or(0));
        let read_len = (&self.file).take(wanted_len).read_to_end(&mut piece)? as u64;
        if read_len < wanted_len {
            // The file was cut since it was opened: never end the body early in silence.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.range.start += read_len;
        Ok((piece.into(), self))
    }
}
