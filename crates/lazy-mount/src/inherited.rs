//! The file descriptors that a worker inherits from its keeper, named in one argument.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::str::FromStr;

use rustix::io::{Errno, FdFlags};
use thiserror::Error;

use crate::fuse_worker::FuseWorker;
use crate::slots::{SlotTable, SlotTableError};

/// Numbers of the inherited file descriptors, written `fuse,slots` or `fuse,slots,control`.
///
/// The keeper appends this text as the last argument of the worker's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InheritedFds {
    /// The open FUSE device of the mounted directory.
    pub fuse: RawFd,
    /// The memory with the request slots.
    pub slots: RawFd,
    /// The listening control socket, if the keeper holds one.
    pub control: Option<RawFd>,
}

/// What a worker starts with.
#[derive(Debug)]
pub struct Inherited {
    /// The side of the FUSE directory that answers.
    pub worker: FuseWorker,
    /// The control socket. It listens since the keeper started, so connections made while no
    /// worker ran are waiting in its queue.
    pub control: Option<UnixListener>,
}

impl InheritedFds {
    /// Takes the descriptors over. To be called once, first thing in the worker's process.
    ///
    /// # Errors
    ///
    /// [`InheritError`] if a descriptor is not open or the slots are not ours.
    pub fn open(self) -> Result<Inherited, InheritError> {
        let fuse = adopt(self.fuse, "FUSE device")?;
        let slots = adopt(self.slots, "request slots")?;
        let control = match self.control {
            Some(number) => Some(UnixListener::from(adopt(number, "control socket")?)),
            None => None,
        };
        let worker = FuseWorker::new(fuse, SlotTable::open(&slots)?, slots);
        Ok(Inherited { worker, control })
    }
}

impl fmt::Display for InheritedFds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{},{}", self.fuse, self.slots)?;
        match self.control {
            Some(control) => write!(formatter, ",{control}"),
            None => Ok(()),
        }
    }
}

impl FromStr for InheritedFds {
    type Err = ParseInheritedFdsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseInheritedFdsError {
            text: text.to_owned(),
        };
        let mut numbers = Vec::with_capacity(3);
        for part in text.split(',').take(4) {
            let number: u16 = part.parse().map_err(|_not_a_number| refused())?;
            numbers.push(RawFd::from(number));
        }
        match numbers.as_slice() {
            [fuse, slots] => Ok(Self {
                fuse: *fuse,
                slots: *slots,
                control: None,
            }),
            [fuse, slots, control] => Ok(Self {
                fuse: *fuse,
                slots: *slots,
                control: Some(*control),
            }),
            _ => Err(refused()),
        }
    }
}

/// The text does not name inherited file descriptors.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text:?} does not name inherited file descriptors, as \"3,4\" or \"3,4,5\" would")]
pub struct ParseInheritedFdsError {
    /// The text as given.
    pub text: String,
}

/// Why a worker could not take over what its keeper holds.
#[derive(Debug, Error)]
pub enum InheritError {
    /// A number names no open file descriptor: the process was not started by a keeper.
    #[error("inherited file descriptor {number} ({role}) is not open")]
    NotOpen {
        /// The number as given.
        number: RawFd,
        /// What it should have been.
        role: &'static str,
        /// What the kernel said.
        source: Errno,
    },
    /// The slots cannot be used.
    #[error("the request slots cannot be taken over")]
    Slots(#[from] SlotTableError),
}

fn adopt(number: RawFd, role: &'static str) -> Result<OwnedFd, InheritError> {
    // JUSTIFICATION: a descriptor that was inherited is known by its number only.
    // SAFETY: borrowed for the check alone; whether it is open is what the call finds out.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|source| {
        InheritError::NotOpen {
            number,
            role,
            source,
        }
    })?;
    // JUSTIFICATION: as above.
    // SAFETY: it is open, and the keeper made it for this process alone, which takes it once.
    Ok(unsafe { OwnedFd::from_raw_fd(borrowed.as_raw_fd()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_it_was_made_of() {
        for control in [None, Some(9)] {
            let fds = InheritedFds {
                fuse: 3,
                slots: 14,
                control,
            };
            assert_eq!(fds.to_string().parse(), Ok(fds));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "3", "3,", "3,4,5,6", "-1,4", "a,b", "3,4,99999999"] {
            assert!(text.parse::<InheritedFds>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_number_that_is_not_open_is_named() {
        let error = InheritedFds {
            fuse: 65_000,
            slots: 65_001,
            control: None,
        }
        .open()
        .unwrap_err();
        assert!(
            matches!(error, InheritError::NotOpen { number: 65_000, .. }),
            "{error}"
        );
    }
}
