//! `/v3/recordings`: what was recorded, in MediaMTX's shapes.

use axum::extract::{Path as Named, Query, State};
use axum::response::Json;
use ingest::StreamName;
use ingest::record::{Found, Moment, Recordings, ShelfError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Done, List, PageOf, Problem, done};
use crate::status::Parts;

/// A stream with its segments.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recording {
    /// The stream.
    name: String,
    /// By their beginning.
    segments: Vec<Segment>,
}

/// One file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecordingSegment)]
pub(super) struct Segment {
    /// When it begins, after RFC 3339.
    start: String,
}

/// A segment.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The stream.
    path: String,
    /// When the segment begins, after RFC 3339.
    start: String,
}

/// All streams that were recorded.
#[utoipa::path(
    get,
    path = "/v3/recordings/list",
    tag = "recordings",
    params(PageOf),
    responses((status = 200, body = List<Recording>), (status = 400, body = Problem))
)]
pub(super) async fn list(
    State(parts): State<Parts>,
    page: PageOf,
) -> Result<Json<List<Recording>>, Problem> {
    let Some(recordings) = &parts.recordings else { return Err(nothing()) };
    let found = recordings.all().await.map_err(|error| broken(&error))?;
    let streams = found.chunk_by(|a, b| a.name == b.name);
    page.of(streams.map(Recording::of).collect())
}

/// One stream's segments.
#[utoipa::path(
    get,
    path = "/v3/recordings/get/{*name}",
    tag = "recordings",
    params(("name" = String, Path, description = "The stream; may hold slashes")),
    responses(
        (status = 200, body = Recording),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
    )
)]
pub(super) async fn get(
    State(parts): State<Parts>,
    Named(name): Named<String>,
) -> Result<Json<Recording>, Problem> {
    let (_, _, found) = segments(&parts, &name).await?;
    match found.is_empty() {
        true => Err(nothing()),
        false => Ok(Json(Recording::of(&found))),
    }
}

/// Removes a segment from the disk and from the store.
#[utoipa::path(
    delete,
    path = "/v3/recordings/deletesegment",
    tag = "recordings",
    params(Which),
    responses(
        (status = 200, body = Done),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 409, description = "It is being written", body = Problem),
    )
)]
pub(super) async fn delete_segment(
    State(parts): State<Parts>,
    Query(which): Query<Which>,
) -> Result<Json<Done>, Problem> {
    let start = Moment::parse(&which.start)
        .ok_or_else(|| Problem::bad("start is not a time after RFC 3339"))?;
    let (recordings, name, _) = segments(&parts, &which.path).await?;
    recordings.delete(&name, start).await.map_err(|error| match error {
        ShelfError::NotFound => nothing(),
        ShelfError::Io(error) | ShelfError::Store(error) => broken(&error),
        error => Problem::conflict(error.to_string()),
    })?;
    Ok(done())
}

type Segments = (Recordings, StreamName, Vec<Found>);

async fn segments(parts: &Parts, name: &str) -> Result<Segments, Problem> {
    let recordings = parts.recordings.clone().ok_or_else(nothing)?;
    let name = StreamName::parse(name).map_err(|error| Problem::bad(error.to_string()))?;
    let found = recordings.of_stream(&name).await.map_err(|error| broken(&error))?;
    Ok((recordings, name, found))
}

impl Recording {
    fn of(segments: &[Found]) -> Self {
        let name = segments.first().map(|segment| segment.name.to_string()).unwrap_or_default();
        let segments = segments.iter().map(|found| Segment { start: found.start.to_string() });
        Self { name, segments: segments.collect() }
    }
}

fn nothing() -> Problem {
    Problem::not_found("there is no recording")
}

fn broken(error: &std::io::Error) -> Problem {
    Problem::internal(error.to_string())
}
