//! EROFS' structures, as they lie on disk. All numbers are little-endian.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::tar::DeviceNumber;

pub(super) const SUPERBLOCK_OFFSET: usize = 1024;
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
pub(super) const BLOCK_BITS: u8 = 9;
pub(super) const BLOCK_LEN: usize = 1 << BLOCK_BITS;

/// `CHUNKED_FILE` and `DEVICE_TABLE`.
pub(super) const FEATURES: u32 = 0x4 | 0x8;

/// The device slots follow the superblock. The field counts in slots.
pub(super) const DEVICE_SLOTS_AT: u16 = 9;

/// Inodes lie at multiples of this; their number is their offset divided by it.
pub(super) const INODE_SLOT_LEN: usize = 32;
pub(super) const INODE_LEN: usize = 64;

/// Bit 0 of `format`: the long form of an inode.
pub(super) const EXTENDED: u16 = 1;
/// `format` >> 1: data in whole blocks.
pub(super) const FLAT_PLAIN: u16 = 0;
/// `format` >> 1: the last part of the data follows the inode.
pub(super) const FLAT_INLINE: u16 = 2;
/// `format` >> 1: indexes of EROFS chunks follow the inode.
pub(super) const CHUNK_BASED: u16 = 4;

/// In a file's `detail`: the indexes have 8 bytes each.
pub(super) const CHUNK_INDEXES: u32 = 0x20;
/// In a file's `detail`: how many bits an EROFS chunk's length has above a block's.
pub(super) const CHUNK_BITS_MASK: u32 = 0x1f;
/// Start block of an EROFS chunk that is a hole.
pub(super) const HOLE: u32 = u32::MAX;
pub(super) const CHUNK_INDEX_LEN: usize = 8;

pub(super) const DIRENT_LEN: usize = 12;
pub(super) const XATTR_HEADER_LEN: usize = 12;
pub(super) const XATTR_ENTRY_LEN: usize = 4;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Superblock {
    pub(super) magic: U32,
    pub(super) checksum: U32,
    pub(super) feature_compat: U32,
    pub(super) block_bits: u8,
    pub(super) extension_slots: u8,
    pub(super) root_nid: U16,
    pub(super) inode_count: U64,
    pub(super) build_time: U64,
    pub(super) build_time_nanos: U32,
    pub(super) blocks: U32,
    pub(super) meta_block: U32,
    pub(super) xattr_block: U32,
    pub(super) uuid: [u8; 16],
    pub(super) volume_name: [u8; 16],
    pub(super) feature_incompat: U32,
    pub(super) compression: U16,
    pub(super) device_count: U16,
    pub(super) device_slots_at: U16,
    pub(super) directory_block_bits: u8,
    pub(super) rest: [u8; 37],
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct DeviceSlot {
    pub(super) tag: [u8; 64],
    pub(super) blocks: U32,
    pub(super) mapped_block: U32,
    pub(super) reserved: [u8; 56],
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct DiskInode {
    pub(super) format: U16,
    /// 0, or 1 and the length of the entries in units of 4 bytes.
    pub(super) xattr_count: U16,
    pub(super) mode: U16,
    pub(super) reserved: U16,
    pub(super) size: U64,
    /// Start block of flat data, a device's number, or the form of the EROFS chunk indexes.
    pub(super) detail: U32,
    pub(super) number: U32,
    pub(super) uid: U32,
    pub(super) gid: U32,
    pub(super) mtime: U64,
    pub(super) mtime_nanos: U32,
    pub(super) link_count: U32,
    pub(super) rest: [u8; 16],
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Dirent {
    pub(super) nid: U64,
    pub(super) name_offset: U16,
    pub(super) file_type: u8,
    pub(super) reserved: u8,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct ChunkIndex {
    pub(super) start_block_high: U16,
    /// 1 for the lowest layer; 0 for a hole.
    pub(super) device_id: U16,
    pub(super) start_block: U32,
}

const _: () = assert!(size_of::<Superblock>() == 128);
const _: () = assert!(size_of::<DeviceSlot>() == 128);
const _: () = assert!(size_of::<DiskInode>() == INODE_LEN);
const _: () = assert!(size_of::<Dirent>() == DIRENT_LEN);
const _: () = assert!(size_of::<ChunkIndex>() == CHUNK_INDEX_LEN);
const _: () = assert!(SUPERBLOCK_OFFSET + 128 == DEVICE_SLOTS_AT as usize * 128);

/// What an inode is, as directory entries say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A symbolic link.
    Symlink,
}

impl FileType {
    const ALL: [Self; 6] = [
        Self::File,
        Self::Directory,
        Self::CharDevice,
        Self::BlockDevice,
        Self::Fifo,
        Self::Symlink,
    ];

    /// The number that a directory entry has for it.
    pub(super) fn as_dirent(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Directory => 2,
            Self::CharDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Symlink => 7,
        }
    }

    /// The bits that `st_mode` has for it, above the permission bits.
    pub fn as_mode(self) -> u32 {
        match self {
            Self::File => 0o100_000,
            Self::Directory => 0o040_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Symlink => 0o120_000,
        }
    }

    pub(super) fn from_dirent(value: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_dirent() == value)
    }

    pub(super) fn from_mode(mode: u16) -> Option<Self> {
        let bits = u32::from(mode) & 0o170_000;
        Self::ALL.into_iter().find(|known| known.as_mode() == bits)
    }
}

/// Linux has 12 bits for the major and 20 for the minor number.
pub(super) fn encode_device(device: DeviceNumber) -> Option<u32> {
    let DeviceNumber { major, minor } = device;
    let fits = major < 1 << 12 && minor < 1 << 20;
    fits.then_some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

pub(super) fn decode_device(value: u32) -> DeviceNumber {
    DeviceNumber {
        major: (value >> 8) & 0xfff,
        minor: (value & 0xff) | ((value >> 12) & 0xf_ff00),
    }
}
