//! The agreement at the beginning: which version, which abilities.

use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::READ_LEN_MAX;
use super::wire::InitOut;

/// The protocol's major version; there is no other one yet.
const MAJOR: u32 = 7;
/// Oldest minor version that knows `max_pages` (Linux 4.20).
const MINOR_MIN: u32 = 28;
/// The minor version whose structs are the ones in here.
const MINOR: u32 = 31;

/// Several reads of one file at a time.
const ASYNC_READ: u32 = 1;
/// Several direct reads at a time, as a loop device makes them.
const ASYNC_DIO: u32 = 1 << 15;
/// Lookups in one directory at a time.
const PARALLEL_DIROPS: u32 = 1 << 18;
/// Reads longer than 128 KiB.
const MAX_PAGES: u32 = 1 << 22;
/// Cached pages are dropped when we say so, never because of a changed time or size.
const EXPLICIT_INVALIDATION: u32 = 1 << 25;
const WANTED: u32 = ASYNC_READ | ASYNC_DIO | PARALLEL_DIROPS | MAX_PAGES | EXPLICIT_INVALIDATION;

/// Reads in flight that nobody waits for yet (read-ahead): one for each worker thread there can be.
const BACKGROUND_MAX: u16 = 64;
/// At this many the kernel calls the filesystem congested; three quarters, as is its own habit.
const CONGESTION_THRESHOLD: u16 = 48;
/// Reading only, so the smallest length that the kernel takes. It decides how long a slot must be.
const WRITE_LEN_MAX: u32 = 4096;
/// 256 pages of 4 KiB: the kernel's limit for a request.
const PAGES_MAX: u16 = 256;

/// The answer and what was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitAnswer {
    /// Minor version of the protocol from now on.
    pub minor: u32,
    /// Abilities that both sides have.
    pub flags: u32,
    /// The body of the answer.
    pub body: Vec<u8>,
}

/// Answers the kernel's first request.
///
/// # Errors
///
/// [`Errno::PROTO`] for a kernel that is too old; the directory is dead then.
pub fn answer_init(version: (u32, u32), offered: u32) -> Result<InitAnswer, Errno> {
    let (major, minor) = version;
    if major < MAJOR || (major == MAJOR && minor < MINOR_MIN) {
        return Err(Errno::PROTO);
    }
    // A kernel with a later major version reads our number and begins again with it.
    let minor = if major == MAJOR {
        minor.min(MINOR)
    } else {
        MINOR
    };
    let flags = offered & WANTED;
    let out = InitOut {
        major: MAJOR,
        minor,
        // Not a wish but a limit: the mount's own setting counts, which may be raised later.
        max_readahead: READ_LEN_MAX,
        flags,
        max_background: BACKGROUND_MAX,
        congestion_threshold: CONGESTION_THRESHOLD,
        max_write: WRITE_LEN_MAX,
        time_granularity: 1,
        max_pages: PAGES_MAX,
        map_alignment: 0,
        flags2: 0,
        max_stack_depth: 0,
        unused: [0; 12],
    };
    Ok(InitAnswer {
        minor,
        flags,
        body: out.as_bytes().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_offered_abilities_are_taken() {
        let answer = answer_init((7, 45), ASYNC_READ | 1 << 16).unwrap();
        assert_eq!((answer.minor, answer.flags), (MINOR, ASYNC_READ));
        assert_eq!(answer.body.len(), 64);
    }

    #[test]
    fn kernels_without_long_reads_are_refused() {
        assert_eq!(answer_init((7, 27), u32::MAX), Err(Errno::PROTO));
        assert_eq!(answer_init((6, 99), u32::MAX), Err(Errno::PROTO));
        assert_eq!(answer_init((8, 0), u32::MAX).unwrap().minor, MINOR);
    }
}
