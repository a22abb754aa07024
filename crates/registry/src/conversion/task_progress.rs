//! How far a running task is.

use std::sync::atomic::{AtomicU64, Ordering};

use api::{TaskPhase, TaskProgress};
use convert::{Phase, Progress};
use parking_lot::Mutex;

/// Watches one conversion. The numbers are for people: they may be read in any order.
#[derive(Debug)]
pub(super) struct TaskWatch {
    phase: Mutex<TaskPhase>,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl TaskWatch {
    pub(super) fn progress(&self) -> TaskProgress {
        TaskProgress {
            phase: *self.phase.lock(),
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Default for TaskWatch {
    fn default() -> Self {
        Self {
            phase: Mutex::new(TaskPhase::Resolving),
            done_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
        }
    }
}

impl Progress for TaskWatch {
    fn phase(&self, phase: Phase) {
        *self.phase.lock() = match phase {
            Phase::Resolve => TaskPhase::Resolving,
            Phase::Layers { total_bytes, .. } => {
                self.total_bytes.store(total_bytes, Ordering::Relaxed);
                TaskPhase::Converting
            }
            Phase::Store { .. } => TaskPhase::Storing,
            Phase::Publish => TaskPhase::Publishing,
        };
    }

    fn layer_started(&self, _index: usize, _count: usize, _total_bytes: u64) {}

    fn layer_bytes(&self, _index: usize, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn layer_finished(&self, _index: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_layers_are_added_up() {
        let watch = TaskWatch::default();
        watch.phase(Phase::Layers {
            count: 2,
            total_bytes: 30,
        });
        watch.layer_bytes(0, 10);
        watch.layer_bytes(1, 5);
        let (phase, done_bytes, total_bytes) = (TaskPhase::Converting, 15, 30);
        assert_eq!(
            watch.progress(),
            TaskProgress {
                phase,
                done_bytes,
                total_bytes
            }
        );
    }
}
