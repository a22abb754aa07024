//! One chunk on its way, and those who wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use image_format::VerifiedChunk;

use crate::source::SourceError;

/// How a flight ended.
#[derive(Debug, Clone)]
pub(crate) enum Landing {
    /// The chunk is in the cache.
    OnDisk,
    /// The cache did not take it; here it is.
    InMemory(VerifiedChunk),
    /// Nobody waited when it failed. Who came at the last moment asks again.
    Abandoned,
    /// The source sent other bytes twice.
    Mismatch,
    /// The source will not send it.
    Refused(Arc<SourceError>),
    /// The engine stops.
    Stopped,
}

/// A chunk on its way.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    landing: Mutex<Option<Landing>>,
    landed: Condvar,
    landed_async: Notify,
    watchers: AtomicUsize,
    last_error: Mutex<Option<Arc<SourceError>>>,
}

impl Flight {
    /// Ends the flight and wakes everybody. Only the first landing counts.
    pub(crate) fn land(&self, landing: Landing) {
        self.landing.lock().get_or_insert(landing);
        self.landed.notify_all();
        self.landed_async.notify_waiters();
    }

    /// Whether somebody waits for it.
    pub(crate) fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Acquire) > 0
    }

    /// Notes what went wrong, for readers whose deadline passes.
    pub(crate) fn note_error(&self, error: &Arc<SourceError>) {
        *self.last_error.lock() = Some(Arc::clone(error));
    }
}

/// A reader's wait for a flight. Dropping it ends the wait, not the flight.
#[derive(Debug)]
pub(crate) struct Watch {
    flight: Arc<Flight>,
}

impl Watch {
    /// Begins to wait. Called under the layer's lock, where flights are given up too.
    pub(crate) fn new(flight: &Arc<Flight>) -> Self {
        flight.watchers.fetch_add(1, Ordering::AcqRel);
        Self {
            flight: Arc::clone(flight),
        }
    }

    /// Blocks until the flight ends; `None` at the deadline.
    pub(crate) fn wait(&self, deadline: Instant) -> Option<Landing> {
        let mut landing = self.flight.landing.lock();
        while landing.is_none() {
            if self
                .flight
                .landed
                .wait_until(&mut landing, deadline)
                .timed_out()
            {
                break;
            }
        }
        landing.clone()
    }

    /// Waits until the flight ends; `None` at the deadline. May be dropped half-way.
    pub(crate) async fn wait_async(&self, deadline: Instant) -> Option<Landing> {
        let landed = async {
            loop {
                // Made before the look, so that a landing in between is not slept through.
                let woken = self.flight.landed_async.notified();
                let landing = self.flight.landing.lock().clone();
                match landing {
                    Some(landing) => return landing,
                    None => woken.await,
                }
            }
        };
        tokio::time::timeout_at(deadline.into(), landed).await.ok()
    }

    /// What went wrong so far.
    pub(crate) fn last_error(&self) -> Option<Arc<SourceError>> {
        self.flight.last_error.lock().clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.flight.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}
