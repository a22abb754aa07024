//! Where the time of one start went.

use std::io::Write;

use node::{
    ImageKind,
    container::Finished,
    control::{Prepared, Usage},
};
use serde::Serialize;

use crate::{cli::OutputFormat, failure::Failure, units};

/// Where the time of one start went. Times are milliseconds since the command was given.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Timeline {
    kind: ImageKind,
    road: String,
    /// Time to find the manifest.
    resolve_ms: f64,
    /// Time to fetch the index, or all layers of a plain image.
    index_ms: f64,
    /// Time to mount the image.
    mount_ms: f64,
    /// Time to make the container.
    create_ms: f64,
    /// When the first output came.
    first_output_ms: Option<f64>,
    /// When the container ended.
    exit_ms: f64,
    /// How long reads of the container waited for data, all together.
    wait_ms: f64,
    /// Reads that waited.
    waits: u64,
    /// Requests for data to the registry.
    requests: u64,
    /// Bytes fetched, index and data together.
    bytes_fetched: u64,
}

impl Timeline {
    /// Puts together what the node and the container's run say.
    pub(crate) fn new(
        image: &Prepared,
        [create_start_ms, created_ms]: [f64; 2],
        finished: &Finished,
        [before, after]: [Usage; 2],
    ) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one start")]
        let wait_ms = after.waited_micros.saturating_sub(before.waited_micros) as f64 / 1000.0;
        Self {
            kind: image.kind,
            road: image.road.clone(),
            resolve_ms: image.resolve_ms,
            index_ms: image.index_ms,
            mount_ms: image.mount_ms,
            create_ms: created_ms - create_start_ms,
            first_output_ms: finished.first_output_ms.map(|ms| created_ms + ms),
            exit_ms: created_ms + finished.exit_ms,
            wait_ms,
            waits: after.waits.saturating_sub(before.waits),
            requests: after.requests.saturating_sub(before.requests),
            bytes_fetched: image.fetched_bytes
                + after.fetched_bytes.saturating_sub(before.fetched_bytes),
        }
    }

    /// Prints it on standard error: standard output is the container's.
    ///
    /// # Errors
    ///
    /// If it cannot be written as JSON.
    pub(crate) fn print(&self, format: OutputFormat) -> Result<(), Failure> {
        let text = match format {
            OutputFormat::Json => {
                serde_json::to_string(self).map_err(|error| Failure::of(&error))? + "\n"
            }
            OutputFormat::Text => self.to_text(),
        };
        drop(std::io::stderr().write_all(text.as_bytes()));
        Ok(())
    }

    fn to_text(&self) -> String {
        let kind = match self.kind {
            ImageKind::Accelerated => "accelerated",
            ImageKind::Plain => "plain",
        };
        let steps = [
            ("resolve", Some(self.resolve_ms)),
            ("fetch index", Some(self.index_ms)),
            ("mount", Some(self.mount_ms)),
            ("create", Some(self.create_ms)),
            ("first output", self.first_output_ms),
            ("exit", Some(self.exit_ms)),
        ];
        let mut text = format!("timeline ({kind}, {})\n", self.road);
        let mut at = 0.0;
        for (index, (name, ms)) in steps.into_iter().enumerate() {
            let Some(ms) = ms else { continue };
            // The first four are lengths, one after the other; the last two are moments already.
            let start = at;
            at = if index < 4 { at + ms } else { ms };
            text.push_str(&self.line(name, start, at));
        }
        text + &format!(
            "waited for data {} in {} reads · {} requests · {} fetched\n",
            units::milliseconds(self.wait_ms),
            self.waits,
            self.requests,
            units::bytes(self.bytes_fetched),
        )
    }

    /// One step as a bar on the time axis of the whole start.
    fn line(&self, name: &str, start_ms: f64, end_ms: f64) -> String {
        const WIDTH: f64 = 40.0;
        let scale = WIDTH / self.exit_ms.max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to WIDTH columns"
        )]
        let column = |ms: f64| (ms * scale).clamp(0.0, WIDTH).round() as usize;
        let (from, to) = (column(start_ms), column(end_ms).max(column(start_ms) + 1));
        let bar = " ".repeat(from) + &"█".repeat(to - from);
        format!(
            "  {name:<13}{:>9}  {bar}\n",
            units::milliseconds(end_ms - start_ms)
        )
    }
}
