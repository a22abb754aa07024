//! One 512-byte tar header, field by field.

/// Length of a tar block, in bytes.
pub(crate) const BLOCK_LEN: usize = 512;

/// Largest number that the octal field of a size or a time can hold (11 digits).
const OCTAL_11_MAX: u64 = 0o777_7777_7777;

/// The fields of a header that are not made up from others.
#[derive(Debug, Clone)]
pub(crate) struct TarHeader<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) prefix: &'a [u8],
    pub(crate) link_name: &'a [u8],
    pub(crate) type_flag: u8,
    pub(crate) mode: u64,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    pub(crate) mtime: i64,
    pub(crate) device: Option<(u32, u32)>,
    pub(crate) magic: Magic,
}

/// Which family the header says it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Magic {
    /// Nothing: Unix version 7.
    None,
    /// `ustar\0` `00`.
    Posix,
    /// `ustar  \0`.
    Gnu,
}

impl TarHeader<'_> {
    /// Returns the block, with its checksum.
    pub(crate) fn encode(&self) -> [u8; BLOCK_LEN] {
        let mut block = [0; BLOCK_LEN];
        put_text(&mut block[0..100], self.name);
        put_number(&mut block[100..108], self.mode);
        put_number(&mut block[108..116], self.uid);
        put_number(&mut block[116..124], self.gid);
        put_number(&mut block[124..136], self.size);
        put_time(&mut block[136..148], self.mtime);
        block[156] = self.type_flag;
        put_text(&mut block[157..257], self.link_name);
        match self.magic {
            Magic::None => {}
            Magic::Posix => block[257..265].copy_from_slice(b"ustar\x0000"),
            Magic::Gnu => block[257..265].copy_from_slice(b"ustar  \0"),
        }
        if let Some((major, minor)) = self.device {
            put_number(&mut block[329..337], major.into());
            put_number(&mut block[337..345], minor.into());
        }
        if self.magic == Magic::Posix {
            put_text(&mut block[345..500], self.prefix);
        }
        put_checksum(&mut block);
        block
    }
}

/// Writes the checksum over whatever the block holds.
pub(crate) fn put_checksum(block: &mut [u8; BLOCK_LEN]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Writes a number as octal text, or in GNU's base 256 where it is too large for that.
pub(crate) fn put_number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let octal = format!("{value:0digits$o}");
    if octal.len() == digits {
        field[..digits].copy_from_slice(octal.as_bytes());
        field[digits] = 0;
        return;
    }
    put_base_256(field, i128::from(value));
}

fn put_time(field: &mut [u8], seconds: i64) {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds <= OCTAL_11_MAX => put_number(field, seconds),
        _ => put_base_256(field, i128::from(seconds)),
    }
}

fn put_base_256(field: &mut [u8], value: i128) {
    let raw = value.to_be_bytes();
    let len = field.len();
    field.copy_from_slice(&raw[raw.len() - len..]);
    field[0] |= 0x80;
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let len = text.len().min(field.len());
    field[..len].copy_from_slice(&text[..len]);
}
