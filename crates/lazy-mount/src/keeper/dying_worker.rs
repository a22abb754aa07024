//! Letting go of a worker that waits for itself while it dies.
//!
//! A worker may ask its own directory: when it mounts EROFS, the kernel looks the layer files up. If it is
//! killed in the moment between its thread taking that request and answering it, then the asking
//! thread waits, unkillably, for an answer that only a successor could give; and the successor is started
//! only after the worker's end. So the keeper answers it, with `EINTR`, which nobody will ever see. The
//! request stays in its slot; the successor's answer to it is refused as a second one.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::fuse_worker::send_error;
use crate::slots::SlotTable;

/// SIGKILL, signal 9, in the hexadecimal masks of /proc/PID/status. The kernel sends it to each
/// thread of a process that ends, whatever the reason was.
const SIGKILL_BIT: u64 = 1 << 8;

/// Answers the requests that threads of the dying process `pid` wait for. Returns how many there were.
pub(super) fn release(pid: u32, slots: &SlotTable, fuse: &OwnedFd) -> usize {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return 0;
    };
    if !is_dying(&status) {
        return 0;
    }
    let threads = threads_of(pid);
    slots
        .pending()
        .into_iter()
        .filter(|request| threads.contains(&request.waiting_thread))
        .filter(|request| send_error(fuse, request.unique, Errno::INTR).is_ok())
        .count()
}

/// A process whose first thread is a zombie, or was sent SIGKILL and has not taken it.
fn is_dying(status: &str) -> bool {
    status.lines().any(|line| match line.split_once(':') {
        Some(("State", state)) => state.trim_start().starts_with('Z'),
        Some(("SigPnd", mask)) => {
            u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & SIGKILL_BIT != 0)
        }
        _ => false,
    })
}

fn threads_of(pid: u32) -> Vec<u32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dying_are_taken_for_dying() {
        assert!(is_dying("Name:\tworker\nState:\tZ (zombie)\n"));
        assert!(is_dying(
            "State:\tD (disk sleep)\nSigPnd:\t0000000000000100\n"
        ));
        assert!(!is_dying(
            "State:\tS (sleeping)\nSigPnd:\t0000000000004000\nShdPnd:\t0000000000000100\n"
        ));
        assert!(!is_dying(
            &std::fs::read_to_string("/proc/self/status").unwrap()
        ));
    }
}
