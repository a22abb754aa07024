//! Requests, taken apart. Whatever the bytes are, parsing ends without a panic.

use thiserror::Error;
use zerocopy::FromBytes;

use super::NAME_LEN_MAX;
use super::wire::{InHeader, InitIn, ReadIn};

/// One request of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Number of the request.
    pub unique: u64,
    /// The node it is about.
    pub node: u64,
    /// What is asked for.
    pub operation: Operation<'a>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// The first request: versions and abilities.
    Init {
        /// Version of the kernel's protocol.
        version: (u32, u32),
        /// Abilities that the kernel offers.
        flags: u32,
    },
    /// A name in a directory.
    Lookup {
        /// The name, without its NUL.
        name: &'a [u8],
    },
    /// The attributes of a node.
    GetAttributes,
    /// A range of a file.
    Read {
        /// First byte.
        offset: u64,
        /// How many bytes.
        len: u32,
    },
    /// A directory is opened.
    OpenDirectory,
    /// The entries of a directory.
    ReadDirectory {
        /// As the entry before the first wanted one gave it; 0 at the beginning.
        offset: u64,
        /// Longest answer in bytes.
        len: u32,
    },
    /// The numbers of the whole filesystem.
    Statistics,
    /// A file or directory is closed, or the filesystem is.
    Close,
    /// The kernel forgets nodes. It waits for no answer.
    Forget,
    /// Anything else, among it what is better not answered: after `ENOSYS` the kernel does it alone
    /// and never asks again (open, flush, access, xattrs, interrupt).
    Unsupported,
}

/// A request that is not what its opcode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MalformedRequest {
    /// Shorter than the header, or than the header says. It has no number to answer to.
    #[error("a request of {actual_len} bytes is not whole")]
    Truncated {
        /// How many bytes there are.
        actual_len: usize,
    },
    /// The header is whole, what follows is not.
    #[error("request {unique} with opcode {opcode} has a malformed body")]
    Body {
        /// Number of the request.
        unique: u64,
        /// Its opcode.
        opcode: u32,
    },
}

// Opcodes of linux/fuse.h.
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const READ: u32 = 15;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

impl<'a> Request<'a> {
    /// Takes the bytes of one request apart. Bytes after its end are ignored.
    ///
    /// # Errors
    ///
    /// [`MalformedRequest`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedRequest> {
        let truncated = MalformedRequest::Truncated {
            actual_len: bytes.len(),
        };
        let Ok((header, _)) = InHeader::read_from_prefix(bytes) else {
            return Err(truncated);
        };
        let len = usize::try_from(header.len).map_err(|_too_long| truncated)?;
        let body = bytes.get(size_of::<InHeader>()..len).ok_or(truncated)?;
        let malformed = MalformedRequest::Body {
            unique: header.unique,
            opcode: header.opcode,
        };
        let operation = parse_body(header.opcode, body).ok_or(malformed)?;
        Ok(Self {
            unique: header.unique,
            node: header.node,
            operation,
        })
    }
}

fn parse_body(opcode: u32, body: &[u8]) -> Option<Operation<'_>> {
    Some(match opcode {
        LOOKUP => Operation::Lookup {
            name: parse_name(body)?,
        },
        FORGET | BATCH_FORGET => Operation::Forget,
        GETATTR => Operation::GetAttributes,
        READ => {
            let (read, _) = ReadIn::read_from_prefix(body).ok()?;
            Operation::Read {
                offset: read.offset,
                len: read.len,
            }
        }
        STATFS => Operation::Statistics,
        RELEASE | RELEASEDIR | DESTROY => Operation::Close,
        INIT => {
            let (init, _) = InitIn::read_from_prefix(body).ok()?;
            Operation::Init {
                version: (init.major, init.minor),
                flags: init.flags,
            }
        }
        OPENDIR => Operation::OpenDirectory,
        READDIR => {
            let (read, _) = ReadIn::read_from_prefix(body).ok()?;
            Operation::ReadDirectory {
                offset: read.offset,
                len: read.len,
            }
        }
        _ => Operation::Unsupported,
    })
}

fn parse_name(body: &[u8]) -> Option<&[u8]> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let name = &body[..end];
    let is_name = !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.contains(&b'/');
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;

    fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(size_of::<InHeader>() + body.len()).unwrap();
        let header = InHeader {
            len,
            opcode,
            unique: 7,
            node: 1,
            uid: 0,
            gid: 0,
            pid: 0,
            extensions: 0,
        };
        [header.as_bytes(), body].concat()
    }

    #[test]
    fn a_lookup_has_a_name_of_its_own() {
        let bytes = request(LOOKUP, b"layer\0rest");
        let parsed = Request::parse(&bytes).unwrap();
        assert_eq!(parsed.operation, Operation::Lookup { name: b"layer" });
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let long = [b'a'; NAME_LEN_MAX + 2];
        for name in [&b""[..], b"\0", b"unterminated", b"a/b\0", &long] {
            let bytes = request(LOOKUP, name);
            let expected = MalformedRequest::Body {
                unique: 7,
                opcode: LOOKUP,
            };
            assert_eq!(Request::parse(&bytes), Err(expected));
        }
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let mut bytes = request(GETATTR, &[0; 16]);
        for len in [0_u32, 39, 57, u32::MAX] {
            bytes[..4].copy_from_slice(len.as_bytes());
            let truncated = MalformedRequest::Truncated {
                actual_len: bytes.len(),
            };
            assert_eq!(Request::parse(&bytes), Err(truncated), "{len}");
        }
    }

    #[test]
    fn unknown_opcodes_are_unsupported_not_errors() {
        for opcode in [0, 14, 16, 22, 34, 36, 4096, u32::MAX] {
            let bytes = request(opcode, &[]);
            assert_eq!(
                Request::parse(&bytes).unwrap().operation,
                Operation::Unsupported
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            opcode in 0_u32..60,
            claimed in proptest::option::of(any::<u32>()),
            body in proptest::collection::vec(any::<u8>(), 0..400),
            cut in any::<usize>(),
        ) {
            let mut bytes = request(opcode, &body);
            if let Some(claimed) = claimed {
                bytes[..4].copy_from_slice(claimed.as_bytes());
            }
            bytes.truncate(cut % (bytes.len() + 1));
            // Either outcome is right; what counts is that there is one.
            let outcome = Request::parse(&bytes);
            if bytes.len() < size_of::<InHeader>() {
                prop_assert!(outcome.is_err());
            }
        }
    }
}
