//! One session as `/v3` shows it, whatever it speaks.

use std::net::SocketAddr;
use std::time::SystemTime;

use ingest::sessions::{SessionState, SessionStatus};
use ingest::webrtc;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::time;

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

    /// Its id, the peer and the user name.
    pub(super) fn into_peer(self) -> (String, String, String) {
        (self.id, self.remote_addr, self.user)
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.outbound_bytes
    }

    /// One of a listener that keeps a list.
    pub(super) fn of(status: SessionStatus) -> Self {
        Self {
            path: status.stream.map(|name| name.base().to_owned()).unwrap_or_default(),
            state: status.state.as_str(),
            query: status.query,
            user: status.user,
            ..Self::new(status.id, status.created, status.remote, status.bytes_in, status.bytes_out)
        }
    }

    /// One of WebRTC.
    pub(super) fn of_webrtc(status: webrtc::SessionStatus) -> Self {
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
