//! `/v3/rtspconns` and `/v3/rtspsconns`: connections of RTSP, with the session that each one has.
//!
//! Here a session never leaves its connection, so both have one id; what a client does, and ending
//! it, is with the sessions.

use axum::extract::{Path as Named, State};
use axum::response::Json;
use ingest::sessions::SessionStatus;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{List, PageOf, Problem, time};
use crate::status::Parts;

/// A connection of RTSP.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RtspConnection {
    /// Unique in this node.
    id: String,
    /// When it came.
    created: String,
    /// The peer.
    #[schema(example = "192.0.2.1:40000")]
    remote_addr: String,
    /// Its session.
    session: String,
    /// How RTSP is wrapped: always `none`.
    tunnel: &'static str,
    /// Bytes received, datagrams of its session included.
    inbound_bytes: u64,
    /// Bytes sent, likewise.
    outbound_bytes: u64,
    /// As `inboundBytes`, for old clients.
    #[schema(deprecated)]
    bytes_received: u64,
    /// As `outboundBytes`, for old clients.
    #[schema(deprecated)]
    bytes_sent: u64,
}

impl RtspConnection {
    fn of(status: SessionStatus) -> Self {
        Self {
            session: status.id.clone(),
            id: status.id,
            created: time(status.created),
            remote_addr: status.remote.to_string(),
            tunnel: "none",
            inbound_bytes: status.bytes_in,
            outbound_bytes: status.bytes_out,
            bytes_received: status.bytes_in,
            bytes_sent: status.bytes_out,
        }
    }
}

/// The connections without TLS, or those with it.
fn connections(parts: &Parts, tls: bool) -> Vec<RtspConnection> {
    let list = parts.rtsp.as_ref().map(|(lists, _)| lists[usize::from(tls)].list());
    list.unwrap_or_default().into_iter().map(RtspConnection::of).collect()
}

fn one(parts: &Parts, tls: bool, id: &str) -> Result<Json<RtspConnection>, Problem> {
    let found = connections(parts, tls).into_iter().find(|connection| connection.id == id);
    found.map(Json).ok_or_else(|| Problem::not_found("connection not found"))
}

/// All RTSP connections.
#[utoipa::path(
    get,
    path = "/v3/rtspconns/list",
    tag = "sessions",
    params(PageOf),
    responses((status = 200, body = List<RtspConnection>), (status = 400, body = Problem))
)]
async fn list_plain(
    State(parts): State<Parts>,
    page: PageOf,
) -> Result<Json<List<RtspConnection>>, Problem> {
    page.of(connections(&parts, false))
}

/// One of the RTSP connections.
#[utoipa::path(
    get,
    path = "/v3/rtspconns/get/{id}",
    tag = "sessions",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = RtspConnection), (status = 404, body = Problem))
)]
async fn get_plain(
    State(parts): State<Parts>,
    Named(id): Named<String>,
) -> Result<Json<RtspConnection>, Problem> {
    one(&parts, false, &id)
}

/// All RTSPS connections.
#[utoipa::path(
    get,
    path = "/v3/rtspsconns/list",
    tag = "sessions",
    params(PageOf),
    responses((status = 200, body = List<RtspConnection>), (status = 400, body = Problem))
)]
async fn list_tls(
    State(parts): State<Parts>,
    page: PageOf,
) -> Result<Json<List<RtspConnection>>, Problem> {
    page.of(connections(&parts, true))
}

/// One of the RTSPS connections.
#[utoipa::path(
    get,
    path = "/v3/rtspsconns/get/{id}",
    tag = "sessions",
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, body = RtspConnection), (status = 404, body = Problem))
)]
async fn get_tls(
    State(parts): State<Parts>,
    Named(id): Named<String>,
) -> Result<Json<RtspConnection>, Problem> {
    one(&parts, true, &id)
}

pub(super) fn routes() -> OpenApiRouter<Parts> {
    OpenApiRouter::new()
        .routes(routes!(list_plain))
        .routes(routes!(get_plain))
        .routes(routes!(list_tls))
        .routes(routes!(get_tls))
}
