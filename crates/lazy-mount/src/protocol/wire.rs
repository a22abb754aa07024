//! The structs of linux/fuse.h, in the byte order of the machine as the kernel gives them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct fuse_in_header`: how each request begins.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InHeader {
    /// Length of the whole request in bytes.
    pub len: u32,
    /// What is asked for.
    pub opcode: u32,
    /// Number of the request; its answer carries it.
    pub unique: u64,
    /// The node it is about.
    pub node: u64,
    /// User of the asking process.
    pub uid: u32,
    /// Group of the asking process.
    pub gid: u32,
    /// Thread that asks, as numbered where the directory was mounted.
    pub pid: u32,
    /// Length of extensions in 8 bytes, and padding.
    pub extensions: u32,
}

/// `struct fuse_out_header`: how each answer begins.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OutHeader {
    /// Length of the whole answer in bytes.
    pub len: u32,
    /// 0, or an error's number, negated.
    pub error: i32,
    /// Number of the request.
    pub unique: u64,
}

impl OutHeader {
    /// Length of the header in bytes.
    pub const LEN: u32 = 16;
}

/// `struct fuse_init_in` as it was before it grew (7.36): the rest is not needed.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct InitIn {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) max_readahead: u32,
    pub(super) flags: u32,
}

/// `struct fuse_init_out`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct InitOut {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) max_readahead: u32,
    pub(super) flags: u32,
    pub(super) max_background: u16,
    pub(super) congestion_threshold: u16,
    pub(super) max_write: u32,
    pub(super) time_granularity: u32,
    pub(super) max_pages: u16,
    pub(super) map_alignment: u16,
    pub(super) flags2: u32,
    pub(super) max_stack_depth: u32,
    pub(super) unused: [u16; 12],
}

/// `struct fuse_read_in`, for files and directories.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ReadIn {
    pub(super) handle: u64,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) read_flags: u32,
    pub(super) lock_owner: u64,
    pub(super) flags: u32,
    pub(super) padding: u32,
}

/// `struct fuse_attr`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Attr {
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) blocks: u64,
    pub(super) times_seconds: [u64; 3],
    pub(super) times_nanoseconds: [u32; 3],
    pub(super) mode: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u32,
    pub(super) block_len: u32,
    pub(super) flags: u32,
}

/// `struct fuse_entry_out`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct EntryOut {
    pub(super) node: u64,
    pub(super) generation: u64,
    pub(super) entry_valid: u64,
    pub(super) attr_valid: u64,
    pub(super) valid_nanoseconds: [u32; 2],
    pub(super) attr: Attr,
}

/// `struct fuse_attr_out`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct AttrOut {
    pub(super) attr_valid: u64,
    pub(super) attr_valid_nanoseconds: u32,
    pub(super) dummy: u32,
    pub(super) attr: Attr,
}

/// `struct fuse_open_out`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct OpenOut {
    pub(super) handle: u64,
    pub(super) flags: u32,
    pub(super) backing: u32,
}

/// `struct fuse_kstatfs`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Statistics {
    pub(super) counts: [u64; 5],
    pub(super) block_len: u32,
    pub(super) name_len_max: u32,
    pub(super) fragment_len: u32,
    pub(super) unused: [u32; 7],
}

/// `struct fuse_dirent` without its name.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Dirent {
    pub(super) inode: u64,
    pub(super) next_offset: u64,
    pub(super) name_len: u32,
    pub(super) file_type: u32,
}

const _: () = assert!(size_of::<InHeader>() == 40);
const _: () = assert!(size_of::<OutHeader>() == 16);
const _: () = assert!(size_of::<InitOut>() == 64);
const _: () = assert!(size_of::<ReadIn>() == 40);
const _: () = assert!(size_of::<Attr>() == 88);
const _: () = assert!(size_of::<EntryOut>() == 128);
const _: () = assert!(size_of::<AttrOut>() == 104);
const _: () = assert!(size_of::<OpenOut>() == 16);
const _: () = assert!(size_of::<Statistics>() == 80);
const _: () = assert!(size_of::<Dirent>() == 24);
