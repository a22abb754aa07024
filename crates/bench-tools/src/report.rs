//! What a bench found: every figure as JSON, the medians as a Markdown table.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::machine::Machine;

/// The way that the others are compared with.
pub const RIVAL: &str = "containerd, overlayfs";

/// Everything that one bench found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// The measured ways to start an image.
    pub rows: Vec<Row>,
    /// The conversions.
    pub conversions: Vec<ConversionRow>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// One way to start one image at one rate.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Name of the image.
    pub image: String,
    /// Rate of the line, as `tc` writes it.
    pub rate: String,
    /// What started it.
    pub way: String,
    /// Milliseconds that were added to each round trip.
    pub delay_ms: u64,
    /// Starts with nothing cached.
    pub cold: Vec<Start>,
    /// Starts after them, with everything cached that was used.
    pub warm: Vec<Start>,
}

/// One start of a container, to its end.
#[derive(Debug, Clone, Serialize)]
pub struct Start {
    /// Until the root filesystem was there.
    pub pull_ms: f64,
    /// From then to the end of the container.
    pub run_ms: f64,
    /// Both.
    pub total_ms: f64,
    /// Bytes that crossed the loopback.
    pub bytes: u64,
    /// Most memory of one of the node's processes.
    pub memory_bytes: Option<u64>,
    /// What `slipway run --timeline=json` said.
    pub timeline: Option<Value>,
}

/// The conversion of one image.
#[derive(Debug, Serialize)]
pub struct ConversionRow {
    /// Name of the image.
    pub image: String,
    /// One for each run.
    pub runs: Vec<Conversion>,
}

/// One conversion.
#[derive(Debug, Serialize)]
pub struct Conversion {
    /// How long it took.
    pub seconds: f64,
    /// Stored size of the source's layers.
    pub source_bytes: u64,
    /// Stored size of the accelerated layers.
    pub stored_bytes: u64,
    /// Most memory of the process.
    pub memory_bytes: u64,
}

impl Report {
    /// Writes the medians as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        self.write_machine(&mut text);
        if !self.rows.is_empty() {
            write_rows(&mut text, &self.rows);
        }
        if !self.conversions.is_empty() {
            write_conversions(&mut text, &self.conversions);
        }
        for failure in &self.failures {
            append(&mut text, format_args!("\nnot measured: {failure}\n"));
        }
        text
    }

    fn write_machine(&self, text: &mut String) {
        let machine = &self.machine;
        let read_ahead = machine
            .read_ahead_kib
            .map_or("unknown".into(), |kib| format!("{kib} KiB"));
        append(
            text,
            format_args!(
                "Linux {}, {} cores, {} MiB, read-ahead of the disk {read_ahead}, commit {}; {}.\n",
                machine.kernel,
                machine.cores,
                machine.memory_mib,
                machine.commit,
                machine.programs.join(", "),
            ),
        );
        append(
            text,
            format_args!(
                "Seconds, medians; in brackets least and most of the cold totals. Cold: no layer \
                 and no snapshot cached, page cache dropped; programs and the registry's blobs are \
                 in the page cache. MB are what crossed the shaped loopback.\n",
            ),
        );
    }
}

fn write_rows(text: &mut String, rows: &[Row]) {
    append(
        text,
        format_args!(
            "\n| image | rate | round trip | way | pull | run | **total** | n | to containerd | MB \
             | second run | to containerd | memory, MB |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        ),
    );
    for row in rows {
        let rival = rows.iter().find(|rival| rival.is_rival_of(row));
        append(
            text,
            format_args!(
                "| {} | {} | +{} ms | {} | {} | {} | **{}** ({}–{}) | {} | {} | {:.1} | {} | {} | {} |\n",
                row.image,
                row.rate,
                row.delay_ms,
                row.way,
                seconds(row.cold_median(|start| start.pull_ms)),
                seconds(row.cold_median(|start| start.run_ms)),
                seconds(row.cold_total_ms()),
                seconds(
                    row.cold
                        .iter()
                        .map(|start| start.total_ms)
                        .fold(f64::INFINITY, f64::min)
                ),
                seconds(
                    row.cold
                        .iter()
                        .map(|start| start.total_ms)
                        .fold(0.0, f64::max)
                ),
                row.cold.len(),
                ratio(row.cold_total_ms(), rival.map(Row::cold_total_ms)),
                row.cold_median(|start| megabytes(start.bytes)),
                seconds(row.warm_total_ms()),
                ratio(row.warm_total_ms(), rival.map(Row::warm_total_ms)),
                row.memory_bytes()
                    .map_or(String::new(), |bytes| format!("{:.0}", megabytes(bytes))),
            ),
        );
    }
}

impl Row {
    /// Returns whether `self` is what `other` is compared with: containerd on the same line.
    fn is_rival_of(&self, other: &Self) -> bool {
        let is_same = self.image == other.image && self.rate == other.rate;
        is_same && self.delay_ms == other.delay_ms && self.way == RIVAL && other.way != RIVAL
    }

    fn cold_median(&self, field: impl Fn(&Start) -> f64) -> f64 {
        median(self.cold.iter().map(field))
    }

    fn cold_total_ms(&self) -> f64 {
        self.cold_median(|start| start.total_ms)
    }

    fn warm_total_ms(&self) -> f64 {
        median(self.warm.iter().map(|start| start.total_ms))
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.cold
            .iter()
            .filter_map(|start| start.memory_bytes)
            .max()
    }
}

fn write_conversions(text: &mut String, rows: &[ConversionRow]) {
    append(
        text,
        format_args!(
            "\n| conversion | gzip, MB | seconds | **seconds per GB** | stored / gzip | memory, MB \
             |\n| --- | --- | --- | --- | --- | --- |\n"
        ),
    );
    for row in rows {
        let of = |field: fn(&Conversion) -> f64| median(row.runs.iter().map(field));
        append(
            text,
            format_args!(
                "| {} | {:.1} | {:.2} | **{:.2}** | {:.3} | {:.0} |\n",
                row.image,
                of(|run| megabytes(run.source_bytes)),
                of(|run| run.seconds),
                of(|run| run.seconds * 1000.0 / megabytes(run.source_bytes)),
                of(|run| megabytes(run.stored_bytes) / megabytes(run.source_bytes)),
                of(|run| megabytes(run.memory_bytes)),
            ),
        );
    }
}

fn append(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _written = text.write_fmt(arguments);
}

fn ratio(value: f64, rival: Option<f64>) -> String {
    rival.map_or(String::new(), |rival| format!("{:.2}×", value / rival))
}

fn seconds(milliseconds: f64) -> String {
    format!("{:.2}", milliseconds / 1000.0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown with one digit after the point"
)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Returns the middle value, the mean of the two middle ones, or NaN for none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(lower), Some(upper)) if values.len().is_multiple_of(2) => {
            f64::midpoint(*lower, *upper)
        }
        (_, Some(value)) => *value,
        (_, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median([3.0, 1.0, 2.0].into_iter()) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < 1e-9);
        assert!((median([7.0].into_iter()) - 7.0).abs() < 1e-9);
        assert!(median(std::iter::empty()).is_nan());
    }

    fn row(way: &str, totals: &[f64], warm: f64) -> Row {
        let start = |total_ms: f64| Start {
            pull_ms: 100.0,
            run_ms: total_ms - 100.0,
            total_ms,
            bytes: 2_500_000,
            memory_bytes: Some(40_000_000),
            timeline: None,
        };
        Row {
            image: "mid".into(),
            rate: "1gbit".into(),
            way: way.into(),
            delay_ms: 0,
            cold: totals.iter().copied().map(start).collect(),
            warm: vec![start(warm)],
        }
    }

    #[test]
    fn a_row_shows_medians_and_spread_beside_containerd() {
        let rows = [
            row(RIVAL, &[4800.0], 400.0),
            row("ours", &[1300.0, 1100.0, 1200.0], 500.0),
        ];
        let mut text = String::new();
        write_rows(&mut text, &rows);
        assert_eq!(
            text.lines().last().unwrap(),
            "| mid | 1gbit | +0 ms | ours | 0.10 | 1.10 | **1.20** (1.10–1.30) | 3 | 0.25× | 2.5 \
             | 0.50 | 1.25× | 40 |"
        );
        assert!(
            text.lines()
                .nth(3)
                .unwrap()
                .contains("| 1 |  | 2.5 | 0.40 |  | 40 |"),
            "{text}"
        );
    }
}
