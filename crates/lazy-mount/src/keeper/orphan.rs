//! Taking over from a keeper that was killed, while its worker goes on serving.
//!
//! Beside the mount point lies a record, locked by the keeper for as long as it lives: which process the
//! worker is, and under which numbers it has what it inherited. A new keeper that gets the lock while the
//! directory is still served duplicates those descriptors out of the orphaned worker (`pidfd_getfd`),
//! ends it, and starts a worker of its own. Readers wait in between, as they do for any new worker.
//!
//! A worker writes its record itself, between fork and exec, while it still shares the keeper's lock: who gets
//! the lock finds the worker that runs, whenever the keeper was killed.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::{Errno, pread, pwrite, read};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open, pidfd_send_signal,
};
use thiserror::Error;

use super::{DYING_CHECK_INTERVAL, Held, dying_worker};
use crate::inherited::InheritedFds;
use crate::slots::{SlotTable, SlotTableError};

/// Length of the record in bytes: three numbers and a pair of commas fit easily. It is written at once
/// and never cut, so a reader sees the old one or the new one.
const RECORD_LEN: usize = 128;
/// How long a child that was just forked by a killed keeper may take to its exec, which ends its share of the
/// lock; on a machine that swaps, say.
const LOCK_DEADLINE: Duration = Duration::from_secs(1);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);
/// What is read of /proc/PID/stat. Its 22nd field lies within the first 250 bytes.
const STAT_LEN: usize = 512;
/// How long a killed worker may take to end.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// The locked record of one mount point.
#[derive(Debug)]
pub(super) struct WorkerRecord {
    path: PathBuf,
    file: File,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordedWorker {
    pid: u32,
    /// When the process began, in ticks since boot: numbers of processes are used again.
    start_ticks: u64,
    fds: InheritedFds,
}

impl WorkerRecord {
    /// Locks the record; `None` if a living keeper has it.
    pub(super) fn lock(mount_point: &Path) -> io::Result<Option<Self>> {
        let mut path = mount_point.as_os_str().to_owned();
        path.push(".keeper");
        let path = PathBuf::from(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { path, file })),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    thread::sleep(LOCK_INTERVAL);
                }
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Writes down the worker that runs now.
    pub(super) fn write(&self, pid: u32, fds: InheritedFds) -> io::Result<()> {
        write_record(self.file.as_fd(), pid, fds)
    }

    /// For the worker, which writes itself down before its exec.
    pub(super) fn for_child(&self, fds: InheritedFds) -> ChildRecord {
        ChildRecord {
            file: self.file.as_raw_fd(),
            fds,
        }
    }

    /// The worker that was running last.
    pub(super) fn read(&self) -> Option<RecordedWorker> {
        let mut text = [0; RECORD_LEN];
        let len = pread(&self.file, &mut text, 0).ok()?;
        let text = text.get(..len).filter(|text| text.len() == RECORD_LEN)?;
        let mut words = std::str::from_utf8(text).ok()?.split_whitespace();
        Some(RecordedWorker {
            pid: words.next()?.parse().ok()?,
            start_ticks: words.next()?.parse().ok()?,
            fds: words.next()?.parse().ok()?,
        })
    }

    /// Removes the record; nobody is served any more.
    pub(super) fn remove(&self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// The record as a fork of the keeper has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChildRecord {
    file: RawFd,
    fds: InheritedFds,
}

impl ChildRecord {
    /// Writes down the calling process. System calls and nothing else: no allocation, no lock.
    pub(super) fn write_self(self) -> io::Result<()> {
        // JUSTIFICATION: after the fork only the number is at hand.
        // SAFETY: the keeper holds the file open for as long as it runs, and so does its fork.
        let file = unsafe { BorrowedFd::borrow_raw(self.file) };
        write_record(file, std::process::id(), self.fds)
    }
}

fn write_record(file: BorrowedFd<'_>, pid: u32, fds: InheritedFds) -> io::Result<()> {
    let start_ticks = start_ticks(pid).unwrap_or(0);
    let mut record = [b' '; RECORD_LEN];
    writeln!(record.as_mut_slice(), "{pid} {start_ticks} {fds}")?;
    if pwrite(file, &record, 0)? != RECORD_LEN {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Why an orphaned worker could not be taken over.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// The recorded process is not there any more.
    #[error("the recorded worker {pid} is gone, so somebody else serves the directory")]
    Gone {
        /// The recorded process.
        pid: u32,
    },
    /// What it holds could not be had.
    #[error("what the orphaned worker {pid} holds cannot be taken over")]
    Take {
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: Errno,
    },
    /// What it holds is not what it should be.
    #[error("the request slots of the orphaned worker cannot be taken over")]
    Slots(#[from] SlotTableError),
    /// It does not end.
    #[error("the orphaned worker {pid} was killed but does not end")]
    DoesNotEnd {
        /// The process.
        pid: u32,
    },
}

/// Takes everything over from an orphaned worker and ends it.
pub(super) fn adopt(worker: RecordedWorker) -> Result<Held, AdoptError> {
    let RecordedWorker {
        pid,
        start_ticks: recorded_ticks,
        fds,
    } = worker;
    let taking = |source| AdoptError::Take { pid, source };
    let target = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(AdoptError::Gone { pid })?;
    let pidfd =
        pidfd_open(target, PidfdFlags::empty()).map_err(|_gone| AdoptError::Gone { pid })?;
    // Compared after the descriptor was opened: from now on the number cannot be used again.
    if start_ticks(pid) != Some(recorded_ticks) {
        return Err(AdoptError::Gone { pid });
    }
    let take = |number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty());
    let fuse = take(fds.fuse).map_err(taking)?;
    let slots_fd = take(fds.slots).map_err(taking)?;
    let slots = SlotTable::open(&slots_fd)?;
    // The worker may have closed it; then a new one is made.
    let control = fds
        .control
        .and_then(|number| take(number).ok())
        .map(UnixListener::from);
    pidfd_send_signal(&pidfd, Signal::KILL).map_err(taking)?;
    wait_for_end(&pidfd, pid, &slots, &fuse)?;
    Ok(Held {
        fuse,
        slots,
        slots_fd,
        control,
    })
}

fn wait_for_end(
    pidfd: &OwnedFd,
    pid: u32,
    slots: &SlotTable,
    fuse: &OwnedFd,
) -> Result<(), AdoptError> {
    let deadline = Instant::now() + END_DEADLINE;
    let timeout = Timespec::try_from(DYING_CHECK_INTERVAL).ok();
    while Instant::now() < deadline {
        // Readable once all of its threads are gone.
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => {
                dying_worker::release(pid, slots, fuse);
            }
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(source) => return Err(AdoptError::Take { pid, source }),
        }
    }
    Err(AdoptError::DoesNotEnd { pid })
}

/// Field 22 of /proc/PID/stat. The name before it may hold spaces and parentheses. It does not allocate.
fn start_ticks(pid: u32) -> Option<u64> {
    let mut path = [0; 32];
    write!(path.as_mut_slice(), "/proc/{pid}/stat\0").ok()?;
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; STAT_LEN];
    let len = read(&file, &mut text).ok()?;
    let after_name = text.get(..len)?.rsplit(|byte| *byte == b')').next()?;
    let ticks = after_name.split(u8::is_ascii_whitespace).nth(20)?;
    std::str::from_utf8(ticks).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_locked_once() {
        let folder = tempfile::tempdir().unwrap();
        let mount_point = folder.path().join("layers");
        let record = WorkerRecord::lock(&mount_point).unwrap().unwrap();
        assert_eq!(record.read(), None);
        let fds = InheritedFds {
            fuse: 3,
            slots: 4,
            control: Some(5),
        };
        record.write(4_000_000, fds).unwrap();
        record.write(std::process::id(), fds).unwrap();
        let read = record.read().unwrap();
        assert_eq!((read.pid, read.fds), (std::process::id(), fds));
        assert!(read.start_ticks > 0);
        assert!(WorkerRecord::lock(&mount_point).unwrap().is_none());
        drop(record);
        let later = WorkerRecord::lock(&mount_point).unwrap().unwrap();
        assert_eq!(later.read(), Some(read));
    }

    #[test]
    fn another_process_of_the_same_number_is_left_alone() {
        let fds = InheritedFds {
            fuse: 0,
            slots: 1,
            control: None,
        };
        let worker = RecordedWorker {
            pid: std::process::id(),
            start_ticks: 1,
            fds,
        };
        assert!(matches!(adopt(worker), Err(AdoptError::Gone { .. })));
    }
}
