//! The threads that decompress, hash and write chunks, those that somebody waits for first.
//!
//! Bounded by the engine: a job holds a permit of its decoded length.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use image_format::ChunkDecoder;

/// Work for a decode thread. Dropping it undone must be safe.
pub(crate) trait DecodeJob: Debug + Send {
    /// Does it.
    fn run(self: Box<Self>, decoder: &mut ChunkDecoder);
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Somebody waits.
    Watched,
    /// Nobody waits yet.
    Unwatched,
}

/// The threads. Dropping it lets them finish what they do and end.
#[derive(Debug)]
pub(crate) struct DecodePool {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    jobs: Mutex<Jobs>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Jobs {
    watched: VecDeque<Box<dyn DecodeJob>>,
    unwatched: VecDeque<Box<dyn DecodeJob>>,
    is_closed: bool,
}

impl DecodePool {
    /// Starts `threads` threads, at least one.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let pool = Self {
            shared: Arc::default(),
        };
        for number in 0..threads.max(1) {
            let decoder = ChunkDecoder::new().map_err(io::Error::other)?;
            let shared = Arc::clone(&pool.shared);
            std::thread::Builder::new()
                .name(format!("decode-{number}"))
                .spawn(move || shared.work(decoder))?;
        }
        Ok(pool)
    }

    /// Queues a job. After the pool was closed it is dropped.
    pub(crate) fn push(&self, urgency: Urgency, job: Box<dyn DecodeJob>) {
        let mut jobs = self.shared.jobs.lock();
        if jobs.is_closed {
            return;
        }
        match urgency {
            Urgency::Watched => jobs.watched.push_back(job),
            Urgency::Unwatched => jobs.unwatched.push_back(job),
        }
        drop(jobs);
        self.shared.more.notify_one();
    }

    /// Drops what is queued and lets the threads end.
    pub(crate) fn close(&self) {
        let mut jobs = self.shared.jobs.lock();
        jobs.is_closed = true;
        let dropped = (
            std::mem::take(&mut jobs.watched),
            std::mem::take(&mut jobs.unwatched),
        );
        drop(jobs);
        drop(dropped);
        self.shared.more.notify_all();
    }
}

impl Drop for DecodePool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn work(&self, mut decoder: ChunkDecoder) {
        while let Some(job) = self.next() {
            job.run(&mut decoder);
        }
    }

    fn next(&self) -> Option<Box<dyn DecodeJob>> {
        let mut jobs = self.jobs.lock();
        loop {
            if jobs.is_closed {
                return None;
            }
            if let Some(job) = jobs.watched.pop_front() {
                return Some(job);
            }
            if let Some(job) = jobs.unwatched.pop_front() {
                return Some(job);
            }
            self.more.wait(&mut jobs);
        }
    }
}
