//! `/v3/paths/forward`: where streams are sent on to, in MediaMTX's shapes.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::response::Json;
use ingest::remote;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::{List, PageOf, Problem, time};
use crate::pushes::{PushView, Pushes};
use crate::status::Parts;

/// A server that a stream is sent to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ForwardDest {
    /// Its id while it is there.
    id: String,
    /// Its place among those of its stream, from 1.
    pos: usize,
    /// When it was begun.
    created: String,
    /// `rtmp`, `rtsp`, `srt` or `webRTC`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// `idle`, `forwarding`, or `error` while it is tried again.
    state: &'static str,
    /// Why the last attempt failed; empty once one succeeds.
    last_error: String,
    /// Bytes sent.
    outbound_bytes: u64,
    /// `dest`, without secrets, for old clients.
    #[schema(deprecated)]
    conf: BTreeMap<&'static str, String>,
    /// The URL's scheme, for old clients.
    #[schema(deprecated)]
    protocol: String,
}

/// Whose destinations.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OfPath {
    /// The stream; without it those of all.
    #[serde(default)]
    path: String,
}

/// One destination.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The stream; without it one of any.
    #[serde(default)]
    path: String,
    /// The destination's id.
    id: String,
}

impl ForwardDest {
    fn of(push: PushView, pos: usize) -> Self {
        let protocol = push.target.split(':').next().unwrap_or_default().to_owned();
        let kind = match protocol.as_str() {
            "rtmp" | "rtmps" => "rtmp",
            "rtsp" | "rtsps" => "rtsp",
            "srt" => "srt",
            _ => "webRTC",
        };
        let running = push.state == remote::State::Running.as_str();
        let state = match &push.last_error {
            _ if running => "forwarding",
            Some(_) => "error",
            None => "idle",
        };
        Self {
            id: push.id,
            pos,
            created: time(UNIX_EPOCH + Duration::from_millis(push.created_ms)),
            kind,
            state,
            last_error: push.last_error.unwrap_or_default(),
            outbound_bytes: push.bytes,
            conf: BTreeMap::from([("dest", push.target)]),
            protocol,
        }
    }
}

/// The destinations of a stream, or of all.
fn destinations(parts: &Parts, path: &str) -> Vec<ForwardDest> {
    let path = path.trim_matches('/');
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut shown = Vec::new();
    for push in parts.pushes.as_ref().map(Pushes::list).unwrap_or_default() {
        let place = places.entry(push.stream.to_string()).or_default();
        *place += 1;
        if path.is_empty() || push.stream.as_str() == path {
            shown.push(ForwardDest::of(push, *place));
        }
    }
    shown
}

/// Where a stream is sent on to.
#[utoipa::path(
    get,
    path = "/v3/paths/forward/list",
    tag = "paths",
    params(OfPath, PageOf),
    responses((status = 200, body = List<ForwardDest>), (status = 400, body = Problem))
)]
pub(super) async fn list(
    State(parts): State<Parts>,
    Query(of): Query<OfPath>,
    page: PageOf,
) -> Result<Json<List<ForwardDest>>, Problem> {
    page.of(destinations(&parts, &of.path))
}

/// One of the destinations.
#[utoipa::path(
    get,
    path = "/v3/paths/forward/get",
    tag = "paths",
    params(Which),
    responses((status = 200, body = ForwardDest), (status = 404, body = Problem))
)]
pub(super) async fn get(
    State(parts): State<Parts>,
    Query(which): Query<Which>,
) -> Result<Json<ForwardDest>, Problem> {
    let mut all = destinations(&parts, &which.path).into_iter();
    let found = all.find(|destination| destination.id == which.id);
    found.map(Json).ok_or_else(|| Problem::not_found("forward destination not found"))
}
