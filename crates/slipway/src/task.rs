//! `slipway task`: what the converter does.

use std::{collections::BTreeMap, path::Path, time::Duration};

use api::{Task, TaskList, TaskPhase, TaskState};
use indicatif::{MultiProgress, ProgressBar};
use reqwest::Method;

use crate::{api_client::ApiClient, cli::OutputFormat, failure::Failure, progress, table, units};

/// Pause between two looks at the tasks.
const WATCH_PAUSE: Duration = Duration::from_millis(200);

/// Lists the tasks.
pub(crate) fn list(data: &Path, output: OutputFormat) -> Result<(), Failure> {
    print(&fetch(&ApiClient::find(data)?)?, output)
}

/// Shows the progress until no task waits or runs, then lists them.
pub(crate) fn watch(data: &Path, output: OutputFormat) -> Result<(), Failure> {
    let client = ApiClient::find(data)?;
    let bars = MultiProgress::new();
    let mut shown: BTreeMap<i64, ProgressBar> = BTreeMap::new();
    let tasks = loop {
        let list = fetch(&client)?;
        let is_busy = list.tasks.iter().any(is_open);
        for task in &list.tasks {
            if is_open(task) || shown.contains_key(&task.id) {
                let bar = shown
                    .entry(task.id)
                    .or_insert_with(|| bars.add(progress::bar()));
                show(bar, task);
            }
        }
        if !is_busy {
            break list;
        }
        std::thread::sleep(WATCH_PAUSE);
    };
    print(&tasks, output)
}

/// Puts a failed task back into the queue.
pub(crate) fn retry(data: &Path, task: i64, output: OutputFormat) -> Result<(), Failure> {
    let path = format!("/api/v1/tasks/{task}/retry");
    let task: Task = ApiClient::find(data)?.send(Method::POST, &path, None::<&()>)?;
    print(&TaskList { tasks: vec![task] }, output)
}

fn fetch(client: &ApiClient) -> Result<TaskList, Failure> {
    client.get("/api/v1/tasks")
}

fn is_open(task: &Task) -> bool {
    matches!(task.state, TaskState::Pending | TaskState::Running)
}

fn show(bar: &ProgressBar, task: &Task) {
    if let Some(at) = &task.progress {
        bar.set_length(at.total_bytes);
        bar.set_position(at.done_bytes);
    }
    bar.set_message(format!("{}:{} {}", task.repository, task.tag, doing(task)));
    if !is_open(task) && !bar.is_finished() {
        bar.finish();
    }
}

fn doing(task: &Task) -> &'static str {
    match (task.state, task.progress.map(|at| at.phase)) {
        (TaskState::Pending, _) => "waits",
        (TaskState::Succeeded, _) => "is accelerated",
        (TaskState::Failed, _) => "failed",
        (TaskState::Running, None | Some(TaskPhase::Resolving)) => "starts",
        (TaskState::Running, Some(TaskPhase::Converting)) => "is converted",
        (TaskState::Running, Some(TaskPhase::Storing)) => "is stored",
        (TaskState::Running, Some(TaskPhase::Publishing)) => "gets its tag",
    }
}

fn state_word(state: TaskState) -> &'static str {
    match state {
        TaskState::Pending => "PENDING",
        TaskState::Running => "RUNNING",
        TaskState::Succeeded => "SUCCEEDED",
        TaskState::Failed => "FAILED",
    }
}

fn print(list: &TaskList, output: OutputFormat) -> Result<(), Failure> {
    let header = ["TASK ", "IMAGE", "STATE", "TOOK ", "ATTEMPTS ", "DETAIL"];
    table::print(list, output, &header, |list| {
        list.tasks.iter().map(row).collect()
    })
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of one conversion")]
fn row(task: &Task) -> Vec<String> {
    let took = task.started_unix_ms.zip(task.finished_unix_ms);
    let took = took.map(|(start, end)| units::milliseconds((end - start) as f64));
    let at = task.progress.map(|at| {
        format!(
            "{} of {}",
            units::bytes(at.done_bytes),
            units::bytes(at.total_bytes)
        )
    });
    let detail = task
        .error
        .clone()
        .or(at)
        .or_else(|| task.accelerated.map(|digest| digest.to_string()));
    vec![
        task.id.to_string(),
        format!("{}:{}", task.repository, task.tag),
        state_word(task.state).to_owned(),
        took.unwrap_or_else(|| "-".to_owned()),
        task.attempts.to_string(),
        detail.unwrap_or_default(),
    ]
}
