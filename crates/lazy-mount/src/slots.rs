//! Request slots: memory that outlives a worker, into which its threads read the kernel's requests.
//!
//! ```text
//! ┌──────────────── page 0 ────────────────┬─ slot 0 ─┬─ slot 1 ─┬─ … ─┬─ slot 63 ─┐
//! │ magic, version, counts, what INIT      │ 16 KiB   │          │     │           │
//! │ agreed on, number of answers           │          │          │     │           │
//! └────────────────────────────────────────┴──────────┴──────────┴─────┴───────────┘
//! slot: the request as the kernel wrote it (its first word is its length; 0 means: nothing here),
//!       and in its last 4 bytes how many workers have begun to answer it
//! ```
//!
//! # Invariants
//!
//! 1. A request is in a slot from the moment the kernel takes it off its queue: read(2) does both.
//! 2. The length is set to 0 only after the kernel has the answer. So what a killed worker had taken
//!    and not answered lies in the slots; what it had answered may lie there too, and a second answer
//!    is refused by the kernel with `ENOENT`, harmlessly.
//! 3. One process at a time uses the slots, one thread at a time each. The keeper only reads the
//!    headers, with volatile reads.
//! 4. The memory is sealed: nobody can shrink it under a mapping.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use thiserror::Error;

use crate::protocol::InHeader;

/// How many slots there are, and so how many threads a worker can have.
pub(crate) const SLOT_COUNT: usize = 64;
/// Length of a slot in bytes. The kernel wants room for 8 KiB; the longest request that a read-only
/// directory can get is a name of 4 KiB.
const SLOT_LEN: usize = 16 << 10;
/// The end of a slot that the kernel must not write to, in bytes.
const SLOT_TAIL_LEN: usize = 64;
const HEADER_LEN: usize = 4096;
const TABLE_LEN: usize = HEADER_LEN + SLOT_COUNT * SLOT_LEN;
/// "slipslot" in ASCII.
const MAGIC: u64 = 0x736c_6970_736c_6f74;
const VERSION: u32 = 1;

/// The first page.
#[repr(C)]
struct TableHeader {
    magic: AtomicU64,
    version: AtomicU32,
    slot_count: AtomicUsize,
    slot_len: AtomicUsize,
    /// 0 until the kernel's INIT was answered.
    agreed_minor: AtomicU32,
    agreed_flags: AtomicU32,
    /// How many requests all the workers have answered.
    answered: AtomicU64,
}

const _: () = assert!(size_of::<TableHeader>() <= HEADER_LEN);

/// The mapped slots.
#[derive(Debug, Clone)]
pub(crate) struct SlotTable {
    mapping: Arc<Mapping>,
}

/// The header of a request that lies in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PendingRequest {
    pub(crate) unique: u64,
    /// The thread that waits for the answer.
    pub(crate) waiting_thread: u32,
}

impl SlotTable {
    /// Makes empty slots and the descriptor under which a worker inherits them.
    pub(crate) fn create() -> Result<(Self, OwnedFd), SlotTableError> {
        let fd = memfd_create(
            "slipway-slots",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )
        .map_err(SlotTableError::Create)?;
        ftruncate(&fd, TABLE_LEN as u64).map_err(SlotTableError::Create)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(SlotTableError::Create)?;
        let table = Self {
            mapping: Arc::new(Mapping::of(&fd)?),
        };
        let header = table.header();
        header.magic.store(MAGIC, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.slot_count.store(SLOT_COUNT, Ordering::Relaxed);
        header.slot_len.store(SLOT_LEN, Ordering::Relaxed);
        Ok((table, fd))
    }

    /// Maps slots that another process made.
    pub(crate) fn open(fd: &OwnedFd) -> Result<Self, SlotTableError> {
        let actual_len = fstat(fd).map_err(SlotTableError::Map)?.st_size;
        if usize::try_from(actual_len) != Ok(TABLE_LEN) {
            return Err(SlotTableError::Foreign);
        }
        let table = Self {
            mapping: Arc::new(Mapping::of(fd)?),
        };
        let header = table.header();
        let is_ours = header.magic.load(Ordering::Relaxed) == MAGIC
            && header.version.load(Ordering::Relaxed) == VERSION
            && header.slot_count.load(Ordering::Relaxed) == SLOT_COUNT
            && header.slot_len.load(Ordering::Relaxed) == SLOT_LEN;
        if is_ours {
            Ok(table)
        } else {
            Err(SlotTableError::Foreign)
        }
    }

    /// The slots, each to be owned by one thread. To be called once in a process that answers.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        (0..SLOT_COUNT)
            .map(|index| Slot {
                mapping: Arc::clone(&self.mapping),
                index,
            })
            .collect()
    }

    /// The requests that lie in the slots at this moment.
    pub(crate) fn pending(&self) -> Vec<PendingRequest> {
        (0..SLOT_COUNT)
            .filter_map(|index| self.mapping.pending(index))
            .collect()
    }

    /// Remembers what INIT agreed on, for whoever wants to know in a later worker.
    pub(crate) fn remember_agreement(&self, minor: u32, flags: u32) {
        self.header().agreed_flags.store(flags, Ordering::Relaxed);
        self.header().agreed_minor.store(minor, Ordering::Release);
    }

    /// Minor version and flags that INIT agreed on, if it was answered. Nothing depends on it yet: the
    /// structs in use are the same in each version that is agreed to.
    pub(crate) fn agreement(&self) -> Option<(u32, u32)> {
        let minor = self.header().agreed_minor.load(Ordering::Acquire);
        (minor != 0).then(|| (minor, self.header().agreed_flags.load(Ordering::Relaxed)))
    }

    /// Counts one answer.
    pub(crate) fn count_answer(&self) {
        self.header().answered.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were answered since the slots were made.
    pub(crate) fn answered(&self) -> u64 {
        self.header().answered.load(Ordering::Relaxed)
    }

    fn header(&self) -> &TableHeader {
        // JUSTIFICATION: memory shared with other processes has no safe interface.
        // SAFETY: the mapping is page-aligned, longer than the header, lives as long as `self`, and
        // the header consists of atomics only, for which every bit pattern is valid.
        unsafe { self.mapping.start.cast::<TableHeader>().as_ref() }
    }
}

/// Why the slots cannot be used.
#[derive(Debug, Error)]
pub enum SlotTableError {
    /// The memory could not be made.
    #[error("the memory for request slots cannot be made")]
    Create(#[source] Errno),
    /// The memory could not be mapped.
    #[error("the memory of request slots cannot be mapped")]
    Map(#[source] Errno),
    /// The memory is something else, or of another version: worker and keeper must be one program.
    #[error("the inherited memory does not hold request slots of version {VERSION}")]
    Foreign,
}

/// One slot, owned by one thread.
#[derive(Debug)]
pub(crate) struct Slot {
    mapping: Arc<Mapping>,
    index: usize,
}

impl Slot {
    /// Waits for the next request of the kernel and takes it into the slot.
    pub(crate) fn receive(&mut self, fuse: impl AsFd) -> Result<(), Errno> {
        self.attempts().store(0, Ordering::Relaxed);
        // JUSTIFICATION: the request must arrive in the shared memory itself (invariant 1).
        // SAFETY: the range is inside the mapping, which outlives the slice, and nobody else has
        // a reference into it: this thread owns the slot, and `&mut self` this borrow.
        let room = unsafe {
            std::slice::from_raw_parts_mut(self.start().as_ptr(), SLOT_LEN - SLOT_TAIL_LEN)
        };
        let received = rustix::io::read(fuse, room);
        if received.is_err() {
            // The kernel may have begun to copy a request that it then took back.
            self.clear();
        }
        received.map(drop)
    }

    /// Whether a request lies here.
    pub(crate) fn is_taken(&self) -> bool {
        self.len().load(Ordering::Acquire) != 0
    }

    /// The bytes of the slot, of which the request is the beginning.
    pub(crate) fn bytes(&self) -> &[u8] {
        // JUSTIFICATION: as in `receive`.
        // SAFETY: as in `receive`; it is written again only through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), SLOT_LEN - SLOT_TAIL_LEN) }
    }

    /// Counts a worker that begins to answer what lies here. Returns how many did before.
    pub(crate) fn begin_attempt(&self) -> u32 {
        self.attempts().fetch_add(1, Ordering::Relaxed)
    }

    /// Empties the slot. To be called when the kernel has the answer (invariant 2).
    pub(crate) fn clear(&mut self) {
        self.len().store(0, Ordering::Release);
    }

    fn start(&self) -> NonNull<u8> {
        self.mapping.slot(self.index)
    }

    fn len(&self) -> &AtomicU32 {
        // JUSTIFICATION: the first word is written by the kernel and by us, in shared memory.
        // SAFETY: aligned, inside the mapping, and valid whatever its bits are.
        unsafe { self.start().cast::<AtomicU32>().as_ref() }
    }

    fn attempts(&self) -> &AtomicU32 {
        // JUSTIFICATION: as in `len`.
        // SAFETY: SLOT_LEN - 4 is aligned and inside the slot; the kernel is not given the tail.
        unsafe {
            self.start()
                .add(SLOT_LEN - size_of::<u32>())
                .cast::<AtomicU32>()
                .as_ref()
        }
    }
}

#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
}

// JUSTIFICATION: a raw pointer is neither by itself.
// SAFETY: the memory is not tied to a thread. All access goes through atomics, volatile reads, or a
// `Slot`, which is owned by one thread.
unsafe impl Send for Mapping {}
// JUSTIFICATION: as above.
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(fd: &OwnedFd) -> Result<Self, SlotTableError> {
        // Present from the beginning, so that the kernel never faults while it copies a request.
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // JUSTIFICATION: rustix's mmap is unsafe; there is no safe way to share memory.
        // SAFETY: a new mapping at an address of the kernel's choice, of TABLE_LEN bytes, which the
        // file has and, being sealed, keeps.
        let start = unsafe { mmap(std::ptr::null_mut(), TABLE_LEN, access, flags, fd, 0) }
            .map_err(SlotTableError::Map)?;
        let start = NonNull::new(start.cast()).ok_or(SlotTableError::Map(Errno::FAULT))?;
        Ok(Self { start })
    }

    fn slot(&self, index: usize) -> NonNull<u8> {
        assert!(index < SLOT_COUNT, "there are {SLOT_COUNT} slots");
        // JUSTIFICATION: pointer arithmetic inside shared memory.
        // SAFETY: the index was checked, so the result is inside the mapping.
        unsafe { self.start.add(HEADER_LEN + index * SLOT_LEN) }
    }

    fn pending(&self, index: usize) -> Option<PendingRequest> {
        // JUSTIFICATION: the keeper looks at memory that a dying worker may still be writing to.
        // SAFETY: aligned and inside the mapping; every bit pattern is a header; volatile, as another
        // process may write to it. A torn value only names a request that does not exist.
        let header = unsafe { self.slot(index).cast::<InHeader>().read_volatile() };
        (header.len != 0).then_some(PendingRequest {
            unique: header.unique,
            waiting_thread: header.pid,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // JUSTIFICATION: what was mapped by hand is unmapped by hand.
        // SAFETY: made by `Mapping::of` with this length, and no slot is left that refers to it.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), TABLE_LEN) };
        debug_assert!(unmapped.is_ok(), "our own mapping can be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_stays_for_the_next_process_until_it_is_cleared() {
        let (table, fd) = SlotTable::create().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut request = [0_u8; 40];
        request[0] = 40;
        request[8] = 7;
        request[32] = 99;
        rustix::io::write(&writer, &request).unwrap();
        let mut slot = table.slots().swap_remove(5);
        assert!(!slot.is_taken());
        slot.receive(&reader).unwrap();

        let later = SlotTable::open(&fd).unwrap();
        assert_eq!(
            later.pending(),
            [PendingRequest {
                unique: 7,
                waiting_thread: 99
            }]
        );
        let mut inherited = later.slots().swap_remove(5);
        assert!(inherited.is_taken());
        assert_eq!(inherited.bytes()[..40], request);
        assert_eq!(
            (inherited.begin_attempt(), inherited.begin_attempt()),
            (0, 1)
        );
        inherited.clear();
        assert!(!slot.is_taken());
        assert_eq!(table.pending(), []);
    }

    #[test]
    fn the_agreement_and_the_count_of_answers_are_shared() {
        let (table, fd) = SlotTable::create().unwrap();
        assert_eq!(table.agreement(), None);
        table.remember_agreement(31, 5);
        table.count_answer();
        let later = SlotTable::open(&fd).unwrap();
        assert_eq!(later.agreement(), Some((31, 5)));
        assert_eq!(later.answered(), 1);
    }

    #[test]
    fn other_memory_is_refused() {
        let foreign = memfd_create("foreign", MemfdFlags::CLOEXEC).unwrap();
        assert!(matches!(
            SlotTable::open(&foreign),
            Err(SlotTableError::Foreign)
        ));
        ftruncate(&foreign, TABLE_LEN as u64).unwrap();
        assert!(matches!(
            SlotTable::open(&foreign),
            Err(SlotTableError::Foreign)
        ));
    }
}
