//! The layers of an image while it is converted: each distinct one once, whoever uses it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use futures::{StreamExt, stream};
use image_format::tar::LayerScan;
use oci::Digest;
use tokio_util::sync::CancellationToken;

use crate::error::ConvertError;
use crate::layer::{
    FinishedLayer, LayerError, LayerJob, LayerSettings, StoredLayer, convert_layer,
};
use crate::plan::ImagePlan;
use crate::ports::ImageSource;
use crate::progress::Progress;

/// What makes two layers the same one: blob digest and diff ID.
type LayerKey = (Digest, Digest);

/// Converts layers, and keeps them until the image is put.
pub(crate) struct LayerStock<'a> {
    source: &'a dyn ImageSource,
    settings: LayerSettings,
    progress: &'a dyn Progress,
    stop: CancellationToken,
    shelves: HashMap<LayerKey, Shelf>,
    total_bytes: u64,
}

/// The place of one distinct layer.
#[derive(Debug)]
struct Shelf {
    /// Its number in [`Progress`].
    number: usize,
    /// How often its scan will still be taken. Scans are what grows with an image's files.
    uses_left: usize,
    stored: Option<Arc<StoredLayer>>,
    scan: Option<LayerScan>,
}

impl Shelf {
    fn take_scan(&mut self) -> Option<LayerScan> {
        self.uses_left = self.uses_left.saturating_sub(1);
        if self.uses_left == 0 {
            return self.scan.take();
        }
        self.scan.clone()
    }
}

impl<'a> LayerStock<'a> {
    /// Makes the empty stock for `plan`. Cancelling `stop` ends what runs.
    pub(crate) fn new(
        source: &'a dyn ImageSource,
        settings: LayerSettings,
        plan: &ImagePlan,
        progress: &'a dyn Progress,
        stop: CancellationToken,
    ) -> Self {
        let mut shelves = HashMap::new();
        let mut total_bytes = 0;
        for job in plan.platforms.iter().flat_map(|platform| &platform.layers) {
            let number = shelves.len();
            let shelf = shelves.entry(key(job)).or_insert_with(|| {
                total_bytes += job.blob.size;
                Shelf {
                    number,
                    uses_left: 0,
                    stored: None,
                    scan: None,
                }
            });
            shelf.uses_left += 1;
        }
        Self {
            source,
            settings,
            progress,
            stop,
            shelves,
            total_bytes,
        }
    }

    /// How many distinct layers the image has.
    pub(crate) fn count(&self) -> usize {
        self.shelves.len()
    }

    /// The length of their blobs together.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Converts those of `jobs` that are not in stock, some at once, and returns what is stored of each.
    ///
    /// # Errors
    ///
    /// [`ConvertError::Layer`] for the lowest layer that failed by itself. The first failure stops the
    /// others, and they are waited for: no thread of theirs is left.
    pub(crate) async fn convert(
        &mut self,
        jobs: &[LayerJob],
    ) -> Result<Vec<Arc<StoredLayer>>, ConvertError> {
        let this = &*self;
        let converted: Vec<_> = stream::iter(this.missing(jobs))
            .map(|(index, job)| async move { (index, job, this.convert_one(job).await) })
            .buffered(this.settings.layers_at_once)
            .collect()
            .await;
        let mut failures = Vec::new();
        for (index, job, result) in converted {
            match result {
                Ok(finished) => self.put_up(job, finished),
                Err(error) => failures.push((index, job, error)),
            }
        }
        // Layers that were stopped because of another one explain nothing.
        failures.sort_by_key(|(_, _, error)| matches!(error, LayerError::Stopped));
        if let Some((index, job, error)) = failures.into_iter().next() {
            return Err(ConvertError::Layer {
                index,
                diff_id: job.diff_id,
                source: Box::new(error),
            });
        }
        Ok(jobs
            .iter()
            .filter_map(|job| self.shelf(job)?.stored.clone())
            .collect())
    }

    /// Those of `jobs` that are not in stock, each distinct one once, with their places.
    fn missing<'j>(&self, jobs: &'j [LayerJob]) -> Vec<(usize, &'j LayerJob)> {
        let mut seen = HashSet::new();
        let is_missing = |job: &LayerJob| self.shelf(job).is_some_and(|it| it.stored.is_none());
        let jobs = jobs.iter().enumerate();
        jobs.filter(|(_, job)| is_missing(job) && seen.insert(key(job)))
            .collect()
    }

    async fn convert_one(&self, job: &LayerJob) -> Result<FinishedLayer, LayerError> {
        let number = self.shelf(job).map_or(0, |shelf| shelf.number);
        let progress = self.progress;
        progress.layer_started(number, self.count(), job.blob.size);
        let stop = self.stop.child_token();
        let watch = |bytes| progress.layer_bytes(number, bytes);
        let result = convert_layer(self.source, job, &self.settings, stop, watch).await;
        match &result {
            Ok(_) => progress.layer_finished(number),
            Err(_) => self.stop.cancel(),
        }
        result
    }

    fn put_up(&mut self, job: &LayerJob, finished: FinishedLayer) {
        if let Some(shelf) = self.shelves.get_mut(&key(job)) {
            shelf.stored = Some(Arc::new(finished.stored));
            shelf.scan = Some(finished.scan);
        }
    }

    /// The entries of layers that are in stock. Each use of a layer in the image takes them once.
    pub(crate) fn take_scans(&mut self, jobs: &[LayerJob]) -> Vec<LayerScan> {
        jobs.iter()
            .filter_map(|job| self.shelves.get_mut(&key(job))?.take_scan())
            .collect()
    }

    fn shelf(&self, job: &LayerJob) -> Option<&Shelf> {
        self.shelves.get(&key(job))
    }
}

impl fmt::Debug for LayerStock<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LayerStock")
            .field("shelves", &self.shelves)
            .finish_non_exhaustive()
    }
}

fn key(job: &LayerJob) -> LayerKey {
    (job.blob.digest, job.diff_id)
}
