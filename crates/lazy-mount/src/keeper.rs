//! The process that never does anything, so that it never dies.
//!
//! It opens the FUSE device, mounts the directory, makes the request slots and the listening control socket,
//! and starts the worker, which inherits all of them. When the worker dies its successor inherits them
//! again: readers wait, connections to the control socket queue up, nobody gets an error.
//!
//! ```text
//!   start ──► worker runs ──► died ──► (delay if it had answered nothing) ──► worker runs …
//!                 │  └──► exited with 0: it was told to stop ──┐
//!                 └──► SIGTERM or SIGINT to the keeper:        ├──► clean up, end
//!                      SIGTERM to the worker, wait, SIGKILL ───┘
//! ```
//!
//! # Invariants
//!
//! 1. A worker is started only after its predecessor was waited for, so two never share a slot.
//! 2. A worker that waits for its own directory while it is killed is let go (`dying_worker`).
//!
//! A keeper that is killed itself leaves its worker serving; the next keeper takes over from that (`orphan`).
//!
//! # Concurrency
//!
//! One thread. [`Keeper::start`] is to be called before the process has any other.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use thiserror::Error;

use crate::fuse_mount::{MountFuseError, mount_fuse};
use crate::inherited::InheritedFds;
use crate::mount_table::{ReadMountTableError, Unmount, UnmountError, is_mounted, unmount};
use crate::slots::{SlotTable, SlotTableError};

use orphan::WorkerRecord;
use signals::{Event, Signals};
use worker_process::WorkerProcess;

pub use orphan::AdoptError;
pub use worker_process::WorkerCommand;

mod dying_worker;
mod orphan;
mod signals;
mod worker_process;

/// How often the keeper looks whether its worker is stuck in dying. Only this long can such a worker
/// delay its successor.
const DYING_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Shortest and longest wait before a worker is started again that has answered nothing.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(10);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(1);
/// How long a worker may take to end after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// What a keeper keeps.
#[derive(Debug, Clone)]
pub struct KeeperOptions {
    /// The FUSE device, as a rule `/dev/fuse`.
    pub fuse_device: PathBuf,
    /// Directory at which the layer files appear. It is created if absent. What a dead keeper left there
    /// is taken over with its readers if its worker still serves it, and unmounted if not.
    /// A small file of the same name with `.keeper` appended says who serves it.
    pub mount_point: PathBuf,
    /// Path of the control socket, if there is to be one. Only root can connect.
    pub control_socket: Option<PathBuf>,
    /// The worker's command.
    pub worker: WorkerCommand,
    /// What becomes of the mount when the keeper is stopped.
    pub on_stop: OnStop,
}

/// What becomes of the FUSE directory when the keeper is stopped cleanly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// It is unmounted lazily. Reads of what is not cached fail from then on.
    Unmount,
    /// It stays in the tree, dead; for a successor that unmounts it.
    Leave,
}

/// Holds everything that outlives a worker.
#[derive(Debug)]
pub struct Keeper {
    options: KeeperOptions,
    held: Held,
    record: WorkerRecord,
    signals: Signals,
}

/// What each worker inherits.
#[derive(Debug)]
struct Held {
    fuse: OwnedFd,
    slots: SlotTable,
    slots_fd: OwnedFd,
    control: Option<UnixListener>,
}

impl Keeper {
    /// Mounts the directory and opens the control socket. From now on readers and clients wait.
    ///
    /// Blocks SIGTERM, SIGINT and SIGCHLD for this thread; workers do not inherit that.
    ///
    /// # Errors
    ///
    /// [`StartKeeperError`]; nothing stays mounted then.
    pub fn start(options: KeeperOptions) -> Result<Self, StartKeeperError> {
        let signals = Signals::block().map_err(StartKeeperError::Signals)?;
        let record = lock_record(&options.mount_point)?;
        let orphan = match examine_mount_point(&options.mount_point)? {
            MountPoint::Free => None,
            MountPoint::Served => Some(record.read().ok_or_else(|| StartKeeperError::InUse {
                path: options.mount_point.clone(),
            })?),
        };
        let mut held = if let Some(worker) = orphan {
            orphan::adopt(worker)?
        } else {
            let (slots, slots_fd) = SlotTable::create()?;
            let fuse = mount_fuse(&options.fuse_device, &options.mount_point)?;
            Held {
                fuse,
                slots,
                slots_fd,
                control: None,
            }
        };
        held.control = match (&options.control_socket, held.control) {
            (Some(_), Some(adopted)) => Some(adopted),
            (Some(path), None) => {
                Some(listen(path).map_err(|source| StartKeeperError::Control {
                    path: path.clone(),
                    source,
                })?)
            }
            (None, _) => None,
        };
        Ok(Self {
            options,
            held,
            record,
            signals,
        })
    }

    /// Runs workers until the keeper is stopped by a signal or a worker exits with 0.
    ///
    /// # Errors
    ///
    /// [`RunKeeperError`]. The directory is cleaned up as asked for also then.
    pub fn run(self) -> Result<(), RunKeeperError> {
        let outcome = self.run_workers();
        outcome.and(self.clean_up())
    }

    fn run_workers(&self) -> Result<(), RunKeeperError> {
        let mut fruitless_count = 0;
        loop {
            let answered_before = self.held.slots.answered();
            match self.run_worker()? {
                Ending::Stopped => return Ok(()),
                Ending::Exited(status) if status.success() => return Ok(()),
                Ending::Exited(status) => self.judge(status)?,
                Ending::NotStarted(error) => {
                    tracing::error!(%error, "the worker cannot be started again");
                }
            }
            let is_fruitful = self.held.slots.answered() != answered_before;
            fruitless_count = if is_fruitful { 0 } else { fruitless_count + 1 };
            if self.wait_before_restart(restart_delay(fruitless_count))? == Event::Stop {
                return Ok(());
            }
        }
    }

    /// A worker that exits by itself before the directory ever worked would only do so again.
    fn judge(&self, status: ExitStatus) -> Result<(), RunKeeperError> {
        if status.code().is_some() && self.held.slots.answered() == 0 {
            return Err(RunKeeperError::WorkerFailed { status });
        }
        let pending = self.held.slots.pending().len();
        tracing::warn!(%status, pending, "the worker ended and is started again");
        Ok(())
    }

    fn run_worker(&self) -> Result<Ending, RunKeeperError> {
        let fds = self.held.fds();
        let mut worker =
            match WorkerProcess::spawn(&self.options.worker, fds, self.record.for_child(fds)) {
                Ok(worker) => worker,
                Err(source) if self.held.slots.answered() == 0 => {
                    return Err(RunKeeperError::Spawn {
                        program: self.options.worker.program.clone(),
                        source,
                    });
                }
                Err(source) => return Ok(Ending::NotStarted(source)),
            };
        tracing::info!(worker.pid = worker.pid(), "the worker runs");
        if let Err(error) = self.record.write(worker.pid(), fds) {
            tracing::warn!(%error, "a later keeper will not be able to take over from this one");
        }
        loop {
            if let Some(status) = worker.try_wait().map_err(RunKeeperError::Wait)? {
                return Ok(Ending::Exited(status));
            }
            match self
                .signals
                .wait(DYING_CHECK_INTERVAL)
                .map_err(RunKeeperError::Signals)?
            {
                Event::Stop => {
                    self.stop(&mut worker)?;
                    return Ok(Ending::Stopped);
                }
                Event::Child => {}
                Event::Timeout => self.release_dying(&worker),
            }
        }
    }

    fn stop(&self, worker: &mut WorkerProcess) -> Result<(), RunKeeperError> {
        worker.ask_to_stop();
        let deadline = Instant::now() + STOP_DEADLINE;
        let mut is_killed = false;
        while worker.try_wait().map_err(RunKeeperError::Wait)?.is_none() {
            self.signals
                .wait(DYING_CHECK_INTERVAL)
                .map_err(RunKeeperError::Signals)?;
            self.release_dying(worker);
            if !is_killed && Instant::now() >= deadline {
                tracing::warn!("the worker did not stop in {STOP_DEADLINE:?} and is killed");
                worker.kill();
                is_killed = true;
            }
        }
        Ok(())
    }

    fn release_dying(&self, worker: &WorkerProcess) {
        let released = dying_worker::release(worker.pid(), &self.held.slots, &self.held.fuse);
        if released != 0 {
            tracing::warn!(released, "a dying worker waited for itself and was let go");
        }
    }

    fn wait_before_restart(&self, delay: Duration) -> Result<Event, RunKeeperError> {
        let deadline = Instant::now() + delay;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.signals.wait(rest).map_err(RunKeeperError::Signals)? {
                Event::Child => {}
                event @ (Event::Stop | Event::Timeout) => return Ok(event),
            }
        }
    }

    fn clean_up(&self) -> Result<(), RunKeeperError> {
        if let Some(path) = &self.options.control_socket {
            // It may be gone, or somebody else's by now; a stale socket does no harm.
            drop(std::fs::remove_file(path));
        }
        match self.options.on_stop {
            OnStop::Leave => Ok(()),
            OnStop::Unmount => match unmount(&self.options.mount_point, Unmount::Lazy) {
                // Unmounted by somebody else: that is how the worker came to exit with 0.
                Ok(()) | Err(UnmountError::NotMounted { .. }) => {
                    self.record.remove();
                    Ok(())
                }
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// Why a keeper could not start.
#[derive(Debug, Error)]
pub enum StartKeeperError {
    /// Signals could not be blocked.
    #[error("the keeper cannot take up its signals")]
    Signals(#[source] Errno),
    /// The slots could not be made.
    #[error("the request slots cannot be made")]
    Slots(#[from] SlotTableError),
    /// The mount point could not be made.
    #[error("the mount point {path} cannot be made", path = path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mount table could not be read.
    #[error("it is not known what is mounted at the mount point")]
    MountTable(#[from] ReadMountTableError),
    /// What a dead keeper left could not be removed.
    #[error("the mount of a keeper that is gone cannot be removed")]
    RemoveDead(#[source] UnmountError),
    /// Another keeper runs, or something that is not ours is mounted.
    #[error("the mount point {path} is in use: by another keeper, or by a mount that is not ours", path = path.display())]
    InUse {
        /// The mount point.
        path: PathBuf,
    },
    /// The worker of a dead keeper serves the mount, and could not be taken over.
    #[error("the directory of a keeper that is gone cannot be taken over")]
    Adopt(#[from] AdoptError),
    /// The control socket could not be opened.
    #[error("the control socket {path} cannot be opened", path = path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountFuseError),
}

/// Why a keeper ended other than by being stopped.
#[derive(Debug, Error)]
pub enum RunKeeperError {
    /// The first worker could not be started.
    #[error("the worker {program} cannot be started", program = program.display())]
    Spawn {
        /// The worker's program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The first worker gave up before it had answered anything.
    #[error("the worker failed before it served anything: {status}")]
    WorkerFailed {
        /// How it ended.
        status: ExitStatus,
    },
    /// The worker could not be waited for.
    #[error("the worker cannot be waited for")]
    Wait(#[source] io::Error),
    /// Signals could not be read.
    #[error("the keeper's signals cannot be read")]
    Signals(#[source] Errno),
    /// The directory could not be unmounted.
    #[error("the FUSE directory stays mounted")]
    Unmount(#[from] UnmountError),
}

/// How a worker's run ended.
enum Ending {
    Stopped,
    Exited(ExitStatus),
    NotStarted(io::Error),
}

impl Held {
    fn fds(&self) -> InheritedFds {
        InheritedFds {
            fuse: self.fuse.as_raw_fd(),
            slots: self.slots_fd.as_raw_fd(),
            control: self.control.as_ref().map(AsRawFd::as_raw_fd),
        }
    }
}

/// The first restart is at once, and so is each after a worker that had answered something.
fn restart_delay(fruitless_count: u32) -> Duration {
    match fruitless_count {
        0 | 1 => Duration::ZERO,
        count => RESTART_DELAY_MIN
            .saturating_mul(1_u32.checked_shl(count - 2).unwrap_or(u32::MAX))
            .min(RESTART_DELAY_MAX),
    }
}

fn lock_record(mount_point: &Path) -> Result<WorkerRecord, StartKeeperError> {
    let refused = |source| StartKeeperError::MountPoint {
        path: mount_point.to_owned(),
        source,
    };
    if let Some(parent) = mount_point.parent() {
        std::fs::create_dir_all(parent).map_err(refused)?;
    }
    WorkerRecord::lock(mount_point)
        .map_err(refused)?
        .ok_or_else(|| StartKeeperError::InUse {
            path: mount_point.to_owned(),
        })
}

/// What is at the mount point, once a dead mount was removed.
enum MountPoint {
    Free,
    Served,
}

fn examine_mount_point(path: &Path) -> Result<MountPoint, StartKeeperError> {
    let refused = |source| StartKeeperError::MountPoint {
        path: path.to_owned(),
        source,
    };
    if !is_mounted(path)? {
        std::fs::create_dir_all(path).map_err(refused)?;
        return Ok(MountPoint::Free);
    }
    // The root of the mount answers, unless nobody holds its device any more.
    let is_dead = std::fs::metadata(path)
        .is_err_and(|error| error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()));
    if !is_dead {
        return Ok(MountPoint::Served);
    }
    unmount(path, Unmount::Lazy).map_err(StartKeeperError::RemoveDead)?;
    Ok(MountPoint::Free)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // For root alone from its first moment on.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = listener?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_no_delay_is_longer_than_a_second() {
        assert_eq!(restart_delay(0), Duration::ZERO);
        assert_eq!(restart_delay(1), Duration::ZERO);
        assert_eq!(restart_delay(2), Duration::from_millis(10));
        assert_eq!(restart_delay(4), Duration::from_millis(40));
        for count in [9, 33, 34, 1000, u32::MAX] {
            assert_eq!(restart_delay(count), RESTART_DELAY_MAX);
        }
    }

    #[test]
    fn a_machine_without_a_fuse_device_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = Keeper::start(KeeperOptions {
            fuse_device: folder.path().join("no-fuse"),
            mount_point: folder.path().join("layers"),
            control_socket: Some(folder.path().join("control.sock")),
            worker: WorkerCommand {
                program: "/bin/true".into(),
                arguments: Vec::new(),
            },
            on_stop: OnStop::Unmount,
        })
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("no-fuse") && text.contains("cannot be opened"),
            "{text}"
        );
    }
}
