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
    /// WebRTC: whether media may flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    peer_connection_established: Option<bool>,
    /// WebRTC: our address that carries media, or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    local_candidate: Option<String>,
    /// WebRTC: the peer's, or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    remote_candidate: Option<String>,
    /// WebRTC: the client's name for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_agent: Option<String>,
    /// WebRTC: RTP packets received.
    #[serde(rename = "inboundRTPPackets", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    inbound_rtp_packets: Option<u64>,
    /// WebRTC: RTP packets that never came.
    #[serde(rename = "inboundRTPPacketsLost", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    inbound_rtp_packets_lost: Option<u64>,
    /// WebRTC: RTP packets sent.
    #[serde(rename = "outboundRTPPackets", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    outbound_rtp_packets: Option<u64>,
    /// WebRTC: RTP packets that the peer reported as lost.
    #[serde(rename = "outboundRTPPacketsReportedLost", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    outbound_rtp_packets_reported_lost: Option<u64>,
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
            peer_connection_established: Some(status.state == webrtc::SessionState::Connected),
            local_candidate: Some(candidate(status.local).unwrap_or_default()),
            remote_candidate: Some(candidate(status.remote).unwrap_or_default()),
            user_agent: Some(status.user_agent.clone()),
            inbound_rtp_packets: Some(status.packets_received),
            inbound_rtp_packets_lost: Some(when(!reads)),
            outbound_rtp_packets: Some(status.packets_sent),
            outbound_rtp_packets_reported_lost: Some(when(reads)),
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
            peer_connection_established: None,
            local_candidate: None,
            remote_candidate: None,
            user_agent: None,
            inbound_rtp_packets: None,
            inbound_rtp_packets_lost: None,
            outbound_rtp_packets: None,
            outbound_rtp_packets_reported_lost: None,
        }
    }
}
