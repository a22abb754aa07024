//! How long a round trip takes and how much the line carries, from what requests see anyway.
//!
//! Pure: whoever calls brings the time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Round trips remembered; the shortest of them counts, since queues only lengthen one.
const ROUND_TRIPS_KEPT: usize = 16;

/// A sample of the bandwidth covers at least this much time with a body on the line.
const SAMPLE_TIME_MIN: Duration = Duration::from_millis(10);

/// A sample covers at least this many bytes: less is mostly what lay in buffers.
const SAMPLE_BYTES_MIN: u64 = 128 << 10;

/// Weight of the newest sample.
const SAMPLE_WEIGHT: f64 = 0.3;

/// Taken for the bandwidth until something was measured: a fast office line.
const BYTES_PER_SECOND_AT_FIRST: f64 = 50e6;

/// Taken for the round trip until something was measured: the next room.
const ROUND_TRIP_AT_FIRST: Duration = Duration::from_millis(1);

/// The measurements of one engine.
#[derive(Debug)]
pub(crate) struct LineMeter {
    round_trips: VecDeque<Duration>,
    bytes_per_second: Option<f64>,
    bodies: usize,
    /// When the current stretch with at least one body began or was last counted.
    counted_until: Option<Instant>,
    sample_time: Duration,
    sample_bytes: u64,
}

impl LineMeter {
    /// Starts without any measurement.
    pub(crate) fn new() -> Self {
        Self {
            round_trips: VecDeque::with_capacity(ROUND_TRIPS_KEPT),
            bytes_per_second: None,
            bodies: 0,
            counted_until: None,
            sample_time: Duration::ZERO,
            sample_bytes: 0,
        }
    }

    /// A request that was sent `waited` ago got its first bytes.
    pub(crate) fn body_begins(&mut self, now: Instant, waited: Duration) {
        if self.round_trips.len() == ROUND_TRIPS_KEPT {
            self.round_trips.pop_front();
        }
        self.round_trips.push_back(waited);
        self.bodies += 1;
        if self.bodies == 1 {
            self.counted_until = Some(now);
        }
    }

    /// More bytes of some body came.
    pub(crate) fn received(&mut self, now: Instant, len: u64) {
        self.count_time(now);
        self.sample_bytes += len;
        if self.sample_time < SAMPLE_TIME_MIN || self.sample_bytes < SAMPLE_BYTES_MIN {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let sample = self.sample_bytes as f64 / self.sample_time.as_secs_f64();
        let before = self.bytes_per_second.unwrap_or(sample);
        self.bytes_per_second = Some(before + SAMPLE_WEIGHT * (sample - before));
        self.sample_time = Duration::ZERO;
        self.sample_bytes = 0;
    }

    /// A body that had begun is over, whole or not.
    pub(crate) fn body_ends(&mut self, now: Instant) {
        self.count_time(now);
        self.bodies = self.bodies.saturating_sub(1);
        if self.bodies == 0 {
            self.counted_until = None;
        }
    }

    /// The shortest of the latest round trips.
    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trips
            .iter()
            .min()
            .copied()
            .unwrap_or(ROUND_TRIP_AT_FIRST)
    }

    /// Stored bytes in a second while something is on the line.
    pub(crate) fn bytes_per_second(&self) -> f64 {
        self.bytes_per_second.unwrap_or(BYTES_PER_SECOND_AT_FIRST)
    }

    fn count_time(&mut self, now: Instant) {
        if let Some(until) = self.counted_until.replace(now) {
            self.sample_time += now.saturating_duration_since(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_between_bodies_is_not_counted_as_slowness() {
        let mut meter = LineMeter::new();
        let mut now = Instant::now();
        for _ in 0..40 {
            meter.body_begins(now, Duration::from_millis(7));
            for _ in 0..10 {
                now += Duration::from_millis(1);
                meter.received(now, 100_000);
            }
            meter.body_ends(now);
            now += Duration::from_secs(3);
        }
        let measured = meter.bytes_per_second();
        assert!((90e6..110e6).contains(&measured), "{measured}");
        assert_eq!(meter.round_trip(), Duration::from_millis(7));
    }

    #[test]
    fn two_bodies_at_once_share_the_time() {
        let mut meter = LineMeter::new();
        let mut now = Instant::now();
        meter.body_begins(now, Duration::from_millis(1));
        meter.body_begins(now, Duration::from_millis(1));
        for _ in 0..100 {
            now += Duration::from_millis(1);
            meter.received(now, 50_000);
            meter.received(now, 50_000);
        }
        let measured = meter.bytes_per_second();
        assert!((90e6..110e6).contains(&measured), "{measured}");
    }
}
