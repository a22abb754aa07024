//! Waiting for other processes: looking again and again, with an end.

use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything, on a busy machine with a debug build.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something, and returns it.
///
/// # Panics
///
/// After [`PATIENCE`].
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(LOOK_PAUSE);
    }
}

/// Does `step` again and again for as long as `time`.
pub(crate) fn within(time: Duration, mut step: impl FnMut()) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        step();
    }
}

/// The rhythm of whoever disturbs: not a way to wait for something.
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}
