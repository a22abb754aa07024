//! SIGTERM, SIGINT and SIGCHLD as something to wait for, with a timeout.

use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use zerocopy::FromBytes;

/// Length of `struct signalfd_siginfo` in bytes; the signal's number is its first word.
const RECORD_LEN: usize = 128;
/// Records read at once. Each of three blocked signals can be pending once.
const RECORDS_MAX: usize = 4;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The process was asked to stop.
    Stop,
    /// A child ended, stopped or went on.
    Child,
    /// Nothing, for as long as was waited.
    Timeout,
}

/// The blocked signals of this thread.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: OwnedFd,
}

impl Signals {
    /// Blocks the signals, so that they can be waited for.
    pub(crate) fn block() -> Result<Self, Errno> {
        let set = signal_set(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD]);
        // JUSTIFICATION: rustix has neither signal masks nor signalfd.
        // SAFETY: `set` is initialised; the old mask is not asked for.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(Errno::from_raw_os_error(error));
        }
        // JUSTIFICATION: as above.
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(last_errno());
        }
        // JUSTIFICATION: as above.
        // SAFETY: just opened, and nobody else knows its number.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Waits for the next event. A wish to stop comes before a child's end.
    pub(crate) fn wait(&self, timeout: Duration) -> Result<Event, Errno> {
        let timeout = Timespec::try_from(timeout).map_err(|_too_long| Errno::INVAL)?;
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => return Ok(Event::Timeout),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let mut records = [0_u8; RECORD_LEN * RECORDS_MAX];
        let len = match rustix::io::read(&self.fd, &mut records) {
            Ok(len) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Event::Timeout),
            Err(errno) => return Err(errno),
        };
        let is_stop = records[..len].chunks_exact(RECORD_LEN).any(|record| {
            let number = i32::read_from_prefix(record).map(|(number, _)| number);
            matches!(number, Ok(libc::SIGTERM | libc::SIGINT))
        });
        Ok(if is_stop { Event::Stop } else { Event::Child })
    }
}

/// Unblocks all signals; for a child between fork and exec.
pub(crate) fn unblock_all() -> Result<(), Errno> {
    let set = signal_set(&[]);
    // JUSTIFICATION: as in `Signals::block`.
    // SAFETY: as there; the call is async-signal-safe.
    let error =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
    if error == 0 {
        Ok(())
    } else {
        Err(Errno::from_raw_os_error(error))
    }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // JUSTIFICATION: rustix has no signal sets.
    // SAFETY: sigemptyset initialises the set, after which sigaddset may change it; the numbers are
    // those of real signals, so neither can fail.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

fn last_errno() -> Errno {
    std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error)
}
