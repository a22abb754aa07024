//! Directory blocks: an array of entries, then their names, 512 bytes at most.

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::format::{BLOCK_LEN, DIRENT_LEN, Dirent, FileType};

/// One name of a directory that is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct NamedInode<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) file_type: FileType,
}

/// Returns the length of a directory with names of these lengths, in the order of the names.
pub(super) fn directory_len(name_lens: impl Iterator<Item = usize>) -> usize {
    let (mut whole, mut used) = (0, 0);
    for name_len in name_lens {
        let len = DIRENT_LEN + name_len;
        if used + len > BLOCK_LEN {
            whole += BLOCK_LEN;
            used = 0;
        }
        used += len;
    }
    whole + used
}

/// Returns the bytes of a directory, [`directory_len`] of them. `names` are sorted.
pub(super) fn encode_directory(names: &[NamedInode<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = names;
    while !rest.is_empty() {
        let mut used = 0;
        let count = rest
            .iter()
            .take_while(|name| {
                used += DIRENT_LEN + name.name.len();
                used <= BLOCK_LEN
            })
            .count();
        // One name always fits: 12 and 255 bytes.
        let (block, after) = rest.split_at(count.max(1));
        out.resize(out.len().next_multiple_of(BLOCK_LEN), 0);
        put_block(&mut out, block);
        rest = after;
    }
    out
}

fn put_block(out: &mut Vec<u8>, names: &[NamedInode<'_>]) {
    let mut name_offset = names.len() * DIRENT_LEN;
    for name in names {
        let dirent = Dirent {
            nid: U64::new(name.nid),
            // Below 512.
            name_offset: U16::new(u16::try_from(name_offset).unwrap_or(u16::MAX)),
            file_type: name.file_type.as_dirent(),
            reserved: 0,
        };
        out.extend_from_slice(dirent.as_bytes());
        name_offset += name.name.len();
    }
    for name in names {
        out.extend_from_slice(name.name);
    }
}

/// The entries of one block, of which at most 512 bytes are given.
///
/// Stops at the first entry that is not usable; [`is_well_formed`](Self::is_well_formed) says whether
/// there is one.
#[derive(Debug, Clone)]
pub(super) struct BlockEntries<'a> {
    block: &'a [u8],
    count: usize,
    next: usize,
}

impl<'a> BlockEntries<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        let first = block
            .get(..DIRENT_LEN)
            .and_then(|bytes| Dirent::read_from_bytes(bytes).ok());
        let names_at = first.map_or(0, |dirent| usize::from(dirent.name_offset.get()));
        let is_usable = names_at % DIRENT_LEN == 0 && names_at <= block.len();
        Self {
            block,
            count: if is_usable { names_at / DIRENT_LEN } else { 0 },
            next: 0,
        }
    }

    /// Whether the block holds at least one entry, and nothing but usable ones.
    pub(super) fn is_well_formed(&self) -> bool {
        let usable = self.clone().count();
        let last = self.count.checked_sub(1).and_then(|last| {
            let start = usize::from(self.dirent(last)?.name_offset.get());
            Some(start + self.entry(last)?.name.len())
        });
        let Some(end) = last else {
            return false;
        };
        usable == self.count && self.block[end..].iter().all(|byte| *byte == 0)
    }

    fn dirent(&self, index: usize) -> Option<Dirent> {
        let start = index * DIRENT_LEN;
        let bytes = self.block.get(start..start + DIRENT_LEN)?;
        Dirent::read_from_bytes(bytes).ok()
    }

    fn entry(&self, index: usize) -> Option<NamedInode<'a>> {
        let dirent = self.dirent(index)?;
        let start = usize::from(dirent.name_offset.get());
        let name = if index + 1 < self.count {
            let end = usize::from(self.dirent(index + 1)?.name_offset.get());
            self.block.get(start..end)?
        } else {
            let tail = self.block.get(start..)?;
            let end = tail
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(tail.len());
            &tail[..end]
        };
        if name.is_empty() || dirent.reserved != 0 {
            return None;
        }
        Some(NamedInode {
            name,
            nid: dirent.nid.get(),
            file_type: FileType::from_dirent(dirent.file_type)?,
        })
    }
}

impl<'a> Iterator for BlockEntries<'a> {
    type Item = NamedInode<'a>;

    fn next(&mut self) -> Option<NamedInode<'a>> {
        if self.next >= self.count {
            return None;
        }
        let entry = self.entry(self.next);
        self.next = if entry.is_some() {
            self.next + 1
        } else {
            self.count
        };
        entry
    }
}
