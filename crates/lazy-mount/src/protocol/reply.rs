//! Bodies of answers.

use zerocopy::IntoBytes;

use super::NAME_LEN_MAX;
use super::wire::{Attr, AttrOut, Dirent, EntryOut, OpenOut, Statistics};

/// Node of the directory itself.
pub const ROOT_NODE: u64 = 1;
/// How long the kernel may believe an entry or attributes, in seconds: 136 years.
pub const FOREVER_SECONDS: u64 = u32::MAX as u64;

const DIRECTORY_MODE: u32 = 0o040_555;
const FILE_MODE: u32 = 0o100_444;
const PAGE_LEN: u32 = 4096;
/// Directory entries begin at multiples of this, in bytes.
const DIRENT_ALIGNMENT: usize = 8;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attributes {
    /// The directory.
    Directory,
    /// A file.
    File {
        /// Its node.
        node: u64,
        /// Its length in bytes.
        len: u64,
    },
}

impl Attributes {
    fn to_wire(self) -> Attr {
        let (inode, size, mode, nlink) = match self {
            Self::Directory => (ROOT_NODE, 0, DIRECTORY_MODE, 2),
            Self::File { node, len } => (node, len, FILE_MODE, 1),
        };
        Attr {
            inode,
            size,
            blocks: size.div_ceil(512),
            times_seconds: [0; 3],
            times_nanoseconds: [0; 3],
            mode,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            block_len: PAGE_LEN,
            flags: 0,
        }
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryEntry<'a> {
    /// Its node.
    pub node: u64,
    /// Where reading goes on after it.
    pub next_offset: u64,
    /// Its name.
    pub name: &'a [u8],
}

impl DirectoryEntry<'_> {
    /// Appends the entry to `body` unless that would make it longer than `len_max`.
    ///
    /// Returns whether it was appended.
    #[must_use]
    pub fn append_to(&self, body: &mut Vec<u8>, len_max: usize) -> bool {
        let len = (size_of::<Dirent>() + self.name.len()).next_multiple_of(DIRENT_ALIGNMENT);
        let Ok(name_len) = u32::try_from(self.name.len()) else {
            return false;
        };
        if self.name.len() > NAME_LEN_MAX || body.len() + len > len_max {
            return false;
        }
        let mode = if self.node == ROOT_NODE {
            DIRECTORY_MODE
        } else {
            FILE_MODE
        };
        let dirent = Dirent {
            inode: self.node,
            next_offset: self.next_offset,
            name_len,
            file_type: mode >> 12,
        };
        let end = body.len() + len;
        body.extend_from_slice(dirent.as_bytes());
        body.extend_from_slice(self.name);
        body.resize(end, 0);
        true
    }
}

/// The answer to a lookup that found something.
pub fn entry_reply(attributes: Attributes) -> Vec<u8> {
    let attr = attributes.to_wire();
    let out = EntryOut {
        node: attr.inode,
        generation: 0,
        entry_valid: FOREVER_SECONDS,
        attr_valid: FOREVER_SECONDS,
        valid_nanoseconds: [0; 2],
        attr,
    };
    out.as_bytes().to_vec()
}

/// The answer to a question for attributes.
pub fn attributes_reply(attributes: Attributes) -> Vec<u8> {
    let out = AttrOut {
        attr_valid: FOREVER_SECONDS,
        attr_valid_nanoseconds: 0,
        dummy: 0,
        attr: attributes.to_wire(),
    };
    out.as_bytes().to_vec()
}

/// The answer to an opening of the directory. Its entries are not cached: files come and go.
pub fn open_reply() -> Vec<u8> {
    OpenOut {
        handle: 0,
        flags: 0,
        backing: 0,
    }
    .as_bytes()
    .to_vec()
}

/// The answer to statfs: a full filesystem of no size.
pub fn statistics_reply() -> Vec<u8> {
    let out = Statistics {
        counts: [0; 5],
        block_len: PAGE_LEN,
        name_len_max: 255,
        fragment_len: PAGE_LEN,
        unused: [0; 7],
    };
    out.as_bytes().to_vec()
}
