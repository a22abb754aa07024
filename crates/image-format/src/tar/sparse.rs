//! GNU sparse files in pax archives: the versions 0.0 and 0.1 (in records) and 1.0 (before the data).

use super::pax::SparseRecords;
use super::{DataMap, ScanErrorKind, Segment};

/// Where the map of a sparse file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SparseVersion {
    /// In the pax records: offset, length, offset, length, ….
    Records(Vec<u64>),
    /// In the first blocks of the entry's data.
    InData,
}

/// Returns which kind of sparse file the records describe, `None` for an ordinary file.
///
/// Unknown versions are ordinary files, as for Go's reader.
pub(super) fn sparse_version(records: &SparseRecords) -> Option<SparseVersion> {
    match (records.major, records.minor) {
        (Some(1), Some(0)) => Some(SparseVersion::InData),
        (None, None) | (Some(0), Some(0 | 1)) => {
            let map = records
                .map
                .clone()
                .or_else(|| records.part_count.map(|_| Vec::new()))?;
            Some(SparseVersion::Records(map))
        }
        _ => None,
    }
}

/// Makes the data map of a sparse file whose parts lie one after the other from `tar_offset` on.
///
/// # Errors
///
/// If the parts are not sorted, overlap, pass the end, or are not `stored_len` bytes together.
pub(super) fn data_map(
    map: &[u64],
    size: u64,
    tar_offset: u64,
    stored_len: u64,
) -> Result<DataMap, ScanErrorKind> {
    if !map.len().is_multiple_of(2) {
        return Err(ScanErrorKind::Sparse("a part has no length"));
    }
    if i64::try_from(size).is_err() {
        return Err(ScanErrorKind::TooLong);
    }
    let mut segments = Vec::new();
    let (mut file_end, mut stored) = (0, 0);
    for part in map.chunks_exact(2) {
        let (file_offset, len) = (part[0], part[1]);
        let end = file_offset.checked_add(len).filter(|end| *end <= size);
        let end = end.ok_or(ScanErrorKind::Sparse("a part passes the end of the file"))?;
        if file_offset < file_end {
            return Err(ScanErrorKind::Sparse("the parts overlap or are not sorted"));
        }
        if len > stored_len - stored {
            return Err(ScanErrorKind::Sparse("the parts are longer than the entry"));
        }
        if len > 0 {
            segments.push(Segment {
                file_offset,
                tar_offset: tar_offset + stored,
                len,
            });
        }
        file_end = end;
        stored += len;
    }
    if stored != stored_len {
        return Err(ScanErrorKind::Sparse(
            "the parts are shorter than the entry",
        ));
    }
    Ok(DataMap { size, segments })
}

/// Reads the map of version 1.0: decimal numbers, each ended by a newline, the first one the count
/// of the pairs that follow.
#[derive(Debug)]
pub(super) struct SparseMapReader {
    /// The number being read, `None` before its first digit.
    number: Option<u64>,
    /// How many numbers follow the first one; known once that was read.
    wanted: Option<usize>,
    numbers: Vec<u64>,
    read_len: u64,
}

impl SparseMapReader {
    pub(super) fn new() -> Self {
        Self {
            number: None,
            wanted: None,
            numbers: Vec::new(),
            read_len: 0,
        }
    }

    /// Takes one block. What stands behind the last number of the map is padding.
    pub(super) fn feed(&mut self, block: &[u8]) -> Result<(), ScanErrorKind> {
        self.read_len += block.len() as u64;
        for byte in block {
            if self.map().is_some() {
                break;
            }
            self.take(*byte)?;
        }
        Ok(())
    }

    /// How many bytes were fed.
    pub(super) fn read_len(&self) -> u64 {
        self.read_len
    }

    /// Returns the map once it is complete.
    pub(super) fn map(&self) -> Option<&[u64]> {
        (self.wanted == Some(self.numbers.len())).then_some(&self.numbers)
    }

    fn take(&mut self, byte: u8) -> Result<(), ScanErrorKind> {
        let malformed = || ScanErrorKind::Sparse("the map is not a list of numbers");
        match (byte, self.number) {
            (b'0'..=b'9', number) => {
                let digit = u64::from(byte - b'0');
                let value = number.unwrap_or(0).checked_mul(10);
                let value = value.and_then(|value| value.checked_add(digit));
                self.number = Some(value.ok_or_else(malformed)?);
                Ok(())
            }
            (b'\n', Some(number)) => {
                self.number = None;
                self.end_number(number).ok_or_else(malformed)
            }
            _ => Err(malformed()),
        }
    }

    fn end_number(&mut self, number: u64) -> Option<()> {
        if self.wanted.is_some() {
            self.numbers.push(number);
        } else {
            self.wanted = Some(usize::try_from(number).ok()?.checked_mul(2)?);
        }
        Some(())
    }
}
