//! The converter: takes durable tasks, one after the other.
//!
//! One conversion uses all cores, so there is one at a time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use catalog::{FinishTaskError, TaskRecord};
use convert::{ConvertError, ConvertOptions, convert_image};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::content::Content;
use crate::error_chain::chain_text;

mod repository_side;
mod task_progress;

use repository_side::RepositorySide;
use task_progress::TaskWatch;

/// Pause after the catalog failed, so that a broken disk does not become a busy loop.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// The conversions of a registry.
#[derive(Debug)]
pub(crate) struct Conversions {
    content: Content,
    options: ConvertOptions,
    /// Told when a task came, changed or ended by somebody else's hand.
    changed: Notify,
    running: Mutex<HashMap<i64, Arc<TaskWatch>>>,
}

impl Conversions {
    pub(crate) fn new(content: Content, work_dir: PathBuf, threads: usize) -> Self {
        let options = ConvertOptions {
            threads,
            ..ConvertOptions::in_dir(work_dir)
        };
        Self {
            content,
            options,
            changed: Notify::new(),
            running: Mutex::default(),
        }
    }

    /// Tells the converter that tags or tasks changed.
    pub(crate) fn notice_change(&self) {
        self.changed.notify_one();
    }

    /// Returns how far a task is; `None` unless it runs.
    pub(crate) fn progress(&self, id: i64) -> Option<api::TaskProgress> {
        self.running.lock().get(&id).map(|watch| watch.progress())
    }

    /// Works until `shutdown` is cancelled.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            match self.content.catalog.take_task().await {
                Ok(Some(task)) => self.run_task(&task, shutdown).await,
                Ok(None) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = shutdown.cancelled() => {}
                    }
                }
                Err(cause) => {
                    tracing::error!(error = chain_text(&cause), "no task could be taken");
                    tokio::select! {
                        () = tokio::time::sleep(RETRY_PAUSE) => {}
                        () = shutdown.cancelled() => {}
                    }
                }
            }
        }
        if let Err(cause) = self.content.catalog.release_tasks().await {
            tracing::warn!(
                error = chain_text(&cause),
                "tasks wait again only after a restart"
            );
        }
    }

    async fn run_task(&self, task: &TaskRecord, shutdown: &CancellationToken) {
        let (repository, tag) = (&task.repository, &task.tag);
        tracing::info!(task.id, %repository, %tag, image.digest = %task.source, "conversion begins");
        let watch = Arc::new(TaskWatch::default());
        self.running.lock().insert(task.id, Arc::clone(&watch));
        tokio::select! {
            result = self.convert(task, &watch) => self.settle(task, result).await,
            () = self.overtaken(task) => {
                tracing::info!(task.id, "conversion was overtaken by a later change of its tag");
            }
            () = shutdown.cancelled() => {}
        }
        self.running.lock().remove(&task.id);
    }

    async fn convert(
        &self,
        task: &TaskRecord,
        watch: &Arc<TaskWatch>,
    ) -> Result<(), ConversionError> {
        self.content.catalog.check_task(task).await?;
        if let Some(made) = self.content.catalog.converted_before(task).await? {
            return Ok(self.content.catalog.finish_task(task, &made.digest).await?);
        }
        self.convert_image(task, watch).await
    }

    /// Converts on a thread of its own: the conversion's future stays on the thread it began on.
    /// Dropping this one ends it, and the result is then lost.
    async fn convert_image(
        &self,
        task: &TaskRecord,
        watch: &Arc<TaskWatch>,
    ) -> Result<(), ConversionError> {
        let side = RepositorySide {
            content: self.content.clone(),
            task: task.clone(),
        };
        let (options, watch) = (self.options.clone(), Arc::clone(watch));
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let _stop_when_dropped = stop.drop_guard();
        let runtime = Handle::current();
        let converting = tokio::task::spawn_blocking(move || {
            let conversion = convert_image(&side, &side, &options, watch.as_ref());
            runtime.block_on(stopped.run_until_cancelled(conversion))
        });
        match converting.await {
            Ok(Some(converted)) => converted.map(drop).map_err(Into::into),
            Ok(None) => Err(ConversionError::Broken),
            Err(cause) => {
                tracing::error!(task.id, error = %cause, "the conversion broke off");
                Err(ConversionError::Broken)
            }
        }
    }

    async fn settle(&self, task: &TaskRecord, result: Result<(), ConversionError>) {
        let Err(cause) = result else {
            tracing::info!(task.id, "conversion succeeded");
            return;
        };
        let reason = chain_text(&cause);
        tracing::warn!(task.id, error = reason, "conversion failed");
        if let Err(cause) = self.content.catalog.fail_task(task, &reason).await {
            // It stays as running until the next start, which runs it again.
            tracing::error!(
                task.id,
                error = chain_text(&cause),
                "failure could not be recorded"
            );
        }
    }

    /// Returns once the task does not aim any more at what it was started for.
    async fn overtaken(&self, task: &TaskRecord) {
        loop {
            self.changed.notified().await;
            if !self.content.catalog.is_current(task).await.unwrap_or(true) {
                // The change may have brought the next task too.
                self.changed.notify_one();
                return;
            }
        }
    }
}

/// Why a task failed.
#[derive(Debug, Error)]
enum ConversionError {
    /// The image could not be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The conversion ended without a result: a fault of the program.
    #[error("the conversion broke off; the log of the registry says where")]
    Broken,
    /// The result cannot be tagged.
    #[error(transparent)]
    Finish(#[from] FinishTaskError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] catalog::CatalogError),
}
