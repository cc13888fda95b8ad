//! `/v3/hlsmuxers`: what makes segments of streams.

use axum::extract::{Path as Named, State};
use axum::response::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{List, PageOf, Problem, time};
use crate::status::Parts;

/// What makes segments of a stream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HlsMuxer {
    /// The stream.
    path: String,
    /// `fmp4` or `ts`.
    format: &'static str,
    /// When it began.
    created: String,
    /// When it was last asked for something.
    last_request: String,
    /// Bytes sent.
    outbound_bytes: u64,
    /// As `outboundBytes`, for old clients.
    #[schema(deprecated)]
    bytes_sent: u64,
    /// Packets of the stream that it lost by being slow.
    outbound_frames_discarded: u64,
}

fn muxers(parts: &Parts) -> Vec<HlsMuxer> {
    let list = parts.hls.as_ref().map(ingest::hls::Server::muxers).unwrap_or_default();
    let muxer = |status: ingest::hls::MuxerStatus| HlsMuxer {
        path: status.name.base().to_owned(),
        format: status.format,
        created: time(status.created),
        last_request: time(status.last_request),
        outbound_bytes: status.bytes_out,
        bytes_sent: status.bytes_out,
        outbound_frames_discarded: status.lagged,
    };
    list.into_iter().map(muxer).collect()
}

/// All HLS muxers.
#[utoipa::path(
    get,
    path = "/v3/hlsmuxers/list",
    tag = "sessions",
    params(PageOf),
    responses((status = 200, body = List<HlsMuxer>), (status = 400, body = Problem))
)]
pub(super) async fn list(
    State(parts): State<Parts>,
    page: PageOf,
) -> Result<Json<List<HlsMuxer>>, Problem> {
    page.of(muxers(&parts))
}

/// The HLS muxer of a stream.
#[utoipa::path(
    get,
    path = "/v3/hlsmuxers/get/{*name}",
    tag = "sessions",
    params(("name" = String, Path, description = "The stream; may hold slashes")),
    responses((status = 200, body = HlsMuxer), (status = 404, body = Problem))
)]
pub(super) async fn get(
    State(parts): State<Parts>,
    Named(name): Named<String>,
) -> Result<Json<HlsMuxer>, Problem> {
    let found = muxers(&parts).into_iter().find(|muxer| muxer.path == name);
    found.map(Json).ok_or_else(|| Problem::not_found("muxer not found"))
}
