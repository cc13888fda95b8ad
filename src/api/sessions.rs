//! `/v3/rtmpconns`, `/v3/webrtcsessions` and the like: who is there, one of them, ending one.

use std::net::SocketAddr;
use std::time::SystemTime;

use axum::extract::{Path as Named, Query, State};
use axum::response::Json;
use ingest::sessions::{SessionState, SessionStatus, Sessions};
use ingest::webrtc;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Done, List, PageOf, Problem, done, time};
use crate::status::Parts;

/// A kind of session, with a list of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rtmp,
    Rtmps,
    Srt,
    Rtsp,
    Rtsps,
    WebRtc,
    Hls,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Rtmp, Self::Rtmps, Self::Srt, Self::Rtsp, Self::Rtsps, Self::WebRtc, Self::Hls];

    /// MediaMTX's word for such a session.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmpConn",
            Self::Rtmps => "rtmpsConn",
            Self::Srt => "srtConn",
            Self::Rtsp => "rtspSession",
            Self::Rtsps => "rtspsSession",
            Self::WebRtc => "webRTCSession",
            Self::Hls => "hlsSession",
        }
    }

    /// What a client that asks for an unknown one is told.
    const fn unknown(self) -> &'static str {
        match self {
            Self::Rtmp | Self::Rtmps | Self::Srt => "connection not found",
            _ => "session not found",
        }
    }

    /// The list of the listener that keeps one, if it runs.
    fn list(self, parts: &Parts) -> Option<Sessions> {
        match self {
            Self::Rtmp => parts.rtmp.as_ref().map(|(sessions, _)| sessions.clone()),
            Self::Hls => parts.hls.as_ref().map(ingest::hls::Server::sessions),
            Self::Rtmps | Self::Srt | Self::Rtsp | Self::Rtsps | Self::WebRtc => None,
        }
    }
}

/// A session of whatever kind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    /// Unique in this node.
    id: String,
    /// When it came.
    created: String,
    /// The peer.
    #[schema(example = "192.0.2.1:40000")]
    remote_addr: String,
    /// What it does: `idle`, `read` or `publish`.
    state: &'static str,
    /// The stream, or empty.
    path: String,
    /// The query of its URL without credentials.
    query: String,
    /// The user name that it gave, or empty.
    user: String,
    /// Bytes received from it.
    inbound_bytes: u64,
    /// Bytes sent to it.
    outbound_bytes: u64,
    /// As `inboundBytes`, for old clients.
    #[schema(deprecated)]
    bytes_received: u64,
    /// As `outboundBytes`, for old clients.
    #[schema(deprecated)]
    bytes_sent: u64,
    /// Of WebRTC.
    #[serde(flatten)]
    webrtc: Option<WebRtc>,
}

/// What WebRTC sessions have besides.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SessionWebRtc)]
struct WebRtc {
    /// Whether media may flow.
    peer_connection_established: bool,
    /// Our address that carries media, or empty.
    local_candidate: String,
    /// The peer's, or empty.
    remote_candidate: String,
    /// The client's name for itself.
    user_agent: String,
    /// RTP packets received.
    #[serde(rename = "inboundRTPPackets")]
    inbound_rtp_packets: u64,
    /// RTP packets that never came.
    #[serde(rename = "inboundRTPPacketsLost")]
    inbound_rtp_packets_lost: u64,
    /// RTP packets sent.
    #[serde(rename = "outboundRTPPackets")]
    outbound_rtp_packets: u64,
    /// RTP packets that the peer reported as lost.
    #[serde(rename = "outboundRTPPacketsReportedLost")]
    outbound_rtp_packets_reported_lost: u64,
}

impl Session {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The stream that it watches.
    pub(super) fn reads(&self) -> Option<&str> {
        (self.state == SessionState::Read.as_str()).then_some(&self.path)
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.outbound_bytes
    }

    fn of(status: SessionStatus) -> Self {
        Self {
            path: status.stream.map(|name| name.base().to_owned()).unwrap_or_default(),
            state: status.state.as_str(),
            query: status.query,
            user: status.user,
            ..Self::new(
                status.id,
                status.created,
                status.remote,
                status.bytes_in,
                status.bytes_out,
            )
        }
    }

    fn of_webrtc(status: webrtc::SessionStatus) -> Self {
        let reads = status.role == webrtc::Role::Viewer;
        let candidate = |address: Option<SocketAddr>| {
            address.map(|address| {
                format!("host/{}/{}/{}", status.transport, address.ip(), address.port())
            })
        };
        let when = |yes: bool| if yes { status.packets_lost } else { 0 };
        Self {
            path: status.stream.base().to_owned(),
            state: if reads { SessionState::Read } else { SessionState::Publish }.as_str(),
            webrtc: Some(WebRtc {
                peer_connection_established: status.state == webrtc::SessionState::Connected,
                local_candidate: candidate(status.local).unwrap_or_default(),
                remote_candidate: candidate(status.remote).unwrap_or_default(),
                user_agent: status.user_agent.clone(),
                inbound_rtp_packets: status.packets_received,
                inbound_rtp_packets_lost: when(!reads),
                outbound_rtp_packets: status.packets_sent,
                outbound_rtp_packets_reported_lost: when(reads),
            }),
            ..Self::new(
                status.id,
                status.since,
                status.requested_from,
                status.bytes_received,
                status.bytes_sent,
            )
        }
    }

    fn new(id: String, at: SystemTime, remote: SocketAddr, inbound: u64, outbound: u64) -> Self {
        Self {
            id,
            created: time(at),
            remote_addr: remote.to_string(),
            state: SessionState::Idle.as_str(),
            path: String::new(),
            query: String::new(),
            user: String::new(),
            inbound_bytes: inbound,
            outbound_bytes: outbound,
            bytes_received: inbound,
            bytes_sent: outbound,
            webrtc: None,
        }
    }
}

/// All sessions of a kind.
pub(super) async fn of_kind(parts: &Parts, kind: Kind) -> Vec<Session> {
    match (kind, &parts.webrtc) {
        (Kind::WebRtc, Some(server)) => {
            server.sessions().await.into_iter().map(Session::of_webrtc).collect()
        }
        _ => match kind.list(parts) {
            Some(list) => list.list().into_iter().map(Session::of).collect(),
            None => Vec::new(),
        },
    }
}

async fn list(parts: &Parts, kind: Kind, page: PageOf) -> Result<Json<List<Session>>, Problem> {
    page.of(of_kind(parts, kind).await)
}

async fn get(parts: &Parts, kind: Kind, id: &str) -> Result<Json<Session>, Problem> {
    let found = of_kind(parts, kind).await.into_iter().find(|session| session.id == id);
    found.map(Json).ok_or_else(|| Problem::not_found(kind.unknown()))
}

async fn kick(parts: &Parts, kind: Kind, id: &str) -> Result<Json<Done>, Problem> {
    let kicked = match (kind, &parts.webrtc) {
        (Kind::WebRtc, Some(server)) => server.kick(id).await,
        _ => kind.list(parts).is_some_and(|list| list.kick(id)),
    };
    if kicked { Ok(done()) } else { Err(Problem::not_found(kind.unknown())) }
}

/// The three routes of a kind; a macro, since each route's words stand in the document.
macro_rules! kind_routes {
    ($module:ident, $kind:expr, $what:literal, $list:literal, $get:literal, $kick:literal) => {
        mod $module {
            use super::*;

            #[doc = concat!("All ", $what, ".")]
            #[utoipa::path(
                get,
                path = $list,
                tag = "sessions",
                params(PageOf),
                responses((status = 200, body = List<Session>), (status = 400, body = Problem))
            )]
            pub(super) async fn list(
                State(parts): State<Parts>,
                Query(page): Query<PageOf>,
            ) -> Result<Json<List<Session>>, Problem> {
                super::list(&parts, $kind, page).await
            }

            #[doc = concat!("One of the ", $what, ".")]
            #[utoipa::path(
                get,
                path = $get,
                tag = "sessions",
                params(("id" = String, Path, description = "Its id")),
                responses((status = 200, body = Session), (status = 404, body = Problem))
            )]
            pub(super) async fn get(
                State(parts): State<Parts>,
                Named(id): Named<String>,
            ) -> Result<Json<Session>, Problem> {
                super::get(&parts, $kind, &id).await
            }

            #[doc = concat!("Ends one of the ", $what, ".")]
            #[utoipa::path(
                post,
                path = $kick,
                tag = "sessions",
                params(("id" = String, Path, description = "Its id")),
                responses((status = 200, body = Done), (status = 404, body = Problem))
            )]
            pub(super) async fn kick(
                State(parts): State<Parts>,
                Named(id): Named<String>,
            ) -> Result<Json<Done>, Problem> {
                super::kick(&parts, $kind, &id).await
            }
        }
    };
}

kind_routes!(
    rtmp,
    Kind::Rtmp,
    "RTMP connections",
    "/v3/rtmpconns/list",
    "/v3/rtmpconns/get/{id}",
    "/v3/rtmpconns/kick/{id}"
);
kind_routes!(
    rtmps,
    Kind::Rtmps,
    "RTMPS connections",
    "/v3/rtmpsconns/list",
    "/v3/rtmpsconns/get/{id}",
    "/v3/rtmpsconns/kick/{id}"
);
kind_routes!(
    srt,
    Kind::Srt,
    "SRT connections",
    "/v3/srtconns/list",
    "/v3/srtconns/get/{id}",
    "/v3/srtconns/kick/{id}"
);
kind_routes!(
    rtsp,
    Kind::Rtsp,
    "RTSP sessions",
    "/v3/rtspsessions/list",
    "/v3/rtspsessions/get/{id}",
    "/v3/rtspsessions/kick/{id}"
);
kind_routes!(
    rtsps,
    Kind::Rtsps,
    "RTSPS sessions",
    "/v3/rtspssessions/list",
    "/v3/rtspssessions/get/{id}",
    "/v3/rtspssessions/kick/{id}"
);
kind_routes!(
    webrtc_sessions,
    Kind::WebRtc,
    "WebRTC sessions",
    "/v3/webrtcsessions/list",
    "/v3/webrtcsessions/get/{id}",
    "/v3/webrtcsessions/kick/{id}"
);
kind_routes!(
    hls,
    Kind::Hls,
    "HLS players",
    "/v3/hlssessions/list",
    "/v3/hlssessions/get/{id}",
    "/v3/hlssessions/kick/{id}"
);

/// What makes segments of a stream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HlsMuxer {
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
async fn muxers_list(
    State(parts): State<Parts>,
    Query(page): Query<PageOf>,
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
async fn muxers_get(
    State(parts): State<Parts>,
    Named(name): Named<String>,
) -> Result<Json<HlsMuxer>, Problem> {
    let found = muxers(&parts).into_iter().find(|muxer| muxer.path == name);
    found.map(Json).ok_or_else(|| Problem::not_found("muxer not found"))
}

pub(super) fn routes() -> OpenApiRouter<Parts> {
    OpenApiRouter::new()
        .routes(routes!(rtmp::list))
        .routes(routes!(rtmp::get))
        .routes(routes!(rtmp::kick))
        .routes(routes!(rtmps::list))
        .routes(routes!(rtmps::get))
        .routes(routes!(rtmps::kick))
        .routes(routes!(srt::list))
        .routes(routes!(srt::get))
        .routes(routes!(srt::kick))
        .routes(routes!(rtsp::list))
        .routes(routes!(rtsp::get))
        .routes(routes!(rtsp::kick))
        .routes(routes!(rtsps::list))
        .routes(routes!(rtsps::get))
        .routes(routes!(rtsps::kick))
        .routes(routes!(webrtc_sessions::list))
        .routes(routes!(webrtc_sessions::get))
        .routes(routes!(webrtc_sessions::kick))
        .routes(routes!(hls::list))
        .routes(routes!(hls::get))
        .routes(routes!(hls::kick))
        .routes(routes!(muxers_list))
        .routes(routes!(muxers_get))
}

/// Somebody who watches.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reader {
    /// `rtmpConn`, `webRTCSession`, `hlsSession`, ...
    #[serde(rename = "type")]
    kind: &'static str,
    /// The session's id.
    pub(crate) id: String,
    /// The peer.
    remote: String,
    /// The user name that it gave, or empty.
    user: String,
    /// What it watches.
    #[serde(skip)]
    pub(crate) stream: String,
}

/// All who watch at this moment.
pub(crate) async fn readers(parts: &Parts) -> Vec<Reader> {
    let mut readers = Vec::new();
    for kind in Kind::ALL {
        for session in of_kind(parts, kind).await {
            if let Some(stream) = session.reads().map(str::to_owned) {
                let Session { id, remote_addr: remote, user, .. } = session;
                readers.push(Reader { kind: kind.word(), id, remote, user, stream });
            }
        }
    }
    readers
}
