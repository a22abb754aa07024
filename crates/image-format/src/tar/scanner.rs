//! The push scanner: bytes of the tar in, [`LayerScan`] out.
//!
//! ```text
//!            ┌──────────────── Header ◀───────────────┐
//!            │ x, L, K         │ file     │ zeros      │
//!            ▼                 ▼          ▼            │
//!          Body            SparseMap   ZeroBlock       │
//!            │                 │          │ zeros      │
//!            └────▶ Skip ◀─────┘          ▼            │
//!                    │                   End           │
//!                    └─────────────────────────────────┘
//! ```

use super::error::{EntryName, ScanError, ScanErrorKind};
use super::header::{HEADER_LEN, Header, c_string};
use super::pax::PaxRecords;
use super::sparse::{SparseMapReader, SparseVersion, data_map, sparse_version};
use super::{DataMap, DeviceNumber, EntryKind, LayerScan, TAR_BLOCK_LEN, TarEntry, Timestamp};

/// Longest pax header or GNU long name, in bytes. Go's reader has the same limit.
const SPECIAL_LEN_MAX: u64 = 1 << 20;

/// Most entries of one layer. The largest real layers have some hundred thousand.
const ENTRIES_MAX: usize = 4 << 20;

/// Most bytes of names, link targets and attributes that one layer's entries may hold together:
/// about 256 for each of the most entries.
const TEXT_LEN_MAX: u64 = 1 << 30;

/// Finds the entries of a tar that is pushed in pieces.
///
/// ```
/// # use image_format::tar::TarScanner;
/// let mut scanner = TarScanner::new();
/// scanner.feed(&[0; 700])?;
/// scanner.feed(&[0; 324])?;
/// let scan = scanner.finish()?;
/// assert_eq!((scan.tar_len, scan.entries.len()), (1024, 0));
/// # Ok::<(), image_format::tar::ScanError>(())
/// ```
#[derive(Debug)]
pub struct TarScanner {
    state: State,
    /// Bytes of the tar that were consumed.
    offset: u64,
    /// Where the header of the current entry begins, the helper entries before it included.
    entry_offset: u64,
    /// Name of the current entry, for errors.
    name: Vec<u8>,
    /// Bytes of `block` that are filled.
    filled: usize,
    block: [u8; HEADER_LEN],
    pending: Pending,
    text_len: u64,
    entries: Vec<TarEntry>,
}

#[derive(Debug)]
enum State {
    /// Collects a header block.
    Header,
    /// As `Header`, after a single block of zeros.
    ZeroBlock,
    /// Collects the body of a helper entry.
    Body {
        kind: BodyKind,
        body: Vec<u8>,
        len: u64,
    },
    /// Collects the map that stands before the data of a sparse file of version 1.0.
    SparseMap {
        draft: Box<Draft>,
        reader: SparseMapReader,
        /// Bytes of the entry, in the tar, that were not read yet.
        left: u64,
    },
    /// Passes over data and the padding after it.
    Skip { data: u64, padding: u64 },
    /// Both zero blocks were seen: the rest is counted only.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyKind {
    Pax,
    GnuName,
    GnuLink,
}

/// What helper entries said about the entry that comes next.
#[derive(Debug, Default)]
struct Pending {
    pax: PaxRecords,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    is_any: bool,
}

/// A sparse file whose map is still being read.
#[derive(Debug)]
struct Draft {
    entry: TarEntry,
    real_size: u64,
}

impl TarScanner {
    /// Starts at the beginning of a tar.
    pub fn new() -> Self {
        Self {
            state: State::Header,
            offset: 0,
            entry_offset: 0,
            name: Vec::new(),
            filled: 0,
            block: [0; HEADER_LEN],
            pending: Pending::default(),
            text_len: 0,
            entries: Vec::new(),
        }
    }

    /// Takes the next bytes of the tar.
    ///
    /// # Errors
    ///
    /// [`ScanError`] with the entry that is not usable. The scanner is of no use afterwards.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ScanError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.step(rest).map_err(|kind| self.error(kind))?;
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// Ends the tar and returns what it holds.
    ///
    /// The zero blocks at the end may be missing, as may the padding of the last entry.
    ///
    /// # Errors
    ///
    /// [`ScanError`] if the tar ends within a header or within announced data.
    pub fn finish(self) -> Result<LayerScan, ScanError> {
        let missing = match &self.state {
            State::Header | State::ZeroBlock if self.filled == 0 => 0,
            State::Header | State::ZeroBlock => (HEADER_LEN - self.filled) as u64,
            State::Body { body, len, .. } => len - body.len() as u64,
            State::SparseMap { left, .. } => *left,
            State::Skip { data, .. } => *data,
            State::End => 0,
        };
        if missing > 0 {
            return Err(self.error(ScanErrorKind::Truncated { missing }));
        }
        Ok(LayerScan {
            tar_len: self.offset,
            entries: self.entries,
        })
    }

    /// Consumes some of `bytes`, at least one, and returns how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, ScanErrorKind> {
        match &mut self.state {
            State::Header | State::ZeroBlock | State::SparseMap { .. } => self.fill_block(bytes),
            State::Body { body, len, .. } => {
                let wanted = *len - body.len() as u64;
                let taken = at_most(bytes.len(), wanted);
                body.extend_from_slice(&bytes[..taken]);
                self.offset += taken as u64;
                if body.len() as u64 == *len {
                    self.end_body()?;
                }
                Ok(taken)
            }
            State::Skip { data, padding } => {
                let from_data = at_most(bytes.len(), *data);
                let from_padding = at_most(bytes.len() - from_data, *padding);
                *data -= from_data as u64;
                *padding -= from_padding as u64;
                if (*data, *padding) == (0, 0) {
                    self.state = State::Header;
                }
                self.offset += (from_data + from_padding) as u64;
                Ok(from_data + from_padding)
            }
            State::End => {
                self.offset += bytes.len() as u64;
                Ok(bytes.len())
            }
        }
    }

    fn fill_block(&mut self, bytes: &[u8]) -> Result<usize, ScanErrorKind> {
        let taken = bytes.len().min(HEADER_LEN - self.filled);
        self.block[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        self.offset += taken as u64;
        if self.filled == HEADER_LEN {
            self.filled = 0;
            self.take_block()?;
        }
        Ok(taken)
    }

    fn take_block(&mut self) -> Result<(), ScanErrorKind> {
        let is_zeros = self.block.iter().all(|byte| *byte == 0);
        match std::mem::replace(&mut self.state, State::Header) {
            State::SparseMap {
                draft,
                reader,
                left,
            } => self.take_map_block(draft, reader, left),
            State::ZeroBlock if is_zeros => {
                self.state = State::End;
                Ok(())
            }
            State::ZeroBlock => Err(ScanErrorKind::LonelyZeroBlock),
            State::Header | State::Body { .. } | State::Skip { .. } | State::End if is_zeros => {
                self.state = State::ZeroBlock;
                Ok(())
            }
            State::Header | State::Body { .. } | State::Skip { .. } | State::End => {
                self.take_header()
            }
        }
    }

    fn take_header(&mut self) -> Result<(), ScanErrorKind> {
        if !self.pending.is_any {
            self.entry_offset = self.offset - TAR_BLOCK_LEN;
        }
        self.remember_name();
        let header = Header::parse(&self.block)?;
        match header.type_flag {
            b'x' => self.begin_body(BodyKind::Pax, header.size),
            b'L' => self.begin_body(BodyKind::GnuName, header.size),
            b'K' => self.begin_body(BodyKind::GnuLink, header.size),
            b'g' => {
                self.pending = Pending::default();
                self.skip(header.size)
            }
            _ => self.take_entry(header),
        }
    }

    fn begin_body(&mut self, kind: BodyKind, len: u64) -> Result<(), ScanErrorKind> {
        if len > SPECIAL_LEN_MAX {
            return Err(ScanErrorKind::HeaderTooLong {
                len,
                limit: SPECIAL_LEN_MAX,
            });
        }
        self.pending.is_any = true;
        self.state = State::Body {
            kind,
            body: Vec::new(),
            len,
        };
        // An empty body never gets a byte to end with.
        if len == 0 { self.end_body() } else { Ok(()) }
    }

    fn end_body(&mut self) -> Result<(), ScanErrorKind> {
        let State::Body { kind, body, len } = std::mem::replace(&mut self.state, State::Header)
        else {
            return Ok(());
        };
        match kind {
            BodyKind::Pax => self.pending.pax = PaxRecords::parse(&body)?,
            BodyKind::GnuName => self.pending.name = Some(c_string(&body).to_vec()),
            BodyKind::GnuLink => self.pending.link = Some(c_string(&body).to_vec()),
        }
        self.skip_padding(len);
        Ok(())
    }

    fn take_entry(&mut self, header: Header) -> Result<(), ScanErrorKind> {
        let pending = std::mem::take(&mut self.pending);
        let size = pending.pax.size.unwrap_or(header.size);
        let sparse = pending.pax.sparse.clone();
        let (mut entry, type_flag) = merge(header, pending)?;
        let is_file = type_flag == b'0';
        let version = if is_file {
            sparse_version(&sparse)
        } else {
            None
        };
        if let (Some(_), Some(name)) = (&version, &sparse.name) {
            entry.path.clone_from(name);
        }
        self.count_text(&entry)?;
        match version {
            None if is_file => {
                entry.kind = EntryKind::File {
                    data: DataMap::contiguous(self.offset, size),
                };
                self.entries.push(entry);
                self.skip(size)
            }
            None => {
                self.entries.push(entry);
                Ok(())
            }
            Some(SparseVersion::Records(map)) => {
                let real_size = sparse.real_size.unwrap_or(size);
                let data = data_map(&map, real_size, self.offset, size)?;
                entry.kind = EntryKind::File { data };
                self.entries.push(entry);
                self.skip(size)
            }
            Some(SparseVersion::InData) => {
                let real_size = sparse.real_size.unwrap_or(size);
                self.state = State::SparseMap {
                    draft: Box::new(Draft { entry, real_size }),
                    reader: SparseMapReader::new(),
                    left: size,
                };
                if size == 0 {
                    return Err(ScanErrorKind::Sparse("the map is missing"));
                }
                Ok(())
            }
        }
    }

    fn take_map_block(
        &mut self,
        mut draft: Box<Draft>,
        mut reader: SparseMapReader,
        left: u64,
    ) -> Result<(), ScanErrorKind> {
        let Some(left) = left.checked_sub(TAR_BLOCK_LEN) else {
            return Err(ScanErrorKind::Sparse("the map is longer than the entry"));
        };
        reader.feed(&self.block)?;
        if reader.read_len() > SPECIAL_LEN_MAX {
            return Err(ScanErrorKind::Sparse("the map is too long"));
        }
        if let Some(map) = reader.map() {
            let data = data_map(map, draft.real_size, self.offset, left)?;
            draft.entry.kind = EntryKind::File { data };
            self.entries.push(draft.entry);
            return self.skip(left);
        }
        if left == 0 {
            return Err(ScanErrorKind::Sparse("the map is longer than the entry"));
        }
        self.state = State::SparseMap {
            draft,
            reader,
            left,
        };
        Ok(())
    }

    fn count_text(&mut self, entry: &TarEntry) -> Result<(), ScanErrorKind> {
        if self.entries.len() >= ENTRIES_MAX {
            return Err(ScanErrorKind::TooManyEntries { limit: ENTRIES_MAX });
        }
        let link_len = match &entry.kind {
            EntryKind::Symlink { target } | EntryKind::HardLink { target } => target.len(),
            EntryKind::File { .. }
            | EntryKind::Directory
            | EntryKind::CharDevice { .. }
            | EntryKind::BlockDevice { .. }
            | EntryKind::Fifo => 0,
        };
        let xattrs: usize = entry
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.text_len += (entry.path.len() + link_len + xattrs) as u64;
        if self.text_len > TEXT_LEN_MAX {
            return Err(ScanErrorKind::TooMuchText {
                limit: TEXT_LEN_MAX,
            });
        }
        Ok(())
    }

    /// Passes over `data` bytes and what fills up their last block.
    fn skip(&mut self, data: u64) -> Result<(), ScanErrorKind> {
        let end = self
            .offset
            .checked_add(data)
            .and_then(|end| end.checked_add(TAR_BLOCK_LEN));
        // Offsets of files are signed, everywhere.
        if end.is_none_or(|end| i64::try_from(end).is_err()) {
            return Err(ScanErrorKind::TooLong);
        }
        if data > 0 {
            let padding = data.next_multiple_of(TAR_BLOCK_LEN) - data;
            self.state = State::Skip { data, padding };
        }
        Ok(())
    }

    fn skip_padding(&mut self, len: u64) {
        let padding = len.next_multiple_of(TAR_BLOCK_LEN) - len;
        if padding > 0 {
            self.state = State::Skip { data: 0, padding };
        }
    }

    fn error(&self, kind: ScanErrorKind) -> ScanError {
        ScanError {
            entry: EntryName(self.name.clone()),
            offset: self.entry_offset,
            kind,
        }
    }

    /// Remembers the best name there is for the entry whose header is in `block`.
    fn remember_name(&mut self) {
        let Pending { pax, name, .. } = &self.pending;
        let long_name = pax
            .sparse
            .name
            .as_ref()
            .or(name.as_ref())
            .or(pax.path.as_ref());
        let best = long_name.map_or_else(|| c_string(&self.block[..100]), Vec::as_slice);
        self.name.clear();
        self.name.extend_from_slice(best);
    }
}

impl Default for TarScanner {
    fn default() -> Self {
        Self::new()
    }
}

/// Joins a header with what the helper entries before it said. A file's data is not set yet.
fn merge(header: Header, pending: Pending) -> Result<(TarEntry, u8), ScanErrorKind> {
    let Pending {
        pax, name, link, ..
    } = pending;
    let path = name.or(pax.path).unwrap_or(header.path);
    let target = link.or(pax.link_path).unwrap_or(header.link_name);
    let type_flag = match header.type_flag {
        // Version 7 knew no directories, only a slash at the end.
        0 if path.ends_with(b"/") => b'5',
        0 => b'0',
        other => other,
    };
    let device = || -> Result<DeviceNumber, ScanErrorKind> {
        Ok(DeviceNumber {
            major: fits(header.major, "devmajor")?,
            minor: fits(header.minor, "devminor")?,
        })
    };
    let kind = match type_flag {
        b'0' => EntryKind::File {
            data: DataMap::default(),
        },
        b'1' => EntryKind::HardLink { target },
        b'2' => EntryKind::Symlink { target },
        b'3' => EntryKind::CharDevice { device: device()? },
        b'4' => EntryKind::BlockDevice { device: device()? },
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => return Err(ScanErrorKind::UnsupportedType(char::from(other))),
    };
    let mtime = pax.mtime.unwrap_or(Timestamp {
        seconds: header.mtime,
        nanos: 0,
    });
    let entry = TarEntry {
        path,
        kind,
        mode: header.mode,
        uid: owner(pax.uid, header.uid, "uid")?,
        gid: owner(pax.gid, header.gid, "gid")?,
        mtime,
        xattrs: pax.xattrs.into_iter().collect(),
    };
    Ok((entry, type_flag))
}

fn owner(record: Option<u64>, field: i64, name: &'static str) -> Result<u32, ScanErrorKind> {
    match record {
        Some(id) => u32::try_from(id).map_err(|_| ScanErrorKind::Number { field: name }),
        None => fits(field, name),
    }
}

fn fits(value: i64, field: &'static str) -> Result<u32, ScanErrorKind> {
    u32::try_from(value).map_err(|_| ScanErrorKind::Number { field })
}

fn at_most(len: usize, limit: u64) -> usize {
    usize::try_from(limit).map_or(len, |limit| len.min(limit))
}
