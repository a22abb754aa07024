//! The reader: an accepted EROFS image, looked at.

use std::ops::Range;

use zerocopy::FromBytes;

use super::directory::{BlockEntries, NamedInode};
use super::format::{
    BLOCK_LEN, CHUNK_BASED, CHUNK_BITS_MASK, CHUNK_INDEX_LEN, ChunkIndex, DiskInode, FLAT_INLINE,
    FileType, HOLE, INODE_LEN, INODE_SLOT_LEN, SUPERBLOCK_OFFSET, Superblock, XATTR_HEADER_LEN,
    decode_device,
};
use super::validate::validate;
use super::xattr::decode_xattrs;
use super::{EROFS_BLOCK_LEN, TreeError};
use crate::tar::{DeviceNumber, Timestamp};

/// A root tree that was read from bytes and accepted.
///
/// Holding one means that every inode that its root leads to is well formed and that all data lies
/// within the layers' tars that it was parsed for.
#[derive(Debug, Clone)]
pub struct ErofsTree<B = Vec<u8>> {
    bytes: B,
    /// The inodes that were accepted, sorted.
    nids: Vec<Nid>,
    root: Nid,
}

/// Number of an inode: its offset in the image in units of 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nid(pub u64);

/// What an inode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeInode {
    /// What it is.
    pub file_type: FileType,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change.
    pub mtime: Timestamp,
    /// In how many places it is.
    pub link_count: u32,
    /// Length of the file, of the directory or of the link's target, in bytes.
    pub size: u64,
    /// Numbers of a device; 0:0 for everything else.
    pub device: DeviceNumber,
}

/// One name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode that it names.
    pub nid: Nid,
    /// What that inode is.
    pub file_type: FileType,
}

/// A part of a file that lies in one piece in a layer's tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Where it lies in the file, in bytes.
    pub file_range: Range<u64>,
    /// The layer: 0 is the lowest.
    pub layer_index: u32,
    /// Where it begins in that layer's tar, in bytes.
    pub tar_offset: u64,
}

impl<B: AsRef<[u8]>> ErofsTree<B> {
    /// Reads a root tree and accepts it for layers of these lengths, lowest first.
    ///
    /// # Errors
    ///
    /// [`TreeError`] for whatever [`write_erofs`](super::write_erofs) would not have written.
    pub fn parse(bytes: B, layer_tar_lens: &[u64]) -> Result<Self, TreeError> {
        let (root, nids) = validate(Image(bytes.as_ref()), layer_tar_lens)?;
        Ok(Self { bytes, nids, root })
    }

    /// The root directory.
    pub fn root(&self) -> Nid {
        self.root
    }

    /// How many inodes there are, the root included.
    pub fn inode_count(&self) -> usize {
        self.nids.len()
    }

    /// Returns all inodes, sorted by number.
    pub fn nids(&self) -> impl Iterator<Item = Nid> {
        self.nids.iter().copied()
    }

    /// Returns the bytes that were parsed.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Returns what an inode says, `None` if the tree has no such inode.
    pub fn inode(&self, nid: Nid) -> Option<NodeInode> {
        self.raw(nid)?.inode()
    }

    /// Returns what a directory holds, sorted by name, without `.` and `..`; nothing for other
    /// inodes.
    pub fn entries(&self, nid: Nid) -> impl Iterator<Item = DirEntry<'_>> {
        let names = self.raw(nid).into_iter().flat_map(RawInode::names);
        let real = names.filter(|name| !matches!(name.name, b"." | b".."));
        real.map(|name| DirEntry {
            name: name.name,
            nid: Nid(name.nid),
            file_type: name.file_type,
        })
    }

    /// Returns the directory that a directory is in; the root is its own parent.
    pub fn parent(&self, nid: Nid) -> Option<Nid> {
        self.child(nid, b"..")
    }

    /// Finds a name in a directory.
    pub fn child(&self, directory: Nid, name: &[u8]) -> Option<Nid> {
        let raw = self.raw(directory)?;
        if raw.file_type()? != FileType::Directory {
            return None;
        }
        // Names are sorted over all blocks: find the last block that begins at or before it.
        let (mut low, mut high) = (0, raw.block_count());
        while low < high {
            let middle = low.midpoint(high);
            let first = BlockEntries::new(raw.flat_block(middle)?).next()?;
            if first.name <= name {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let block = raw.flat_block(low.checked_sub(1)?)?;
        let found = BlockEntries::new(block).find(|entry| entry.name == name)?;
        Some(Nid(found.nid))
    }

    /// Finds what a path names, without following symbolic links.
    pub fn lookup(&self, path: &[u8]) -> Option<Nid> {
        let mut names = path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty());
        names.try_fold(self.root, |directory, name| self.child(directory, name))
    }

    /// Returns an inode's extended attributes: names with their namespace, and values.
    pub fn xattrs(&self, nid: Nid) -> Vec<(Vec<u8>, &[u8])> {
        let entries = self
            .raw(nid)
            .and_then(|raw| decode_xattrs(raw.xattr_bytes()?));
        let entries = entries.unwrap_or_default();
        entries
            .into_iter()
            .map(|entry| (entry.name(), entry.value))
            .collect()
    }

    /// Returns what a symbolic link points at, `None` for other inodes.
    pub fn symlink_target(&self, nid: Nid) -> Option<Vec<u8>> {
        let raw = self.raw(nid)?;
        if raw.file_type()? != FileType::Symlink {
            return None;
        }
        let blocks = (0..raw.block_count()).filter_map(|index| raw.flat_block(index));
        Some(blocks.flatten().copied().collect())
    }

    /// Returns where a file's bytes lie, in file order. What no extent covers is zeros.
    pub fn extents(&self, nid: Nid) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for extent in self
            .raw(nid)
            .into_iter()
            .flat_map(RawInode::chunks)
            .flatten()
        {
            match extents.last_mut().filter(|last| continues(last, &extent)) {
                Some(last) => last.file_range.end = extent.file_range.end,
                None => extents.push(extent),
            }
        }
        extents
    }

    fn raw(&self, nid: Nid) -> Option<RawInode<'_>> {
        self.nids.binary_search(&nid).ok()?;
        Image(self.bytes.as_ref()).inode(nid.0)
    }
}

fn continues(last: &Extent, next: &Extent) -> bool {
    let len = last.file_range.end - last.file_range.start;
    last.layer_index == next.layer_index
        && last.file_range.end == next.file_range.start
        && last.tar_offset + len == next.tar_offset
}

/// Bytes that may or may not be a root tree. Every access is checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image<'a>(pub(super) &'a [u8]);

impl<'a> Image<'a> {
    pub(super) fn superblock(self) -> Option<Superblock> {
        let bytes = self.slice(SUPERBLOCK_OFFSET as u64, size_of::<Superblock>() as u64)?;
        Superblock::read_from_bytes(bytes).ok()
    }

    pub(super) fn inode(self, nid: u64) -> Option<RawInode<'a>> {
        let offset = nid.checked_mul(INODE_SLOT_LEN as u64)?;
        let bytes = self.slice(offset, INODE_LEN as u64)?;
        let disk = DiskInode::read_from_bytes(bytes).ok()?;
        Some(RawInode {
            image: self,
            offset,
            disk,
        })
    }

    pub(super) fn slice(self, offset: u64, len: u64) -> Option<&'a [u8]> {
        let end = usize::try_from(offset.checked_add(len)?).ok()?;
        self.0.get(usize::try_from(offset).ok()?..end)
    }
}

/// An inode as it lies in the image, not judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawInode<'a> {
    image: Image<'a>,
    pub(super) offset: u64,
    pub(super) disk: DiskInode,
}

impl<'a> RawInode<'a> {
    pub(super) fn file_type(&self) -> Option<FileType> {
        FileType::from_mode(self.disk.mode.get())
    }

    pub(super) fn layout(&self) -> u16 {
        self.disk.format.get() >> 1
    }

    pub(super) fn size(&self) -> u64 {
        self.disk.size.get()
    }

    pub(super) fn detail(&self) -> u32 {
        self.disk.detail.get()
    }

    fn inode(&self) -> Option<NodeInode> {
        let file_type = self.file_type()?;
        let device = match file_type {
            FileType::CharDevice | FileType::BlockDevice => decode_device(self.detail()),
            FileType::File | FileType::Directory | FileType::Fifo | FileType::Symlink => {
                DeviceNumber { major: 0, minor: 0 }
            }
        };
        Some(NodeInode {
            file_type,
            mode: u32::from(self.disk.mode.get()) & 0o7777,
            uid: self.disk.uid.get(),
            gid: self.disk.gid.get(),
            mtime: Timestamp {
                seconds: i64::try_from(self.disk.mtime.get()).ok()?,
                nanos: self.disk.mtime_nanos.get(),
            },
            link_count: self.disk.link_count.get(),
            size: self.size(),
            device,
        })
    }

    pub(super) fn xattrs_len(&self) -> u64 {
        match u64::from(self.disk.xattr_count.get()) {
            0 => 0,
            count => XATTR_HEADER_LEN as u64 + 4 * (count - 1),
        }
    }

    pub(super) fn xattr_bytes(&self) -> Option<&'a [u8]> {
        self.image
            .slice(self.offset + INODE_LEN as u64, self.xattrs_len())
    }

    /// Where what follows the extended attributes begins.
    pub(super) fn body_offset(&self) -> u64 {
        self.offset + INODE_LEN as u64 + self.xattrs_len()
    }

    /// Bytes of flat data behind the inode.
    pub(super) fn tail_len(&self) -> u64 {
        if self.layout() == FLAT_INLINE {
            self.size() % EROFS_BLOCK_LEN
        } else {
            0
        }
    }

    /// How many blocks flat data has, a tail behind the inode included.
    pub(super) fn block_count(&self) -> u64 {
        self.size().div_ceil(EROFS_BLOCK_LEN)
    }

    /// Returns one block of flat data, cut at the data's end.
    pub(super) fn flat_block(&self, index: u64) -> Option<&'a [u8]> {
        let offset = index.checked_mul(EROFS_BLOCK_LEN)?;
        let len = self.size().checked_sub(offset)?.min(EROFS_BLOCK_LEN);
        if self.tail_len() > 0 && len < EROFS_BLOCK_LEN {
            return self.image.slice(self.body_offset(), len);
        }
        let start = u64::from(self.detail()) * BLOCK_LEN as u64;
        self.image.slice(start.checked_add(offset)?, len)
    }

    /// The names of a directory, `.` and `..` included; nothing for other inodes.
    pub(super) fn names(self) -> impl Iterator<Item = NamedInode<'a>> {
        let is_directory = self.file_type() == Some(FileType::Directory);
        let count = if is_directory { self.block_count() } else { 0 };
        let blocks = (0..count).map_while(move |index| self.flat_block(index));
        blocks.flat_map(BlockEntries::new)
    }

    /// Where the indexes of a file's EROFS chunks begin.
    pub(super) fn indexes_offset(&self) -> u64 {
        self.body_offset().next_multiple_of(CHUNK_INDEX_LEN as u64)
    }

    pub(super) fn chunk_len(&self) -> u64 {
        EROFS_BLOCK_LEN << (self.detail() & CHUNK_BITS_MASK)
    }

    /// How many EROFS chunks a file has.
    pub(super) fn chunk_count(&self) -> u64 {
        if self.layout() == CHUNK_BASED {
            self.size().div_ceil(self.chunk_len())
        } else {
            0
        }
    }

    pub(super) fn chunk_index(&self, index: u64) -> Option<ChunkIndex> {
        let offset = self.indexes_offset().checked_add(index.checked_mul(8)?)?;
        ChunkIndex::read_from_bytes(self.image.slice(offset, CHUNK_INDEX_LEN as u64)?).ok()
    }

    /// A file's EROFS chunks, in file order: `None` for holes.
    fn chunks(self) -> impl Iterator<Item = Option<Extent>> {
        (0..self.chunk_count()).map_while(move |index| {
            let chunk = self.chunk_index(index)?;
            let start = index * self.chunk_len();
            let end = (start + self.chunk_len()).min(self.size());
            let start_block = chunk.start_block.get();
            let layer_index = u32::from(chunk.device_id.get()).checked_sub(1);
            Some(
                layer_index
                    .filter(|_| start_block != HOLE)
                    .map(|layer_index| Extent {
                        file_range: start..end,
                        layer_index,
                        tar_offset: u64::from(start_block) * EROFS_BLOCK_LEN,
                    }),
            )
        })
    }
}
