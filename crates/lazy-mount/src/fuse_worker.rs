//! The threads that answer the kernel.
//!
//! # Invariants
//!
//! Those of `slots`, and: a thread first answers what its predecessor left in its slots.
//!
//! # Concurrency
//!
//! Each thread waits, answers and waits again, alone. A slow read blocks only its own thread; when all
//! threads are in slow reads the kernel queues what comes next.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::{fmt, io, thread};

use rustix::io::Errno;
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use thiserror::Error;
use zerocopy::IntoBytes;

use crate::buffer_pool::BufferPool;
use crate::fuse_directory::{Answer, FuseDirectory};
use crate::layer_files::LayerFiles;
use crate::notifier::Notifier;
use crate::protocol::{MalformedRequest, Operation, OutHeader, Request, answer_init};
use crate::slots::{SLOT_COUNT, Slot, SlotTable};

/// Stack of each thread in bytes. Only what is touched takes memory.
const STACK_LEN: usize = 1 << 20;
/// Niceness of the threads. Each wakes up to hand over what a reader waits for: on two busy cores 2,000 reads
/// took 3.3 s with the niceness of everybody else and 0.6 s with a lower one.
const THREAD_NICENESS: i32 = -10;
/// How many workers may begin to answer one request before its reader gets an error: a request on
/// which workers die must not kill all that follow. At one restart a second this is a quarter of an hour;
/// under a test that kills every 20 ms, 20 s.
const ATTEMPTS_MAX: u32 = 1000;

/// The worker's side of a mounted FUSE directory.
pub struct FuseWorker {
    fuse: Arc<OwnedFd>,
    slots: SlotTable,
    slots_fd: OwnedFd,
}

impl FuseWorker {
    /// Makes a worker of what was opened. The descriptors stay open under their numbers for as long as it
    /// serves, so that a later keeper can find them.
    pub(crate) fn new(fuse: OwnedFd, slots: SlotTable, slots_fd: OwnedFd) -> Self {
        Self {
            fuse: Arc::new(fuse),
            slots,
            slots_fd,
        }
    }

    /// Minor version and flags of the protocol, if an earlier worker agreed on them with the kernel.
    pub fn agreement(&self) -> Option<(u32, u32)> {
        self.slots.agreement()
    }

    /// A way to tell the kernel what it should no longer remember.
    pub fn notifier(&self) -> Notifier {
        Notifier::new(Arc::clone(&self.fuse))
    }

    /// Serves the directory with this many threads (1 to 64) until it is unmounted.
    ///
    /// # Errors
    ///
    /// [`ServeError`] if threads cannot be started or the kernel's requests cannot be read. Some
    /// threads may be serving still: the process is expected to end.
    pub fn serve(self, files: Arc<dyn LayerFiles>, thread_count: usize) -> Result<(), ServeError> {
        let thread_count = thread_count.clamp(1, SLOT_COUNT);
        let mut slots_of: Vec<Vec<Slot>> = (0..thread_count).map(|_| Vec::new()).collect();
        for (index, slot) in self.slots.slots().into_iter().enumerate() {
            slots_of[index % thread_count].push(slot);
        }
        let shared = Arc::new(Shared {
            fuse: self.fuse,
            table: self.slots,
            _slots_fd: self.slots_fd,
            directory: FuseDirectory::new(files),
            buffers: BufferPool::default(),
        });
        let (ended, endings) = mpsc::channel();
        for (index, slots) in slots_of.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            let ended = ended.clone();
            thread::Builder::new()
                .name(format!("fuse-{index}"))
                .stack_size(STACK_LEN)
                .spawn(move || drop(ended.send(shared.serve_slots(slots))))
                .map_err(ServeError::Thread)?;
        }
        drop(ended);
        endings.into_iter().collect()
    }
}

impl fmt::Debug for FuseWorker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FuseWorker")
            .field("fuse", &self.fuse)
            .finish_non_exhaustive()
    }
}

/// Why a worker stopped serving.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A thread could not be started.
    #[error("a thread for the FUSE directory cannot be started")]
    Thread(#[source] io::Error),
    /// The kernel's requests cannot be read.
    #[error("the kernel's requests to the FUSE directory cannot be read")]
    Receive(#[source] Errno),
}

struct Shared {
    fuse: Arc<OwnedFd>,
    table: SlotTable,
    _slots_fd: OwnedFd,
    directory: FuseDirectory,
    buffers: BufferPool,
}

impl Shared {
    fn serve_slots(&self, mut slots: Vec<Slot>) -> Result<(), ServeError> {
        // Best effort: it takes CAP_SYS_NICE, and without it everything works, later.
        let _ = setpriority_process(Some(gettid()), THREAD_NICENESS);
        for slot in &mut slots {
            if slot.is_taken() {
                self.answer_slot(slot);
            }
        }
        let Some(slot) = slots.first_mut() else {
            return Ok(());
        };
        loop {
            match slot.receive(&self.fuse) {
                Ok(()) => self.answer_slot(slot),
                // A signal, or a request that was taken back while it was handed over.
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
                Err(Errno::NODEV) => return Ok(()),
                Err(source) => return Err(ServeError::Receive(source)),
            }
        }
    }

    fn answer_slot(&self, slot: &mut Slot) {
        if slot.begin_attempt() < ATTEMPTS_MAX {
            self.answer_bytes(slot.bytes());
        } else {
            self.give_up(slot.bytes());
        }
        // Counted before it is cleared: the keeper takes the count as a sign of life.
        self.table.count_answer();
        slot.clear();
    }

    fn answer_bytes(&self, bytes: &[u8]) {
        match Request::parse(bytes) {
            Ok(request) => {
                let mut buffer = self.buffers.take();
                let answer = self.directory.answer(&request, &mut buffer);
                self.remember_agreement(&request, &answer);
                self.send(request.unique, &answer, &buffer);
                self.buffers.give_back(buffer);
            }
            Err(MalformedRequest::Body { unique, opcode }) => {
                tracing::error!(opcode, "the kernel sent a malformed request");
                self.send(unique, &Answer::Error(Errno::IO), &[]);
            }
            Err(error @ MalformedRequest::Truncated { .. }) => {
                tracing::error!(%error, "the kernel sent a malformed request");
            }
        }
    }

    fn give_up(&self, bytes: &[u8]) {
        if let Ok(request) = Request::parse(bytes) {
            tracing::error!(
                request.node,
                "{ATTEMPTS_MAX} workers ended while they answered one request"
            );
            self.send(request.unique, &Answer::Error(Errno::IO), &[]);
        }
    }

    fn remember_agreement(&self, request: &Request<'_>, answer: &Answer) {
        if let (Operation::Init { version, flags }, Answer::Body(_)) = (request.operation, answer)
            && let Ok(agreed) = answer_init(version, flags)
        {
            self.table.remember_agreement(agreed.minor, agreed.flags);
        }
    }

    fn send(&self, unique: u64, answer: &Answer, buffer: &[u8]) {
        let outcome = match answer {
            Answer::Silence => return,
            Answer::Error(errno) => send_error(&self.fuse, unique, *errno),
            Answer::Body(body) => send_body(&self.fuse, unique, body),
            Answer::Filled(len) => send_body(&self.fuse, unique, &buffer[..*len]),
        };
        match outcome {
            // Nobody waits any more: answered by a worker before this one, interrupted, unmounted.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(errno) => {
                tracing::error!(%errno, "the kernel refused an answer");
                // Its reader must not wait for ever.
                let _ = send_error(&self.fuse, unique, Errno::IO);
            }
        }
    }
}

/// Answers a request with an error.
pub(crate) fn send_error(fuse: &OwnedFd, unique: u64, errno: Errno) -> Result<(), Errno> {
    let header = OutHeader {
        len: OutHeader::LEN,
        error: -errno.raw_os_error(),
        unique,
    };
    write_whole(fuse, &[IoSlice::new(header.as_bytes())])
}

fn send_body(fuse: &OwnedFd, unique: u64, body: &[u8]) -> Result<(), Errno> {
    let len =
        u32::try_from(size_of::<OutHeader>() + body.len()).map_err(|_too_long| Errno::TOOBIG)?;
    let header = OutHeader {
        len,
        error: 0,
        unique,
    };
    write_whole(fuse, &[IoSlice::new(header.as_bytes()), IoSlice::new(body)])
}

/// The kernel takes an answer whole or not at all.
pub(crate) fn write_whole(fuse: &OwnedFd, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
    loop {
        match rustix::io::writev(fuse, parts) {
            Err(Errno::INTR) => {}
            outcome => return outcome.map(drop),
        }
    }
}
