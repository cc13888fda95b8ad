//! `/v3/rtmpconns`, `/v3/webrtcsessions` and the like: who is there, one of them, ending one.

use axum::extract::{Path as Named, State};
use axum::response::Json;
use ingest::sessions::Sessions;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Done, List, PageOf, Problem, done};
use super::muxers;
use super::session::Session;
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
            Self::Rtmps => parts.rtmps.as_ref().map(|(sessions, _)| sessions.clone()),
            Self::Srt => parts.srt.as_ref().map(|(connections, _)| connections.sessions().clone()),
            Self::Rtsp => parts.rtsp.as_ref().map(|([plain, _], _)| plain.clone()),
            Self::Rtsps => parts.rtsp.as_ref().map(|([_, tls], _)| tls.clone()),
            Self::WebRtc => None,
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
    let found = of_kind(parts, kind).await.into_iter().find(|session| session.id() == id);
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
                page: PageOf,
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
        .routes(routes!(muxers::list))
        .routes(routes!(muxers::get))
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
                let (id, remote, user) = session.into_peer();
                readers.push(Reader { kind: kind.word(), id, remote, user, stream });
            }
        }
    }
    readers
}
