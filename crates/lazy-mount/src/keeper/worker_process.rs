//! The worker as a child process.

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process};

use super::orphan::ChildRecord;
use super::signals;
use crate::inherited::InheritedFds;

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The program, as a rule the keeper's own.
    pub program: PathBuf,
    /// Its arguments. One more is appended: the text of [`InheritedFds`].
    pub arguments: Vec<OsString>,
}

/// A running worker, or one that ended and was not waited for yet.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    child: Child,
}

impl WorkerProcess {
    pub(super) fn spawn(
        command: &WorkerCommand,
        fds: InheritedFds,
        record: ChildRecord,
    ) -> io::Result<Self> {
        let mut process = Command::new(&command.program);
        process
            .args(&command.arguments)
            .arg(fds.to_string())
            .stdin(Stdio::null())
            // A terminal's Ctrl-C is for the keeper, which then stops the worker.
            .process_group(0);
        // JUSTIFICATION: descriptors are inherited, the signal mask is reset and the record is written between fork and exec only.
        // SAFETY: the closure makes system calls and nothing else: no allocation, no lock.
        unsafe {
            process.pre_exec(move || prepare_child(fds, record));
        }
        Ok(Self {
            child: process.spawn()?,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes note of its end, if it has ended with all its threads.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    pub(super) fn ask_to_stop(&self) {
        // It was not waited for, so the number is still its own. If it is ending: so much the better.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    pub(super) fn kill(&mut self) {
        drop(self.child.kill());
    }
}

fn prepare_child(fds: InheritedFds, record: ChildRecord) -> io::Result<()> {
    // On a full disk readers are served all the same; the keeper tries again and says so.
    drop(record.write_self());
    signals::unblock_all()?;
    for number in [Some(fds.fuse), Some(fds.slots), fds.control]
        .into_iter()
        .flatten()
    {
        // JUSTIFICATION: after the fork only the number is at hand.
        // SAFETY: the keeper holds it open for as long as it runs, and so does its fork.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
    }
    Ok(())
}
