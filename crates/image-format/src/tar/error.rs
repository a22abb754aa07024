//! Why a tar could not be scanned.

use thiserror::Error;

/// Why a tar could not be scanned, and at which entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("tar entry {entry} at byte {offset} is not usable")]
pub struct ScanError {
    /// Name of the entry as far as it is known, quoted, or where in the tar it is.
    pub entry: EntryName,
    /// Where its header begins in the tar, in bytes.
    pub offset: u64,
    /// What is wrong with it.
    #[source]
    pub kind: ScanErrorKind,
}

/// An entry's name for people: quoted and escaped, or "(unnamed)".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName(pub(crate) Vec<u8>);

impl std::fmt::Display for EntryName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("(unnamed)");
        }
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// What is wrong with a tar entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScanErrorKind {
    /// The header's checksum is not the sum of its bytes: damaged, or not a tar at all.
    #[error("the header's checksum is wrong: damaged, or not a tar")]
    Checksum,
    /// A numeric field holds no number, or one that does not fit.
    #[error("the header's field {field} holds no usable number")]
    Number {
        /// Name of the field.
        field: &'static str,
    },
    /// A block of zeros was followed by something that is not one.
    #[error("a single block of zeros stands between entries")]
    LonelyZeroBlock,
    /// The tar ends within a header or within data that a header announced.
    #[error("the tar ends {missing} bytes before the end of it")]
    Truncated {
        /// How many bytes are missing at least.
        missing: u64,
    },
    /// The entry is of a type that containerd does not unpack either.
    #[error("entries of type {0:?} are not supported")]
    UnsupportedType(char),
    /// A pax header is not a list of records.
    #[error("the pax header before it is malformed: {0}")]
    Pax(&'static str),
    /// A sparse file's map contradicts itself or the entry's size.
    #[error("the sparse map is malformed: {0}")]
    Sparse(&'static str),
    /// A name has a zero byte in it.
    #[error("the name has a zero byte in it")]
    NulInName,
    /// A pax header or a long name is over the limit.
    #[error("a header of {len} bytes stands before it, the limit is {limit}")]
    HeaderTooLong {
        /// Its length, in bytes.
        len: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The names, links and attributes of the tar take too much memory.
    #[error("the headers of the tar hold more than {limit} bytes of names and attributes")]
    TooMuchText {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The tar has too many entries.
    #[error("the tar has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// The tar is longer than anything that can be addressed.
    #[error("the tar is too long")]
    TooLong,
}
