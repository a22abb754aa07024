//! How long something took.

use std::time::Instant;

/// Measures from its making.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Milliseconds since the start, with three decimals.
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of a start are far below 2^52"
    )]
    pub fn elapsed_ms(&self) -> f64 {
        self.started.elapsed().as_micros() as f64 / 1000.0
    }
}
