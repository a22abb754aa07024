//! The management API. Its types are in the `api` crate.

use std::error::Error;
use std::sync::Arc;

use api::{
    AcceleratedImage, ExistingTags, Failure, FailureDetail, Freshness, Image, ImageKind, ImageList,
    ImageQuery, Repository, RepositoryList, ServerStatus, SetAcceleration, Task, TaskList,
    TaskQuery, TaskState,
};
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, Path, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use catalog::{
    AccelerationChange, CatalogError, ImageRecord, Page, RepositoryRecord, RetryTaskError,
    TaskFilter, TaskRecord,
};
use oci::RepositoryName;

use crate::error_chain::{chain_text, is_storage_full};
use crate::registry::Parts;

/// Most repositories in one answer.
const REPOSITORIES_MAX: u32 = 50_000;

/// Tasks in one answer, if the request does not say.
const TASKS_DEFAULT: u32 = 100;

/// Most tasks in one answer.
const TASKS_MAX: u32 = 10_000;

pub(super) fn router(parts: Arc<Parts>) -> Router {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/repositories", get(repositories))
        .route("/api/v1/repositories/{*path}", any(repository))
        .route("/api/v1/images", get(images))
        .route("/api/v1/tasks", get(tasks))
        .route("/api/v1/tasks/{id}", get(task))
        .route("/api/v1/tasks/{id}/retry", post(retry))
        .with_state(parts)
}

type Answer<T> = Result<Json<T>, ApiError>;

async fn status(State(parts): State<Arc<Parts>>) -> Answer<ServerStatus> {
    let counts = parts.content.catalog.task_counts().await?;
    Ok(Json(ServerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tasks_pending: counts.pending,
        tasks_running: counts.running,
    }))
}

async fn repositories(State(parts): State<Arc<Parts>>) -> Answer<RepositoryList> {
    let page = Page {
        after: None,
        limit: REPOSITORIES_MAX,
    };
    let found = parts.content.catalog.repositories(page).await?;
    Ok(Json(RepositoryList {
        repositories: found.into_iter().map(repository_of).collect(),
    }))
}

/// Repository names have slashes, so the rest of the path is taken apart here.
async fn repository(
    State(parts): State<Arc<Parts>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answer<Repository> {
    let Path(path) = path?;
    match (path.strip_suffix("/acceleration"), request.method()) {
        (Some(name), &Method::PUT) => {
            let name = parse_name(name)?;
            let Json(wanted) = Json::from_request(request, &()).await?;
            set_acceleration(&parts, &name, wanted).await?;
            show_repository(&parts, &name).await
        }
        (None, &Method::GET) => show_repository(&parts, &parse_name(&path)?).await,
        (_, method) => {
            let message = format!("{method} cannot be used on {path:?}");
            Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message))
        }
    }
}

async fn show_repository(parts: &Parts, name: &RepositoryName) -> Answer<Repository> {
    let found = parts.content.catalog.repository(name).await?;
    let absent = || {
        ApiError::new(
            StatusCode::NOT_FOUND,
            format!("repository {name} does not exist"),
        )
        .with_hint("it comes to be with the first push, or when acceleration is turned on")
    };
    Ok(Json(repository_of(found.ok_or_else(absent)?)))
}

async fn set_acceleration(
    parts: &Parts,
    name: &RepositoryName,
    wanted: SetAcceleration,
) -> Result<(), ApiError> {
    let change = match (wanted.enabled, wanted.existing_tags) {
        (true, ExistingTags::Convert) => AccelerationChange::OnForAll,
        (true, ExistingTags::Leave) => AccelerationChange::OnForNew,
        (false, _) => AccelerationChange::Off,
    };
    parts.content.catalog.set_acceleration(name, change).await?;
    parts.conversions.notice_change();
    Ok(())
}

async fn images(
    State(parts): State<Arc<Parts>>,
    query: Result<Query<ImageQuery>, QueryRejection>,
) -> Answer<ImageList> {
    let Query(query) = query?;
    let found = parts
        .content
        .catalog
        .images(query.repository.as_ref())
        .await?;
    Ok(Json(ImageList {
        images: found.into_iter().map(image_of).collect(),
    }))
}

async fn tasks(
    State(parts): State<Arc<Parts>>,
    query: Result<Query<TaskQuery>, QueryRejection>,
) -> Answer<TaskList> {
    let Query(query) = query?;
    let filter = TaskFilter {
        repository: query.repository,
        state: query.state.map(state_for),
        limit: query.limit.unwrap_or(TASKS_DEFAULT).min(TASKS_MAX),
    };
    let found = parts.content.catalog.tasks(&filter).await?;
    Ok(Json(TaskList {
        tasks: found
            .into_iter()
            .map(|task| task_of(&parts, task))
            .collect(),
    }))
}

async fn task(
    State(parts): State<Arc<Parts>>,
    id: Result<Path<i64>, PathRejection>,
) -> Answer<Task> {
    let Path(id) = id?;
    show_task(&parts, id).await
}

async fn retry(
    State(parts): State<Arc<Parts>>,
    id: Result<Path<i64>, PathRejection>,
) -> Answer<Task> {
    let Path(id) = id?;
    parts.content.catalog.retry_task(id).await?;
    parts.conversions.notice_change();
    show_task(&parts, id).await
}

async fn show_task(parts: &Parts, id: i64) -> Answer<Task> {
    let found = parts.content.catalog.task(id).await?;
    let found = found.ok_or(RetryTaskError::Absent { id })?;
    Ok(Json(task_of(parts, found)))
}

fn parse_name(text: &str) -> Result<RepositoryName, ApiError> {
    text.parse().map_err(|reason| {
        let message = format!("repository name {text:?} is not valid: {reason}");
        ApiError::new(StatusCode::BAD_REQUEST, message)
    })
}

fn repository_of(record: RepositoryRecord) -> Repository {
    Repository {
        name: record.name,
        acceleration_enabled: record.is_accelerated,
        tag_count: record.tag_count,
        created_unix_ms: record.created.0,
    }
}

fn image_of(record: ImageRecord) -> Image {
    let digest = record.digest;
    let accelerated = record.accelerated.map(|made| AcceleratedImage {
        tag: made.tag,
        digest: made.digest,
        freshness: if made.source == digest {
            Freshness::Fresh
        } else {
            Freshness::Stale
        },
    });
    Image {
        repository: record.repository,
        tag: record.tag,
        digest,
        media_type: record.media_type,
        content_bytes: record.content_size,
        pushed_unix_ms: record.updated.0,
        kind: if record.source.is_some() {
            ImageKind::Accelerated
        } else {
            ImageKind::Pushed
        },
        accelerated,
    }
}

fn task_of(parts: &Parts, record: TaskRecord) -> Task {
    let progress = match record.state {
        catalog::TaskState::Running => parts.conversions.progress(record.id),
        catalog::TaskState::Pending
        | catalog::TaskState::Succeeded
        | catalog::TaskState::Failed => None,
    };
    Task {
        id: record.id,
        repository: record.repository,
        tag: record.tag,
        source: record.source,
        state: state_of(record.state),
        attempts: record.attempts,
        created_unix_ms: record.created.0,
        started_unix_ms: record.started.map(|time| time.0),
        finished_unix_ms: record.finished.map(|time| time.0),
        progress,
        accelerated: record.accelerated,
        error: record.error,
    }
}

fn state_of(state: catalog::TaskState) -> TaskState {
    match state {
        catalog::TaskState::Pending => TaskState::Pending,
        catalog::TaskState::Running => TaskState::Running,
        catalog::TaskState::Succeeded => TaskState::Succeeded,
        catalog::TaskState::Failed => TaskState::Failed,
    }
}

fn state_for(state: TaskState) -> catalog::TaskState {
    match state {
        TaskState::Pending => catalog::TaskState::Pending,
        TaskState::Running => catalog::TaskState::Running,
        TaskState::Succeeded => catalog::TaskState::Succeeded,
        TaskState::Failed => catalog::TaskState::Failed,
    }
}

/// A request that could not be answered.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    detail: FailureDetail,
}

impl ApiError {
    fn new(status: StatusCode, message: String) -> Self {
        Self {
            status,
            detail: FailureDetail {
                message,
                hint: None,
            },
        }
    }

    fn with_hint(mut self, hint: &str) -> Self {
        self.detail.hint = Some(hint.to_owned());
        self
    }

    fn internal(cause: &(dyn Error + 'static)) -> Self {
        let message = chain_text(cause);
        tracing::error!(error = message, "request failed");
        if is_storage_full(cause) {
            return Self::new(StatusCode::INSUFFICIENT_STORAGE, message)
                .with_hint("free some room on the registry's disk");
        }
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(Failure { error: self.detail })).into_response()
    }
}

impl From<CatalogError> for ApiError {
    fn from(cause: CatalogError) -> Self {
        Self::internal(&cause)
    }
}

impl From<RetryTaskError> for ApiError {
    fn from(cause: RetryTaskError) -> Self {
        let status = match &cause {
            RetryTaskError::Absent { .. } => StatusCode::NOT_FOUND,
            RetryTaskError::NotFailed { .. }
            | RetryTaskError::TagGone { .. }
            | RetryTaskError::Overtaken { .. } => StatusCode::CONFLICT,
            RetryTaskError::Catalog(_) => return Self::internal(&cause),
        };
        Self::new(status, chain_text(&cause))
    }
}

macro_rules! from_rejection {
    ($($rejection:ident),+) => {
        $(impl From<$rejection> for ApiError {
            fn from(cause: $rejection) -> Self {
                Self::new(cause.status(), cause.body_text())
            }
        })+
    };
}

from_rejection!(JsonRejection, PathRejection, QueryRejection);
