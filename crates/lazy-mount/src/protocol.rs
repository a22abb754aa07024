//! The part of the kernel's FUSE protocol (linux/fuse.h, version 7) that a flat read-only directory needs.
//!
//! Everything in here is pure: bytes in, values out, and the other way round.

pub use init::{InitAnswer, answer_init};
pub use reply::{
    Attributes, DirectoryEntry, FOREVER_SECONDS, ROOT_NODE, attributes_reply, entry_reply,
    open_reply, statistics_reply,
};
pub use request::{MalformedRequest, Operation, Request};
pub use wire::{InHeader, OutHeader};

mod init;
mod reply;
mod request;
mod wire;

/// Longest read that is asked for and answered, in bytes: the kernel's own limit of 256 pages.
pub const READ_LEN_MAX: u32 = 1 << 20;
/// Longest answer to one reading of the directory, in bytes. The kernel asks for a page or some more.
pub const DIRECTORY_LEN_MAX: u32 = 1 << 16;
/// Longest name of a file in bytes, as everywhere on Linux.
pub const NAME_LEN_MAX: usize = 255;
