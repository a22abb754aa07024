//! One 512-byte tar header.
//!
//! ```text
//!   0 name      100   ┐            257 magic   6  "ustar\0", or "ustar " for GNU
//! 100 mode        8   │ version 7  263 version 2
//! 108 uid         8   │            265 uname  32 ┐ not read
//! 116 gid         8   │            297 gname  32 ┘
//! 124 size       12   │            329 devmajor 8
//! 136 mtime      12   │            337 devminor 8
//! 148 checksum    8   │            345 prefix 155 (131 in star's dialect; not in GNU's)
//! 156 type        1   │            508 "tar\0" in star's dialect
//! 157 linkname  100   ┘
//! ```

use super::ScanErrorKind;
use super::number::parse_number;

pub(super) const HEADER_LEN: usize = 512;

/// The fields of a header, parsed.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) path: Vec<u8>,
    pub(super) link_name: Vec<u8>,
    pub(super) type_flag: u8,
    pub(super) mode: u32,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) major: i64,
    pub(super) minor: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Version7,
    Ustar,
    Star,
    Gnu,
}

impl Header {
    /// Parses a block that is not all zeros.
    pub(super) fn parse(block: &[u8; HEADER_LEN]) -> Result<Self, ScanErrorKind> {
        check_sum(block)?;
        let dialect = dialect_of(block);
        let (major, minor) = match dialect {
            Dialect::Version7 => (0, 0),
            Dialect::Ustar | Dialect::Star | Dialect::Gnu => (
                number(&block[329..337], "devmajor")?,
                number(&block[337..345], "devminor")?,
            ),
        };
        let size = number(&block[124..136], "size")?;
        Ok(Self {
            path: full_path(block, dialect),
            link_name: c_string(&block[157..257]).to_vec(),
            type_flag: block[156],
            mode: permission_bits(number(&block[100..108], "mode")?),
            uid: number(&block[108..116], "uid")?,
            gid: number(&block[116..124], "gid")?,
            size: u64::try_from(size).map_err(|_| ScanErrorKind::Number { field: "size" })?,
            mtime: number(&block[136..148], "mtime")?,
            major,
            minor,
        })
    }
}

/// Returns the bytes before the first NUL.
pub(super) fn c_string(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}

/// The sum of all bytes, the checksum's own taken as spaces. Some old writers summed signed bytes.
fn check_sum(block: &[u8; HEADER_LEN]) -> Result<(), ScanErrorKind> {
    let stored = parse_number(&block[148..156]).ok_or(ScanErrorKind::Checksum)?;
    let counted = || block[..148].iter().chain(&block[156..]);
    let spaces = 8 * i64::from(b' ');
    let unsigned: i64 = counted().map(|byte| i64::from(*byte)).sum::<i64>() + spaces;
    let signed: i64 = counted()
        .map(|byte| i64::from(byte.cast_signed()))
        .sum::<i64>()
        + spaces;
    if stored == unsigned || stored == signed {
        return Ok(());
    }
    Err(ScanErrorKind::Checksum)
}

fn dialect_of(block: &[u8; HEADER_LEN]) -> Dialect {
    match (&block[257..263], &block[263..265], &block[508..512]) {
        (b"ustar\0", _, b"tar\0") => Dialect::Star,
        (b"ustar\0", _, _) => Dialect::Ustar,
        (b"ustar ", b" \0", _) => Dialect::Gnu,
        _ => Dialect::Version7,
    }
}

fn full_path(block: &[u8; HEADER_LEN], dialect: Dialect) -> Vec<u8> {
    let name = c_string(&block[..100]);
    let prefix = match dialect {
        Dialect::Ustar => c_string(&block[345..500]),
        Dialect::Star => c_string(&block[345..476]),
        Dialect::Gnu | Dialect::Version7 => b"",
    };
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// Whatever stands above the permission bits is the file's type, which the type flag says better.
fn permission_bits(mode: i64) -> u32 {
    u32::try_from(mode & 0o7777).unwrap_or_default()
}

fn number(bytes: &[u8], field: &'static str) -> Result<i64, ScanErrorKind> {
    parse_number(bytes).ok_or(ScanErrorKind::Number { field })
}
