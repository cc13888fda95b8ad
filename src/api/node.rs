//! `/v1`: the node itself, and graphs of streams.

use axum::body::Bytes;
use axum::extract::{Path as Named, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use ingest::StreamName;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::gateway::{UpdateAnswer, UpdateError};
use crate::status::{Parts, Snapshot};

/// Why something was not done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Fault {
    /// For a person.
    error: String,
}

/// Everything that the node knows of itself: streams, sessions, sources, pushes, recordings, jobs,
/// money and times. Fields are added as the node learns more.
#[utoipa::path(
    get,
    path = "/v1/status",
    tag = "node",
    responses((status = 200, body = Object))
)]
pub(super) async fn status(State(parts): State<Parts>) -> Json<Snapshot> {
    Json(parts.snapshot().await)
}

/// The times of single frames since the last call, with `latency.trace`.
#[utoipa::path(
    get,
    path = "/v1/trace",
    tag = "node",
    responses((status = 200, body = Vec<Object>))
)]
pub(super) async fn trace(State(parts): State<Parts>) -> Json<Vec<crate::hops::Row>> {
    Json(parts.hops.take_trace())
}

/// The classes of nodes of graphs, in ComfyUI's form.
#[utoipa::path(
    get,
    path = "/object_info",
    tag = "graphs",
    responses((status = 200, body = Object))
)]
pub(super) async fn object_info(State(parts): State<Parts>) -> Json<Value> {
    Json(parts.registry.object_info())
}

/// The graph in force, in ComfyUI's API form.
#[utoipa::path(
    get,
    path = "/v1/streams/{name}/graph",
    tag = "graphs",
    params(("name" = String, Path, description = "The stream; may hold slashes")),
    responses((status = 200, body = Object), (status = 404, body = Fault))
)]
#[allow(dead_code, reason = "says what stream_get does: a path cannot go on after a wildcard")]
fn graph() {}

/// Gives a stream another graph.
#[utoipa::path(
    post,
    path = "/v1/streams/{name}/graph",
    tag = "graphs",
    params(("name" = String, Path, description = "The stream; may hold slashes")),
    request_body = Object,
    responses(
        (status = 200, description = "It is in force from the frame that is named", body = Object),
        (status = 202, description = "No answer came in time", body = Object),
        (status = 400, description = "ComfyUI's error document", body = Object),
        (status = 404, body = Fault),
    )
)]
#[allow(dead_code, reason = "says what stream_post does: a path cannot go on after a wildcard")]
fn set_graph() {}

/// Ends a stream's publisher.
#[utoipa::path(
    post,
    path = "/v1/streams/{name}/stop",
    tag = "graphs",
    params(("name" = String, Path, description = "The stream; may hold slashes")),
    responses((status = 204, description = "It was told to leave"), (status = 404, body = Fault))
)]
#[allow(dead_code, reason = "says what stream_post does: a path cannot go on after a wildcard")]
fn stop() {}

/// What is said of paths that go on after a stream's name.
#[derive(utoipa::OpenApi)]
#[openapi(paths(graph, set_graph, stop), components(schemas(Fault)))]
pub(super) struct OfStreams;

/// `GET /v1/streams/{name}/graph`.
pub(super) async fn stream_get(State(parts): State<Parts>, Named(path): Named<String>) -> Response {
    let Some((name, "graph")) = path.rsplit_once('/') else { return not_found() };
    let Ok(name) = StreamName::parse(name) else { return not_found() };
    let status = parts.gateway.as_ref().and_then(|gateway| gateway.status(&name));
    match status {
        Some(status) => Json(status.prompt).into_response(),
        None => not_found(),
    }
}

/// `POST /v1/streams/{name}/graph` and `POST /v1/streams/{name}/stop`.
pub(super) async fn stream_post(
    State(parts): State<Parts>,
    Named(path): Named<String>,
    body: Bytes,
) -> Response {
    let Some((name, verb)) = path.rsplit_once('/') else { return not_found() };
    let Ok(name) = StreamName::parse(name) else { return not_found() };
    match verb {
        "stop" if parts.hub.kick(&name) => StatusCode::NO_CONTENT.into_response(),
        "graph" => match serde_json::from_slice(&body) {
            Ok(prompt) => update(&parts, &name, prompt).await,
            Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        _ => not_found(),
    }
}

/// Changes a stream's graph: 200 with the first frame that it affects, 400 with ComfyUI's error
/// document, 202 when no answer came in time.
pub(crate) async fn update(parts: &Parts, name: &StreamName, prompt: Value) -> Response {
    let Some(gateway) = &parts.gateway else { return not_found() };
    match gateway.update(name, prompt).await {
        Ok((update_id, answer)) => {
            let status = match answer {
                UpdateAnswer::Applied { .. } => StatusCode::OK,
                UpdateAnswer::Refused { .. } => StatusCode::BAD_REQUEST,
                UpdateAnswer::Pending => StatusCode::ACCEPTED,
            };
            let mut body = json!(answer);
            body["update_id"] = update_id.into();
            (status, Json(body)).into_response()
        }
        Err(UpdateError::Prompt(error)) => {
            let answer = UpdateAnswer::Refused { error: error.to_json() };
            (StatusCode::BAD_REQUEST, Json(json!(answer))).into_response()
        }
        Err(error) => problem(StatusCode::NOT_FOUND, &error.to_string()),
    }
}

fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "there is nothing here")
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(Fault { error: text.to_owned() })).into_response()
}
