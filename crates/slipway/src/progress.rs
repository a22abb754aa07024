//! Progress bars on a terminal; nothing where there is none.

use std::{collections::HashMap, sync::Arc};

use convert::{Phase, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;

/// A bar that counts bytes. It draws on standard error, and only on a terminal.
pub(crate) fn bar() -> ProgressBar {
    let template = "{msg:48!} {bar:24} {decimal_bytes:>10} of {decimal_total_bytes:>10} {decimal_bytes_per_sec:>12} {eta:>4}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style)
}

/// One bar for each layer that is being converted.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConversionBars {
    bars: MultiProgress,
    layers: Arc<Mutex<HashMap<usize, ProgressBar>>>,
}

impl Progress for ConversionBars {
    fn phase(&self, phase: Phase) {
        let text = match phase {
            Phase::Resolve => "reading manifests".to_owned(),
            Phase::Layers { count, .. } => format!("converting {count} layers"),
            Phase::Store { blob_count } => format!("storing {blob_count} blobs"),
            Phase::Publish => "writing the manifest".to_owned(),
        };
        // A terminal that has gone is no reason to stop converting.
        drop(self.bars.println(text));
    }

    fn layer_started(&self, index: usize, count: usize, total_bytes: u64) {
        let bar = self.bars.add(bar());
        bar.set_length(total_bytes);
        bar.set_message(format!("layer {} of {count}", index + 1));
        self.layers.lock().insert(index, bar);
    }

    fn layer_bytes(&self, index: usize, bytes: u64) {
        if let Some(bar) = self.layers.lock().get(&index) {
            bar.inc(bytes);
        }
    }

    fn layer_finished(&self, index: usize) {
        if let Some(bar) = self.layers.lock().remove(&index) {
            bar.finish();
        }
    }
}
