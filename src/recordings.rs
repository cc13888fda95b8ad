//! Recordings in the control API, in the shapes of MediaMTX's `/v3/recordings`.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{delete, get};
use ingest::StreamName;
use ingest::record::{Found, Moment, Recordings, ShelfError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::status::Parts;

/// The longest page in streams.
const PAGE_ITEMS_MAX: usize = 1000;

/// A stream with its segments.
#[derive(Serialize)]
struct Recording {
    name: String,
    segments: Vec<Segment>,
}

#[derive(Serialize)]
struct Segment {
    /// When it begins, after RFC 3339.
    start: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PageOf {
    page: usize,
    items_per_page: usize,
}

impl Default for PageOf {
    fn default() -> Self {
        Self { page: 0, items_per_page: 100 }
    }
}

#[derive(Deserialize)]
struct Which {
    path: String,
    start: String,
}

/// The routes.
pub(crate) fn routes() -> Router<Parts> {
    Router::new()
        .route("/v3/recordings/list", get(list))
        .route("/v3/recordings/get/{*name}", get(one))
        .route("/v3/recordings/deletesegment", delete(remove))
}

/// `GET /v3/recordings/list?page=&itemsPerPage=`: all streams that were recorded.
async fn list(State(parts): State<Parts>, Query(page): Query<PageOf>) -> Response {
    let Some(recordings) = &parts.recordings else { return nothing() };
    let size = page.items_per_page;
    if size == 0 || size > PAGE_ITEMS_MAX {
        let text = format!("itemsPerPage: 1 to {PAGE_ITEMS_MAX} are allowed");
        return problem(StatusCode::BAD_REQUEST, &text);
    }
    let found = match recordings.all().await {
        Ok(found) => found,
        Err(error) => return broken(&error),
    };
    let streams: Vec<&[Found]> = found.chunk_by(|a, b| a.name == b.name).collect();
    let skip = page.page.saturating_mul(size);
    let items = streams.iter().skip(skip).take(size);
    let items: Vec<_> = items.map(|segments| Recording::of(segments)).collect();
    let count = streams.len();
    Json(json!({ "itemCount": count, "pageCount": count.div_ceil(size), "items": items }))
        .into_response()
}

/// `GET /v3/recordings/get/{name}`: one stream's segments.
async fn one(State(parts): State<Parts>, Path(name): Path<String>) -> Response {
    match segments(&parts, &name).await {
        Ok((_, _, found)) if found.is_empty() => nothing(),
        Ok((_, _, found)) => Json(Recording::of(&found)).into_response(),
        Err(refused) => *refused,
    }
}

/// `DELETE /v3/recordings/deletesegment?path=&start=`.
async fn remove(State(parts): State<Parts>, Query(which): Query<Which>) -> Response {
    let Some(start) = Moment::parse(&which.start) else {
        return problem(StatusCode::BAD_REQUEST, "start is not a time after RFC 3339");
    };
    let (recordings, name) = match segments(&parts, &which.path).await {
        Ok((recordings, name, _)) => (recordings, name),
        Err(refused) => return *refused,
    };
    match recordings.delete(&name, start).await {
        Ok(()) => Json(json!({ "status": "ok" })).into_response(),
        Err(ShelfError::NotFound) => nothing(),
        Err(ShelfError::Io(error)) => broken(&error),
        Err(error) => problem(StatusCode::CONFLICT, &error.to_string()),
    }
}

type Segments = (Recordings, StreamName, Vec<Found>);

async fn segments(parts: &Parts, name: &str) -> Result<Segments, Box<Response>> {
    let recordings = parts.recordings.clone().ok_or_else(|| Box::new(nothing()))?;
    let name = StreamName::parse(name)
        .map_err(|error| Box::new(problem(StatusCode::BAD_REQUEST, &error.to_string())))?;
    let found = recordings.of_stream(&name).await.map_err(|error| Box::new(broken(&error)))?;
    Ok((recordings, name, found))
}

impl Recording {
    fn of(segments: &[Found]) -> Self {
        let name = segments.first().map(|segment| segment.name.to_string()).unwrap_or_default();
        let segments = segments.iter().map(|found| Segment { start: found.start.to_string() });
        Self { name, segments: segments.collect() }
    }
}

fn nothing() -> Response {
    problem(StatusCode::NOT_FOUND, "there is no recording")
}

fn broken(error: &std::io::Error) -> Response {
    problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "status": "error", "error": text }))).into_response()
}
